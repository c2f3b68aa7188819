//! The command line in a real terminal: what is typed reaches the program, what it draws is seen,
//! leaving ends nothing, and the terminal is as before whatever happens.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::cli::{Begun, begun, command, procring};
use crate::harness::launch::{Before, before_exec, pid_namespace};
use crate::harness::{Backend, Server, WAIT, eventually, on_both, sh};

/// Runs its arguments as a shell does a job in the foreground, and waits for the end of it.
const SHELL: &str = "import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))";

on_both!(
    a_run_in_a_terminal_is_that_program_and_ends_with_its_code,
    leaving_a_terminal_ends_nothing_and_attaching_draws_it_again,
    a_terminal_is_put_back_after_a_signal,
    a_terminal_is_put_back_where_the_command_is_stopped_and_taken_again_where_it_goes_on,
    where_no_shell_could_have_it_go_on_a_command_is_not_stopped,
    who_only_looks_on_leaves_by_keys_and_types_nothing,
    a_terminal_is_put_back_where_the_server_is_gone_or_nobody_reads,
    tables_are_coloured_on_a_terminal_unless_that_is_not_wanted,
    a_new_size_reaches_the_program,
    a_new_terminal_leaves_what_was_there_before_and_leaving_it_writes_below,
    pipes_are_left_by_ctrl_backslash_and_not_by_other_keys,
    top_is_left_by_its_key,
    a_table_is_as_wide_as_the_terminal_and_no_wider,
    who_types_without_a_terminal_is_told,
    a_program_that_is_left_on_its_own_screen_gives_the_cursor_back_to_who_attached,
);

/// A terminal with a command in it.
struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
    command: Begun,
    shown: String,
    before: Termios,
}

fn resize(master: &OwnedFd, cols: u16, rows: u16) {
    let size = Winsize {
        ws_col: cols,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).expect("a size");
}

impl Terminal {
    fn with(server: &Server, args: &[&str]) -> Self {
        let mut command = command(server, args);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        Self::of(command)
    }

    /// As a job of a shell, in the foreground.
    fn of_shell(server: &Server, args: &[&str]) -> Self {
        Self::through(&["python3", "-c", SHELL], server, args)
    }

    /// Through a program that begins it.
    fn through(wrapper: &[&str], server: &Server, args: &[&str]) -> Self {
        let job = command(server, args);
        let mut through = std::process::Command::new(wrapper[0]);
        through.args(&wrapper[1..]).arg(job.get_program());
        through.args(job.get_args()).env("TERM", "xterm-256color");
        for (name, value) in job.get_envs() {
            through.env(name, value.unwrap_or_default());
        }
        Self::of(through)
    }

    /// The number of a shell's job that runs.
    fn job(&self) -> Pid {
        let shell = self.command.0.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let job = children.expect("a process").trim().parse();
        Pid::from_raw(job.expect("one child")).expect("a number")
    }

    fn of(command: std::process::Command) -> Self {
        Self::shown_by(command, None)
    }

    /// With an output of its own, or on the terminal.
    fn shown_by(mut command: std::process::Command, out: Option<OwnedFd>) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("its other side");
        resize(&master, 91, 23);
        let before = tcgetattr(&slave).expect("modes");
        let side = || slave.try_clone().expect("a descriptor");
        let out = out.unwrap_or_else(side);
        command.stdin(side()).stdout(out).stderr(side());
        let of_terminal = Before {
            terminal: Some(slave.as_raw_fd()),
            ..Before::default()
        };
        before_exec(&mut command, of_terminal);
        Self {
            command: begun(&mut command),
            master,
            slave,
            shown: String::new(),
            before,
        }
    }

    fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.slave).expect("modes");
        !now.local_modes.contains(LocalModes::ICANON)
    }

    fn type_in(&self, text: &str) {
        assert_eq!(
            rustix::io::write(&self.master, text.as_bytes()),
            Ok(text.len())
        );
    }

    /// Reads until `text` has been shown since the last time.
    fn expect(&mut self, text: &str) {
        self.upto(text);
    }

    /// The same, with all that was shown up to there.
    fn upto(&mut self, text: &str) -> String {
        let until = Instant::now() + WAIT;
        loop {
            if let Some(at) = self.shown.find(text) {
                return self.shown.drain(..at + text.len()).collect();
            }
            assert!(Instant::now() < until, "no {text:?} in {:?}", self.shown);
            let tick = Timespec {
                tv_sec: 0,
                tv_nsec: 50_000_000,
            };
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            if poll(&mut fds, Some(&tick)).expect("poll") == 0 {
                continue;
            }
            let mut buffer = [0; 4096];
            let read = rustix::io::read(&self.master, &mut buffer).unwrap_or(0);
            self.shown
                .push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// Waits for the end of the command and looks at the terminal.
    fn end(mut self) -> Option<i32> {
        let until = Instant::now() + WAIT;
        let status = loop {
            if let Some(status) = self.command.0.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < until, "no end; shown: {:?}", self.shown);
            std::thread::sleep(Duration::from_millis(10));
        };
        let after = tcgetattr(self.slave.as_fd()).expect("modes");
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        assert!(
            after
                .local_modes
                .contains(LocalModes::ECHO | LocalModes::ICANON)
        );
        status.code()
    }
}

