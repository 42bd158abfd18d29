"""The response parser: however the bytes are cut, the heads and the body are the same."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import NamedTuple

import h11
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxupload._wire.response import MAX_HEAD, Head, ResponseParser


class Outcome(NamedTuple):
    """What a parser made of some bytes; for invalid bytes, only how they are refused."""

    error: type[Exception] | None = None
    informational: tuple[int, ...] = ()
    status: int | None = None
    reason: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    complete: bool = False
    reusable: bool = False


def parse(pieces, method="POST", end=None):
    """Feed the pieces, then the end of the connection: "clean", "broken", or None for neither."""
    informational = []
    parser = ResponseParser(method, informational.append)
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            kept = parser.kept
            taken = parser.take()
            assert len(taken) == kept
            assert parser.kept == 0
            body += taken
        if end is not None:
            parser.feed_eof(is_clean=end == "clean")
            assert parser.has_ended
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        assert not parser.is_complete
        assert not parser.is_reusable
        return Outcome(type(error))
    head = parser.head
    return Outcome(
        None,
        tuple(head.status for head in informational),
        parser.status,
        head.reason if head else b"",
        tuple(head.headers) if head else (),
        body,
        parser.is_complete,
        parser.is_reusable,
    )


def cut(data, *positions):
    return [data[start:end] for start, end in pairwise([0, *sorted(positions), len(data)])]


def check_all_cuts(data, expected, **how):
    assert parse([data], **how) == expected
    assert parse([data[i : i + 1] for i in range(len(data))], **how) == expected
    for position in range(1, len(data)):
        assert parse(cut(data, position), **how) == expected, position


def answer(head, body=b""):
    return "\r\n".join([*head.split("\n"), "", ""]).encode("latin-1") + body


OK = answer("HTTP/1.1 200 OK\nContent-Length: 2", b"hi")
OK_HEADERS = ((b"Content-Length", b"2"),)
CHUNKED = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked"
CHUNKED_HEADERS = ((b"Transfer-Encoding", b"chunked"),)


def ok(**changes):
    return Outcome(None, (), 200, b"OK", OK_HEADERS, b"hi", True, True)._replace(**changes)


def ok_chunked(**changes):
    return ok(headers=CHUNKED_HEADERS, body=b"hello world")._replace(**changes)


def headers(*lines):
    return tuple(tuple(line.encode("latin-1").split(b": ", 1)) for line in lines)


RESPONSES = {
    "length": (OK, ok()),
    "nothing": (
        answer("HTTP/1.1 200 OK\nContent-Length: 0"),
        ok(headers=headers("Content-Length: 0"), body=b""),
    ),
    "not whole": (OK[:-1], ok(body=b"h", complete=False, reusable=False)),
    "head not whole": (OK[:-3], Outcome(status=200)),
    "a byte after it": (OK + b"!", ok(reusable=False)),
    "an empty line after it": (OK + b"\r\n", ok(reusable=False)),
    "a second response": (OK + OK, ok(reusable=False)),
    "no reason": (OK.replace(b"OK", b""), ok(reason=b"")),
    "no space after the status": (OK.replace(b" OK", b""), ok(reason=b"")),
    "reason of any bytes": (OK.replace(b"OK", b"\xc3\xa9t\xc3\xa9 \t!"), ok(reason=b"\xc3\xa9t\xc3\xa9 \t!")),
    "empty lines before it": (b"\r\n\n\r\n" + OK, ok()),
    "bare LF": (OK.replace(b"\r", b""), ok()),
    "bare LF, but for the blank line": (OK.replace(b"\r\n\r\n", b"\n\r\n"), ok()),
    "bare LF in the blank line": (OK.replace(b"\r\n\r\n", b"\r\n\n"), ok()),
    "spelling and space": (
        answer("HTTP/1.1 200 OK\nConTENT-length:\t 2 \t", b"hi"),
        ok(headers=headers("ConTENT-length: 2")),
    ),
    "order, repeats, odd names": (
        answer("HTTP/1.1 200 OK\nB: 1\na: \nContent-Length: 2\nB: \xff:\n!#$%&'*+-.^_`|~9: x", b"hi"),
        ok(headers=headers("B: 1", "a: ", "Content-Length: 2", "B: \xff:", "!#$%&'*+-.^_`|~9: x")),
    ),
    "folded": (
        answer("HTTP/1.1 200 OK\nA: one\n two\n\t  three \n \nContent-Length:\n 2", b"hi"),
        ok(headers=headers("A: one two three", "Content-Length: 2")),
    ),
    "folded with bare LF": (
        b"HTTP/1.1 200 OK\nA: one\n two\nContent-Length: 2\n\nhi",
        ok(headers=headers("A: one two", "Content-Length: 2")),
    ),
    "Content-Length twice": (
        answer("HTTP/1.1 200 OK\nContent-Length: 2\nX: y\ncontent-length: 2", b"hi"),
        ok(headers=headers("Content-Length: 2", "X: y", "content-length: 2")),
    ),
    "Content-Length, a list": (
        answer("HTTP/1.1 200 OK\nContent-Length: 2, 2", b"hi"),
        ok(headers=headers("Content-Length: 2, 2")),
    ),
    "zeros": (
        answer("HTTP/1.1 200 OK\nContent-Length: 002", b"hi"),
        ok(headers=headers("Content-Length: 002")),
    ),
    "999": (answer("HTTP/1.1 999 ?\nContent-Length: 2", b"hi"), ok(status=999, reason=b"?")),
    "chunked": (answer(CHUNKED, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), ok_chunked()),
    "chunked, not whole": (
        answer(CHUNKED, b"b\r\nhello world\r\n0\r\n"),
        ok_chunked(complete=False, reusable=False),
    ),
    "no chunk": (answer(CHUNKED, b"0\r\n\r\n"), ok_chunked(body=b"")),
    "chunk extensions": (
        answer(CHUNKED, b'005;a="b;c";d=e\r\nhello\r\n06;x\r\n world\r\n000;y=z\r\n\r\n'),
        ok_chunked(),
    ),
    "trailers": (answer(CHUNKED, b"b\r\nhello world\r\n0\r\nA: b\r\nC: d\r\n\r\n"), ok_chunked()),
    "trailers that say nothing": (
        answer(CHUNKED, b"b\r\nhello world\r\n0\r\nConnection: close\r\n\r\n"),
        ok_chunked(),
    ),
    "padded chunk size": (answer(CHUNKED, b"b   \r\nhello world\r\n0 \r\n\r\n"), ok_chunked()),
    "a chunk of line ends": (
        answer(CHUNKED, b"b\r\n" + b"\r\n" * 5 + b"\n\r\n0\r\n\r\n"),
        ok_chunked(body=b"\r\n" * 5 + b"\n"),
    ),
    "chunked, CR after it": (answer(CHUNKED, b"b\r\nhello world\r\n0\r\n\r\n\r"), ok_chunked(reusable=False)),
    "chunked, line ends after it": (
        answer(CHUNKED, b"0\r\n\r\n\n\r\n\r\n\r\n"),
        ok_chunked(body=b"", reusable=False),
    ),
    "trailers, LF after them": (
        answer(CHUNKED, b"0\r\nA: b\r\n\r\n\n"),
        ok_chunked(body=b"", reusable=False),
    ),
    "chunked, then a second response": (
        answer(CHUNKED, b"0\r\n\r\n" + OK),
        ok_chunked(body=b"", reusable=False),
    ),
    "chunked, then anything": (answer(CHUNKED, b"0\r\n\r\n?\r\n\r\n"), ok_chunked(body=b"", reusable=False)),
    "chunked in capitals": (
        answer("HTTP/1.1 200 OK\nTRANSFER-encoding: ChunKED", b"0\r\n\r\n"),
        ok(headers=headers("TRANSFER-encoding: ChunKED"), body=b""),
    ),
    "no length": (answer("HTTP/1.1 200 OK", b"hi"), ok(headers=(), complete=False, reusable=False)),
    "not a byte": (b"", Outcome()),
    "not a byte of a head": (b"\r", Outcome()),
    "status not whole": (b"HTTP/1.1 10", Outcome()),
    "status whole": (b"HTTP/1.1 413", Outcome(status=413)),
    "status before the head": (b"HTTP/1.1 413 Too Large\r\nX: y", Outcome(status=413)),
    "a status that is not final": (b"HTTP/1.1 100", Outcome()),
    "status after a 100": (
        answer("HTTP/1.1 100 Continue") + b"HTTP/1.1 413",
        Outcome(informational=(100,), status=413),
    ),
}


@pytest.mark.parametrize(("data", "expected"), RESPONSES.values(), ids=RESPONSES)
def test_a_response_is_the_same_however_its_bytes_are_cut(data, expected):
    """The same bytes are the same response: whole, byte by byte, or cut in two anywhere."""
    check_all_cuts(data, expected)


@pytest.mark.parametrize("number", [1, 3, 40])
def test_informational_heads_are_handed_on_in_order(number):
    """Each 1xx head goes to the callback with its headers; then comes the final head."""
    one = (
        answer("HTTP/1.1 100 Continue")
        + answer("HTTP/1.1 103 Early Hints\nLink: </a>\nContent-Length: 5")
        + b"\r\n"
    )
    data = one * number + answer("HTTP/1.1 102 Processing") + OK
    expected = ok(informational=(100, 103) * number + (102,))
    if number < 40:
        check_all_cuts(data, expected)
    assert parse([data]) == parse([data[i : i + 1] for i in range(len(data))]) == expected

    heads = []
    ResponseParser("POST", heads.append).feed(one)
    assert heads == [
        Head(b"HTTP/1.1", 100, b"Continue", []),
        Head(b"HTTP/1.1", 103, b"Early Hints", [(b"Link", b"</a>"), (b"Content-Length", b"5")]),
    ]


def test_informational_heads_need_no_callback():
    """Without a callback, a 1xx head is dropped."""
    parser = ResponseParser("PUT")
    parser.feed(answer("HTTP/1.1 100 Continue") + OK)
    assert parser.status == 200


def test_an_exception_of_the_callback_loses_nothing():
    """An exception of the callback is raised by feed(); the next call continues after that head."""
    heads = []

    def refuse_the_first(head):
        heads.append(head.status)
        if len(heads) == 1:
            raise LookupError

    parser = ResponseParser("PUT", refuse_the_first)
    with pytest.raises(LookupError):
        parser.feed(answer("HTTP/1.1 100 Continue") + answer("HTTP/1.1 102 Processing") + OK[:-1])
    parser.feed(OK[-1:])
    assert (heads, parser.take(), parser.is_complete) == ([100, 102], b"hi", True)


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", "HTTP/1.1 200 OK\nContent-Length: 2"),
        ("HEAD", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked"),
        ("HEAD", "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked"),
        ("HEAD", "HTTP/1.1 404 Not Found"),
        ("POST", "HTTP/1.1 204 No Content\nContent-Length: 2"),
        ("POST", "HTTP/1.1 204 No Content"),
        ("GET", "HTTP/1.1 304 Not Modified\nContent-Length: 2"),
        ("GET", "HTTP/1.1 304 Not Modified\nTransfer-Encoding: chunked"),
        ("CONNECT", "HTTP/1.1 200 OK\nContent-Length: 2"),
        ("CONNECT", "HTTP/1.1 299 OK\nTransfer-Encoding: chunked"),
        ("GET", "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: h2c"),
        ("GET", "HTTP/1.1 101 Switching Protocols\nContent-Length: 2"),
    ],
)
def test_some_responses_end_with_their_head(method, head):
    """A response that has no body is complete with its head, even if its headers give a length."""
    data = answer(head)
    outcome = parse([data], method)
    assert outcome.status == int(head[9:12])
    assert (outcome.error, outcome.body, outcome.complete) == (None, b"", True)
    assert outcome.reusable == (outcome.status != 101)
    check_all_cuts(data, outcome, method=method)
    check_all_cuts(data, outcome, method=method, end="broken")
    check_all_cuts(data + b"hi", outcome._replace(reusable=False), method=method)


def test_a_refused_connect_has_a_body():
    """Only a 2xx answer to CONNECT ends with its head."""
    data = answer("HTTP/1.1 407 Who?\nContent-Length: 2", b"hi")
    check_all_cuts(data, ok(status=407, reason=b"Who?"), method="CONNECT")


@pytest.mark.parametrize(
    ("version", "lines", "reusable"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: keep-alive"], True),
        ("1.1", ["Connection: close"], False),
        ("1.1", ["Connection: CLOSE"], False),
        ("1.1", ["Connection: foo ,\tClose,bar"], False),
        ("1.1", ["connection: foo", "Connection: close"], False),
        ("1.1", ["Connection: closed, not-close"], True),
        ("1.0", [], False),
        ("1.0", ["Connection: Keep-Alive"], True),
        ("1.0", ["Connection: foo", "Connection: bar, keep-alive"], True),
        ("1.0", ["Connection: keep-alive, close"], False),
    ],
)
def test_version_and_connection_header_decide_on_reuse(version, lines, reusable):
    """HTTP/1.1 is reusable unless the server sends close; HTTP/1.0 only if it sends keep-alive."""
    data = answer("\n".join([f"HTTP/{version} 200 OK", "Content-Length: 2", *lines]), b"hi")
    check_all_cuts(data, ok(headers=headers("Content-Length: 2", *lines), reusable=reusable))


def test_chunks_under_http_1_0_are_not_reusable():
    """A chunked HTTP/1.0 response is read, but its connection is not reused."""
    data = answer(
        "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\nConnection: keep-alive", b"2\r\nhi\r\n0\r\n\r\n"
    )
    assert parse([data])[5:] == (b"hi", True, False)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_without_a_length_ends_with_the_connection(version):
    """A body without a length is complete at a clean end, an error at any other, and never reusable."""
    data = answer(f"HTTP/{version} 200 OK\nConnection: keep-alive", b"hi\r\n")
    expected = ok(headers=headers("Connection: keep-alive"), body=b"hi\r\n", complete=True, reusable=False)
    check_all_cuts(data, expected, end="clean")
    check_all_cuts(data, Outcome(httpx.ReadError), end="broken")
    check_all_cuts(data, expected._replace(complete=False))


@pytest.mark.parametrize("end", ["clean", "broken"])
@pytest.mark.parametrize(
    "data", [OK, answer(CHUNKED, b"2\r\nhi\r\n0\r\nA: b\r\n\r\n")], ids=["length", "chunked"]
)
def test_an_early_end_is_an_error(data, end):
    """The end of the connection in a head or in a body of known length is an error, raised once."""
    for size in range(len(data)):
        check_all_cuts(data[:size], Outcome(httpx.ReadError), end=end)
    check_all_cuts(data, parse([data]), end=end)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "before it answered"),
        (b"\r\n\r", "before it answered"),
        (answer("HTTP/1.1 100 Continue"), "before it answered"),
        (answer("HTTP/1.1 100 Continue") + b"HTTP/1.1 102 Pro", "before it answered"),
        (b"H", "before the response was whole"),
        (answer("HTTP/1.1 100 Continue") + b"HTTP/1.1", "before the response was whole"),
        (b"HTTP/1.1 200 OK\r\nA:", "before the response was whole"),
        (OK[:-1], "before the response was whole"),
        (answer(CHUNKED), "before the response was whole"),
    ],
)
def test_an_early_end_says_whether_there_was_an_answer(data, message):
    """The error of an early end distinguishes no answer from an answer that broke off."""
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        parser = ResponseParser("POST")
        for piece in pieces:
            parser.feed(piece)
        with pytest.raises(httpx.ReadError, match=f"^The server closed the connection {message}$"):
            parser.feed_eof()
        assert parser.has_ended


NOT_HTTP = [
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x15\x03\x01\x00\x02\x02\x16",
    b"\x00",
    b" HTTP/1.1 200 OK\r\n",
    b"\rHTTP/1.1 200 OK\r\n",
    b"\r\n\r\r\n",
    b"<html>",
    b"http/1.1 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/1.2 200 OK",
    b"HTTP/0.9 200 OK",
    b"HTTP/11 200 OK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1\t200 OK",
    b"HTTP/1.1\r\n",
    b"HTTP/1.1 \r\n",
    b"HTTP/1.1 099 OK",
    b"HTTP/1.1 000 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 1000 OK",
    b"HTTP/1.1 -20 OK",
    b"HTTP/1.1 2O0 OK",
    b"HTTP/1.1 200OK",
    b"HTTP/1.1 200\tOK",
    b"ICY 200 OK\r\n",
    b"RTSP/1.0 200 OK\r\n",
]
WRONG_LINES = [
    "A\x00: b",
    "A: b\x00c",
    "A: b\rc",
    "A: b\r",
    "\rA: b",
    "A : b",
    "A\t: b",
    ": b",
    "no colon",
    "A(b): c",
    "\xe9t\xe9: c",
    "Content-Length: -1",
    "Content-Length: +1",
    "Content-Length: 1_0",
    "Content-Length: 0x5",
    "Content-Length: 1.0",
    "Content-Length: 1 2",
    "Content-Length: ",
    "Content-Length: ,",
    "Content-Length: 2,",
    "Content-Length: \xb2",
    "Content-Length: two",
    "Content-Length: 2, 3",
    "Content-Length: 2\nContent-Length: 3",
    "Content-Length: 2\nContent-Length: 02",
    "Content-Length: " + "9" * 21,
    "Content-Length: " + "9" * 5000,
    "Content-Length: 2\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\nContent-Length: 2",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked;a=b",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: ",
]
WRONG_CHUNKS = [
    b"\r\n",
    b"g\r\n",
    b"-1\r\n",
    b"0x5\r\nhello\r\n",
    b" 5\r\nhello\r\n",
    b";a=b\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"f" * 17 + b"\r\n",
    b"0\r\nno colon\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\nA: b\rc\r\n\r\n",
]
HEAD_ERRORS = [
    b"HTTP/1.1 200 O\x00K\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\n\r\n",
    b"HTTP/1.1 200\rOK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n folded: status\r\n\r\n",
    b"HTTP/1.1 200 OK\n\tfolded: status\n\n",
    b"HTTP/1.1 100 Continue\r\nno colon\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n?",
]


@pytest.mark.parametrize(
    "data",
    [
        *NOT_HTTP,
        *(answer(f"HTTP/1.1 200 OK\n{line}\nX: y") for line in WRONG_LINES),
        *(answer(CHUNKED, chunks) for chunks in WRONG_CHUNKS),
        *HEAD_ERRORS,
    ],
)
def test_invalid_bytes_are_refused_however_they_are_cut(data):
    """Bytes that are not HTTP/1.1, or are ambiguous, are a RemoteProtocolError at every cut."""
    if len(data) < 1000:
        check_all_cuts(data, Outcome(httpx.RemoteProtocolError))
    assert parse([data]) == Outcome(httpx.RemoteProtocolError)


@pytest.mark.parametrize(
    ("good", "wrong"),
    [
        (b"", b"S"),
        (b"", b"\x15"),
        (b"HT", b"M"),
        (b"\r\n", b"\x00"),
        (b"HTTP/1.", b"2"),
        (b"HTTP/1.1 ", b"0"),
        (b"HTTP/1.1 200", b"0"),
        (answer("HTTP/1.1 100 Continue"), b"I"),
    ],
)
def test_the_first_invalid_byte_raises(good, wrong):
    """A status line is refused at its first invalid byte, without waiting for the line end; so are the next lines."""
    parser = ResponseParser("POST")
    parser.feed(good)
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError, match="other than HTTP"):
            parser.feed(wrong)


def test_it_knows_when_a_response_begins():
    """A response begins with the first byte of any head; an empty line does not begin one."""
    parser = ResponseParser("POST")
    parser.feed(b"")
    parser.feed(b"\r\n\r")
    assert not parser.has_begun
    parser.feed(b"\nH")
    assert parser.has_begun
    assert parser.status is None
    assert not parser.has_ended
    parser.feed(b"TTP/1.1 100 \r\n\r\n")
    assert (parser.has_begun, parser.status, parser.head) == (True, None, None)


def test_an_early_status_is_known_at_its_third_digit():
    """A 413 is recognised before its head is complete."""
    parser = ResponseParser("POST")
    parser.feed(answer("HTTP/1.1 100 Continue") + b"HTTP/1.1 41")
    assert parser.status is None
    parser.feed(b"3")
    assert (parser.status, parser.head, parser.is_complete) == (413, None, False)
    parser.feed(b" \r\nContent-Length: 0\r\n\r\n")
    assert parser.head == Head(b"HTTP/1.1", 413, b"", [(b"Content-Length", b"0")])
    assert parser.is_complete


@pytest.mark.parametrize("before", [b"", b"\r\n\n", answer("HTTP/1.1 103 Early Hints\nA: " + "b" * 60_000)])
@pytest.mark.parametrize("size", [1, 7, 4096, 10**9])
def test_the_limit_of_a_head_is_exact(before, size):
    """The limit applies to each head, counts empty lines, and does not depend on the sizes of the pieces."""
    empty = 0 if before.startswith(b"H") else len(before)
    rest = answer("HTTP/1.1 200 OK\nContent-Length: 2\nA: ", b"hi")
    for excess, error in ((0, None), (1, httpx.RemoteProtocolError)):
        filling = b"b" * (MAX_HEAD - empty - (len(rest) - 2) + excess)
        data = before + rest.replace(b"A: ", b"A: " + filling)
        assert parse(data[i : i + size] for i in range(0, len(data), size)).error is error


@pytest.mark.parametrize(
    "start", ["", "\n", "\r\n\n", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nA: b", "HTTP/1.1 100 \r\n"]
)
@pytest.mark.parametrize("filling", ["a", " ", "\r", "a: b\r\n", " \n", "\r\n x", "\r\n"])
def test_an_endless_head_is_refused(start, filling):
    """A head that exceeds the limit is refused, whatever it contains."""
    data = (start + filling * (MAX_HEAD // len(filling) + 1)).encode()[: MAX_HEAD + 1]
    outcome = parse([data])
    has_end = filling == "\r\n" and start.startswith("HTTP")
    assert (outcome.error is None) == has_end
    assert parse(data[i : i + 1] for i in range(len(data))).error is outcome.error


def test_the_search_for_the_blank_line_continues():
    """A head is not searched from its start for each new byte."""
    parser = ResponseParser("POST")
    for byte in b"HTTP/1.1 200 OK\r\nA: " + b"b" * 1000:
        parser.feed(bytes([byte]))
        assert parser._searched >= len(parser._buffer) - 2


@pytest.mark.parametrize("number", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_nothing_is_kept_of_informational_heads(number):
    """Memory does not grow with the number of 1xx heads."""
    count = 0

    def add(head):
        nonlocal count
        count += 1

    one = b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"
    parser = ResponseParser("POST", add)
    pieces = cut(one * 1000, *range(4999, len(one) * 1000, 4999))
    parser.feed(one)
    tracemalloc.start()
    try:
        for _ in range(number // 1000):
            for piece in pieces:
                parser.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()
    assert count == number + 1
    assert not parser._buffer
    assert (parser.kept, parser.status, parser.has_begun) == (0, None, True)


def test_a_chunked_body_has_a_bounded_overhead():
    """Endless trailers or chunk extensions are refused, and take no memory before."""
    for beginning, filling in ((b"0\r\n", b"A: bbbbbbbbbbbbbb\r\n"), (b"5;", b"a"), (b"0", b"0")):
        parser = ResponseParser("POST")
        parser.feed(answer(CHUNKED, beginning))
        with pytest.raises(httpx.RemoteProtocolError, match=r"no end|overflow"):
            for _ in range(2 * MAX_HEAD // len(filling)):
                parser.feed(filling)
    small = b"1;a=b\r\nx\r\n"
    parser = ResponseParser("POST")
    parser.feed(answer(CHUNKED))
    for _ in range(2 * MAX_HEAD // len(small)):
        for piece in cut(small, 4):
            parser.feed(piece)
    parser.feed(b"0\r\n\r\n")
    assert parser.is_complete


def test_untaken_bytes_are_counted_and_kept_in_order():
    """take() returns all that has come since the last call, and `kept` is its size."""
    parser = ResponseParser("POST")
    parser.feed(answer("HTTP/1.1 200 OK\nContent-Length: 6", b"ab"))
    parser.feed(b"cd")
    assert parser.kept == 4
    assert (parser.take(), parser.take(), parser.kept) == (b"abcd", b"", 0)
    parser.feed(b"efgh")
    assert parser.kept == 2
    assert (parser.take(), parser.is_complete, parser.is_reusable) == (b"ef", True, False)


def test_bytes_after_the_end_are_dropped():
    """Bytes after a complete response only make the connection unusable."""
    for data in (OK, answer(CHUNKED, b"0\r\n\r\n"), answer("HTTP/1.1 204 No Content")):
        parser = ResponseParser("POST")
        parser.feed(data)
        parser.feed(b"")
        parser.feed_eof()
        assert parser.is_reusable
        head, kept = parser.head, parser.kept
        parser.feed(answer("HTTP/1.1 500 Oops\nContent-Length: 3", b"abc"))
        parser.feed_eof(is_clean=False)
        assert (parser.head, parser.kept, parser.status) == (head, kept, head.status)
        assert parser.is_complete
        assert not parser.is_reusable
        assert not parser._buffer


def test_an_error_is_raised_again():
    """After invalid bytes, later ones cannot make a response."""
    for data in (
        answer("HTTP/1.1 200 OK\nContent-Length: x"),
        answer(CHUNKED, b"x"),
        b"HTTP/1.1 200 OK\n :\n\n",
    ):
        parser = ResponseParser("POST")
        for piece in (data, OK, answer(CHUNKED, b"0\r\n\r\n")):
            with pytest.raises(httpx.RemoteProtocolError):
                parser.feed(piece)
        assert not parser.is_complete
        assert parser.take() == b""


# h11 as a second opinion

FRAMING = {b"content-length", b"transfer-encoding"}  # h11 normalises these


def parse_with_h11(data, method, end):
    """Return what h11 reads: statuses, headers, body, whether it is complete. None without a head."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    informational, head, body, complete = [], None, b"", False
    connection.receive_data(data)
    if end is not None:
        connection.receive_data(b"")
    try:
        while not complete:
            match connection.next_event():
                case h11.InformationalResponse() as event:
                    informational.append(event.status_code)
                case h11.Response() as event:
                    head = event
                case h11.Data() as event:
                    body += event.data
                case h11.EndOfMessage():
                    complete = True
                case _:
                    break
    except h11.RemoteProtocolError:
        return None
    if head is None:
        return None
    return tuple(informational), head.status_code, _others(head.headers.raw_items()), body, complete


