"""What is sent: the head, the body as units, and which bytes on the wire belong to the body."""

from __future__ import annotations

from dataclasses import dataclass, field

import h11
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxupload._wire.request import PATIENCE, READ, SMALL, Count, Framing, Units, head_of

HEAD = b"POST / HTTP/1.1\r\nHost: server.test\r\n"
CHUNKED = Framing(None, is_chunked=True)


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time


class Range:
    """A range of a file that reads at most `most` bytes at a time."""

    def __init__(self, content, most=1 << 30):
        self.start = 0
        self.size = len(content)
        self._content = content
        self._most = most

    def fileno(self):
        return -1

    def read(self, offset, count):
        assert 0 < count <= self.size - offset
        return self._content[offset : offset + min(count, self._most)]


class Flow:
    """Gives one of these items for each read; None means nothing yet."""

    def __init__(self, *items, before_read=lambda: None):
        self.items = list(items)
        self.reads = 0
        self._before_read = before_read

    def read(self, count):
        assert count == READ
        self.reads += 1
        self._before_read()
        return self.items.pop(0) if self.items else b""

    def watched(self):
        return None


def declared(length):
    return Framing(length, is_chunked=False)


def data_of(unit):
    """The bytes of a unit; None for a flow that has nothing yet."""
    if isinstance(unit.data, Flow):
        return None
    if isinstance(unit.data, Range):
        return b"".join(unit.data.read(place, 1) for place in range(unit.data.size))
    return bytes(unit.data)


def units_of(pieces, framing, head=HEAD, clock=None, **kwargs):
    return Units(head, pieces, framing, clock or Clock(), **kwargs)


def listed(pieces, framing, head=HEAD, **kwargs):
    return [(data_of(unit), unit.content) for unit in units_of(pieces, framing, head, **kwargs)]


class TestHead:
    def test_it_is_sent_exactly(self):
        """The request line and the headers are sent as given, in their order."""
        headers = [(b"Host", b"a.test"), (b"X-Two", b"1"), (b"X-Two", b"2"), (b"X-Empty", b"")]
        assert head_of(b"POST", b"/a?b=c", headers) == (
            b"POST /a?b=c HTTP/1.1\r\nHost: a.test\r\nX-Two: 1\r\nX-Two: 2\r\nX-Empty: \r\n\r\n"
        )

    @pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\0"])
    def test_a_line_break_in_a_header_is_refused(self, end):
        """A line break or a NUL in a header is a LocalProtocolError, which does not quote the value."""
        for header in ((b"X-Token", b"secret" + end + b"X-Other: 1"), (b"X" + end, b"secret")):
            with pytest.raises(httpx.LocalProtocolError, match=r"line break or a NUL|not a token") as raised:
                head_of(b"POST", b"/", [header])
            assert "secret" not in str(raised.value)

    @pytest.mark.parametrize("white", [b" ", b"\r", b"\n", b"\0"])
    def test_white_space_in_the_request_line_is_refused(self, white):
        """White space in the method or the target is a LocalProtocolError."""
        for method, target in ((b"PO" + white + b"ST", b"/"), (b"POST", b"/a" + white + b"b")):
            with pytest.raises(httpx.LocalProtocolError, match=r"not a token|not visible ASCII"):
                head_of(method, target, [])

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ([], (None, False)),
            ([(b"content-LENGTH", b"12")], (12, False)),
            ([(b"Transfer-encoding", b"chunked")], (None, True)),
        ],
    )
    def test_the_headers_give_the_framing(self, headers, expected):
        """The headers determine how the body is delimited."""
        assert Framing.of([(b"Host", b"a.test"), *headers]) == (*expected, False)


