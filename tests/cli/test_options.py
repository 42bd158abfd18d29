"""The options of `rxupload send` that shape the request, as people of curl and httpie type them."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from support.command_line import command, in_own_process, parse_form, posix_only
from support.scripted_server import header

from rxupload._cli import values
from rxupload._cli.arguments import make_parser
from rxupload.receiver import running


def test_f_adds_fields_and_files_in_their_order(cli, server, photo, tmp_path):
    """-F NAME=VALUE and -F NAME=@PATH;type=...;filename=... come in their order, and the FILE after them."""
    thumb = tmp_path / "thumb.png"
    thumb.write_bytes(b"small")
    form = [
        ["-F", "title=a=b; c"],
        ["-F", f"thumb=@{thumb};type=image/x-small;filename=t.png"],
        ["-F", 'meta={"a": 1};type=application/json; charset=utf-8'],
        ["-F", f'other=@{thumb};filename="two words.png"'],
        ["--form-string", "handle=@anna;type=text/plain"],
    ]
    result = cli("send", server.url, photo, *[word for pair in form for word in pair])

    assert result.status == 0
    ((head, body),) = server.requests
    parts = [(part.name, part.filename, part.content_type, part.content) for part in parse_form(head, body)]
    assert parts == [
        ("title", None, None, b"a=b; c"),
        ("thumb", "t.png", "image/x-small", b"small"),
        ("meta", None, "application/json; charset=utf-8", b'{"a": 1}'),
        ("other", "two words.png", "image/png", b"small"),
        ("handle", None, None, b"@anna;type=text/plain"),
        ("file", "beach.jpg", "image/jpeg", photo.read_bytes()),
    ]


@pytest.mark.parametrize(
    ("ours", "curl_s"),
    [
        (["--retries", "2"], ["--retry", "2"]),
        (["--timeout", "3"], ["--max-time", "3"]),
        (["--timeout", "3"], ["-m", "3"]),
        (["--proxy", "http://127.0.0.1:1"], ["-x", "http://127.0.0.1:1"]),
        (["--quiet"], ["--silent"]),
        (["--quiet"], ["-s"]),
    ],
    ids=str,
)
def test_curl_s_names_of_options(ours, curl_s):
    """What curl calls by another name is taken by that name, too."""
    parsed = [vars(make_parser().parse_args(["send", "http://h/", "f", *each])) for each in (ours, curl_s)]
    for each in parsed:
        del each["parser"]
    assert str(parsed[0]) == str(parsed[1])


@pytest.mark.parametrize("subcommand", ["demo", "send", "receive", "resumable"])
def test_an_unknown_option_shows_the_usage_of_the_subcommand(cli, subcommand):
    """The usage is that of the subcommand, which has the options."""
    words = {"send": ["http://h/", "f"], "resumable": ["list"]}.get(subcommand, [])
    result = cli(subcommand, *words, "--nope")

    assert result.status == 2
    assert result.err.startswith(f"usage: rxupload {subcommand} ")
    assert result.err.endswith(f"rxupload {subcommand}: error: unrecognized arguments: --nope\n")


def test_f_with_a_file_needs_no_other(cli, server, photo):
    """`-F photo=@beach.jpg` alone is one request, as with curl."""
    result = cli("send", server.url, "-F", f"photo=@{photo}", "-F", "title=sea")

    assert (result.status, result.out) == (0, "stored")
    assert result.err.splitlines()[-1] == f"{photo}: 200 OK"
    ((head, body),) = server.requests
    assert [(part.name, part.filename) for part in parse_form(head, body)] == [
        ("photo", "beach.jpg"),
        ("title", None),
    ]


def test_f_takes_standard_input(server):
    """`-F name=@-` is standard input."""
    args = command("send", server.url, "-F", "log=@-;filename=a.log;type=text/plain")
    assert in_own_process(args, input=b"lines").status == 0
    ((head, body),) = server.requests
    (part,) = parse_form(head, body)
    assert (part.name, part.filename, part.content_type, part.content) == (
        "log",
        "a.log",
        "text/plain",
        b"lines",
    )


@pytest.mark.parametrize(
    ("options", "method", "content_type"),
    [
        (["-T"], b"PUT", b"image/jpeg"),
        (["--raw", "-X", "PATCH"], b"PATCH", b"image/jpeg"),
        (["-T", "--type", "image/x-raw", "--method", "POST"], b"POST", b"image/x-raw"),
        (["-T", "--type", ""], b"PUT", None),
        (["-T", "-H", "Content-Type: a/b"], b"PUT", b"a/b"),
    ],
)
def test_t_sends_the_bytes_alone(cli, server, photo, options, method, content_type):
    """-T sends the file as the body, with PUT unless -X says otherwise."""
    assert cli("send", server.url, photo, *options).status == 0
    ((head, body),) = server.requests
    assert body == photo.read_bytes()
    assert (head.split(b" ")[0], header(head, b"content-type")) == (method, content_type)


def test_filename_and_type_are_those_of_the_part(cli, server, photo):
    """--filename and --type replace what the path would say; -X is the method."""
    assert cli("send", server.url, photo, "--filename", "a b.tar", "--type", "x/y", "-X", "PUT").status == 0
    ((head, body),) = server.requests
    (part,) = parse_form(head, body)
    assert (part.filename, part.content_type, head.split(b" ")[0]) == ("a b.tar", "x/y", b"PUT")


def test_h_is_a_header(cli, server, photo):
    """-H may be repeated, with or without a blank after the colon."""
    assert cli("send", server.url, photo, "-H", "X-One: 1", "-HX-Two:2").status == 0
    head = server.requests[0][0]
    assert (header(head, b"x-one"), header(head, b"x-two")) == (b"1", b"2")


@pytest.mark.parametrize("place", range(4))
def test_options_may_stand_anywhere(cli, server, photo, place):
    """An option between URL and FILE, or between two FILEs, is as good as one before them."""
    words = [server.url, photo, photo]
    words[place:place] = ["--name", "photo"]
    assert cli("send", *words).status == 0
    assert len(server.requests) == 2


def test_after_two_dashes_all_is_a_file(cli, server, tmp_path, monkeypatch):
    """`--` ends the options, for a FILE that looks like one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-k").write_text("dash")
    (tmp_path / "--json").write_text("dashes")
    assert cli("send", server.url, "--", "-k", "--json").status == 0
    assert sorted(body.count(b"dash") for body in server.bodies) == [1, 1]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("localhost", "http://localhost"),
        ("localhost/a", "http://localhost/a"),
        (":8000/a", "http://localhost:8000/a"),
        (":/a", "http://localhost:/a"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("example.org/a?b", "http://example.org/a?b"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("user:password@host/", "http://user:password@host/"),
        ("HTTPS://h/", "HTTPS://h/"),
    ],
)
def test_a_url_without_a_scheme_is_http(typed, meant):
    """`localhost:8000` is http://localhost:8000, and `:8000` too, as for curl and httpie."""
    assert values.url(typed) == meant


