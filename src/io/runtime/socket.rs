//! Connections, as the runtime has them: read and written with buffers that it holds meanwhile.
//! What was accepted from a unix socket is of the same type.

pub(crate) use monoio::BufResult;
pub(crate) use monoio::buf::IoBuf;
pub(crate) use monoio::io::{
    AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable,
};
pub(crate) use monoio::net::TcpStream;
