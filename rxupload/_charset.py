"""Lets a server's charset decide nothing but text.

Python would take any name for one of its codecs: hex and zlib, which give bytes; idna and punycode, which take
quadratic time; undefined, which raises; unicode_escape, which reads escapes; and whatever a program has registered.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import cache
from typing import Any

# Python's names for charsets (docs.python.org, "Standard Encodings"), without UTF-7: browsers refuse it (WHATWG
# Encoding, section 4.3), and Python makes lone surrogates of it, which no one can encode again.
_CHARSET = re.compile(
    r"ascii|big5(hkscs)?|cp[0-9]{3,4}|euc_(jis_2004|jisx0213|jp|kr)|gb(18030|2312|k)|hp_roman8|hz"
    r"|iso2022_(jp(_[123]|_2004|_ext)?|kr)|iso8859_[0-9]{1,2}|johab|koi8_[rtu]|kz1048|latin_1"
    r"|mac_(cyrillic|greek|iceland|latin2|roman|turkish)|ptcp154|shift_jis(_2004|x0213)?|tis_620"
    r"|utf_(8|8_sig|16|16_be|16_le|32|32_be|32_le)"
)
_FALLBACK = "utf-8"
_PARAMETER = re.compile(r"[;\s]charset\s*=\s*[\"']?([\w.:+-]{1,40})", re.IGNORECASE | re.ASCII)
_LONG = 1000  # characters; httpx takes quadratic time to search a header for parameters
_BYTE_ORDER_MARKS = {
    "utf_16": (b"\xff\xfe", b"\xfe\xff"),
    "utf_32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"),
}


def settle_charset(response: Any) -> None:
    """Make `response.text` decode by the server's charset if it is one, otherwise as UTF-8, in linear time.

    A response without a charset is left as it is, so that a client's `default_encoding` applies. The body must have
    been read.
    """
    content_type = response.headers.get("content-type", "")
    if "charset" not in content_type.lower() and len(content_type) <= _LONG:
        return
    found = _PARAMETER.search(content_type)
    with contextlib.suppress(ValueError):  # of httpx: a hook of the client has already taken the text
        response.encoding = _known(found[1], response.content) if found else _FALLBACK


def _known(name: str, content: bytes) -> str:
    """Return Python's name of a charset."""
    key = normalize_encoding(name).lower()
    charset = aliases.get(key) or aliases.get(key.replace(".", "_"), key)
    if not _CHARSET.fullmatch(charset) or not _is_installed(charset):
        return _FALLBACK
    if charset in _BYTE_ORDER_MARKS and not content.startswith(_BYTE_ORDER_MARKS[charset]):
        return f"{charset}_le"  # Python's decoder would raise; WHATWG Encoding, section 4.2
    return charset


@cache
def _is_installed(charset: str) -> bool:
    """Whether Python has a charset: not every number makes one. There are few enough names to remember them all."""
    try:
        codecs.lookup(charset)
    except LookupError:
        return False
    return True
