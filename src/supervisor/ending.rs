//! The end of one tree: passes over it until nobody of it is left.
//!
//! In: a request to kill, a deadline, the death of a leader. Out: [`Event::TimedOut`] where a run
//! waits for it. A pass begins with what is enough for most trees, a write to `cgroup.kill` and a
//! killpg(2) for the leader's group. The rest, a walk over descendants and a look at orphans, may
//! be over thousands, so it is done in steps ([`Supervisor::make_steps`]) with the supervisor's
//! other work between them. All trees that wait for a look share it.
//!
//! [`Event::TimedOut`]: super::message::Event::TimedOut

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::supervisor::job::{Event, Job, Pass};
use crate::supervisor::tree::claims::Verdict;
use crate::supervisor::tree::identity::{Leader, Process};
use crate::supervisor::tree::mark::now_ticks;
use crate::supervisor::tree::orphans::Looked;
use crate::supervisor::tree::procfs;
use crate::supervisor::tree::walk::Walk;
use crate::supervisor::{Due, PASS_PAUSE_MAX, Supervisor};
use crate::types::JobId;

/// Steps are made for so long before the supervisor sees to everything else.
const STEPS: Duration = Duration::from_millis(1);

/// So long over one tree before it is the next one's turn.
const STEP: Duration = Duration::from_micros(250);

/// Passes in which a leader that lives is waited for before the orphans are looked at.
const PASSES_BY_LEADER: u32 = 2;

/// Passes before the tracers of who is still alive are looked for: a tracer can hold on to a process
/// that was killed (ptrace(2), PTRACE_EVENT_EXIT).
const PASSES_BY_TRACED: u32 = 6;

/// So many of them in one pass, and so many threads of each.
const TRACED_MAX: usize = 16;

/// Passes over a group that `cgroup.kill` should have emptied before its members are killed one
/// by one.
const PASSES_BY_GROUP: u32 = 2;

impl Supervisor {
    /// Begins a pass over every tree that is due.
    pub(crate) fn run_passes(&mut self) {
        let mut due = std::mem::take(&mut self.passing);
        due.sort_unstable();
        due.dedup();
        for id in due {
            self.begin_pass(id);
        }
    }

    fn begin_pass(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let now = self.clock.now();
        let is_starting = job.life.is_starting();
        let Some(ending) = job.life.ending_mut() else {
            return;
        };
        // A pass that a death brought forward has made others superfluous; one that is under way
        // is followed by another if there is need.
        if now < ending.next || !matches!(ending.pass, Pass::Over) {
            return;
        }
        if is_starting {
            // A start that hangs, on a dead mount for instance; what hangs can often be killed.
            self.pool.kill_in_flight(id);
            ending.next = now + PASS_PAUSE_MAX;
            self.deadlines.set(ending.next, Due::Pass(id));
            return self.on_event(id, Event::Awaited);
        }
        ending.next = now + ending.pause;
        ending.pause = (ending.pause * 2).min(PASS_PAUSE_MAX);
        ending.passes += 1;
        let mut walk = Walk::default();
        let ended = job.leader.as_ref().is_none_or(Leader::has_ended);
        if let Some(leader) = job.leader.as_ref().filter(|_| !ended) {
            // Before it is killed: they lose it then.
            walk.add_listed(leader.children());
        }
        // A group that was killed cannot be used again, so an empty one is left alone.
        if let Some(group) = &job.tree.group
            && (!ended || group.is_populated())
        {
            group.kill();
            if ending.passes > PASSES_BY_GROUP {
                walk.add_listed(group.members());
            }
        }
        if let Some(leader) = &job.leader {
            leader.signal_group(Signal::KILL);
        }
        ending.pass = Pass::Walking { walk, whole: ended };
        self.stepping.push_back(id);
        let stuck = ending.passes > PASSES_BY_TRACED;
        let leader = job.leader.as_ref().map(Leader::pid);
        if let Some(leader) = leader.filter(|_| ended || stuck) {
            self.kill_tracers(id, leader);
        }
    }

