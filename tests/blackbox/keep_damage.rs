//! `--keep`: memory of records that something else than a server has written to. What is lost by that is
//! told, with the process where it is known, and all others go on.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use crate::harness::server::send_signal;
use crate::harness::{Backend, Launch, Server, WAIT, eventually, on_both, procfs, sh};
use crate::keep::kill_server;

on_both!(
    what_is_lost_of_a_damaged_record_is_told_and_others_go_on,
    numbers_of_all_records_are_mended_by_what_there_is,
);

/// Numbers in a record, and places in it, which no version changes.
const WORDS: u64 = 32;
const LIFE: u64 = 0;
const JOB: u64 = 1;
const ID: u64 = 2;
const KIND: u64 = 3;
const CELL: u64 = 4;
const TEXT: u64 = 5;
const TEXT_BYTES: u64 = 6;
const PID: u64 = 7;
const STATUS: u64 = 8;
const END: u64 = 13;
const STDOUT: u64 = 16;
const INPUT: u64 = 19;

/// The same in the first record, which is of all others.
const LAST_ID: u64 = 0;
const LAST_JOB: u64 = 1;
const HIGH: u64 = 2;

/// What no server ever stores.
const NOISE: u64 = 0xdead_beef_dead_beef;

/// The first descriptor of a keeper, above the standard ones, that is of this kind.
#[track_caller]
fn number_of(server: &Server, kind: &str) -> u64 {
    let dir = format!("/proc/{}/fd", server.pid);
    let fds = std::fs::read_dir(&dir).unwrap().flatten();
    let mut numbers: Vec<u64> = fds
        .filter_map(|fd| fd.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let is_it = |number: &u64| {
        let to = std::fs::read_link(format!("{dir}/{number}"));
        *number > 2 && to.is_ok_and(|to| to.to_string_lossy().contains(kind))
    };
    numbers.into_iter().find(is_it).expect("a descriptor")
}

struct Memory(File);

impl Memory {
    /// That of the records of a keeper.
    fn of(server: &Server) -> Self {
        let number = number_of(server, "procring-jobs");
        let path = format!("/proc/{}/fd/{number}", server.pid);
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self(file.unwrap())
    }

    fn get(&self, record: u64, place: u64) -> u64 {
        let mut bytes = [0; 8];
        let at = (record * WORDS + place) * 8;
        self.0.read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, record: u64, place: u64, value: u64) {
        let at = (record * WORDS + place) * 8;
        self.0.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }

    /// The record of a process.
    fn record(&self, id: &str) -> u64 {
        let number: u64 = id.strip_prefix("proc_").unwrap().parse().unwrap();
        let is_it = |record: &u64| self.get(*record, ID) == number;
        (1..1000).find(is_it).expect("a record")
    }
}

fn kept(backend: Backend) -> Server {
    let args = ["--no-token", "--keep", "--log-format", "json"];
    Launch::new(backend).args(&args).start()
}

/// Stops the server, has something written, and kills it; another one goes on then.
#[track_caller]
fn damage(server: &Server, write: impl FnOnce(&Memory)) {
    let before = server.kept().expect("a server");
    send_signal(before, libc::SIGSTOP);
    eventually("a stopped server", || {
        (procfs::state(before) == Some('T')).then_some(())
    });
    write(&Memory::of(server));
    kill_server(server);
}

fn damages(server: &Server) -> Vec<Value> {
    let stderr = server.stderr();
    let lines = stderr.lines();
    let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|line| line["event"] == "damaged").collect()
}

/// A process that has written something, as it is seen.
fn spawn(server: &Server) -> (String, Value) {
    let id = server.spawn(&sh("echo out; echo err >&2; sleep 77"));
    server.await_output(&id, "err");
    let info = server.info(&id);
    (id, info)
}

