"""When a display draws: at most four times a second, at the end at once, and never in the way of the upload."""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue

import httpx
import pytest

from rxupload import Progress
from rxupload._notebook import display as module
from rxupload._notebook.display import Display, Ticker
from rxupload._notebook.report import Report

PATIENCE = 60.0


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class FakeTicker:
    """A ticker that keeps the times, for the test to update the display itself."""

    def __init__(self):
        self.times = []

    def at(self, display, when):
        self.times.append(when)


class FakeOutput:
    """An output that keeps the texts; it may fail."""

    def __init__(self, fails=False):
        self.updates = []
        self.ends = []
        self.fails = fails

    def update(self, shown):
        self.updates.append(shown.text)
        if self.fails:
            raise RuntimeError("the page is gone")

    def end(self, shown, saved):
        self.ends.append((shown.text, saved))
        if self.fails:
            raise RuntimeError("the page is gone")


@pytest.fixture
def ticker(monkeypatch):
    fake = FakeTicker()
    monkeypatch.setattr(module, "ticker", fake)
    return fake


def opened(output, **options):
    """A display on this output, and its clock."""
    clock = Clock()
    display = Display(Report("a.txt"), clock=clock, **options)
    display.open(lambda shown, is_over: output)
    return display, clock


class TestPace:
    def test_an_event_is_drawn_when_it_is_due(self, ticker):
        """Events are kept until a quarter of a second has passed since the last picture; then the latest is drawn."""
        output = FakeOutput()
        display, clock = opened(output)
        display.on_next(Progress(0, 10))
        display.on_next(Progress(5, 10))
        assert ticker.times == [100.25, 100.25]
        clock.now = 100.1
        display.update()
        assert output.updates == []
        assert ticker.times[2:] == [100.25]
        clock.now = 100.25
        display.update()
        assert len(output.updates) == 1
        assert "5 bytes of 10 bytes" in output.updates[0]

    def test_the_same_picture_is_not_sent_again(self, ticker):
        """An update that would draw the same sends nothing."""
        output = FakeOutput()
        display, clock = opened(output)
        clock.now = 101.0
        display.update()
        assert output.updates == []

    def test_the_rate_falls_without_events_until_it_is_zero(self, ticker):
        """While there is a rate, the next update is due after a second; after that, with the next event."""
        output = FakeOutput()
        display, clock = opened(output)
        display.on_next(Progress(0, 100))
        clock.now = 101.0
        display.on_next(Progress(50, 100))
        display.update()
        drawn = 0
        while ticker.times[-1] > clock.now:
            clock.now = ticker.times[-1]
            display.update()
            drawn += 1
        assert 3 <= drawn <= 7
        assert "0 bytes/s" in output.updates[-1]

    def test_what_comes_while_the_output_is_made_is_drawn(self, ticker):
        """An event that comes while the first picture is drawn is not lost."""
        output = FakeOutput()
        display = Display(Report(""), clock=Clock())

        def make(shown, is_over):
            display.on_next(Progress(5, 10))
            return output

        display.open(make)
        assert ticker.times == [100.25]


class TestEnd:
    @pytest.mark.parametrize(
        ("end", "said"),
        [
            (lambda display: display.on_completed(), "done 200 OK"),
            (lambda display: display.on_error(httpx.ConnectError("no")), "failed ConnectError: no"),
            (lambda display: display.stop(), "aborted"),
        ],
    )
    def test_it_is_drawn_at_once_and_once(self, ticker, end, said):
        """The end is drawn before the call returns, whatever is due; nothing is drawn after it."""
        output = FakeOutput()
        display, clock = opened(output)
        if said.startswith("done"):
            display.on_next(httpx.Response(200))
        clock.now += 2.5
        end(display)
        display.on_next(Progress(5, 10))
        display.update()
        display.on_completed()
        display.stop()
        assert output.updates == []
        ((text, saved),) = output.ends
        assert text == f"{said} \u00b7 in 2.5 s \u00b7 a.txt"
        assert saved == {"text/html": saved["text/html"], "text/plain": text}

    def test_an_end_before_the_output_is_the_first_picture(self, ticker):
        """A task that has ended is drawn once, as that."""
        display = Display(Report(""))
        display.on_next(httpx.Response(201))
        display.on_completed()
        made = []
        display.open(lambda shown, is_over: made.append((shown.text, is_over)))
        assert made == [("done 201 Created", True)]

    def test_it_leaves_nothing_if_asked_to(self, ticker):
        """With `leave=False` an empty text replaces the picture."""
        output = FakeOutput()
        display, _ = opened(output, leave=False)
        display.on_completed()
        assert output.ends[0][1] == {"text/plain": ""}


