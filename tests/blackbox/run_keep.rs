//! `keep` of a run: which bytes of a long output are answered, to the byte.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::{Backend, Server, on_both, sh};

on_both!(
    the_first_the_last_or_half_of_each_is_kept_to_the_byte,
    what_is_not_cut_is_whole_whatever_is_kept,
    keys_stand_in_their_order_and_only_where_they_are_asked_for,
    a_character_that_was_cut_is_left_out_at_both_ends,
    an_output_of_many_slots_keeps_its_ends,
    other_words_are_refused,
    what_a_run_left_has_a_log_of_what_was_kept,
);

const RUN: &str = "/v1/processes/run";

fn printf(text: &str, keep: &str, max: u64) -> Value {
    let args = json!(["%s", text]);
    json!({"command": "printf", "args": args, "keep": keep, "maxOutputBytes": max})
}

fn the_first_the_last_or_half_of_each_is_kept_to_the_byte(backend: Backend) {
    let server = Server::open(backend);
    for (keep, max, stdout, tail) in [
        ("head", 4, "0123", None),
        ("tail", 4, "6789", None),
        ("both", 4, "01", Some("89")),
        ("both", 5, "012", Some("89")),
        ("both", 1, "0", Some("")),
        ("both", 9, "01234", Some("6789")),
        ("tail", 9, "123456789", None),
        ("head", 0, "", None),
        ("tail", 0, "", None),
        ("both", 0, "", Some("")),
    ] {
        let run = server.run(&printf("0123456789", keep, max));
        assert_eq!(run["stdout"], stdout, "{keep} {max}");
        assert_eq!(
            run.get("stdoutTail"),
            tail.map(|t| json!(t)).as_ref(),
            "{keep} {max}"
        );
        assert_eq!(
            (&run["stdoutBytes"], &run["stderrBytes"]),
            (&json!(10), &json!(0))
        );
        assert_eq!(run["stdoutTruncated"], true);
        assert_eq!(run.get("stderrTail"), None, "nothing of it was cut");
    }
}

fn what_is_not_cut_is_whole_whatever_is_kept(backend: Backend) {
    let server = Server::open(backend);
    for keep in ["head", "tail", "both"] {
        for max in [10, 11, 1 << 20] {
            let run = server.run(&printf("0123456789", keep, max));
            assert_eq!(run["stdout"], "0123456789", "{keep} {max}");
            assert_eq!(
                (run["stdoutTruncated"].clone(), run.get("stdoutTail")),
                (json!(false), None)
            );
        }
    }
}

fn keys_stand_in_their_order_and_only_where_they_are_asked_for(backend: Backend) {
    let server = Server::open(backend);
    let mut body = sh("printf 0123456789; printf abcdef >&2; kill -KILL $$");
    body["maxOutputBytes"] = json!(4);
    let old = [
        "exitCode",
        "timedOut",
        "stdout",
        "stderr",
        "stdoutTruncated",
        "stderrTruncated",
        "durationMs",
    ];
    let asked = |body: &Value, more: &[&str]| {
        let answer = server.post(RUN, body).expect(200);
        assert_eq!(keys(answer.text()), [&old[..], more].concat(), "{body}");
    };
    asked(&body, &["signal"]);
    for null in ["keep", "stdin", "stdinEncoding", "killOnDisconnect"] {
        body[null] = json!(null);
    }
    asked(&body, &["signal"]);
    body["keep"] = json!("head");
    asked(&body, &["stdoutBytes", "stderrBytes", "signal"]);
    body["keep"] = json!("both");
    let both = [
        "stdoutBytes",
        "stderrBytes",
        "stdoutTail",
        "stderrTail",
        "signal",
    ];
    asked(&body, &both);
}

fn a_character_that_was_cut_is_left_out_at_both_ends(backend: Backend) {
    let server = Server::open(backend);
    // a é € 😀 é z: 1, 2, 3, 4, 2, 1 bytes.
    let text = "aé€😀éz";
    for (max, tail) in [
        (3, "éz"),
        (4, "éz"),
        (6, "éz"),
        (7, "😀éz"),
        (9, "😀éz"),
        (10, "€😀éz"),
    ] {
        assert_eq!(
            server.run(&printf(text, "tail", max))["stdout"],
            tail,
            "{max}"
        );
    }
    let run = server.run(&printf(text, "both", 8));
    assert_eq!(
        (&run["stdout"], &run["stdoutTail"]),
        (&json!("aé"), &json!("éz"))
    );
    // What is no character is not taken for the rest of one.
    let mut body = sh(r"printf 'abc\200\200\200'");
    body["keep"] = json!("tail");
    body["maxOutputBytes"] = json!(3);
    assert_eq!(server.run(&body)["stdout"], "\u{FFFD}\u{FFFD}\u{FFFD}");
}

fn an_output_of_many_slots_keeps_its_ends(backend: Backend) {
    let server = Server::open(backend);
    let script = "i=100000; while [ $i -lt 160000 ]; do i=$((i+1)); echo $i; done";
    let all: String = (100_001..=160_000).map(|n| format!("{n}\n")).collect();
    for max in [100_000, 65_536, 131_072, 200_001] {
        let mut body = sh(script);
        body["maxOutputBytes"] = json!(max);
        body["keep"] = json!("tail");
        let run = server.run(&body);
        assert!(run["stdout"] == all[all.len() - max..], "{max}");
        body["keep"] = json!("both");
        let run = server.run(&body);
        assert!(run["stdout"] == all[..max - max / 2], "{max}");
        assert!(run["stdoutTail"] == all[all.len() - max / 2..], "{max}");
        assert_eq!(run["stdoutBytes"], all.len());
    }
}

fn other_words_are_refused(backend: Backend) {
    let server = Server::open(backend);
    for word in ["", "Head", "middle"] {
        let problem = server
            .post(RUN, &printf("x", word, 1))
            .problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("keep must be one of: head, tail, both"),
            "{detail}"
        );
    }
    server
        .post(RUN, &json!({"command": "true", "keep": 1}))
        .expect(422);
    server
        .post(RUN, &json!({"command": "true", "killOnDisconnect": "no"}))
        .expect(422);
}

fn what_a_run_left_has_a_log_of_what_was_kept(backend: Backend) {
    let server = Server::open(backend);
    let mut body =
        sh("sleep 77 >/dev/null 2>&1 & head -c 1000000 /dev/zero | tr '\\0' x; echo end");
    body["keep"] = json!("both");
    body["maxOutputBytes"] = json!(100_000);
    let run = server.run(&body);
    let id = run["processId"].as_str().expect("it has left something");
    let output = server.output(id, "stdout");
    assert!(
        output.ends_with(b"xend\n") && output.len() >= 100_000,
        "{}",
        output.len()
    );
    let dropped = server.logs(id, "")["droppedBytes"].as_u64().unwrap();
    assert_eq!(dropped + output.len() as u64, 1_000_004);
    server.kill(id);
}
