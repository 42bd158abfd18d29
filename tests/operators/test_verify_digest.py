"""`verify_digest` compares what the server says with what was sent."""

from __future__ import annotations

import base64
import hashlib
import pickle
from typing import Any

import httpx
import pytest
import reactivex
from reactivex import Observable
from support.operator_sources import P0
from support.recording_observer import observe

import rxupload
from rxupload import DigestMismatch
from rxupload.operators import retry_backoff, verify_digest

DATA = b"hello"
HEX = hashlib.sha256(DATA).hexdigest()
BASE64 = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
OTHER = hashlib.sha256(b"another").hexdigest()
OTHER_BASE64 = base64.b64encode(bytes.fromhex(OTHER)).decode()


def response(
    status: int = 200,
    digests: list[str | None] | None = None,
    algorithm: str = "sha256",
    content: bytes = b"",
    **fields: str,
) -> httpx.Response:
    """A response as an upload with `digest=` gives it. The keywords are header fields."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    made = httpx.Response(status, headers=headers, content=content)
    made.extensions["rxupload"] = {
        "algorithm": algorithm,
        "digests": [HEX] if digests is None else digests,
    }
    return made


def verified(answer: Any, function: Any = None) -> Any:
    return rxupload.run(reactivex.of(P0, answer).pipe(verify_digest(function)))


@pytest.mark.parametrize("said", [HEX, HEX.upper(), BASE64, f":{BASE64}:", [HEX], (BASE64,)], ids=str)
def test_the_function_gives_the_digest(said):
    """A digest of the function may be written in hex, base64, or as a byte sequence."""
    answer = response()
    observed, _ = observe(reactivex.of(P0, answer).pipe(verify_digest(lambda _: said)))
    assert observed.wait().items == [P0, answer]
    assert observed.is_completed


def test_the_function_gets_the_response():
    """The function gets the response."""
    answer = response(content=b'{"sha256": "' + HEX.encode() + b'"}')
    assert verified(answer, lambda response: response.json()["sha256"]) is answer


def test_a_mismatch_says_both_digests():
    """The error has what was sent and what the server said, and its text has both."""
    with pytest.raises(DigestMismatch) as caught:
        verified(response(), lambda _: OTHER)
    assert caught.value.algorithm == "sha256"
    assert caught.value.expected == [HEX]
    assert caught.value.received == [OTHER]
    assert str(caught.value) == (
        f"The sha256 differs: the file was sent with {HEX}, and the server has '{OTHER}'"
    )
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.expected, copy.received) == (str(caught.value), [HEX], [OTHER])


@pytest.mark.parametrize("said", ["", "no digest", HEX[:32], "x" * 10_000], ids=len)
def test_what_is_no_digest_is_a_mismatch(said):
    """A text that is no digest at all is a mismatch, and a long one is not quoted whole."""
    with pytest.raises(DigestMismatch) as caught:
        verified(response(), lambda _: said)
    assert len(str(caught.value)) < 400


def test_several_files():
    """Each file is compared with its digest, in their order, and the error names those that differ."""
    several = response(digests=[HEX, OTHER, HEX])
    assert verified(several, lambda _: [HEX, OTHER, BASE64]) is several
    with pytest.raises(
        DigestMismatch, match=f"differs: file 1 was sent with {OTHER}, and the server has '{HEX}'$"
    ):
        verified(several, lambda _: [HEX, HEX, HEX])
    with pytest.raises(DigestMismatch, match="number of files sent is 3, and the server has digests of 2"):
        verified(several, lambda _: [HEX, OTHER])
    with pytest.raises(DigestMismatch, match="number of files sent is 3, and the server has digests of 1"):
        verified(several, lambda _: HEX)
    with pytest.raises(ValueError, match="give a function that returns a list"):
        verified(response(digests=[HEX, HEX], Repr_Digest=f"sha-256=:{BASE64}:"))


@pytest.mark.parametrize("field", ["Repr_Digest", "Content_Digest"])
def test_a_field_of_the_response(field):
    """Without a function, a field of RFC 9530 is compared, whatever other algorithms it has."""
    told = f"md5=:AAAA:, sha-256=:{BASE64}:;a=1, sha-512=:AAAA:"
    answer = response(201, content=b"a report", **{field: told})
    assert verified(answer) is answer
    with pytest.raises(DigestMismatch) as caught:
        verified(response(201, content=b"a report", **{field: f"sha-256=:{OTHER_BASE64}:"}))
    assert caught.value.received == [OTHER]


def test_the_algorithm_of_the_upload_is_chosen():
    """The digest of the algorithm that was computed is compared."""
    sha512 = hashlib.sha512(DATA)
    told = f"sha-256=:{OTHER_BASE64}:, sha-512=:{base64.b64encode(sha512.digest()).decode()}:"
    answer = response(digests=[sha512.hexdigest()], algorithm="sha512", Repr_Digest=told)
    assert verified(answer) is answer


def test_repr_digest_comes_first():
    """Content-Digest is about the message, so Repr-Digest is compared if both are there."""
    answer = response(Repr_Digest=f"sha-256=:{BASE64}:", Content_Digest=f"sha-256=:{OTHER_BASE64}:")
    assert verified(answer) is answer
    answer = response(Repr_Digest="sha-512=:AAAA:", Content_Digest=f"sha-256=:{BASE64}:")
    assert verified(answer) is answer


def test_the_digest_of_the_report_itself_verifies_nothing():
    """By RFC 9530, a field may be about the response's own content. That says nothing about the file."""
    report = b'{"id": 7}'
    own = f"sha-256=:{base64.b64encode(hashlib.sha256(report).digest()).decode()}:"
    for fields in (
        {"Content_Digest": own},
        {"Repr_Digest": own},
        {"Content_Digest": own, "Repr_Digest": own},
    ):
        with pytest.raises(ValueError, match="of its own content, not of the file; give a function"):
            verified(response(content=report, **fields))
    answer = response(content=report, Content_Digest=own, Repr_Digest=f"sha-256=:{BASE64}:")
    assert verified(answer) is answer
    echo = response(content=DATA, Content_Digest=f"sha-256=:{BASE64}:")  # the server returns the file
    assert verified(echo) is echo


