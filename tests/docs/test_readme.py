"""The README: its length, its first screen, and its examples, which run unchanged."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from support.pages import ROOT, Page
from support.scripted_server import Server, header
from support.snippets import FourAtATime, Recipe, run_snippet
from support.threads import wait_for_threads

from rxupload import receiver
from rxupload.resumable import FileStore
from rxupload.testing import Connection

README = Page(ROOT / "README.md")
EXAMPLES = README.blocks("python")
RECIPES: dict[str, str] = dict(
    re.findall(
        r"^\*\*(.*?)\.?\*\*.*?^```python\n(.*?)^```$",
        README.text.partition("\n## Recipes\n")[2].partition("\n## ")[0],
        re.DOTALL | re.MULTILINE,
    )
)
FIRST_SCREEN = 50  # lines


def test_it_is_short():
    """It has at most 200 lines, so that somebody reads it."""
    assert len(README.text.splitlines()) <= 200


@pytest.mark.parametrize("name", ["demo", "tests", "demo-windows", "tests-windows"])
def test_commands_are_found_by_ci(name):
    """Each command is one line in its own block, after the marker that `.ci/run` looks for, on the first screen."""
    block = re.search(rf"<!-- command: {name} -->\n```\w+\n(.*)\n```\n", README.text)
    assert block
    assert ".venv-" + name.partition("-")[0] in block[1]
    assert README.text[: block.end()].count("\n") <= FIRST_SCREEN


def test_the_first_example_prints_what_is_below_it(capsys):
    """Six lines of code print what stands below them, where "..." stands for more of the same."""
    example, shown = EXAMPLES[0], README.blocks("text")[0].splitlines()
    assert len(example.splitlines()) == 6
    run_snippet(example, {})
    printed = capsys.readouterr().out.splitlines()
    dots = shown.index("...")
    assert printed[0] == shown[0]
    assert printed[dots - len(shown) + 1 :] == shown[dots + 1 :]
    between = printed[1 : dots - len(shown) + 1]
    assert {re.sub(r"sent=\d+", "sent=N", line) for line in between} == {
        re.sub(r"sent=\d+", "sent=N", line) for line in shown[1:dots]
    }


@pytest.fixture
def in_folder_with_photo(tmp_path, monkeypatch):
    """A working directory with the photo that the examples upload, and a state folder for unfinished uploads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_names, **_options: tmp_path / "state")
    Path("beach.jpg").write_bytes(bytes(1 << 20))
    Path("photos").mkdir()
    Path("photos/beach.jpg").write_bytes(bytes(1 << 20))


def test_examples(in_folder_with_photo, capfd):
    """The examples run one after the other, with the receiver instead of port 8000, which takes no presigned URL."""
    names: dict[str, object] = {}
    with receiver.running() as url:
        others = set(threading.enumerate())
        for example in EXAMPLES:
            if example == RECIPES["A presigned URL"]:
                continue
            run_snippet(example.replace("http://127.0.0.1:8000/", url), names)
            # Those of an upload that the example left running; not those of tqdm, the receiver or the errands.
            wait_for_threads(
                lambda thread: (
                    thread not in others
                    and type(thread) is threading.Thread
                    and not thread.name.startswith(("asyncio", "rxupload errands"))
                )
            )
        assert names["task"].result()["statusCode"] == 200
        assert (
            names["video"].run().extensions["rxupload"]["resumable"].sent_now == 1 << 20
        )  # the first one is done
    assert FileStore().uploads() == []
    assert "answered 200" in capfd.readouterr().out


def recipe(title: str, server: Server) -> Recipe:
    """A recipe that has been run alone and unchanged, with this server instead of port 8000."""
    return Recipe(RECIPES[title].replace("http://127.0.0.1:8000/", server.url)).run()


def test_there_are_three_recipes():
    """The README has three recipes, each with a test here; the others are in the notebook."""
    assert list(RECIPES) == [
        "Retry, and log each retry",
        "A folder, four at a time, with a bar",
        "A presigned URL",
    ]


def test_retry(in_folder_with_photo, caplog):
    """The 503 is logged, and followed by a second attempt with the same key."""
    heads: list[bytes] = []

    def busy_at_first(connection: Connection) -> None:
        while head := connection.read_head():
            connection.read_body()
            heads.append(head)
            if len(heads) == 1:
                connection.respond(503, b"", "Retry-After: 0")  # no jitter
            else:
                connection.respond(200)

    with Server(busy_at_first) as server:
        names = recipe("Retry, and log each retry", server).names
    assert names["response"].status_code == 200
    assert len(heads) == 2
    key = header(heads[0], b"idempotency-key")
    assert key
    assert header(heads[1], b"idempotency-key") == key
    assert re.fullmatch(r"attempt 1 failed: .*503.*; next in 0.5 s", caplog.messages[0], re.DOTALL)


def test_folder(in_folder_with_photo, capfd):
    """At most four run at once, all readable files arrive, and the totals and the failure are printed."""
    Path("photos/inner").mkdir()
    for number in range(7):
        Path(f"photos/inner/{number}.jpg").write_bytes(bytes([number]) * 1000)
    Path("photos/folder.jpg").mkdir()
    together = FourAtATime()
    with Server(together) as server:
        folder = recipe("A folder, four at a time, with a bar", server)
    assert together.most == 4
    assert together.arrived == {
        b"photos/beach.jpg",
        *(b"photos/inner/%d.jpg" % number for number in range(7)),
    }
    lines = folder.all_printed()
    assert lines.startswith("8 done, 1 failed, 1.1 MB in ")
    assert "folder.jpg [Errno 21] Is a directory" in lines
    assert "1.06M/1.06M" in capfd.readouterr().err


def test_presigned_url(in_folder_with_photo):
    """The body is the file and nothing else, with its type and length, and the target is as it stands."""
    seen: list[tuple[bytes, bytes]] = []

    def store(connection: Connection) -> None:
        head = connection.read_head()
        seen.append((head, connection.read_body()))
        connection.respond(200)

    with Server(store) as server:
        assert recipe("A presigned URL", server).names["response"].status_code == 200
    ((head, body),) = seen
    target = b"/bucket/beach.jpg?X-Amz-Expires=3600&X-Amz-Signature=a%2Fb%2Bc"
    assert head.startswith(b"PUT " + target + b" HTTP/1.1\r\n")
    assert header(head, b"content-type") == b"image/jpeg"
    assert header(head, b"content-length") == b"%d" % (1 << 20)
    assert body == bytes(1 << 20)
