//! Where a server is: `http://HOST:PORT[/PREFIX]` or `unix:PATH`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{ClientError, Result};

/// What a server listens on when nothing else is said.
const PORT: u16 = 2468;

/// How to get there.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
    /// A socket over which the server takes connections, one descriptor a message.
    Handed(Arc<OwnedFd>),
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(super) way: Way,
    /// What `Host` says.
    pub(super) host: String,
    /// What stands before every path: nothing, or `/prefix`.
    pub(super) prefix: String,
    url: String,
}

impl Default for Endpoint {
    fn default() -> Self {
        let host = format!("127.0.0.1:{PORT}");
        Self {
            way: Way::Tcp("127.0.0.1".to_owned(), PORT),
            url: format!("http://{host}"),
            host,
            prefix: String::new(),
        }
    }
}

impl Endpoint {
    /// A server that was started for this program, with the other end of `socket` as its standard
    /// input (`--listen starter`).
    pub(crate) fn handed(socket: OwnedFd) -> Self {
        Self {
            way: Way::Handed(Arc::new(socket)),
            host: "localhost".to_owned(),
            prefix: String::new(),
            url: "a server of its own".to_owned(),
        }
    }

    /// Reads what a user wrote.
    ///
    /// # Errors
    /// For anything else than the two forms.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let refused = || {
            ClientError::Address(format!(
                "{url:?} is no address of a server; it is http://HOST:PORT or unix:PATH"
            ))
        };
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(refused());
            }
            return Ok(Self {
                way: Way::Unix(path.into()),
                host: "localhost".to_owned(),
                prefix: String::new(),
                url: url.to_owned(),
            });
        }
        if url.starts_with("https://") {
            return Err(ClientError::Address(format!(
                "{url}: https is not spoken here; a proxy on this machine can"
            )));
        }
        let rest = url.strip_prefix("http://").ok_or_else(refused)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let wrong = |text: &str| text.contains(|c: char| c.is_whitespace() || c.is_control());
        if authority.is_empty() || authority.contains('@') || wrong(rest) || rest.contains('?') {
            return Err(refused());
        }
        let (name, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((name, port)) if !port.contains(']') => {
                (name, port.parse().map_err(|_| refused())?)
            }
            _ => (authority, 80),
        };
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        if bare.is_empty() {
            return Err(refused());
        }
        Ok(Self {
            way: Way::Tcp(bare.to_owned(), port),
            host: authority.to_owned(),
            prefix: path.trim_end_matches('/').to_owned(),
            url: url.to_owned(),
        })
    }

    /// As it was given.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_nothing_else() {
        let read = |url: &str| match Endpoint::parse(url).unwrap() {
            Endpoint {
                way: Way::Tcp(host, port),
                prefix,
                ..
            } => format!("{host} {port} {prefix}"),
            Endpoint {
                way: Way::Unix(path),
                ..
            } => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read("http://127.0.0.1:2468"), "127.0.0.1 2468 ");
        assert_eq!(read("http://[::1]:7/a/b/"), "::1 7 /a/b");
        assert_eq!(read("http://x"), "x 80 ");
        for url in ["unix:/run/p.sock", "unix:///run/p.sock"] {
            assert_eq!(read(url), "/run/p.sock");
        }
        for url in [
            "",
            "localhost",
            "unix:",
            "https://x",
            "http://",
            "http://:1",
            "http://x:port",
            "http://x y",
            "http://a@b",
            "http://x/?q",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }
}
