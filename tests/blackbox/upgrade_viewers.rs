//! Viewers at an upgrade: they are told to come back, and find everything.

use serde_json::json;

use crate::harness::{Backend, Folder, Ws, on_both, sh};
use crate::upgrade::{kept, upgrade};

on_both!(viewers_are_told_to_come_back_and_miss_nothing);

fn viewers_are_told_to_come_back_and_miss_nothing(backend: Backend) {
    let server = kept(backend);
    let folder = Folder::new("upgrade-viewers", backend);
    let gate = folder.file("gate");
    let mut busy = sh(&format!(
        "i=0; while [ ! -e {gate} ]; do i=$((i+1)); echo $i; done"
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
    upgrade(&server);
    let mut seen = first.into_bytes();
    let endings = [&mut watches, &mut types, &mut attached].map(Ws::rest);
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
