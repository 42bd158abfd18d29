"""The base of all protocols: how one creates an upload, asks for its offset, sends a part, and what a response means.

A protocol does no input or output. Its methods turn what is known into a request, and a response into a verdict. So it
can be tested without a socket. `work` sends the requests and acts on the verdicts.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .store import Entry

Metadata = Mapping[str, Any]

SLICE = 256 * 1024  # bytes: a file of so many may go with the request that creates its upload


@dataclass(frozen=True, slots=True, repr=False)
class About:
    """What is uploaded, as far as a protocol has to know.

    Attributes:
        size: Bytes of the file; None if unknown.
        chunk_size: The most bytes of a request; None for no limit.
        metadata: The caller's own.
        filename: The file's name for the server; None if it has none.
        content_type: The file's media type; None if unknown.
        features: What the server has announced, in the protocol's own words.
        extra: What to remember of the upload beside its address, if the file goes in a form.
    """

    size: int | None
    chunk_size: int | None
    metadata: Metadata
    filename: str | None
    content_type: str | None
    features: frozenset[str] = frozenset()
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_small(self) -> bool:
        """Whether the file is not empty, and one slice alone."""
        return self.size is not None and 0 < self.size <= min(SLICE, self.chunk_size or SLICE)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the file, sent with one request.

    Attributes:
        offset: Its first byte.
        size: Its bytes.
        is_last: Whether the file ends with it.
        digest: Its digest, if the protocol wants one.
    """

    offset: int
    size: int
    is_last: bool
    digest: bytes = b""

    @property
    def end(self) -> int:
        """The offset of the byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A request that a protocol makes. Its address is the endpoint or the upload's own.

    Attributes:
        method: The request method.
        headers: The protocol's headers. They replace the caller's of the same names.
        content_type: The media type of the body, if there is one.
        content: A body that is no part of the file.
    """

    method: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    content: bytes | None = None


