"""An HTTP/1.1 client over plain sockets: it dials, goes through proxies, speaks TLS and keeps a pool.

It knows nothing of uploads and could be used alone. `control` is its interface to the caller.
"""
