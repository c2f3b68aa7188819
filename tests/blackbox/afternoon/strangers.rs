//! Processes that no server started, as like to those of a server as can be: same program names,
//! same numbers, same terminals, same marks.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::eventually;

use super::census::{self, Member, TAG};
use super::kinds::SETTLED;
use super::namespace::{Room, next_pid};

/// What a stranger is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Leads a session, with a job and an orphan in it.
    Session,
    /// Only a child of this test, in its session.
    Child,
    /// A double-forked daemon, given to PID 1.
    Daemon,
    /// Leads a session on a terminal.
    Terminal,
    /// Its main thread has ended.
    Headless,
}

pub(super) const SHAPES: [Shape; 5] = [
    Shape::Session,
    Shape::Child,
    Shape::Daemon,
    Shape::Terminal,
    Shape::Headless,
];

/// Somebody who must live until `send_away`.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) what: String,
    pub(super) members: Vec<Member>,
    child: Child,
    /// Kept, so that the terminal is.
    _terminal: Option<OwnedFd>,
}

impl Stranger {
    /// Starts one, if that can be with the number `pid`, and with what it may have in common with
    /// the process `like` by accident.
    pub(super) fn start(
        room: &Room,
        serial: u32,
        shape: Shape,
        pid: Option<i32>,
        like: Option<i32>,
    ) -> Self {
        let mut command = Command::new(&room.helper);
        command.arg("as");
        if let Some(like) = like {
            command.arg(format!("like={like}"));
        }
        if shape != Shape::Child {
            command.arg("session");
        }
        let helper = room.helper.display();
        let sleep = "sleep 9999";
        let (script, count) = match shape {
            Shape::Session => (format!("{sleep} & ({sleep} &); exec {sleep}"), 3),
            Shape::Child => (format!("exec {sleep}"), 1),
            Shape::Daemon => (format!("exec {helper} daemon null"), 1),
            Shape::Terminal => (format!("{sleep} & exec {sleep}"), 2),
            Shape::Headless => (format!("exec {helper} headless"), 1),
        };
        let terminal = (shape == Shape::Terminal).then(|| {
            let (master, slave, name) = open_terminal();
            let again = || Stdio::from(slave.try_clone().expect("a copy"));
            command.stdin(again()).stdout(again()).stderr(again());
            command.arg("terminal");
            (master, name)
        });
        if terminal.is_none() {
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null());
        }
        let tag = format!("s{serial}");
        command.args(["--", "sh", "-c", &script]).env(TAG, &tag);
        if let Some(pid) = pid {
            next_pid(pid);
        }
        let mut child = command.spawn().expect("a stranger");
        let number = child.id() as i32;
        if shape == Shape::Daemon {
            child.wait().expect("wait");
        }
        let members = eventually("a stranger to be settled", || {
            let pids = census::by_tag().remove(&tag).unwrap_or_default();
            let members: Vec<_> = pids.into_iter().filter_map(Member::of).collect();
            let settled = |member: &Member| {
                let (name, whole) = member.name();
                SETTLED.contains(&&name[..]) && whole == (name != "headless")
            };
            (members.len() == count && members.iter().all(settled)).then_some(members)
        });
        let (terminal, name) = terminal.map_or((None, String::new()), |(master, name)| {
            (Some(master), format!(" on {name}"))
        });
        let likeness = like.map_or(String::new(), |like| format!(", with the slack of {like}"));
        Self {
            what: format!("stranger {tag}, {shape:?} {number}{name}{likeness}"),
            members,
            child,
            _terminal: terminal,
        }
    }

    /// Who of them is not alive.
    pub(super) fn dead(&self) -> Vec<i32> {
        let dead = self.members.iter().filter(|member| !member.is_alive());
        dead.map(|member| member.pid).collect()
    }

    /// Gives it the marks of the process `like`, which began after it. Tells whether it did.
    pub(super) fn liken(&mut self, room: &Room, like: i32) -> bool {
        let Some(began) = census::started(like) else {
            return false;
        };
        let older = |member: &Member| census::started(member.pid).is_some_and(|at| at < began);
        if !self.members.iter().all(older) {
            return false;
        }
        for member in &self.members {
            liken(room, like, member.pid);
        }
        self.what
            .push_str(&format!(", marked as the younger {like}"));
        true
    }

    /// Ends it.
    pub(super) fn send_away(mut self) {
        for member in &self.members {
            member.kill();
        }
        let _ = self.child.wait();
        for member in &self.members {
            eventually("a stranger to go", || (!member.is_alive()).then_some(()));
        }
    }
}

/// Gives the process `to` the timer slack and the limit of locks of another.
pub(super) fn liken(room: &Room, from: i32, to: i32) {
    let done = Command::new(&room.helper)
        .args(["liken", &from.to_string(), &to.to_string()])
        .status();
    assert!(done.is_ok_and(|status| status.success()), "liken");
}

/// A terminal with the lowest number there is: the one closed last, mostly.
fn open_terminal() -> (OwnedFd, File, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
    let master = master.expect("a terminal");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let name = ptsname(&master, Vec::new()).expect("ptsname");
    let name = name.to_str().expect("a path").to_owned();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = open(&name[..], flags, Mode::empty()).expect("the other end");
    (master, File::from(slave), name)
}
