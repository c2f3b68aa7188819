//! Bytes to meaning and back: HTTP/1.1, SSE, WebSocket and log entries as JSON.
//!
//! In: slices a peer sent. Out: facts, or bytes to send. Owns nothing that two
//! connections share. Knows no socket, no clock, no process.

pub mod http;
pub mod ws;
