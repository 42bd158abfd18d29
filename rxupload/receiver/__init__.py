"""A real multipart receiver to try uploads against: in this process, or as the `rxupload receive` command.

It takes POST and PUT of multipart/form-data on any path, streams the files into one directory, and answers in
JSON what arrived. uvicorn, Starlette and python-multipart do the work; the `receiver` extra installs them.
"""

try:
    from .server import running, serve
except ImportError as error:
    raise ImportError('The receiver is an extra: pip install "rxupload[receiver]"') from error

__all__ = ["running", "serve"]