class TestJoining:
    def test_head_and_small_pieces_are_one_unit(self):
        """The head, the small pieces and the small files of a request are a single send."""
        pieces = [b"one", Range(b"two"), b"", memoryview(b"three"), Range(b"")]
        assert listed(pieces, declared(11), HEAD) == [(HEAD + b"onetwothree", 11)]

    def test_a_head_without_a_body(self):
        """A request without a body is its head."""
        assert listed([], Framing(None, is_chunked=False), HEAD) == [(HEAD, 0)]

    def test_the_head_is_alone_on_request(self):
        """If the server or a throttle must be asked first, no byte of the body goes with the head."""
        assert listed([b"one", b"two"], declared(6), HEAD, is_head_alone=True) == [(HEAD, 0), (b"onetwo", 6)]
        assert listed([], declared(0), HEAD, is_head_alone=True) == [(HEAD, 0)]
        assert listed([b"one"], CHUNKED, HEAD, is_head_alone=True) == [
            (HEAD, 0),
            (b"3\r\none\r\n0\r\n\r\n", 3),
        ]

    def test_the_source_is_not_read_for_a_head_that_is_alone(self):
        """The head is sent before the source is read."""
        drawn = []
        pieces = (drawn.append(True) or b"one" for _ in range(1))
        units = iter(units_of(pieces, declared(3), HEAD, is_head_alone=True))
        assert next(units).data == HEAD
        assert not drawn

    @pytest.mark.parametrize(
        "kind", [bytes, lambda size: memoryview(bytes(size)), lambda size: Range(bytes(size))]
    )
    @pytest.mark.parametrize("framing", [declared(SMALL + 1), CHUNKED], ids=["length", "chunked"])
    def test_large_pieces_are_not_copied(self, kind, framing):
        """A large piece is a unit of its own, as the same object, after the pieces before it."""
        piece = kind(SMALL + 1)
        units = list(units_of([piece], framing, HEAD))
        assert units[0].data.startswith(HEAD)
        assert units[0].content == 0
        assert units[1].data is piece
        assert units[1].content == SMALL + 1
        assert [bytes(unit.data) for unit in units[2:]] == ([b"\r\n0\r\n\r\n"] if framing is CHUNKED else [])

    def test_a_large_item_of_a_flow_is_not_copied(self):
        """A long item of a flow is not copied either."""
        item = bytes(SMALL + 1)
        units = list(units_of([Flow(b"small", item, b"end")], declared(SMALL + 9), HEAD))
        assert [unit.content for unit in units] == [0, 5, SMALL + 1, 3]
        assert units[2].data is item

    def test_small_pieces_are_joined_up_to_a_limit(self):
        """Small pieces are sent once they reach 128 KiB, so a unit has at most twice that."""
        size = SMALL // 4
        sizes = [content for _, content in listed([bytes(size)] * 21, declared(21 * size), HEAD)]
        assert sizes == [5 * size] * 4 + [size]
        largest = listed([bytes(SMALL)] * 2, declared(2 * SMALL))
        assert [content for _, content in largest] == [2 * SMALL]

    def test_a_file_read_in_steps_is_whole(self):
        """A small file that is read in several steps is whole."""
        assert listed([Range(b"content", most=2)], declared(7)) == [(HEAD + b"content", 7)]

    def test_a_reused_buffer_is_copied_in_time(self):
        """A flow may fill the same buffer again for its next item."""
        buffer = bytearray(b"one")

        def refill():
            buffer[:] = b"two" if flow.reads == 2 else buffer

        flow = Flow(memoryview(buffer), memoryview(buffer), before_read=refill)
        assert listed([flow], declared(6)) == [(HEAD, 0), (b"onetwo", 6)]


class TestFlow:
    def test_earlier_bytes_are_sent_before_a_flow_is_read(self):
        """The bytes before a flow are sent before the flow is read, because that may block."""
        flow = Flow(b"item")
        units = iter(units_of([b"before", flow, b"after"], declared(15), HEAD))
        assert next(units) == (HEAD + b"before", 6)
        assert flow.reads == 0
        assert next(units) == (b"itemafter", 9)

    def test_a_flow_with_nothing_yet_is_read_again_before_the_wait(self):
        """The pending bytes are sent; then the flow is read again, since a wake may be missed; then comes the wait."""
        flow = Flow(b"one", b"two", None, None, None, b"three")
        units = iter(units_of([flow], declared(11)))
        assert next(units) == (HEAD, 0)
        assert next(units) == (b"onetwo", 6)
        assert flow.reads == 3
        assert next(units) == (flow, 0)
        assert flow.reads == 4
        assert next(units) == (flow, 0)
        assert next(units) == (b"three", 5)
        assert next(units, None) is None

    def test_an_item_that_came_during_a_send_is_sent(self):
        """An item that came during a send is sent without a wait."""
        flow = Flow(b"one", None, b"two", None)
        assert listed([flow], declared(6))[1:] == [(b"one", 3), (b"two", 3)]

    def test_a_slow_flow_is_not_held_back(self):
        """An item that a flow gives after a wait is sent at once, with the pending bytes."""
        clock = Clock()
        waits = iter([0, 0.04, 0.02, 60, 0, 0])

        def wait():
            clock.time += next(waits)

        flow = Flow(b"one", b"two", b"three", b"four", b"five", before_read=wait)
        assert sum((0.04, 0.02)) > PATIENCE
        pieces = [flow, b"end"]
        assert listed(pieces, declared(22), clock=clock)[1:] == [
            (b"onetwothree", 11),
            (b"four", 4),
            (b"fiveend", 7),
        ]

    def test_the_time_of_a_send_does_not_count(self):
        """Nothing is pending during a send, so a slow network causes no small units."""
        clock = Clock()
        size = SMALL // 2
        sizes = []
        for unit in units_of([Flow(*[bytes(size)] * 9)], declared(9 * size), clock=clock):
            clock.time += 60
            sizes.append(unit.content)
        assert sizes == [0] + [3 * size] * 3


