"""Uploads of tus when their receiver ends: it stops at once, leaves nothing open, and the next one goes on."""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import random
import re
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support.command_line import started
from support.descriptors import descriptors
from support.forms import PATIENCE, has_ended, posix_only
from support.tus import TusClient, finished, hanging, hidden, named, patching

from rxupload import receiver


def test_stopping_ends_a_hanging_patch_and_keeps_its_bytes(client, inbox, is_stored):
    """The next receiver in the directory goes on with the upload."""
    with receiver.running(inbox) as first:
        tus = TusClient(client, first)
        url = tus.created(100)
        stack = contextlib.ExitStack()
        sock = stack.enter_context(hanging(url, is_stored))
    with stack:
        assert has_ended(sock)
    with receiver.running(inbox) as second:
        tus = TusClient(client, second)
        assert tus.offset(url.path) == 5
        assert tus.patch(url.path, 5, bytes(95)).status_code == 204

    assert finished(inbox) == {"upload": b"01234" + bytes(95)}


@posix_only
def test_nothing_stays_open(inbox, is_stored):
    """After the block no new thread, socket or file is left, whether uploads hang, are finished or were refused."""
    with receiver.running(inbox):  # opens what stays open after the first use
        pass
    gc.collect()
    before, threads_before = descriptors(), set(threading.enumerate())

    with contextlib.ExitStack() as stack:
        with receiver.running(inbox) as base, httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            tus = TusClient(client, base)
            parts = [tus.created(5, b"01234", Upload_Concat="partial").path for _ in range(2)]
            tus.post(Upload_Concat=f"final;{' '.join(parts)}")
            tus.patch(tus.created(100), 1, b"1")
            is_stored.clear()
            sock = stack.enter_context(hanging(tus.created(100), is_stored))
        assert has_ended(sock)
    gc.collect()

    assert descriptors() <= before
    assert set(threading.enumerate()) <= threads_before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat(client, inbox):
    """However much a PATCH brings, and however large the parts of an upload are."""
    size = 2**27
    with received(inbox) as (base, process):
        tus = TusClient(client, base)
        tus.created(5, b"01234")
        before = peak_memory(process)
        part = tus.created(size, Upload_Concat="partial")
        assert tus.patch(part, 0, bytes(size)).status_code == 204
        assert tus.post(Upload_Concat=f"final;{part.path}").status_code == 201

        assert peak_memory(process) - before < size / 8


def peak_memory(process):
    """The most bytes that the process has held in memory."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


@contextlib.contextmanager
def received(inbox):
    """The URL of `rxupload receive` in a process of its own, and the process."""
    with started("receive", "--port", 0, "--directory", inbox) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0], process


@posix_only
@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 3])
def test_a_killed_receiver_goes_on_where_it_was(client, inbox, times):
    """It is killed in the middle of each PATCH. The offset is what is on disk, and the bytes are right."""
    content = random.Random(14).randbytes(2**27)
    path = offset = None
    for _ in range(times):
        with received(inbox) as (base, process):
            tus = TusClient(client, base)
            path = path or tus.created(len(content), **named("film")).path
            offset = tus.offset(path)
            with patching(tus.url.join(path), offset, len(content) - offset) as sock:
                sent = content[offset : offset + 2**25]
                sock.sendall(sent)
                process.kill()
                process.wait()
    with received(inbox) as (base, _):
        tus = TusClient(client, base)
        last = tus.offset(path)
        assert 0 < last - offset <= len(sent)
        assert tus.patch(path, last, content[last:]).status_code == 204

    assert {name: hashlib.sha256(data).digest() for name, data in finished(inbox).items()} == {
        "film": hashlib.sha256(content).digest()
    }


@posix_only
def test_a_killed_receiver_does_not_count_bytes_whose_checksum_was_open(client, inbox):
    """After its restart the offset is where the request began."""
    checksum = f"sha1 {base64.b64encode(bytes(20)).decode()}"
    with received(inbox) as (base, process):
        tus = TusClient(client, base)
        path = tus.created(2**27, b"01234").path
        with patching(tus.url.join(path), 5, 2**26, Upload_Checksum=checksum) as sock:
            sock.sendall(bytes(2**25))
            process.kill()
            process.wait()
    assert hidden(inbox, ".upload")[0].stat().st_size > 5
    with received(inbox) as (base, _):
        tus = TusClient(client, base)
        assert tus.offset(path) == 5
        assert tus.patch(path, 5, b"5").status_code == 204
        assert tus.offset(path) == 6


def test_what_the_receiver_prints(client, inbox):
    """A line for each file, one for each break, and never a URL of an upload."""
    with received(inbox) as (base, process):
        tus = TusClient(client, base)
        url = tus.created(5, b"01234", **named("海滩.jpg"))
        tus.patch(url, 3, b"34")
        with patching(tus.created(100), 0, 100) as sock:
            sock.sendall(b"0")
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
        assert process.stdout.read() == ""

    assert lines == [
        "Received 海滩.jpg (5 bytes)\n",
        "Refused: 409 The offset is 5, not 3.\n",
        "An upload broke off.\n",
    ]
