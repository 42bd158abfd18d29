"""HTTP/1.1 on the wire: what dials, sends and hears, for the transport alone."""
