//! `/console/`: how the page for people is served. What it does is tried in a browser
//! (`tests/console/`).

use serde_json::{Value, json};

use crate::harness::server::entry_bytes;
use crate::harness::{Backend, Follow, Item, Launch, Problem, Response, Server, on_both, sh};

on_both!(
    the_page_and_what_it_loads_are_there_for_everybody,
    nothing_of_the_page_is_a_script_in_it_or_comes_from_elsewhere,
    what_a_browser_has_is_not_sent_again,
    the_page_is_found_without_its_slash_and_behind_a_prefix,
    a_base_path_may_stand_before_every_path,
    a_server_without_it_has_no_page,
    a_rebound_name_is_not_shown_the_page,
    activity_tells_what_was_written_and_who_follows_and_nothing_twice,
    a_log_is_read_by_offset_and_no_byte_is_missing,
    what_was_evicted_is_told_by_where_the_rest_begins,
    an_answer_by_offset_waits_for_what_is_still_to_be_written,
);

const FILES: [(&str, &str); 5] = [
    ("app.js", "text/javascript; charset=utf-8"),
    ("terminal.js", "text/javascript; charset=utf-8"),
    ("webgl.js", "text/javascript; charset=utf-8"),
    ("app.css", "text/css; charset=utf-8"),
    ("icon.svg", "image/svg+xml"),
];

