"""Tests code that uploads: over real sockets, in virtual time, and with a look at every notification.

- `ScriptedServer` is a server on loopback that does what your script says: answers 503, resets, reads slowly or not.
- `HandCrankedClient` is a client without a network that answers when the test says so, also in virtual time.
- `RecordingObserver` records what an observer gets, and finds notifications that overlap or come after the end.

They need no test framework. What goes wrong in a test is an AssertionError, and no wait is without an end.
"""

from .client import Exchange, HandCrankedClient
from .connection import Connection, Head
from .observer import RecordingObserver
from .server import ScriptedServer

__all__ = ["Connection", "Exchange", "HandCrankedClient", "Head", "RecordingObserver", "ScriptedServer"]
