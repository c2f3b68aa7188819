//! HTTP/1.1 message framing (RFC 9112) without I/O.
//!
//! In: the bytes of one connection, in order. Out: request heads, body bytes, and
//! response heads to send. Where the RFC lets a recipient repair a message, this
//! room refuses it: a repaired message is one that two readers may understand
//! differently (request smuggling).

pub(crate) mod authority;
pub mod chunked;
pub mod head;
pub(crate) mod origin;
pub(crate) mod prefer;
pub(crate) mod range;
pub mod response;
mod scan;
pub mod target;

pub use head::{BodyFraming, Head, HeadError, HeadLimits, HeadScan, Method, parse_head};
