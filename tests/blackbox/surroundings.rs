//! What a server starts in and ends among: a standard error that nobody reads, an address that was
//! used a moment ago, a terminal, another program's environment.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::pipe::pipe;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::json;

use crate::harness::{
    Backend, Follow, Launch, Server, eventually, on_both, procfs, sh, skipped_anywhere,
};

on_both!(
    a_start_line_that_cannot_be_written_keeps_no_server_from_serving,
    the_address_of_a_server_that_ended_is_free_at_once,
    the_address_of_a_busy_server_that_ended_is_free_at_once,
    a_server_that_was_killed_can_be_started_again_at_once,
    a_server_whose_terminal_is_closed_ends_with_its_children,
    a_server_under_nohup_outlives_its_terminal,
    a_hangup_ends_no_server_without_a_terminal,
    quit_begins_the_end_as_term_does,
    ctrl_z_stops_the_server_and_it_goes_on_where_it_was,
    an_image_with_nothing_in_it_will_do,
    how_sure_the_end_of_a_tree_is_stands_at_the_start,
    commands_see_the_limits_of_the_servers_group,
);

/// A pipe that holds all it can, and its reader.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

fn a_start_line_that_cannot_be_written_keeps_no_server_from_serving(backend: Backend) {
    let full_disk = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, nobody_reads) = pipe().unwrap();
    drop(reader);
    let (_reader, full) = full_pipe();
    for stderr in [Stdio::from(full_disk), nobody_reads.into(), full.into()] {
        // With more than one line to say where io_uring is denied.
        let launch = Launch::new(backend).args(&["--no-token"]).stderr(stderr);
        let mut server = launch.start();
        server.get("/v1/health").expect(200);
        server.signal(libc::SIGTERM);
        assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    }
}

/// One address for servers one after the other.
fn start_at(backend: Backend, port: u16) -> Server {
    let port = port.to_string();
    let listen = ["--host", "127.0.0.1", "--port", &port];
    let launch = Launch::new(backend).listen(&listen).args(&["--no-token"]);
    launch.start()
}

fn the_address_of_a_server_that_ended_is_free_at_once(backend: Backend) {
    let mut server = Server::open(backend);
    let port = server.address.port();
    // Half of the ends left it taken, for some 10 ms.
    for _ in 0..10 {
        let _idle = server.conn();
        server.get("/v1/health").expect(200);
        server.signal(libc::SIGTERM);
        assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
        // As every server does it: SO_REUSEADDR is set.
        drop(TcpListener::bind(("127.0.0.1", port)).expect("a free address"));
        server = start_at(backend, port);
    }
}

/// Clients that come and go, followers, a run and a terminal, while it ends.
fn the_address_of_a_busy_server_that_ended_is_free_at_once(backend: Backend) {
    let mut server = Server::open(backend);
    let address = server.address;
    for _ in 0..5 {
        let id = server.spawn(&sh("while :; do echo x; sleep 0.01; done"));
        server.spawn(&json!({"command": "sleep", "args": ["77"], "tty": true}));
        let _follower = Follow::process(&server, &id);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        // Whether it is answered, refused or cut is all the same.
                        if let Ok(mut client) = TcpStream::connect(address) {
                            let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                            let _ = client.set_read_timeout(Some(Duration::from_secs(1)));
                            let _ = client.read(&mut [0; 64]);
                        }
                    }
                });
            }
            eventually("clients to be served", || {
                (server.connections() > 1).then_some(())
            });
            server.signal(libc::SIGTERM);
            let ended = server.await_end(Duration::from_secs(20));
            let bound = TcpListener::bind(address);
            over.store(true, Ordering::Relaxed);
            assert_eq!(ended.code(), Some(0));
            drop(bound.expect("a free address"));
        });
        server = start_at(backend, address.port());
    }
}

fn a_server_that_was_killed_can_be_started_again_at_once(backend: Backend) {
    let mut server = Server::open(backend);
    let port = server.address.port();
    for _ in 0..6 {
        let _idle = server.conn();
        server.signal(libc::SIGKILL);
        server.await_end(Duration::from_secs(20));
        server = start_at(backend, port);
    }
    server.get("/v1/health").expect(200);
}

/// Both sides of a new terminal, close-on-exec.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}

fn a_server_whose_terminal_is_closed_ends_with_its_children(backend: Backend) {
    for keep in [&[][..], &["--keep"]] {
        let (master, slave) = terminal();
        let launch = Launch::new(backend).args(&["--no-token"]).args(keep);
        let mut server = launch.on_terminal(&slave).start();
        server.spawn(&json!({"command": "sleep", "args": ["77"]}));
        // The window is closed.
        drop((master, slave));
        assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
        assert_eq!(server.survivors(), [0; 0], "left behind");
    }
}

