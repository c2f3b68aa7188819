//! A walk over processes and their descendants that kills or signals them, or only meets them, in
//! steps.
//!
//! In: whom to begin with. Out: how many were alive. Thousands of processes may be below one, so
//! a walk goes on for as long as it is told and can be taken up again. It knows no job and no
//! deadline; whoever walks repeats it until nobody is found, since what forks meanwhile is missed.

use std::collections::HashSet;
use std::time::Instant;

use rustix::io::Errno;

use super::identity::Process;
use super::mark::now_ticks;
use super::procfs::{self, Stat};

/// Processes that [`count`] asks about.
const COUNTED_MAX: usize = 256;

/// What becomes of those that are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Act {
    /// SIGKILL, to their groups, too.
    #[default]
    Kill,
    /// Nothing.
    Meet,
    /// A signal to each that is in this process group, or to each.
    Signal { number: i32, group: Option<i32> },
}

/// What has become of a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// To so many.
    pub(crate) reached: usize,
    /// The last refusal (pidfd_send_signal(2)).
    pub(crate) refused: Option<i32>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    act: Act,
    sent: Sent,
    /// Found in a list at this tick.
    listed: Vec<(i32, u64)>,
    /// To be killed or signalled once all are found: with one its children and its whole group may
    /// be lost, or it may start others that the signal is not for.
    found: Vec<Process>,
    /// Those that were alive when they were found.
    met: HashSet<Process>,
    /// Process groups that were killed.
    groups: HashSet<i32>,
    /// Somebody may have been missed.
    unsure: bool,
    /// As [`procfs::starved`] was when it began.
    starved: Option<u32>,
}

impl Walk {
    /// A walk that does nothing to those it meets.
    pub(crate) fn meeting() -> Self {
        Self {
            act: Act::Meet,
            ..Self::default()
        }
    }

    /// A walk that sends a signal to everybody who is met in this process group, or to everybody.
    pub(crate) fn signalling(number: i32, group: Option<i32>) -> Self {
        Self {
            act: Act::Signal { number, group },
            ..Self::default()
        }
    }

    /// Begins at these, who are members.
    pub(crate) fn add(&mut self, members: impl IntoIterator<Item = Process>) {
        self.begin();
        for process in members {
            match procfs::stat(process.pid()) {
                Some(stat) if Process::new(process.pid(), &stat) == process => {
                    self.found(process, &stat);
                }
                _ => self.unsure = true,
            }
        }
    }

    /// Begins at these, who were members when they were listed a moment ago.
    pub(crate) fn add_listed(&mut self, pids: Vec<i32>) {
        self.begin();
        let now = now_ticks();
        self.listed.extend(pids.into_iter().map(|pid| (pid, now)));
    }

    fn begin(&mut self) {
        self.starved.get_or_insert_with(procfs::starved);
    }

    fn found(&mut self, process: Process, stat: &Stat) {
        if !stat.is_alive() {
            // It may have died just now, and left children behind.
            self.unsure = true;
        } else if self.met.insert(process) {
            self.found.push(process);
            let children = procfs::children_of(process.pid());
            // If it still is the same, then they are its children and not a later one's.
            if children.is_empty() || process.is_current() {
                self.add_listed(children);
            } else {
                self.unsure = true;
            }
        }
    }

    /// Goes on until `until`; whether it is over.
    pub(crate) fn step(&mut self, until: Option<Instant>) -> bool {
        loop {
            if let Some((pid, at)) = self.listed.pop() {
                match Process::listed(pid, at) {
                    Some((process, stat)) => self.found(process, &stat),
                    None => self.unsure = true,
                }
            } else if let Some(process) = self.found.pop() {
                match self.act {
                    Act::Kill => self.kill(process),
                    Act::Meet => {}
                    Act::Signal { number, group } => self.signal(process, number, group),
                }
            } else {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return self.listed.is_empty() && self.found.is_empty();
            }
        }
    }

    fn kill(&mut self, process: Process) {
        if let Some((handle, stat)) = process.open()
            && handle.is_alive()
        {
            if self.groups.insert(stat.group) {
                handle.kill_group(&stat);
            }
            handle.kill();
        }
    }

    fn signal(&mut self, process: Process, number: i32, group: Option<i32>) {
        let Some((handle, stat)) = process.open() else {
            return;
        };
        if group.is_some_and(|group| group != stat.group) {
            return;
        }
        match handle.send(number) {
            Ok(()) => self.sent.reached += 1,
            Err(Errno::SRCH) => {}
            Err(errno) => self.sent.refused = Some(errno.raw_os_error()),
        }
    }

    /// What has become of its signal.
    pub(crate) fn sent(&self) -> Sent {
        self.sent
    }

    /// Those that were alive when they were found.
    pub(crate) fn met(&self) -> &HashSet<Process> {
        &self.met
    }

    /// Whether nobody was met, and nobody can have been missed.
    pub(crate) fn met_nobody(&self) -> bool {
        let starved = self.starved.is_some_and(|then| then != procfs::starved());
        self.met.is_empty() && !self.unsure && !starved
    }
}

/// How many of these processes and their descendants are alive. Of more than a few hundred the
/// descendants are not counted.
pub(crate) fn count(members: Vec<Process>) -> usize {
    let at_least = members.len();
    match at_least > COUNTED_MAX {
        true => at_least,
        false => living(members).len(),
    }
}

/// These processes and their descendants as far as they are alive, but no more than a few hundred.
pub(crate) fn living(members: Vec<Process>) -> HashSet<Process> {
    let mut walk = Walk::default();
    walk.add(members);
    while walk.met.len() < COUNTED_MAX
        && let Some((pid, at)) = walk.listed.pop()
    {
        if let Some((process, stat)) = Process::listed(pid, at) {
            walk.found(process, &stat);
        }
    }
    walk.met
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn descendants_are_met_and_killed_whatever_group_they_are_in() {
        let script = "setsid sh -c 'sleep 61 & sleep 62' & sleep 63 & wait";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let below = |pid| procfs::children_of(pid).len();
        let setsid = loop {
            let children = procfs::children_of(pid);
            if let Some(&setsid) = children.iter().find(|&&child| below(child) == 2)
                && children.len() == 2
            {
                break Process::listed(setsid, now_ticks()).unwrap().0;
            }
            std::thread::yield_now();
        };
        let mut walk = Walk::default();
        walk.add_listed(vec![pid]);
        while !walk.step(Some(Instant::now())) {}
        assert_eq!(walk.met().len(), 5);
        child.wait().unwrap();
        while setsid.open().is_some_and(|(handle, _)| handle.is_alive()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_without_its_main_thread_is_alive_and_killed() {
        let script = format!(
            "import ctypes, threading, time\n\
             threading.Thread(target=time.sleep, args=(60,)).start()\n\
             ctypes.CDLL(None).syscall({}, 0)",
            libc::SYS_exit
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let stat = loop {
            let stat = procfs::stat(pid).unwrap();
            if stat.lost_main_thread() {
                break stat;
            }
            std::thread::yield_now();
        };
        assert!(stat.is_alive());
        let process = Process::new(pid, &stat);
        let mut walk = Walk::default();
        walk.add([process]);
        assert!(walk.step(None));
        assert_eq!(walk.met().len(), 1);
        assert!(!child.wait().unwrap().success());
        let mut walk = Walk::default();
        walk.add([process]);
        assert!(walk.step(None));
        assert!(walk.met().is_empty());
    }
}
