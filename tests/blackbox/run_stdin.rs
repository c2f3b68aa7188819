//! `stdin` of a run: the whole input, its end, and programs that do not read it.

use base64::Engine as _;
use serde_json::json;

use crate::harness::{Backend, Server, eventually, on_both, procfs, sh};

on_both!(
    a_run_reads_its_stdin_to_the_end,
    stdin_may_be_base64_and_anything_else_is_refused,
    a_large_stdin_comes_back_whole_while_the_output_flows,
    a_program_that_reads_nothing_or_a_little_is_no_error,
    a_run_that_reads_nothing_times_out_and_gives_its_pipes_back,
    without_stdin_it_is_dev_null,
    a_run_that_goes_on_without_its_client_is_fed_to_the_end,
    a_program_that_cannot_be_started_leaves_nothing,
);

const RUN: &str = "/v1/processes/run";

fn a_run_reads_its_stdin_to_the_end(backend: Backend) {
    let server = Server::open(backend);
    for text in ["", "a", "two\nlines\n", "é\u{0}\u{1F600}"] {
        let run = server.run(&json!({"command": "cat", "stdin": text}));
        assert_eq!(
            (&run["stdout"], &run["exitCode"]),
            (&json!(text), &json!(0))
        );
    }
    let run = server.run(&json!({"command": "tr", "args": ["a-z", "A-Z"], "stdin": "loud"}));
    assert_eq!(run["stdout"], "LOUD");
}

fn stdin_may_be_base64_and_anything_else_is_refused(backend: Backend) {
    let server = Server::open(backend);
    let bytes = [0, 255, 254, 10];
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut body = json!({"command": "od", "args": ["-An", "-tu1"], "stdin": text});
    body["stdinEncoding"] = json!("base64");
    assert_eq!(server.run(&body)["stdout"], "   0 255 254  10\n");
    for (encoding, named) in [("base64", "stdin"), ("hex", "stdinEncoding"), ("", "utf8")] {
        body["stdinEncoding"] = json!(encoding);
        body["stdin"] = json!("no base64!");
        let problem = server.post(RUN, &body).problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(named), "{detail}");
    }
    for (key, value) in [("stdin", json!(5)), ("stdinEncoding", json!(true))] {
        let mut body = json!({"command": "cat"});
        body[key] = value;
        server.post(RUN, &body).expect(422);
    }
}

fn a_large_stdin_comes_back_whole_while_the_output_flows(backend: Backend) {
    let server = Server::open(backend);
    server.configure(&[("maxOutputBytes", 4 << 20)]);
    let text: String = (0..300_000).map(|n| format!("{}\n", n % 10_000)).collect();
    let run = server.run(&json!({"command": "cat", "stdin": text}));
    assert!(run["stdout"] == text, "{} bytes", text.len());
    let run = server.run(&json!({"command": "sh", "args": ["-c", "cat >&2"], "stdin": text}));
    assert!(run["stderr"] == text);
}

fn a_program_that_reads_nothing_or_a_little_is_no_error(backend: Backend) {
    let server = Server::open(backend);
    let text = "line\n".repeat(200_000);
    let run = |script: &str| {
        let mut body = sh(script);
        body["stdin"] = json!(text);
        server.run(&body)
    };
    assert_eq!(run("exit 3")["exitCode"], 3);
    assert_eq!(run("exec <&-; echo on")["stdout"], "on\n");
    assert_eq!(run("head -n 1")["stdout"], "line\n");
    // A child of the run keeps the pipe and never reads.
    assert_eq!(run("sleep 1 <&0 & exit 4")["exitCode"], 4);
}

fn a_run_that_reads_nothing_times_out_and_gives_its_pipes_back(backend: Backend) {
    let server = Server::open(backend);
    let pipes = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", server.pid)).unwrap();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        let links = links.filter(|link| link.to_string_lossy().starts_with("pipe:"));
        links.count()
    };
    let before = pipes();
    let body = json!({
        "command": "sleep", "args": ["60"], "timeoutMs": 200, "stdin": "x".repeat(1 << 20),
    });
    assert_eq!(server.run(&body)["timedOut"], true);
    eventually("the pipes to be closed", || {
        (pipes() == before).then_some(())
    });
}

fn without_stdin_it_is_dev_null(backend: Backend) {
    let server = Server::open(backend);
    let script = "readlink /proc/$$/fd/0";
    assert_eq!(server.run(&sh(script))["stdout"], "/dev/null\n");
    let mut body = sh(script);
    body["stdin"] = json!(null);
    assert_eq!(server.run(&body)["stdout"], "/dev/null\n");
    body["stdin"] = json!("");
    let run = server.run(&body);
    assert!(
        run["stdout"].as_str().unwrap().starts_with("pipe:"),
        "{run}"
    );
}

fn a_run_that_goes_on_without_its_client_is_fed_to_the_end(backend: Backend) {
    let server = Server::open(backend);
    let dir = std::fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.join(format!("fed-{}-{}", server.pid, backend.word()));
    let script = format!("echo $$ > {0}.pid; read line; cat > {0}", file.display());
    let mut body = sh(&script);
    body["stdin"] = json!(format!("go\n{}", "x".repeat(500_000)));
    for kills in [false, true] {
        body["killOnDisconnect"] = json!(kills);
        // Until it is told to go on, whoever it is.
        body["args"][1] = json!(format!(
            "echo $$ > {0}.pid; {1}",
            file.display(),
            match kills {
                true => "exec sleep 77".to_owned(),
                false => format!("read line; cat > {0}.part; mv {0}.part {0}", file.display()),
            }
        ));
        let body = body.to_string();
        let mut conn = server.conn();
        conn.send(format!(
            "POST {RUN} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let pid_file = file.with_extension("pid");
        let pid = eventually("it to start", || {
            std::fs::read_to_string(&pid_file)
                .ok()?
                .trim()
                .parse::<i32>()
                .ok()
        });
        conn.reset();
        eventually("it to end", || (!procfs::alive(pid)).then_some(()));
        if !kills {
            let written = std::fs::read(&file).expect("what it read");
            assert_eq!(written.len(), 500_000);
        }
        std::fs::remove_file(pid_file).unwrap();
    }
    std::fs::remove_file(file).unwrap();
    eventually("nothing to be left", || {
        server.survivors().is_empty().then_some(())
    });
}

fn a_program_that_cannot_be_started_leaves_nothing(backend: Backend) {
    let server = Server::open(backend);
    let fds = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid))
            .unwrap()
            .count()
    };
    let body = json!({"command": "/no/such/program", "stdin": "x".repeat(1 << 20)});
    server.post(RUN, &body).expect(502);
    let before = fds();
    for _ in 0..20 {
        server.post(RUN, &body).expect(502);
    }
    eventually("the pipes to be closed", || (fds() <= before).then_some(()));
}
