"""`verify_digest` compares what a server says it has with the digests of what was sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
from reactivex import Observable, abc

from rxupload._arguments import needs_call, wrong_type
from rxupload._derived import Derived
from rxupload._digests import digest_of, field_name, is_written_as, new_hash
from rxupload._errors import DigestMismatch
from rxupload._responses import status

T = TypeVar("T")

_LONGEST = 150  # characters of a server's digest to quote


@needs_call
def verify_digest(
    function: Callable[[Any], str | Sequence[str]] | None = None,
) -> Callable[[Observable[T]], Observable[T]]:
    """Compare the server's digests of the files with those of `upload(..., digest=...)`. Pass the response if equal.

    ::

        ---P0---P1---201-|            ---P0---P1---201-|
          verify_digest()               verify_digest()
        ---P0---P1---201-|            ---P0---P1---X       DigestMismatch

        up = upload(url, "beach.jpg", digest="sha256")
        up.pipe(verify_digest(lambda response: response.json()["files"][0]["sha256"]), retry_backoff())

    Put it before `retry_backoff`, which tries again after a `DigestMismatch`. A digest may be written in hex, or in
    base64, also between colons (RFC 9651, section 3.3.5).

    Without a function, the digest is that of the response's `Repr-Digest`, or else of its `Content-Digest`, for the
    algorithm of the upload. It is compared with the one file. Servers send it if they are asked to, as with
    `headers={"Want-Repr-Digest": "sha-256=1"}` (RFC 9530, section 4). Such a field is about the stored file if the
    response has no content, or by agreement. If the response is a report, RFC 9530, section 3.1, makes `Repr-Digest`
    that of the report itself. So a field that is the digest of the response's own content does not count.

    A response of another status than 2xx passes: the server has not taken the file. What cannot be compared is an
    error, and never passes for a success.

    Args:
        function: Returns the server's digest from the response; for several files, a list of them in the order of the
            files. What it raises is the error of the stream. None: a field of the response, see above.

    Raises:
        TypeError: `function` is not a function.

    The errors of the stream are:

    - `DigestMismatch`: a digest differs, there is another number of them than of files, or the server answered before
      the whole body was sent.
    - `ValueError`: the upload had no `digest=`, or there is no function and the response has no digest to compare, or
      the upload had several files.
    - `TypeError`: the function returned something other than a str, or a list of them.
    """
    if function is not None and not callable(function):
        raise wrong_type("function", "a function of the response, or None", function)

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(item: T) -> None:
                if httpx.codes.is_success(status(item)):
                    try:
                        _verify(item, function)
                    except Exception as error:  # noqa: BLE001 - the caller's function may raise anything
                        observer.on_error(error)
                        return
                observer.on_next(item)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Derived("verify_digest", source, subscribe)

    return operator


def _verify(response: Any, function: Callable[[Any], str | Sequence[str]] | None) -> None:
    computed = getattr(response, "extensions", {}).get("rxupload", {})
    if "digests" not in computed:
        raise ValueError(
            'verify_digest: the upload has no digest to compare; use upload(..., digest="sha256")'
        )
    algorithm, expected = computed["algorithm"], computed["digests"]
    received = _checked(function(response)) if function else [_of_a_field(response, algorithm, expected)]
    if fault := _fault(algorithm, expected, received):
        raise DigestMismatch(fault, algorithm, expected, received)


def _of_a_field(response: Any, algorithm: str, expected: Sequence[str | None]) -> str:
    if len(expected) > 1:
        raise ValueError(
            "verify_digest: a field of the response has one digest, and the upload had several files; give a function "
            "that returns a list"
        )
    own = new_hash(algorithm)
    own.update(response.content)
    is_of_itself = False
    for name in ("Repr-Digest", "Content-Digest"):
        digest = digest_of(response.headers.get(name, ""), algorithm)
        if digest is None:
            continue
        may_be_of_itself = (
            name == "Content-Digest" or response.content
        )  # without content, the file is represented
        if digest.hex() == expected[0] or not (may_be_of_itself and digest == own.digest()):
            return digest.hex()
        is_of_itself = True
    if is_of_itself:
        raise ValueError(
            "verify_digest: the digest of the response is that of its own content, not of the file; give a function"
        )
    key = field_name(algorithm)
    raise ValueError(
        f"verify_digest: the response has no Repr-Digest or Content-Digest with {key}, so nothing was verified; give "
        f'a function, or ask the server with headers={{"Want-Repr-Digest": "{key}=1"}}'
    )


def _checked(returned: object) -> list[str]:
    received = [returned] if isinstance(returned, str) else returned
    if not isinstance(received, list | tuple):
        raise wrong_type("function: the returned digest", "a str, or a list of them", returned)
    for each in received:
        if not isinstance(each, str):
            raise wrong_type("function: a returned digest", "a str", each)
    return list(received)


def _fault(algorithm: str, expected: Sequence[str | None], received: Sequence[str]) -> str:
    """Say what differs; return "" if nothing does."""
    if len(expected) != len(received):
        return f"The number of files sent is {len(expected)}, and the server has digests of {len(received)}"
    differing = []
    for index, (ours, theirs) in enumerate(zip(expected, received, strict=True)):
        if ours is None:
            return "The server answered before the whole body was sent, so it may not have the files"
        if not is_written_as(theirs, bytes.fromhex(ours)):
            which = f"file {index}" if len(expected) > 1 else "the file"
            differing.append(f"{which} was sent with {ours}, and the server has {theirs[:_LONGEST]!r}")
    return f"The {algorithm} differs: {'; '.join(differing)}" if differing else ""
