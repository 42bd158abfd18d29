"""httpx's own tests, from the sdist of the installed version: once unchanged and once on our transport."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

REPOSITORY = Path(__file__).parents[2]
TESTS = ("client", "test_api.py", "test_timeouts.py", "test_config.py")
NEEDED = ("chardet", "sniffio", "trio")  # packages that these tests import, and ours do not
LOOKS_INSIDE = "transport._pool"  # in the failing line
EXPECTS_HTTPCORE = "test_httpcore_lazy_loading"  # expects that a request loads httpcore, but ours does not


class Results(NamedTuple):
    """The outcome of a run: how many tests ran, and the text of each failure by the test's name."""

    count: int
    failures: dict[str, str]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The folder with httpx's `tests`, and with `needed` beside it."""
    version = metadata.version("httpx")
    pip("download", "--no-deps", "--no-binary=:all:", "--dest", str(tmp_path), f"httpx=={version}")
    pip("install", "--target", str(tmp_path / "needed"), *NEEDED)
    with tarfile.open(tmp_path / f"httpx-{version}.tar.gz") as sdist:
        sdist.extractall(tmp_path, filter="data")
    folder = tmp_path / "suite"  # without httpx's own code
    folder.mkdir()
    for name in ("tests", "pyproject.toml"):
        (tmp_path / f"httpx-{version}" / name).rename(folder / name)
    return folder


def pip(*arguments: str) -> None:
    """Run pip; skip the test if it cannot get the packages."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        reason = "no answer for 30 s"
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip()[-300:]
    else:
        return
    pytest.skip(f"pip cannot get httpx's sdist or what its tests need: {reason}")


def results(suite: Path, *options: str) -> Results:
    """Run the tests."""
    report = suite / "report.xml"
    report.unlink(missing_ok=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment["PYTHONPATH"] = os.pathsep.join(
        map(str, [REPOSITORY, REPOSITORY / "tests", suite.parent / "needed"])
    )
    command = [sys.executable, "-m", "pytest", *(f"tests/{each}" for each in TESTS)]
    command += ["-p", "no:cacheprovider", "-m", "not network", "--tb=short", f"--junitxml={report}"]
    # An async client causes it, and pytest blames the test that runs when it is collected.
    command += ["-W", "ignore:Async generator:ResourceWarning", *options]
    run = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    cases = list(ET.parse(report).iter("testcase"))
    failures = {}
    for case in cases:
        for each in (*case.iter("failure"), *case.iter("error")):
            failures[f"{case.get('classname')}::{case.get('name')}"] = each.text or ""
    return Results(len(cases), failures)


@pytest.mark.slow
def test_httpx_suite_passes_on_our_transport(suite: Path) -> None:
    """On our transport only those tests may fail that look inside httpx's transport or for httpcore."""
    theirs = results(suite)
    ours = results(suite, "-p", "support.httpx_on_our_transport")
    assert ours.count == theirs.count > 300
    more = {name: text for name, text in ours.failures.items() if name not in theirs.failures}
    looking_inside = {name for name, text in more.items() if LOOKS_INSIDE in text}
    assert looking_inside, "the transport under test is not ours"
    assert all(".test_proxies::" in name for name in looking_inside)
    others = {name: text for name, text in more.items() if name not in looking_inside}
    assert {name.partition("::")[2] for name in others} <= {EXPECTS_HTTPCORE}, "\n\n".join(others.values())
