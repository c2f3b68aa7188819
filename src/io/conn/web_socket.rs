//! A connection that becomes a WebSocket.
//!
//! In: the request that asks for it, and what the socket is for. Out: 101, then the frames of
//! `io::terminal` or `io::attach`, then a lingering close.

use crate::api::Reply;
use crate::api::attach::AttachQuery;
use crate::api::query::TerminalQuery;
use crate::types::ProcessId;
use crate::wire::http::response::Length;
use crate::wire::ws::handshake::Accept;

use super::receive::Request;
use super::{Conn, Persistence};
use crate::io::attach::attach;
use crate::io::terminal;

/// What an upgrade needs.
pub(super) struct Upgrade {
    pub(super) id: ProcessId,
    pub(super) to: Socket,
    pub(super) accept: Accept,
}

/// What a WebSocket is for.
pub(super) enum Socket {
    Terminal(TerminalQuery),
    Attach(AttachQuery),
}

impl Conn {
    pub(super) async fn upgrade(
        &mut self,
        mut request: Box<Request>,
        upgrade: Box<Upgrade>,
    ) -> Persistence {
        // `connection` is about the upgrade here, not about what comes after it.
        request.close = false;
        request.keep_alive = false;
        let head = self.upgrade_head(&request, &upgrade.accept);
        drop(request);
        if self.writer.all(head).await.is_err() {
            return Persistence::Close;
        }
        let id = upgrade.id;
        let sockets = &self.server.web_sockets;
        sockets.set(sockets.get() + 1);
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        match upgrade.to {
            Socket::Terminal(query) => {
                terminal::attach(&self.server, id, query, reader, writer).await;
            }
            Socket::Attach(query) => attach(&self.server, id, query, reader, writer).await,
        }
        sockets.set(sockets.get() - 1);
        Persistence::Linger
    }

    fn upgrade_head(&self, request: &Request, accept: &Accept) -> Vec<u8> {
        let key = String::from_utf8_lossy(&accept.accept).into_owned();
        let mut reply = Reply::new(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", key);
        if let Some(protocol) = &accept.protocol {
            reply = reply.header("sec-websocket-protocol", protocol.clone());
        }
        let mut out = Vec::with_capacity(400);
        self.write_head(request, &reply, Length::Absent, &mut out);
        out
    }
}
