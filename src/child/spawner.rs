//! Threads that wait for exec, so that nobody else has to.
//!
//! In: a [`SpawnSpec`] for a job. Out: [`Inbox::SpawnDone`] to the supervisor. Each thread has a
//! queue of its own; the pool knows which ones are idle. A spawn that hangs (program or working
//! directory on a dead mount) holds one thread; others are started while it does.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Inbox;
use super::cgroup::Group;
use super::inherit::Inheritance;
use super::mark::Mark;
use super::message::Sender;
use super::spawn::{PidSlot, SpawnError, SpawnSpec, SpawnStage, spawn};
use crate::types::JobId;

/// Threads started without hesitation; more than cores only adds switching.
const EAGER: usize = 2;

/// Threads at most: this many spawns may hang at the same time.
const THREADS_MAX: usize = 256;

/// Spawns that may wait for a thread; one more is refused with EAGAIN.
const QUEUE_MAX: usize = 1024;

/// How long a spawn may wait before one more thread is started for it.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

/// Bytes; the child's own stack is on the heap.
const STACK_BYTES: usize = 64 << 10;

#[derive(Debug)]
struct Request {
    job: JobId,
    spec: Box<SpawnSpec>,
    mark: Mark,
    group: Option<Arc<Group>>,
    slot: Arc<PidSlot>,
}

/// The spawner threads and what waits for them.
#[derive(Debug)]
pub(super) struct Pool {
    inheritance: Inheritance,
    done: Sender<Inbox>,
    /// By thread number; None is a number to use again.
    threads: Vec<Option<mpsc::Sender<Request>>>,
    idle: Vec<usize>,
    waiting: VecDeque<(Instant, Request)>,
    /// Pids of children whose spawn has not been reported yet.
    in_flight: Vec<(JobId, Arc<PidSlot>)>,
}

impl Pool {
    pub(super) fn new(inheritance: Inheritance, done: Sender<Inbox>) -> Self {
        Self {
            inheritance,
            done,
            threads: Vec::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
        }
    }

    /// Hands a spawn to a thread; the answer comes as [`Inbox::SpawnDone`].
    pub(super) fn submit(
        &mut self,
        job: JobId,
        spec: Box<SpawnSpec>,
        mark: Mark,
        group: Option<Arc<Group>>,
        now: Instant,
    ) {
        if self.waiting.len() >= QUEUE_MAX {
            let error = SpawnError {
                stage: SpawnStage::Clone,
                errno: libc::EAGAIN,
            };
            self.done.send(Inbox::SpawnDone {
                job,
                thread: None,
                result: Err(error),
            });
            return;
        }
        let slot = Arc::new(PidSlot::new(0));
        self.in_flight.push((job, slot.clone()));
        self.waiting.push_back((
            now,
            Request {
                job,
                spec,
                mark,
                group,
                slot,
            },
        ));
        if self.idle.is_empty() && self.running() < EAGER {
            self.start_thread();
        }
        self.assign();
    }

    /// Notes that `thread` is free again; called for every [`Inbox::SpawnDone`].
    pub(super) fn finished(&mut self, thread: Option<usize>) {
        let Some(thread) = thread else { return };
        self.in_flight
            .retain(|(_, slot)| Arc::strong_count(slot) > 1);
        if self.waiting.is_empty() && self.idle.len() >= EAGER {
            self.threads[thread] = None;
        } else {
            self.idle.push(thread);
        }
        self.assign();
    }

    /// Starts a thread if a spawn has waited too long. Returns when to look again.
    pub(super) fn relieve(&mut self, now: Instant) -> Option<Instant> {
        let since = self.waiting.front()?.0;
        if now < since + PATIENCE {
            return Some(since + PATIENCE);
        }
        if self.running() < THREADS_MAX {
            self.start_thread();
            self.assign();
        }
        self.waiting.front().map(|_| now + PATIENCE)
    }

    /// Whether a child with this pid is about to be reported.
    pub(super) fn is_in_flight(&self, pid: i32) -> bool {
        self.in_flight
            .iter()
            .any(|(_, slot)| slot.load(Ordering::Acquire) == pid)
    }

    /// Kills a child that has not come to exec, if it exists already.
    pub(super) fn kill_in_flight(&self, job: JobId) {
        let Some((_, slot)) = self.in_flight.iter().find(|(of, _)| *of == job) else {
            return;
        };
        let number = slot.load(Ordering::Acquire);
        // The slot is emptied before the child is collected: if it still has the number, then the
        // pidfd is the child's.
        if let Some(pid) = Pid::from_raw(number)
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
            && slot.load(Ordering::Acquire) == number
        {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// Whether nothing is being spawned and nothing waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
    }

    fn running(&self) -> usize {
        self.threads.iter().flatten().count()
    }

    fn assign(&mut self) {
        while let Some(&thread) = self.idle.last() {
            let Some((_, request)) = self.waiting.pop_front() else {
                return;
            };
            self.idle.pop();
            if let Some(Some(queue)) = self.threads.get(thread)
                && let Err(mpsc::SendError(request)) = queue.send(request)
            {
                // The thread is gone, which only a panic in it could do.
                self.threads[thread] = None;
                self.waiting.push_front((Instant::now(), request));
            }
        }
    }

    fn start_thread(&mut self) {
        let number = self
            .threads
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.threads.len());
        let (queue, requests) = mpsc::channel::<Request>();
        let (inheritance, done) = (self.inheritance.clone(), self.done.clone());
        let work = move || {
            for Request {
                job,
                spec,
                mark,
                group,
                slot,
            } in requests
            {
                let group = group.as_deref().map(AsFd::as_fd);
                let result = spawn(&spec, &inheritance, mark, group, &slot);
                // The child's ends of its pipes close before anybody hears that it runs.
                drop(spec);
                drop(slot);
                done.send(Inbox::SpawnDone {
                    job,
                    thread: Some(number),
                    result,
                });
            }
        };
        let builder = thread::Builder::new()
            .name("spawner".to_owned())
            .stack_size(STACK_BYTES);
        match builder.spawn(work) {
            Ok(_) => {
                if number == self.threads.len() {
                    self.threads.push(None);
                }
                self.threads[number] = Some(queue);
                self.idle.push(number);
            }
            // No thread to be had. If others run, one of them takes the spawn when it is done.
            Err(error) if self.running() == 0 => {
                let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
                for (_, request) in self.waiting.drain(..) {
                    let error = SpawnError {
                        stage: SpawnStage::Clone,
                        errno,
                    };
                    self.done.send(Inbox::SpawnDone {
                        job: request.job,
                        thread: None,
                        result: Err(error),
                    });
                }
                self.in_flight.clear();
            }
            Err(_) => {}
        }
    }
}
