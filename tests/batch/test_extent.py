"""How much a batch has to do: `count` and `total` of BatchProgress, and which of them are known from the start."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reactivex
from reactivex import operators as ops
from reactivex.scheduler import EventLoopScheduler
from reactivex.subject import Subject
from support.hand_cranked_client import refuse
from support.recording_observer import observe

from rxupload import BatchProgress, Field, File, Progress, upload, upload_all
from rxupload._batch import extent as module
from rxupload._batch.extent import Extent
from rxupload._derived import measure
from rxupload.operators import (
    of_type,
    progress_bar,
    raise_for_status,
    record,
    retry_backoff,
    throughput,
    verify_digest,
)
from rxupload.testing import HandCrankedClient

URL = "http://upload.test/"


@pytest.fixture(autouse=True)
def no_slow_disk(monkeypatch):
    """No pause of a busy machine is taken for a disk that is slow to tell the sizes."""
    monkeypatch.setattr(module, "MOST_SECONDS", 60.0)


def scripted(file: Any = b"data", **options: Any) -> Any:
    return upload(URL, file, client=HandCrankedClient(200), **options)


def progress_of(batch: Any, **options: Any) -> list[BatchProgress]:
    """The BatchProgress of a batch that has ended."""
    observed, _ = observe(batch, **options)
    observed.wait()
    assert observed.error is None
    return [item for item in observed.items if isinstance(item, BatchProgress)]


def once(data: bytes) -> Iterator[bytes]:
    yield data


def opened(path: Path, position: int) -> Any:
    file = path.open("rb")
    file.seek(position)
    return file


SIZED: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "path in a str": str,
    "bytes": lambda _: b"data",
    "empty": lambda _: b"",
    "memoryview": lambda _: memoryview(b"data" * 4).cast("I"),
    "file object": lambda path: opened(path, 10),
    "BytesIO": lambda _: io.BytesIO(b"data"),
    "declared size": lambda _: File(iter([b"data"]), size=4),
    "several files and a field": lambda path: [
        path,
        Field("value", name="f"),
        File(b"data", filename="ü.txt"),
    ],
}


class TestSizes:
    @pytest.mark.parametrize("kind", SIZED)
    @pytest.mark.parametrize("raw", [False, True])
    def test_a_size_is_that_of_the_body(self, tmp_path, kind, raw):
        """The size that is known before the upload is that of the body that is sent, to the byte."""
        path = tmp_path / "photo.jpg"
        path.write_bytes(bytes(1000))
        file = SIZED[kind](path)
        if raw and isinstance(file, list):
            return
        options: dict[str, Any] = {"raw": True} if raw else {"form_data": {"ä": ["b", 1]}}
        up = scripted(file, **options)
        size = measure(up)
        observed, _ = observe(up)
        assert observed.wait().progress[-1] == Progress(size, size)
        if isinstance(file, io.BufferedReader):
            file.close()

    def test_nothing_is_opened_or_read(self, tmp_path):
        """A function is not called, an iterator not read, and a file object is where it was."""

        def never() -> Any:
            raise AssertionError

        file = io.BytesIO(b"data")
        file.seek(2)
        left = once(b"data")
        for source in (never, left, reactivex.of(b"data"), io.BufferedReader(io.BytesIO(b"x")), Subject()):
            assert measure(scripted(source)) is None
        assert measure(scripted(file, raw=True)) == 2
        assert (file.tell(), next(left)) == (2, b"data")

    def test_operators_that_keep_the_progress_pass_it_on(self):
        """Operators of the library pass the size on where they pass on all Progress; others do not."""
        up = scripted()
        size = measure(up)
        assert size is not None
        assert (
            measure(
                up.pipe(
                    record([]),
                    verify_digest(),
                    retry_backoff(),
                    raise_for_status(),
                    progress_bar(disable=True),
                )
            )
            == size
        )
        for other in (throughput(), of_type(Progress), ops.retry(3)):
            assert measure(up.pipe(retry_backoff(), other, raise_for_status())) is None


class TestTotal:
    @pytest.mark.parametrize("make", [lambda: None, EventLoopScheduler], ids=["threads", "loop"])
    @pytest.mark.parametrize("of", [list, tuple])
    def test_it_is_known_from_the_start(self, tmp_path, make, of):
        """Of a list of uploads of files, the first BatchProgress has the total of the last."""
        path = tmp_path / "photo.jpg"
        path.write_bytes(bytes(1000))
        uploads = [
            each for _ in range(3) for each in (scripted(path), scripted(b"data"), scripted(path, raw=True))
        ]
        piped = [each.pipe(retry_backoff(), raise_for_status()) for each in uploads]
        seen = progress_of(upload_all(of(piped), concurrency=2), scheduler=make())
        total = sum(measure(each) or 0 for each in uploads)
        assert {each.total for each in seen} == {total}
        assert seen[-1].sent == total

    def test_a_retry_does_not_change_it(self):
        """A second attempt changes neither the total nor what is counted for it."""
        client = HandCrankedClient(refuse(), 200)
        up = upload(URL, bytes(1000), client=client).pipe(retry_backoff(wait_initial=0, wait_jitter=0))
        seen = progress_of(upload_all([up, scripted()]))
        assert len({each.total for each in seen}) == 1

    def test_a_file_that_cannot_be_opened_counts_nothing(self, tmp_path):
        """A missing file, or a size that is not the declared one, leaves the others' total known."""
        path = tmp_path / "photo.jpg"
        path.write_bytes(b"data")
        uploads = [
            scripted(tmp_path / "missing"),
            scripted(File(path, size=5)),
            scripted(bytes(1000), raw=True),
        ]
        seen = progress_of(upload_all(uploads))
        assert {each.total for each in seen} == {1000}
        assert (seen[-1].failed, seen[-1].sent) == (2, 1000)

    def test_a_file_that_has_grown_corrects_it(self, tmp_path):
        """The size at the start of an upload replaces the one before."""
        path = tmp_path / "log"
        path.write_bytes(bytes(10))

        def grow(item: Any) -> None:
            if isinstance(item, BatchProgress) and item.done == 1 and path.stat().st_size == 10:
                path.write_bytes(bytes(25))

        batch = upload_all([scripted(bytes(100), raw=True), scripted(path, raw=True)], concurrency=1)
        seen = progress_of(batch.pipe(ops.do_action(grow)))
        assert (seen[0].total, seen[-1].total, seen[-1].sent) == (110, 125, 125)

    @pytest.mark.parametrize(
        "unsized", [lambda: scripted(once(b"data")), lambda: scripted().pipe(ops.retry(1))]
    )
    def test_one_unknown_size_makes_it_unknown(self, unsized):
        """With one upload of unknown size it is known at the end at the earliest."""
        seen = progress_of(upload_all([scripted(), unsized(), scripted()], concurrency=1))
        assert seen[0].total is None
        assert seen[-1].total == seen[-1].sent

    def test_of_a_generator_it_is_known_at_the_end(self):
        """A generator is drawn as there is room, so its total is known when it has ended."""
        seen = progress_of(upload_all((scripted() for _ in range(3)), concurrency=1))
        assert seen[0].total is None
        assert seen[-1].total == seen[-1].sent

    def test_the_callers_number_stands_for_it(self):
        """The caller's `total` stands until it is known better, and is never less than what is known already."""
        each = measure(scripted())
        assert each is not None
        seen = progress_of(upload_all((scripted() for _ in range(5)), concurrency=1, total=2 * each))
        assert seen[0].total == 2 * each
        assert all(item.total is not None and item.sent <= item.total for item in seen)
        assert seen[-1].total == 5 * each

    def test_a_slow_disk_does_not_hold_the_batch_up(self):
        """Where looking takes more than a second in all, the total is unknown."""
        times = iter(range(100))
        for count, total in ((1, 4), (2, None)):
            extent = Extent(
                [scripted(raw=True) for _ in range(count)],
                None,
                now=lambda: next(times) * module.MOST_SECONDS,
            )
            extent.measure()
            assert extent.total(0, []) == total
            assert extent.count == count

    def test_sizes_are_looked_up_where_the_iterable_is_drawn(self, monkeypatch):
        """A slow disk blocks neither a loop nor the subscriber."""
        threads: list[int] = []
        scheduler = EventLoopScheduler()
        up = scripted()

        def looked_up() -> None:
            threads.append(threading.get_ident())

        monkeypatch.setattr(type(up), "_measure", lambda _: looked_up())
        observed, _ = observe(upload_all([up]), scheduler=scheduler)
        observed.wait()
        scheduler.dispose()
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        assert observed.threads.isdisjoint(threads)


