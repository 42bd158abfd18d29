"""What the stores promise: keys, entries, and one upload at a time in a place."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from support.descriptors import descriptors
from support.scripted_server import PATIENCE
from support.stores import NOW, SECRET, entries, entry, key, no_wait, take

from rxupload._errors import ResumeInUse
from rxupload._wait import SystemClock, Wake
from rxupload.resumable.file_store import FileStore
from rxupload.resumable.store import Entry, MemoryStore, key_of

# Keys


def test_a_key_is_that_of_protocol_endpoint_path_and_metadata(tmp_path):
    """Another value of any of the four makes another key, and the same values make the same."""
    path = tmp_path / "film.mp4"
    values = ("tus", "https://server.test/files?album=1", path, {"album": "summer"})
    others = [
        ("google", *values[1:]),
        ("tus", "https://server.test/files?album=2", *values[2:]),
        ("tus", "https://server.test/other?album=1", *values[2:]),
        (*values[:2], tmp_path / "other.mp4", values[3]),
        (*values[:3], {"album": "winter"}),
        (*values[:3], {"album": b"summer"}),
        (*values[:3], {"name": "summer"}),
        (*values[:3], None),
    ]
    names = {key_of(*each).name for each in [values, *others]}
    assert len(names) == len(others) + 1
    assert key_of(*values) == key_of(*values)


def test_the_order_of_metadata_and_the_users_of_an_endpoint_do_not_count(tmp_path):
    """A password may change between two runs, and a dict has no order that means anything."""
    first = key_of("tus", "https://me:old@server.test/files#a", tmp_path, {"a": "1", "b": "2"})
    second = key_of("tus", "https://me:new@SERVER.test:443/files", str(tmp_path), {"b": "2", "a": "1"})
    assert first == second
    assert first.endpoint == "https://server.test/files"


def test_a_key_has_the_real_path(tmp_path):
    """A link to a file is the same upload as the file."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    made = key_of("tus", "https://server.test", tmp_path / "link", None)
    assert made == key_of("tus", "https://server.test", tmp_path / "file", None)
    assert made.path == (tmp_path / "file").resolve()


def test_two_sources_without_a_path_have_two_keys():
    """Nothing tells two sources without a path apart, so that none goes on with another's upload."""
    first, second = (key_of("tus", "https://server.test", None, None) for _ in range(2))
    assert first.name != second.name
    assert first.path is None


def test_a_key_shows_no_secret(tmp_path):
    """The query of an endpoint, and its password, may be secrets."""
    made = key_of("tus", "https://me:5ecre7@server.test/files?token=5ecre7#5ecre7", tmp_path, {"a": "5ecre7"})
    assert "5ecre7" not in repr(made)


# Entries


def test_an_entry_does_not_show_its_url():
    """An upload's URL is a key to it, and stands in no repr."""
    assert SECRET not in repr(entry())


@pytest.mark.parametrize(
    ("created", "expires", "is_over"),
    [
        (NOW, None, False),
        (NOW - 30 * 86400 + 1, None, False),
        (NOW - 30 * 86400, None, True),
        (NOW, NOW + 1, False),
        (NOW, NOW, False),
        (NOW, NOW - 86400 + 1, False),
        (NOW, NOW - 86400, True),
        (NOW - 30 * 86400, NOW + 1, True),
    ],
)
def test_an_entry_is_over_after_thirty_days_or_a_day_after_it_has_expired(created, expires, is_over):
    """An entry ends with what comes first: a day after its own end, since clocks differ, or 30 days."""
    assert Entry("", created, expires).is_over(NOW) == is_over


# Stores


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "state")


def test_a_slot_remembers(store):
    """What is saved, changed and removed is so in the next slot."""
    first = take(store)
    assert first.entry is None
    first.save(entry(1))
    first.update(chunk_size=7)
    first.close()
    second = take(store)
    assert second.entry == replace(entry(1), chunk_size=7)
    second.remove()
    assert second.entry is None
    second.close()
    third = take(store)
    assert third.entry is None
    third.close()


