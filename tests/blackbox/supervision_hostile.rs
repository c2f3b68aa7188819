//! Children that mean harm to whoever comes after them, or not to end.

use serde_json::{Value, json};

use crate::harness::{Backend, Launch, Server, eventually, on_both, sh};
use crate::supervision_trees::{cgroups_available, every_way};

on_both!(
    who_is_held_at_its_exit_by_a_tracer_ends_with_its_tree,
    a_group_that_was_left_frozen_or_with_groups_within_is_not_used_again,
    groups_a_thousand_deep_end_with_their_process,
    members_of_a_group_of_threads_end_with_their_process,
    a_kill_without_a_free_descriptor_is_made_good_for,
);

/// A leader that an orphan traces, so that a killed one stops on its way out (PTRACE_O_TRACEEXIT).
/// With its session, descriptors and mark shed, nothing but the tracing ties the orphan to its tree.
fn held_at_exit(name: &[u8], prologue: &str) -> Value {
    let script = format!(
        "import ctypes, os, time\n\
         libc = ctypes.CDLL(None)\n\
         leader = os.getpid()\n\
         libc.prctl(15, bytes({name:?}), 0, 0, 0)\n\
         libc.prctl(0x59616d61, ctypes.c_ulong(2 ** 64 - 1), 0, 0, 0)\n\
         if os.fork() == 0:\n  \
           os.setsid()\n  \
           if os.fork(): os._exit(0)\n  \
           libc.prctl(29, 50000, 0, 0, 0)\n  \
           libc.syscall({}, 1, 0, 0)\n  \
           {prologue}\n  \
           traces = libc.syscall({}, 0x4206, leader, 0, 0x40) == 0\n  \
           os.write(1, b'traced' if traces else b'refused')\n  \
           os.closerange(0, 3)\n  \
           time.sleep(77)\n\
         os.wait()\n\
         time.sleep(77)",
        libc::SYS_ioprio_set,
        libc::SYS_ptrace,
    );
    json!({"command": "python3", "args": ["-c", script]})
}

fn who_is_held_at_its_exit_by_a_tracer_ends_with_its_tree(backend: Backend) {
    for (way, server) in every_way(backend) {
        // Where a group would give the tracer away, it leaves.
        let prologue = match way {
            crate::supervision_trees::Way::Cgroup => leave_group(),
            _ => "pass".to_owned(),
        };
        for name in [&b"plain"[..], b"\xff\n\xfe"] {
            let what = format!("{way:?}, {name:?}");
            let id = server.spawn(&held_at_exit(name, &prologue));
            server.await_output(&id, "traced");
            server.kill(&id);
            server.await_exit(&id);
            await_nobody(&server, &what);
        }
    }
}

/// Moves the caller to the hierarchy's root.
fn leave_group() -> String {
    format!("open('{}/cgroup.procs', 'w').write('0')", unified())
}

fn unified() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    mount.unwrap().split(' ').nth(4).unwrap().to_owned()
}

#[track_caller]
fn await_nobody(server: &Server, what: &str) {
    eventually(&format!("{what}: all descendants to be gone"), || {
        server.survivors().is_empty().then_some(())
    });
}

/// A server with groups, if there can be any.
fn with_groups(backend: Backend) -> Option<Server> {
    let launch = || Launch::new(backend).args(&["--no-token", "--cgroup", "on"]);
    cgroups_available().then(|| launch().start())
}

/// Begins with the path of the own group, as `own`.
fn in_own_group(script: &str) -> Value {
    let script = format!(
        "import os, sys, time\n\
         unified = '{}'\n\
         lines = open('/proc/self/cgroup').read().split('\\n')\n\
         own = unified + [line[3:] for line in lines if line.startswith('0::')][0]\n\
         def write(file, text):\n  \
           with open(file, 'w') as file: file.write(text)\n\
         {script}",
        unified()
    );
    json!({"command": "python3", "args": ["-c", script]})
}

