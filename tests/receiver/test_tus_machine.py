"""Any order of creations, bytes, breaks, checksums, deletions and restarts, against a model of the uploads."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import tempfile
from collections import Counter
from pathlib import Path

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from support.forms import PATIENCE
from support.tus import TusClient, finished, hidden, patching

from rxupload import receiver

pieces = st.binary(max_size=20)
lengths = st.none() | st.integers(0, 30)


class Model:
    """What an upload should be."""

    def __init__(self, path, length, content):
        self.path = path
        self.length = length
        self.content = content
        self.is_there = True

    @property
    def is_whole(self):
        return len(self.content) == self.length


class Machine(RuleBasedStateMachine):
    """One client, which sends one request after the other."""

    uploads = Bundle("uploads")

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.inbox = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.client = self.stack.enter_context(httpx.Client(trust_env=False, timeout=PATIENCE))
        self.running = contextlib.ExitStack()
        self.files = Counter()
        self.known = []
        self.restart()

    @rule()
    def restart(self):
        self.running.close()
        self.running = contextlib.ExitStack()
        self.tus = TusClient(self.client, self.running.enter_context(receiver.running(self.inbox)))

    @rule(target=uploads, length=lengths, content=pieces)
    def create(self, length, content):
        if length is not None:
            content = content[:length]
        model = Model(self.tus.created(length, content).path, length, content)
        self.known.append(model)
        self.note(model)
        return model

    @rule(upload=uploads, content=pieces, wrong=st.sampled_from([0, 0, 0, -1, 1]))
    def send(self, upload, content, wrong):
        offset = max(len(upload.content) + wrong, 0)
        response = self.tus.patch(upload.path, offset, content)
        if not upload.is_there:
            assert response.status_code == 404
        elif offset != len(upload.content):
            assert (response.status_code, response.headers["Upload-Offset"]) == (
                409,
                str(len(upload.content)),
            )
        elif upload.length is not None and len(upload.content) + len(content) > upload.length:
            assert response.status_code == 413
        else:
            assert response.status_code == 204
            self.add(upload, content)

    @rule(upload=uploads, content=pieces, right=st.booleans())
    def send_with_checksum(self, upload, content, right):
        content = self.fitting(upload, content)
        digest = hashlib.sha256(content + (b"" if right else b"x")).digest()
        value = f"sha256 {base64.b64encode(digest).decode()}"
        was_whole = upload.is_whole
        response = self.tus.patch(upload.path, len(upload.content), content, Upload_Checksum=value)
        if not upload.is_there:
            assert response.status_code == 404
        elif right or was_whole:  # nothing is read of an upload that is whole
            assert response.status_code == 204
            self.add(upload, content)
        else:
            assert response.status_code == 460

    @rule(upload=uploads, content=pieces)
    def break_off(self, upload, content):
        """Any number of the bytes that came before the break may count."""
        content = self.fitting(upload, content)[:-1]
        if not upload.is_there or upload.is_whole:
            return
        start = len(upload.content)
        with patching(self.tus.url.join(upload.path), start, len(content) + 1) as sock:
            sock.sendall(content)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1000):  # to the end: then the receiver knows of the break
                pass
        offset = self.tus.offset(upload.path)
        assert start <= offset <= start + len(content)
        upload.content += content[: offset - start]

    @rule(upload=uploads, more=st.integers(0, 5))
    def learn_length(self, upload, more):
        length = len(upload.content) + more
        response = self.tus.patch(upload.path, len(upload.content), Upload_Length=length)
        if not upload.is_there:
            assert response.status_code == 404
        elif upload.length in {None, length}:
            assert response.status_code == 204
            if upload.length is None:
                upload.length = length
                self.note(upload)
        else:
            assert response.status_code == 400

    @rule(upload=uploads)
    def delete(self, upload):
        assert self.tus.delete(upload.path).status_code == (204 if upload.is_there else 404)
        upload.is_there = False

    def fitting(self, upload, content):
        return content if upload.length is None else content[: upload.length - len(upload.content)]

    def add(self, upload, content):
        was_whole = upload.is_whole
        upload.content += content
        if not was_whole:
            self.note(upload)

    def note(self, upload):
        if upload.is_whole:
            self.files[upload.content] += 1

    @invariant()
    def the_receiver_agrees(self):
        for upload in self.known:
            response = self.tus.head(upload.path)
            assert response.status_code == (200 if upload.is_there else 404)
            if upload.is_there:
                assert int(response.headers["Upload-Offset"]) == len(upload.content)
                assert response.headers.get("Upload-Length") == (
                    None if upload.length is None else str(upload.length)
                )
        assert Counter(finished(self.inbox).values()) == self.files
        waiting = [upload for upload in self.known if upload.is_there and not upload.is_whole]
        assert len(hidden(self.inbox, ".upload")) == len(waiting)

    def teardown(self):
        self.running.close()
        self.stack.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
