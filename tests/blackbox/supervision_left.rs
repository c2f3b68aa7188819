//! Who is left when a leader, a record or a server has gone: who counts as a descendant, who ends at
//! the next start, and who must not.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh, skipped_anywhere};
use crate::supervision_trees::{User, Way, every_way, unprivileged};

on_both!(
    a_daemon_whose_record_was_deleted_ends_at_the_next_start_after_a_kill,
    a_younger_stranger_that_has_the_timer_slack_of_a_tree_outlives_the_next_start,
    a_daemon_is_known_where_limits_of_locks_are_taken,
    who_left_the_group_or_never_was_an_orphan_counts_as_a_descendant,
    what_a_run_leaves_outside_of_its_group_makes_it_a_record,
    what_a_run_leaves_that_never_was_an_orphan_ends_soon,
);

/// A directory for records of a server that this user may have.
fn state_dir(name: &str, backend: Backend, user: Option<&User>) -> PathBuf {
    let name = format!("procring-{name}-{}-{}", std::process::id(), backend.word());
    let dir = std::env::temp_dir().join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    if let Some(user) = user {
        std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.uid)).unwrap();
    }
    dir
}

/// A server without groups, whose records the next one finds.
fn noted(backend: Backend, dir: &std::path::Path, user: Option<&User>) -> Server {
    let dir = dir.to_str().unwrap();
    let launch = Launch::new(backend).args(&["--no-token", "--cgroup", "off", "--state-dir", dir]);
    match user {
        Some(user) => launch
            .program(&user.program)
            .through_exec(&user.prefix())
            .start(),
        None => launch.start(),
    }
}

fn kill_server(server: &mut Server) {
    server.signal(libc::SIGKILL);
    server.await_end(Duration::from_secs(20));
}

/// A daemon in a session of its own, with nothing of its parents' open.
const DAEMON: &str = "setsid sleep 77 </dev/null >/dev/null 2>&1 &";

