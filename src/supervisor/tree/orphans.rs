//! Orphans that the kernel gave to the server, and the tree that each came from.
//!
//! In: looks at the server's children, in steps. Out: the members of a tree among them. What was
//! found out about an orphan is kept until it is reaped: it is a child of ours, so its number is
//! its own until then, and with thousands of them a look asks only about those who are new. One
//! look serves everybody who waits for it. Kills nobody; reaps the dead it meets.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::claims::{Claims, Verdict};
use super::identity::Process;
use super::procfs;
use crate::supervisor::reap::{self, Reaped};
use crate::types::{JobId, Monotonic};

/// Times that the list is read in one look, while it has somebody new in it. Who died meanwhile
/// may have left children.
const ROUNDS_MAX: u32 = 4;

/// Looks at an orphan that seems to be nobody's, the start of its tree may have been on its way.
const SIGHTS_MAX: u32 = 2;

/// Behind a look that lasted, there is no look that nobody waits for until so many times as long
/// has passed, but for at most [`REST_MAX`]: it reads the list of all children, and among thousands
/// that costs more than what it is done for.
const REST: u32 = 10;

/// See [`REST`].
const REST_MAX: Duration = Duration::from_millis(100);

/// What is known of an orphan.
#[derive(Debug)]
struct Known {
    process: Process,
    owner: Option<JobId>,
    /// What it carries where marks would be.
    carries: Option<u64>,
    /// In the list of those that the kernel gave to the first thread.
    adopted: bool,
    sights: u32,
    /// The last list that it was in.
    list: u64,
}

/// A look under way.
#[derive(Debug)]
struct Look {
    everywhere: bool,
    todo: Vec<i32>,
    rounds: u32,
    /// Somebody was found dead in this round.
    died: bool,
    /// As [`procfs::starved`] was when it began.
    starved: u32,
    census: Option<Census>,
    /// Spent on it so far.
    spent: Duration,
}

/// Who carries what below those that are nobody's.
#[derive(Debug, Default)]
struct Census {
    todo: Vec<i32>,
    carriers: HashSet<u64>,
    unsure: bool,
}

/// A look that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looked {
    /// Looks are counted as they begin.
    pub(crate) number: u64,
    /// Nobody was found dead in the end, so no orphan came behind its back, and all could be asked.
    pub(crate) settled: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    known: HashMap<i32, Known>,
    by_owner: HashMap<JobId, BTreeSet<i32>>,
    look: Option<Look>,
    begun: u64,
    lists: u64,
    wanted: Option<Everywhere>,
    /// The next look is to be at all children, whenever it begins.
    planned: bool,
    /// When it may begin if nobody waits for it.
    rested_at: Option<Monotonic>,
    /// Looks have reaped somebody.
    reaped: bool,
    /// What they had used, where their trees are known.
    used: Vec<(JobId, Reaped)>,
}

/// Whether a look is at all children: who was cloned with CLONE_PARENT by a leader is the child of
/// the spawner's thread from the beginning.
type Everywhere = bool;

impl Orphans {
    /// Asks for a look that begins after this; gives its number.
    pub(crate) fn want(&mut self, everywhere: Everywhere) -> u64 {
        self.wanted = Some(everywhere || self.wanted == Some(true));
        self.begun + 1
    }

    /// Asks for a look at all children that nobody waits for; gives its number, and when
    /// [`Orphans::begin_planned`] is to be called.
    pub(crate) fn plan(&mut self, now: Monotonic) -> (u64, Monotonic) {
        self.planned = true;
        (self.begun + 1, self.rested_at.map_or(now, |at| at.max(now)))
    }

    /// The planned look is due, unless another one has been begun meanwhile.
    pub(crate) fn begin_planned(&mut self) {
        if self.planned {
            self.want(true);
        }
    }

    /// Whether there is something to do.
    pub(crate) fn is_looking(&self) -> bool {
        self.look.is_some() || self.wanted.is_some()
    }

    /// Members of a tree, as far as looks have shown.
    pub(crate) fn of(&self, job: JobId) -> Vec<Process> {
        let pids = self.by_owner.get(&job).into_iter().flatten();
        pids.filter_map(|pid| Some(self.known.get(pid)?.process))
            .collect()
    }

