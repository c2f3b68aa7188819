//! Who may ask: host names, token, origins.
//!
//! In: the values of `Host`, `Authorization`, `Origin`, an `access_token`, and who the peer is. Out:
//! yes or no, by which credential, and the origin that may read the answer. Knows no path and no
//! process.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::access::{Credential, Peer};
use super::routes::Access;

/// What is answered, and where metrics are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Exposed {
    /// Everything; metrics to who brings the token.
    #[default]
    All,
    /// Everything; metrics to anybody.
    PublicMetrics,
    /// Everything but metrics.
    NoMetrics,
    /// Metrics and probes, to anybody, and nothing else.
    MetricsOnly,
}

/// What the command line says about callers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// The server's own bearer token, if it has one.
    pub token: Option<String>,
    /// Those of clients, behind their names.
    pub named_tokens: Vec<(Arc<str>, String)>,
    /// Refuse `Host` names that another machine's DNS could have made up: on when the server is
    /// open and bound to a loopback address.
    pub check_host: bool,
    /// Names allowed besides; `*` for any.
    pub allowed_hosts: Vec<String>,
    /// Origins allowed by the CORS flags; `*` for any.
    pub allowed_origins: Vec<String>,
    /// Users of this machine that unix sockets answer.
    pub users: Vec<u32>,
    /// They bring the token, too.
    pub users_need_token: bool,
    /// What a proxy in front leaves before every path, without a slash at its end.
    pub base_path: String,
    /// Nobody is shown the page for people.
    pub no_console: bool,
    /// What is answered at all.
    pub exposed: Exposed,
}

impl Guard {
    /// A path as it is in the table of routes. It may come without what stands before it, too, from
    /// somebody on this side of the proxy.
    pub(crate) fn without_base<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(self.base_path.as_str()) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// Whether routes of this access are there.
    pub(crate) fn serves(&self, access: Access) -> bool {
        match (self.exposed, access) {
            (_, Access::Probe) => true,
            (Exposed::NoMetrics, Access::Metrics) => false,
            (Exposed::MetricsOnly, Access::Metrics) => true,
            (Exposed::MetricsOnly, _) => false,
            _ => true,
        }
    }

    /// Whether they want a token, where there is one.
    pub(crate) fn wants_token(&self, access: Access) -> bool {
        match access {
            Access::Open | Access::Probe => false,
            Access::Token | Access::TokenOrQuery => true,
            Access::Metrics => self.exposed == Exposed::All,
        }
    }

    /// Whether somebody is answered at all.
    pub(crate) fn lets_in(&self, peer: Peer) -> bool {
        match peer {
            Peer::User(uid) => self.users.contains(&uid),
            Peer::Address(_) | Peer::Starter | Peer::Unknown => true,
        }
    }

    /// By what somebody is known who needs no token.
    pub(crate) fn known(&self, peer: Peer) -> Option<Credential> {
        match peer {
            Peer::User(uid) if !self.users_need_token => Some(Credential::User(uid)),
            Peer::Starter => Some(Credential::None),
            Peer::User(_) | Peer::Address(_) | Peer::Unknown => None,
        }
    }

    /// Whether a request for this `Host` is answered (DNS rebinding).
    pub(crate) fn host_allowed(&self, host: Option<&str>) -> bool {
        host.is_none_or(|host| !self.check_host || self.is_ours(host))
    }

    /// Whether an authority is local, or named by the flags.
    fn is_ours(&self, authority: &str) -> bool {
        let name = host_name(authority);
        is_local_name(name)
            || self.allowed_hosts.iter().any(|allowed| {
                allowed == "*"
                    || allowed.eq_ignore_ascii_case(name)
                    || allowed.eq_ignore_ascii_case(authority)
            })
    }

