"""Builds the request body from form fields and files."""

from .multipart import FieldValue, MultipartBody, Part, encode_fields, guess_content_type

__all__ = ["FieldValue", "MultipartBody", "Part", "encode_fields", "guess_content_type"]