def test_a_url_without_a_scheme_is_sent_to(cli, server, photo):
    """Such a URL works in a command."""
    assert cli("send", server.url.removeprefix("http://"), photo).status == 0
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "a URL is required"),
        (["http://h/"], "a FILE to send is required"),
        (["http://h/", "-F", "a=b"], "a FILE to send is required"),
        (["http://h/", "f", "--key", "k"], "add --cert"),
        (["http://h/", "f", "--cert", "missing.pem"], "--cert: No such file or directory"),
        (["http://h/", "f", "--cacert", "missing.pem"], "--cacert: No such file or directory"),
        (["http://h/", "f", "--cacert", __file__], "--cacert: not a PEM file"),
        (["http://h/", "f", "--cert", __file__], "--cert: not a PEM file"),
        (["http://h/", "f", "-k", "--cacert", "x"], "leave out one"),
        (["http://h/", "f", "--proxy", "ftp://p:1"], "--proxy: expected the URL of a proxy"),
        (["http://h/", "f", "g", "--filename", "x"], "--filename is for a single FILE, and there are 2"),
        (["http://h/", "f", "g", "-F", "a=@-"], "-F with @- is for a single FILE"),
        (["http://h/", "-", "-F", "a=@-"], "only once"),
        (["http://h/", "-", "--files-from", "-"], "only once"),
        (["http://h/", "f", "-T", "-F", "a=b"], "-T sends the FILE without a form, so -F has no place"),
        (["http://h/", "f", "-T", "--name", "x"], "so --name has no place"),
        (["http://h/", "f", "-T", "--filename", "x"], "so --filename has no place"),
        (["http://h/", "f", "-q", "-v"], "not allowed with"),
        (["http://h/", "f", "-q", "--json"], "leave out one"),
        (["http://h/", "f", "g", "-o", "x"], "-o: it takes the response to a single FILE, and there are 2"),
        (["http://h/", "f", "-o", "."], "-o: it is a directory"),
        (["http://h/", "f", "-o", "no/such/x"], "-o: its directory does not exist"),
        (["http://h/", __file__, "-o", __file__], "-o: it is the FILE to send"),
        (["http://h/", "f", "-X", "A B"], "method"),
    ],
)
def test_options_that_do_not_fit_are_named(cli, args, said):
    """Wrong usage ends with status 2, and names the option."""
    result = cli("send", *args)
    assert (result.status, result.out) == (2, "")
    assert said in result.err.splitlines()[-1]


# --json


