"""A model of the multipart body, two servers' parsers of it, and hypothesis strategies for forms and files."""

from __future__ import annotations

import io
import secrets
import tempfile
from contextlib import ExitStack, contextmanager
from datetime import UTC, date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser, parse_options_header
from support.owner import FakeOwner
from support.pieces import chunks_of
from werkzeug.http import unquote_header_value
from werkzeug.sansio.multipart import Data, Epilogue, File, MultipartDecoder, NeedData
from werkzeug.sansio.multipart import Field as FieldEvent

from rxupload import Field
from rxupload._body import MultipartBody, Part, encode_fields
from rxupload._sources import make_source

KIB = 1024


def pieces_of(body, count=256 * KIB):
    """The bytes of one pass, read `count` at a time."""
    return list(chunks_of(body.pieces(), count))


def sent(body):
    """The bytes of one pass."""
    return b"".join(pieces_of(body))


def boundary_of(body):
    return body.content_type.removeprefix("multipart/form-data; boundary=")


# A model of the standard, written from its text; it shares no code with the library.


def scalar_values(text):
    """Web IDL's USVString: a surrogate pair is one character, a lone surrogate U+FFFD."""
    out, units = [], list(text)
    while units:
        unit = units.pop(0)
        if "\ud800" <= unit <= "\udbff" and units and "\udc00" <= units[0] <= "\udfff":
            out.append(chr(0x10000 + ((ord(unit) - 0xD800) << 10) + (ord(units.pop(0)) - 0xDC00)))
        else:
            out.append("\ufffd" if "\ud800" <= unit <= "\udfff" else unit)
    return "".join(out)


def normalised(text):
    return scalar_values(text).replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")


def escaped(text):
    return text.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")


def sent_name(name):
    return escaped(normalised(name))


def sent_filename(filename):
    return escaped(scalar_values(filename))


def sent_value(value):
    match value:
        case bytes():
            return value
        case str():
            return normalised(value).encode()
        case bool():
            return {True: b"true", False: b"false"}[value]
        case date():
            return str(value).replace(" ", "T").encode()
        case Decimal() | UUID():
            return str(value).encode()
    return repr(value).encode()


def flat(form_data):
    """The fields one by one, each as (name, content type, headers, content); a sequence repeats its name."""
    pairs = form_data.items() if isinstance(form_data, dict) else form_data
    for name, value in pairs:
        for each in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(each, Field):
                yield name, None, [], sent_value(each)
            elif each.content_type is not None and isinstance(each.value, str):
                yield name, each.content_type, each.headers, scalar_values(each.value).encode()
            else:
                yield name, each.content_type, each.headers, sent_value(each.value)


def model_body(boundary, form_data, files):
    lines = []
    for name, content_type, headers, content in flat(form_data):
        lines += [b"--" + boundary, f'Content-Disposition: form-data; name="{sent_name(name)}"'.encode()]
        lines += model_headers(content_type, headers)
        lines += [b"", content]
    for file in files:
        names = f'name="{sent_name(file["name"])}"; filename="{sent_filename(file["filename"])}"'
        lines += [b"--" + boundary, f"Content-Disposition: form-data; {names}".encode()]
        lines += model_headers(file["content_type"], file["headers"])
        lines += [b"", content_of(file)]
    return b"\r\n".join([*lines, b"--" + boundary + b"--", b""])


def model_headers(content_type, headers):
    named = [] if content_type is None else [("Content-Type", content_type)]
    return [f"{name}: {value}".encode() for name, value in [*named, *headers]]


# How the two parsers change a quoted name.


def as_werkzeug_decodes(name):
    """Werkzeug undoes backslash escapes, which browsers do not write, then takes %22 for a quote.

    The version of werkzeug decides which escapes it undoes (any character, or only a backslash or a quote),
    so werkzeug's own function is called.
    """
    return unquote_header_value(f'"{name}"').replace("%22", '"')


def as_python_multipart_decodes(name):
    """python-multipart undoes RFC 9110's backslash escapes, and leaves every percent sign alone."""
    return name.replace("\\\\", "\\").replace('\\"', '"')


def as_python_multipart_decodes_filename(filename):
    """It also shortens a name that looks like a full Windows path, as old Internet Explorers sent it."""
    decoded = as_python_multipart_decodes(filename)
    return decoded.split("\\")[-1] if decoded[1:3] == ":\\" or decoded[:2] == "\\\\" else decoded


def parsed_by_werkzeug(boundary, pieces):
    """Each part as (name, filename, headers, content), without Content-Disposition; names of headers in lower case."""
    decoder, parts = MultipartDecoder(boundary.encode()), []
    for piece in [*pieces, None]:
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, FieldEvent | File):
                filename = event.filename if isinstance(event, File) else None
                headers = [(name.lower(), value) for name, value in event.headers]
                assert headers[0][0] == "content-disposition"
                parts.append([event.name, filename, headers[1:], b""])
            elif isinstance(event, Data):
                parts[-1][3] += event.data
    return [tuple(each) for each in parts]


