"""Builds the request body from form fields and files."""

from .fields import Field, FieldValue, FormData, encode_fields
from .multipart import MultipartBody, Part, guess_content_type

__all__ = ["Field", "FieldValue", "FormData", "MultipartBody", "Part", "encode_fields", "guess_content_type"]