def test_json_has_an_event_for_each_failed_attempt(cli, server, photo, no_waits):
    """A failed attempt that is followed by another is a "retry", with its number, its error and the wait."""
    server.answer = lambda number: [None, (503, b"busy"), (200, b"")][number - 1]
    result = cli("send", server.url, photo, "--retries", 2, "--json")

    events = [json.loads(line) for line in result.out.splitlines()]
    retries = [event for event in events if event["event"] == "retry"]
    assert result.status == 0
    assert [(each["attempt"], each["status"], each["wait"]) for each in retries] == [
        (1, None, 0),
        (2, 503, 0),
    ]
    assert retries[0]["type"] in ("ReadError", "RemoteProtocolError")  # as the system says it
    assert retries[1]["type"] == "HTTPStatusError"
    assert all(each["index"] == 0 and each["file"] == str(photo) and each["message"] for each in retries)
    at = [events.index(each) for each in retries]
    attempts = [event["attempt"] for event in events if event["event"] == "progress"]
    assert [events[place - 1]["attempt"] for place in at] == [1, 2]
    assert attempts == sorted(attempts)


# The README


@posix_only
def test_the_examples_of_the_readme_work(server, tmp_path):
    """Each line of the README's examples sends what it says."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```sh\n(rxupload send .*?)^```$", readme, re.DOTALL | re.MULTILINE)
    script = script.replace("URL", server.url)
    script = script.replace("-u anna ", "-u anna:word ")  # there is no terminal to ask for the password
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "rxupload").write_text(f'#!/bin/sh\nexec {sys.executable} -m rxupload "$@"\n')
    (tmp_path / "bin" / "rxupload").chmod(0o700)
    here = tmp_path / "here"
    (here / "photos" / "sea").mkdir(parents=True)
    for path in (here / "beach.jpg", here / "photos" / "sea" / "a.jpg"):
        path.write_bytes(b"\xff\xd8")
    stamp = here / "stamp"
    stamp.touch()
    os.utime(stamp, (0, 0))
    with running(tmp_path / "inbox") as receiver:
        for line in script.splitlines():
            server.requests.clear()
            asks_for = receiver if "--resume" in line else server.url  # which speaks no tus
            host = asks_for.removeprefix("http://")
            sent = line.replace("localhost:8000/", host).replace("localhost:8000", host)
            path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
            result = in_own_process(["sh", "-c", sent], cwd=here, env={**os.environ, "PATH": path})
            assert result.status == 0, (line, result)
            is_ours = "rxupload send" in line and "--resume" not in line
            expected = 2 if line.startswith("find") else int(is_ours)
            assert len(server.requests) == expected, line


@pytest.mark.parametrize(
    ("path", "targets"),
    [
        ("up/", [b"/up/beach.jpg", b"/up/two%20words.txt"]),
        ("up/?key=1/2", [b"/up/beach.jpg?key=1/2", b"/up/two%20words.txt?key=1/2"]),
        ("", [b"/beach.jpg", b"/two%20words.txt"]),
    ],
)
def test_t_adds_the_name_to_a_url_that_ends_with_a_slash(cli, server, photo, tmp_path, path, targets):
    """As with curl, each FILE goes to an address of its own, below a URL that ends with /."""
    other = tmp_path / "two words.txt"
    other.write_bytes(b"text")
    result = cli("send", server.url + path, photo, other, "-T", "--concurrency", 1)

    assert result.status == 0
    assert [head.split(b" ")[1] for head, _ in server.requests] == targets
    assert server.bodies == [photo.read_bytes(), b"text"]


def test_t_does_not_send_several_files_to_one_address(cli, server, photo):
    """Each would replace the one before it, so nothing is sent."""
    result = cli("send", server.url + "up", photo, photo, "-T")

    assert result.status == 2
    assert "-T would send 2 FILEs to one address; end the URL with / to add the name of each" in result.err
    assert not server.requests


def test_an_empty_method_is_refused(cli, server, photo):
    """An empty -X, as of an unset variable of a shell, is not taken as POST."""
    result = cli("send", server.url, photo, "-X", "")

    assert result.status == 2
    assert "method" in result.err
    assert not server.requests


def test_o_with_a_hyphen_is_standard_output(server, photo, tmp_path):
    """-o - writes the response to standard output, and makes no file of that name."""
    result = in_own_process(command("send", server.url, photo, "-o", "-"), cwd=tmp_path)

    assert (result.status, result.out) == (0, "stored")
    assert not (tmp_path / "-").exists()


def test_dry_run_shows_the_form(cli, server, photo, tmp_path):
    """Each -F is a line with its file or the size of its value, which may be a secret."""
    thumb = tmp_path / "thumb.png"
    thumb.write_bytes(b"small")
    form = ["-F", f"thumb=@{thumb}", "-F", "key=s3cret"]
    result = cli("send", server.url, photo, *form, "--dry-run")

    assert result.out.splitlines()[1:] == [f"  -F thumb: {thumb}, 5 bytes", "  -F key: a value, 6 bytes"]
    result = cli("send", server.url, photo, *form, "--dry-run", "--json")
    assert json.loads(result.out)["form"] == [
        {"name": "thumb", "file": str(thumb), "size": 5},
        {"name": "key", "file": None, "size": 6},
    ]
