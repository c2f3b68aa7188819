//! `--client-token`: clients with tokens of their own, who are told apart and can be shut out one
//! by one.

use serde_json::{Value, json};

use crate::configuration::{hang_up, launch};
use crate::harness::launch::run_binary;
use crate::harness::{Backend, Folder, Launch, Response, Server, eventually, on_both, sh};

on_both!(
    each_token_opens_and_the_audit_log_names_whose_it_was,
    one_client_is_shut_out_and_nobody_else,
    a_token_that_cannot_be_is_no_start,
);

fn ask(server: &Server, method: &str, target: &str, token: &str, body: &Value) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "k"),
    ];
    server.request(method, target, &headers, body.to_string().as_bytes())
}

fn each_token_opens_and_the_audit_log_names_whose_it_was(backend: Backend) {
    let folder = Folder::new("client-tokens", backend);
    let log = folder.file("log");
    let ci = format!("ci={}", folder.write("ci", "c1\nnot a token\n"));
    let ops = format!("ops={}", folder.write("ops", "o1"));
    let args = [
        "--token",
        "s3cret",
        "--client-token",
        &ci,
        "--client-token",
        &ops,
    ];
    let args = [&args[..], &["--audit-log", &log]].concat();
    let server = Launch::new(backend).args(&args).env("COPY", "o1").start();
    let run =
        |token: &str, script: &str| ask(&server, "POST", "/v1/processes/run", token, &sh(script));
    // Each has keys of its own, or the second would be refused: it asks for something else.
    for (token, script) in [
        ("s3cret", "exit 1"),
        ("c1", "exit 2"),
        ("o1", "echo ${COPY-none}"),
    ] {
        run(token, script).expect(200);
    }
    assert_eq!(run("o1", "echo ${COPY-none}").json()["stdout"], "none\n");
    for wrong in ["ci", "not a token", "c1 o1", ""] {
        run(wrong, "exit 3").expect(401);
    }
    let lines = eventually("eight lines", || {
        let text = std::fs::read_to_string(&log).unwrap();
        (text.matches('\n').count() == 8).then_some(text)
    });
    let who = |line: &str| serde_json::from_str::<Value>(line).unwrap()["who"].clone();
    let who: Vec<_> = lines.lines().take(4).map(who).collect();
    assert_eq!(who, ["token", "token:ci", "token:ops", "token:ops"]);
    for secret in ["s3cret", "c1", "o1"] {
        assert!(!lines.contains(&format!("\"{secret}")), "{lines}");
    }
}

fn one_client_is_shut_out_and_nobody_else(backend: Backend) {
    let folder = Folder::new("client-tokens-file", backend);
    let named = |name: &str, token: &str| format!("{name}={}", folder.write(name, token));
    let (ci, ops) = (named("ci", "c1"), named("ops", "o1"));
    // Nobody needs the server to have one of its own.
    let file = folder.write("c.toml", &format!("client_token = [{ci:?}, {ops:?}]\n"));
    let server = launch(backend, &file).start();
    let all = |tokens: [&str; 3]| {
        tokens.map(|token| ask(&server, "GET", "/v1/processes", token, &json!({})).status)
    };
    assert_eq!(all(["c1", "o1", ""]), [200, 200, 401]);
    folder.write("ci", "c2\n");
    let line = hang_up(&server);
    assert!(
        line.contains("the token of ci") && !line.contains("c2"),
        "{line}"
    );
    assert_eq!(all(["c1", "c2", "o1"]), [401, 200, 200]);
    folder.write("c.toml", &format!("client_token = [{ops:?}]\n"));
    assert!(hang_up(&server).contains("client_token from "));
    assert_eq!(all(["c1", "c2", "o1"]), [401, 401, 200]);
    // The last one does not go and leave an open server.
    folder.write("c.toml", "");
    assert!(hang_up(&server).contains("nothing was reloaded"));
    assert_eq!(all(["", "c2", "o1"]), [401, 401, 200]);
}

fn a_token_that_cannot_be_is_no_start(backend: Backend) {
    let folder = Folder::new("client-tokens-wrong", backend);
    let [good, same, empty] = [("good", "g"), ("same", "g"), ("empty", "\n")]
        .map(|(name, token)| folder.write(name, token));
    let missing = folder.file("missing");
    for (tokens, told) in [
        (vec![format!("a={empty}")], "holds no token"),
        (vec![format!("a={missing}")], "No such file"),
        (
            vec![format!("a={good}"), format!("b={same}")],
            "somebody else has",
        ),
        (
            vec![format!("a={good}"), format!("a={good}")],
            "a has a token already",
        ),
        (vec![good.clone()], "must be NAME=FILE"),
        (vec![format!("a b={good}")], "must be NAME=FILE"),
    ] {
        let mut args = vec!["server", "--check-config"];
        for token in &tokens {
            args.extend(["--client-token", token]);
        }
        let (code, _, said) = run_binary(&args, None);
        assert!(code != Some(0) && said.contains(told), "{args:?}: {said}");
    }
}