def _others(headers):
    return [(name, value) for name, value in headers if name.lower() not in FRAMING]


def check_like_h11(data, method="POST", end=None):
    ours = parse([data], method, end)
    if ours.error or ours.status == 101 or not ours.headers:
        return
    theirs = parse_with_h11(data, method, end)
    if theirs is not None:
        assert (ours.informational, ours.status, _others(ours.headers), ours.body, ours.complete) == theirs


# Responses of every shape

names = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12).filter(
    lambda name: name.lower() != "connection"
)
spaces = st.text(" \t", max_size=3)
texts = st.text([chr(code) for code in (9, *range(32, 127), *range(128, 256))], max_size=30)


@st.composite
def responses(draw):
    """A well-formed response: its bytes, the request's method, and the expected outcome."""
    method = draw(st.sampled_from(["POST", "POST", "PUT", "HEAD"]))
    status = draw(st.sampled_from([200, 201, 204, 304, 400, 413, 500]) | st.integers(200, 999))
    reason = draw(texts)
    fields = draw(st.lists(st.tuples(names, texts.map(lambda value: value.strip(" \t"))), max_size=6))
    body = draw(st.binary(max_size=200) | st.text("\r\n0;", max_size=40).map(str.encode))
    framing = draw(st.sampled_from(["length", "chunked", "end"]))
    after = draw(st.sampled_from([b"", b"", b"\r\n", b"\n", b"\r", b"x", OK])) if framing != "end" else b""
    if method == "HEAD" or status in {204, 304}:
        wire, body, complete = b"", b"", True
    elif framing == "chunked":
        wire, complete = draw(chunked(body)), True
    else:
        wire, complete = body, framing == "length"
    if framing != "end":
        name, value = (
            ("Transfer-Encoding", "chunked") if framing == "chunked" else ("Content-Length", f"{len(body)}")
        )
        fields.insert(draw(st.integers(0, len(fields))), (name, value))
    before = draw(st.lists(st.integers(100, 199).filter(lambda status: status != 101), max_size=3))
    end = draw(st.sampled_from(["\r\n", "\r\n", "\n"]))
    heads = [f"HTTP/1.1 {number} {end}A: b{end}{end}" for number in before]
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}:{draw(spaces)}{value}{draw(spaces)}" for name, value in fields]
    data = "".join([*heads, *(line + end for line in lines), end]).encode("latin-1") + wire
    sent = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)
    expected = Outcome(
        None, tuple(before), status, reason.encode("latin-1"), sent, body, complete, complete and not after
    )
    return data + after, method, expected


