//! Viewers at an upgrade: they are told to come back, and find everything.

use serde_json::json;

use crate::harness::ws::Got;
use crate::harness::{Backend, Folder, Ws, eventually, on_both, sh};
use crate::upgrade::{kept, upgrade};

on_both!(
    viewers_are_told_to_come_back_and_miss_nothing,
    what_is_typed_ahead_is_read_behind_an_upgrade,
);

fn viewers_are_told_to_come_back_and_miss_nothing(backend: Backend) {
    let server = kept(backend);
    let folder = Folder::new("upgrade-viewers", backend);
    let gate = folder.file("gate");
    // Less than its viewer takes: who is behind when viewers are told to come back is cut off.
    let mut busy = sh(&format!(
        "i=0; while [ ! -e {gate} ]; do i=$((i+1)); echo $i; [ $((i%40)) != 0 ] || sleep 0.005; done"
    ));
    busy["tty"] = json!(true);
    let busy = server.spawn(&busy);
    let quiet = server.spawn(&json!({"command": "cat", "tty": true}));
    let piped = server.spawn(&json!({"command": "cat"}));
    let mut watches = Ws::attach(&server, &busy, "?replay=all");
    let mut types = Ws::attach(&server, &quiet, "");
    let attach = format!("/v1/processes/{piped}/attach/ws");
    let mut attached = Ws::ask(&server, &attach, &[]).expect("an upgrade");
    types.input("typed\n");
    types.until("typed");
    let first = watches.until("10\r\n");
    let mut seen = first.into_bytes();
    let endings = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watches.rest());
        upgrade(&server);
        let watched = watching.join().expect("an end of what is watched");
        [watched, types.rest(), attached.rest()]
    });
    for ending in &endings {
        assert_eq!(ending.close, Some(1012), "{ending:?}");
        assert_eq!(ending.reason, "another server goes on");
    }
    seen.extend(&endings[0].output);
    let mut again = Ws::attach(&server, &busy, &format!("?offset={}", seen.len()));
    std::fs::write(&gate, "").unwrap();
    let ending = again.rest();
    assert_eq!(ending.close, Some(1000), "{ending:?}");
    seen.extend(ending.output);
    assert!(seen == server.output(&busy, "pty"), "each byte once");
    let mut again = Ws::attach(&server, &quiet, "");
    again.input("more\n");
    again.until("more");
}

fn what_is_typed_ahead_is_read_behind_an_upgrade(backend: Backend) {
    let server = kept(backend);
    let folder = Folder::new("upgrade-typed", backend);
    let gate = folder.file("gate");
    let mut reads = sh(&format!(
        "while [ ! -e {gate} ]; do sleep 0.02; done; exec cat"
    ));
    reads["stdin"] = json!("open");
    let id = server.spawn(&reads);
    let attach = format!("/v1/processes/{id}/attach/ws?frames=json");
    let mut viewers = [(); 2].map(|()| Ws::ask(&server, &attach, &[]).expect("an upgrade"));
    // More than its pipe holds, of two, one behind the other.
    let piece = |n: usize| format!("{n:0>59999}\n");
    let said = |total: usize| {
        eventually("the first of it in the pipe", || {
            let usage = server.get(&format!("/v1/processes/{id}?usage=true")).json();
            (usage["usage"]["inputBytes"].as_u64()? >= total as u64).then_some(())
        });
    };
    for n in 0..8 {
        viewers[n % 2].json(&json!({"type": "input", "data": piece(n)}));
        // What it says behind that it says when it has read that.
        viewers[n % 2].json(&json!({"type": "nothing"}));
        loop {
            if let Got::Text(text) = viewers[n % 2].next()
                && text["type"] == "error"
            {
                break;
            }
        }
    }
    said(60_000);
    server
        .post_empty(&format!("/v1/processes/{id}/stdin/close"))
        .expect(204);
    upgrade(&server);
    upgrade(&server);
    for mut viewer in viewers {
        assert_eq!(viewer.rest().close, Some(1012));
    }
    std::fs::write(&gate, "").unwrap();
    assert_eq!(server.await_exit(&id)["exitCode"], 0);
    let all: String = (0..8).map(piece).collect();
    assert!(
        server.output(&id, "stdout") == all.as_bytes(),
        "each byte once, in order"
    );
}
