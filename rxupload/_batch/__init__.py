"""Runs many uploads as one Observable."""

from .task import BatchTask
from .upload_all import UploadAll, upload_all

__all__ = ["BatchTask", "UploadAll", "upload_all"]
