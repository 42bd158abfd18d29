"""Runs many uploads as one Observable."""

from .upload_all import UploadAll, upload_all

__all__ = ["UploadAll", "upload_all"]