fn a_run_in_a_terminal_is_that_program_and_ends_with_its_code(backend: Backend) {
    let server = Server::open(backend);
    let script = "stty size; read x; echo got $x; test -t 0 && test -t 1 && exit 5";
    let mut terminal = Terminal::with(&server, &["run", "-t", "--", "sh", "-c", script]);
    terminal.expect("23 91");
    terminal.type_in("hello\r");
    terminal.expect("got hello");
    assert_eq!(terminal.end(), Some(5));
    assert_eq!(procring(&server, &["ps", "-a", "-q"]).good(), "");
    // Ctrl-C is a key like any other.
    let script = "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.1; done";
    let mut terminal = Terminal::with(&server, &["run", "-t", "--", "sh", "-c", script]);
    terminal.expect("ready");
    terminal.type_in("\x03");
    terminal.expect("caught");
    assert_eq!(terminal.end(), Some(6));
    let mut terminal = Terminal::with(&server, &["run", "-t", "--timeout", "1s", "cat"]);
    terminal.type_in("x\r");
    terminal.expect("x");
    assert_eq!(terminal.end(), Some(124));
}

fn leaving_a_terminal_ends_nothing_and_attaching_draws_it_again(backend: Backend) {
    let server = Server::open(backend);
    let args = [
        "run",
        "-t",
        "--name",
        "vi",
        "--",
        "sh",
        "-c",
        "echo drawn; cat",
    ];
    let mut terminal = Terminal::with(&server, &args);
    terminal.expect("drawn");
    terminal.type_in("\x1c");
    terminal.expect("procring attach vi");
    assert_eq!(terminal.end(), Some(0));
    assert_eq!(server.info("vi")["status"], "running");
    let mut terminal = Terminal::with(&server, &["attach", "--detach-keys", "ctrl-p,q", "vi"]);
    terminal.expect("drawn");
    terminal.type_in("more\r");
    terminal.expect("more\r\nmore");
    terminal.type_in("\x10q");
    assert_eq!(terminal.end(), Some(0));
    let screen = procring(&server, &["screen", "vi"]).good();
    assert!(screen.starts_with("drawn\nmore\nmore\n"), "{screen:?}");
    let mut terminal = Terminal::with(&server, &["attach", "vi"]);
    terminal.expect("drawn");
    terminal.type_in("\x04");
    assert_eq!(terminal.end(), Some(0));
}

fn a_terminal_is_put_back_after_a_signal(backend: Backend) {
    let server = Server::open(backend);
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        let args = ["-c", "echo drawn; cat"];
        let program = serde_json::json!({"command": "sh", "args": args, "tty": true});
        let id = server.spawn(&program);
        let mut terminal = Terminal::with(&server, &["attach", &id]);
        terminal.expect("drawn");
        terminal.command.signal(signal);
        assert_eq!(terminal.end(), Some(128 + signal));
        assert_eq!(
            server.info(&id)["status"],
            "running",
            "attaching owns nothing"
        );
    }
    // A run is its client's.
    let mut terminal = Terminal::with(&server, &["run", "-t", "--", "sh", "-c", "echo up; cat"]);
    terminal.expect("up");
    terminal.command.signal(libc::SIGHUP);
    assert_eq!(terminal.end(), Some(128 + libc::SIGHUP));
    let running = procring(&server, &["ps"]).good();
    assert!(!running.contains("echo up"), "{running}");
}

fn a_new_size_reaches_the_program(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("true"));
    server.await_exit(&id);
    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done";
    let mut terminal = Terminal::with(&server, &["run", "-t", "--", "sh", "-c", script]);
    terminal.expect("23 91");
    resize(&terminal.master, 77, 33);
    terminal.expect("33 77");
    terminal.type_in("\x03");
    assert_eq!(terminal.end(), Some(130));
}