@st.composite
def chunked(draw, body):
    """The body in chunks of any size, with extensions and trailers."""
    positions = sorted(draw(st.sets(st.integers(1, max(1, len(body) - 1)), max_size=6)))
    extension = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c";d=e', b"  "])
    wire = b""
    for chunk in cut(body, *(position for position in positions if position < len(body))):
        if chunk:
            size = draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(chunk)
            wire += size + draw(extension) + b"\r\n" + chunk + b"\r\n"
    trailers = draw(
        st.lists(st.sampled_from([b"A: b\r\n", b"Connection: close\r\n", b"X-Sum:\r\n"]), max_size=3)
    )
    return wire + b"0" + draw(extension) + b"\r\n" + b"".join(trailers) + b"\r\n"


def draw_cuts(data, size):
    return data.draw(st.lists(st.integers(0, size), max_size=8), label="cuts")


@given(responses(), st.data())
@settings(max_examples=300)
def test_any_response_is_read_as_it_was_written(response, data):
    """A well-formed response of any shape, cut anywhere, gives back its heads and its body, as with h11."""
    wire, method, expected = response
    assert parse(cut(wire, *draw_cuts(data, len(wire))), method) == expected
    assert parse([wire[i : i + 1] for i in range(len(wire))], method) == expected
    ended = parse([wire], method, "clean")
    assert ended == expected._replace(complete=True)
    check_like_h11(wire, method)
    check_like_h11(wire, method, "clean")


