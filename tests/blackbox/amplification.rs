//! What one request may cost: about its own size, not the product of two of its parts.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::procfs::kib;
use crate::harness::{Backend, Launch, Server, Ws, on_both};
use crate::terminal::tty;

on_both!(
    a_long_name_and_a_path_of_many_directories_are_not_multiplied,
    screens_for_many_viewers_at_once_are_not_all_made_at_once,
    a_screen_that_is_larger_than_the_memory_is_not_made,
    a_large_screen_has_its_turn_among_small_ones,
);

/// The most that a server ever had resident, KiB.
fn peak_kib(server: &Server) -> u64 {
    kib(server.pid, "VmHWM")
}

fn a_long_name_and_a_path_of_many_directories_are_not_multiplied(backend: Backend) {
    let server = Server::open(backend);
    let no_file = |command: &str, path: &str| json!({"command": command, "env": {"PATH": path}});
    let name = "n".repeat(255);
    let directories = format!("/{}:", "d".repeat(200)).repeat(4000);
    // As much as JSON of a megabyte takes while it is read.
    const GROWTH_KIB: u64 = 16 << 10;
    let before = peak_kib(&server);
    let check = |body: Value, code: &str, text: &str| {
        for (target, tty) in [("/run", false), ("", false), ("", true)] {
            let mut body = body.clone();
            body["tty"] = tty.into();
            let answer = server.post(&format!("/v1/processes{target}"), &body);
            let problem = answer.problem(502, "stream_error");
            let what = if tty { "tty process" } else { "process" };
            let message = format!("failed to spawn {what}: {text}");
            assert_eq!(problem["code"], code, "{problem}");
            assert_eq!(problem["details"]["message"], message, "{problem}");
        }
    };
    let too_long = "File name too long (os error 36)";
    check(
        no_file(&"n".repeat(4000), &":".repeat(400_000)),
        "ENAMETOOLONG",
        too_long,
    );
    check(
        no_file(&format!("{name}n"), "/bin"),
        "ENAMETOOLONG",
        too_long,
    );
    check(
        no_file(&name, &":".repeat(400_000)),
        "E2BIG",
        "Argument list too long (os error 7)",
    );
    check(
        no_file(&name, &directories),
        "ENOENT",
        "No such file or directory (os error 2)",
    );
    let grown = peak_kib(&server) - before;
    eprintln!("{grown} KiB more");
    assert!(grown < GROWTH_KIB, "{grown} KiB more at the peak");
    // The number of directories is bounded, not their use.
    let path = format!("{}/bin:/usr/bin", "/nowhere:".repeat(4000));
    let found = json!({"command": "sh", "args": ["-c", "exit 3"], "env": {"PATH": path}});
    assert_eq!(server.run(&found)["exitCode"], 3);
}

/// A terminal of so many columns and lines that has written so many numbered ones.
fn written(server: &Server, cols: u16, rows: u16, lines: u32) -> String {
    let mut body = tty(&format!(
        "seq 1 {lines}; echo done; read line; echo more; sleep 1000"
    ));
    body["cols"] = cols.into();
    body["rows"] = rows.into();
    let id = server.spawn(&body);
    server.await_output(&id, "\ndone\r\n");
    id
}

/// A server that may hold so much.
fn small(backend: Backend, memory: &str) -> Server {
    Launch::new(backend)
        .args(&["--no-token", "--memory-max", memory])
        .start()
}

/// Such a screen takes 5.3 MB, twice and drawn, and making one of a long log has rests in it.
fn screens_for_many_viewers_at_once_are_not_all_made_at_once(backend: Backend) {
    let server = small(backend, "16M");
    let id = written(&server, 700, 380, 40_000);
    let before = peak_kib(&server);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut viewer = Ws::attach(&server, &id, "?replay=screen");
                viewer.until("done");
            });
        }
    });
    let grown = peak_kib(&server) - before;
    assert!(grown < 40 << 10, "{grown} KiB more at the peak");
}

/// A screen of a million cells takes 20 MB, twice and drawn.
fn a_screen_that_is_larger_than_the_memory_is_not_made(backend: Backend) {
    let server = small(backend, "16M");
    let id = written(&server, 1000, 1000, 40_000);
    let before = peak_kib(&server);
    let refused = server.get(&format!("/v1/processes/{id}/terminal/screen"));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    // A viewer has the recent output instead, and what comes.
    let mut viewer = Ws::attach(&server, &id, "?replay=screen");
    viewer.until("done");
    viewer.input("\n");
    viewer.until("more");
    let grown = peak_kib(&server) - before;
    assert!(grown < 8 << 10, "{grown} KiB more at the peak");
}

/// One that needs all that there is for screens waits for its turn only, and not until nobody else
/// asks.
fn a_large_screen_has_its_turn_among_small_ones(backend: Backend) {
    let server = small(backend, "64M");
    let large = written(&server, 300, 300, 1000);
    // Each takes many steps to make, between which others begin with theirs.
    let others: Vec<String> = (0..3).map(|_| written(&server, 80, 24, 600_000)).collect();
    let ask = |id: &str| server.get(&format!("/v1/processes/{id}/terminal/screen"));
    let over = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        for other in others.iter().cycle().take(12) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    ask(other);
                }
            });
        }
        let first = scope.spawn(|| (0..3).map(|_| ask(&large).status).collect());
        let answers: Result<Vec<u16>, _> = first.join();
        over.store(true, Ordering::Relaxed);
        answers
    });
    assert_eq!(answers.expect("answers in time"), [200; 3]);
}
