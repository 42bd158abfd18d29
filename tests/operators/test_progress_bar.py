"""`progress_bar`, in virtual time and in real time."""

from __future__ import annotations

import errno
import io
import subprocess
import sys

import pytest
import reactivex
from reactivex import operators as ops
from reactivex.subject import Subject
from reactivex.testing import TestScheduler
from support.hand_cranked_client import refuse
from support.operator_sources import (
    LOST,
    P0,
    P1,
    P2,
    URL,
    on_completed,
    on_error,
    on_next,
    response,
    subscribe,
)

import rxupload
from rxupload import BatchProgress, Progress, upload
from rxupload.operators import (
    progress_bar,
    raise_for_status,
    retry_backoff,
)
from rxupload.testing import HandCrankedClient


def steps_drawn(items):
    """What a bar shows for these items, in order."""
    drawn = io.StringIO()
    source = Subject()
    source.pipe(progress_bar(file=drawn, ascii=True, mininterval=0, bar_format="<{n}/{total}>")).subscribe()
    for item in items:
        source.on_next(item)
    source.on_completed()
    shown = [text.strip() for text in drawn.getvalue().replace("\n", "\r").split("\r") if text.strip()]
    return list(dict.fromkeys(text.replace(".0", "").replace("0.00", "0") for text in shown))