fn a_server_under_nohup_outlives_its_terminal(backend: Backend) {
    let (master, slave) = terminal();
    let launch = Launch::new(backend).args(&["--no-token"]);
    let server = launch.ignoring_hangup().on_terminal(&slave).start();
    drop((master, slave));
    server.signal(libc::SIGHUP);
    assert_serves_on(&server);
}

fn a_hangup_ends_no_server_without_a_terminal(backend: Backend) {
    let launch = Launch::new(backend).args(&["--no-token"]);
    let server = launch.through_exec(&["setsid"]).start();
    server.signal(libc::SIGHUP);
    assert_serves_on(&server);
}

/// A signal that was sent before is handled before the end of a run that begins now, or rather
/// a hundred of them: the supervisor hears of both.
fn assert_serves_on(server: &Server) {
    for _ in 0..100 {
        assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
    }
}

fn quit_begins_the_end_as_term_does(backend: Backend) {
    let mut server = Server::open(backend);
    server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    server.signal(libc::SIGQUIT);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0], "left behind");
}

fn ctrl_z_stops_the_server_and_it_goes_on_where_it_was(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&json!({"command": "cat"}));
    for signal in [libc::SIGTTIN, libc::SIGTTOU] {
        // A server in the background is not stopped by what it has to say.
        server.signal(signal);
    }
    assert_serves_on(&server);
    server.signal(libc::SIGTSTP);
    let stopped = || (procfs::state(server.pid) == Some('T')).then_some(());
    eventually("the server to stop", stopped);
    server.signal(libc::SIGCONT);
    assert_eq!(server.info(&id)["status"], "running");
    assert_serves_on(&server);
}

