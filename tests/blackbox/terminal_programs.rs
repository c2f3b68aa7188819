//! Real programs on terminals: the official client, drawn by xterm, beside a plain PTY.
//!
//! In: `tests/terminal`, installed with `npm ci` from its lock file. Where Node.js 20,
//! python3 or a program is missing these tests say so in plain sight and pass; with
//! `CI=true` that is a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::harness::{Backend, Server, node, on_both, skipped};

on_both!(
    bash_looks_as_on_a_plain_pty,
    vim_looks_as_on_a_plain_pty_and_saves_the_same_file,
    less_looks_as_on_a_plain_pty,
    tmux_looks_as_on_a_plain_pty,
    top_is_seen_again_after_the_connection_was_cut,
    htop_is_seen_whole_by_who_comes_when_its_beginning_was_evicted,
);

fn bash_looks_as_on_a_plain_pty(backend: Backend) {
    drive("bash", backend);
}

fn vim_looks_as_on_a_plain_pty_and_saves_the_same_file(backend: Backend) {
    drive("vim", backend);
}

fn less_looks_as_on_a_plain_pty(backend: Backend) {
    drive("less", backend);
}

fn tmux_looks_as_on_a_plain_pty(backend: Backend) {
    drive("tmux", backend);
}

fn top_is_seen_again_after_the_connection_was_cut(backend: Backend) {
    drive("top", backend);
}

fn htop_is_seen_whole_by_who_comes_when_its_beginning_was_evicted(backend: Backend) {
    drive("htop", backend);
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/terminal")
}

pub(crate) fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !there {
        skipped(&format!("{program} not found"));
    }
    there
}

/// Whether the scripts can run; installs what they need on the first call.
fn ready() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    *READY.get_or_init(|| found("python3") && node::is_ready(&directory(), &["--omit=optional"]))
}

/// Runs one scenario of `programs.mjs` to its end.
#[track_caller]
fn drive(program: &str, backend: Backend) {
    if !ready() || !found(program) {
        return;
    }
    let server = Server::open(backend);
    let name = format!("{program}-{}-{}", std::process::id(), backend.word());
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&scratch).unwrap();
    let log = scratch.join("log");
    let sink = || Stdio::from(std::fs::File::options().append(true).open(&log).unwrap());
    std::fs::write(&log, "").unwrap();
    let mut child = Command::new("node")
        .arg(directory().join("programs.mjs"))
        .args([&format!("http://{}", server.address), program])
        .arg(&scratch)
        .current_dir(directory())
        .stdin(Stdio::null())
        .stdout(sink())
        .stderr(sink())
        .spawn()
        .expect("node");
    let end = Instant::now() + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_dir_all(&scratch);
    let fine = status.is_some_and(|status| status.success());
    assert!(fine, "{program}: {status:?}\n{said}");
}