class Next(enum.Enum):
    """What to do after a response."""

    GO_ON = enum.auto()  # send from the verdict's offset on
    DONE = enum.auto()  # the server has the whole file, and the response is the upload's
    ASK = enum.auto()  # ask for the offset
    REPEAT = enum.auto()  # send the same part again: it was damaged on its way
    SHRINK = enum.auto()  # send less at a time
    FORGOTTEN = enum.auto()  # begin anew: the server does not know the upload
    FORBIDDEN = enum.auto()  # begin anew, but remember the upload until there is another
    OTHER = enum.auto()  # begin anew, and discard this upload: it is one of another file
    OVERRIDE = enum.auto()  # send the part with another method: the server does not know this one
    FAIL = enum.auto()  # the response is the end
    OVER = enum.auto()  # the response is the end, and nothing can be added to the upload
    TOO_LONG = enum.auto()  # discard the upload: the server takes no more than the verdict's offset


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a response means.

    Attributes:
        next: What to do.
        offset: Bytes that the server has; None if it does not say.
        expires: When it forgets the upload, in seconds since the epoch; None if it does not say.
        most: The most bytes that it takes in one request; None if it does not say.
        extra: What to remember of the upload beside its address.
        is_named: Whether the response's Location is the upload's address.
        size: Bytes of the whole upload that the server knows of; None if it does not say.
    """

    next: Next
    offset: int | None = None
    expires: float | None = None
    most: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    is_named: bool = True
    size: int | None = None


class ResumableProtocol(ABC):
    """How an upload is created, asked about, continued and discarded.

    Attributes:
        name: A word for the protocol, a part of the state's key.
        granularity: Each part but the last is a multiple of so many bytes.
        own_statuses: Statuses of the upload that mean something else here than a redirect, whatever headers they have.
    """

    name: ClassVar[str]
    granularity: ClassVar[int] = 1
    own_statuses: ClassVar[frozenset[int]] = frozenset()

    @classmethod
    def understands(cls, entry: Entry) -> bool:
        """Whether a remembered upload has only what this protocol remembers. A state file may be of any program."""
        return not entry.extra and (entry.chunk_size or 0) % cls.granularity == 0

    @property
    def field(self) -> str | None:
        """The form's field that the file goes in, with the metadata as the other fields; None: it goes as it is."""
        return None

    def metadata(self, given: Metadata) -> Metadata:
        """Return a copy of the caller's metadata, with values that the protocol can send.

        Raises:
            TypeError: A value has the wrong type.
        """
        for value in given.values():
            if not isinstance(value, str | bytes):
                raise TypeError(f"metadata: expected str or bytes as values, got {type(value).__name__}")
        return dict(given)

    def check(self, about: About) -> None:  # noqa: B027 - the default
        """Check the arguments at the call. The size in `about` may not be known yet.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument is invalid.
        """

    def question(self, about: About, *, is_new: bool) -> Request | None:  # noqa: ARG002 - for those that have one
        """Return the request to the endpoint that shows what the server can do; None if there is no need to know.

        Args:
            about: The file.
            is_new: Whether an upload is to be created.
        """
        return None

    def features(self, response: Any) -> frozenset[str] | None:  # noqa: ARG002
        """Return what the answer to `question` announces; None if it says nothing of that, as a refusal does."""
        return frozenset()

    def creates_with(self, about: About) -> bool:  # noqa: ARG002
        """Whether a file of one slice goes with the request that creates the upload."""
        return False

    def algorithm(self, about: About) -> str | None:  # noqa: ARG002
        """Return the hash algorithm of the parts' digests; None for none."""
        return None

    def shortest(self, entry: Entry | None) -> int:  # noqa: ARG002
        """Return the bytes of a part that is as short as makes sense, and that the server takes."""
        return SLICE

    @abstractmethod
    def create(self, about: About, part: Part | None) -> Request:
        """Return the request to the endpoint that creates an upload, with the bytes of `part` as its body, if any."""

    @abstractmethod
    def created(self, response: Any, about: About, part: Part | None) -> Verdict:
        """Judge its response. GO_ON and DONE mean that there is an upload. Its address is the response's Location.

        Raises:
            httpx.RemoteProtocolError: The response is not one of this protocol.
        """

    @abstractmethod
    def ask(self, about: About, entry: Entry) -> Request:
        """Return the request to the upload that asks for its offset."""

    @abstractmethod
    def asked(self, response: Any, about: About, entry: Entry) -> Verdict:
        """Judge its response. DONE means that the server has the whole file.

        Raises:
            httpx.RemoteProtocolError: The response is not one of this protocol.
        """

    @abstractmethod
    def send(self, about: About, entry: Entry, part: Part) -> Request:
        """Return the request to the upload that has the bytes of a part as its body."""

    @abstractmethod
    def sent(self, response: Any, about: About, entry: Entry, part: Part) -> Verdict:
        """Judge its response."""

    @property
    def connections(self) -> int:
        """How many connections may send one file at the same time. If more than 1, there are the next three methods."""
        return 1

    def joins(self, about: About) -> bool:  # noqa: ARG002
        """Whether the server can join uploads."""
        return False

    def of_a_part(self) -> ResumableProtocol:
        """Return the protocol for an upload that will be joined with others."""
        raise NotImplementedError

    def join(self, about: About, urls: Sequence[str]) -> Request:
        """Return the request to the endpoint that joins uploads. Its response is judged as that of a creation."""
        raise NotImplementedError

    def informed(self, response: Any) -> Verdict | None:  # noqa: ARG002
        """Judge an informational response (1xx), which comes while an upload is created or a part is sent.

        Its Location, in answer to a creation, is the upload's address. The offset is what has arrived. None: it says
        nothing.
        """
        return None

    def override(self, request: Request) -> Request | None:  # noqa: ARG002
        """Return the same request with a method that every server knows; None if there is none."""
        return None

    @abstractmethod
    def discard(self, entry: Entry) -> Request:
        """Return the request to the upload that ends it."""