class TestLength:
    @pytest.mark.parametrize("kind", [bytes, lambda size: Range(bytes(size)), lambda size: Flow(bytes(size))])
    @pytest.mark.parametrize("size", [10, SMALL + 10])
    def test_too_many_bytes_are_an_error(self, kind, size):
        """More bytes than the Content-Length are a LocalProtocolError, and none of the excess is sent."""
        sent = 0
        with pytest.raises(httpx.LocalProtocolError, match=f"has more than the {size - 1} bytes"):
            for unit in units_of([kind(size)], declared(size - 1), HEAD):
                sent += unit.content
        assert sent <= size - 1

    @pytest.mark.parametrize("kind", [bytes, lambda size: Range(bytes(size)), lambda size: Flow(bytes(size))])
    @pytest.mark.parametrize("size", [10, SMALL + 10])
    def test_too_few_bytes_are_an_error(self, kind, size):
        """Fewer bytes than the Content-Length are a LocalProtocolError."""
        with pytest.raises(httpx.LocalProtocolError, match=f"has {size} bytes, and {size + 1} were declared"):
            list(units_of([kind(size)], declared(size + 1), HEAD))

    def test_a_body_without_framing_is_an_error(self):
        """A body that has no length and is not chunked is a LocalProtocolError."""
        with pytest.raises(httpx.LocalProtocolError, match="more than the 0 bytes"):
            list(units_of([b"body"], Framing.of([]), HEAD))


# Any shape of a body

sizes = st.integers(0, 40) | st.sampled_from([SMALL - 1, SMALL, SMALL + 1, 3 * SMALL])


@dataclass
class Shapes:
    """Makes the same pieces each time, with bytes that show their position."""

    shapes: list = field(default_factory=list)

    def content(self):
        return b"".join(content for _, contents in self.shapes for content in contents if content is not None)

    def pieces(self):
        for kind, contents in self.shapes:
            match kind:
                case "flow":
                    yield Flow(*contents)
                case "range":
                    yield Range(contents[0], most=50_000)
                case "view":
                    yield memoryview(contents[0])
                case _:
                    yield contents[0]


@st.composite
def shapes(draw):
    counter = iter(range(1, 1000))

    def content(size):
        return bytes([next(counter) % 251]) * size

    made = []
    for kind in draw(st.lists(st.sampled_from(["bytes", "view", "range", "flow"]), max_size=6)):
        if kind == "flow":
            items = draw(st.lists(st.none() | sizes.filter(bool), max_size=5))
            made.append((kind, [None if size is None else content(size) for size in items]))
        else:
            made.append((kind, [content(draw(sizes))]))
    return Shapes(made)


@settings(max_examples=150)
@given(shapes(), st.booleans())
def test_any_body_with_a_length_is_sent_exactly(shapes, is_head_alone):
    """The bytes of any body follow the head unchanged, and all of them count as content."""
    content = shapes.content()
    units = listed(shapes.pieces(), declared(len(content)), HEAD, is_head_alone=is_head_alone)
    assert b"".join(data or b"" for data, _ in units) == HEAD + content
    assert sum(count for _, count in units) == len(content)
    assert all(data or data is None for data, _ in units)


@settings(max_examples=150)
@given(shapes(), st.booleans())
def test_any_chunked_body_is_sent_exactly(shapes, is_head_alone):
    """Another parser reads the same bytes from the chunks of any body, and nothing after them."""
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    units = listed(shapes.pieces(), CHUNKED, head, is_head_alone=is_head_alone)
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"".join(data or b"" for data, _ in units))
    received = b""
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Data):
            received += bytes(event.data)
    assert received == shapes.content()
    assert server.trailing_data == (b"", False)
    assert sum(count for _, count in units) == len(received)


class TestCount:
    def test_head_and_framing_do_not_count(self):
        """In a unit with framing, the content counts as if all framing came first."""
        count = Count()
        count.add(10, 0)
        count.add(8, 5)
        assert [count.arrived(wire) for wire in range(19)] == [0] * 14 + [1, 2, 3, 4, 5]
        assert count.content == 5
        count.add(3, 3)
        assert count.arrived(18) == 5
        assert count.arrived(20) == 7
        assert count.arrived(1000) == count.content == 8

    @settings(max_examples=150)
    @given(shapes(), st.booleans(), st.lists(st.floats(0, 1), max_size=30).map(sorted))
    def test_it_is_never_too_high(self, shapes, is_chunked, moments):
        """The count never exceeds the part of the body that has arrived; in the end it is the whole body."""
        content = shapes.content()
        framing = CHUNKED if is_chunked else declared(len(content))
        count, where, wire = Count(), [], 0
        for data, size in listed(shapes.pieces(), framing, HEAD):
            if data is None:
                continue
            count.add(len(data), size)
            # The position of the unit's content: one run of bytes, after the first line of the framing.
            start = (
                wire if not size else wire + data.index(content[sum(where_[1] for where_ in where) :][:size])
            )
            where.append((start, size))
            wire += len(data)

        def truth(arrived):
            return sum(max(0, min(size, arrived - start)) for start, size in where)

        previous = 0
        for arrived in [int(moment * wire) for moment in moments]:
            said = count.arrived(arrived)
            assert previous <= said <= truth(arrived)
            previous = said
        assert count.arrived(wire) == len(content)