fn a_terminal_is_put_back_where_the_command_is_stopped_and_taken_again_where_it_goes_on(
    backend: Backend,
) {
    let server = Server::open(backend);
    let script = "printf '\\033[?1049h'; echo drawn; cat";
    let mut terminal = Terminal::of_shell(&server, &["run", "-t", "--", "sh", "-c", script]);
    terminal.expect("drawn");
    assert!(terminal.is_raw());
    let job = terminal.job();
    kill_process(job, Signal::TSTP).expect("the job");
    // The alternate screen is left for the shell.
    terminal.expect("\x1b[?1049l");
    // A SIGCONT that comes before the stop would be behind it.
    let stat = format!("/proc/{job}/stat");
    eventually("the stop", || {
        let stat = std::fs::read_to_string(&stat).expect("a process");
        stat.contains(") T ").then_some(())
    });
    assert!(!terminal.is_raw());
    kill_process(job, Signal::CONT).expect("the job");
    terminal.expect("drawn");
    assert!(terminal.is_raw());
    terminal.type_in("more\r");
    terminal.expect("more\r\nmore");
    terminal.type_in("\x04");
    assert_eq!(terminal.end(), Some(0));
}

fn who_only_looks_on_leaves_by_keys_and_types_nothing(backend: Backend) {
    let server = Server::open(backend);
    let program = serde_json::json!({"command": "sh", "args": ["-c", "echo up; cat"], "tty": true});
    let id = server.spawn(&program);
    for keys in ["x\x1c", "x\x03"] {
        let mut terminal = Terminal::with(&server, &["attach", "--read-only", &id]);
        terminal.expect("up");
        terminal.type_in(keys);
        terminal.expect("comes back");
        assert_eq!(terminal.end(), Some(0));
    }
    // It would echo an x.
    let screen = server.get(&format!("/v1/processes/{id}/terminal/screen?format=text"));
    assert_eq!(screen.text().trim(), "up");
    assert_eq!(server.info(&id)["status"], "running");
}

/// As with `ssh -t` or `docker exec -it`: a default SIGTSTP does nothing there either.
fn where_no_shell_could_have_it_go_on_a_command_is_not_stopped(backend: Backend) {
    let server = Server::open(backend);
    let run = ["run", "-t", "--", "sh", "-c", "echo up; cat"];
    let mut terminal = Terminal::with(&server, &run);
    terminal.expect("up");
    terminal.command.signal(libc::SIGTSTP);
    goes_on(terminal);
    // Its group and its session are outside of its PID namespace, as in a container.
    if let Some(wrapper) = pid_namespace() {
        let mut terminal = Terminal::through(wrapper, &server, &run);
        terminal.expect("up");
        kill_process(terminal.job(), Signal::TSTP).expect("a signal");
        goes_on(terminal);
    }
}

fn a_new_terminal_leaves_what_was_there_before_and_leaving_it_writes_below(backend: Backend) {
    let server = Server::open(backend);
    let (full, alternate) = ("\x1bc", "\x1b[?1049l");
    let plain = ["run", "-t", "--name", "plain", "sh", "-c", "echo up; cat"];
    let mut terminal = Terminal::with(&server, &plain);
    let before = terminal.upto("up");
    assert!(!before.contains(full), "{before:?}");
    terminal.type_in("\x1c");
    let left = terminal.upto("comes back");
    assert!(!left.contains(alternate), "{left:?}");
    assert_eq!(terminal.end(), Some(0));
    // What was shown there is not known here.
    let mut terminal = Terminal::with(&server, &["attach", "plain"]);
    let before = terminal.upto("up");
    assert!(before.contains(full), "{before:?}");
    terminal.type_in("\x04");
    assert_eq!(terminal.end(), Some(0));
    // A question that was asked before there was a viewer is answered by it.
    let asks = "printf '\\033[6n'; stty raw -echo; head -c 6 | tail -c 5; echo +";
    let mut terminal = Terminal::with(&server, &["run", "-t", "sh", "-c", asks]);
    terminal.expect("\x1b[6n");
    terminal.type_in("\x1b[1;1R");
    terminal.expect("[1;1R+");
    assert_eq!(terminal.end(), Some(0));
    for (end, code) in [("cat", 0), ("kill -9 $$", 137)] {
        let script = format!("printf '\\033[?1049h'; echo up; {end}");
        let mut terminal = Terminal::with(&server, &["run", "-t", "sh", "-c", &script]);
        terminal.expect("up");
        if code == 0 {
            terminal.type_in("\x1c");
        }
        terminal.expect(alternate);
        assert_eq!(terminal.end(), Some(code));
    }
}

/// Programs leave their own screen with 1049; tmux then puts the cursor where the last 1049 found it.
fn a_program_that_is_left_on_its_own_screen_gives_the_cursor_back_to_who_attached(
    backend: Backend,
) {
    let server = Server::open(backend);
    let script = "echo beneath; printf '\\033[?1049h'; echo up; head -n 1; printf '\\033[?1049l'";
    let start = ["start", "-t", "--name", "own", "sh", "-c", script];
    procring(&server, &start).good();
    server.await_output("own", "up");
    let mut terminal = Terminal::with(&server, &["attach", "own"]);
    let drawn = terminal.upto("up");
    let (beneath, at) = (drawn.find("beneath"), drawn.find("\x1b[2;1H"));
    let own = drawn.find("\x1b[?1049h");
    assert!(
        beneath < at && at < own && beneath.is_some(),
        "the cursor is saved where it was beneath: {drawn:?}"
    );
    assert!(!drawn.contains("\x1b[?1047h"), "{drawn:?}");
    terminal.type_in("\r");
    terminal.expect("\x1b[?1049l");
    assert_eq!(terminal.end(), Some(0));
}