    /// Those that are known.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.known.keys().copied().collect()
    }

    /// How many are known.
    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    /// How many members of a tree are known.
    pub(crate) fn count_of(&self, job: JobId) -> usize {
        self.by_owner.get(&job).map_or(0, BTreeSet::len)
    }

    /// Whose an orphan is, and whether it is known at all.
    pub(crate) fn owner(&self, pid: i32) -> Option<Option<JobId>> {
        self.known.get(&pid).map(|known| known.owner)
    }

    /// It has been reaped, or its number is a managed child's now; whose it was.
    pub(crate) fn reaped(&mut self, pid: i32) -> Option<JobId> {
        let known = self.known.remove(&pid)?;
        if let Some(look) = &mut self.look {
            // It may have left children that the list did not have.
            look.died = true;
        }
        let owner = known.owner?;
        let of_owner = self.by_owner.get_mut(&owner)?;
        of_owner.remove(&pid);
        if of_owner.is_empty() {
            self.by_owner.remove(&owner);
        }
        Some(owner)
    }

    /// Whether somebody was reaped in looks since this was asked last.
    pub(crate) fn take_reaped(&mut self) -> bool {
        std::mem::take(&mut self.reaped)
    }

    /// Finds out at once about orphans that are new, if they are no more than `max`; whether nobody
    /// is left to be found out about. Where the kernel does not list orphans nobody is found: a
    /// search among all processes takes long.
    pub(crate) fn learn(
        &mut self,
        claims: &Claims,
        managed: &dyn Fn(i32) -> bool,
        max: usize,
    ) -> bool {
        for _ in 0..ROUNDS_MAX {
            let mut new = procfs::adopted().unwrap_or_default();
            new.retain(|&pid| !self.known.contains_key(&pid) && !managed(pid));
            if new.len() > max {
                return false;
            }
            // Children of the dead came to the end of the list, perhaps after it was read.
            let met = new.into_iter().map(|pid| self.meet(pid, claims));
            if met.fold(true, |all, alive| all & alive) {
                return true;
            }
        }
        false
    }

    /// What members of trees had used whom looks have reaped since this was asked last.
    pub(crate) fn take_used(&mut self) -> Vec<(JobId, Reaped)> {
        std::mem::take(&mut self.used)
    }

    /// It is dead, or was no orphan.
    pub(crate) fn disown(&mut self, pid: i32) {
        if let Some(known) = self.known.get_mut(&pid)
            && let Some(owner) = known.owner.take()
        {
            known.sights = SIGHTS_MAX;
            if let Some(of_owner) = self.by_owner.get_mut(&owner) {
                of_owner.remove(&pid);
            }
        }
    }

    /// Nobody asks about this tree any more; who is left of it carries `mark`, or a descendant.
    pub(crate) fn forget(&mut self, job: JobId, mark: Option<u64>) {
        for pid in self.by_owner.remove(&job).into_iter().flatten() {
            if let Some(known) = self.known.get_mut(&pid) {
                known.owner = None;
                known.carries = mark;
                known.sights = SIGHTS_MAX;
            }
        }
    }

    /// Goes on with a look until `until`, or begins the one that is wanted.
    pub(crate) fn step(
        &mut self,
        claims: &mut Claims,
        managed: &dyn Fn(i32) -> bool,
        (now, until): (Monotonic, Instant),
    ) -> Option<Looked> {
        let began = Instant::now();
        let mut look = match self.look.take() {
            Some(look) => look,
            None => {
                let everywhere = self.wanted.take()? | std::mem::take(&mut self.planned);
                self.begun += 1;
                Look {
                    everywhere: claims.marks().begin_census() || everywhere,
                    todo: Vec::new(),
                    rounds: 0,
                    died: true,
                    starved: procfs::starved(),
                    census: None,
                    spent: Duration::ZERO,
                }
            }
        };
        while look.census.is_none() {
            if let Some(pid) = look.todo.pop() {
                if !managed(pid) {
                    look.died |= !self.meet(pid, claims);
                }
            } else if look.rounds < ROUNDS_MAX && (look.rounds == 0 || look.died) {
                look.died = false;
                look.rounds += 1;
                look.todo = self.list(look.everywhere, managed);
            } else {
                look.census = Some(self.census(&look, claims));
            }
            if Instant::now() >= until {
                break;
            }
        }
        while let Some(census) = &mut look.census {
            match census.todo.pop() {
                Some(pid) => census.meet(pid, claims),
                None => {
                    let settled = !look.died && procfs::starved() == look.starved;
                    if claims.marks().is_counting() {
                        let sure = !census.unsure && settled;
                        claims.marks().release(sure.then_some(&census.carriers));
                    }
                    let took = began.elapsed();
                    let spent = look.spent + took;
                    self.rested_at = Some(now + took + (spent * REST).min(REST_MAX));
                    return Some(Looked {
                        number: self.begun,
                        settled,
                    });
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        look.spent += began.elapsed();
        self.look = Some(look);
        None
    }

    /// Reads who there is; those that must be asked.
    fn list(&mut self, everywhere: Everywhere, managed: &dyn Fn(i32) -> bool) -> Vec<i32> {
        let own = procfs::reaper();
        let adopted = procfs::adopted();
        let all = everywhere || adopted.is_none();
        let others = match &adopted {
            Some(_) if !all => Vec::new(),
            Some(_) => procfs::children_of_threads(own, |thread| thread != own),
            None => procfs::children_of_reaper(),
        };
        self.lists += 1;
        let (list, mut found) = (self.lists, 0);
        let mut todo = Vec::new();
        let adopted = adopted.into_iter().flatten().map(|pid| (pid, true));
        for (pid, adopted) in adopted.chain(others.into_iter().map(|pid| (pid, false))) {
            if managed(pid) {
                continue;
            }
            match self.known.get_mut(&pid) {
                Some(known) => {
                    found += 1;
                    known.list = list;
                    known.adopted |= adopted;
                    // The child of a spawner may have been reaped by it, and another have its
                    // number.
                    let sure =
                        known.adopted && (known.owner.is_some() || known.sights >= SIGHTS_MAX);
                    if !sure {
                        todo.push(pid);
                    }
                }
                None => todo.push(pid),
            }
        }
        if found < self.known.len() {
            // Reaped by its spawner, say.
            let gone = self
                .known
                .iter()
                .filter(|(_, known)| known.list != list && (all || known.adopted));
            let gone: Vec<i32> = gone.map(|(pid, _)| *pid).collect();
            for pid in gone {
                self.reaped(pid);
            }
        }
        todo
    }

    /// Finds out about one; whether it was alive.
    fn meet(&mut self, pid: i32, claims: &Claims) -> bool {
        let stat = procfs::stat(pid);
        if stat.is_none_or(|stat| !stat.is_alive())
            && let Some(used) = reap::reap_orphan(pid)
        {
            let owner = self.reaped(pid);
            self.used.extend(owner.map(|owner| (owner, used)));
            self.reaped = true;
            return false;
        }
        // Where /proc is mounted with hidepid, a living process may have no `stat`. A dead one that
        // cannot be reaped has a tracer, and no children any more.
        let Some(stat) = stat else { return true };
        let starved = procfs::starved();
        let (owner, carries) = match claims.judge(pid, &stat) {
            Verdict::Of(job) => (Some(job), None),
            Verdict::IfPinned(job) => (self.has_pin(job, stat.session).then_some(job), None),
            Verdict::Nobodys { carries } => (None, carries),
        };
        let process = Process::new(pid, &stat);
        let before = self
            .known
            .get(&pid)
            .filter(|known| known.process == process);
        let (adopted, sights) = before.map_or((false, 0), |known| (known.adopted, known.sights));
        let list = self.lists;
        self.reaped(pid);
        if let Some(job) = owner {
            self.by_owner.entry(job).or_default().insert(pid);
        }
        let known = Known {
            process,
            owner,
            carries,
            adopted,
            sights: sights + u32::from(procfs::starved() == starved),
            list,
        };
        self.known.insert(pid, known);
        true
    }

    /// Whether somebody who is known to be of the tree is in this session, so that its number has
    /// been in use all the time.
    fn has_pin(&self, job: JobId, session: i32) -> bool {
        self.of(job).into_iter().any(|member| {
            procfs::stat(member.pid()).is_some_and(|stat| {
                Process::new(member.pid(), &stat) == member
                    && stat.session == session
                    && stat.session != member.pid()
            })
        })
    }

    /// What those that are nobody's carry; whose mark is not known may have it further below.
    fn census(&self, look: &Look, claims: &mut Claims) -> Census {
        let mut census = Census::default();
        if !look.everywhere || !claims.marks().is_counting() {
            return census;
        }
        for (&pid, known) in self.known.iter().filter(|(_, known)| known.owner.is_none()) {
            match known.carries {
                Some(value) if claims.marks().is_retired(value) => {
                    census.carriers.insert(value);
                }
                _ => census.todo.extend(procfs::children_of(pid)),
            }
        }
        census
    }
}

impl Census {
    fn meet(&mut self, pid: i32, claims: &Claims) {
        // Who has died may have left children that are in no list that was read.
        let stat = procfs::stat(pid).filter(procfs::Stat::is_alive);
        let carried = stat.and_then(|_| claims.carried(pid));
        self.unsure |= carried.is_none();
        self.carriers.extend(carried);
        self.todo.extend(procfs::children_of(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(orphans: &mut Orphans) -> Looked {
        let mut claims = Claims::default();
        let far = Instant::now() + Duration::from_secs(60);
        // The children of other tests are none of this one's.
        orphans
            .step(&mut claims, &|_| true, (Monotonic::now(), far))
            .unwrap()
    }

    #[test]
    fn a_look_that_nobody_waits_for_lets_the_supervisor_rest() {
        let mut orphans = Orphans::default();
        let now = Monotonic::now();
        let (first, at) = orphans.plan(now);
        assert_eq!(at, now);
        assert!(!orphans.is_looking());

        orphans.begin_planned();
        assert_eq!(looked(&mut orphans).number, first);
        let now = Monotonic::now();
        let (second, at) = orphans.plan(now);
        assert!(at > now && at <= now + REST_MAX);

        // Somebody waits for a look, and all have it.
        assert_eq!(orphans.want(false), second);
        assert_eq!(looked(&mut orphans).number, second);
        orphans.begin_planned();
        assert!(!orphans.is_looking());
    }
}
