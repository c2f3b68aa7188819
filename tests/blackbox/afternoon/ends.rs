//! The end of an afternoon: everything is put away, and nobody is left.

use std::time::{Duration, Instant};

use crate::harness::{WAIT, procfs};

use super::census;
use super::world::Afternoon;

impl Afternoon {
    /// Ends everything, strangers too, in the ordinary ways; the servers go on.
    pub(super) fn clear(&mut self) {
        self.recent.clear();
        self.recent
            .push_back("everything is ended and deleted".to_owned());
        self.viewers.clear();
        for stranger in std::mem::take(&mut self.strangers) {
            stranger.send_away();
        }
        for tree in &mut self.trees {
            tree.put_away(&self.server);
        }
        for tree in &mut self.neighbours {
            tree.put_away(&self.neighbour);
        }
        self.namesake = None;
        self.look();
        self.trees.clear();
        self.neighbours.clear();
    }

    pub(super) fn nothing_is_left_but_servers(&mut self) {
        let mut known = vec![1, std::process::id() as i32];
        for server in [&self.server, &self.neighbour] {
            known.push(server.pid);
        }
        let end = Instant::now() + WAIT;
        let left = loop {
            let mut left = census::everybody();
            left.retain(|pid| !known.contains(pid));
            if left.is_empty() || Instant::now() > end {
                break left;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for pid in left {
            self.unaccounted(pid);
        }
    }

    fn unaccounted(&mut self, pid: i32) {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let (state, parent) = (procfs::state(pid), procfs::field(pid, 1));
        let what = format!("{pid}: {command:?}, {state:?}, parent {parent:?}");
        self.finding("somebody is there whom nobody knows", &what);
    }

    pub(super) fn nobody_is_left(&mut self) {
        let own = std::process::id() as i32;
        let end = Instant::now() + WAIT;
        loop {
            let mut left = census::everybody();
            left.retain(|pid| ![1, own].contains(pid));
            if left.is_empty() {
                return;
            }
            if Instant::now() > end {
                left.into_iter().for_each(|pid| self.unaccounted(pid));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
