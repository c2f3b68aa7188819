//! HTTP/1.1 message framing (RFC 9112) without I/O.