fn what_is_lost_of_a_damaged_record_is_told_and_others_go_on(backend: Backend) {
    let mut server = kept(backend);
    let places = [
        (LIFE, NOISE),
        (LIFE, 0),
        (JOB, NOISE),
        (JOB, 0),
        (ID, NOISE),
        (KIND, NOISE),
        (KIND, 0),
        (CELL, NOISE),
        (CELL, 0),
        (CELL, 4_000_000),
        (TEXT, NOISE),
        (TEXT, 0),
        (TEXT, 5_000_000),
        (TEXT_BYTES, NOISE),
        (TEXT_BYTES, 1 << 31),
        (PID, NOISE),
        (PID, 1),
        (STATUS, NOISE),
        (END, NOISE),
        (STDOUT, NOISE),
        (INPUT, NOISE),
    ];
    let first = spawn(&server);
    let all: Vec<_> = places.iter().map(|_| spawn(&server)).collect();
    let last = spawn(&server);
    let memory = Memory::of(&server);
    let records: Vec<u64> = all.iter().map(|(id, _)| memory.record(id)).collect();
    // A descriptor that is another one's, and one that is no pipe: what is listened on.
    let [other, listens] = [spawn(&server), spawn(&server)];
    let [at_other, at_listens] = [&other, &listens].map(|(id, _)| memory.record(id));
    let socket = number_of(&server, "socket:");
    let shared = memory.get(memory.record(&first.0), STDOUT);
    damage(&server, |memory| {
        for ((place, value), record) in places.iter().zip(&records) {
            memory.set(*record, *place, *value);
        }
        memory.set(at_listens, STDOUT, socket);
        memory.set(at_other, STDOUT, shared);
    });
    server.get("/v1/health").expect(200);
    let told = eventually("a word of the process whose number is lost", || {
        let told = damages(&server);
        told.iter()
            .any(|line| line["message"].to_string().contains("first process"))
            .then_some(told)
    });
    let is_told = |id: &str, record: u64| {
        let text = format!("record {record} ");
        told.iter()
            .any(|line| line["id"] == id || line["message"].to_string().contains(&text))
    };
    for (((id, _), record), (place, value)) in all.iter().zip(&records).zip(&places) {
        let what = format!("{value:x} at {place} of {id}");
        assert!(is_told(id, *record), "{what}: {told:?}");
    }
    for ((id, _), record) in [(&other, at_other), (&listens, at_listens)] {
        assert!(is_told(id, record), "{id}: {told:?}");
    }
    assert!(told.iter().all(|line| line["level"] == "error"), "{told:?}");
    // Of the first an end is lost, since another one seemed to be it.
    assert!(is_told(&first.0, 0), "{told:?}");
    let (id, info) = &last;
    assert_eq!(&server.info(id), info);
    assert_eq!(server.output(id, "stdout"), b"out\n");
    assert!(
        told.iter().all(|line| line["id"] != id.as_str()),
        "{told:?}"
    );
    let metrics = server.get("/metrics").expect(200);
    let line = format!("procring_records_damaged_total {}", told.len());
    assert!(metrics.text().contains(&line), "{line}: {}", metrics.text());
    // Nothing is told again, and nobody is left.
    damage(&server, |_| {});
    assert_eq!(&server.info(id), info);
    assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(WAIT).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0]);
}

fn numbers_of_all_records_are_mended_by_what_there_is(backend: Backend) {
    let server = kept(backend);
    let all: Vec<_> = (0..3).map(|_| spawn(&server)).collect();
    for (times, values) in [
        [(HIGH, 0), (LAST_ID, 0), (LAST_JOB, 0)],
        [(HIGH, NOISE), (LAST_ID, NOISE), (LAST_JOB, NOISE)],
    ]
    .into_iter()
    .enumerate()
    {
        damage(&server, |memory| {
            for (place, value) in values {
                memory.set(0, place, value);
            }
        });
        for (id, info) in &all {
            assert_eq!(&server.info(id), info);
        }
        let told = damages(&server);
        assert_eq!(told.len(), 2 * (times + 1), "{told:?}");
        let (id, _) = spawn(&server);
        assert!(all.iter().all(|(other, _)| *other != id));
        assert_eq!(server.kill(&id)["signal"], "SIGKILL");
    }
}