fn pipes_are_left_by_ctrl_backslash_and_not_by_other_keys(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("echo up; cat"));
    let mut terminal = Terminal::with(&server, &["attach", "--tail", "1", &id]);
    terminal.expect("up");
    terminal.type_in("more\r");
    terminal.expect("more\r\nmore");
    terminal.type_in("\x1c");
    terminal.expect("comes back");
    assert_eq!(terminal.end(), Some(0));
    assert_eq!(server.info(&id)["status"], "running");
    let said = procring(&server, &["attach", "--detach-keys", "ctrl-p", &id]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("Ctrl-\\"), "{said:?}");
}

fn top_is_left_by_its_key(backend: Backend) {
    let server = Server::open(backend);
    for key in ["xq", "\x03"] {
        let mut terminal = Terminal::with(&server, &["top", "--interval", "1h"]);
        terminal.expect("COMMAND");
        eventually("its keys", || terminal.is_raw().then_some(()));
        terminal.type_in(key);
        terminal.expect("\x1b[?1049l");
        assert_eq!(terminal.end(), Some(0));
    }
}

fn a_table_is_as_wide_as_the_terminal_and_no_wider(backend: Backend) {
    let server = Server::open(backend);
    let long = "x".repeat(200);
    procring(&server, &["start", "sh", "-c", "sleep 600", &long]).good();
    let mut terminal = Terminal::with(&server, &["ps"]);
    terminal.expect("COMMAND");
    terminal.expect("\n");
    let row = terminal.upto("…\r\n");
    let colours = ["\x1b[32m", "\x1b[0m"];
    let row = colours.iter().fold(row, |row, on| row.replace(on, ""));
    assert_eq!(row.trim_end().chars().count(), 91, "{row:?}");
    assert_eq!(terminal.end(), Some(0));
    assert!(procring(&server, &["ps"]).good().contains(&long));
}

fn who_types_without_a_terminal_is_told(backend: Backend) {
    let server = Server::open(backend);
    let mut terminal = Terminal::with(&server, &["run", "-i", "cat"]);
    terminal.expect("with -t");
    assert_eq!(terminal.end(), Some(0));
}

fn goes_on(mut terminal: Terminal) {
    terminal.type_in("more\r");
    terminal.expect("more\r\nmore");
    terminal.type_in("\x04");
    assert_eq!(terminal.end(), Some(0));
}

fn a_terminal_is_put_back_where_the_server_is_gone_or_nobody_reads(backend: Backend) {
    let server = Server::open(backend);
    let program =
        serde_json::json!({"command": "sh", "args": ["-c", "echo drawn; cat"], "tty": true});
    let id = server.spawn(&program);
    // Its output goes to somebody who has gone.
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    drop(reader);
    let args = ["attach", &id];
    let terminal = Terminal::shown_by(command(&server, &args), Some(writer));
    assert_eq!(terminal.end(), Some(128 + 13));
    let mut terminal = Terminal::with(&server, &args);
    terminal.expect("drawn");
    server.signal(libc::SIGKILL);
    terminal.expect("no server at");
    assert_eq!(terminal.end(), Some(1));
}

fn tables_are_coloured_on_a_terminal_unless_that_is_not_wanted(backend: Backend) {
    let server = Server::open(backend);
    procring(&server, &["start", "--name", "web", "sleep", "600"]).good();
    for (args, ends) in [
        (&["ps", "-a"][..], true),
        (&["config"], true),
        (&["top"], false),
        (&["events", "--since", "0"], false),
    ] {
        for plain in [None, Some(("NO_COLOR", "1")), Some(("TERM", "dumb"))] {
            let mut command = command(&server, args);
            command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
            command.envs(plain);
            let mut terminal = Terminal::of(command);
            let seen = if args[0] == "config" {
                "maxOutputBytes"
            } else {
                "sleep 600"
            };
            let before = terminal.upto(seen);
            let is_coloured = ["\x1b[1m", "\x1b[32m"].iter().any(|on| before.contains(on));
            assert_eq!(
                is_coloured,
                plain.is_none(),
                "{args:?}, {plain:?}: {before:?}"
            );
            if !ends {
                terminal.type_in("\x03");
            }
            terminal.end();
        }
    }
}
