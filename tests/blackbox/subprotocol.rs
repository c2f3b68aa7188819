//! The token of a page, among the subprotocols of its WebSocket.

use crate::harness::ws::path;
use crate::harness::{Backend, Launch, Problem, Response, Server, Ws, on_both};
use crate::terminal::tty;

on_both!(
    a_page_brings_its_token_as_a_subprotocol_and_never_gets_it_back,
    more_than_one_credential_is_refused,
    an_open_server_takes_a_credential_and_does_not_echo_it,
);

const TOKEN: &str = "s3cret-Token~?>";
const RIGHT: &str = "procring.bearer.v1.czNjcmV0LVRva2Vufj8-";

fn locked(backend: Backend) -> (Server, String) {
    let server = Launch::new(backend).args(&["--token", TOKEN]).start();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", bearer.as_str()),
    ];
    let body = tty("sleep 1000").to_string();
    let answer = server.request("POST", "/v1/processes", &headers, body.as_bytes());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    (server, id)
}

fn ask(server: &Server, target: &str, protocols: &[&str]) -> Result<Ws, Response> {
    let headers: Vec<_> = protocols
        .iter()
        .map(|protocols| ("Sec-WebSocket-Protocol", *protocols))
        .collect();
    Ws::ask(server, target, &headers)
}

fn a_page_brings_its_token_as_a_subprotocol_and_never_gets_it_back(backend: Backend) {
    let (server, id) = locked(backend);
    let target = path(&id, "");
    let both = format!("procring.v1, {RIGHT}");
    let other = format!("{RIGHT}, tty.v1");
    for (protocols, echoed) in [
        (&[both.as_str()][..], Some("procring.v1")),
        (&[RIGHT, "procring.v1"], Some("procring.v1")),
        (&[RIGHT], None),
        (&[other.as_str()], None),
    ] {
        let ws = ask(&server, &target, protocols).expect("an upgrade");
        let head = &ws.head;
        assert_eq!(
            head.header("sec-websocket-protocol"),
            echoed,
            "{protocols:?}"
        );
        assert!(!format!("{:?}", head.headers).contains("bearer"));
    }
    for wrong in [
        "procring.v1",
        "procring.v1, procring.bearer.v1.",
        "procring.v1, procring.bearer.v1.czNjcmV0LVRva2Vufj8",
        "procring.v1, procring.bearer.v1.czNjcmV0LVRva2Vufj8+",
        "procring.v1, Procring.Bearer.v1.czNjcmV0LVRva2Vufj8-",
    ] {
        let refused = ask(&server, &target, &[wrong]).expect_err("no token");
        Problem::no_token().check(&refused);
    }
    // It opens a WebSocket and nothing else.
    let headers = [("Sec-WebSocket-Protocol", both.as_str())];
    let answer = server.request("GET", "/v1/processes", &headers, b"");
    Problem::no_token().check(&answer);
    // A page of somebody else may not use it.
    let headers = [headers[0], ("Origin", "https://evil.example")];
    let refused = Ws::ask(&server, &target, &headers).expect_err("a foreign page");
    assert_eq!(refused.status, 403);
    assert!(!server.stderr().contains("czNjcmV0"), "{}", server.stderr());
}

fn more_than_one_credential_is_refused(backend: Backend) {
    let (server, id) = locked(backend);
    let bearer = format!("Bearer {TOKEN}");
    let target = path(&id, "");
    let by_query = path(&id, "?access_token=s3cret-Token~%3F%3E");
    let twice = format!("procring.v1, {RIGHT}, {RIGHT}");
    let wrong_too = format!("{RIGHT}, procring.bearer.v1.YQ");
    let header = ("Authorization", bearer.as_str());
    let protocol = |value| ("Sec-WebSocket-Protocol", value);
    for (target, headers) in [
        (&target, &[protocol(twice.as_str())][..]),
        (&target, &[protocol(wrong_too.as_str())]),
        (&target, &[protocol(RIGHT), protocol(RIGHT)]),
        (&target, &[header, protocol(RIGHT)]),
        (&target, &[protocol(RIGHT), ("Authorization", "Bearer x")]),
        (&by_query, &[protocol(RIGHT)]),
    ] {
        let refused = Ws::ask(&server, target, headers).expect_err("a doubt");
        assert_eq!(refused.status, 400, "{headers:?}");
        let text = refused.text();
        assert!(text.contains("more than one credential"), "{text}");
        assert!(!text.contains("czNj"), "{text}");
        assert_eq!(refused.header("sec-websocket-version"), Some("13"));
    }
    // What was taken before is still taken.
    Ws::ask(&server, &by_query, &[header]).expect("an upgrade");
}

fn an_open_server_takes_a_credential_and_does_not_echo_it(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&tty("sleep 1000"));
    for (protocols, echoed) in [
        ("procring.v1, procring.bearer.v1.YQ", Some("procring.v1")),
        ("procring.bearer.v1.!", None),
        ("procring.v1", Some("procring.v1")),
        ("tty.v1, procring.v1", Some("procring.v1")),
    ] {
        let ws = ask(&server, &path(&id, ""), &[protocols]).expect("an upgrade");
        let got = ws.head.header("sec-websocket-protocol");
        assert_eq!(got, echoed, "{protocols}");
    }
}
