"""Turns the form data of `upload()` into parts, and defines `Field`, a form field with a type of its own."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from numbers import Integral, Rational, Real
from typing import SupportsFloat, SupportsIndex, TypeAlias
from uuid import UUID

from rxupload._arguments import HeaderTypes, check_content_type, check_part_headers, wrong_type

from .multipart import Part, crlf, well_formed

FieldValue: TypeAlias = (
    str | bytes | bool | int | float | Decimal | UUID | date | SupportsIndex | SupportsFloat
)
"""The value of a form field. The last two stand for the integers and floats of numpy."""


@dataclass(frozen=True, slots=True)
class Field:
    """A form field with a media type or headers of its own, for APIs that want JSON in a part beside the file.

    ::

        upload(url, "beach.jpg", form_data={"payload_json": Field('{"tts": true}', content_type="application/json")})

    Its part has no filename, so a server takes it for a field, and not for a file.

    Attributes:
        value: As a value of `form_data`. A str is sent in UTF-8. With a `content_type` it keeps its line breaks;
            without one each becomes CR LF, as in browsers.
        content_type: The media type of the part; None: the part has no Content-Type, like any field.
        headers: Further headers of the part, such as Content-ID. Content-Disposition, Content-Type, Content-Length
            and Content-Transfer-Encoding are not among them.
        name: The name of the field, where it stands in the list of files. In `form_data` its key is the name.
    """

    value: FieldValue = field(repr=False)  # it may be a secret, as may be a header
    content_type: str | None = None
    headers: HeaderTypes | None = field(default=None, repr=False)
    name: str | None = None

    def part(self, name: str, argument: str) -> Part:
        """Return the part of the body with this name, after checking it. An error begins with the argument."""
        if self.content_type is not None:
            check_content_type(self.content_type, f"{argument}: content_type")
        headers = check_part_headers(self.headers, f"{argument}: headers")
        if isinstance(self.value, str) and self.content_type is not None:
            content = well_formed(self.value).encode()
        else:
            content = _encoded(argument, self.value)
        return Part(name, content, content_type=self.content_type, headers=headers)


_OneOrMore: TypeAlias = FieldValue | Field | Sequence[FieldValue | Field]
FormData: TypeAlias = Mapping[str, _OneOrMore] | Sequence[tuple[str, _OneOrMore]]


def encode_fields(form_data: FormData | None) -> list[Part]:
    """Return the form fields as parts, in their order. A list or a tuple repeats its field.

    Raises:
        TypeError: form_data is neither a mapping nor a sequence of pairs, or has a value of another type.
        ValueError: A `Field` has a name of its own, or an invalid type or header.
    """
    parts = []
    for name, value in _pairs(form_data):
        if not isinstance(name, str):
            raise TypeError(f"form_data: a key must be str, and {name!r} is {type(name).__name__}")
        argument = f"form_data[{name!r}]"
        for each in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(each, Field):
                parts.append(Part(name, _encoded(argument, each)))
            elif each.name is not None:
                raise ValueError(f"{argument}: the key is the field's name; leave out the name of the Field")
            else:
                parts.append(each.part(name, argument))
    return parts


def _pairs(form_data: object) -> Generator[tuple[object, object]]:
    if form_data is None:
        return
    if isinstance(form_data, Mapping):
        yield from form_data.items()
        return
    if not isinstance(form_data, Sequence) or isinstance(form_data, str | bytes | bytearray | memoryview):
        raise wrong_type("form_data", "a mapping, or a list of (name, value) pairs", form_data)
    for index, pair in enumerate(form_data):
        if not isinstance(pair, list | tuple):
            raise wrong_type(f"form_data[{index}]", "a (name, value) pair", pair)
        if len(pair) != 2:  # noqa: PLR2004
            raise ValueError(f"form_data[{index}]: expected a (name, value) pair, got {len(pair)} items")
        yield pair[0], pair[1]


def _encoded(argument: str, value: object) -> bytes:  # noqa: PLR0911 - one for each kind
    match value:
        case bytes():
            return value
        case str():
            return crlf(well_formed(value)).encode()
        case bool():
            return b"true" if value else b"false"
        case Integral():
            return str(int(value)).encode()
        case Decimal() | UUID():
            return str(value).encode()
        case date():
            return value.isoformat().encode()
        case Real() if not isinstance(value, Rational):  # a Fraction is no number that a server would read
            return str(value).encode()
        case None:
            raise TypeError(f'{argument} is None; leave it out, or send "" instead')
        case _:
            advice = "; for JSON, use json.dumps()" if isinstance(value, dict) else ""
            raise TypeError(
                f"{argument} must be a str, bytes, a number, a bool, a UUID, a date or a Field, or a list of those, "
                f"not {type(value).__name__}{advice}"
            )