class TestProgressBar:
    def test_it_draws_and_passes_items_on(self):
        """Every item passes at its time, and the bar shows the bytes and is closed before the end is sent."""
        scheduler = TestScheduler()
        drawn = io.StringIO()
        last = response()
        at_the_end = []
        source = scheduler.create_hot_observable(
            on_next(210, Progress(0, 2_000_000)),
            on_next(220, Progress(2_000_000, 2_000_000)),
            on_next(230, last),
            on_completed(240),
        )
        results = scheduler.start(
            lambda: source.pipe(
                progress_bar(file=drawn, desc="beach.jpg", ascii=True, mininterval=0),
                ops.do_action(on_completed=lambda: at_the_end.append(drawn.getvalue())),
            )
        )
        assert results.messages == [
            on_next(210, Progress(0, 2_000_000)),
            on_next(220, Progress(2_000_000, 2_000_000)),
            on_next(230, last),
            on_completed(240),
        ]
        assert source.subscriptions == [subscribe(200, 240)]
        assert "beach.jpg:   0%" in drawn.getvalue()
        assert "beach.jpg: 100%" in drawn.getvalue()
        assert "2.00M/2.00M" in drawn.getvalue()
        assert at_the_end == [drawn.getvalue()]
        assert drawn.getvalue().endswith("\n")

    @pytest.mark.parametrize("end", ["error", "dispose"])
    def test_the_bar_is_closed_at_every_end(self, end):
        """The bar is closed at an error and at a dispose too, without a last step."""
        scheduler = TestScheduler()
        drawn = io.StringIO()
        ends = [on_error(220, LOST)] if end == "error" else []
        source = scheduler.create_hot_observable(on_next(210, P1), *ends)
        results = scheduler.start(lambda: source.pipe(progress_bar(file=drawn, ascii=True)), disposed=300)
        assert results.messages == [on_next(210, P1), *ends]
        assert " 50%" in drawn.getvalue()
        assert drawn.getvalue().endswith("\n")

    def test_it_draws_a_batch(self):
        """For a batch, the bar shows all bytes, and their total once it is known; a retry takes some back."""
        counts = [(0, None), (30, None), (20, None), (60, 60)]
        steps = steps_drawn([BatchProgress(0, 0, 1, sent, total) for sent, total in counts])
        assert steps == ["<0/None>", "<30/None>", "<20/None>", "<60/60>"]

    def test_it_counts_files_until_the_bytes_are_known(self):
        """For a batch without a total, the bar shows files of files; with neither total nor count, bytes."""
        steps = steps_drawn(
            [
                BatchProgress(0, 0, 1, 0, None),
                BatchProgress(0, 0, 1, 30, None),
                BatchProgress(0, 0, 1, 40, None, 3),
                BatchProgress(1, 1, 1, 50, None, 3),
                BatchProgress(1, 1, 1, 60, 90, 3),
                BatchProgress(2, 1, 0, 90, 90, 3),
            ]
        )
        assert steps == ["<0/None>", "<30/None>", "<0/3>", "<2/3>", "<0/90>", "<60/90>", "<90/90>"]

    @pytest.mark.parametrize("options", [{}, {"unit": "octets"}])
    def test_files_have_their_own_unit(self, options):
        """The unit is that of files, and then that of bytes, with their prefixes."""
        drawn = io.StringIO()
        source = Subject()
        shape = {"bar_format": "{n_fmt}/{total_fmt}{unit}", "mininterval": 0, "file": drawn}
        source.pipe(progress_bar(**shape, **options)).subscribe()
        source.on_next(BatchProgress(0, 0, 1, 40, None, 3000))
        source.on_next(BatchProgress(2000, 0, 1, 50, None, 3000))
        source.on_next(BatchProgress(2000, 0, 1, 1000, 2000, 3000))
        source.on_completed()
        texts = [text.strip() for text in drawn.getvalue().split("\r")]
        assert "2000/3000 files" in texts
        assert f"1.00k/2.00k{options.get('unit', 'B')}" in texts

    def test_no_rate_mixes_files_and_bytes(self):
        """The first frame counts files as files. The step to bytes gives no negative rate, and the time goes on."""
        drawn = io.StringIO()
        source = Subject()
        source.pipe(progress_bar(file=drawn, ascii=True, mininterval=0)).subscribe()
        for done, sent, total in ((0, 0, None), (1, 10_000_000, None), (2, 20_000_000, 30_000_000)):
            source.on_next(BatchProgress(done, 0, 1, sent, total, count=3))
        source.on_completed()
        frames = [text.strip() for text in drawn.getvalue().split("\r") if text.strip()]
        assert frames
        assert "0/3 [" in frames[0]
        assert "B/s" not in frames[0]
        assert not [frame for frame in frames if "-" in frame.rpartition("[")[2]]
        assert "20.0M/30.0M" in frames[-1]

    def test_a_new_attempt_restarts_the_bar(self):
        """A new attempt restarts the same bar, with its total."""
        steps = steps_drawn([P0, P1, Progress(0, 20, 2), Progress(20, 20, 2), Progress(3, None, 3)])
        assert steps == [
            "<0/10>",
            "<5/10>",
            "<0/20>",
            "<20/20>",
            "<0/None>",
            "<3/None>",
        ]

    def test_each_subscription_has_a_bar(self):
        """Two subscriptions draw two bars."""
        drawn = io.StringIO()
        source = Subject()
        barred = source.pipe(progress_bar(file=drawn, ascii=True, leave=True))
        for _ in range(2):
            barred.subscribe()
        source.on_next(P2)
        source.on_completed()
        assert drawn.getvalue().count("\n") >= 2

    def test_a_disabled_bar_draws_nothing(self):
        """With tqdm's `disable` nothing is drawn, and every item passes."""
        drawn = io.StringIO()
        assert reactivex.of(P0, P1, "last").pipe(progress_bar(file=drawn, disable=True)).run() == "last"
        assert drawn.getvalue() == ""

    @pytest.mark.parametrize("fails_at", [1, 2, 5])
    def test_a_bar_that_cannot_be_drawn_does_not_end_the_upload(self, fails_at):
        """If the file cannot be written, the bar is given up, and the upload continues."""

        class Full(io.StringIO):
            writes = 0

            def write(self, text: str) -> int:
                self.writes += 1
                if self.writes >= fails_at:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(text)

        passed = reactivex.of(P0, P1, P2, "last").pipe(progress_bar(file=Full(), mininterval=0))
        assert passed.pipe(ops.to_list()).run() == [P0, P1, P2, "last"]

    def test_a_wrong_option_is_an_error_of_the_stream(self):
        """An option that tqdm does not know is an error of the stream."""
        with pytest.raises(KeyError, match="colouring"):
            reactivex.of(P0).pipe(progress_bar(file=io.StringIO(), colouring="red")).run()

    def test_it_draws_an_upload(self):
        """It draws a real upload and its retries."""
        drawn = io.StringIO()
        up = upload(URL, bytes(3 << 20), client=HandCrankedClient(refuse(pieces=2), 201))
        pipeline = up.pipe(
            retry_backoff(wait_initial=0, wait_jitter=0),
            progress_bar(file=drawn, ascii=True),
            raise_for_status(),
        )
        assert rxupload.run(pipeline).status_code == 201
        assert "100%" in drawn.getvalue()

    def test_without_tqdm_the_error_says_what_to_install(self, monkeypatch):
        """Without tqdm, the call says what to install."""
        monkeypatch.setitem(sys.modules, "tqdm", None)
        with pytest.raises(ImportError, match=r"pip install 'rxupload\[progress\]'"):
            progress_bar()

    def test_it_is_what_imports_tqdm(self):
        """tqdm is imported by progress_bar(), and not before."""
        script = "import sys, rxupload.operators; assert not any('tqdm' in name for name in sys.modules)"
        subprocess.run([sys.executable, "-c", script], check=True)
