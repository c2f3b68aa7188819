//! `GET /console/`: a page for people, which asks this API and nobody else.
//!
//! In: which of its files is wanted, and what the browser has of it. Out: that file as it lies in the
//! program; 304; or where the page is. Owns nothing: the bytes are the program's own, so the kernel
//! reads them from its file when somebody asks for them, and not before.
//!
//! `console/` has the sources, and says how `console/built/` is made of them.

use crate::wire::http::head::Head;
use crate::wire::http::range::if_none_match;

use crate::api::Outcome;
use crate::api::problem::Problem;
use crate::api::reply::Reply;

/// One file of the page.
#[derive(Debug)]
pub(crate) struct Asset {
    name: &'static str,
    content_type: &'static str,
    /// Compressed with gzip. Whoever does not say what it takes is taken to take that, too
    /// (RFC 9110, 12.5.3).
    gzip: bool,
    bytes: &'static [u8],
    /// Tells these bytes from those of another version.
    tag: u64,
}

impl Asset {
    const fn new(
        name: &'static str,
        content_type: &'static str,
        gzip: bool,
        bytes: &'static [u8],
    ) -> Self {
        let tag = fnv(bytes);
        Self {
            name,
            content_type,
            gzip,
            bytes,
            tag,
        }
    }

    const fn script(name: &'static str, bytes: &'static [u8]) -> Self {
        Self::new(name, "text/javascript; charset=utf-8", true, bytes)
    }
}

/// FNV-1a of 64 bits.
const fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The page itself; it is short, and read without a browser now and then.
static PAGE: Asset = Asset::new(
    "index.html",
    "text/html; charset=utf-8",
    false,
    include_bytes!("../../../console/built/index.html"),
);

/// What it loads.
static ASSETS: [Asset; 5] = [
    Asset::script("app.js", include_bytes!("../../../console/built/app.js.gz")),
    Asset::script(
        "terminal.js",
        include_bytes!("../../../console/built/terminal.js.gz"),
    ),
    Asset::script(
        "webgl.js",
        include_bytes!("../../../console/built/webgl.js.gz"),
    ),
    Asset::new(
        "app.css",
        "text/css; charset=utf-8",
        true,
        include_bytes!("../../../console/built/app.css.gz"),
    ),
    Asset::new(
        "icon.svg",
        "image/svg+xml",
        true,
        include_bytes!("../../../console/built/icon.svg.gz"),
    ),
];

/// What the page may do: load its own files and ask its own server. No script stands in it, and none
/// can be made of what processes print; xterm.js sets styles. Nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Bytes of a prefix that is believed.
const PREFIX_MAX: usize = 256;

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Where the page is, as its browser has to write it.
    Moved(String),
    /// The browser has this already.
    Known(&'static str),
    /// This.
    Whole(&'static str),
}

/// `/console` without the slash behind it, below which the page's files would not be found.
pub(in crate::api) fn moved(head: &Head<'_>) -> Wanted {
    let prefix = head.header("x-forwarded-prefix");
    let prefix = prefix.and_then(|value| std::str::from_utf8(value).ok());
    // Without one the browser knows better than the server what stands in front.
    Wanted::Moved(
        match prefix.map(str::trim).filter(|prefix| is_path(prefix)) {
            Some(prefix) => format!("{}/console/", prefix.trim_end_matches('/')),
            None => "console/".to_owned(),
        },
    )
}

/// Whether this is an absolute path, and nothing that a browser reads as another host.
fn is_path(prefix: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    prefix.len() <= PREFIX_MAX
        && prefix.starts_with('/')
        && !prefix.contains("//")
        && prefix.bytes().all(is_plain)
}

/// A file of the page, the page itself if none is named.
///
/// # Errors
/// 404.
pub(in crate::api) fn wanted(name: &str, head: &Head<'_>) -> Result<Wanted, Problem> {
    let asset = find(name).ok_or_else(Problem::no_route)?;
    let known = if_none_match(head.headers("if-none-match"), &etag(asset));
    Ok(match known {
        true => Wanted::Known(asset.name),
        false => Wanted::Whole(asset.name),
    })
}

fn find(name: &str) -> Option<&'static Asset> {
    match name {
        "" | "index.html" => Some(&PAGE),
        name => ASSETS.iter().find(|asset| asset.name == name),
    }
}

fn etag(asset: &Asset) -> String {
    format!("\"{:016x}\"", asset.tag)
}

/// The answer.
///
/// # Errors
/// 404.
pub(in crate::api) fn console(wanted: &Wanted) -> Result<Outcome, Problem> {
    let (name, status) = match wanted {
        Wanted::Moved(to) => {
            let reply = Reply::new(308).header("location", to.clone());
            return Ok(Outcome::Reply(reply.header("cache-control", "no-cache")));
        }
        Wanted::Known(name) => (name, 304),
        Wanted::Whole(name) => (name, 200),
    };
    let asset = find(name).ok_or_else(Problem::no_route)?;
    let mut reply = Reply::new(status)
        // An older page must not load a newer file, so each is asked for again; 304 is the usual
        // answer.
        .header("cache-control", "no-cache")
        .header("etag", etag(asset))
        .header("content-security-policy", POLICY)
        .header("x-content-type-options", "nosniff")
        .header("x-frame-options", "DENY")
        .header("referrer-policy", "no-referrer")
        .header("cross-origin-opener-policy", "same-origin")
        .header("cross-origin-resource-policy", "same-origin");
    if status == 200 {
        reply = reply.typed(asset.content_type, asset.bytes);
        if asset.gzip {
            reply = reply.header("content-encoding", "gzip");
        }
    }
    Ok(Outcome::Reply(reply))
}