/// Neither /dev/null nor /proc, and no terminals.
fn an_image_with_nothing_in_it_will_do(backend: Backend) {
    let name = format!("bare-{}-{}", std::process::id(), backend.word());
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&image).unwrap();
    // A copy could be busy when it is started: another test may fork while it is written.
    std::fs::hard_link(env!("CARGO_BIN_EXE_procring"), image.join("procring")).unwrap();
    let chroot = ["chroot", image.to_str().unwrap()];
    let mut probe = Command::new(chroot[0]);
    let can = probe.args([chroot[1], "/procring", "--version"]).output();
    if can.is_ok_and(|output| output.status.success()) {
        let launch = Launch::new(backend).args(&["--no-token"]);
        let launch = launch.program(Path::new("/procring")).cwd(Path::new("/"));
        let server = launch.through_exec(&chroot).start();
        let run = server.run(&json!({"command": "/procring", "args": ["--version"]}));
        let version = concat!("procring ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(run["stdout"], version, "{run}");
        let body = json!({"command": "/procring", "tty": true});
        let refused = server.post("/v1/processes", &body);
        assert_eq!(refused.status, 502, "{}", refused.text());
        let code = |text: &str, code: &str| text.ends_with(&format!(r#""code":"{code}"}}"#));
        assert!(
            code(refused.text(), "pty_unavailable"),
            "{}",
            refused.text()
        );
        let body = json!({"command": "/missing", "tty": false});
        let missing = server.post("/v1/processes", &body);
        assert!(code(missing.text(), "ENOENT"), "{}", missing.text());
        let told = server.get("/v1/server").expect(200).json()["missing"].to_string();
        assert!(told.contains("without /proc, too"), "{told}");
        assert!(told.contains("no terminals"), "{told}");
    } else {
        skipped_anywhere("chroot(1) is refused");
    }
    std::fs::remove_dir_all(&image).unwrap();
}

fn how_sure_the_end_of_a_tree_is_stands_at_the_start(backend: Backend) {
    let launch = |cgroup| Launch::new(backend).args(&["--no-token", "--cgroup", cgroup]);
    let without = launch("off").start();
    let told = eventually("a line about it", || {
        let stderr = without.stderr();
        let line = stderr.lines().find(|line| line.contains("no cgroup"));
        line.map(str::to_owned)
    });
    assert!(told.contains("(--cgroup off)"), "{told}");
    assert!(told.contains("/proc"), "{told}");
    if let Some(unified) = unified() {
        let sure = launch("auto").start();
        // A group was made for it, so it was decided.
        let seen = sure.run(&sh("cut -d: -f3 /proc/self/cgroup | grep procring-"));
        if seen["exitCode"] == 0 {
            assert!(!sure.stderr().contains("no cgroup"), "{}", sure.stderr());
        } else {
            skipped_anywhere(&format!("no groups in {}", unified.display()));
        }
    }
}

/// Where the version 2 hierarchy is mounted.
fn unified() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    mount.split(' ').nth(4).map(PathBuf::from)
}

/// A group with limits, below the root; removed when dropped.
struct Limited(PathBuf);

impl Limited {
    fn new(name: &str) -> std::io::Result<Self> {
        let root = unified().ok_or(std::io::ErrorKind::NotFound)?;
        let on = std::fs::read_to_string(root.join("cgroup.subtree_control"))?;
        let missing = ["memory", "cpu"].iter().find(|c| !on.contains(*c));
        if missing.is_some() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let limited = Self(root.join(name));
        std::fs::create_dir(&limited.0)?;
        std::fs::write(limited.0.join("memory.max"), "536870912")?;
        std::fs::write(limited.0.join("memory.high"), "500000000")?;
        std::fs::write(limited.0.join("cpu.max"), "50000 100000")?;
        Ok(limited)
    }

    fn launch(&self, backend: Backend, cgroup: &str) -> Launch {
        let join = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        let through = ["sh", "-c", join, self.0.to_str().unwrap()];
        let launch = Launch::new(backend).args(&["--no-token", "--cgroup", cgroup]);
        launch.through_exec(&through)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn commands_see_the_limits_of_the_servers_group(backend: Backend) {
    let name = format!("limited-{}-{}", std::process::id(), backend.word());
    let Ok(limited) = Limited::new(&name) else {
        return skipped_anywhere("no memory and cpu controllers of version 2 for children");
    };
    let see = sh(
        "cd /sys/fs/cgroup; cd unified 2>/dev/null; g=$(sed -n s/^0::.//p /proc/self/cgroup);
                  echo $g; cat $g/memory.max $g/memory.high $g/cpu.max",
    );
    let limits = "536870912\n499998720\n50000 100000\n";
    let seen = |server: &Server| {
        let run = server.run(&see);
        assert_eq!(run["exitCode"], 0, "{run}");
        let text = run["stdout"].as_str().unwrap().to_owned();
        let (group, shown) = text.split_once('\n').unwrap();
        assert_eq!(shown, limits, "{run}");
        group.to_owned()
    };
    // Alone in it: in groups of their own, again and again. When it ends, all is as it was.
    let mut server = limited.launch(backend, "auto").start();
    for _ in 0..3 {
        let group = seen(&server);
        assert!(group.contains("/procring-"), "{group}");
    }
    server.spawn(&sh("setsid sleep 77 & exec sleep 77"));
    server.signal(libc::SIGTERM);
    assert_eq!(server.await_end(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(server.survivors(), [0; 0], "left behind");
    let on = std::fs::read_to_string(limited.0.join("cgroup.subtree_control")).unwrap();
    assert_eq!(on.trim(), "");
    // With company, there are no groups but the server's own, and that is said.
    let mut company = Command::new("sleep").arg("77").spawn().unwrap();
    std::fs::write(limited.0.join("cgroup.procs"), company.id().to_string()).unwrap();
    let crowded = limited.launch(backend, "auto").start();
    assert_eq!(seen(&crowded), name);
    let stderr = crowded.stderr();
    assert!(stderr.contains("memory.max 536870912"), "{stderr}");
    // Who insists has them, and is warned.
    let insisting = limited.launch(backend, "on").start();
    assert!(insisting.stderr().contains("warning: --cgroup on hides"));
    assert_ne!(insisting.run(&see)["exitCode"], 0);
    company.kill().unwrap();
    company.wait().unwrap();
}

#[test]
fn what_was_asked_for_goes_to_whoever_reads_it() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let closed = || Stdio::from(writer.as_fd().try_clone_to_owned().unwrap());
    for (argument, stdout, stderr, code) in [
        // As `procring --help | head -n 1` does it.
        ("--help", closed(), Stdio::piped(), 0),
        ("--version", closed(), Stdio::piped(), 0),
        ("--help", full().into(), Stdio::piped(), 1),
        ("--help", full().into(), closed(), 1),
        ("--nonsense", Stdio::null(), closed(), 2),
        ("--nonsense", Stdio::null(), full().into(), 2),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procring"));
        let output = command.arg(argument).stdout(stdout).stderr(stderr).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(code), "{argument}: {output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{argument}: {stderr}");
    }
}
