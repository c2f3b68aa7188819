//! A request: its head, and a body, if there is one.

use std::io::{ErrorKind, Write};

use serde_json::Value;

use super::connection::{Connection, Socket};
use super::endpoint::Endpoint;
use super::error::Result;
use super::response::Response;

/// What a request brings.
pub(crate) enum Body {
    /// Nothing.
    None,
    /// Bytes and their media type.
    Bytes(Vec<u8>, &'static str),
}

/// See the module.
pub(crate) struct Request {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Request {
    /// `method path`; the path begins with a slash and is encoded already.
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Body::None,
        }
    }

    /// `GET path`.
    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// `POST path`.
    pub(crate) fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// `DELETE path`.
    pub(crate) fn delete(path: &str) -> Self {
        Self::new("DELETE", path)
    }

    /// A JSON body.
    #[must_use]
    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(Body::Bytes(
            body.to_string().into_bytes(),
            "application/json",
        ))
    }

    /// Any body.
    #[must_use]
    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// One more line of the head. The value holds no control characters.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A request that closes the connection behind its answer.
    pub(super) fn send(
        self,
        connection: Connection,
        endpoint: &Endpoint,
        token: Option<&str>,
    ) -> Result<Response> {
        self.send_with("close", connection, endpoint, token)
    }

    /// A request that wants to go on with another protocol.
    pub(super) fn send_upgrade(
        self,
        connection: Connection,
        endpoint: &Endpoint,
        token: Option<&str>,
    ) -> Result<Response> {
        self.send_with("upgrade", connection, endpoint, token)
    }

    fn send_with(
        self,
        option: &str,
        mut connection: Connection,
        endpoint: &Endpoint,
        token: Option<&str>,
    ) -> Result<Response> {
        let Self {
            method,
            path,
            headers,
            body,
        } = self;
        let mut head = format!(
            "{method} {}{path} HTTP/1.1\r\nhost: {}\r\nconnection: {option}\r\n",
            endpoint.prefix, endpoint.host
        );
        if let Some(token) = token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match body {
            Body::None if method == "POST" => head.push_str("content-length: 0\r\n\r\n"),
            Body::None => head.push_str("\r\n"),
            Body::Bytes(bytes, kind) => {
                head.push_str(&format!(
                    "content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                    bytes.len()
                ));
                let whole = [head.as_bytes(), &bytes].concat();
                send_whole(&mut connection.socket, &whole)?;
                return Response::read(connection, method);
            }
        }
        send_whole(&mut connection.socket, head.as_bytes())?;
        Response::read(connection, method)
    }
}

/// Writes everything. A peer that closes early may have answered, so that is no error here: who
/// reads the answer finds out.
fn send_whole(socket: &mut Socket, bytes: &[u8]) -> Result<()> {
    match socket.write_all(bytes) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        result => Ok(result?),
    }
}
