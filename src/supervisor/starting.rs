//! Starts: from an order to a child that runs, or to why there is none.
//!
//! In: [`Command::Spawn`], reports of spawners. Out: an order for [`spawn::pool`], and what is known of a
//! child from then on. How a child is made is the spawners'.
//!
//! [`Command::Spawn`]: super::message::Command::Spawn
//! [`spawn::pool`]: super::spawn::pool

use crate::ledger::RecordId;
use crate::supervisor::cgroup::Bounds;
use crate::supervisor::job::{Event, Job};
use crate::supervisor::spawn::Spawned;
use crate::supervisor::spawn::pool::Order;
use crate::supervisor::spawn::spec::SpawnSpec;
use crate::supervisor::tree::Tree;
use crate::supervisor::tree::identity::Leader;
use crate::supervisor::{Due, Supervisor, message};
use crate::types::{JobId, Monotonic, SpawnError, SpawnStage};

impl Supervisor {
    /// Has a spawner start a child.
    pub(super) fn start(
        &mut self,
        job: JobId,
        spec: Box<SpawnSpec>,
        deadline: Option<Monotonic>,
        (announce, counted): (bool, bool),
        record: Option<RecordId>,
    ) {
        if self.options.kept.is_some() && record.is_none() {
            // What is not written down would be lost, so it is not begun.
            let error = SpawnError {
                stage: SpawnStage::Clone,
                errno: libc::EAGAIN,
            };
            return self.events.send(message::Event::SpawnFailed { job, error });
        }
        let now = self.clock.now();
        let bounds = spec.limits().map(Bounds::from).unwrap_or_default();
        let group = match self.group_for(&bounds, counted) {
            Ok(group) => group,
            Err(error) => return self.events.send(message::Event::SpawnFailed { job, error }),
        };
        if let Some(group) = group.as_ref().filter(|group| group.bounds_memory()) {
            self.watch_memory(job, group);
        }
        // In a group nobody needs to be found by its descriptors.
        let files = group.as_ref().map_or_else(|| spec.files(), |_| Vec::new());
        let mark = self.claims.begin(job, &files);
        let tree = Tree {
            session: 0,
            mark,
            files,
            used_before: group
                .as_ref()
                .filter(|_| counted)
                .and_then(|of| of.used_before()),
            group: group.clone(),
        };
        if self.claims.marks().wants_census() {
            self.orphans.want(true);
        }
        self.write_down(record, &tree, deadline);
        let mut known = Job::new(tree);
        known.record = record;
        self.jobs.insert(job, Box::new(known));
        if let Some(at) = deadline {
            self.deadlines.set(at, Due::Timeout(job));
        }
        let order = Order {
            job,
            spec,
            mark,
            group,
            announce,
            record,
        };
        if let Some(state) = &mut self.options.state {
            state.starts(job, mark);
        }
        self.pool.submit(order, now);
        self.watch_spawners(now);
        if self.shutdown.is_some() {
            self.on_event(job, Event::Kill);
        }
    }

    /// A spawner is done with a child.
    pub(super) fn on_spawn_done(
        &mut self,
        id: JobId,
        thread: Option<usize>,
        result: Result<Spawned, SpawnError>,
    ) {
        let now = self.clock.now();
        self.pool.finished(id, thread, now);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match result {
            Ok(Spawned {
                pid,
                pidfd,
                in_group,
            }) => {
                let unused = job.tree.group.take_if(|_| !in_group);
                job.tree.session = pid;
                self.claims.led(id, pid);
                if let Some(state) = &mut self.options.state {
                    state.begun(id, pid, job.tree.mark);
                }
                let namesake = self.by_pid.insert(pid, id);
                job.leader = Some(match self.options.kept {
                    None => Leader::new(pid, pidfd),
                    Some(_) => Leader::kept(pid, pidfd),
                });
                let effects = job.life.on(Event::Started, now);
                if let Some(group) = unused {
                    self.group_refused(group);
                }
                // What would tell of its end tells of this one now.
                if let Some(namesake) = namesake {
                    self.on_exit(namesake);
                }
                self.carry_out(id, effects);
                self.send_early_signals(id);
            }
            Err(error) => self.never_ran(id, error),
        }
    }

    fn never_ran(&mut self, id: JobId, error: SpawnError) {
        if self.jobs.get(&id).is_some_and(|job| job.life.is_awaited()) {
            self.awaited -= 1;
        }
        self.remove(id);
        self.events
            .send(message::Event::SpawnFailed { job: id, error });
        self.send_early_signals(id);
        self.look_whether_all_gone();
    }

    /// The time of a run is over that no spawner has begun with. False if one has.
    pub(super) fn withdraw(&mut self, id: JobId) -> bool {
        let is_starting = |job: &Job| job.life.is_starting();
        if !self.jobs.get(&id).is_some_and(|job| is_starting(job)) || !self.pool.withdraw(id) {
            return false;
        }
        let error = SpawnError {
            stage: SpawnStage::Clone,
            errno: libc::ETIMEDOUT,
        };
        self.never_ran(id, error);
        true
    }

    /// Gives up spawns that have hung for too long, now and until they have ended.
    pub(super) fn give_up_hung(&mut self) {
        // Who has come to its program meanwhile has woken nobody.
        self.on_inbox();
        if let Some(at) = self.pool.give_up_old(self.clock.now()) {
            self.deadlines.set(at, Due::Hung);
        }
    }

    /// Starts another spawner if spawns wait and nothing moves, now or when that is due.
    pub(super) fn watch_spawners(&mut self, now: Monotonic) {
        if !self.spawners_watched
            && let Some(at) = self.pool.check_progress(now)
        {
            self.spawners_watched = true;
            self.deadlines.set(at, Due::SpawnWatchdog);
        }
    }
}
