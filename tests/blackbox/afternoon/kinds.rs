//! What is started on a server: how each kind begins, and what is left of it after what.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::sh;

use super::Random;
use super::namespace::Room;

/// Who is alive after something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nobody,
    /// The leader is gone.
    Others,
    Everybody,
}

/// A shape of tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sleep,
    /// Background jobs in the leader's group.
    Jobs,
    /// The same, orphaned from the start.
    OrphanJobs,
    /// A double-forked daemon beside a leader that stays.
    Daemon,
    /// A leader that is gone once its daemon is there.
    Leaver,
    /// Ends when it is fed a line, and leaves a job.
    Reader,
    /// Ignores SIGTERM.
    Stubborn,
    /// Its main thread has ended.
    Headless,
    /// Has a daemon whose main thread has ended.
    HeadlessBelow,
    /// Writes all the time.
    Writer,
    /// An interactive shell with two jobs in groups of their own.
    Shell,
    /// A terminal whose program ends at the end of input; its job dies of the hangup.
    TerminalJob,
    /// The same with a daemon, which does not.
    TerminalDaemon,
    /// A leader traced by a daemon of its own, which left its cgroup.
    Traced,
    /// Out of its cgroup, with a child that is its parent's.
    Escaped,
}

pub(super) const KINDS: [Kind; 15] = [
    Kind::Sleep,
    Kind::Jobs,
    Kind::OrphanJobs,
    Kind::Daemon,
    Kind::Leaver,
    Kind::Reader,
    Kind::Stubborn,
    Kind::Headless,
    Kind::HeadlessBelow,
    Kind::Writer,
    Kind::Shell,
    Kind::TerminalJob,
    Kind::TerminalDaemon,
    Kind::Traced,
    Kind::Escaped,
];

const SLEEP: &str = "sleep 9999";

impl Kind {
    /// Whether it can be made in this room.
    pub(super) fn is_possible(self, room: &Room, privileged: bool) -> bool {
        self != Kind::Escaped || (privileged && outside(room).is_some())
    }

    /// The request that creates it.
    pub(super) fn body(self, room: &Room, privileged: bool, random: &mut Random) -> Value {
        let helper = room.helper.display();
        let ties = ["null", "closed", "keep"][random.below(3)];
        let daemon = format!("{helper} daemon {ties}");
        match self {
            Kind::Sleep => json!({"command": "sleep", "args": ["9999"]}),
            Kind::Jobs => sh(&format!("{SLEEP} & {SLEEP} & wait")),
            Kind::OrphanJobs => sh(&format!("({SLEEP} &); ({SLEEP} &); exec {SLEEP}")),
            Kind::Daemon => sh(&format!("{daemon}; exec {SLEEP}")),
            Kind::Leaver => sh(&daemon),
            Kind::Reader => sh(&format!("{SLEEP} & read line; exit 3")),
            Kind::Stubborn => sh(&format!("trap '' TERM HUP; {SLEEP} & {SLEEP} & wait")),
            Kind::Headless => json!({"command": room.helper, "args": ["headless"]}),
            Kind::HeadlessBelow => {
                let below = format!("(setsid {helper} headless </dev/null >/dev/null 2>&1 &)");
                sh(&format!("{below}; exec {SLEEP}"))
            }
            Kind::Writer => json!({"command": "perl", "args": ["-e", WRITER]}),
            Kind::Shell => {
                let args = ["--norc", "--noprofile", "-i"];
                json!({"command": "bash", "args": args, "tty": true})
            }
            Kind::TerminalJob => on_terminal(sh(&format!("{SLEEP} & exec cat"))),
            Kind::TerminalDaemon => on_terminal(sh(&format!("{helper} daemon null; exec cat"))),
            Kind::Traced => {
                let way_out = if privileged { outside(room) } else { None };
                let way_out = way_out.map_or(String::new(), |file| file.display().to_string());
                sh(&format!("{helper} tracer $$ {way_out}; exec {SLEEP}"))
            }
            Kind::Escaped => json!({"command": room.helper, "args": ["escape", outside(room)]}),
        }
    }

    /// What is typed once it runs.
    pub(super) fn first_input(self) -> Option<String> {
        (self == Kind::Shell).then(|| format!("{SLEEP} &\n{SLEEP} &\n"))
    }

    /// How many there are beside the leader.
    pub(super) fn others(self) -> usize {
        match self {
            Kind::Sleep | Kind::Headless | Kind::Writer => 0,
            Kind::Daemon
            | Kind::Leaver
            | Kind::Reader
            | Kind::HeadlessBelow
            | Kind::TerminalJob
            | Kind::TerminalDaemon
            | Kind::Traced
            | Kind::Escaped => 1,
            Kind::Jobs | Kind::OrphanJobs | Kind::Stubborn | Kind::Shell => 2,
        }
    }

    /// Whether the leader is gone once it is settled.
    pub(super) fn leader_leaves(self) -> bool {
        self == Kind::Leaver
    }

    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Kind::Shell | Kind::TerminalJob | Kind::TerminalDaemon)
    }

    /// Who lives after SIGTERM to the leader's group.
    pub(super) fn after_stop(self) -> After {
        match self {
            Kind::Sleep
            | Kind::Jobs
            | Kind::OrphanJobs
            | Kind::Reader
            | Kind::Headless
            | Kind::Writer
            | Kind::TerminalJob => After::Nobody,
            Kind::Daemon
            | Kind::Leaver
            | Kind::HeadlessBelow
            | Kind::TerminalDaemon
            | Kind::Escaped => After::Others,
            // A traced one stops at the signal until its tracer says what to do.
            Kind::Stubborn | Kind::Shell | Kind::Traced => After::Everybody,
        }
    }

    /// What makes the leader end by itself, and who lives after that.
    pub(super) fn last_input(self) -> Option<(&'static str, After)> {
        match self {
            Kind::Reader => Some(("\n", After::Others)),
            Kind::Shell => Some(("exit\n", After::Others)),
            Kind::TerminalJob => Some(("\u{4}", After::Nobody)),
            Kind::TerminalDaemon => Some(("\u{4}", After::Others)),
            _ => None,
        }
    }

    /// Whether input is taken for a while without anything happening.
    pub(super) fn bears_input(self) -> bool {
        matches!(
            self,
            Kind::Sleep | Kind::Jobs | Kind::Daemon | Kind::Stubborn
        )
    }
}

/// Names that only those have who are settled; a shell on its way to them is none.
pub(super) const SETTLED: [&str; 5] = ["sleep", "daemon", "headless", "tracer", "escaped"];

const WRITER: &str =
    "$| = 1; while (1) { print 'x' x 70, \"\\n\"; select undef, undef, undef, 0.02 }";

/// Whoever writes into this file is in none of a server's cgroups.
fn outside(room: &Room) -> Option<PathBuf> {
    room.group.as_ref().map(|group| group.join("cgroup.procs"))
}

fn on_terminal(mut body: Value) -> Value {
    body["tty"] = true.into();
    body
}