fn a_group_that_was_left_frozen_or_with_groups_within_is_not_used_again(backend: Backend) {
    let Some(server) = with_groups(backend) else {
        return;
    };
    for script in [
        "print(own)\nos.makedirs(own + '/a/b')",
        "print(own)\nwrite(unified + '/cgroup.procs', '0')\nwrite(own + '/cgroup.freeze', '1')",
    ] {
        let run = server.run(&in_own_group(script));
        assert_eq!(run["exitCode"], 0, "{run}");
        let left = run["stdout"].as_str().unwrap().trim();
        let next = server.run(&in_own_group("print(own)"));
        assert_eq!(next["exitCode"], 0, "{next}");
        assert_ne!(next["stdout"].as_str().unwrap().trim(), left);
        assert!(!std::path::Path::new(left).exists(), "{left}");
    }
}

fn groups_a_thousand_deep_end_with_their_process(backend: Backend) {
    let Some(mut server) = with_groups(backend) else {
        return;
    };
    let deep = "os.chdir(own)\n\
                for n in range(1000): os.mkdir('a'); os.chdir('a')\n\
                write('cgroup.procs', '0')\n\
                if os.fork(): sys.exit(0)\n\
                time.sleep(77)";
    let id = server.spawn(&in_own_group(deep));
    server.await_exit(&id);
    assert_eq!(server.info(&id)["descendants"], 1);
    server.kill(&id);
    await_nobody(&server, "in the depth");
    let path = format!("{}/procring-{}-0", unified(), server.pid);
    assert!(std::path::Path::new(&path).exists());
    server.signal(libc::SIGTERM);
    let end = server.await_end(std::time::Duration::from_secs(20));
    assert_eq!(end.code(), Some(0));
    assert!(!std::path::Path::new(&path).exists(), "left behind");
}

fn members_of_a_group_of_threads_end_with_their_process(backend: Backend) {
    let Some(server) = with_groups(backend) else {
        return;
    };
    // Nobody may be in the group at the moment that it becomes one of threads.
    let threads = "write(unified + '/cgroup.procs', '0')\n\
                   write(own + '/cgroup.type', 'threaded')\n\
                   write(own + '/cgroup.procs', '0')\n\
                   if os.fork() == 0:\n  \
                     os.setsid()\n  \
                     if os.fork(): os._exit(0)\n  \
                     print('ready', flush=True)\n  \
                     time.sleep(77)\n\
                   os.wait()\n\
                   time.sleep(77)";
    let id = server.spawn(&in_own_group(threads));
    server.await_output(&id, "ready");
    server.kill(&id);
    await_nobody(&server, "in a group of threads");
    // There are no groups beside one of threads: what comes next goes without.
    assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
}

/// A child of the same user can lower the server's limits.
fn a_kill_without_a_free_descriptor_is_made_good_for(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token", "--cgroup", "off"])
        .start();
    let daemon = "(setsid sh -c 'exec </dev/null >/dev/null 2>&1; exec sleep 77' &); \
                  echo ready; exec sleep 77";
    let id = server.spawn(&sh(daemon));
    server.await_output(&id, "ready");
    eventually("the daemon", || {
        let all = server.survivors();
        let sleeps = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|is| is == "sleep\n")
        };
        (all.len() == 2 && all.iter().all(sleeps)).then_some(())
    });
    // Accepted before there are none.
    let mut conn = server.conn();
    let address = server.address;
    let target = format!("/v1/processes/{id}");
    let mut ask = |method: &str, target: &str| {
        conn.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\n\r\n"
        ));
        conn.response(method).expect(200).json()
    };
    ask("GET", &target);
    let limit = |new: Option<&libc::rlimit>| {
        let mut old: libc::rlimit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        let new = new.map_or(std::ptr::null(), |new| new as *const _);
        // SAFETY: both structures outlive the call or are null.
        let result = unsafe { libc::prlimit(server.pid, libc::RLIMIT_NOFILE, new, &mut old) };
        assert_eq!(result, 0);
        old
    };
    let before = limit(None);
    limit(Some(&libc::rlimit {
        rlim_cur: 3,
        ..before
    }));
    ask("POST", &format!("{target}/kill"));
    eventually("the end of the leader", || {
        (ask("GET", &target)["status"] == "exited").then_some(())
    });
    // Time for the supervisor to believe what it finds.
    for _ in 0..100 {
        ask("GET", &target);
    }
    limit(Some(&before));
    await_nobody(&server, "when there are descriptors again");
}