class TestFailure:
    @pytest.mark.parametrize("fails", ["open", "update", "end"])
    def test_it_is_logged_once_and_never_raised(self, ticker, caplog, fails):
        """If drawing fails, the log says so once; the display draws no more, and keeps no events."""
        output = FakeOutput(fails=True)
        clock = Clock()
        display = Display(Report(""), clock=clock)

        def make(shown, is_over):
            if fails == "open":
                raise RuntimeError("the page is gone")
            return output

        with caplog.at_level(logging.WARNING, "rxupload"):
            display.open(make)
            if fails != "end":
                for sent in range(3):
                    clock.now += 1
                    display.on_next(Progress(sent, 10))
                    display.update()
            display.on_completed()
            display.on_error(ValueError())
        assert [record.message for record in caplog.records] == [
            "The display of an upload failed, and is drawn no more"
        ]
        assert len(output.updates) + len(output.ends) == (fails != "open")
        assert not display._kept

    def test_an_item_that_cannot_be_read_does_not_raise(self, ticker, caplog):
        """A response of another library that cannot be read ends the display and not the upload."""

        class OddResponse:
            status_code = 200

            @property
            def reason_phrase(self):
                raise ValueError

        output = FakeOutput()
        display, _ = opened(output)
        with caplog.at_level(logging.WARNING, "rxupload"):
            display.on_next(OddResponse())
            display.on_completed()
        assert len(caplog.records) == 1
        assert output.ends == []

    def test_an_error_that_cannot_be_read_is_an_end(self, ticker):
        """An error whose text raises is told by its type."""

        class OddError(Exception):
            def __str__(self):
                raise ValueError

        output = FakeOutput()
        display, _ = opened(output)
        display.on_error(OddError())
        assert output.ends[0][0].startswith("failed OddError \u00b7 ")


class Told:
    """Stands for a display, and tells of its updates."""

    def __init__(self):
        self.updates = SimpleQueue()

    def update(self):
        self.updates.put((time.monotonic(), threading.current_thread()))


class TestTicker:
    def test_it_updates_on_another_thread_when_due(self):
        """An update comes at its time, on a thread of the library."""
        ticker, told = Ticker(), Told()
        due = time.monotonic() + 0.05
        ticker.at(told, due)
        moment, thread = told.updates.get(timeout=PATIENCE)
        assert moment >= due
        assert thread is not threading.current_thread()

    def test_an_earlier_time_wins(self):
        """An earlier time replaces a later one, also while the ticker waits for that; a later one has no effect."""
        ticker, told, other = Ticker(), Told(), Told()
        hour = time.monotonic() + 3600
        ticker.at(told, hour)
        ticker.at(other, hour)
        ticker.at(told, time.monotonic())
        ticker.at(told, hour)
        told.updates.get(timeout=PATIENCE)
        ticker.at(other, time.monotonic())
        other.updates.get(timeout=PATIENCE)

    def test_it_holds_no_thread_while_nothing_is_due(self):
        """With nothing left to do, its thread goes; the next update gets one again."""
        ticker, told = Ticker(), Told()
        for _ in range(3):
            ticker.at(told, 0.0)
            told.updates.get(timeout=PATIENCE)
        with ticker._changed:
            assert ticker._due == {}
