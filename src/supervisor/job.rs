//! What the supervisor knows of one child, and the one place where its life goes on.
//!
//! In: what happened, and when. Out: the next state, and [`Effects`]: what the supervisor has to do
//! about it. [`Life`] knows no process, no descriptor and no clock.
//!
//! ```text
//!             Started             Exited
//! Starting -----------> Running -----------> Exited
//! ```
//!
//! A tree may be ended in each of these states, and what a run is told of its time is another
//! matter still, so both stand beside the state. Events of several threads meet here: one that
//! makes no sense in a state changes nothing.

use std::time::Duration;

use crate::ledger::RecordId;
use crate::supervisor::oom::Kills;
use crate::supervisor::reap::Reaped;
use crate::supervisor::tree::Tree;
use crate::supervisor::tree::identity::Leader;
use crate::supervisor::tree::walk::Walk;
use crate::types::{ExitReason, ExitStatus, Monotonic};

/// Before the second pass over a tree; each further pause is twice as long.
const PASS_PAUSE_MIN: Duration = Duration::from_micros(500);

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no process yet.
    Starting {
        /// It is to be stopped as soon as there is one.
        stop: bool,
        /// Its spawner is to wake the supervisor.
        is_awaited: bool,
    },
    /// The program runs.
    Running,
    /// The direct child is gone.
    Exited(ExitStatus),
}

/// Kill requested, not yet done.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Between the next pass and the one after.
    pub(crate) pause: Duration,
    /// When the next pass is due.
    pub(crate) next: Monotonic,
    /// Passes so far.
    pub(crate) passes: u32,
    pub(crate) pass: Pass,
}

/// One pass over a tree. A group is enough to kill by; without one the orphans are looked at. Before
/// a tree is called gone there is a look at all children of the server, group or not.
#[derive(Debug)]
pub(crate) enum Pass {
    /// The last one is over, or there was none.
    Over,
    /// Those that the leader led to are killed.
    Walking {
        walk: Walk,
        /// The leader had ended when this pass began.
        whole: bool,
    },
    /// A look is under way or will be.
    Looking {
        number: u64,
        /// As far as this pass has met nobody and missed nobody.
        whole: bool,
    },
    /// Those that the look has shown are killed.
    Gathering { walk: Walk },
}

/// What has become of the time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timeout {
    /// It has none, or it has not passed.
    Pending,
    /// It has passed: the exit is told with that, once.
    Passed,
    /// That has been told.
    Told,
}

/// What can happen to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The program runs.
    Started,
    /// The direct child has ended, reaped or not.
    Exited(ExitStatus),
    /// It is to be stopped (SIGTERM).
    Stop,
    /// Its tree is to be killed.
    Kill,
    /// The grace of a stop is over.
    GraceOver,
    /// The time of a run has passed.
    TimeoutPassed,
    /// The time that its tree may live is over.
    LifetimeOver {
        /// The leader has ended, if that has not been seen yet.
        has_ended: bool,
    },
    /// Something is to be done with it as soon as there is a process.
    Awaited,
    /// Whoever waits for a run that ran too long is to be told now.
    AnswerDue,
    /// Nobody of its tree is left, as passes over it have found.
    TreeGone,
    /// Nobody asks for it any more.
    Forgotten,
}

/// What the supervisor has to do, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// One more start is waited for.
    pub(crate) awaited: bool,
    /// One less is.
    pub(crate) no_longer_awaited: bool,
    /// SIGTERM to its group, and SIGCONT.
    pub(crate) stop: bool,
    /// Its exit is to be told.
    pub(crate) tell_exit: bool,
    /// That it ran too long is to be told, with the status if it has one.
    pub(crate) tell_timeout: Option<Option<ExitStatus>>,
    /// Say [`Event::AnswerDue`] in a moment.
    pub(crate) answer_soon: bool,
    /// A pass over its tree is due.
    pub(crate) pass: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Life {
    state: State,
    /// Boxed, because few jobs are being ended at a time.
    ending: Option<Box<Ending>>,
    timeout: Timeout,
    /// Why it is being ended, where its exit is to say so.
    reason: Option<ExitReason>,
    is_forgotten: bool,
}

impl Life {
    /// A child that is about to be started.
    pub(crate) fn new() -> Self {
        Self::resumed(State::Starting {
            stop: false,
            is_awaited: false,
        })
    }

    /// A child of a server that is gone.
    pub(crate) fn resumed(state: State) -> Self {
        Self {
            state,
            ending: None,
            timeout: Timeout::Pending,
            reason: None,
            is_forgotten: false,
        }
    }

