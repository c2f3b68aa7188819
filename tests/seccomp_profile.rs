//! The shipped seccomp profile: readable for Docker, and open for nothing but what it says.

use std::collections::BTreeSet;

use serde_json::Value;

fn profile() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/seccomp/docker-io-uring.json"
    );
    let text = std::fs::read_to_string(path).expect("the profile");
    serde_json::from_str(&text).expect("JSON")
}

fn names(rule: &Value) -> impl Iterator<Item = &str> {
    let names = rule["names"].as_array().expect("names");
    names.iter().map(|name| name.as_str().expect("a name"))
}

#[test]
fn what_is_not_listed_is_refused() {
    let profile = profile();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(profile["defaultErrnoRet"], libc::EPERM);
    let mut always = BTreeSet::new();
    for rule in profile["syscalls"].as_array().expect("rules") {
        match rule["action"].as_str() {
            Some("SCMP_ACT_ALLOW") => {}
            Some("SCMP_ACT_ERRNO") => assert!(rule["errnoRet"].is_u64(), "{rule}"),
            other => panic!("{other:?}"),
        }
        for name in names(rule) {
            if rule.get("args").is_none() {
                assert!(always.insert(name.to_owned()), "{name} is listed twice");
            }
        }
        for argument in rule["args"].as_array().into_iter().flatten() {
            assert!(argument["index"].as_u64().is_some_and(|index| index < 6));
            assert!(argument["value"].is_u64(), "{rule}");
            let op = argument["op"].as_str();
            assert!(matches!(op, Some("SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ")));
        }
    }
    for name in [
        "bpf",
        "clone",
        "delete_module",
        "finit_module",
        "fsopen",
        "init_module",
        "kexec_load",
        "keyctl",
        "mount",
        "move_mount",
        "open_by_handle_at",
        "perf_event_open",
        "personality",
        "pivot_root",
        "reboot",
        "setns",
        "socket",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        assert!(!always.contains(name), "{name}");
    }
}

#[test]
fn io_uring_and_what_the_server_uses_are_allowed() {
    let profile = profile();
    let rules = profile["syscalls"].as_array().expect("rules");
    let allowed: BTreeSet<&str> = rules
        .iter()
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(names)
        .collect();
    for name in [
        "accept4",
        "clone",
        "epoll_ctl",
        "epoll_pwait",
        "epoll_wait",
        "eventfd2",
        "execve",
        "fallocate",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_setup",
        "ioctl",
        "kill",
        "memfd_create",
        "mmap",
        "pidfd_open",
        "pidfd_send_signal",
        "pipe2",
        "prctl",
        "prlimit64",
        "readv",
        "recvfrom",
        "sendmsg",
        "sendto",
        "setsid",
        "signalfd4",
        "socket",
        "timerfd_create",
        "timerfd_settime",
        "waitid",
        "writev",
    ] {
        assert!(allowed.contains(name), "{name}");
    }
    // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (clone(2)).
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let clone = rules.iter().find(|rule| names(rule).eq(["clone"]));
    let argument = &clone.expect("clone")["args"][0];
    assert_eq!(argument["value"], namespaces);
    assert_eq!(
        (&argument["valueTwo"], &argument["index"]),
        (&0.into(), &0.into())
    );
    assert_eq!(argument["op"], "SCMP_CMP_MASKED_EQ");
}
