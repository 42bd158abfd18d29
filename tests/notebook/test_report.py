"""What a notebook's display says of an upload or of a batch."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from rxupload import BatchProgress, BatchSummary, Progress, UploadAborted
from rxupload._notebook.report import Report, Shown
from rxupload._rates import Tally

MB = 1_000_000


def text_of(*items, title="", now=0.0, state=None):
    """The text of a report that got these items, one each second from 0 on."""
    report = Report(title, state)
    for second, item in enumerate(items):
        report.take(item, float(second))
    return report.picture(now).text


class TestUpload:
    def test_it_says_state_percent_bytes_rate_and_time_left(self):
        """While it runs, the text has all of them, and the title."""
        text = text_of(
            Progress(0, 3 * MB), Progress(MB, 3 * MB), title="a.txt to http://upload.test/", now=1.0
        )
        assert text == (
            "uploading \u00b7 33% \u00b7 1.0 MB of 3.0 MB \u00b7 1.0 MB/s \u00b7 2 s left \u00b7 a.txt to http://upload.test/"
        )

    @pytest.mark.parametrize(
        ("items", "state", "said"),
        [
            ([], None, "starting"),
            ([], "queued", "queued"),
            ([], "uploading", "starting"),
            ([Progress(0, 10)], "uploading", "uploading \u00b7 0% \u00b7 0 bytes of 10 bytes"),
            ([Progress(0, 10)], None, "uploading \u00b7 0% \u00b7 0 bytes of 10 bytes"),
            ([Progress(10, 10)], "waiting", "waiting for the response \u00b7 100% \u00b7 10 bytes"),
            ([Progress(10, 10)], None, "waiting for the response \u00b7 100% \u00b7 10 bytes"),
            ([Progress(0, 0)], None, "waiting for the response \u00b7 100% \u00b7 0 bytes"),
            ([Progress(0, 10, 2)], None, "uploading \u00b7 0% \u00b7 0 bytes of 10 bytes \u00b7 attempt 2"),
        ],
    )
    def test_states(self, items, state, said):
        """A task tells its own state; without a task, the progress tells it."""
        assert text_of(*items, state=None if state is None else lambda: state) == said

    def test_a_resumed_upload_tells_what_was_there_before(self):
        """It tells that and what is sent now. The former is no part of the rate, nor a jump of it in a new attempt."""
        items = [Progress(5 * MB, 9 * MB, 1, 5 * MB), Progress(6 * MB, 9 * MB, 1, 5 * MB)]
        begun = "uploading \u00b7 55% \u00b7 5.0 MB of 9.0 MB \u00b7 5.0 MB before, 0 bytes now"
        assert text_of(items[0]) == begun
        assert text_of(*items, now=1.0) == (
            "uploading \u00b7 66% \u00b7 6.0 MB of 9.0 MB \u00b7 5.0 MB before, 1.0 MB now"
            " \u00b7 1.0 MB/s \u00b7 3 s left"
        )
        again = [Progress(7 * MB, 9 * MB, 2, 7 * MB), Progress(8 * MB, 9 * MB, 2, 7 * MB)]
        assert "attempt 2 \u00b7 1.0 MB/s \u00b7 1 s left" in text_of(*items, *again, now=3.0)

    def test_the_end_of_a_resumed_upload_tells_it_too(self):
        """The end keeps what was there before and what was sent, in the text and as two tints."""
        report = Report("")
        for second, sent in enumerate((5, 10)):
            report.take(Progress(sent * MB, 10 * MB, 1, 5 * MB), float(second))
        report.take(httpx.Response(204), 1.0)
        report.complete()
        shown = report.picture(1.0)
        assert shown.text == "done 204 No Content \u00b7 100% \u00b7 10.0 MB \u00b7 5.0 MB before, 5.0 MB now"
        assert (shown.before, shown.fraction) == (0.5, 1.0)

    @pytest.mark.parametrize("total", [None, 0])
    def test_without_a_size_nothing_before_is_tinted(self, total):
        """If the size is unknown or 0, the picture has no tint for what was there before."""
        report = Report("")
        report.take(Progress(0, 0) if total == 0 else Progress(5, None, 1, 5), 0.0)
        assert report.picture(0.0).before == 0.0

    def test_a_stall_brings_the_rate_to_zero(self):
        """Without events the rate falls, and then there is no time left to tell."""
        report = Report("")
        report.take(Progress(0, 3 * MB), 0.0)
        report.take(Progress(MB, 3 * MB), 1.0)
        assert "500.0 kB/s" in report.picture(2.0).text
        assert report.is_moving
        assert report.picture(7.0).text == "uploading \u00b7 33% \u00b7 1.0 MB of 3.0 MB \u00b7 0 bytes/s"
        assert not report.is_moving

    def test_without_a_total_there_is_neither_percent_nor_bar(self):
        """With an unknown size, the text has the bytes and the rate, and no tint shows until the end."""
        report = Report("")
        report.take(Progress(0, None), 0.0)
        report.take(Progress(MB, None), 1.0)
        shown = report.picture(1.0)
        assert (shown.text, shown.fraction) == ("uploading \u00b7 1.0 MB \u00b7 1.0 MB/s", 0.0)
        report.take(httpx.Response(200), 2.0)
        report.complete()
        assert report.picture(2.0).fraction == 1.0

    @pytest.mark.parametrize(
        ("status", "said", "color"),
        [
            (200, "done 200 OK", "76,175,80"),
            (404, "done 404 Not Found", "255,152,0"),
            (302, "done 302 Found", "255,152,0"),
        ],
    )
    def test_done(self, status, said, color):
        """The end has the status, green for 2xx and amber for others; the rate is gone."""
        report = Report("")
        report.take(Progress(0, 10), 0.0)
        report.take(Progress(10, 10), 1.0)
        report.take(httpx.Response(status), 1.0)
        report.complete()
        shown = report.picture(1.0)
        assert shown.text == f"{said} \u00b7 100% \u00b7 10 bytes"
        assert color in shown.tint

    def test_an_early_answer_leaves_the_bar_where_it_was(self):
        """If the server answers early, the bar shows how far the body came."""
        report = Report("")
        report.take(Progress(2, 10), 0.0)
        report.take(httpx.Response(413), 0.0)
        report.complete()
        assert report.picture(0.0).fraction == 0.2

    def test_failed(self):
        """The end has the type and the text of the error, without the secrets of an address, in one line."""
        report = Report("")
        report.fail(httpx.ConnectError("no route\nto http://me:s3cret@upload.test/?key=s3cret"))
        shown = report.picture(0.0)
        assert shown.text == "failed ConnectError: no route to http://upload.test/"
        assert "244,67,54" in shown.tint

    def test_an_error_without_a_text_has_its_name(self):
        """An error without a text is named."""
        report = Report("")
        report.fail(TimeoutError())
        assert report.picture(0.0).text == "failed TimeoutError"

    def test_a_long_error_is_cut(self):
        """A long text of an error is cut."""
        report = Report("")
        report.fail(ValueError("x" * 1000))
        assert len(report.picture(0.0).text) < 250

    @pytest.mark.parametrize(
        "end", [lambda report: report.stop(), lambda report: report.fail(UploadAborted("x"))]
    )
    def test_aborted(self, end):
        """A dispose and an abort are both told as aborted, with what had been sent."""
        report = Report("")
        report.take(Progress(5, 10), 0.0)
        end(report)
        assert report.picture(0.0).text == "aborted \u00b7 50% \u00b7 5 bytes of 10 bytes"

    def test_the_end_tells_the_time_and_the_mean_rate(self):
        """They are from the start to the end, over all passes, without what the server had before."""
        report = Report("a.txt")
        report.begin(0.0)
        report.take(Progress(2 * MB, 9 * MB, 1, 2 * MB), 1.0)
        report.take(Progress(5 * MB, 9 * MB, 1, 2 * MB), 2.0)
        report.take(Progress(4 * MB, 9 * MB, 2, 4 * MB), 3.0)
        report.take(Progress(9 * MB, 9 * MB, 2, 4 * MB), 4.0)
        report.complete()
        assert report.picture(4.0).text.endswith(
            "4.0 MB before, 5.0 MB now \u00b7 attempt 2 \u00b7 in 4.0 s \u00b7 2.0 MB/s \u00b7 a.txt"
        )

    def test_a_long_time_is_told_in_minutes(self):
        """From a minute on, the time is in minutes or hours."""
        report = Report("")
        report.begin(0.0)
        report.fail(TimeoutError())
        assert report.picture(125.0).text == "failed TimeoutError \u00b7 in 2 min 5 s"

    def test_a_task_is_shown_at_its_end_as_it_was(self):
        """With the tally of a task that has ended, no event is needed, and the time does not go on."""
        tally = Tally()
        tally.begin(0.0)
        tally.take(Progress(5, 10))
        tally.end(2.0)
        tally.take(Progress(6, 10))
        report = Report("a.txt", lambda: "aborted", tally)
        report.fail(UploadAborted("x"))
        text = "aborted \u00b7 50% \u00b7 5 bytes of 10 bytes \u00b7 in 2.0 s \u00b7 2 bytes/s \u00b7 a.txt"
        assert report.picture(99.0).text == text

    def test_a_dispose_after_the_response_is_no_abort(self):
        """If an operator disposes once it has the response, as `retry_backoff` does, the end has the status."""
        report = Report("")
        report.take(httpx.Response(503), 0.0)
        report.stop()
        assert report.picture(0.0).text == "done 503 Service Unavailable"


class TestBatch:
    def test_it_counts_files_until_the_bytes_are_known(self):
        """The percent and the bar are of files, and then of bytes."""
        report = Report("")
        report.take(BatchProgress(0, 0, 1, 40, None, 3), 0.0)
        report.take(BatchProgress(1, 0, 1, 50, None, 4), 1.0)
        shown = report.picture(1.0)
        assert (shown.text, shown.fraction) == (
            "running \u00b7 25% \u00b7 50 bytes \u00b7 1 of 4 files \u00b7 10 bytes/s",
            0.25,
        )
        report.take(BatchProgress(1, 0, 1, 60, 120, 4), 2.0)
        shown = report.picture(2.0)
        assert shown.fraction == 0.5
        assert shown.text == (
            "running \u00b7 50% \u00b7 60 bytes of 120 bytes \u00b7 1 of 4 files \u00b7 10 bytes/s \u00b7 6 s left"
        )

    def test_with_neither_total_nor_count_it_counts_what_has_ended(self):
        """Without a total and a count, there is no percent."""
        assert text_of(BatchProgress(2, 0, 1, 0, None)) == "running \u00b7 0 bytes \u00b7 2 files"

    def test_one_file_is_one_file(self):
        """A batch of one has "1 file"."""
        assert (
            text_of(BatchProgress(1, 0, 0, 5, 5, 1))
            == "running \u00b7 100% \u00b7 5 bytes \u00b7 1 of 1 file"
        )
        assert text_of(BatchProgress(1, 0, 1, 0, None)) == "running \u00b7 0 bytes \u00b7 1 file"

    def test_it_is_amber_once_one_has_failed(self):
        """A failure is counted, and the tint is amber from then on."""
        report = Report("")
        report.take(BatchProgress(1, 1, 1, 0, None, 3), 0.0)
        shown = report.picture(0.0)
        assert shown.text == "running \u00b7 66% \u00b7 0 bytes \u00b7 2 of 3 files \u00b7 1 failed"
        assert "255,152,0" in shown.tint

    @pytest.mark.parametrize(("failed", "color"), [(0, "76,175,80"), (1, "255,152,0")])
    def test_done(self, failed, color):
        """The end is green if all succeeded, and else amber."""
        report = Report("")
        report.take(BatchProgress(2 - failed, failed, 0, 10, 10, 2), 0.0)
        report.take(BatchSummary(2 - failed, failed, Counter(), [], 10, 2.0), 0.0)
        report.complete()
        shown = report.picture(0.0)
        assert shown.text.startswith("done \u00b7 100% \u00b7 10 bytes \u00b7 2 of 2 files")
        assert shown.text.endswith(" \u00b7 in 2.0 s \u00b7 5 bytes/s")
        assert color in shown.tint

    def test_a_retry_that_takes_bytes_back_gives_no_negative_rate(self):
        """When a new attempt takes bytes back, the rate starts again."""
        report = Report("")
        for second, sent in enumerate((0, 100, 50)):
            report.take(BatchProgress(0, 0, 1, sent, None, 2), float(second))
        assert "-" not in report.picture(3.0).text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "1 s"), (59, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s"), (7260, "2 h 1 min")],
)
def test_time_left(seconds, said):
    """The time left is in seconds, minutes or hours."""
    assert f" {said} left" in text_of(Progress(0, seconds + 1), Progress(1, seconds + 1), now=1.0)


class TestHTML:
    def test_all_texts_are_escaped(self):
        """Neither a name nor an error can put an element into the page."""
        shown = Shown("failed ValueError: <script>alert('1')</script> & \"quoted\"", 0.5, "rgba(0,0,0,.3)")
        assert "<script>" not in shown.html
        assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; &quot;quoted&quot;" in shown.html

    def test_it_is_one_element_with_inherited_colours_and_a_fixed_height(self):
        """One div, whose text colour is the page's, and whose height never changes."""
        html = Shown("uploading", 0.451, "rgba(0,0,0,.3)").html
        assert html.count("<") == 2
        assert "height:28px" in html
        assert ";color:" not in html
        assert "linear-gradient(90deg,rgba(0,0,0,.3) 45.1%,transparent 45.1%)" in html

    def test_what_was_there_before_is_grey(self):
        """The tint begins where the grey ends, and no space is between them."""
        html = Shown("uploading", 0.75, "rgba(0,0,0,.3)", 0.5).html
        assert (
            "linear-gradient(90deg,rgba(128,128,128,.3) 50.0%,rgba(0,0,0,.3) 50.0%,rgba(0,0,0,.3) 75.0%,"
            "transparent 75.0%)" in html
        )

    def test_controls_do_not_reach_the_page(self):
        """Line breaks become spaces, and control characters and those that turn the direction become U+FFFD."""
        assert text_of(title="a\nb\x1b[2J\u202e.txt") == "starting \u00b7 a b\ufffd[2J\ufffd.txt"