class TestCount:
    def test_it_is_the_length(self):
        """An iterable with a length gives the count from the start."""

        class Sized:
            def __len__(self) -> int:
                return 3

            def __iter__(self) -> Iterator[Any]:
                return (scripted() for _ in range(3))

        for uploads in ([scripted() for _ in range(3)], dict.fromkeys(scripted() for _ in range(3)), Sized()):
            assert {each.count for each in progress_of(upload_all(uploads, concurrency=1))} == {3}

    def test_of_a_generator_it_is_known_at_the_end(self):
        """A generator has no length, so the count is known when it has ended."""
        seen = progress_of(upload_all((scripted() for _ in range(3)), concurrency=1))
        assert (seen[0].count, seen[-1].count) == (None, 3)

    def test_a_list_that_grows_has_none_until_its_end(self):
        """Where more is drawn than the length said, the count is unknown again, and so is the total."""
        uploads = [scripted()]

        def grow(item: Any) -> None:
            if isinstance(item, BatchProgress) and len(uploads) < 3:
                uploads.append(scripted())

        batch = upload_all(uploads, concurrency=1)
        seen = progress_of(batch.pipe(ops.do_action(grow)))
        assert (seen[0].count, seen[-1].count) == (1, 3)
        assert None in {each.count for each in seen}
        assert seen[-1].total == seen[-1].sent

    def test_a_length_that_raises_ends_the_batch(self):
        """What `len()` raises is the batch's error, as what the iterable raises is."""

        class Broken:
            def __len__(self) -> int:
                raise ZeroDivisionError

            def __iter__(self) -> Iterator[Any]:
                return iter([scripted()])

        observed, _ = observe(upload_all(Broken()))
        assert isinstance(observed.wait().error, ZeroDivisionError)


@pytest.mark.parametrize(
    ("total", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)]
)
def test_a_wrong_total_raises_at_the_call(total, error):
    """A wrong total raises at the call, with its name."""
    with pytest.raises(error, match=r"^total: "):
        upload_all([], total=total)
