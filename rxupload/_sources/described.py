"""Says what a file object, or a thing that opens as one, tells about itself: its filename and its media type.

This module uses an underscore name of Python's, where a file object has no public name before Python 3.13:

| name                      | meaning                    |
|---------------------------|----------------------------|
| BZ2File._fp, LZMAFile._fp | the file that it reads     |
"""

from __future__ import annotations

import os
from typing import Any

from rxupload._arguments import check_content_type

from .reading import base_name

_DECOMPRESSING = {"GzipFile", "BZ2File", "LZMAFile", "ZstdFile"}
# What the name of the decompressed file ends in, instead of a compressed file's suffix.
_PLAIN_SUFFIXES = {
    ".gz": "",
    ".bz2": "",
    ".xz": "",
    ".lzma": "",
    ".zst": "",
    ".tgz": ".tar",
    ".tbz2": ".tar",
    ".txz": ".tar",
    ".svgz": ".svg",
}


def filename_of(file: Any) -> str | None:
    """Return a file object's filename; None if it has none.

    In what a web framework has received, `filename` is the file's name, and `name` may be the form field's.
    """
    if any(kind.__name__ in _DECOMPRESSING for kind in type(file).__mro__):
        name = getattr(file, "name", None) or getattr(getattr(file, "_fp", None), "name", None)
        return without_compression(_base_name(name))
    return _base_name(file.filename if hasattr(file, "filename") else getattr(file, "name", None))


def content_type_of(file: Any) -> str | None:
    """Return the media type that a web framework has received with the file; None if there is none that can be sent."""
    content_type: Any = getattr(file, "content_type", None)
    try:
        check_content_type(content_type)
    except (TypeError, ValueError):  # it comes from a stranger, so the guess is better than an error
        return None
    return str(content_type)


def without_compression(filename: str | None) -> str | None:
    """Return the name of the file that is in a compressed file."""
    if filename is None:
        return None
    stem, suffix = os.path.splitext(filename)  # noqa: PTH122
    plain = _PLAIN_SUFFIXES.get(suffix.lower())
    return filename if plain is None else stem + plain


def _base_name(name: object) -> str | None:
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str) or not name or name.startswith("<"):  # a descriptor's number, or "<stdin>"
        return None
    return base_name(name)
