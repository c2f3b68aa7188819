//! The two servers of an afternoon: how they start, begin again and end.

use std::path::PathBuf;

use crate::harness::{Backend, Launch, Server, WAIT};

use super::Random;
use super::census::TAG;
use super::kinds::After;
use super::namespace::Room;
use super::world::Afternoon;

/// Exited records that are kept.
pub(super) const EXITED_MAX: usize = 24;

/// The server that acts are about, or the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Neighbour,
}

fn state_dir(room: &Room) -> PathBuf {
    room.dir.join("state")
}

/// Both share a state directory; the neighbour has another name, or hides it behind a token.
pub(super) fn start(
    backend: Backend,
    room: &Room,
    user: Option<u32>,
    random: &mut Random,
    which: Which,
) -> Server {
    let cgroup = ["auto", "off"][random.below(2)];
    let state = state_dir(room);
    std::fs::create_dir_all(&state).expect("a directory");
    let mut launch = Launch::new(backend)
        .env_remove(TAG)
        .args(&["--no-token", "--cgroup", cgroup]);
    let state_text = state.display().to_string();
    launch = launch.args(&["--state-dir", &state_text, "--shutdown-grace", "0.3"]);
    launch = match which {
        Which::First => {
            let kept = EXITED_MAX.to_string();
            launch.program(&room.program).args(&["--max-exited", &kept])
        }
        Which::Neighbour => launch.program(&room.renamed),
    };
    if let Some(user) = user {
        std::os::unix::fs::chown(&state, Some(user), Some(user)).expect("chown");
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        launch = launch.through_exec(&["setpriv", &uid, &gid, "--clear-groups"]);
    }
    let server = launch.start();
    server.configure(&[("maxConcurrentProcesses", 1000)]);
    server
}

impl Afternoon {
    pub(super) fn end_servers(&mut self) {
        for server in [&mut self.server, &mut self.neighbour] {
            server.signal(libc::SIGTERM);
            let status = server.await_end(WAIT);
            assert_eq!(status.code(), Some(0), "{}", server.stderr());
        }
        let files = std::fs::read_dir(state_dir(&self.room))
            .into_iter()
            .flatten()
            .flatten();
        let files: Vec<_> = files
            .map(|file| file.path().display().to_string())
            .collect();
        // The lock may stay; a record of processes may not.
        let records: Vec<_> = files
            .iter()
            .filter(|file| file.ends_with(".jobs"))
            .collect();
        if !records.is_empty() {
            self.finding("an orderly end leaves a record", &format!("{files:?}"));
        }
        let terminals = std::fs::read_dir("/dev/pts")
            .into_iter()
            .flatten()
            .flatten();
        let terminals: Vec<_> = terminals
            .map(|entry| entry.file_name())
            .filter(|name| name != "ptmx")
            .collect();
        if !terminals.is_empty() {
            self.finding("a terminal is left", &format!("{terminals:?}"));
        }
    }

    /// Ends the server with `signal` and starts the next one; what was left is over.
    pub(super) fn restart(&mut self, signal: i32, between: impl FnOnce(&mut Self)) {
        self.viewers.clear();
        self.namesake = None;
        self.server.signal(signal);
        let status = self.server.await_end(WAIT);
        if signal == libc::SIGTERM {
            if status.code() != Some(0) {
                self.finding(
                    "a server ends in disorder",
                    &format!("{status:?} {}", self.server.stderr()),
                );
            }
            // Nobody waits for the next start.
            self.all_are_over();
            self.the_ended_go();
        }
        between(self);
        let next = start(
            self.backend,
            &self.room,
            self.user,
            &mut self.random,
            Which::First,
        );
        // Not dropped before the look: that ends whatever the old one left.
        let _old = std::mem::replace(&mut self.server, next);
        self.all_are_over();
        self.the_ended_go();
    }

    fn all_are_over(&mut self) {
        for tree in &mut self.trees {
            tree.id = None;
            tree.becomes(After::Nobody);
            tree.spoilt = false;
        }
    }
}
