//! A supervisor whose children belong to a keeper, and may have been another server's.
//!
//! In: what is written down of them, and the keeper's bell. Out: the same jobs with the same trees,
//! as if this supervisor had begun them; exits, once the keeper has written how. Runs that somebody
//! waited for and that are no records end: whoever waited is gone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::ledger::{RecordId, Records, heritage};
use crate::supervisor::job::{self, Job, Life, State};
use crate::supervisor::keeper::Kept;
use crate::supervisor::message::Event;
use crate::supervisor::reap::Reaped;
use crate::supervisor::tree::Tree;
use crate::supervisor::tree::identity::Leader;
use crate::supervisor::tree::procfs;
use crate::supervisor::{Due, Supervisor, watch};
use crate::types::{Exit, ExitStatus, JobId, Monotonic};

/// How a leader that has ended did so: reaped by this process, or by the keeper, which has written it
/// down.
///
/// # Errors
/// The leader, if it runs or that is not written down yet.
pub(super) fn reap(
    kept: Option<&Kept>,
    record: Option<RecordId>,
    leader: Leader,
) -> Result<(ExitStatus, Reaped), Leader> {
    let Some(kept) = kept else {
        return leader.reap();
    };
    let written = |record| Some((kept.records.status(record)?, used(&kept.records, record)));
    match record.and_then(written) {
        Some(end) => Ok(end),
        // Nobody will write it down.
        None if kept.is_lost() && leader.has_ended() => {
            Ok((ExitStatus::Signal(libc::SIGKILL), Reaped::default()))
        }
        None => Err(leader),
    }
}

fn used(records: &Records, record: RecordId) -> Reaped {
    let [user_us, system_us, max_rss_bytes] = records.used(record);
    Reaped {
        user_us,
        system_us,
        max_rss_bytes,
    }
}

/// The records of a server that is gone, which this one's supervisor goes on with. To be asked before
/// there are others, and before anybody is served: each with whether it is a run that somebody waits for
/// on a connection that was handed over.
pub(super) fn inherited(kept: Option<&Kept>) -> Vec<(RecordId, bool)> {
    let gone = kept.filter(|kept| kept.goes_on);
    let all = gone
        .iter()
        .flat_map(|kept| kept.records.iter().map(|of| (of, &kept.records)));
    all.filter(|(record, records)| !records.is_supervisor_done(*record))
        .map(|(record, records)| (record, records.is_handed_over(record)))
        .collect()
}

impl Supervisor {
    /// What another supervisor has to know of a tree, before it is begun.
    pub(super) fn write_down(
        &self,
        record: Option<RecordId>,
        tree: &Tree,
        deadline: Option<Monotonic>,
    ) {
        let (Some(kept), Some(record)) = (&self.options.kept, record) else {
            return;
        };
        let group = tree
            .group
            .as_ref()
            .and_then(|group| group.name().parse().ok());
        let mark = tree.mark.value().map(|(_, value)| value);
        let since = tree.mark.since_ticks;
        kept.records
            .set_tree(record, mark, since, group.unwrap_or(0));
        if let Some(at) = deadline {
            kept.records.set_lifetime(record, at);
        }
    }

    /// A tree may live until then.
    pub(super) fn write_down_lifetime(&self, id: JobId, at: Monotonic) {
        let record = self.jobs.get(&id).and_then(|job| job.record);
        if let (Some(kept), Some(record)) = (&self.options.kept, record) {
            kept.records.set_lifetime(record, at);
        }
    }

    /// Children have died, and how is written down.
    pub(super) fn on_bell(&mut self) {
        if let Some(kept) = &self.options.kept {
            let _ = rustix::io::read(&kept.bell, &mut [0; 8]);
        }
        let mut ended = std::mem::take(&mut self.unwritten);
        if self.unwatched {
            ended.extend(self.by_pid.values());
        }
        ended.into_iter().for_each(|id| self.on_exit(id));
        self.look_for_orphans();
    }