def test_an_empty_or_a_closed_slot_changes_nothing(store):
    """`update` and `remove` do nothing without an entry or after `close`. `save` is an error after it."""
    slot = take(store)
    slot.update(chunk_size=7)
    slot.remove()
    assert slot.entry is None
    slot.save(entry(1))
    slot.close()
    slot.update(chunk_size=8)
    slot.remove()
    with pytest.raises(RuntimeError, match="closed"):
        slot.save(entry(2))
    slot.close()
    slot = take(store)
    assert slot.entry == entry(1)
    slot.close()


@pytest.mark.parametrize(
    "old", [Entry(SECRET, time.time() - 31 * 86400), Entry(SECRET, time.time(), time.time() - 86401)]
)
def test_what_is_over_is_forgotten_on_open(store, old):
    """An entry that has expired a day ago, or is older than 30 days, is none."""
    slot = take(store)
    slot.save(old)
    slot.close()
    slot = take(store)
    assert slot.entry is None
    slot.close()


def test_the_next_upload_waits_for_one_that_stops(store):
    """An upload that comes while another one is stopping waits for it, and finds what it has saved."""
    stops = threading.Event()
    first = store.open(key(), no_wait, stops.is_set)
    with pytest.raises(ResumeInUse, match="in another subscription"):
        take(store)
    waits = threading.Event()
    found = []

    def wait(wake: Wake) -> None:
        waits.set()
        SystemClock.wait(time.monotonic() + PATIENCE, [], wake)

    def second() -> None:
        slot = store.open(key(), wait, lambda: False)
        found.append(slot.entry)
        slot.close()

    stops.set()
    thread = threading.Thread(target=second)
    thread.start()
    assert waits.wait(PATIENCE)
    first.save(entry(1))
    first.close()
    thread.join(PATIENCE)
    assert found == [entry(1)]


@pytest.mark.parametrize("is_stopping", [False, True])
def test_a_holder_may_close_while_it_is_asked(store, is_stopping):
    """A slot that its holder closes during the next upload's `open` is free: nobody waits for it or is refused."""

    def close() -> bool:
        first.close()
        return is_stopping

    first = store.open(key(), no_wait, close)
    second = take(store)
    with pytest.raises(ResumeInUse):
        take(store)
    second.close()


