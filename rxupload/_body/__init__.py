"""The request body: what the bytes on the wire are made of."""

from .multipart import FieldValue, MultipartBody, Part, encode_fields, guess_content_type

__all__ = ["FieldValue", "MultipartBody", "Part", "encode_fields", "guess_content_type"]
