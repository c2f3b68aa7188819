//! Bounds on what is held (14.25 and the supervision promises): descriptors, hung starts, and
//! books that balance after storms.

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::books::Books;
use crate::harness::{Backend, Launch, Server, eventually, on_both, procfs, sh, skipped_anywhere};

on_both!(
    a_server_out_of_descriptors_answers_every_request,
    a_start_that_hangs_delays_nobody_else,
    starts_that_no_signal_ends_keep_nobody_else_from_starting,
    the_books_balance_after_clients_that_hang_up,
);

fn a_server_out_of_descriptors_answers_every_request(backend: Backend) {
    let server = Launch::new(backend)
        .args(&["--no-token"])
        .through_exec(&["prlimit", "--nofile=64:64"])
        .start();
    let before = Books::at_rest(&server);
    let mut ids = Vec::new();
    let refused = loop {
        let response = server.post("/v1/processes", &json!({"command": "cat"}));
        if response.status != 200 {
            break response;
        }
        ids.push(response.json()["id"].as_str().unwrap().to_owned());
        assert!(ids.len() < 64, "more processes than descriptors");
    };
    assert!(ids.len() >= 2, "{ids:?}");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let problem = refused.problem(503, "unavailable");
    assert_eq!(problem["code"], "EMFILE", "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("RLIMIT_NOFILE"),
        "{problem}"
    );
    // A run needs fewer; idle connections take what is left.
    let mut idle = Vec::new();
    let refused = loop {
        let response = server.post("/v1/processes/run", &sh("true"));
        if response.status != 200 {
            break response;
        }
        assert!(idle.len() < 8, "a run without descriptors");
        idle.push(server.conn());
    };
    assert_eq!(refused.problem(503, "unavailable")["code"], "EMFILE");
    drop(idle);
    // Everything else goes on, also for many at once.
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let response = server.get("/v1/processes");
                assert!(matches!(response.status, 200 | 503), "{}", response.status);
            });
        }
    });
    let info = eventually("a place among the connections", || {
        let response = server.get(&format!("/v1/processes/{}", ids[0]));
        (response.status == 200).then(|| response.json())
    });
    assert_eq!(info["status"], "running");
    for id in &ids {
        assert_eq!(server.kill(id)["status"], "exited");
        server
            .delete(&format!("/v1/processes/{id}"))
            .expect_empty(204);
    }
    assert_eq!(server.run(&sh("exit 4"))["exitCode"], 4);
    before.await_balance(&server, 4 << 10);
}

/// A FUSE file system whose server never says a word; whoever touches it waits.
pub(crate) struct DeadMount {
    pub(crate) path: PathBuf,
    device: Option<std::fs::File>,
}

impl DeadMount {
    /// A daemon that reads what it is asked and answers nothing: no signal ends who asks.
    pub(crate) fn that_reads(backend: Backend) -> Option<Self> {
        use std::io::{Read as _, Write as _};
        let mount = Self::new(backend)?;
        let mut device = mount.device.as_ref()?.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut request = vec![0_u8; 1 << 20];
            while let Ok(read) = device.read(&mut request) {
                // FUSE_INIT; its answer is a head of 16 bytes and one of 64 (linux/fuse.h).
                if read >= 16 && request[4..8] == 26_u32.to_ne_bytes() {
                    let mut answer = [0_u8; 80];
                    answer[..4].copy_from_slice(&80_u32.to_ne_bytes());
                    answer[8..16].copy_from_slice(&request[8..16]);
                    answer[16..20].copy_from_slice(&7_u32.to_ne_bytes());
                    answer[20..24].copy_from_slice(&31_u32.to_ne_bytes());
                    answer[36..40].copy_from_slice(&4096_u32.to_ne_bytes());
                    let _ = device.write_all(&answer);
                }
            }
        });
        Some(mount)
    }

    pub(crate) fn new(backend: Backend) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("dead-{}-{}-{made}", std::process::id(), backend.word());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        let device = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .ok()?;
        let target = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        // SAFETY: C strings that outlive the call.
        let result = unsafe {
            libc::mount(
                c"procring-test".as_ptr(),
                target.as_ptr(),
                c"fuse".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV,
                options.as_ptr().cast(),
            )
        };
        if result != 0 {
            let _ = std::fs::remove_dir(&path);
            return None;
        }
        Some(Self {
            path,
            device: Some(device),
        })
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        // Whoever still waits is told that the connection is gone, the daemon, too.
        self.device = None;
        let target = std::ffi::CString::new(self.path.to_str().unwrap()).unwrap();
        // SAFETY: a C string that outlives the calls.
        unsafe {
            libc::umount2(target.as_ptr(), libc::MNT_FORCE);
            libc::umount2(target.as_ptr(), libc::MNT_DETACH);
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}

