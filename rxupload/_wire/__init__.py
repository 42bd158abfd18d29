"""An HTTP/1.1 client over plain sockets: dialling, proxies, TLS, a pool, and one exchange at a time.

It knows nothing of uploads, and could be used alone: what its caller wants of it stands in `control`.
"""