def parsed_by_python_multipart(boundary, pieces):
    """The same with the other parser."""
    parts, names, values = [], [], []

    def begin():
        names.clear()
        values.clear()
        parts.append([])

    def on_head():
        headers = [
            (b"".join(name).decode().lower(), b"".join(value))
            for name, value in zip(names, values, strict=True)
        ]
        assert headers[0][0] == "content-disposition"
        _, options = parse_options_header(headers[0][1])
        filename = options.get(b"filename")
        parts[-1] += [
            options[b"name"].decode(),
            None if filename is None else filename.decode(),
            [(name, value.decode()) for name, value in headers[1:]],
            b"",
        ]

    def on_field(data, start, end):
        if len(names) == len(values):
            names.append([])
        names[-1].append(data[start:end])

    def on_value(data, start, end):
        if len(values) < len(names):
            values.append([])
        values[-1].append(data[start:end])

    def on_data(data, start, end):
        parts[-1][3] += data[start:end]

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin,
            "on_header_field": on_field,
            "on_header_value": on_value,
            "on_headers_finished": on_head,
            "on_part_data": on_data,
        },
    )
    for piece in pieces:
        assert parser.write(piece) == len(piece)
    parser.finalize()
    return [tuple(each) for each in parts]


WERKZEUG = parsed_by_werkzeug, as_werkzeug_decodes, as_werkzeug_decodes
PYTHON_MULTIPART = (
    parsed_by_python_multipart,
    as_python_multipart_decodes,
    as_python_multipart_decodes_filename,
)


# Strategies. A name for the parsers does not end in a backslash: they read it before the closing quote as an
# escape (RFC 9110), but browsers send it unchanged.

any_text = st.text(st.characters(), max_size=20) | st.text('ab"\\\r\n;=%/:', max_size=12)
with_surrogates = st.text(st.characters(categories=["Cs", "L"]), max_size=6)
names = any_text | with_surrogates
names_for_parsers = names.filter(lambda text: not text.endswith("\\"))
single_values = (
    any_text
    | with_surrogates
    | st.binary(max_size=300)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.sampled_from([None, UTC]))
)
content_types = st.sampled_from(["text/plain", "application/octet-stream", 'text/plain; charset="x"'])
FORBIDDEN = {"content-disposition", "content-type", "content-length", "content-transfer-encoding"}
header_names = st.text("abcXYZ019-_.!#", min_size=1, max_size=12).filter(
    lambda name: name.lower() not in FORBIDDEN
)
header_values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
part_headers = st.lists(st.tuples(header_names, header_values), max_size=3)
typed_fields = st.builds(Field, single_values, content_type=st.none() | content_types, headers=part_headers)
value_lists = st.lists(single_values | typed_fields, max_size=3)
content_pieces = st.lists(
    st.binary(max_size=200) | st.sampled_from([b"\r", b"\n", b"\r\n--", b"-", b""]), max_size=6
)
READ_AGAIN = ["path", "bytes", "bytearray", "file", "file midway", "list", "function", "function of file"]
READ_ONCE = ["pipe", "generator", "declared generator"]
UNKNOWN_SIZE = {"list", "function", "pipe", "generator"}


def forms(names=names):
    values = single_values | typed_fields | value_lists | value_lists.map(tuple)
    return st.dictionaries(names, values, max_size=4) | st.lists(st.tuples(names, values), max_size=4)


def files_of(kinds, names=names):
    one = {
        "name": names,
        "filename": names,
        "content_type": content_types,
        "headers": part_headers,
        "kind": st.sampled_from(kinds),
    }
    return st.lists(st.fixed_dictionaries({**one, "pieces": content_pieces}), max_size=3)


def content_of(file):
    return b"".join(file["pieces"])


class Pipe(io.RawIOBase):
    """A file object that cannot seek, and gives its content piece by piece."""

    def __init__(self, pieces):
        self._pieces = [piece for piece in pieces if piece]

    def readable(self):
        return True

    def read(self, size=-1):
        return self._pieces.pop(0) if self._pieces else b""


def source_of(kind, pieces, directory):
    """A source of this kind with these pieces."""
    content = b"".join(pieces)
    match kind:
        case "path":
            path = Path(directory, secrets.token_hex(8))
            path.write_bytes(content)
            return path
        case "file midway":
            before = b"read before" if content else b""  # at its end it would be refused
            file = io.BytesIO(before + content)
            file.seek(len(before))
            return file
    return {
        "bytes": content,
        "bytearray": bytearray(content),
        "file": io.BytesIO(content),
        "pipe": Pipe(pieces),
        "list": pieces,
        "function": lambda: iter(pieces),
        "function of file": lambda: io.BytesIO(content),
        "generator": (piece for piece in pieces),
        "declared generator": (piece for piece in pieces),
    }[kind]


@contextmanager
def body_of(form_data, files):
    """The body that the library makes of these fields and files."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as opened:
        parts = []
        for file in files:
            declared = len(content_of(file)) if file["kind"].startswith("declared") else None
            source = source_of(file["kind"], file["pieces"], directory)
            reader = make_source(source, size=declared).open(FakeOwner())
            headers = [(name.encode(), value.encode()) for name, value in file["headers"]]
            each = Part(file["name"], reader, file["filename"], file["content_type"], headers)
            opened.callback(each.content.close)
            parts.append(each)
        yield MultipartBody([*encode_fields(form_data), *parts])
