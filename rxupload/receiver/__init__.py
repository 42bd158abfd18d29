"""Runs a server that receives uploads, to try them on: in this process, or by the command `rxupload receive`.

It takes POST and PUT of multipart/form-data on any path, streams the files into one directory, and reports in JSON
what arrived. It also speaks tus and the draft of the IETF for uploads that go on after a break. It uses uvicorn,
Starlette and python-multipart, which the `receiver` extra installs.
"""

try:
    from .server import running, serve
except ImportError as error:
    raise ImportError('The receiver is an extra: pip install "rxupload[receiver]"') from error

__all__ = ["running", "serve"]