fn a_start_that_hangs_delays_nobody_else(backend: Backend) {
    let server = Server::open(backend);
    let Some(mount) = DeadMount::new(backend) else {
        return skipped_anywhere("no FUSE file system can be mounted; hung starts are not tested");
    };
    let path = mount.path.to_str().unwrap();
    let in_dead_directory = json!({"command": "true", "cwd": path, "timeoutMs": 1500});
    let dead_program = json!({"command": format!("{path}/program"), "timeoutMs": 1500});
    let running = server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    std::thread::scope(|scope| {
        let hung: Vec<_> = (0..8)
            .map(|n| {
                if n % 2 == 0 {
                    &in_dead_directory
                } else {
                    &dead_program
                }
            })
            .map(|body| {
                scope.spawn(|| {
                    let start = Instant::now();
                    (server.run(body), start.elapsed())
                })
            })
            .collect();
        // They hold nothing of the server's: no socket, no pipe of another child.
        eventually("hung starts with descriptors 0 to 2 only", || {
            let hung = procfs::starting(server.pid).into_iter();
            let fds = |pid| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            let counts: Vec<usize> = hung.map(fds).collect();
            (counts.len() > 2 && counts.iter().all(|&count| count == 3)).then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let mut body = sh("sleep 20");
        body["timeoutMs"] = json!(200);
        assert_eq!(server.run(&body)["timedOut"], true);
        assert_eq!(server.run(&sh("exit 6"))["exitCode"], 6);
        assert_eq!(server.kill(&running)["signal"], "SIGKILL");
        let took = start.elapsed();
        assert!(took < Duration::from_millis(1100), "delayed: {took:?}");
        for run in hung {
            let (run, took) = run.join().unwrap();
            assert_eq!(run["timedOut"], true, "{run}");
            assert!(took < Duration::from_secs(5), "answered after {took:?}");
        }
    });
    // They are ended although they never came to exec.
    eventually("hung starts to be gone", || {
        procfs::children_of(server.pid).is_empty().then_some(())
    });
    drop(mount);
}

fn starts_that_no_signal_ends_keep_nobody_else_from_starting(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    server.configure(&[("maxConcurrentProcesses", 1000)]);
    let Some(mount) = DeadMount::that_reads(backend) else {
        return skipped_anywhere("no FUSE file system can be mounted; hung starts are not tested");
    };
    let conns: Vec<_> = (0..270)
        .map(|n| {
            let program = format!("{}/{n}", mount.path.to_str().unwrap());
            let body = json!({"command": program}).to_string();
            let mut conn = server.conn();
            conn.send(format!(
                "POST /v1/processes HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            conn
        })
        .collect();
    eventually("as many that hang as may", || {
        (procfs::starting(server.pid).len() >= 256).then_some(())
    });
    for _ in 0..3 {
        let answer = server.run(&json!({"command": "true", "timeoutMs": 20_000}));
        assert_eq!(answer["exitCode"], 0, "{answer}");
    }
    drop(mount);
    eventually("hung starts to be gone", || {
        procfs::children_of(server.pid).is_empty().then_some(())
    });
    drop(conns);
}

fn the_books_balance_after_clients_that_hang_up(backend: Backend) {
    let _heavy = crate::harness::one_heavy_test_at_a_time();
    let server = Server::open(backend);
    for _ in 0..4 {
        server.run(&sh("true"));
    }
    let before = Books::at_rest(&server);
    let body: Value = sh("head -c 200000 /dev/zero; sleep 0.05 & setsid sleep 5 & sleep 0.1");
    let text = body.to_string();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (server, text) = (&server, &text);
            scope.spawn(move || {
                for n in 0..25u64 {
                    let mut conn = server.conn();
                    conn.send(format!(
                        "POST /v1/processes/run HTTP/1.1\r\nHost: {}\r\nContent-Type: \
                         application/json\r\nContent-Length: {}\r\n\r\n{text}",
                        server.address,
                        text.len()
                    ));
                    // Points spread over the life of a run, the same each time.
                    std::thread::sleep(Duration::from_millis((thread * 31 + n * 17) % 140));
                    conn.reset();
                }
            });
        }
    });
    eventually("all descendants to be gone", || {
        server.survivors().is_empty().then_some(())
    });
    // Of runs that write 200 kB each, eight at a time.
    before.await_balance(&server, 8 << 10);
    assert_eq!(server.run(&sh("exit 9"))["exitCode"], 9);
}