    /// Whether a token is wanted.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some() || !self.named_tokens.is_empty()
    }

    /// By what these `Authorization` and (where it counts) `access_token` values open the server;
    /// None if they do not. All tokens are compared, so that nobody learns which one was near.
    pub(crate) fn opened_by(
        &self,
        authorization: Option<&[u8]>,
        access_token: Option<&str>,
    ) -> Option<Credential> {
        if !self.has_token() {
            return Some(Credential::None);
        }
        let bearer = authorization.and_then(|value| {
            let (scheme, given) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(given)
        });
        let is_given = |token: &str| {
            let by_header = bearer.is_some_and(|given| same(given, token.as_bytes()));
            let by_query =
                access_token.is_some_and(|given| same(given.as_bytes(), token.as_bytes()));
            by_header | by_query
        };
        let own = self.token.as_deref().is_some_and(is_given);
        let mut found = own.then_some(Credential::Token);
        for (name, token) in &self.named_tokens {
            if is_given(token) {
                found = Some(Credential::Named(name.clone()));
            }
        }
        found
    }

    /// Whether a page of `origin` may change state through this server, which it addressed as
    /// `host`. A request without an `Origin` does not come from a page.
    ///
    /// A page whose name was rebound to this server has the origin that it addresses. Without a
    /// token nothing else tells it from a page of ours, on whatever address the server listens.
    pub(crate) fn origin_allowed(&self, origin: Option<&[u8]>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let Ok(origin) = std::str::from_utf8(origin) else {
            return false;
        };
        if self.cors_origin(origin).is_some() {
            return true;
        }
        let (rest, default_port) = if let Some(rest) = origin.strip_prefix("http://") {
            (rest, ":80")
        } else if let Some(rest) = origin.strip_prefix("https://") {
            (rest, ":443")
        } else {
            return false;
        };
        let bare = |authority: &str| {
            authority
                .strip_suffix(default_port)
                .unwrap_or(authority)
                .to_ascii_lowercase()
        };
        host.is_some_and(|host| bare(host) == bare(rest))
            && (self.has_token() || self.is_ours(rest))
    }

    /// What `access-control-allow-origin` answers to this origin, if the flags allow it.
    pub(crate) fn cors_origin<'a>(&'a self, origin: &'a str) -> Option<&'a str> {
        self.allowed_origins
            .iter()
            .find(|allowed| *allowed == "*" || *allowed == origin)
            .map(String::as_str)
    }
}

/// The host of an authority, without its port.
fn host_name(authority: &str) -> &str {
    if let Some(end) = authority.find(']') {
        return &authority[..=end];
    }
    authority
        .split_once(':')
        .map_or(authority, |(name, _)| name)
}

