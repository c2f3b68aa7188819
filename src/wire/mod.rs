//! Bytes to meaning and back: HTTP/1.1, SSE, WebSocket, JSON, base64 and terminal escapes.
//!
//! In: slices a peer sent. Out: facts, or bytes to send. Owns nothing that two
//! connections share. Knows no socket, no clock, no process.

mod base64;
mod decimal;
pub mod http;
pub mod json;
mod prefix;
pub(crate) mod rfc3339;
pub mod say;
pub mod sse;
mod stops;
#[cfg(test)]
pub(crate) mod testing;
pub mod vt;
pub mod ws;

/// What a parser found at the front of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole value.
    Done {
        /// What was read.
        value: T,
        /// Bytes of the slice that belong to it.
        used: usize,
    },
    /// The slice ends too early. Nothing was consumed: call again with the same
    /// bytes and more behind them.
    NeedMore,
}
