//! A full pids cgroup: refusals that name it, everything else goes on, and all is free again.
//!
//! The loop that fills it is bounded by itself, by the limit, and by time.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::books::Books;
use crate::harness::server::kill_group;
use crate::harness::{Backend, Launch, Server, eventually, on_both, sh, skipped_anywhere};

on_both!(
    a_fork_loop_that_fills_the_pids_cgroup_stops_only_what_needs_a_process,
    a_server_that_gets_no_thread_to_spawn_with_refuses_and_recovers,
);

/// Tasks in the group, the server's threads included.
const LIMIT: usize = 150;

/// A group with a limit on its tasks; removed when dropped, empty by then.
struct PidsGroup(PathBuf);

impl PidsGroup {
    /// Below the test's own group: version 2 where that has the controller, else version 1.
    fn new(backend: Backend) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mounted = |wanted: &dyn Fn(&str) -> bool| {
            let line = mounts.lines().find(|line| wanted(line))?;
            line.split(' ').nth(4).map(PathBuf::from)
        };
        let unified = mounted(&|line| line.contains(" - cgroup2 "));
        let own = mounted(&|line| line.contains(" - cgroup ") && line.ends_with(",pids"));
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "procring-pids-{}-{}-{made}",
            std::process::id(),
            backend.word()
        );
        [unified, own].into_iter().flatten().find_map(|parent| {
            let dir = parent.join(&name);
            std::fs::create_dir(&dir).ok()?;
            // Dropped, and so removed, where the controller is not there.
            let group = Self(dir);
            std::fs::write(group.0.join("pids.max"), LIMIT.to_string()).ok()?;
            (group.number("pids.max") == Some(LIMIT)).then_some(group)
        })
    }

    fn number(&self, file: &str) -> Option<usize> {
        let text = std::fs::read_to_string(self.0.join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn current(&self) -> usize {
        self.number("pids.current").expect("pids.current")
    }

    /// A server that is in the group before it is a server.
    fn start(&self, backend: Backend) -> Server {
        let enter = format!("echo $$ > '{}' && exec \"$@\"", self.procs().display());
        Launch::new(backend)
            .args(&["--no-token"])
            .through_exec(&["sh", "-c", &enter, "sh"])
            .start()
    }

    fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        // Its last members may be on their way out.
        for _ in 0..200 {
            if !Path::new(&self.0).exists() || std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Forks at most 400 children that end by themselves after a minute, and tries again for 40
/// seconds where there is no room: whatever becomes free it takes.
const FILL: &str = "for (1..4000) { last if $n >= 400; my $p = fork; \
                    if (defined $p) { $p or do { sleep 60; exit }; $n++ } \
                    else { select undef, undef, undef, 0.01 } } sleep 60";

fn a_fork_loop_that_fills_the_pids_cgroup_stops_only_what_needs_a_process(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let Some(group) = PidsGroup::new(backend) else {
        return skipped_anywhere("no pids cgroup can be written to; a full one is not tested");
    };
    let server = group.start(backend);
    // Not at once: the supervisor tries out, with a child of its own, what cgroups can do.
    eventually("the server, and nobody else, in the group", || {
        let members = std::fs::read_to_string(group.procs()).unwrap();
        (members.trim() == server.pid.to_string()).then_some(())
    });
    assert_eq!(group.number("pids.max"), Some(LIMIT));

    let bystander = server.spawn(&json!({"command": "cat"}));
    for _ in 0..4 {
        assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    }
    let before = Books::at_rest(&server);
    let tasks_before = group.current();
    let culprit = server.spawn(&json!({"command": "perl", "args": ["-e", FILL]}));
    eventually("a full group", || (group.current() >= LIMIT).then_some(()));

    let mut tty = json!({"command": "cat"});
    tty["tty"] = true.into();
    for (target, body) in [
        ("/v1/processes", json!({"command": "cat"})),
        ("/v1/processes", tty),
        ("/v1/processes/run", sh("true")),
    ] {
        for _ in 0..5 {
            let refused = server.post(target, &body);
            assert!(refused.header("retry-after").is_some(), "{refused:?}");
            let problem = refused.problem(503, "unavailable");
            assert_eq!(problem["code"], "EAGAIN", "{problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("pids.max"), "{problem}");
        }
    }
    for _ in 0..5 {
        server.get("/v1/health").expect(200);
        let list = server.get("/v1/processes").json();
        let ids: Vec<_> = list["processes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|info| info["id"].as_str().unwrap())
            .collect();
        // What could not be started is not there.
        assert_eq!(ids, [&bystander[..], &culprit[..]]);
        assert_eq!(server.info(&culprit)["status"], "running");
    }
    // A process that is there already is served.
    let input = json!({"data": "aGVyZQo="});
    server
        .post(&format!("/v1/processes/{bystander}/input"), &input)
        .expect(200);
    server.await_output(&bystander, "here");
    assert_eq!(group.current(), LIMIT, "it was full all the time");

    assert_eq!(server.kill(&culprit)["signal"], "SIGKILL");
    server
        .delete(&format!("/v1/processes/{culprit}"))
        .expect_empty(204);
    eventually("everybody but the bystander to be gone", || {
        (server.survivors().len() == 1).then_some(())
    });
    // The dead count until they are reaped.
    eventually("room in the group", || {
        (group.current() <= LIMIT / 2).then_some(())
    });
    let again = server.spawn(&json!({"command": "cat"}));
    assert_eq!(server.info(&again)["status"], "running");
    assert_eq!(server.run(&sh("exit 4"))["exitCode"], 4);
    server.kill(&again);
    server
        .delete(&format!("/v1/processes/{again}"))
        .expect_empty(204);
    before.await_balance(&server, 4 << 10);
    eventually("the group's count to be what it was", || {
        // Spawner threads are tasks, too.
        (group.current() <= tasks_before + 4).then_some(())
    });
    drop(server);
}

/// A fork loop that is no child of the server's, in a process group of its own.
struct Stranger(std::process::Child);

impl Stranger {
    fn fill(group: &PidsGroup) -> Self {
        let enter = format!("echo $$ > '{}' && exec \"$@\"", group.procs().display());
        let child = std::process::Command::new("sh")
            .args(["-c", &enter, "sh", "perl", "-e", FILL])
            .process_group(0)
            .spawn()
            .expect("sh");
        let stranger = Self(child);
        eventually("a full group", || (group.current() >= LIMIT).then_some(()));
        stranger
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Nobody but this group's members has the number while its leader is not reaped.
        kill_group(self.0.id() as i32);
        let _ = self.0.wait();
    }
}

fn a_server_that_gets_no_thread_to_spawn_with_refuses_and_recovers(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let Some(group) = PidsGroup::new(backend) else {
        return skipped_anywhere("no pids cgroup can be written to; a full one is not tested");
    };
    let server = group.start(backend);
    let before = Books::at_rest(&server);
    for _ in 0..2 {
        let stranger = Stranger::fill(&group);
        for (target, body) in [
            ("/v1/processes", json!({"command": "cat"})),
            ("/v1/processes/run", sh("true")),
        ] {
            let problem = server.post(target, &body).problem(503, "unavailable");
            assert_eq!(problem["code"], "EAGAIN", "{problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("pids.max"), "{problem}");
        }
        server.get("/v1/health").expect(200);
        assert_eq!(server.get("/v1/processes").json()["processes"], json!([]));
        drop(stranger);
        eventually("room in the group", || {
            (group.current() <= 20).then_some(())
        });
        assert_eq!(server.run(&sh("exit 4"))["exitCode"], 4);
    }
    before.await_balance(&server, 4 << 10);
}
