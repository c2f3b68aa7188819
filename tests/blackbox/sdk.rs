//! The official `sandbox-agent` client, an EventSource client and raw readers, at once.
//!
//! In: `tests/sdk`, installed with `npm ci` from its lock file. Without Node.js 20 these
//! tests say so in plain sight and pass; with `CI=true` that is a failure.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::sse::{bytes_of, sequences};
use crate::harness::{Backend, Folder, Follow, Item, Launch, Server, node, on_both, sh};

on_both!(
    every_process_method_of_the_official_client,
    an_event_source_resumes_through_cut_connections,
    an_event_source_of_a_finished_process_comes_back_once,
    three_followers_at_once_get_the_bytes_that_were_written,
);

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// Whether the scripts can run; installs what they need on the first call.
fn ready() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    *READY.get_or_init(|| node::is_ready(&directory(), &[]))
}

/// A running script of `tests/sdk`; ended when dropped.
struct Script {
    name: &'static str,
    child: Child,
}

impl Script {
    fn start(name: &'static str, args: &[&str]) -> Self {
        let mut command = Command::new("node");
        command
            .arg(directory().join(name))
            .args(args)
            .current_dir(directory());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            name,
            child: command.spawn().expect("node"),
        }
    }

    /// Waits for exit code 0.
    #[track_caller]
    fn finish(mut self) {
        let end = Instant::now() + Duration::from_secs(120);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut text = String::new();
            let _ = pipe.unwrap().read_to_string(&mut text);
            text
        };
        let out = read(
            self.child
                .stdout
                .as_mut()
                .map(|p| p as &mut dyn std::io::Read),
        );
        let err = read(
            self.child
                .stderr
                .as_mut()
                .map(|p| p as &mut dyn std::io::Read),
        );
        assert!(
            status.is_some_and(|s| s.success()),
            "{} {status:?}\n{out}\n{err}",
            self.name
        );
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `writer.mjs` as a managed process that records what it writes in `scratch`.
fn writer(server: &Server, scratch: &Folder, seed: u32, writes: u32) -> String {
    let script = directory().join("writer.mjs");
    server.spawn(
        &json!({"command": "node", "args": [script.to_str().unwrap(), seed.to_string(),
        writes.to_string(), scratch.file("written-out"), scratch.file("written-err")]}),
    )
}

#[track_caller]
fn assert_as_written(scratch: &Folder, who: &str, out: &[u8], err: &[u8]) {
    let (written_out, written_err) = (scratch.read("written-out"), scratch.read("written-err"));
    assert!(written_out.len() > 10_000 && written_err.len() > 10_000);
    // Not assert_eq: nobody wants to see megabytes.
    assert!(
        out == written_out,
        "{who}: stdout differs: {} of {}",
        out.len(),
        written_out.len()
    );
    assert!(
        err == written_err,
        "{who}: stderr differs: {} of {}",
        err.len(),
        written_err.len()
    );
}

fn every_process_method_of_the_official_client(backend: Backend) {
    if ready() {
        let server = Launch::new(backend).args(&["--token", "s3cret"]).start();
        Script::start(
            "client.mjs",
            &[&format!("http://{}", server.address), "s3cret"],
        )
        .finish();
    }
}

fn an_event_source_resumes_through_cut_connections(backend: Backend) {
    if ready() {
        let server = Server::open(backend);
        let scratch = Folder::new("sdk-resume", backend);
        let id = writer(&server, &scratch, 4711, 400);
        let (out, err) = (scratch.file("out"), scratch.file("err"));
        let url = format!("http://{}", server.address);
        Script::start("resume.mjs", &[&url, &id, &out, &err, "8"]).finish();
        assert_as_written(
            &scratch,
            "EventSource",
            &scratch.read("out"),
            &scratch.read("err"),
        );
    }
}

fn an_event_source_of_a_finished_process_comes_back_once(backend: Backend) {
    if !ready() {
        return;
    }
    let server = Server::open(backend);
    let silent = server.spawn(&sh("exit 3"));
    let both = server.spawn(&sh("echo a; sleep 0.1; echo b >&2"));
    for id in [&silent, &both] {
        server.await_exit(id);
    }
    let targets = [
        (&silent, ""),
        (&both, ""),
        (&both, "&stream=stdout"),
        (&both, "&stream=pty"),
        (&both, "&tail=0"),
        (&both, "&since=1"),
    ]
    .map(|(id, query)| format!("/v1/processes/{id}/logs?follow=true{query}"));
    let url = format!("http://{}", server.address);
    let mut args = vec![url.as_str()];
    args.extend(targets.iter().map(String::as_str));
    Script::start("finished.mjs", &args).finish();
}

fn three_followers_at_once_get_the_bytes_that_were_written(backend: Backend) {
    if !ready() {
        return;
    }
    let server = Server::open(backend);
    let scratch = Folder::new("sdk-three", backend);
    let id = writer(&server, &scratch, 815, 900);
    let (out, err) = (scratch.file("out"), scratch.file("err"));
    let url = format!("http://{}", server.address);
    let official = Script::start("follow.mjs", &[&url, &id, &out, &err]);
    let [straight, resumed] = std::thread::scope(|scope| {
        let straight = scope.spawn(|| Follow::process(&server, &id).rest());
        let resumed = scope.spawn(|| stopped_and_resumed(&server, &id));
        [straight, resumed].map(|reader| reader.join().unwrap())
    });
    official.finish();
    assert_eq!(server.info(&id)["exitCode"], 7);
    assert_as_written(
        &scratch,
        "official client",
        &scratch.read("out"),
        &scratch.read("err"),
    );
    for (who, items) in [("straight", &straight), ("resumed", &resumed)] {
        let seen = sequences(items);
        assert!(
            seen.iter().copied().eq(1..=seen.len() as u64),
            "{who}: lost or repeated"
        );
        assert_as_written(
            &scratch,
            who,
            &bytes_of(items, "stdout"),
            &bytes_of(items, "stderr"),
        );
    }
    // Both raw clients got the same bytes on the wire, event for event.
    assert!(straight == resumed);
}

/// Follows a process, leaving and coming back with `Last-Event-ID` four times.
fn stopped_and_resumed(server: &Server, id: &str) -> Vec<Item> {
    let target = format!("/v1/processes/{id}/logs?follow=true");
    let mut items = Follow::process(server, id).take(5);
    for _ in 0..4 {
        let last = sequences(&items).last().expect("an entry").to_string();
        let mut follow = Follow::open(server, &target, &[("Last-Event-ID", &last)]);
        items.extend(follow.take(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    let last = sequences(&items).last().expect("an entry").to_string();
    items.extend(Follow::open(server, &target, &[("Last-Event-ID", &last)]).rest());
    items
}
