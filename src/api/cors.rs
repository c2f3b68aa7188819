//! CORS header fields, as the command line's flags want them (Fetch standard, 3.2).
//!
//! In: the flags and a request's `Origin`. Out: header fields. Decides nothing about whether a
//! request is carried out; that is `guard`.

use std::borrow::Cow;

use super::guard::Guard;

/// The flags besides the origins, which the guard needs too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cors {
    /// `--cors-allow-method`, joined with commas; None for any.
    pub methods: Option<String>,
    /// `--cors-allow-header`, joined with commas; None for any.
    pub headers: Option<String>,
    /// `--cors-allow-credentials`.
    pub credentials: bool,
}

/// On every answer, so that caches keep answers to different origins apart.
pub(crate) const VARY: (&str, &str) = (
    "vary",
    "origin, access-control-request-method, access-control-request-headers",
);

/// On answers to an origin that is allowed.
pub(crate) const ALLOW_ORIGIN: &str = "access-control-allow-origin";

/// On those of them that carry something which pages may not read without it (Fetch standard,
/// 3.2.6). An answer of the reference carries nothing of the kind.
pub(crate) const EXPOSE: &str = "access-control-expose-headers";

/// Those of an answer's header fields that pages are to be able to read, besides those which they
/// can read anyway.
pub(crate) fn expose<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    const OURS: [&str; 7] = [
        "accept-ranges",
        "content-range",
        "etag",
        "idempotency-replayed",
        "preference-applied",
        "retry-after",
        "x-request-id",
    ];
    let ours = |name: &&str| name.starts_with("procring-") || OURS.contains(name);
    fields.filter(ours).collect::<Vec<_>>().join(", ")
}

/// Header fields to add to an answer.
pub(crate) type Fields<'a> = Vec<(&'static str, Cow<'a, str>)>;

impl Cors {
    /// What an answer to a request from `origin` carries.
    pub(crate) fn fields<'a>(&'a self, guard: &'a Guard, origin: Option<&'a [u8]>) -> Fields<'a> {
        let mut fields = Fields::new();
        let origin = origin.and_then(|origin| std::str::from_utf8(origin).ok());
        if let Some(origin) = origin
            && let Some(allowed) = guard.cors_origin(origin)
        {
            // A wildcard does not count for requests with credentials.
            let value = if self.credentials { origin } else { allowed };
            fields.push((ALLOW_ORIGIN, Cow::Borrowed(value)));
        }
        if self.credentials {
            fields.push(("access-control-allow-credentials", Cow::Borrowed("true")));
        }
        fields
    }

    /// What the answer to a preflight carries besides. `asked_method` and `asked_headers` are
    /// echoed where a wildcard would not count.
    pub(crate) fn preflight_fields<'a>(
        &'a self,
        asked_method: Option<&'a [u8]>,
        asked_headers: Option<&'a [u8]>,
    ) -> Fields<'a> {
        let value = |configured: &'a Option<String>, asked: Option<&'a [u8]>| match configured {
            Some(list) => Cow::Borrowed(list.as_str()),
            None if self.credentials => asked.map_or(Cow::Borrowed("*"), String::from_utf8_lossy),
            None => Cow::Borrowed("*"),
        };
        vec![
            (
                "access-control-allow-methods",
                value(&self.methods, asked_method),
            ),
            (
                "access-control-allow-headers",
                value(&self.headers, asked_headers),
            ),
        ]
    }
}