    /// Whether [`Supervisor::make_steps`] would do something.
    pub(crate) fn has_steps_to_make(&self) -> bool {
        !self.stepping.is_empty()
            || self.signalling.is_walking()
            || self.ports.is_looking()
            || self.counting.is_counting()
            || self.orphans.is_looking()
    }

    /// Goes on with passes and looks, for a moment.
    pub(crate) fn make_steps(&mut self) {
        let until = Instant::now() + STEPS;
        while self.has_steps_to_make() {
            if let Some(id) = self.stepping.pop_front() {
                self.step_over(id, until.min(Instant::now() + STEP));
            }
            self.step_signals(until.min(Instant::now() + STEP));
            self.step_ports(until.min(Instant::now() + STEP));
            self.step_count(until.min(Instant::now() + STEP));
            let (by_pid, pool) = (&self.by_pid, &self.pool);
            let managed = |pid| by_pid.contains_key(&pid) || pool.is_in_flight(pid);
            let looked = self
                .orphans
                .step(&mut self.claims, &managed, (self.clock.now(), until));
            self.note_reaped();
            if let Some(looked) = looked {
                if let Some(state) = &mut self.options.state {
                    state.settle(|mark| self.claims.is_retired(mark));
                }
                self.leftovers.look_is_over();
                self.count_found(looked.number);
                self.on_looked(looked);
                self.signal_those_found(looked.number);
            }
            if Instant::now() >= until {
                break;
            }
        }
    }

    fn step_over(&mut self, id: JobId, until: Instant) {
        let Some(ending) = self.jobs.get_mut(&id).and_then(|job| job.life.ending_mut()) else {
            return;
        };
        let (walk, whole) = match &mut ending.pass {
            Pass::Walking { walk, whole } => (walk, *whole),
            // Whoever was left after a look was met.
            Pass::Gathering { walk } => (walk, false),
            Pass::Over | Pass::Looking { .. } => return,
        };
        if !walk.step(Some(until)) {
            return self.stepping.push_back(id);
        }
        let whole = whole && walk.met_nobody();
        if ending.passes > PASSES_BY_TRACED {
            let stuck = walk.met().iter().take(TRACED_MAX);
            let stuck: Vec<i32> = stuck.map(|process| process.pid()).collect();
            stuck.into_iter().for_each(|pid| self.kill_tracers(id, pid));
        }
        let Some(ending) = self.jobs.get_mut(&id).and_then(|job| job.life.ending_mut()) else {
            return;
        };
        match std::mem::replace(&mut ending.pass, Pass::Over) {
            Pass::Walking { .. } => self.after_walk(id, whole),
            _ => self.end_pass(id),
        }
    }

