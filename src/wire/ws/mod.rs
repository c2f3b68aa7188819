//! WebSocket framing (RFC 6455) without I/O.
//!
//! In: the headers of an upgrade request, then the bytes a client sent.
//! Out: the accept value, whole messages and control frames, and bytes to send.
//! Owns the state of one connection's reading side. Knows no socket, no clock,
//! no terminal and no JSON.
//!
//! - [`handshake`]: may this request be upgraded, and with what answer;
//! - [`frame`]: frame heads, read and written;
//! - [`mask`]: the XOR every client frame carries;
//! - [`message`]: fragments to messages, control frames between them;
//! - [`utf8`]: text checked as it arrives;
//! - [`close`]: status codes and reasons;
//! - [`error`]: why a connection is failed, and with which code.
//!
//! No extension is ever negotiated, so a set RSV bit is always an error.

pub mod close;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub(crate) mod utf8;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod testing;
