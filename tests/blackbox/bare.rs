//! The static program as the first process of an image that holds nothing else: no /dev, no /proc,
//! no /etc, no cgroups. It starts where it can, and says of each thing what is lost without it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::harness::backend::denial_errno;
use crate::harness::launch::{Before, before_exec};
use crate::harness::{Backend, Launch, WAIT, eventually, on_both, skipped_anywhere};

on_both!(
    the_first_process_of_an_empty_image_serves_and_ends_at_sigterm,
    the_first_process_needs_no_standard_descriptors,
    what_an_empty_image_lacks_is_named_with_what_is_lost,
    a_command_in_an_empty_image_needs_no_server_that_runs,
);

/// A folder with the program in it; removed when dropped.
struct Image(PathBuf);

impl Image {
    /// None where nobody may have a root or process numbers of its own.
    fn new(test: &str, backend: Backend) -> Option<Self> {
        let name = format!("empty-{test}-{}-{}", std::process::id(), backend.word());
        let image = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::create_dir_all(&image.0).unwrap();
        // A copy could be busy when it is started: another test may fork while it is written.
        std::fs::hard_link(env!("CARGO_BIN_EXE_procring"), image.0.join("procring")).unwrap();
        let works = image.run(backend, &["--version"], "").status.success();
        if !works {
            skipped_anywhere("unshare(1) or chroot(1) is refused");
        }
        works.then_some(image)
    }

    fn through(&self) -> [&str; 6] {
        let root = self.0.to_str().unwrap();
        ["unshare", "--fork", "--pid", "--kill-child", "chroot", root]
    }

    /// The program as the first process, until it ends by itself; `redirected` as sh(1) has it.
    fn run(&self, backend: Backend, args: &[&str], redirected: &str) -> Output {
        let mut command = Command::new("sh");
        let script = format!(r#"exec "$@" {redirected}"#);
        command.args(["-c", &script, "sh"]).args(self.through());
        command.arg("/procring").args(args).stdin(Stdio::null());
        command.env_remove("PROCRING_TOKEN");
        let before = Before {
            deny: (backend == Backend::Epoll).then(denial_errno),
            ..Before::default()
        };
        before_exec(&mut command, before);
        command.output().unwrap()
    }

    fn launch(&self, backend: Backend) -> Launch {
        let [unshare @ .., chroot, root] = self.through();
        Launch::new(backend)
            .args(&["--no-token"])
            .program(Path::new("/procring"))
            .cwd(Path::new("/"))
            .through(&unshare)
            .through_exec(&[chroot, root])
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn the_first_process_of_an_empty_image_serves_and_ends_at_sigterm(backend: Backend) {
    let Some(image) = Image::new("first", backend) else {
        return;
    };
    let mut server = image.launch(backend).start();
    let run = server.run(&json!({"command": "/procring", "args": ["--version"]}));
    let version = concat!("procring ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(run["stdout"], version, "{run}");
    // Its namespace knows it by this number.
    assert_eq!(server.get("/v1/server").expect(200).json()["pid"], 1);
    // Another server is the one program here that goes on until it is ended.
    let body = json!({"command": "/procring", "args": ["server", "--listen", "unix:/other"]});
    let id = server.spawn(&body);
    eventually("the other one to listen", || {
        image.0.join("other").exists().then_some(())
    });
    assert_eq!(server.info(&id)["status"], "running");
    server.signal(libc::SIGTERM);
    // What unshare(1) makes of its child's.
    assert_eq!(server.await_end(WAIT).code(), Some(0));
    assert!(!image.0.join("other").exists(), "it was ended, not killed");
}

fn the_first_process_needs_no_standard_descriptors(backend: Backend) {
    let Some(image) = Image::new("closed", backend) else {
        return;
    };
    // As the kernel starts it where there is no /dev/console.
    let closed = "<&- >&- 2>&-";
    let output = image.run(backend, &["--version"], closed);
    // Nobody wants to be told.
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let failed = image.run(backend, &["server", "--listen", "nowhere"], closed);
    assert_eq!(failed.status.code(), Some(2), "{failed:?}");
    let args = ["server", "--listen", "127.0.0.1:0", "--cgroup", "on"];
    let unwritten = image.run(backend, &args, "<&- >&-");
    let said = String::from_utf8_lossy(&unwritten.stderr);
    assert_eq!(unwritten.status.code(), Some(1), "{said}");
    assert!(said.contains("--cgroup on"), "{said}");
}

fn what_an_empty_image_lacks_is_named_with_what_is_lost(backend: Backend) {
    let Some(image) = Image::new("lacks", backend) else {
        return;
    };
    let refused = |args: &[&str], code, words: &[&str]| {
        let output = image.run(backend, &[&["server"], args].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    let any = ["--listen", "127.0.0.1:0"];
    let with = |more: &'static [&str]| [&any, more].concat();
    refused(
        &with(&["--cgroup", "on"]),
        1,
        &["--cgroup on: no cgroup v2"],
    );
    refused(
        &with(&["--token-file", "/token"]),
        1,
        &["--token-file /token"],
    );
    refused(&["--listen", "unix:/run/s"], 1, &["unix:/run/s"]);
    // There is nobody who knows names.
    let names = ["localhost port 0", "/etc/hosts", "127.0.0.1"];
    refused(&["--listen", "localhost:0"], 1, &names);
    let user = ["--unix-allow-uid daemon", "/etc/passwd"];
    let args = ["--listen", "unix:/s", "--unix-allow-uid", "daemon"];
    refused(&args, 1, &user);

    let server = image
        .launch(backend)
        .args(&["--state-dir", "/state"])
        .start();
    let missing = server.get("/v1/server").expect(200).json()["missing"].to_string();
    let lost = [
        "no terminals: they need /dev/ptmx",
        "no cgroup v2 hierarchy is mounted here",
        "without /proc, too, only the process group",
        "--state-dir: without /proc",
    ];
    for sentence in lost {
        assert!(missing.contains(sentence), "{sentence}: {missing}");
    }
    let capabilities = server.get("/v1/server").expect(200).json()["capabilities"].to_string();
    assert!(!capabilities.contains("\"cgroup\""), "{capabilities}");
    let no_terminal = server.post(
        "/v1/processes",
        &json!({"command": "/procring", "tty": true}),
    );
    assert_eq!(no_terminal.status, 502);
    assert!(
        no_terminal.text().contains("/dev/ptmx"),
        "{}",
        no_terminal.text()
    );
}

fn a_command_in_an_empty_image_needs_no_server_that_runs(backend: Backend) {
    let Some(image) = Image::new("command", backend) else {
        return;
    };
    let output = image.run(backend, &["run", "--", "/procring", "--version"], "");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("procring "), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}
