//! `user`: who a child is, who may be named, and that the server still has hold of it.

use serde_json::{Value, json};

use crate::harness::cli::procring;
use crate::harness::{Backend, Launch, Response, Server, eventually, on_both, sh, skipped};
use crate::supervision_trees::unprivileged;

on_both!(
    a_child_is_who_the_request_names_in_each_form,
    its_surroundings_are_those_of_a_login,
    nothing_of_the_servers_privilege_is_left_to_it,
    its_working_directory_is_entered_as_that_user,
    its_terminal_and_its_pipes_are_its_own,
    it_can_be_stopped_killed_and_swept,
    who_is_not_allowed_is_403_and_starts_nothing,
    what_names_nobody_is_400,
    root_is_allowed_by_name_only,
    children_are_the_default_user_unless_they_say,
    a_server_without_the_privilege_says_so,
    a_default_user_that_cannot_be_is_no_start,
    a_server_that_is_not_root_keeps_its_privilege_from_others,
    who_is_who_is_read_again_when_it_changes,
    files_that_are_none_hold_nobody_up,
    the_command_line_names_users_and_limits,
);

const TARGETS: [&str; 2] = ["/v1/processes/run", "/v1/processes"];

/// Who the tests use: in /etc/passwd of every distribution.
const NOBODY: &str = "nobody";
const UID: &str = "65534";

/// A server that may change user, with these flags; None where the tests are no root.
fn server(backend: Backend, args: &[&str]) -> Option<Server> {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        skipped("not root: children of other users are not tested");
        return None;
    }
    let launch = Launch::new(backend).args(&["--no-token"]).args(args);
    // From where everybody may start.
    Some(launch.cwd(std::path::Path::new("/")).start())
}

fn as_user(mut body: Value, user: &str) -> Value {
    body["user"] = json!(user);
    body
}

#[track_caller]
fn out(server: &Server, body: &Value) -> String {
    let answer = server.post("/v1/processes/run", body).expect(200).json();
    assert_eq!(answer["exitCode"], 0, "{answer}");
    answer["stdout"].as_str().unwrap().trim_end().to_owned()
}

/// The number of the group that nobody is in: `nogroup`, `nobody` or `nfsnobody`.
fn group_of_nobody() -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("nobody:"));
    line.unwrap().split(':').nth(3).unwrap().to_owned()
}