TELLING_BYTES = st.sampled_from([b"\r\n", *(b"%c" % byte for byte in b'\r\n\0\t :;,019fH\xff"')])


@given(responses(), st.data())
@settings(max_examples=500)
def test_changed_bytes_are_refused_or_read_in_one_way(response, data):
    """Mutated bytes raise only our two errors, and mean the same at every cut."""
    wire, method, _ = response
    for _ in range(data.draw(st.integers(1, 4), label="mutations")):
        start = data.draw(st.integers(0, len(wire)))
        stop = data.draw(st.integers(start, min(len(wire), start + 3)))
        wire = wire[:start] + data.draw(TELLING_BYTES | st.binary(max_size=3)) + wire[stop:]
    end = data.draw(st.sampled_from([None, "clean", "broken"]))
    expected = parse([wire], method, end)
    assert parse(cut(wire, *draw_cuts(data, len(wire))), method, end) == expected
    assert parse([wire[i : i + 1] for i in range(len(wire))], method, end) == expected
    check_like_h11(wire, method, end)


@given(st.binary(max_size=60), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", answer(CHUNKED)]), st.data())
@settings(max_examples=300)
def test_any_bytes_are_refused_or_read_in_one_way(junk, start, data):
    """Random bytes raise only our two errors, and mean the same at every cut."""
    wire = start + junk
    expected = parse([wire])
    assert parse(cut(wire, *draw_cuts(data, len(wire)))) == expected
    assert parse([wire[i : i + 1] for i in range(len(wire))]) == expected
