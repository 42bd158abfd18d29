"""Builds the request body: a form of fields and files, or the bytes of one file."""

from typing import TypeAlias

from .digest import Digests
from .fields import Field, FieldValue, FormData, encode_fields
from .multipart import MultipartBody, Part
from .raw import RawBody
from .types import guess_content_type

Body: TypeAlias = MultipartBody | RawBody

__all__ = [
    "Body",
    "Digests",
    "Field",
    "FieldValue",
    "FormData",
    "MultipartBody",
    "Part",
    "RawBody",
    "encode_fields",
    "guess_content_type",
]
