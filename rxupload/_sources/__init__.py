"""What can be uploaded: one file for each kind of source, and `make_source`, which tells them apart."""

from .base import CHUNK, File, FileSource, Reader, Source, split
from .make import make_source

__all__ = ["CHUNK", "File", "FileSource", "Reader", "Source", "make_source", "split"]