def test_a_response_without_content_is_about_the_file():
    """Repr-Digest of a 204 is of what is stored (RFC 9110, section 15.3.5); an empty store is a mismatch."""
    empty = base64.b64encode(hashlib.sha256().digest()).decode()
    with pytest.raises(DigestMismatch):
        verified(response(204, Repr_Digest=f"sha-256=:{empty}:"))
    with pytest.raises(ValueError, match="of its own content"):
        verified(response(204, Content_Digest=f"sha-256=:{empty}:"))


@pytest.mark.parametrize(
    "fields",
    [{}, {"Repr_Digest": "sha-512=:AAAA:"}, {"Repr_Digest": f"sha-256={HEX}"}, {"Digest": "sha-256=x"}],
)
def test_nothing_to_compare_is_an_error(fields):
    """Where nothing was verified, the response is no success, and the error says what to do."""
    with pytest.raises(
        ValueError, match=r'no Repr-Digest or Content-Digest with sha-256.*"Want-Repr-Digest"'
    ):
        verified(response(**fields))


def test_an_upload_without_a_digest_is_an_error():
    """Without `digest=` there is nothing to compare."""
    with pytest.raises(ValueError, match=r'upload\(\.\.\., digest="sha256"\)'):
        verified(httpx.Response(200), lambda _: HEX)


def test_a_body_that_was_not_sent_whole_is_a_mismatch():
    """A success before the end of the body is no success of the file."""
    with pytest.raises(DigestMismatch, match="answered before the whole body was sent") as caught:
        verified(response(digests=[None]), lambda _: HEX)
    assert (caught.value.expected, caught.value.received) == ([None], [HEX])


@pytest.mark.parametrize("status", [302, 404, 413, 500])
def test_other_statuses_pass(status):
    """A response that is not 2xx is left to `raise_for_status` and `retry_backoff`."""
    answer = response(status, digests=[None])
    assert verified(answer, lambda _: OTHER) is answer


@pytest.mark.parametrize("said", [None, 7, b"bytes", {"sha256": HEX}, [None], [HEX.encode()]], ids=str)
def test_a_function_that_returns_something_else(said):
    """A result that is no str is a TypeError in the stream."""
    with pytest.raises(TypeError, match=r"function: .* a str"):
        verified(response(), lambda _: said)


def test_what_the_function_raises_is_the_error():
    """The error of the function is the error of the stream."""
    with pytest.raises(KeyError):
        verified(response(content=b"{}"), lambda response: response.json()["sha256"])


def test_a_wrong_function():
    """Anything but a function is an error at the call."""
    with pytest.raises(TypeError, match="function: expected a function of the response, or None, got str"):
        verify_digest("sha256")  # type: ignore[arg-type]


def test_what_an_observer_raises_is_not_caught():
    """An observer's own error goes to the source, and not to `on_error` as if the function had raised it."""
    errors: list[Exception] = []

    def raises(_: object) -> None:
        raise OSError("the observer")

    def emit(observer: Any, _: Any) -> Any:
        with pytest.raises(OSError, match="the observer"):
            observer.on_next(response())

    Observable(emit).pipe(verify_digest(lambda _: HEX)).subscribe(raises, errors.append)
    assert errors == []


def test_retry_backoff_tries_again():
    """`retry_backoff` tries again after a mismatch, and not where nothing could be compared."""
    answers = iter([response(), response(digests=[OTHER]), response()])
    source = reactivex.defer(lambda _: reactivex.just(next(answers)))
    retry = retry_backoff(wait_initial=0, wait_jitter=0, attempts=2)
    assert rxupload.run(source.pipe(verify_digest(lambda _: OTHER), retry)).status_code == 200
    attempts: list[int] = []
    source = reactivex.defer(lambda _: attempts.append(1) or reactivex.just(response()))
    with pytest.raises(ValueError, match="nothing was verified"):
        rxupload.run(source.pipe(verify_digest(), retry))
    assert attempts == [1]