/// An address, a loopback name, or a name that no DNS zone of a stranger can hold.
fn is_local_name(name: &str) -> bool {
    if let Some(address) = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let lower = name.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    name.parse::<Ipv4Addr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

/// Compares in a time that does not depend on where the two differ.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != wanted.len());
    for (i, &byte) in wanted.iter().enumerate() {
        difference |= byte ^ given.get(i).copied().unwrap_or(!byte);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Guard {
        Guard {
            check_host: true,
            ..Guard::default()
        }
    }

    #[test]
    fn a_rebound_name_is_refused_and_a_local_one_is_not() {
        let guard = open();
        for host in [
            "127.0.0.1:2468",
            "[::1]:2468",
            "localhost",
            "localhost:1",
            "a.localhost",
            "sandbox",
            "Sandbox:80",
            "10.0.0.7",
        ] {
            assert!(guard.host_allowed(Some(host)), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:2468",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "a.b.",
            "localhost.a:1",
        ] {
            assert!(!guard.host_allowed(Some(host)), "{host}");
        }
        let mut named = open();
        named.allowed_hosts.push("evil.example".into());
        assert!(named.host_allowed(Some("evil.example:9")));
        named.allowed_hosts = vec!["*".into()];
        assert!(named.host_allowed(Some("any.example")));
    }

    #[test]
    fn only_the_exact_token_opens() {
        let guard = Guard {
            token: Some("s3cret".into()),
            ..Guard::default()
        };
        let header = |value: &str| {
            let by = guard.opened_by(Some(value.as_bytes()), None);
            by == Some(Credential::Token)
        };
        assert!(header("Bearer s3cret") && header("bearer s3cret") && header("BEARER s3cret"));
        for value in [
            "Bearer  s3cret",
            "Bearer s3cre",
            "Bearer s3cretx",
            "Bearer ",
            "Bearer",
            "",
            "Basic s3cret",
            "s3cret",
            "Bearer s3cret ",
        ] {
            assert!(!header(value), "{value:?}");
        }
        assert_eq!(guard.opened_by(None, None), None);
        assert_eq!(
            guard.opened_by(None, Some("s3cret")),
            Some(Credential::Token)
        );
        let open = Guard::default().opened_by(None, None);
        assert_eq!(open, Some(Credential::None));
    }

    #[test]
    fn who_has_a_token_of_its_own_is_told_from_others() {
        let mut guard = Guard {
            token: Some("s3cret".into()),
            named_tokens: vec![("ci".into(), "c1".into()), ("ops".into(), "o1".into())],
            ..Guard::default()
        };
        let by = |guard: &Guard, token: &str| {
            let value = format!("Bearer {token}");
            guard.opened_by(Some(value.as_bytes()), None)
        };
        let named = |name: &str| Some(Credential::Named(name.into()));
        assert_eq!(by(&guard, "s3cret"), Some(Credential::Token));
        assert_eq!(
            (by(&guard, "c1"), by(&guard, "o1")),
            (named("ci"), named("ops"))
        );
        assert_eq!((by(&guard, "ci"), by(&guard, "")), (None, None));
        // Without one of the server's own nobody is let in by none.
        guard.token = None;
        assert_eq!(
            (by(&guard, "c1"), by(&guard, "s3cret")),
            (named("ci"), None)
        );
        assert_eq!(guard.opened_by(None, None), None);
        assert!(guard.has_token());
    }

    #[test]
    fn a_rebound_page_changes_nothing_wherever_an_open_server_listens() {
        let mut guard = Guard::default();
        let own = |guard: &Guard, authority: &str| {
            let origin = format!("http://{authority}");
            guard.origin_allowed(Some(origin.as_bytes()), Some(authority))
        };
        for authority in [
            "10.0.0.7:2468",
            "[fd00::7]:1",
            "localhost",
            "a.localhost:1",
            "box:80",
        ] {
            assert!(own(&guard, authority), "{authority}");
        }
        for authority in ["evil.example", "evil.example:2468", "10.0.0.7.nip.io:1"] {
            assert!(guard.host_allowed(Some(authority)));
            assert!(guard.origin_allowed(None, Some(authority)));
            assert!(!own(&guard, authority), "{authority}");
        }
        guard.allowed_hosts.push("tool.example".into());
        assert!(own(&guard, "tool.example:8080") && !own(&guard, "evil.example"));
        guard.token = Some("T".into());
        assert!(own(&guard, "evil.example"));
    }

    #[test]
    fn only_our_own_pages_and_allowed_ones_change_state() {
        let mut guard = open();
        let allowed = |guard: &Guard, origin: &str, host| {
            guard.origin_allowed(Some(origin.as_bytes()), Some(host))
        };
        assert!(guard.origin_allowed(None, Some("localhost:1")));
        assert!(allowed(&guard, "http://localhost:1", "LOCALHOST:1"));
        assert!(allowed(&guard, "http://localhost", "localhost:80"));
        assert!(allowed(&guard, "https://box", "box:443"));
        for origin in [
            "http://evil.example",
            "null",
            "",
            "http://localhost:2",
            "https://localhost:80",
            "ftp://localhost:1",
            "http://localhost:1/",
        ] {
            assert!(!allowed(&guard, origin, "localhost:1"), "{origin}");
        }
        guard.allowed_origins.push("http://evil.example".into());
        assert!(allowed(&guard, "http://evil.example", "localhost:1"));
    }
}
