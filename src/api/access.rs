//! Who asks, as far as the server knows.
//!
//! In: what `guard` found, and where the connection comes from. Out: a [`Caller`], made with the
//! plan of a request and handed on with it to whatever carries it out. Decides nothing.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// By what a caller was let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Credential {
    /// By nothing: the server, or the route, is open.
    None,
    /// By the server's token.
    Token,
    /// By the token of the client of this name.
    Named(Arc<str>),
    /// By who it is, which the kernel says of the other end of a unix socket.
    User(u32),
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Somebody at this address.
    Address(SocketAddr),
    /// A process of this user, on this machine.
    User(u32),
    /// Somebody whom this server's own starter speaks for.
    Starter,
    /// That cannot be told.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "uid:{uid}"),
            Self::Starter => f.write_str("starter"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// By what it was let in. Two with the same one are the same caller, wherever they are.
    pub credential: Credential,
    /// The other end of its connection.
    pub peer: Peer,
}