fn asked(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response {
    server.request("GET", path, headers, b"")
}

fn the_page_and_what_it_loads_are_there_for_everybody(backend: Backend) {
    let server = Launch::new(backend).args(&["--token", "T"]).start();
    for path in ["/console/", "/console/index.html"] {
        let page = server.get(path);
        assert_eq!(page.status, 200);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(page.header("content-encoding"), None);
        assert!(page.text().contains("<title>procring</title>"));
    }
    for (name, kind) in FILES {
        let file = server.get(&format!("/console/{name}"));
        assert_eq!(file.status, 200, "{name}");
        assert_eq!(file.header("content-type"), Some(kind));
        assert_eq!(file.header("content-encoding"), Some("gzip"));
        assert_eq!(file.body[..2], [0x1f, 0x8b], "{name}");
        let head = server.request("HEAD", &format!("/console/{name}"), &[], b"");
        assert_eq!(head.header("content-length"), file.header("content-length"));
    }
    for path in [
        "/console/nothing.js",
        "/console/a/b",
        "/console/../console/",
        "/Console/",
    ] {
        Problem::no_route().check(&server.get(path));
    }
    let post = server.request("POST", "/console/", &[], b"");
    assert_eq!((post.status, post.header("allow")), (405, Some("GET,HEAD")));
}

fn nothing_of_the_page_is_a_script_in_it_or_comes_from_elsewhere(backend: Backend) {
    let server = Server::open(backend);
    for path in ["/console/", "/console/app.js", "/console/app.css"] {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        let rules: Vec<&str> = policy.split(';').map(str::trim).collect();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(rules.contains(&rule), "{policy}");
        }
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let page = server.get("/console/");
    assert!(!page.text().contains("://") && !page.text().contains("<script>"));
}

fn what_a_browser_has_is_not_sent_again(backend: Backend) {
    let server = Server::open(backend);
    let mut tags = Vec::new();
    for name in [
        "",
        "app.js",
        "terminal.js",
        "webgl.js",
        "app.css",
        "icon.svg",
    ] {
        let path = format!("/console/{name}");
        let first = server.get(&path);
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        let tag = first.header("etag").unwrap().to_owned();
        let again = asked(&server, &path, &[("If-None-Match", &tag)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
        assert_eq!(again.header("etag"), Some(&*tag));
        let other = asked(&server, &path, &[("If-None-Match", "\"0000\"")]);
        assert_eq!((other.status, other.body), (200, first.body));
        tags.push(tag);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 6);
}

fn the_page_is_found_without_its_slash_and_behind_a_prefix(backend: Backend) {
    let server = Server::open(backend);
    let to = |headers: &[(&str, &str)]| {
        let answer = asked(&server, "/console", headers);
        assert_eq!(answer.status, 308);
        answer.header("location").unwrap().to_owned()
    };
    assert_eq!(to(&[]), "console/");
    for (prefix, place) in [
        ("/tool", "/tool/console/"),
        ("/a/b-1/", "/a/b-1/console/"),
        // What a browser would take for another host, or what is no path.
        ("//evil.example", "console/"),
        ("/\\evil.example", "console/"),
        ("https://evil.example", "console/"),
        ("/a//b", "console/"),
        ("", "console/"),
    ] {
        assert_eq!(to(&[("X-Forwarded-Prefix", prefix)]), place, "{prefix}");
    }
}

fn a_base_path_may_stand_before_every_path(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--base-path", "/sandbox/7/"])
        .start();
    for path in ["/sandbox/7/console/", "/console/"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(
        server.get("/sandbox/7/v1/health").text(),
        r#"{"status":"ok"}"#
    );
    assert_eq!(server.get("/sandbox/7").status, 200);
    let moved = server.get("/sandbox/7/console");
    assert_eq!(
        (moved.status, moved.header("location")),
        (308, Some("console/"))
    );
    for path in [
        "/sandbox/8/v1/health",
        "/sandbox/7v1/health",
        "/sandbox/7/sandbox/7/v1/health",
    ] {
        Problem::no_route().check(&server.get(path));
    }
}

fn a_server_without_it_has_no_page(backend: Backend) {
    let server = Launch::new(backend).args(&["--no-console"]).start();
    for path in ["/console", "/console/", "/console/app.js"] {
        Problem::no_route().check(&server.get(path));
    }
}

fn a_rebound_name_is_not_shown_the_page(backend: Backend) {
    let server = Server::open(backend);
    let mut conn = server.conn();
    conn.send("GET /console/ HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(conn.response("GET").status, 403);
}

/// The next event, which tells of activity: [(id, bytes, followers)].
#[track_caller]
fn activity(stream: &mut Follow) -> Vec<(String, u64, u64)> {
    loop {
        let item = stream.next();
        if matches!(&item, Item::Event { name, .. } if name == "activity") {
            let event = item.event("activity");
            assert_eq!(event["type"], "activity");
            let told = event["processes"].as_array().unwrap().iter();
            return told
                .map(|one| {
                    let number = |key: &str| one[key].as_u64().unwrap();
                    let id = one["id"].as_str().unwrap().to_owned();
                    (id, number("outputBytes"), number("followers"))
                })
                .collect();
        }
    }
}

fn activity_tells_what_was_written_and_who_follows_and_nothing_twice(backend: Backend) {
    let server = Server::open(backend);
    let first = server.spawn(&json!({"command": "cat"}));
    let quiet = server.spawn(&json!({"command": "cat"}));
    let mut said = String::new();
    let mut says = |text: &str| {
        server.feed(&first, text);
        said.push_str(text);
        server.await_output(&first, &said);
    };
    says("12345");
    let mut stream = Follow::open(&server, "/v1/events?activityMs=1", &[]);
    assert_eq!(activity(&mut stream), [(first.clone(), 5, 0)]);
    says("67");
    assert_eq!(activity(&mut stream), [(first.clone(), 7, 0)]);
    let follower = Follow::open(
        &server,
        &format!("/v1/processes/{quiet}/logs?follow=true"),
        &[],
    );
    assert_eq!(activity(&mut stream), [(quiet.clone(), 0, 1)]);
    follower.into_conn().reset();
    assert_eq!(activity(&mut stream), [(quiet, 0, 0)]);
    // Events of records come as ever.
    server.spawn(&json!({"command": "true"}));
    stream.next().event("created");
}

/// The bytes of a log, read by offset in pieces of so many bytes, and where they end.
fn by_offset(server: &Server, id: &str, stream: &str, max: u64) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let offset = all.len() as u64;
        let query = format!("stream={stream}&offset={offset}&maxBytes={max}");
        let page: Value = server
            .get(&format!("/v1/processes/{id}/logs?{query}"))
            .json();
        let start = page["offset"].as_u64().unwrap();
        assert_eq!(page["firstOffset"], 0);
        if offset == page["endOffset"].as_u64().unwrap() {
            assert_eq!(
                (start, page["entries"].as_array().unwrap().len()),
                (offset, 0)
            );
            return all;
        }
        assert!(start <= offset, "{page}");
        all.truncate(usize::try_from(start).unwrap());
        for entry in page["entries"].as_array().unwrap() {
            all.extend(entry_bytes(entry));
        }
        assert!(all.len() as u64 > offset, "{page}");
    }
}

fn a_log_is_read_by_offset_and_no_byte_is_missing(backend: Backend) {
    let server = Server::open(backend);
    let script = "i=0; while [ $i -lt 300 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let id = server.spawn(&sh(script));
    server.await_exit(&id);
    for stream in ["combined", "stdout", "stderr"] {
        let raw = server.get(&format!("/v1/processes/{id}/logs/raw?stream={stream}"));
        assert!(raw.body.len() > 2000);
        for max in [1, 100, 1_000_000] {
            assert_eq!(
                by_offset(&server, &id, stream, max),
                raw.body,
                "{stream} {max}"
            );
        }
    }
    for query in [
        "offset=-1",
        "offset=x",
        "offset=1&since=1",
        "offset=1&follow=true",
        "offset=1&format=text",
        "offset=1&sinceMs=5",
    ] {
        let refused = server.get(&format!("/v1/processes/{id}/logs?{query}"));
        assert_eq!(refused.status, 400, "{query}");
    }
    // Who does not ask for it is told nothing new.
    let plain = server.get(&format!("/v1/processes/{id}/logs?maxBytes=10"));
    assert!(!plain.text().contains("endOffset"));
}

fn what_was_evicted_is_told_by_where_the_rest_begins(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxLogBytesPerProcess", 20_000)]);
    let id = server.spawn(&sh("seq 1 20000"));
    server.await_exit(&id);
    let page: Value = server
        .get(&format!("/v1/processes/{id}/logs?offset=5&maxBytes=64"))
        .json();
    let raw = server.get(&format!("/v1/processes/{id}/logs/raw"));
    let first = raw.header("procring-first-offset").unwrap().to_owned();
    assert!(page["firstOffset"].as_u64().unwrap() > 5);
    for key in ["offset", "firstOffset"] {
        assert_eq!(page[key].to_string(), first, "{page}");
    }
    assert_eq!(
        page["endOffset"].to_string(),
        raw.header("procring-end-offset").unwrap()
    );
    // The end, of a log that may be gone before it could be asked for by place.
    let tail: Value = server
        .get(&format!("/v1/processes/{id}/logs?offset=0&tail=1"))
        .json();
    let last = entry_bytes(&tail["entries"][0]);
    assert!(raw.body.ends_with(&last));
    let start = tail["offset"].as_u64().unwrap();
    assert_eq!(
        start + last.len() as u64,
        tail["endOffset"].as_u64().unwrap()
    );
    // In the middle of what is kept, from either end.
    let first: u64 = first.parse().unwrap();
    let end = page["endOffset"].as_u64().unwrap();
    for at in [first + 1, first + (end - first) / 3, end - 2] {
        let page: Value = server
            .get(&format!("/v1/processes/{id}/logs?offset={at}&maxBytes=1"))
            .json();
        let start = page["offset"].as_u64().unwrap();
        let entry = entry_bytes(&page["entries"][0]);
        let held = start..start + entry.len() as u64;
        assert!(held.contains(&at), "{at} in {held:?}");
        let from = usize::try_from(start - first).unwrap();
        assert_eq!(raw.body[from..from + entry.len()], entry);
    }
}

fn an_answer_by_offset_waits_for_what_is_still_to_be_written(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    let mut conn = server.conn();
    let host = server.address;
    conn.send(format!(
        "GET /v1/processes/{id}/logs?offset=0&waitMs=60000 HTTP/1.1\r\nHost: {host}\r\n\r\n"
    ));
    server.feed(&id, "now");
    let page: Value = conn.response("GET").json();
    assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    let places = ["offset", "firstOffset", "endOffset"].map(|key| page[key].as_u64().unwrap());
    assert_eq!(places, [0, 0, 3]);
    assert_eq!(page["exited"], false);
}
