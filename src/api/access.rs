//! Who asks, as far as the server knows.
//!
//! In: what `guard` found, and where the connection comes from. Out: a [`Caller`], made with the
//! plan of a request and handed on with it to whatever carries it out. Decides nothing.

use std::net::SocketAddr;

/// By what a caller was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Credential {
    /// By nothing: the server, or the route, is open.
    None,
    /// By the server's token.
    Token,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// By what it was let in. Two with the same one are the same caller, wherever they are.
    pub credential: Credential,
    /// The other end of its connection; None if that cannot be told.
    pub peer: Option<SocketAddr>,
}