def test_of_two_that_wait_one_gets_the_place(store):
    """When a place is free, one of those that wait gets it, and the other one is told that it is in use."""
    first = store.open(key(), no_wait, lambda: True)
    waiting = threading.Barrier(3)
    results: list[Any] = []

    def wait(wake: Wake) -> None:
        waiting.wait(PATIENCE)
        SystemClock.wait(time.monotonic() + PATIENCE, [], wake)

    def next_one() -> None:
        try:
            results.append(store.open(key(), wait, lambda: False))
        except ResumeInUse as error:
            results.append(error)

    threads = [threading.Thread(target=next_one) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.wait(PATIENCE)
    first.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(isinstance(each, ResumeInUse) for each in results) == [False, True]
    next(each for each in results if not isinstance(each, ResumeInUse)).close()


def test_a_wait_that_is_given_up_leaves_nothing(store):
    """What `wait` raises comes out of `open`, and the place is free after its holder has closed it."""
    first = store.open(key(), no_wait, lambda: True)

    def give_up(_wake: Wake) -> None:
        raise KeyError

    before = descriptors()
    with pytest.raises(KeyError):
        store.open(key(), give_up, lambda: False)
    assert descriptors() <= before
    first.close()
    take(store).close()


def test_changes_of_two_threads_are_both_kept(store):
    """The upload and its checkpoints change an entry at the same time, and neither change is lost."""
    slot = take(store)
    slot.save(entry(0))

    def count(name: str) -> None:
        for number in range(50):
            slot.update(**{name: number})

    threads = [threading.Thread(target=count, args=[name]) for name in ("chunk_size", "created")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (slot.entry.chunk_size, slot.entry.created) == (49, 49)
    slot.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
@settings(max_examples=50)
@given(made=entries())
def test_any_entry_comes_back_as_it_was(kind, made):
    """Each value of an entry is the same after it was stored."""
    with tempfile.TemporaryDirectory() as directory:
        stores = [MemoryStore()] * 2 if kind == "memory" else [FileStore(directory), FileStore(directory)]
        slot = take(stores[0])
        slot.save(made)
        slot.close()
        slot = take(stores[1])
        assert slot.entry == made
        slot.close()


class GaveUpError(Exception):
    """A wait was given up."""


class Stores(RuleBasedStateMachine):
    """Opens, changes and closes slots in any order, beside a model."""

    slots = Bundle("slots")
    keys = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.remembered: dict[int, Entry | None] = {}
        self.holders: dict[int, Held] = {}

    @initialize(is_file=st.booleans())
    def begin(self, is_file: bool) -> None:
        self.folder = tempfile.TemporaryDirectory() if is_file else None
        self.memory = MemoryStore()

    def store(self) -> Any:
        """Each store of the same folder is as good as any other."""
        return self.memory if self.folder is None else FileStore(self.folder.name)

    @rule(target=slots, number=keys, closes=st.booleans())
    def open(self, number: int, closes: bool) -> Any:
        holder = self.holders.get(number)
        waited = []

        def wait(wake: Wake) -> None:
            waited.append(wake)
            assert not wake.is_set()
            if not closes:
                raise GaveUpError
            holder.close(self)
            assert wake.is_set()

        held = Held(number)
        try:
            held.slot = self.store().open(key(number), wait, lambda: held.is_stopping)
        except ResumeInUse:
            assert holder
            assert not holder.is_stopping
            return held
        except GaveUpError:
            assert holder.is_stopping
            return held
        assert (holder is not None) == bool(waited)
        self.holders[number] = held
        assert held.slot.entry == self.remembered.get(number)
        return held

    @rule(held=slots, made=entries())
    def save(self, held: Held, made: Entry) -> None:
        if self.holders.get(held.number) is held:
            held.slot.save(made)
            self.remembered[held.number] = made
        elif held.slot is not None:
            with pytest.raises(RuntimeError):
                held.slot.save(made)

    @rule(held=slots, size=st.integers(1, 9))
    def update(self, held: Held, size: int) -> None:
        if held.slot is not None:
            held.slot.update(chunk_size=size)
            if self.holders.get(held.number) is held and (found := self.remembered.get(held.number)):
                self.remembered[held.number] = replace(found, chunk_size=size)

    @rule(held=slots)
    def remove(self, held: Held) -> None:
        if held.slot is not None:
            held.slot.remove()
            if self.holders.get(held.number) is held:
                self.remembered[held.number] = None

    @rule(held=slots)
    def stop(self, held: Held) -> None:
        held.is_stopping = True

    @rule(held=consumes(slots))
    def close(self, held: Held) -> None:
        held.close(self)
        held.close(self)

    @rule()
    def clean(self) -> None:
        if self.folder is not None:
            assert FileStore(self.folder.name).clean() == []

    @invariant()
    def slots_are_as_the_model(self) -> None:
        for number, held in self.holders.items():
            assert held.slot.entry == self.remembered.get(number)
        if getattr(self, "folder", None) is not None:
            listed = {int(each.path.stem) for each in FileStore(self.folder.name).uploads()}
            assert listed == {number for number, found in self.remembered.items() if found}

    def teardown(self) -> None:
        for held in list(self.holders.values()):
            held.close(self)
        if self.folder is not None:
            names = sorted(each.name for each in Path(self.folder.name).iterdir())
            assert names == [f"{key(number).name}.json" for number in range(3) if self.remembered.get(number)]
            self.folder.cleanup()


class Held:
    """A slot, as its holder has it; None if it did not get one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_stopping = False
        self.slot: Any = None

    def close(self, machine: Stores) -> None:
        if self.slot is not None:
            self.slot.close()
        if machine.holders.get(self.number) is self:
            del machine.holders[self.number]


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