    /// The keeper was killed, so that nobody is among its children any more: all trees are ended
    /// one by one.
    pub(super) fn end_without_keeper(&mut self) {
        if self.options.kept.as_ref().is_some_and(Kept::is_lost) {
            let all: Vec<JobId> = self.jobs.keys().copied().collect();
            for id in all {
                self.on_exit(id);
                self.on_event(id, job::Event::Kill);
            }
        }
    }

    /// What is due to happen to jobs, for another program.
    pub(super) fn dues(&self) -> Vec<heritage::Due> {
        let now = self.clock.now();
        let due = |(when, what): (Monotonic, Due)| {
            let (job, signal) = match what {
                Due::Grace(job) => (job, None),
                Due::Escalation(job, signal) => (job, Some(signal)),
                _ => return None,
            };
            let after = when.since(now).as_millis();
            Some(heritage::Due {
                job: job.0,
                signal,
                after_ms: u64::try_from(after).unwrap_or(u64::MAX),
            })
        };
        self.deadlines.iter().filter_map(due).collect()
    }

    /// The same, of another program.
    fn go_on_with_dues(&mut self, dues: &[heritage::Due]) {
        for due in dues {
            let job = JobId(due.job);
            let runs = |job: &Job| !job.life.has_exited();
            if self.jobs.get(&job).is_some_and(|job| runs(job)) {
                let what = match due.signal {
                    None => Due::Grace(job),
                    Some(signal) => Due::Escalation(job, signal),
                };
                let after = Duration::from_millis(due.after_ms).min(FOREVER);
                self.deadlines.set(self.clock.now() + after, what);
            }
        }
    }

    /// Goes on with the jobs of a server that is gone.
    pub(super) fn go_on(&mut self) {
        let Some(kept) = self.options.kept.clone().filter(|kept| kept.goes_on) else {
            return;
        };
        // Whoever is not among them and has no end that is written down is not who it seems.
        let children: HashSet<i32> = procfs::children_of_reaper().into_iter().collect();
        for (record, is_handed) in std::mem::take(&mut self.inherited) {
            self.take_over(&kept.records, record, is_handed, &children);
        }
        let dues = std::mem::take(&mut self.options.dues);
        self.go_on_with_dues(&dues);
        if let Some(cgroups) = &mut self.cgroups {
            cgroups.abandon_others();
        }
        self.orphans.want(true);
        if kept.records.ending_since().is_some() {
            self.begin_shutdown();
        }
    }

    fn take_over(
        &mut self,
        records: &Arc<Records>,
        record: RecordId,
        is_handed: bool,
        children: &HashSet<i32>,
    ) {
        let id = records.job(record);
        // A start that had not come to a process has not happened.
        let Some(pid) = records.pid(record) else {
            return records.supervisor_is_done(record);
        };
        let (carries, since_ticks, group) = records.tree(record);
        let groups = self.cgroups.as_mut().filter(|_| group != 0);
        let group = groups.and_then(|groups| groups.take_over(group));
        // Its number is its own, unless its end is written down by now.
        let is_its_own = children.contains(&pid) || records.status(record).is_some();
        let tree = Tree {
            session: if is_its_own { pid } else { 0 },
            mark: self.claims.go_on(id, carries, since_ticks),
            files: Vec::new(),
            group: group.as_ref().map(|(group, _)| group.clone()),
            // What the group had counted by then is not written down.
            used_before: None,
        };
        let mut job = Job::new(tree);
        job.record = Some(record);
        let is_wanted = records.id(record).is_some() || is_handed;
        let is_forgotten = !is_wanted || records.is_io_done(record);
        if is_its_own {
            self.claims.led(id, pid);
        }
        let pidfd = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match (records.status(record), pidfd) {
            (None, Some(Ok(pidfd))) if is_its_own => {
                let pidfd = Arc::new(pidfd);
                self.unwatched |= !watch(&self.epoll, &pidfd, pid);
                job.life = Life::resumed(State::Running);
                job.leader = Some(Leader::kept(pid, pidfd));
                self.by_pid.insert(pid, id);
                self.jobs.insert(id, Box::new(job));
                // One that has died just now was rung for before anybody listened.
                self.unwritten.insert(id);
            }
            _ => {
                let status = records.status(record);
                if !is_its_own {
                    self.events.send(Event::Damaged { job: id });
                }
                let status = status.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
                job.reaped.add(used(records, record));
                self.claims.left(id, pid);
                job.life = Life::resumed(State::Exited(status));
                self.jobs.insert(id, Box::new(job));
                let left = self.left_at_exit(id);
                let exit = Exit::from(status);
                self.events.send(match records.end(record) {
                    None => Event::Exited {
                        seen: self.clock.now(),
                        job: id,
                        exit,
                        left,
                    },
                    Some(_) => Event::Left { job: id, left },
                });
            }
        }
        if let Some((group, true)) = group {
            self.watch_memory_on(id, &group);
        }
        if let Some(until) = records.lifetime(record) {
            let what = match is_handed {
                true => Due::Timeout(id),
                false => Due::Lifetime(id),
            };
            self.deadlines.set(until, what);
        }
        if !is_its_own || records.id(record).is_none() && !is_handed {
            self.on_event(id, job::Event::Kill);
        }
        if is_forgotten {
            self.forget(id);
        }
    }
}

