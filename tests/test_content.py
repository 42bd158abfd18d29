"""The body for another transport: its pieces, when they come, and what ends the wait for one."""

from __future__ import annotations

import threading
import tracemalloc

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.owner import FakeOwner

from rxupload import UploadTimeout
from rxupload._body import MultipartBody, Part
from rxupload._content import Content
from rxupload._meter import Meter
from rxupload._sources import Flow, make_source
from rxupload._throttle import Allowance, Throttle
from rxupload._transfer import Disposed, Transfer
from rxupload._wait import READ

KIB = 1024
MIB = KIB * KIB


class Clock:
    """A clock that does not sleep: each wait ends at its deadline."""

    def __init__(self):
        self.time = 1000.0
        self.waits = []
        self.on_wait = None

    def now(self):
        return self.time

    def wait(self, until, watched=(), wake=None):
        self.waits.append((until, list(watched)))
        if self.on_wait is not None:
            self.on_wait()
        if not wake.is_set():
            assert until != float("inf"), "nothing would end this wait"
            self.time = max(self.time + 1e-6, until)
        return ()


class FakeFlow(Flow):
    """Gives one of these items for each read; a function is called for its item."""

    def __init__(self, *items, watched=None):
        self._items = list(items)
        self._watched = watched

    def read(self, count):
        item = self._items.pop(0) if self._items else b""
        return item() if callable(item) else item

    def watched(self):
        return self._watched


class Body:
    """A body of the given pieces."""

    def __init__(self, *pieces, length=None):
        self.length = length
        self._pieces = pieces
        self.ended = 0

    def pieces(self):
        try:
            yield from self._pieces
        finally:
            self.ended += 1


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def progress():
    return []


@pytest.fixture
def transfer(clock, progress):
    made = Transfer(60.0, clock=clock)
    made.begin()
    made.meter = Meter(0.0, progress.append, clock.now)
    yield made
    made.settle()


def body_of(*files, fields=()):
    parts = [
        Part("file", make_source(file).open(FakeOwner()), "upload", "application/octet-stream")
        for file in files
    ]
    return MultipartBody([*fields, *parts])