fn a_child_is_who_the_request_names_in_each_form(backend: Backend) {
    let Some(server) = server(
        backend,
        &["--allow-user", "*", "--allow-user", "nobody:daemon"],
    ) else {
        return;
    };
    let gid = group_of_nobody();
    let plain = format!("{UID} {UID} {gid} {gid} {gid}");
    let show = sh("echo $(id -u) $(id -ru) $(id -g) $(id -rg) $(id -G)");
    for user in [
        NOBODY,
        UID,
        &format!("{UID}:{gid}"),
        &format!("{NOBODY}:{gid}"),
    ] {
        assert_eq!(out(&server, &as_user(show.clone(), user)), plain, "{user}");
    }
    assert_eq!(out(&server, &as_user(sh("id -un"), NOBODY)), NOBODY);
    // A number without an entry.
    let numbered = as_user(show.clone(), "1777123456");
    let expected = "1777123456 1777123456 1777123456 1777123456 1777123456";
    assert_eq!(out(&server, &numbered), expected);
    let daemon = as_user(sh("id -u; id -gn"), "nobody:daemon");
    assert_eq!(out(&server, &daemon), format!("{UID}\ndaemon"));
    // Managed ones and streamed runs as well.
    let id = server.spawn(&as_user(sh("id -u"), NOBODY));
    server.await_exit(&id);
    assert_eq!(server.output(&id, "stdout"), format!("{UID}\n").as_bytes());
    let headers = [
        ("Content-Type", "application/json"),
        ("Accept", "application/x-ndjson"),
    ];
    let mut streamed = as_user(sh("id -u"), NOBODY);
    streamed["outputEncoding"] = json!("utf8");
    let body = streamed.to_string();
    let answer = server.request("POST", TARGETS[0], &headers, body.as_bytes());
    assert!(
        answer.text().contains(r#""data":"65534\n""#),
        "{}",
        answer.text()
    );
    // Who is not asked to change does not.
    assert_eq!(out(&server, &sh("id -u")), "0");
    let told = server.get("/v1/server").json();
    assert!(
        told["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("user"))
    );
}

fn its_surroundings_are_those_of_a_login(backend: Backend) {
    let Some(server) = server(backend, &["--allow-user", "*"]) else {
        return;
    };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|line| line.starts_with("nobody:"))
        .unwrap();
    let fields: Vec<_> = line.split(':').collect();
    let show = sh("echo $HOME $USER $LOGNAME $SHELL");
    let login = format!("{} nobody nobody {}", fields[5], fields[6]);
    assert_eq!(out(&server, &as_user(show.clone(), NOBODY)), login);
    let mut bare = as_user(show.clone(), NOBODY);
    bare["inheritEnv"] = json!(false);
    assert_eq!(out(&server, &bare), login);
    let numbered = as_user(show.clone(), "1777123456");
    assert_eq!(out(&server, &numbered), "/ 1777123456 1777123456 /bin/sh");
    let mut own = as_user(show, NOBODY);
    own["env"] = json!({"HOME": "/tmp", "SHELL": "/bin/dash"});
    assert_eq!(out(&server, &own), "/tmp nobody nobody /bin/dash");
}

fn nothing_of_the_servers_privilege_is_left_to_it(backend: Backend) {
    let Some(server) = server(backend, &["--allow-user", "*", "--allow-user", "root"]) else {
        return;
    };
    let show = json!({"command": "grep", "args": ["-E", "^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)",
        "/proc/self/status"]});
    let status = out(&server, &as_user(show.clone(), NOBODY));
    let zero = "0000000000000000";
    assert_eq!(
        status,
        format!(
            "CapInh:\t{zero}\nCapPrm:\t{zero}\nCapEff:\t{zero}\nCapAmb:\t{zero}\nNoNewPrivs:\t1"
        )
    );
    // Root stays what the server is.
    let root = out(&server, &as_user(show.clone(), "root"));
    assert_eq!(root, out(&server, &show));
    // The server's memory stays closed, whoever its children are.
    let look = sh(&format!(
        "cat /proc/{}/maps /proc/{}/environ",
        server.pid, server.pid
    ));
    let answer = server.run(&as_user(look, NOBODY));
    assert_eq!(answer["stdout"], "", "{answer}");
    let mode = std::fs::metadata(format!("/proc/{}/mem", server.pid)).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(mode.uid(), 0);
}

fn its_working_directory_is_entered_as_that_user(backend: Backend) {
    let Some(server) = server(backend, &["--allow-user", "*"]) else {
        return;
    };
    let dir = std::env::temp_dir().join(format!("procring-users-{}", server.pid));
    std::fs::create_dir(&dir).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut body = as_user(json!({"command": "pwd", "cwd": dir}), NOBODY);
    for target in TARGETS {
        let problem = server.post(target, &body).problem(502, "stream_error");
        assert_eq!(problem["code"], "EACCES", "{problem}");
    }
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(out(&server, &body), dir.to_str().unwrap());
    // The program is looked for as that user, too.
    body["command"] = json!("./tool");
    std::fs::write(dir.join("tool"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(dir.join("tool"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let problem = server.post(TARGETS[0], &body).problem(502, "stream_error");
    assert_eq!(problem["code"], "EACCES", "{problem}");
    std::fs::remove_dir_all(&dir).unwrap();
}

fn its_terminal_and_its_pipes_are_its_own(backend: Backend) {
    let Some(server) = server(backend, &["--allow-user", "*"]) else {
        return;
    };
    let mut body = as_user(
        sh("stat -c %u $(tty); echo again > /dev/tty; echo $? > $(tty)"),
        NOBODY,
    );
    body["tty"] = json!(true);
    let id = server.spawn(&body);
    server.await_exit(&id);
    let text = String::from_utf8(server.output(&id, "combined")).unwrap();
    assert_eq!(text, format!("{UID}\r\nagain\r\n0\r\n"));
    // As docker(1) does since it was missed there: programs open these by name.
    let again = sh("echo out > /dev/stdout && echo err > /dev/stderr");
    let answer = server.run(&as_user(again.clone(), NOBODY));
    assert_eq!(
        (&answer["stdout"], &answer["stderr"]),
        (&json!("out\n"), &json!("err\n"))
    );
    let id = server.spawn(&as_user(
        sh("read line < /dev/stdin; echo $line > /dev/stderr"),
        NOBODY,
    ));
    server.feed(&id, "typed\n");
    server.await_exit(&id);
    assert_eq!(server.output(&id, "stderr"), b"typed\n");
}

/// Children in their group, in sessions of their own, and orphans, all of the same user.
const TREE: &str = "sleep 77 & setsid sleep 77 & \
                    (setsid sh -c 'exec <&- >&- 2>&-; exec sleep 77' &) ; echo ready; sleep 77";

fn it_can_be_stopped_killed_and_swept(backend: Backend) {
    for cgroup in ["auto", "off"] {
        let Some(mut server) = server(backend, &["--allow-user", "*", "--cgroup", cgroup]) else {
            return;
        };
        let gone = |server: &Server, what: &str| {
            eventually(&format!("{cgroup}, {what}: nobody to be left"), || {
                server.survivors().is_empty().then_some(())
            });
        };
        let id = server.spawn(&as_user(sh("echo ready; exec sleep 77"), NOBODY));
        server.await_output(&id, "ready");
        let stopped = server.post_empty(&format!("/v1/processes/{id}/stop?waitMs=20000"));
        assert_eq!(stopped.json()["signal"], "SIGTERM");
        let id = server.spawn(&as_user(sh(TREE), NOBODY));
        server.await_output(&id, "ready");
        assert_eq!(server.kill(&id)["signal"], "SIGKILL");
        gone(&server, "kill");
        let mut body = as_user(sh(TREE), NOBODY);
        body["timeoutMs"] = json!(500);
        assert_eq!(server.run(&body)["timedOut"], true);
        gone(&server, "timeout");
        let id = server.spawn(&as_user(sh(TREE), NOBODY));
        server.await_output(&id, "ready");
        server.signal(libc::SIGTERM);
        server.await_end(crate::harness::WAIT);
        gone(&server, "end");
    }
}

#[track_caller]
fn refused(answer: &Response, status: u16, kind: &str, parts: &[&str]) {
    let problem = answer.problem(status, kind);
    let detail = problem["detail"].as_str().unwrap();
    for part in parts {
        assert!(detail.contains(part), "{part}: {detail}");
    }
}

#[track_caller]
fn nothing_is_listed(server: &Server) {
    let list = server.get("/v1/processes").json();
    assert_eq!(list["processes"], json!([]));
}

fn who_is_not_allowed_is_403_and_starts_nothing(backend: Backend) {
    let Some(closed) = server(backend, &[]) else {
        return;
    };
    for target in TARGETS {
        let answer = closed.post(target, &as_user(sh("id"), NOBODY));
        refused(&answer, 403, "forbidden", &[NOBODY, "--allow-user"]);
    }
    nothing_is_listed(&closed);
    let Some(some) = server(backend, &["--allow-user", NOBODY]) else {
        return;
    };
    for user in [
        "root",
        "0",
        "daemon",
        "no-such-user",
        "nobody:daemon",
        "65534:1",
    ] {
        for target in TARGETS {
            let answer = some.post(target, &as_user(sh("id"), user));
            refused(&answer, 403, "forbidden", &[user, "--allow-user nobody"]);
        }
    }
    nothing_is_listed(&some);
    assert_eq!(out(&some, &as_user(sh("id -u"), UID)), UID);
}

fn what_names_nobody_is_400(backend: Backend) {
    let Some(server) = server(backend, &["--allow-user", "*"]) else {
        return;
    };
    for target in TARGETS {
        for user in ["no-such-user", "nobody:no-such-group"] {
            let answer = server.post(target, &as_user(sh("id"), user));
            refused(&answer, 400, "invalid_request", &[user]);
        }
        for user in ["", ":", "a:", ":a", "a:b:c", "4294967295", "a\u{0}b"] {
            let answer = server.post(target, &as_user(sh("id"), user));
            let allowed = r#"must be "name", "uid", "uid:gid" or "name:group""#;
            refused(&answer, 400, "invalid_request", &[allowed]);
        }
        for wrong in [json!(65534), json!(["nobody"]), json!(true)] {
            let mut body = sh("id");
            body["user"] = wrong;
            refused(
                &server.post(target, &body),
                422,
                "invalid_request",
                &["user"],
            );
        }
    }
    nothing_is_listed(&server);
}

fn root_is_allowed_by_name_only(backend: Backend) {
    let Some(all) = server(backend, &["--allow-user", "*"]) else {
        return;
    };
    for user in ["root", "0", "0:0"] {
        let answer = all.post(TARGETS[0], &as_user(sh("id"), user));
        refused(&answer, 403, "forbidden", &["everybody but root"]);
    }
    let Some(root) = server(backend, &["--allow-user", "0"]) else {
        return;
    };
    for user in ["root", "0", "0:0"] {
        assert_eq!(out(&root, &as_user(sh("id -u"), user)), "0", "{user}");
    }
}

fn children_are_the_default_user_unless_they_say(backend: Backend) {
    let Some(server) = server(
        backend,
        &[
            "--default-user",
            NOBODY,
            "--allow-user",
            "root",
            "--allow-user",
            "daemon",
        ],
    ) else {
        return;
    };
    let show = sh("id -un; echo $USER");
    assert_eq!(out(&server, &show), "nobody\nnobody");
    assert_eq!(out(&server, &as_user(show.clone(), "root")), "root\nroot");
    assert_eq!(
        out(&server, &as_user(show.clone(), "daemon")),
        "daemon\ndaemon"
    );
    let id = server.spawn(&show);
    server.await_exit(&id);
    assert_eq!(server.output(&id, "stdout"), b"nobody\nnobody\n");
    // It is no permission to name it.
    server
        .post(TARGETS[0], &as_user(show, NOBODY))
        .problem(403, "forbidden");
}

fn a_server_without_the_privilege_says_so(backend: Backend) {
    let Some(user) = unprivileged() else { return };
    let launch = || {
        Launch::new(backend)
            .program(&user.program)
            .through_exec(&user.prefix())
            .cwd(std::path::Path::new("/"))
    };
    let server = launch().args(&["--no-token", "--allow-user", "*"]).start();
    for target in TARGETS {
        for name in [NOBODY, "0", "no-such-user", &user.uid.to_string()] {
            let answer = server.post(target, &as_user(sh("id"), name));
            let problem = answer.problem(501, "not_implemented");
            assert_eq!(problem["code"], "user_unavailable");
            assert!(
                problem["detail"].as_str().unwrap().contains("CAP_SETUID"),
                "{problem}"
            );
        }
        // What is wrong in itself is so everywhere.
        refused(
            &server.post(target, &as_user(sh("id"), ":")),
            400,
            "invalid_request",
            &["user"],
        );
    }
    nothing_is_listed(&server);
    let told = server.get("/v1/server").json();
    assert!(
        !told["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("user"))
    );
    let missing = told["missing"].to_string();
    assert!(missing.contains("children of another user"), "{missing}");
    assert!(server.stderr().contains("children of another user"));
    assert_eq!(out(&server, &sh("id -u")), user.uid.to_string());
}

fn a_default_user_that_cannot_be_is_no_start(_: Backend) {
    let Some(user) = unprivileged() else { return };
    let prefix = user.prefix();
    let output = std::process::Command::new(&prefix[0])
        .args(&prefix[1..])
        .arg(&user.program)
        .args([
            "server",
            "--no-token",
            "--port",
            "0",
            "--default-user",
            NOBODY,
        ])
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--default-user nobody: this server cannot"),
        "{said}"
    );
}

/// Which is not taken away by leaving a user that is not root.
fn a_server_that_is_not_root_keeps_its_privilege_from_others(backend: Backend) {
    let Some(user) = unprivileged() else { return };
    let may = |caps: &str| {
        let prefix = [
            user.prefix(),
            ["--inh-caps", caps, "--ambient-caps", caps]
                .map(str::to_owned)
                .to_vec(),
        ];
        Launch::new(backend)
            .program(&user.program)
            .through_exec(&prefix.concat())
            .cwd(std::path::Path::new("/"))
            .args(&["--no-token", "--allow-user", "*"])
            .start()
    };
    let server = may("+setuid,+setgid,+chown,+kill");
    let status = json!({"command": "grep", "args": ["-E", "^(Uid|Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)",
        "/proc/self/status"]});
    let zero = "0000000000000000";
    assert_eq!(
        out(&server, &as_user(status, NOBODY)),
        format!(
            "Uid:\t{UID}\t{UID}\t{UID}\t{UID}\nCapInh:\t{zero}\nCapPrm:\t{zero}\n\
             CapEff:\t{zero}\nCapAmb:\t{zero}\nNoNewPrivs:\t1"
        )
    );
    let mut terminal = as_user(sh("stat -c %u $(tty); exec sleep 77"), NOBODY);
    terminal["tty"] = json!(true);
    let id = server.spawn(&terminal);
    server.await_output(&id, UID);
    assert_eq!(server.kill(&id)["signal"], "SIGKILL");
    // Whom it could not end it does not start.
    let server = may("+setuid,+setgid,+chown");
    let answer = server.post(TARGETS[0], &as_user(sh("id"), NOBODY));
    answer.problem(501, "not_implemented");
}

/// A server for which this is /etc/passwd; None where the tests may not mount.
fn with_passwd(backend: Backend, path: &std::path::Path) -> Option<Server> {
    let script = "mount --bind \"$0\" /etc/passwd && exec \"$@\"";
    let path = path.to_str().unwrap();
    let mounts = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/passwd", path])
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounts {
        crate::harness::skipped_anywhere(
            "unshare(1) and mount(8) are refused; another /etc/passwd \
                                          is not tested",
        );
        return None;
    }
    let launch = Launch::new(backend)
        .through_exec(&["unshare", "-m", "sh", "-c", script, path])
        .cwd(std::path::Path::new("/"));
    Some(launch.args(&["--no-token", "--allow-user", "*"]).start())
}

fn who_is_who_is_read_again_when_it_changes(backend: Backend) {
    let path = std::env::temp_dir().join(format!(
        "procring-passwd-{backend:?}-{}",
        std::process::id()
    ));
    std::fs::write(&path, "root:x:0:0::/:/bin/sh\n").unwrap();
    if let Some(server) = with_passwd(backend, &path) {
        let show = as_user(sh("id -u; echo $HOME"), "zoe");
        server
            .post(TARGETS[0], &show)
            .problem(400, "invalid_request");
        std::fs::write(&path, "zoe:x:4242:4242::/tmp:/bin/sh\n").unwrap();
        assert_eq!(out(&server, &show), "4242\n/tmp");
    }
    std::fs::remove_file(&path).unwrap();
}

/// A root child may put anything there.
fn files_that_are_none_hold_nobody_up(backend: Backend) {
    let path =
        std::env::temp_dir().join(format!("procring-fifo-{backend:?}-{}", std::process::id()));
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    if let Some(server) = with_passwd(backend, &path) {
        let answer = server.post(TARGETS[0], &as_user(sh("id"), NOBODY));
        let problem = answer.problem(501, "not_implemented");
        assert!(
            problem["detail"].as_str().unwrap().contains("/etc/passwd"),
            "{problem}"
        );
        assert_eq!(out(&server, &sh("echo on")), "on");
    }
    std::fs::remove_file(&path).unwrap();
}

fn the_command_line_names_users_and_limits(backend: Backend) {
    let Some(server) = server(backend, &["--allow-user", NOBODY]) else {
        return;
    };
    let show = [
        "--limit",
        "nofile=55",
        "-u",
        NOBODY,
        "--",
        "sh",
        "-c",
        "id -un; ulimit -n",
    ];
    let said = procring(&server, &[&["run"], &show[..]].concat());
    assert_eq!(said.good(), "nobody\n55\n");
    let id = procring(&server, &[&["start"], &show[..]].concat()).good();
    server.await_exit(id.trim());
    assert_eq!(server.output(id.trim(), "stdout"), b"nobody\n55\n");
    for (flags, code, part) in [
        (["--user", "daemon"], 125, "--allow-user nobody"),
        (
            ["--limit", "nofile=0"],
            2,
            "nofile must be a whole number of at least 1",
        ),
        (["--limit", "nofiles=1"], 2, "nearest: nofile"),
    ] {
        let said = procring(&server, &[&["run"], &flags[..], &["true"]].concat());
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.err.contains(part), "{said:?}");
    }
}