    /// Nobody is left of those that the leader or the group led to, if the pass is `whole`.
    fn after_walk(&mut self, id: JobId, whole: bool) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        match &job.tree.group {
            // Most leaders are dead in a moment, and then it is told.
            None if job
                .leader
                .as_ref()
                .is_some_and(|leader| !leader.has_ended())
                && job
                    .life
                    .ending()
                    .is_some_and(|ending| ending.passes <= PASSES_BY_LEADER) =>
            {
                self.end_pass(id);
            }
            None => self.look(id, whole),
            Some(group) if !whole || group.is_populated() => self.end_pass(id),
            Some(_) => {
                // Members that moved themselves elsewhere are few, and no run waits for them.
                self.answer_timeout(id);
                self.look(id, true);
            }
        }
    }

    fn look(&mut self, id: JobId, whole: bool) {
        // A run that is to be answered, or who has been told that somebody is left.
        let unanswered = |job: &Job| job.life.is_unanswered();
        let awaited = self.has_left(id) || self.jobs.get(&id).is_some_and(|job| unanswered(job));
        let number = if awaited {
            self.orphans.want(true)
        } else {
            self.plan_look()
        };
        if let Some(ending) = self.jobs.get_mut(&id).and_then(|job| job.life.ending_mut()) {
            ending.pass = Pass::Looking { number, whole };
            self.looking.push(id);
        }
    }

    /// Sees to it that there is a look at all children, if not at once; its number.
    pub(crate) fn plan_look(&mut self) -> u64 {
        let (number, at) = self.orphans.plan(self.clock.now());
        self.deadlines.set_if_earlier(at, Due::Look);
        number
    }

    /// A look is over that some have waited for.
    fn on_looked(&mut self, looked: Looked) {
        let waiting = std::mem::take(&mut self.looking);
        for id in waiting {
            let pass = self.jobs.get(&id).and_then(|job| job.life.ending());
            match pass.map(|ending| &ending.pass) {
                Some(Pass::Looking { number, .. }) if *number > looked.number => {
                    self.looking.push(id);
                }
                Some(Pass::Looking { .. }) => self.after_look(id, looked.settled),
                _ => {}
            }
        }
    }

    fn after_look(&mut self, id: JobId, settled: bool) {
        let members = self.orphans.of(id);
        let Some(ending) = self.jobs.get_mut(&id).and_then(|job| job.life.ending_mut()) else {
            return;
        };
        let Pass::Looking { whole, .. } = ending.pass else {
            return;
        };
        if !members.is_empty() {
            let mut walk = Walk::default();
            walk.add(members.iter().copied());
            ending.pass = Pass::Gathering { walk };
            self.stepping.push_back(id);
            return self.bury(members);
        }
        if whole && settled {
            self.end_passes(id);
        } else {
            self.end_pass(id);
        }
    }

    /// Reaps the dead among orphans. Who has a tracer has no children any more, and counts as gone.
    fn bury(&mut self, orphans: Vec<Process>) {
        for orphan in orphans {
            let pid = orphan.pid();
            if procfs::stat(pid).is_none_or(|stat| !stat.is_alive()) {
                self.reap(pid);
                self.orphans.disown(pid);
            }
        }
    }

    /// Somebody may be left: there is to be another pass.
    fn end_pass(&mut self, id: JobId) {
        if let Some(ending) = self.jobs.get_mut(&id).and_then(|job| job.life.ending_mut()) {
            ending.pass = Pass::Over;
            self.deadlines.set(ending.next, Due::Pass(id));
        }
    }

    fn end_passes(&mut self, id: JobId) {
        self.on_event(id, Event::TreeGone);
        self.deadlines.cancel(Due::Pass(id));
        self.tree_is_gone(id);
        self.answer_timeout(id);
        self.remove_if_forgotten(id);
    }

    /// Nobody of a tree is left to be waited for by a run that ran too long, but its leader's status
    /// may still be on its way, from the kernel or from the keeper: then it is told with that.
    fn answer_timeout(&mut self, id: JobId) {
        self.on_exit(id);
        if !self.unwritten.contains(&id) {
            self.on_event(id, Event::AnswerDue);
        }
    }

    /// Who has ended and cannot be reaped, or was killed and does not end, may have a tracer.
    fn kill_tracers(&self, id: JobId, traced: i32) {
        let threads = procfs::threads_of(traced).into_iter().take(TRACED_MAX);
        let tracers = threads.filter_map(|thread| procfs::status_number(thread, "TracerPid"));
        let mut tracers: Vec<i32> = tracers.filter(|tracer| *tracer > 0).collect();
        tracers.dedup();
        for tracer in tracers {
            self.kill_tracer(id, tracer);
        }
    }

    /// A tracer of one of this tree is of this tree, too, unless it is of another one or comes from
    /// elsewhere.
    fn kill_tracer(&self, id: JobId, tracer: i32) {
        let Some((tracer, _)) = Process::listed(tracer, now_ticks()) else {
            return;
        };
        let own = procfs::reaper();
        let (mut top, mut stat) = (tracer.pid(), procfs::stat(tracer.pid()));
        while let Some(above) = stat.filter(|stat| stat.parent != own) {
            top = above.parent;
            stat = procfs::stat(top);
        }
        let Some(stat) = stat else {
            // No descendant of ours.
            return;
        };
        let of_this_tree = match (self.by_pid.get(&top), self.orphans.owner(top)) {
            (Some(&of), _) | (None, Some(Some(of))) => of == id,
            (None, _) => match self.claims.judge(top, &stat) {
                Verdict::Of(of) | Verdict::IfPinned(of) => of == id,
                Verdict::Nobodys { .. } => true,
            },
        };
        if of_this_tree && let Some((handle, _)) = tracer.open() {
            handle.kill();
        }
    }
}
