"""Writes what a notebook shows of an upload, of a batch's end and of an error, as HTML and as text.

A text has no secret of an address, and an HTML has all texts escaped. The colours are those of the page.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TypeAlias

from ._addresses import cleaned

_MOST = 10  # rows of a table, and names in a list
_LONG = 200  # characters of an error, or of a name
_LONGEST = 1000  # characters in a cell of a table
_LEFT = ' style="text-align:left"'


def amount(size: float) -> str:
    """Return a number of bytes for people: "999 bytes", "2.6 MB" (10^6 bytes)."""
    for least, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size:.0f} byte{'' if round(size) == 1 else 's'}"


def one_line(text: str) -> str:
    """Return a text without line breaks, and with U+FFFD for characters that do not show, such as controls."""
    return "".join(each if each.isprintable() else "\ufffd" for each in " ".join(text.split()))


def short(text: str, most: int = _LONG) -> str:
    """Return a text in one line, without the end of a very long one."""
    text = one_line(text)
    return text if len(text) <= most else f"{text[:most]}..."


def listed(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - _MOST
    return ", ".join(short(each) for each in names[:_MOST]) + (f" and {more} more" if more > 0 else "")


def described(error: BaseException) -> str:
    """Return an error as `ConnectError: its text`, in one line, without the secrets of addresses."""
    try:
        text = short(cleaned(str(error)))
    except Exception:  # noqa: BLE001 - an error of other people, which has no text
        text = ""
    return f"{type(error).__name__}: {text}".removesuffix(": ")


FileRow: TypeAlias = tuple[str, str, str, Callable[[], int | None]]
"""A file: its field ("" for a raw body), its name, its media type ("" for none), and a function that measures it."""


def upload_card(
    method: str,
    address: str,
    files: Iterable[FileRow],
    count: int,
    fields: Sequence[str],
) -> str:
    """Return the card of an upload that has not begun.

    Args:
        method: The request method.
        address: The address, without secrets.
        files: The files, of which only the first are drawn.
        count: How many files there are.
        fields: The names of the other form fields.
    """
    rows = [[*texts, _size(measure)] for *texts, measure in itertools.islice(files, _MOST)]
    heads = ["field", "file", "type", "size"]
    if not any(field for field, *_ in rows):
        heads, rows = heads[1:], [row[1:] for row in rows]
    lines = [f"<b>{_text(method)}</b> {_text(address)}", _table(heads, rows)]
    if count > _MOST:
        lines.append(f"and {count - _MOST} more file{'' if count - _MOST == 1 else 's'}")
    if fields:
        lines.append(f"with the field{'' if len(fields) == 1 else 's'} {_text(listed(fields))}")
    lines.append("Not started: <code>await</code> it, or call <code>.run()</code> or <code>.start()</code>.")
    return _card(lines)


def summary_card(
    *,
    done: int,
    failed: int,
    statuses: Iterable[tuple[int, int]],
    sent: int,
    seconds: float,
    errors: Sequence[tuple[int, str, Exception]],
) -> str:
    """Return the card of a batch that has ended: one line, and a table of the first failures.

    Args:
        done: Uploads that the server has taken.
        failed: The others.
        statuses: Each status, and how often it came.
        sent: Bytes.
        seconds: How long it took.
        errors: The index, the upload's text and the error of each failure.
    """
    of_all = f"{done} of {done + failed} upload{'' if done + failed == 1 else 's'} done"
    parts = [of_all, *([f"{failed} failed"] if failed else []), f"{amount(sent)} in {seconds:.1f} s"]
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(statuses))
    lines = [_text(" \u00b7 ".join([*parts, *([f"status {codes}"] if codes else [])]))]
    if errors:
        rows = [[str(index), cleaned(text), described(error)] for index, text, error in errors[:_MOST]]
        lines.append(_table(["index", "upload", "error"], rows))
    if len(errors) > _MOST:
        lines.append(f"and {len(errors) - _MOST} more in <code>.errors</code>")
    return _card(lines)


def _size(measure: Callable[[], int | None]) -> str:
    try:
        size = measure()
    except (OSError, ValueError) as error:  # no such file; a file object that is closed
        return getattr(error, "strerror", None) or str(error)
    return "unknown" if size is None else amount(size)


def _card(lines: Iterable[str]) -> str:
    return f"<div>{''.join(f'<div>{line}</div>' for line in lines)}</div>"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th{_LEFT}>{_text(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td{_LEFT}>{_text(each)}</td>' for each in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    return escape(short(text, _LONGEST))