    /// Where it is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.state, State::Starting { .. })
    }

    /// Whether the direct child is gone.
    pub(crate) fn has_exited(&self) -> bool {
        matches!(self.state, State::Exited(_))
    }

    /// Whether its start is waited for.
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.state, State::Starting { is_awaited, .. } if is_awaited)
    }

    /// Why it is being ended, where its exit is to say so.
    pub(crate) fn reason(&self) -> Option<ExitReason> {
        self.reason
    }

    /// Whether somebody waits to be told that it ran too long.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.timeout == Timeout::Passed
    }

    /// Whether its tree is being killed.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// The passes over its tree, while that is killed.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.as_deref()
    }

    /// The same, to go on with.
    pub(crate) fn ending_mut(&mut self) -> Option<&mut Ending> {
        self.ending.as_deref_mut()
    }

    /// Whether nothing is to be done with it any more.
    pub(crate) fn is_done(&self) -> bool {
        self.is_forgotten && !self.is_ending() && self.has_exited()
    }

    /// Takes an event, at `now`.
    pub(crate) fn on(&mut self, event: Event, now: Monotonic) -> Effects {
        match event {
            Event::Started => self.started(now),
            Event::Exited(status) => self.exited(status, now),
            Event::Stop => self.stop(),
            Event::Awaited => self.awaited(),
            Event::Kill => self.kill(now),
            Event::GraceOver if !self.has_exited() => self.kill(now),
            Event::TimeoutPassed if !self.has_exited() => {
                if self.timeout == Timeout::Pending {
                    self.timeout = Timeout::Passed;
                }
                Effects {
                    answer_soon: true,
                    ..self.kill(now)
                }
            }
            Event::GraceOver | Event::TimeoutPassed => Effects::default(),
            Event::LifetimeOver { has_ended } => {
                let lives = self.is_starting() || self.state == State::Running && !has_ended;
                // Whoever is being killed already does not die of this.
                if lives && !self.is_ending() {
                    self.reason = Some(ExitReason::Deadline);
                }
                self.kill(now)
            }
            Event::AnswerDue => self.answer(),
            Event::TreeGone => {
                self.ending = None;
                Effects::default()
            }
            Event::Forgotten => {
                self.is_forgotten = true;
                Effects::default()
            }
        }
    }

    fn started(&mut self, now: Monotonic) -> Effects {
        let State::Starting { stop, is_awaited } = self.state else {
            return Effects::default();
        };
        self.state = State::Running;
        Effects {
            no_longer_awaited: is_awaited,
            stop,
            pass: self.pass_now(now),
            ..Effects::default()
        }
    }

    fn exited(&mut self, status: ExitStatus, now: Monotonic) -> Effects {
        let is_news = !self.has_exited();
        let no_longer_awaited = self.is_awaited();
        if is_news {
            self.state = State::Exited(status);
        }
        Effects {
            no_longer_awaited,
            // Who waits for a run that ran too long is told that.
            tell_exit: is_news && self.timeout == Timeout::Pending,
            pass: self.pass_now(now),
            ..Effects::default()
        }
    }

    fn stop(&mut self) -> Effects {
        match &mut self.state {
            State::Starting { stop, .. } => {
                *stop = true;
                self.awaited()
            }
            State::Running => Effects {
                stop: true,
                ..Effects::default()
            },
            State::Exited(_) => Effects::default(),
        }
    }

    fn awaited(&mut self) -> Effects {
        let is_news = match &mut self.state {
            State::Starting { is_awaited, .. } => !std::mem::replace(is_awaited, true),
            State::Running | State::Exited(_) => false,
        };
        Effects {
            awaited: is_news,
            ..Effects::default()
        }
    }

    /// The next pass over a tree that is being killed is due now, since something has happened to it.
    fn pass_now(&mut self, now: Monotonic) -> bool {
        let ending = self.ending.as_mut();
        ending.map(|ending| ending.next = now).is_some()
    }

    fn kill(&mut self, now: Monotonic) -> Effects {
        let is_news = !self.is_ending();
        if is_news {
            self.ending = Some(Box::new(Ending {
                pause: PASS_PAUSE_MIN,
                next: now,
                passes: 0,
                pass: Pass::Over,
            }));
        }
        Effects {
            pass: is_news,
            ..Effects::default()
        }
    }

    fn answer(&mut self) -> Effects {
        if self.timeout != Timeout::Passed {
            return Effects::default();
        }
        self.timeout = Timeout::Told;
        Effects {
            tell_timeout: Some(match self.state {
                State::Exited(status) => Some(status),
                State::Starting { .. } | State::Running => None,
            }),
            ..Effects::default()
        }
    }
}

/// One child and its tree.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) life: Life,
    pub(crate) tree: Tree,
    /// What is written down of it, if there is a keeper.
    pub(crate) record: Option<RecordId>,
    /// The child, from exec until it is reaped.
    pub(crate) leader: Option<Leader>,
    /// What those of its tree have used whom the server has reaped.
    pub(crate) reaped: Reaped,
    /// Whom of it the kernel has killed for want of memory.
    pub(crate) kills: Kills,
    /// Signals that are due later, a bit each: the lowest is signal 1.
    pub(crate) escalations: u64,
    /// It is over and nobody asks for it; whom the next look at all children finds of it is ended.
    pub(crate) ends_if_found: bool,
}

impl Job {
    /// A child that is about to be started.
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            life: Life::new(),
            tree,
            record: None,
            leader: None,
            reaped: Reaped::default(),
            kills: Kills::default(),
            escalations: 0,
            ends_if_found: false,
        }
    }
}

#[cfg(test)]
mod tests;