/// As good as for ever, and no sum is too large with it.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::process::{Child, Command};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::supervisor::Options;
    use crate::supervisor::signals::Hangup;
    use crate::supervisor::spawn::Spawned;
    use crate::supervisor::spawn::inherit::Inheritance;

    fn sleeper() -> (Child, Arc<std::os::fd::OwnedFd>) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        (
            child,
            Arc::new(pidfd_open(pid, PidfdFlags::empty()).unwrap()),
        )
    }

    #[test]
    fn a_child_that_has_the_number_of_one_that_ended_hides_no_end() {
        let records = Arc::new(Records::new().unwrap());
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let options = Options {
            shutdown_grace: Duration::ZERO,
            hangup: Hangup::Reload,
            inheritance: Inheritance::for_tests(),
            state: None,
            kept: Some(Kept {
                records: records.clone(),
                bell: Arc::new(bell),
                pid: rustix::process::getppid().unwrap().as_raw_nonzero().get(),
                goes_on: false,
                takes_over: false,
            }),
            dues: Vec::new(),
        };
        let (mut supervisor, _commands, events) = Supervisor::new(options).unwrap();
        let ((mut dead, of_dead), (mut living, of_living)) = (sleeper(), sleeper());
        let pid = living.id().cast_signed();
        let next = Cell::new(0);
        let [old, new] = [JobId(1), JobId(2)];
        for (id, pidfd) in [(old, of_dead), (new, of_living)] {
            let record = records.begin(id, 0, &next);
            let mut job = Job::new(Tree {
                session: 0,
                mark: supervisor.claims.begin(id, &[]),
                files: Vec::new(),
                group: None,
                used_before: None,
            });
            job.record = record;
            supervisor.jobs.insert(id, Box::new(job));
            let spawned = Spawned {
                pid,
                pidfd,
                in_group: false,
            };
            supervisor.on_spawn_done(id, None, Ok(spawned));
            if id == old {
                // The keeper reaps it, and nobody has looked when its number comes again.
                dead.kill().unwrap();
                dead.wait().unwrap();
                records.set_status(record.unwrap(), ExitStatus::Code(7));
            }
        }
        let ended: Vec<(JobId, ExitStatus)> = events
            .take()
            .filter_map(|event| match event {
                Event::Exited { job, exit, .. } => Some((job, exit.status)),
                _ => None,
            })
            .collect();
        assert_eq!(ended, [(old, ExitStatus::Code(7))]);
        assert_eq!(supervisor.by_pid.get(&pid), Some(&new));
        living.kill().unwrap();
        living.wait().unwrap();
    }
}