fn a_daemon_whose_record_was_deleted_ends_at_the_next_start_after_a_kill(backend: Backend) {
    let user = unprivileged();
    let users = std::iter::once(None).chain(user.as_ref().map(Some));
    for (n, user) in users.enumerate() {
        let dir = state_dir(&format!("deleted-{n}"), backend, user);
        let mut server = noted(backend, &dir, user);
        let id = server.spawn(&sh(DAEMON));
        eventually("the daemon to count", || {
            (server.info(&id)["descendants"] == 1).then_some(())
        });
        let daemon = server.survivors();
        server
            .delete(&format!("/v1/processes/{id}"))
            .expect_empty(204);
        // One that has a record, too, and one that nobody is left of.
        server.spawn(&json!({"command": "sleep", "args": ["77"]}));
        let gone = server.spawn(&json!({"command": "true"}));
        server.await_exit(&gone);
        server
            .delete(&format!("/v1/processes/{gone}"))
            .expect_empty(204);
        kill_server(&mut server);
        assert!(daemon.iter().all(|pid| procfs::alive(*pid)));
        let next = noted(backend, &dir, user);
        assert_eq!(server.survivors(), [0; 0], "{}", next.stderr());
        assert!(
            next.stderr().contains("ended 2 processes"),
            "{}",
            next.stderr()
        );
        drop(next);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// A process of nobody's, with this timer slack, ended with the value.
struct Stranger(Child);

impl Stranger {
    fn with_slack(slack: &str) -> Self {
        let script = format!(
            "syscall({}, {}, {slack}, 0, 0, 0) == 0 or die; exec qw(sleep 78)",
            libc::SYS_prctl,
            libc::PR_SET_TIMERSLACK
        );
        let mut command = Command::new("perl");
        command.args(["-e", &script]).process_group(0);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn slack(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/timerslack_ns", self.0.id())).unwrap()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_younger_stranger_that_has_the_timer_slack_of_a_tree_outlives_the_next_start(backend: Backend) {
    // Under limits that take it from the server, the slack is its mark.
    for limits in [&[][..], &["prlimit", "--locks=100:100"]] {
        let dir = state_dir("slack", backend, None);
        let launch = || {
            let dir = dir.to_str().unwrap();
            Launch::new(backend)
                .args(&["--no-token", "--cgroup", "off", "--state-dir", dir])
                .through_exec(limits)
                .start()
        };
        let mut server = launch();
        let info = server.create(&json!({"command": "sleep", "args": ["77"]}));
        let pid = info["pid"].as_i64().unwrap();
        let slack = std::fs::read_to_string(format!("/proc/{pid}/timerslack_ns")).unwrap();
        let mut stranger = Stranger::with_slack(slack.trim());
        eventually("the stranger to have it", || {
            (stranger.slack() == slack).then_some(())
        });
        kill_server(&mut server);
        let next = launch();
        assert!(!procfs::alive(pid as i32), "{}", next.stderr());
        assert!(
            stranger.0.try_wait().unwrap().is_none(),
            "{}",
            next.stderr()
        );
        drop(next);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Marks are of the other kind there.
fn a_daemon_is_known_where_limits_of_locks_are_taken(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--cgroup", "off"])
        .through_exec(&["prlimit", "--locks=100:100"])
        .start();
    let id = server.spawn(&sh(&format!("{DAEMON} exec sleep 77")));
    eventually("the daemon", || {
        (server.survivors().len() == 2).then_some(())
    });
    server.kill(&id);
    eventually("the daemon's end", || {
        server.survivors().is_empty().then_some(())
    });
}

/// Where everybody may move to who may move at all.
fn elsewhere() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4)).unwrap();
    format!("{mount}/cgroup.procs")
}

/// Perl: leaves the group if it is in one, and becomes a sleeper that has nothing open.
fn leave(way: Way) -> String {
    let leave = match way {
        Way::Cgroup => format!(
            "open my $f, '>', '{}' or die; print $f $$; close $f or die;",
            elsewhere()
        ),
        Way::SweepAsRoot | Way::SweepAsNobody => String::new(),
    };
    format!("POSIX::setsid(); {leave} exec 'sh', '-c', 'exec sleep 77 </dev/null >/dev/null 2>&1';")
}

fn who_left_the_group_or_never_was_an_orphan_counts_as_a_descendant(backend: Backend) {
    for (way, server) in every_way(backend) {
        let leave = leave(way);
        // A child of its parent's (CLONE_PARENT), one that is an orphan soon, and a usual daemon.
        let script = format!(
            "use POSIX; $| = 1; \
             unless (syscall({}, {}, 0, 0, 0, 0)) {{ {leave} }} \
             unless (fork) {{ {leave} }} \
             unless (fork) {{ POSIX::setsid(); exec 'sh', '-c', 'exec sleep 77 </dev/null >/dev/null 2>&1' }} \
             print \"ready\\n\"; my $line = <STDIN>; exit 3",
            libc::SYS_clone,
            libc::CLONE_PARENT | libc::SIGCHLD,
        );
        let id = server.spawn(&json!({"command": "perl", "args": ["-e", script]}));
        server.await_output(&id, "ready");
        let sleeps = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
        };
        eventually("three that live on", || {
            (server.survivors().iter().filter(|pid| sleeps(pid)).count() == 3).then_some(())
        });
        server.feed(&id, "\n");
        let exited = server.await_exit(&id);
        assert_eq!(exited["exitCode"], 3, "{way:?}");
        eventually(&format!("{way:?}: all three to count"), || {
            (server.info(&id)["descendants"] == 3).then_some(())
        });
        // Each of them is missed.
        for left in [2, 1, 0] {
            let one = server.survivors()[0];
            crate::harness::server::send_signal(one, libc::SIGKILL);
            let counted = if left == 0 { json!(null) } else { json!(left) };
            eventually(&format!("{way:?}: {left} to count"), || {
                (server.info(&id)["descendants"] == counted).then_some(())
            });
        }
    }
}

fn what_a_run_leaves_outside_of_its_group_makes_it_a_record(backend: Backend) {
    let servers = every_way(backend);
    let Some((way, server)) = servers.iter().find(|(way, _)| *way == Way::Cgroup) else {
        return skipped_anywhere("no cgroups");
    };
    let script = format!(
        "use POSIX; pipe R, W; unless (fork) {{ close R; {} }} close W; sysread R, my $end, 1; exit 0",
        // The pipe's end closes by exec when it has moved.
        leave(*way)
    );
    let run = server.run(&json!({"command": "perl", "args": ["-e", script]}));
    assert_eq!(run["exitCode"], 0, "{run}");
    let id = run["processId"].as_str().expect("a record");
    assert_eq!(server.info(id)["descendants"], 1);
    server.kill(id);
    eventually("its end", || server.survivors().is_empty().then_some(()));
}

/// Is found by a look at all children only: the child of the run's own parent (CLONE_PARENT), in a
/// session of its own and outside of the run's group, with nothing open.
fn what_a_run_leaves_that_never_was_an_orphan_ends_soon(backend: Backend) {
    for (way, server) in every_way(backend) {
        let script = |then: &str| {
            let script = format!(
                "use POSIX; $| = 1; pipe R, W; unless (syscall({}, {}, 0, 0, 0, 0)) {{ close R; {} }} \
                 close W; sysread R, my $end, 1; {then}",
                libc::SYS_clone,
                libc::CLONE_PARENT | libc::SIGCHLD,
                leave(way)
            );
            json!({"command": "perl", "args": ["-e", script]})
        };
        // Others have such a child, too, and it is none of the run's.
        let bystander = server.spawn(&script("print \"ready\\n\"; sleep 77"));
        server.await_output(&bystander, "ready");
        let before = server.survivors();
        assert_eq!(before.len(), 2, "{way:?}");
        for _ in 0..3 {
            let run = server.run(&script("exit 3"));
            assert_eq!(run["exitCode"], 3, "{way:?}");
            // Found before the answer, when a look for another was due.
            if let Some(id) = run["processId"].as_str() {
                server.kill(id);
            }
        }
        eventually(&format!("{way:?}: what the runs have left to end"), || {
            (server.survivors() == before).then_some(())
        });
        assert_eq!(server.info(&bystander)["status"], "running", "{way:?}");
        server.kill(&bystander);
        eventually(&format!("{way:?}: the bystander's end"), || {
            server.survivors().is_empty().then_some(())
        });
    }
}
