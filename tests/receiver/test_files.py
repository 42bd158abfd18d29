"""Where the receiver stores files, and that it never replaces one."""

from __future__ import annotations

import concurrent.futures
import string
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forms import CLOSING, FORM, PATIENCE, answer, connected, file_part, head, posix_only, stored


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("beach.jpg", "beach.jpg"),
        ("Überstrand 海滩 🏖.jpg", "Überstrand 海滩 🏖.jpg"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\beach.jpg", "beach.jpg"),
        ("..\\..\\beach.jpg", "beach.jpg"),
        ("photos/", "upload"),
        ("", "upload"),
        ("..", "upload"),
        (".bashrc", "bashrc"),
        ("beach.jpg. .", "beach.jpg"),
        ("a\0b\r\n\x7f.txt", "a_b___.txt"),
        ("beach\u202egpj.exe", "beach_gpj.exe"),
        ("beach.jpg:stream", "beach.jpg_stream"),
        ('<a>"b"|c?*', "_a__b__c__"),
        ("NUL", "_NUL"),
        ("con.tar.gz", "_con.tar.gz"),
        ("LPT¹ .txt", "_LPT¹ .txt"),
        ("console.txt", "console.txt"),
        ("x" * 300 + ".jpeg", "x" * 195 + ".jpeg"),
        ("海" * 100 + ".jpg", "海" * 65 + ".jpg"),
        ("x" * 300 + "." + "y" * 50, "x" * 180 + "." + "y" * 19),
        ("x" * 300 + ". long suffix with spaces", "x" * 180 + ". long suffix with s"),
        ("x" * 300 + ". long suffix with  spaces", "x" * 180 + ". long suffix with"),
    ],
)
def test_a_file_is_stored_under_a_harmless_name(client, url, inbox, filename, name):
    """Only the base name is used, without parts that a system or a terminal could misread."""
    client.post(url, content=file_part(filename, b"content") + CLOSING, headers=FORM)

    assert stored(inbox) == {name: b"content"}


def test_no_filename_leaves_the_directory(client, url, inbox):
    """Any filename gives one new file in the directory with a portable name, as the answer says."""
    fragments = [
        "/",
        "\\",
        "..",
        ".",
        "~",
        ":",
        "\0",
        "\r\n",
        " ",
        '"',
        "%",
        "%22",
        "CON",
        "nul",
        "com1",
        "C:",
    ]
    characters = st.characters(exclude_categories=["Cs"])
    filenames = st.lists(st.sampled_from(fragments) | st.text(characters, max_size=100), max_size=8).map(
        "".join
    )
    forbidden = {*string.printable[-5:], *map(chr, range(32)), *'<>:"/\\|?*'}

    @settings(max_examples=150)
    @given(filename=filenames)
    def check(filename):
        response = client.post(url, content=file_part(filename, b"content") + CLOSING, headers=FORM)
        (file,) = response.json()["files"]
        assert file["filename"] == filename.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
        assert list(inbox.parent.iterdir()) == [inbox]
        (path,) = inbox.iterdir()
        assert path.is_file()
        assert path.read_bytes() == b"content"
        assert not forbidden & set(path.name)
        assert path.name[0] != "."
        assert path.name[-1] not in ". "
        assert len(path.name.encode()) <= 255
        assert path.stem.partition(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
        path.unlink()

    check()


def test_a_file_never_replaces_another(client, url, inbox):
    """A repeated name gets a number before its suffix, even within one upload."""
    inbox.joinpath("beach (1).jpg").write_bytes(b"mine")
    body = file_part("beach.jpg", b"1") + file_part("beach.jpg", b"2") + file_part("README", b"3") + CLOSING

    client.post(url, content=body, headers=FORM)
    client.post(url, content=file_part("README", b"4") + CLOSING, headers=FORM)

    assert stored(inbox) == {
        "beach.jpg": b"1",
        "beach (1).jpg": b"mine",
        "beach (2).jpg": b"2",
        "README": b"3",
        "README (1)": b"4",
    }


def test_concurrent_uploads_of_one_name_are_all_stored(url, inbox):
    """Simultaneous uploads never get the same name."""
    count = 8
    together = threading.Barrier(count)

    def send(number):
        with connected(url) as sock:
            body = file_part("beach.jpg", b"%d" % number) + CLOSING
            sock.sendall(head(Content_Length=len(body)) + body[:-1])
            together.wait(PATIENCE)
            sock.sendall(body[-1:])
            return answer(sock)[0]

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        assert set(pool.map(send, range(count))) == {200}
    files = stored(inbox)
    assert set(files) == {"beach.jpg"} | {f"beach ({number}).jpg" for number in range(1, count)}
    assert set(files.values()) == {b"%d" % number for number in range(count)}


@posix_only
def test_a_symbolic_link_is_not_followed(client, url, inbox, tmp_path):
    """A link in the directory counts as a taken name, even if it is broken."""
    outside = tmp_path / "outside"
    inbox.joinpath("beach.jpg").symlink_to(outside)

    client.post(url, content=file_part("beach.jpg", b"content") + CLOSING, headers=FORM)

    assert not outside.exists()
    assert inbox.joinpath("beach (1).jpg").read_bytes() == b"content"


@posix_only
def test_a_file_has_the_permissions_of_any_new_file(client, url, inbox):
    """The umask decides, as for any file of the user."""
    inbox.joinpath("ordinary").touch()

    client.post(url, content=file_part("uploaded") + CLOSING, headers=FORM)

    assert inbox.joinpath("uploaded").stat().st_mode == inbox.joinpath("ordinary").stat().st_mode
