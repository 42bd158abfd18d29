"""Reads what is uploaded: one file for each kind of source, and `make_source`, which chooses between them."""

from .base import File, FileSource, Owner, Reader, Source
from .inside import Inside
from .make import is_requests_tuple, make_source, requests_tuple
from .pieces import FileRange, Flow, Piece

__all__ = [
    "File",
    "FileRange",
    "FileSource",
    "Flow",
    "Inside",
    "Owner",
    "Piece",
    "Reader",
    "Source",
    "is_requests_tuple",
    "make_source",
    "requests_tuple",
]
