"""`HandCrankedClient`, a client without a network that does what the test says."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import httpx

from rxupload._arguments import is_async
from rxupload._responses import status
from rxupload._transfer import EXTENSION, Transfer

from .server import checked_status

_LEFT = 60.0  # seconds after which a request fails that the test has left

T = TypeVar("T")
Answer: TypeAlias = int | Exception | Callable[[httpx.Request], httpx.Response]


class Exchange:
    """One request that an upload has sent through a `HandCrankedClient`: the test takes its body, and answers it.

    Only one thread of the test may use it. Its methods run the step on the upload's thread, and wait for it; after 10 s
    they raise AssertionError. If the upload ends meanwhile, they raise the error that ended it.

    Attributes:
        request: The request, with its method, url and headers.
    """

    def __init__(self, request: httpx.Request) -> None:
        self.request = request
        self._steps: queue.SimpleQueue[Callable[[], httpx.Response | None]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._body: Iterator[bytes] | None = None
        self._ended = threading.Event()
        self._outcome: BaseException | httpx.Response | None = None

    # The test's side

    def take(self) -> bytes | None:
        """Take the next piece of the body, of at most 1 MiB; None at its end. This one counts as sent with the next."""
        return self._do(self._next_piece)

    def take_all(self) -> bytes:
        """Take the rest of the body."""
        return b"".join(iter(self.take, None))

    def begin_again(self) -> None:
        """Begin another pass over the body with the next `take`, as a redirect or an auth challenge does."""
        self._body = None

    def respond(self, status: int = 200, **kwargs: Any) -> None:
        """Answer with a response, and return at once.

        Args:
            status: The status code.
            **kwargs: As those of `httpx.Response`: `headers`, `content`, `text`, `json` and others.
        """
        response = httpx.Response(status, request=self.request, **kwargs)
        self._steps.put(lambda: response)

    def fail(self, error: BaseException) -> None:
        """Raise an error in the upload, such as `httpx.ReadError("reset")`, and return at once."""

        def step() -> None:
            raise error

        self._steps.put(step)

    def end(self, timeout: float = 10.0) -> BaseException | httpx.Response:
        """Wait until the request has ended.

        Args:
            timeout: The most seconds to wait.

        Returns:
            The response, or the error that ended it.

        Raises:
            AssertionError: It has not ended in time.
        """
        if not self._ended.wait(timeout):
            raise AssertionError(f"{self.request!r} has not ended within {timeout:g} s")
        assert self._outcome is not None
        return self._outcome

    def _do(self, action: Callable[[], T], timeout: float = 10.0) -> T:
        if not self._ended.is_set():
            self._steps.put(lambda: self._done.put(action()))
            try:
                outcome: T = self._done.get(timeout=timeout)
            except queue.Empty:
                message = f"{self.request!r} has not done this step within {timeout:g} s"
                raise AssertionError(message) from None
            if outcome is not self._ended:
                return outcome
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        raise AssertionError(f"{self.request!r} has its response already")

    # The worker's side

    def _next_piece(self) -> bytes | None:
        if self._body is None:
            stream = self.request.stream
            assert isinstance(stream, httpx.SyncByteStream)
            self._body = iter(stream)
        return next(self._body, None)

    def perform(self) -> httpx.Response:
        """Do the test's steps until one ends the request. The upload's thread calls this.

        Raises:
            BaseException: What a step raised, or what ended the upload.
            AssertionError: No step came for 60 s.
        """
        transfer: Transfer = self.request.extensions[EXTENSION]

        def check() -> None:
            transfer.check()

        def wake() -> None:
            self._steps.put(check)

        try:
            while True:
                transfer.attach(wake)
                try:
                    step = self._steps.get(timeout=_LEFT)
                except queue.Empty:
                    raise AssertionError(
                        f"{self.request!r} was left for {_LEFT:g} s. A scheduler that works in place, such as "
                        "virtual time, blocks the test meanwhile: give the answers to HandCrankedClient(...)"
                    ) from None
                response = step()
                if response is not None:
                    self._end(response)
                    return response
        except BaseException as error:
            self._end(error)
            raise

    def _end(self, outcome: BaseException | httpx.Response) -> None:
        self._outcome = outcome
        self._ended.set()
        self._done.put(self._ended)  # for a step of the test that will not be done


class HandCrankedClient:
    """A client without a network, for `upload(client=...)`: it does what the test says, so no test depends on luck.

    With answers, it gives them in place, the first to the first request. That is for virtual time, and for all other
    schedulers that work on the test's own thread. A status takes the whole body. An exception is raised instead of
    it. A function gets the request, and may take some of `request.stream`. Here half a minute passes in no time::

        import httpx
        from reactivex.testing import TestScheduler
        from rxupload import upload
        from rxupload.operators import retry_backoff
        from rxupload.testing import HandCrankedClient, RecordingObserver

        client = HandCrankedClient(httpx.ConnectError("refused"), 503, 200)
        scheduler, observer = TestScheduler(), RecordingObserver()
        source = upload("http://example.org/", b"data", client=client)
        source = source.pipe(retry_backoff(wait_initial=10, wait_jitter=0))
        source.subscribe(observer, scheduler=scheduler)
        scheduler.advance_to(29)
        assert len(client.requests) == 2
        scheduler.advance_to(31)
        assert observer.response.status_code == 200
        assert not observer.faults

    Without answers, the test takes each step when it likes, while the upload runs on a thread of its own::

        client, observer = HandCrankedClient(), RecordingObserver()
        upload("http://example.org/", bytes(5_000_000), client=client, progress_interval=0).subscribe(observer)
        exchange = client.next_request()
        sent = len(exchange.take())
        exchange.take()
        assert sent in [item.sent for item in observer.progress]
        exchange.fail(httpx.ReadError("reset"))
        assert str(observer.wait().error) == "reset"

    A request ends by itself when its upload is disposed or its time limit passes, and after 60 s without a step.

    Args:
        *answers: For each request in turn: a status from 200 to 599, an exception, or a function that gets the
            `httpx.Request` and returns the `httpx.Response`; its `request` need not be set. One request more fails with
            AssertionError.

    Attributes:
        requests: All requests so far, in order.

    Raises:
        TypeError: An answer is none of these.
        ValueError: A status is not from 200 to 599.
    """

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = [_checked(each) for each in answers]
        self._exchanges: queue.SimpleQueue[Exchange] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def next_request(self, timeout: float = 10.0) -> Exchange:
        """Wait for the next request that an upload sends. Any thread but the upload's may call this.

        Args:
            timeout: The most seconds to wait.

        Raises:
            AssertionError: None has come in time, or the client has its answers already.
        """
        if self._answers:
            raise AssertionError(
                "HandCrankedClient(...) has its answers: make one without, to take each step"
            )
        try:
            return self._exchanges.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"No upload has sent a request within {timeout:g} s") from None

    def no_request(self) -> bool:
        """Whether the test has taken every request that was sent so far."""
        return self._exchanges.empty()

    # What an upload asks of a client; see `rxupload.HTTPClient`

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None
    ) -> httpx.Request:
        """Return a request with nothing added. The upload's thread calls this."""
        return httpx.Request(method, url, content=content, headers=headers)

    def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,  # noqa: ARG002
        follow_redirects: Any = None,  # noqa: ARG002
    ) -> httpx.Response:
        """Have the test answer the request. The upload's thread calls this."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        if not self._answers:
            exchange = Exchange(request)
            self._exchanges.put(exchange)
            return exchange.perform()
        if number > len(self._answers):
            raise AssertionError(
                f"Request {number} came, and HandCrankedClient has {len(self._answers)} answers"
            )
        return _answered(request, self._answers[number - 1])


def _checked(answer: Answer) -> Answer:
    if isinstance(answer, int) and not isinstance(answer, bool):
        return checked_status("answers", answer)
    if isinstance(answer, type):
        raise TypeError(f"answers: got the class {answer.__name__}: give an instance, or a function")
    if is_async(answer):
        raise TypeError("answers: an asynchronous function cannot be used; pass an ordinary one")
    if not callable(answer) and not isinstance(answer, Exception):
        raise TypeError(
            f"answers: expected a status, an exception or a function, got {type(answer).__name__}"
        )
    return answer


def _answered(request: httpx.Request, answer: Answer) -> httpx.Response:
    if isinstance(answer, Exception):
        if isinstance(answer, httpx.RequestError):
            answer.request = request
        raise answer
    if callable(answer):
        response = answer(request)
        if not status(response):
            raise TypeError(
                f"answers: the function returned {type(response).__name__}; expected an httpx.Response"
            )
        response.request = request  # as httpx does, which does not ask the function for it
        return response
    assert isinstance(request.stream, httpx.SyncByteStream)
    for _ in request.stream:
        pass
    return httpx.Response(answer, request=request)
