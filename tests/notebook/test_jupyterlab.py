"""`notebooks/first_upload.ipynb` in JupyterLab, in a headless Chromium: what one sees, presses, saves and reopens."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jupyterlab", reason="JupyterLab is in the extra `browser`, which .ci/run installs")
pytest.importorskip("selenium", reason="selenium is in the extra `browser`, which .ci/run installs")

from support.jupyterlab import Browser, jupyterlab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (sys.platform == "linux" and shutil.which("chromium") and shutil.which("chromedriver")),
        reason="the browser is Debian's chromium with its chromium-driver, which .ci/run installs",
    ),
]

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "first_upload.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"
READABLE = 4.5  # the least contrast of text (WCAG 2.2, section 1.4.3)

BAR = ".jp-OutputArea-output div[style*='linear-gradient']"  # the first is the live task's
# The cell of the live task is the one that shows its state; the text of its line, or null.
LINE = r"""
    const lines = [...document.querySelectorAll(".jp-OutputArea-output div[style*='linear-gradient']")];
    return lines.map(line => line.textContent)
        .find(text => /^(queued|uploading|waiting|done|failed|aborted)\b/.test(text));
"""
BUTTON = """
    return [...document.querySelectorAll(".jp-OutputArea button")].find(each => each.textContent == "Abort");
"""
RAN = """
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(each => each.textContent);
    return prompts.length > 0 && prompts.every(each => /[0-9]/.test(each));
"""
# The contrast of a line's text with the ground of its page.
CONTRAST = """
    const line = document.querySelector(".jp-OutputArea-output div[style*='linear-gradient']");
    const rgb = text => text.match(/[0-9.]+/g).map(Number);
    const light = text => rgb(text).slice(0, 3).map(each => each / 255)
        .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        .reduce((sum, each, n) => sum + each * [0.2126, 0.7152, 0.0722][n], 0);
    let ground = line;
    while (ground.parentElement && (rgb(getComputedStyle(ground).backgroundColor)[3] ?? 1) == 0)
        ground = ground.parentElement;
    const [low, high] = [getComputedStyle(line).color, getComputedStyle(ground).backgroundColor]
        .map(light).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the notebook."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder)
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path / "chromium")
    yield made
    made.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where the screenshots go, to be looked at."""
    folder = Path(os.environ.get("RXUPLOAD_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(exist_ok=True)
    return folder


def percent(line: str) -> int:
    return int(re.search(r"(\d+)%", line)[1])


def saved_outputs(notebook: Path) -> list[dict[str, object]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_a_live_task(folder, tmp_path, browser, pictures):
    """The bar moves, Abort ends the task, and the end stands in the notebook that is saved and opened again."""
    copy = folder / NOTEBOOK.name
    source = copy.read_text(encoding="utf-8")
    assert "rate_limit=300_000" in source
    copy.write_text(
        source.replace("rate_limit=300_000", "rate_limit=30_000"), encoding="utf-8"
    )  # for a slow browser
    with jupyterlab(folder, tmp_path) as address:
        browser.open(address.format(NOTEBOOK.name))
        browser.run_all()
        button = browser.until(BUTTON)
        first = percent(browser.until(LINE))
        while percent(browser.until(LINE)) == first:
            browser.next_frame()
        for theme in ("Dark", "Light"):
            browser.theme(f"JupyterLab {theme}")
            browser.screenshot(pictures / f"running-{theme.lower()}.png", BAR)
            assert browser.script(CONTRAST) >= READABLE
        button.click()
        browser.until(LINE.replace("/^(", "/^(?=aborted)("))
        browser.until(RAN)
        browser.command("docmanager:save")
        browser.screenshot(pictures / "aborted.png", BAR)
        outputs = saved_outputs(folder / NOTEBOOK.name)
        assert not [each for each in outputs if each["output_type"] == "error"]
        assert not [each for each in outputs if WIDGET in each.get("data", {})]
        assert any(
            "".join(each.get("data", {}).get("text/plain", [])).startswith("aborted") for each in outputs
        )
        browser.open(address.format(NOTEBOOK.name))
        assert browser.until(LINE).startswith("aborted")
        browser.screenshot(pictures / "opened-again.png", BAR)


def test_without_ipywidgets(folder, tmp_path, browser, pictures):
    """Without ipywidgets there is no button, and the bar moves to its end."""
    with jupyterlab(folder, tmp_path, has_widgets=False) as address:
        browser.open(address.format(NOTEBOOK.name))
        browser.run_all()
        first = percent(browser.until(LINE))
        while percent(browser.until(LINE)) == first:
            browser.next_frame()
        browser.screenshot(pictures / "without-widgets.png", BAR)
        assert browser.script(BUTTON) is None
        browser.until(LINE.replace("/^(", "/^(?=done 200 OK)("))
        browser.until(RAN)
        browser.command("docmanager:save")
        outputs = saved_outputs(folder / NOTEBOOK.name)
        assert not [each for each in outputs if each["output_type"] == "error"]
        browser.open(address.format(NOTEBOOK.name))
        assert browser.until(LINE).startswith("done 200 OK")
