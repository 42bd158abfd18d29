"""A path that was checked to lie in a folder: what is opened lies there too, whenever a link is swapped in."""

from __future__ import annotations

import os
import posixpath
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from reactivex.scheduler import ImmediateScheduler
from support.descriptors import descriptors
from support.scripted_server import Server

import rxupload._sources
from rxupload import upload
from rxupload._sources import Inside
from rxupload.testing import Connection
from rxupload.uploadtask import arguments

GOOD, SECRET = b"good", b"secret"
FLAGS = os.O_RDONLY
ROOM = Path(rxupload._sources.__file__).parent

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="these tests swap symbolic links while a file may be open"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a file in a subfolder, and beside it another one that nobody may read."""
    for name, content in (("folder", GOOD), ("outside", SECRET)):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/a.txt").write_bytes(content)
    return tmp_path / "folder"


def read(inside: Inside) -> bytes:
    descriptor = inside.open(FLAGS)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


# What it opens


def test_a_file_is_opened(folder):
    """A file in the folder is opened; `..` may be in the path as long as it stays inside."""
    assert read(Inside(folder, "sub/a.txt")) == GOOD
    assert read(Inside(folder, "sub/../sub/a.txt")) == GOOD
    assert os.fspath(Inside(folder, "sub/a.txt")) == str(folder.resolve() / "sub/a.txt")


@pytest.mark.parametrize("link", ["link", "folder link/a.txt", "chain", "sub/up"])
def test_links_that_stay_inside_are_followed(folder, link):
    """A link to a file or to a folder is followed as long as it stays inside, even if the folder itself is one."""
    (folder / "link").symlink_to("sub/a.txt")
    (folder / "folder link").symlink_to(folder / "sub")
    (folder / "chain").symlink_to("link")
    (folder / "sub/up").symlink_to("../../folder/link")
    (folder.parent / "other name").symlink_to(folder)
    assert read(Inside(folder, link)) == GOOD
    assert read(Inside(folder.parent / "other name", link)) == GOOD


@pytest.mark.parametrize(
    "path", ["../outside/sub/a.txt", "/etc/passwd", "link", "folder link/sub/a.txt", "sub/../.."]
)
def test_what_is_outside_is_refused(folder, path):
    """A path that leads out, by itself or by a link, is refused before anything is opened."""
    (folder / "link").symlink_to(folder.parent / "outside/sub/a.txt")
    (folder / "folder link").symlink_to("../outside")
    with pytest.raises(ValueError, match="leads out"):
        Inside(folder, path)


@pytest.mark.parametrize(
    ("path", "error"),
    [("missing", FileNotFoundError), ("missing/a", FileNotFoundError), ("sub/a.txt/b", NotADirectoryError)],
)
def test_a_missing_file_has_the_systems_error(folder, path, error):
    """The error of the system has the whole path."""
    with pytest.raises(error) as raised:
        Inside(folder, path).open(FLAGS)
    assert raised.value.filename == str(folder.resolve() / path)


def test_a_folder_on_the_way_need_not_be_readable(folder):
    """To search a folder is enough, as for any other path."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (folder / "sub").chmod(stat.S_IXUSR)
    try:
        assert read(Inside(folder, "sub/a.txt")) == GOOD
    finally:
        (folder / "sub").chmod(stat.S_IRWXU)


def test_no_descriptor_stays_open(folder):
    """Neither a success nor a failure leaves a descriptor behind."""
    before = descriptors()
    for path in ("sub/a.txt", "missing", "sub/a.txt/b"):
        with suppress(OSError):
            read(Inside(folder, path))
    assert descriptors() <= before


# Links that are swapped in


class Swap:
    """Puts a link in the place of a file or a folder, and takes it away again."""

    def __init__(self, place: Path, target: Path) -> None:
        self._place = place
        self._target = target
        self._away = place.with_name(place.name + " away")

    def swap(self) -> None:
        self._place.rename(self._away)
        self._place.symlink_to(self._target)

    def restore(self) -> None:
        if self._away.exists():
            self._place.unlink()
            self._away.rename(self._place)


def swaps(folder: Path) -> dict[str, Swap]:
    outside = folder.parent / "outside"
    return {
        "the file": Swap(folder / "sub/a.txt", outside / "sub/a.txt"),
        "the folder on the way": Swap(folder / "sub", outside / "sub"),
        "the folder itself": Swap(folder, outside),
    }


SWAPS = ["the file", "the folder on the way", "the folder itself"]


@pytest.mark.parametrize("what", SWAPS)
def test_a_link_after_the_check_is_not_followed(folder, what):
    """A link that takes the place of the file, or of any folder on the way, is not followed."""
    inside = Inside(folder, "sub/a.txt")
    swaps(folder)[what].swap()
    with pytest.raises(PermissionError, match="symbolic link") as raised:
        inside.open(FLAGS)
    assert raised.value.filename == os.fspath(inside)


def test_without_a_link_it_may_be_replaced(folder):
    """Another file in the folder under the same name is opened."""
    inside = Inside(folder, "sub/a.txt")
    (folder / "sub/b.txt").write_bytes(b"another")
    (folder / "sub/b.txt").replace(folder / "sub/a.txt")
    assert read(inside) == b"another"


class Injection:
    """Calls an action before the n-th line that runs in the library's sources, its check, or the system's paths."""

    files = (str(ROOM), arguments.__file__, posixpath.__file__)

    def __init__(self, actions: dict[int, Callable[[], None]]) -> None:
        self._actions = actions
        self.lines = 0

    def __enter__(self) -> Injection:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(self.files):
            return None
        if event == "line":
            self.lines += 1
            action = self._actions.get(self.lines)
            if action is not None:
                action()
        return self._trace


def uploaded(url: str, root: Path) -> None:
    """Check the argument of `uploadFile`, and upload in place."""
    with suppress(OSError, ValueError):
        path, name = arguments._check_path({"filePath": f"internal://{root.name}/sub/a.txt"})
        upload(url, path, filename=name).run(ImmediateScheduler())


@pytest.mark.parametrize("restored", [1, 2, 5, 20, None])
@pytest.mark.parametrize("what", ["the file", "the folder on the way"])
def test_no_moment_of_a_swap_leads_outside(tmp_path, monkeypatch, what, restored):
    """A link is swapped in before each line that runs, and away again some lines later: the secret never leaves."""
    folder = tmp_path / "mass"
    for path, content in ((folder, GOOD), (tmp_path / "outside", SECRET)):
        (path / "sub").mkdir(parents=True)
        (path / "sub/a.txt").write_bytes(content)
    monkeypatch.setattr(arguments, "_internal_root", tmp_path)
    received: list[bytes] = []

    def script(connection: Connection) -> None:
        while connection.read_head():
            received.append(connection.read_body())
            connection.respond()

    swap = swaps(folder)[what]
    with Server(script) as server:
        with Injection({}) as counting:
            uploaded(server.url, folder)
        assert len(received) == 1
        for line in range(1, counting.lines + 1):
            actions = {line: swap.swap}
            if restored is not None:
                actions[line + restored] = swap.restore
            with Injection(actions):
                uploaded(server.url, folder)
            swap.restore()
        server.errors.clear()
    assert not [body for body in received if SECRET in body]
    assert all(GOOD in body for body in received)
    if restored is not None:
        assert len(received) > 1