class TestPieces:
    @settings(max_examples=100)
    @given(
        st.lists(
            st.integers(0, 3000) | st.sampled_from([128 * KIB - 1, 128 * KIB, MIB, 3 * MIB + 1]), max_size=8
        )
    )
    def test_they_are_as_few_as_their_limits_allow(self, sizes):
        """Small pieces are joined up to 128 KiB, none exceeds 1 MiB, and all bytes arrive in order."""
        items = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
        clock = Clock()
        transfer = Transfer(None, clock=clock)
        transfer.meter = Meter(0.0, lambda _: None, clock.now)
        *pieces, last = Content(Body(*items, FakeFlow(*[item for item in items if item]), b"end"), transfer)
        assert all(type(piece) is bytes for piece in [*pieces, last])
        assert all(128 * KIB <= len(piece) <= MIB for piece in pieces)
        assert 0 < len(last) <= MIB
        assert b"".join([*pieces, last]) == b"".join(items) * 2 + b"end"

    def test_a_large_file_in_pieces(self, tmp_path, transfer):
        """A large file is sent completely, in pieces of 128 KiB to 1 MiB, with little memory."""
        path = tmp_path / "large"
        path.write_bytes(bytes(range(256)) * (20 * MIB // 256) + b"x")
        body = body_of(path)
        count = 0
        tracemalloc.start()
        for piece in Content(body, transfer):
            count += len(piece)
            assert count == body.length or 128 * KIB <= len(piece) <= MIB
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == body.length
        assert peak < 4 * MIB

    def test_a_lone_piece_is_not_copied(self, transfer):
        """Bytes that are a piece by themselves are passed on as the same object."""
        items = [bytes(128 * KIB), bytes(896 * KIB)]
        first, second = Content(Body(*items), transfer)
        assert first is items[0]
        assert second is items[1]

    def test_small_files_are_one_piece(self, tmp_path, transfer):
        """A body of small fields and files is a single piece."""
        (tmp_path / "file").write_bytes(b"content")
        body = body_of(tmp_path / "file", b"bytes", [b"items"], fields=[Part("name", b"value")])
        assert len(list(Content(body, transfer))) == 1

    def test_a_slow_source_is_not_held_back(self, clock, transfer):
        """An item that a source gives after a wait is sent at once, with the pending bytes."""

        def after(seconds, item):
            def give():
                clock.time += seconds
                return item

            return give

        slow = FakeFlow(b"one", after(0.04, b"two"), after(0.02, b"three"), after(6, b"four"), b"five")
        assert list(Content(Body(b"head", slow, b"end"), transfer)) == [
            b"headonetwothree",
            b"four",
            b"fiveend",
        ]

    def test_the_time_of_a_send_does_not_count(self, clock, transfer):
        """Nothing is pending during a send, so a slow network causes no small pieces."""
        pieces = []
        for piece in Content(Body(FakeFlow(*[bytes(100 * KIB)] * 4)), transfer):
            clock.time += 6
            pieces.append(len(piece))
        assert pieces == [200 * KIB, 200 * KIB]

    def test_a_piece_counts_when_the_next_is_asked_for(self, transfer, progress):
        """A piece counts as sent when the client asks for the next, and the last one at the end of the pass."""
        pieces = iter(Content(Body(bytes(MIB - 128 * KIB), bytes(200 * KIB), length=1096 * KIB), transfer))
        seen = []
        for _ in range(3):
            next(pieces, None)
            seen.append([each.sent for each in progress])
        assert seen == [[0], [0, 896 * KIB], [0, 896 * KIB, 1096 * KIB]]
        assert progress[-1].total == 1096 * KIB

    def test_each_pass_is_a_new_attempt(self, transfer, progress):
        """A second pass starts at zero, and ends the first."""
        body = Body(b"content")
        content = Content(body, transfer)
        first = iter(content)
        next(first)
        assert list(content) == [b"content"]
        assert body.ended == 2
        assert [(each.attempt, each.sent) for each in progress] == [(1, 0), (2, 0), (2, 7)]


class TestWaiting:
    def test_pending_bytes_are_sent_before_the_wait(self, clock, transfer):
        """If a source has nothing yet, the pending bytes are sent before the wait for it."""
        clock.on_wait = transfer.wake.set
        pieces = iter(Content(Body(b"head", FakeFlow(b"one", None, None, b"two")), transfer))
        assert next(pieces) == b"headone"
        assert not clock.waits
        assert next(pieces) == b"two"
        assert len(clock.waits) == 1

    def test_it_waits_for_what_the_source_names(self, clock, transfer):
        """A pipe is watched; any other source sets the wake."""
        pipe = object()
        clock.on_wait = transfer.wake.set
        flows = FakeFlow(None, b"one", watched=(pipe, READ)), FakeFlow(None, None, b"two")
        assert b"".join(Content(Body(*flows), transfer)) == b"onetwo"
        assert [watched for _, watched in clock.waits] == [[(pipe, READ)], []]

    def test_the_time_limit_ends_the_wait(self, clock, transfer):
        """The time limit of the upload ends the wait for a source."""
        began = clock.time
        with pytest.raises(UploadTimeout):
            list(Content(Body(FakeFlow(*[None] * 5)), transfer))
        assert clock.time == began + 60

    def test_a_stop_ends_the_wait(self, clock, transfer):
        """A dispose ends the wait too."""
        clock.on_wait = lambda: transfer.stop(Disposed())
        with pytest.raises(Disposed):
            list(Content(Body(FakeFlow(*[None] * 5)), transfer))

    def test_a_stop_between_two_pieces_is_raised(self, transfer):
        """A client that asks for the next piece after a dispose gets the reason."""
        pieces = iter(Content(Body(bytes(MIB), bytes(MIB)), transfer))
        next(pieces)
        transfer.stop(Disposed())
        with pytest.raises(Disposed):
            next(pieces)

    def test_the_end_of_the_upload_closes_the_pass(self, transfer):
        """The pass is closed at the upload's end, and a response that outlives it cannot start another."""
        body = Body(b"one", b"two")
        content = Content(body, transfer)
        next(iter(content))
        content.close()
        assert body.ended == 1
        with pytest.raises(RuntimeError, match="The upload has ended"):
            next(iter(content))


class TestThrottled:
    @pytest.fixture
    def throttle(self, clock, transfer):
        made = Throttle(clock.now)
        transfer.allowance = Allowance([made], transfer.wake)
        return made

    def test_the_limit_is_kept(self, clock, transfer, throttle):
        """The pieces are as long as the limit grants, and the whole body takes the right time."""
        throttle.limit(100_000)
        began = clock.time
        pieces = list(Content(Body(bytes(MIB), b"end"), transfer))
        assert sum(map(len, pieces)) == MIB + 3
        assert max(map(len, pieces)) <= 100_000 * 0.05
        assert (MIB + 3) / 100_000 - 0.1 < clock.time - began < (MIB + 3) / 100_000 + 0.1

    def test_a_pause_is_kept(self, clock, transfer, throttle):
        """No piece is given during a pause; its end takes effect at once, and nothing is lost."""
        pieces = iter(Content(Body(bytes(MIB), b"end"), transfer))
        first = next(pieces)
        throttle.pause(is_paused=True)
        clock.on_wait = lambda: throttle.pause(is_paused=False)
        rest = b"".join(pieces)
        assert len(clock.waits) == 1
        assert len(first + rest) == MIB + 3

    def test_pieces_are_short_if_a_pause_may_come(self, transfer, throttle):
        """If a pause may come, a piece has at most 64 KiB."""
        assert max(map(len, Content(Body(bytes(MIB)), transfer))) == 64 * KIB

    def test_the_time_limit_ends_a_pause(self, clock, transfer, throttle):
        """The time limit runs during a pause, and ends it."""
        throttle.pause(is_paused=True)
        with pytest.raises(UploadTimeout):
            list(Content(Body(b"content"), transfer))

    def test_a_stop_ends_a_pause(self, clock, transfer, throttle):
        """A dispose ends the wait during a pause."""
        throttle.pause(is_paused=True)
        clock.on_wait = lambda: transfer.stop(Disposed())
        with pytest.raises(Disposed):
            list(Content(Body(b"content"), transfer))

    def test_a_stop_from_another_thread_ends_a_pause(self):
        """With the system's clock, the wake ends the wait as well."""
        transfer = Transfer(None)
        throttle = Throttle()
        transfer.meter = Meter(0.0, lambda _: None)
        transfer.allowance = Allowance([throttle], transfer.wake)
        throttle.pause(is_paused=True)
        pieces = iter(Content(Body(b"content"), transfer))
        ended = []

        def work():
            with pytest.raises(Disposed):
                next(pieces)
            ended.append(True)

        worker = threading.Thread(target=work)
        worker.start()
        transfer.stop(Disposed())
        worker.join(10)
        assert ended
        transfer.settle()


def test_the_clients_own_waits_end_with_the_time_limit(clock, transfer):
    """Each wait of the client is limited to the upload's remaining time, and again after the body."""
    content = Content(Body(b"content"), transfer)
    content.timeouts = httpx.Timeout(100.0, connect=None).as_dict()
    clock.time += 50
    list(content)
    assert content.timeouts == {"connect": 10.0, "read": 10.0, "write": 10.0, "pool": 10.0}
