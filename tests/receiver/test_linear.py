"""The receiver's work grows no faster than what it is sent: twice as much takes about twice as long."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forms import CLOSING, file_part

from rxupload.receiver import files
from rxupload.receiver.form import Form, names_of, parameters

SMALL, LARGE = 2**13, 2**16  # bytes


def growth(work, make):
    """How many times as long the work takes for 8 times as much: 8 if it is linear, 64 if it is quadratic."""

    def seconds(size):
        value = make(size)
        best = float("inf")
        for _ in range(5):
            began = time.thread_time()
            work(value)
            best = min(best, time.thread_time() - began)
        return best

    return seconds(LARGE) / seconds(SMALL)


def repeated(pattern):
    return lambda size: "form-data" + pattern * (size // len(pattern))


HEADERS = {
    "quotes that begin": repeated(';a="'),
    "empty quotes": repeated(';a="";b="'),
    "semicolons in quotes": repeated(';a=";" '),
    "text after quotes": repeated(';a="b" x'),
    "spaces after tokens": repeated(";a=b "),
    "names": repeated(";a"),
    "names without values": repeated(";a="),
    "semicolons and spaces": repeated("; "),
    "semicolons": repeated(";"),
    "spaces": lambda size: ";" + " " * size,
    "spaces before =": lambda size: ";a" + " " * size + "x",
    "spaces after =": lambda size: ";a=" + " " * size + "x",
    "spaces after a token": lambda size: ";a=b" + " " * size + "x",
    "spaces in quotes": lambda size: ';a="' + " " * size,
    "quotes in quotes": lambda size: ';a="' + '"' * size,
    "quotes and spaces in quotes": lambda size: ';a="' + '" ' * (size // 2),
    "quotes and many spaces in quotes": lambda size: ';a="' + ('"' + " " * 90) * (size // 90),
    "a long name": lambda size: ";" + "a" * size,
    "percent signs": lambda size: ";filename*=utf-8''" + "%e2%82%ac" * (size // 9),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_of_any_shape_is_parsed_in_linear_time(kind):
    """No sequence of quotation marks, semicolons and spaces makes the parser go back."""

    def read(header):
        names_of(parameters(header))

    assert growth(read, HEADERS[kind]) < 24


@given(
    st.dictionaries(
        st.from_regex(r"[a-z*0-9!#$%&'+.^_`|~-]+", fullmatch=True),
        st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"])),
    ),
    st.sampled_from(["; ", ";", " ;\t"]),
)
def test_parameters_are_read_as_they_are_written(written, separator):
    """Any value in quotes is read, with semicolons, backslashes and spaces."""
    header = "form-data" + "".join(f'{separator}{name}="{value}"' for name, value in written.items())

    assert parameters(header) == written


ALMOST = b"\r\n--" + b"B" * 60  # the boundary is 70 long
BODIES = {
    "almost the boundary": lambda size: [ALMOST * (size // len(ALMOST))],
    "the boundary and more": lambda size: [(ALMOST + b"BBBBBBBBBBx") * (size // 75)],
    "line ends": lambda size: [b"\r\n" * (size // 2)],
    "hyphens": lambda size: [b"\r\n--" * (size // 4)],
    "in pieces": lambda size: [ALMOST] * (size // len(ALMOST)),
    "in single bytes": lambda size: [b"\r\n--BB"[at % 6 : at % 6 + 1] for at in range(size)],
}


@pytest.mark.parametrize("kind", BODIES)
def test_content_that_looks_like_the_boundary_is_parsed_in_linear_time(kind, tmp_path):
    """Neither prefixes of the boundary nor small pieces make it slow."""
    opening = b"--" + b"B" * 70 + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n'

    def parse(pieces):
        with Form(b"B" * 70, tmp_path) as form:
            for piece in [opening, *pieces]:
                form.write(piece)

    assert growth(parse, BODIES[kind]) < 24


# Names


@pytest.fixture
def lookups(monkeypatch):
    """The names that were looked at or created."""
    names = []

    def record(function):
        def recorded(path, *args, **options):
            names.append(str(path))
            return function(path, *args, **options)

        return recorded

    monkeypatch.setattr(Path, "open", record(Path.open))
    monkeypatch.setattr(os.path, "lexists", record(os.path.lexists))
    return names


def test_many_files_of_one_name_need_few_lookups(tmp_path, lookups):
    """Twice as many files of one name need about twice as many lookups, and their numbers have no gap."""
    counts = []
    for count in (250, 500):
        directory = tmp_path / str(count)
        directory.mkdir()
        lookups.clear()
        with Form(b"B", directory) as form:
            form.write(file_part("beach.jpg") * count + CLOSING)
            form.finish()
        counts.append(len(lookups))
        assert {path.name for path in directory.iterdir()} == {
            "beach.jpg",
            *(f"beach ({number}).jpg" for number in range(1, count)),
        }

    assert counts[1] < 3 * counts[0]  # 4 times as many if each file counts up from 1


def test_long_names_that_are_cut_to_the_same_need_few_lookups(tmp_path, lookups):
    """Names that differ only in what is cut off are the same name."""
    count = 250
    with Form(b"B", tmp_path) as form:
        form.write(b"".join(file_part("x" * 300 + str(number)) for number in range(count)) + CLOSING)
        form.finish()

    assert len(list(tmp_path.iterdir())) == count
    assert len(lookups) < 30 * count


@settings(max_examples=200)
@given(st.integers(0, 10**9), st.sets(st.integers(0, 60).map(lambda power: 2**power)))
def test_the_next_free_number_is_found_in_few_steps(last, lying_in_the_way):
    """A number is found that is free and follows a taken one, even if others lie in the way."""
    asked = []

    def is_taken(number):
        asked.append(number)
        return number <= last or number in lying_in_the_way

    found = files._next_free(0, is_taken)

    assert not is_taken(found)
    assert found == 1 or is_taken(found - 1)
    assert len(asked) < 130
