//! What trees use: processor time, memory, and how many processes they are.
//!
//! In: whose usage is asked for. Out: [`Event::Used`]. Kills nobody, and reaps nobody but what a
//! look at orphans meets.
//!
//! Where a tree has a cgroup, that knows what all of it has used, whoever was reaped by whom; what
//! earlier trees in the same group had used before was noted at the start (`cgroup::usage`).
//! Otherwise it is what /proc says of the leader while it runs, and what waitid(2) said of those that
//! the server has reaped.
//!
//! A list of thousands is asked for at once, and takes some 30 us for each, so it is counted in steps
//! ([`Supervisor::make_steps`]), one request after the other.

use std::collections::VecDeque;
use std::time::Instant;

use crate::supervisor::Supervisor;
use crate::supervisor::cgroup::Group;
use crate::supervisor::job::{Job, State};
use crate::supervisor::message::Event;
use crate::supervisor::tree::identity::{Leader, Process};
use crate::supervisor::tree::procfs;
use crate::supervisor::tree::walk;
use crate::types::{JobId, UsageScope, Used};

/// Of more processes than these the largest is not looked for.
const SIZED_MAX: usize = 64;

/// The kernel counts pages for each processor by itself and adds them up now and then, so that a
/// size may be wrong by so many bytes.
const SIZE_SLACK: u64 = 1 << 20;

/// A request.
#[derive(Debug)]
struct Asked {
    ticket: u64,
    /// Those that are left; the last one is next.
    jobs: Vec<JobId>,
    used: Vec<(JobId, Used)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    asked: VecDeque<Asked>,
}

impl Counting {
    /// Whether [`Supervisor::step_count`] would do something.
    pub(crate) fn is_counting(&self) -> bool {
        !self.asked.is_empty()
    }
}

impl Supervisor {
    /// Begins to count.
    pub(crate) fn count(&mut self, ticket: u64, jobs: Vec<JobId>) {
        let used = Vec::with_capacity(jobs.len());
        self.counting.asked.push_back(Asked { ticket, jobs, used });
    }

    /// Nobody waits for an answer any more.
    pub(crate) fn uncount(&mut self, ticket: u64) {
        self.counting.asked.retain(|asked| asked.ticket != ticket);
    }

    /// Goes on until `until`.
    pub(crate) fn step_count(&mut self, until: Instant) {
        while let Some(mut asked) = self.counting.asked.pop_front() {
            if asked.used.is_empty() && self.cgroups.is_none() {
                self.learn_orphans();
            }
            while let Some(id) = asked.jobs.pop() {
                asked.used.extend(self.used(id).map(|used| (id, used)));
                if Instant::now() >= until {
                    break;
                }
            }
            if asked.jobs.is_empty() {
                let Asked { ticket, used, .. } = asked;
                self.events.send(Event::Used { ticket, used });
            } else {
                self.counting.asked.push_front(asked);
            }
            if Instant::now() >= until {
                break;
            }
        }
    }

    fn used(&self, id: JobId) -> Option<Used> {
        let job = self.jobs.get(&id)?;
        let in_group = job.tree.group.as_ref().zip(job.tree.used_before);
        let of_group = in_group.and_then(|(group, before)| {
            let (processor, members) = (group.processor()?, group.members());
            Some((processor.since(before), members, &**group))
        });
        Some(match of_group {
            Some((processor, members, group)) => Used {
                scope: UsageScope::Tree,
                max_rss_bytes: self.memory_of(job, Some(group), &members),
                user_cpu_us: processor.user_us,
                system_cpu_us: processor.system_us,
                processes: u32::try_from(members.len()).unwrap_or(u32::MAX),
            },
            None => self.reaped(id, job),
        })
    }

    /// What is known without a group.
    fn reaped(&self, id: JobId, job: &Job) -> Used {
        let mut known = self.orphans.of(id);
        let leader = job.leader.as_ref();
        let stat = leader
            .and_then(|leader| procfs::stat(leader.pid()).filter(|_| leader.had_its_number()))
            .filter(|_| job.life.state() == State::Running);
        let (mut user_cpu_us, mut system_cpu_us) = (job.reaped.user_us, job.reaped.system_us);
        if let (Some(pid), Some(stat)) = (leader.map(Leader::pid), stat) {
            user_cpu_us += stat.user_us;
            system_cpu_us += stat.system_us;
            known.push(Process::new(pid, &stat));
        }
        let living = match known.len() > SIZED_MAX {
            // Each of them would be asked for its descendants.
            true => known,
            false => walk::living(known).into_iter().collect(),
        };
        let pids: Vec<i32> = living.iter().map(|process| process.pid()).collect();
        Used {
            scope: UsageScope::Reaped,
            max_rss_bytes: self.memory_of(job, None, &pids),
            user_cpu_us,
            system_cpu_us,
            processes: u32::try_from(pids.len()).unwrap_or(u32::MAX),
        }
    }

    /// The most memory of a tree that its group has counted, or else of the largest process as far
    /// as that can be told.
    fn memory_of(&self, job: &Job, group: Option<&Group>, pids: &[i32]) -> Option<u64> {
        if let Some(peak) = group.and_then(Group::memory_peak) {
            return Some(peak);
        }
        if pids.len() > SIZED_MAX {
            return None;
        }
        // A child begins with the size of the server, and shows it for ever.
        let own = procfs::peak_rss(std::process::id().cast_signed());
        let reaped = Some(job.reaped.max_rss_bytes)
            .filter(|bytes| own.is_some_and(|own| *bytes > own + SIZE_SLACK));
        let living = pids.iter().filter_map(|pid| procfs::peak_rss(*pid));
        living.chain(reaped).max()
    }
}
