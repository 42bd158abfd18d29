"""`Work` finds or creates an upload, sends the file from there, and concludes.

It does what the verdicts of the protocol say, one request after the other, until a response is the last item:

1. An upload that is remembered is asked for its offset. Otherwise one is created, and remembered before its first byte.
2. A part is sent from the offset, and the next one from where its response says.
3. A server whose offset hardly grows is asked a few times more, and then the upload ends with an error; see `effort`.
4. When the server has the whole file, or has forgotten it, the upload is forgotten here, too.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NoReturn

import httpx

from rxupload._errors import SourceChanged
from rxupload._transfer import EXTENSION, Transfer

from .effort import ENOUGH, Effort
from .form import form_in
from .guard import Guard
from .outcome import Outcome, conclude
from .parts import Cut, Hashing, Parts, with_digest
from .places import count_in
from .plan import ResumablePlan
from .protocol import SLICE, Next, Part, Verdict
from .remembered import Remembered
from .server import Server
from .store import Entry, Slot

_THERE = (Next.GO_ON, Next.DONE, Next.ASK)
_ENDS = (Next.DONE, Next.OVER, Next.FAIL)


class Work:
    """Acts on the verdicts of one subscription, or of one of several that send parts of a file at the same time.

    Attributes:
        is_whole: Whether the server has the whole file.
    """

    def __init__(
        self, plan: ResumablePlan, transfer: Transfer, slot: Slot, parts: Parts, guard: Guard, server: Server
    ) -> None:
        self._plan = plan
        self._protocol = plan.protocol
        self._transfer = transfer
        self._slot = slot
        self._parts = parts
        self._guard = guard
        assert transfer.meter is not None
        self._meter = transfer.meter
        self._meter.on_move = self._moved
        transfer.on_informed = self._informed
        self._server = server
        self._about = plan.about
        self._remembered = Remembered(slot)
        self._was_stored = self.entry is not None
        self._response: Any = None
        self._refusal: Any = None  # the response of a server that does not know the method
        self._is_overriding_proven = False
        self._cut: Cut | None = None
        self._effort = Effort()
        self.is_whole = False
        self._resumed_at: int | None = None
        self._is_creating = False
        self._sending: Part | None = None  # what the current request has of the file

    @property
    def entry(self) -> Entry | None:
        """What is remembered of the upload; None if there is none."""
        return self._remembered.entry

    def run(self) -> Any:
        """Work until the last response, and return it. It blocks the calling thread."""
        self._prepare()
        verdict = self._begin()
        while verdict.next not in _ENDS:
            verdict = self._act(verdict)
        if verdict.next is Next.DONE:
            return self._finish(verdict)
        if verdict.next is Next.OVER:
            self._slot.remove()
        return self._conclude()

    def _act(self, verdict: Verdict) -> Verdict:
        if self._about.size is None and verdict.size is not None:
            self._about = replace(self._about, size=verdict.size)
        self._remembered.learn(verdict)
        match verdict.next:
            case Next.GO_ON:
                offset = self._offset_of(verdict)
                return self._send(offset) if self._guard.allows(offset) else Verdict(Next.OTHER)
            case Next.ASK:
                self._be_patient(None)
                return self._ask()
            case Next.REPEAT:
                self._be_patient(None)
                assert self._cut is not None
                return self._send(self._cut.part.offset)
            case Next.SHRINK:
                return self._shrink()
            case Next.OVERRIDE:
                return self._override()
            case Next.TOO_LONG:
                self._give_up(verdict)
        return self._begin_anew(verdict.next)

    def _prepare(self) -> None:
        """Find out what can be known of the source before its first byte is sent."""
        if self._plan.digest is not None:
            self._parts.hashing = Hashing(self._plan.digest)
        if (most := self._most()) is not None:
            self._parts.learn(most)
        elif self._parts.size is None:
            raise ValueError(
                "chunk_size: nothing tells the size of this source before its end; give the most bytes of a request"
            )
        self._about = replace(self._about, size=self._parts.size)

    def _begin(self) -> Verdict:
        """Ask a remembered upload for its offset, if it is one of this file. Otherwise create one."""
        if self.entry is None:
            return self._create()
        is_same = form_in(self.entry.extra) == form_in(self._about.extra) and count_in(self.entry) == 1
        if not is_same or not self._guard.judge(self.entry):
            return Verdict(Next.OTHER)
        verdict = self._ask()
        if verdict.offset is not None:
            self._plan.trace.compare(verdict.offset)
            self._find_features(is_new=False)
        return verdict

    def _find_features(self, *, is_new: bool) -> None:
        question = self._protocol.question(self._about, is_new=is_new)
        if question is not None and not self._about.features:
            self._about = replace(self._about, features=self._server.features(question))

    # Creating

    def _create(self, *, with_content: bool = True) -> Verdict:
        """Create the upload, and remember it."""
        self._guard.stop()
        self._find_features(is_new=True)
        cut = None
        if with_content and self._about.is_small and self._protocol.creates_with(self._about):
            cut = self._take(0, SLICE)
        part = None if cut is None else cut.part
        request = self._protocol.create(self._about, part)
        old = self.entry
        self._is_creating, self._sending = True, part
        try:
            self._response = self._server.to_endpoint(request, cut, self._about.size)
        finally:
            self._is_creating, self._sending = False, None
        verdict = self._protocol.created(self._response, self._about, part)
        is_there = self.entry is not old  # an informational response has named it
        if verdict.next is Next.SHRINK:
            if is_there:
                self._forget_discarded()
            return self._create(with_content=False)
        if verdict.next is Next.OVER and not is_there:
            return replace(verdict, next=Next.FAIL)
        if verdict.next in _THERE or verdict.next is Next.TOO_LONG:
            self._reach(verdict, part)
            if not is_there:
                self._remembered.entry = (
                    self._new_entry(self._response, verdict) if verdict.is_named else None
                )
                if verdict.next is not Next.DONE:
                    self._remember_new(part)
            elif verdict.is_named and "Location" in self._response.headers:
                self._check_address()
            is_there = True
        if is_there and old is not None:
            self._server.discard(old)
        return verdict

    def _new_entry(self, response: Any, verdict: Verdict) -> Entry:
        url = self._server.named_by(response)
        extra = {**self._about.extra, **verdict.extra}
        return Entry(
            url, time.time(), verdict.expires, self._guard.identity, chunk_size=verdict.most, extra=extra
        )

    def _remember_new(self, part: Part | None) -> None:
        assert self.entry is not None
        try:
            self._slot.save(self.entry)
        except OSError:
            if not self._is_creating:  # else the request is under way, and ends with the error
                self._server.discard(self.entry)  # nobody could go on with it
            raise
        self._guard.begin()
        if part is not None:
            self._guard.sends(part.offset)

    def _check_address(self) -> None:
        """Compare the address in the final response with that in an informational one."""
        assert self.entry is not None
        if self._server.named_by(self._response) != self.entry.url:
            request = self._response.request
            self._forget_discarded()
            raise httpx.RemoteProtocolError("The server names two addresses for one upload", request=request)

    def _informed(self, head: Any, address: str) -> None:
        """Act on an informational response, before more bytes go."""
        request = httpx.Request("POST", address)
        response = httpx.Response(head.status, headers=head.headers, request=request)
        if not (self._is_creating or self._sending) or (verdict := self._protocol.informed(response)) is None:
            return
        part = self._sending
        if self._is_creating and "Location" in response.headers:
            entry = self._new_entry(response, verdict)
            if self.entry is None or self.entry.url != entry.url:
                self._remembered.entry = entry
                self._remember_new(part)
        if part is not None and verdict.offset is not None and part.offset < verdict.offset <= part.end:
            self._meter.tell(verdict.offset)

    def _give_up(self, verdict: Verdict) -> NoReturn:
        self._forget_discarded()
        raise ValueError(
            f"file: the server takes at most {verdict.offset} bytes in an upload, and this is one of {self._about.size}"
        )

    def _forget_discarded(self) -> None:
        assert self.entry is not None
        self._server.discard(self.entry)
        self._remembered.forget()

    def _begin_anew(self, reason: Next) -> Verdict:
        """Create another upload instead of a remembered one, once."""
        if reason is Next.FORGOTTEN:
            self._remembered.forget()
        if not self._was_stored:
            if reason is Next.OTHER:
                raise httpx.RemoteProtocolError("The server has another length for the upload than declared")
            return Verdict(Next.FAIL)
        self._was_stored = False
        self._effort = Effort()
        self._resumed_at = 0
        self._about = replace(self._about, size=self._parts.size)
        return self._create()

    # Asking

    def _ask(self) -> Verdict:
        assert self.entry is not None
        request = self._protocol.ask(self._about, self.entry)
        self._response = self._server.to_upload(self.entry.url, request)
        verdict = self._protocol.asked(self._response, self._about, self._slot.entry or self.entry)
        if (offset := verdict.offset) is None:
            return verdict
        is_too_short = verdict.next is Next.DONE and self._parts.goes_on(offset, self._cut)
        return Verdict(Next.OTHER) if is_too_short or not self._guard.allows(offset) else verdict

    def _offset_of(self, verdict: Verdict) -> int:
        assert verdict.offset is not None
        self._be_patient(verdict.offset)
        if self._resumed_at is None:
            self._resumed_at = verdict.offset
        return verdict.offset

    def _be_patient(self, offset: int | None) -> None:
        """Take note of an offset. Raise if it has hardly grown for too long."""
        if not self._effort.take(offset, 0 if self._cut is None else self._cut.part.size):
            raise self._effort.error(self._conclude())

    # Sending

    def _send(self, offset: int) -> Verdict:
        assert self.entry is not None
        cut = self._take(offset, self._most())
        if self._parts.size is None and self._about.size is not None:
            over = cut.part.end - self._about.size
            if over > 0 or cut.part.is_last != (over == 0):
                return Verdict(Next.OTHER)  # the server was told of another end in an earlier reading
        self._guard.sends(offset)
        # With a digest, a server keeps a part as a whole or not at all.
        self._plan.trace.start = cut.part.end if cut.part.digest else offset
        request = self._protocol.send(self._about, self.entry, cut.part)
        if self._refusal is not None:
            request = self._protocol.override(request) or request
        self._sending = cut.part
        try:
            self._response = self._server.to_upload(self.entry.url, request, cut, self._about.size)
        finally:
            self._sending = None
        verdict = self._protocol.sent(self._response, self._about, self.entry, cut.part)
        self._reach(verdict, cut.part)
        # It may have the whole file already, if its offset was stale.
        if verdict.next is Next.FORBIDDEN and (asked := self._moved_on(offset)) is not None:
            return asked
        is_retried = verdict.next in (Next.SHRINK, Next.REPEAT)
        if self._refusal is None or self._is_overriding_proven or is_retried:
            return verdict
        return self._prove_overriding(verdict, cut.part)

    def _reach(self, verdict: Verdict, part: Part | None) -> None:
        """Count what the response shows to have arrived, acknowledged or not."""
        if verdict.next not in _THERE or verdict.offset is None or self._response.is_error:
            return
        if self._meter.has_begun:
            self._meter.reach(verdict.offset)
        if part is not None and verdict.offset > part.offset:
            self._guard.accepted()

    def _take(self, offset: int, most: int | None) -> Cut:
        """Cut a part, with its digest if the protocol wants one."""
        cut = self._parts.cut(offset, most)
        if (algorithm := self._protocol.algorithm(self._about)) is not None:
            cut = with_digest(cut, algorithm, self._transfer.check)
        self._cut = cut
        return cut

    def _most(self) -> int | None:
        """Return the most bytes of a part. The first one is short if its answer has to settle something."""
        first = None if self._guard.is_settled else self._protocol.shortest(self.entry)
        limits = (self._about.chunk_size, None if self.entry is None else self.entry.chunk_size, first)
        return min((each for each in limits if each is not None), default=None)

    def _shrink(self) -> Verdict:
        """Send the part again in smaller ones, and remember that."""
        assert self._cut is not None
        part, least = self._cut.part, max(ENOUGH, self._protocol.granularity)
        if part.size <= least:
            return Verdict(Next.FAIL)
        half = max(part.size // 2, least)
        self._remembered.change(chunk_size=half - half % self._protocol.granularity)
        return self._send(part.offset)

    def _moved_on(self, offset: int) -> Verdict | None:
        """Ask what the server has. None if that is no more than before a part: then the response stays the last one.

        If it does not tell for now, that is the end: it may have the part.
        """
        response = self._response
        asked = self._ask()
        if asked.next in (Next.DONE, Next.FAIL) or (asked.offset or 0) > offset:
            return asked
        self._response = response
        return None

    def _override(self) -> Verdict:
        """Send the part again with another method."""
        assert self._cut is not None
        if self._refusal is not None:
            return Verdict(Next.FAIL)
        self._refusal = self._response
        return self._send(self._cut.part.offset)

    def _prove_overriding(self, verdict: Verdict, part: Part) -> Verdict:
        """Ask whether the bytes have arrived. A server may take the other method for something else."""
        response = self._response
        if verdict.next in _THERE and (asked := self._moved_on(part.offset)) is not None:
            self._is_overriding_proven = True
            if asked.next is verdict.next:
                self._response = response
            return asked
        self._response = self._refusal
        return Verdict(Next.FAIL)

    def _moved(self, position: int) -> None:
        self._guard.arrived(position)
        self._plan.trace.reached = position

    # The end

    def _finish(self, verdict: Verdict) -> Any:
        whole = verdict.offset if self._about.size is None else self._about.size
        assert whole is not None
        if self._resumed_at is None:
            self._resumed_at = verdict.offset if self._was_stored else 0
        try:
            self._guard.check()
        except SourceChanged:  # the server may have a mixture
            if self.entry is not None:
                self._server.discard(self.entry)
            self._slot.remove()
            raise
        if self._parts.hashing is not None:
            self._parts.read_on(self._parts.hashing, whole)
            self._guard.check()
        self._meter.go_on(self._about.size, whole)
        self._slot.remove()
        self.is_whole = True
        return self._conclude()

    def _conclude(self) -> Any:
        if (hashing := self._parts.hashing) is not None:
            digest = hashing.hexdigest() if self.is_whole else None
            self._response.extensions[EXTENSION] = {"algorithm": hashing.algorithm, "digests": [digest]}
        url = None if self.entry is None else self.entry.url
        return conclude(self._response, Outcome(url, self._resumed_at or 0, self._meter.gone))
