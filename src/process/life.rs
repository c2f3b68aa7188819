//! The life of a job: of a managed process, or of a run.
//!
//! In: what happened, and when. Out: the next state, and [`Effects`]: what others have to do about
//! it. The one place where a job changes state. Knows no descriptor, no thread and no clock.
//!
//! ```text
//!               Spawned              Exited               all is read, or
//! StartPending --------> Running ------------> Draining ----------------> Over
//!      |                                          ^       the grace ends   ^
//!      |   Exited (a run is not told of its start)|                        |
//!      |------------------------------------------'        TimedOut        |
//!      |-------------------------------------------------------------------'
//!      '--> Failed   SpawnFailed
//! ```
//!
//! Events of several threads meet here, so any of them may come in any state. One that makes no
//! sense there changes nothing.

use std::time::Duration;

use crate::types::{ExitStatus, Monotonic, SpawnError, UnixMs};

/// Whose life it is. The states are the same; what is said about them differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A managed process: its client is told of the start.
    Managed,
    /// A run: its client is told of the end.
    Run,
}

/// How long a job that has exited waits for output that others hold open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graces {
    /// Until the log of a managed process counts as complete.
    pub managed: Duration,
    /// Until a run is answered.
    pub run: Duration,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, or by a signal.
    Exited(ExitStatus),
    /// By its deadline. The status is missing if it would not die in time.
    TimedOut(Option<ExitStatus>),
}

impl End {
    /// How the direct child ended, as far as that is known.
    pub fn status(self) -> Option<ExitStatus> {
        match self {
            End::Exited(status) => Some(status),
            End::TimedOut(status) => status,
        }
    }
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Asked for; there is no process yet.
    StartPending,
    /// The program runs.
    Running {
        /// Its process id.
        pid: i32,
    },
    /// The direct child is gone; its last output is still being read. Shown as running.
    Draining {
        /// Its former process id, if it was told.
        pid: Option<i32>,
        /// How it ended.
        end: End,
        /// When reading must be enough.
        until: Monotonic,
    },
    /// Its last output is in the log.
    Over {
        /// How it ended.
        end: End,
        /// When that was.
        at: UnixMs,
        /// From then on its log counts as complete, whoever holds its output open.
        complete_at: Monotonic,
    },
    /// It never ran.
    Failed(SpawnError),
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program runs, and so many of our ends of its outputs are open.
    Spawned {
        /// Its process id.
        pid: i32,
        /// Descriptors that it may write to.
        outputs: u8,
    },
    /// There is no process.
    SpawnFailed(SpawnError),
    /// The direct child is gone, and so many others of its tree are alive.
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The others.
        left: u32,
    },
    /// Its deadline has passed; the tree is dead, or refuses to die.
    TimedOut(Option<ExitStatus>),
    /// One of its outputs has reached its end.
    OutputEnded,
    /// What its outputs held at the exit has been read.
    RestRead {
        /// Nothing that it wrote can come later. A terminal passes its last output on with a
        /// delay.
        whole: bool,
    },
    /// A time that was asked for has come ([`Effects::wake_at`]).
    Time,
    /// So many of its tree are alive; only after its exit.
    Left(u32),
    /// Nobody waits for it any longer.
    Abandoned,
}

/// What others have to do, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Begin to read its outputs.
    pub listen: bool,
    /// Read what its outputs hold now, and say [`Event::RestRead`].
    pub read_rest: bool,
    /// It needs its place under the limit, and its input, no longer.
    pub retire: bool,
    /// Who asked for it is to be answered.
    pub answer: Option<Answer>,
    /// Everybody who waits for a change is to look again.
    pub tell: bool,
    /// Say [`Event::Time`] then.
    pub wake_at: Option<Monotonic>,
    /// Its tree is to be killed.
    pub kill: bool,
}

/// What there is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It runs.
    Started,
    /// It does not.
    Failed(SpawnError),
    /// It has ended, with what it wrote.
    Ended(End),
}

/// See the module. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    kind: Kind,
    state: State,
    open_outputs: u8,
    left: u32,
    answered: bool,
}

impl Life {
    /// A job that has been asked for. The outputs of a run are read from then on, so they count
    /// from then on.
    pub fn new(kind: Kind, open_outputs: u8) -> Self {
        Self {
            kind,
            state: State::StartPending,
            open_outputs,
            left: 0,
            answered: false,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Outputs that have not reached their end.
    pub fn open_outputs(&self) -> u8 {
        self.open_outputs
    }

    /// How many of its tree were alive when that was last said.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Whether clients see `running`.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Draining { .. })
    }

    /// The pid that clients see.
    pub fn pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid } => Some(pid),
            State::Draining { pid, .. } => pid,
            State::StartPending | State::Over { .. } | State::Failed(_) => None,
        }
    }

    /// How it ended, once clients may know.
    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Over { end, .. } => Some(end),
            _ => None,
        }
    }

    /// Whether no more output is to be expected: over, and every output has ended or the grace for
    /// that has.
    pub fn is_complete(&self, now: Monotonic) -> bool {
        match self.state {
            State::Over { complete_at, .. } => self.open_outputs == 0 || now >= complete_at,
            _ => false,
        }
    }

    /// Takes an event, at `now`, which is `wall` for clients.
    pub fn on(&mut self, event: Event, now: Monotonic, wall: UnixMs, graces: &Graces) -> Effects {
        match event {
            Event::Spawned { pid, outputs } => self.spawned(pid, outputs),
            Event::SpawnFailed(error) => self.spawn_failed(error),
            Event::Exited { status, left } => self.exited(status, left, now, wall, graces),
            Event::TimedOut(status) => self.timed_out(status, now, wall, graces),
            Event::OutputEnded => self.output_ended(wall),
            Event::RestRead { whole } => self.rest_read(whole, now, wall),
            Event::Time => self.time_has_come(now, wall),
            Event::Left(left) => self.tree_changed(left),
            Event::Abandoned => self.abandoned(),
        }
    }

    fn spawned(&mut self, pid: i32, outputs: u8) -> Effects {
        if self.state != State::StartPending || self.kind == Kind::Run {
            return Effects::default();
        }
        self.state = State::Running { pid };
        self.open_outputs = outputs;
        Effects {
            listen: true,
            answer: self.answer(Answer::Started),
            tell: true,
            ..Effects::default()
        }
    }

    fn spawn_failed(&mut self, error: SpawnError) -> Effects {
        if self.state != State::StartPending {
            return Effects::default();
        }
        self.state = State::Failed(error);
        Effects {
            retire: true,
            answer: self.answer(Answer::Failed(error)),
            tell: true,
            ..Effects::default()
        }
    }

    fn exited(
        &mut self,
        status: ExitStatus,
        left: u32,
        now: Monotonic,
        wall: UnixMs,
        graces: &Graces,
    ) -> Effects {
        let pid = match self.state {
            State::Running { pid } => Some(pid),
            State::StartPending => None,
            // The deadline was told before: its answer stands, and the status is not news.
            State::Draining { .. } | State::Over { .. } | State::Failed(_) => {
                return Effects::default();
            }
        };
        self.left = left;
        let end = End::Exited(status);
        let grace = match self.kind {
            Kind::Managed => graces.managed,
            Kind::Run => graces.run,
        };
        let until = now + grace;
        self.state = State::Draining { pid, end, until };
        match self.kind {
            // Its outputs are read by their own tasks; mostly they have ended, too.
            Kind::Run if self.open_outputs == 0 => self.over(end, until, wall),
            Kind::Run => Effects {
                tell: true,
                wake_at: Some(until),
                ..Effects::default()
            },
            Kind::Managed => Effects {
                read_rest: true,
                tell: true,
                ..Effects::default()
            },
        }
    }

    fn timed_out(
        &mut self,
        status: Option<ExitStatus>,
        now: Monotonic,
        wall: UnixMs,
        graces: &Graces,
    ) -> Effects {
        match self.state {
            State::StartPending | State::Running { .. } | State::Draining { .. } => {
                let mut effects = self.over(End::TimedOut(status), now + graces.managed, wall);
                effects.read_rest = self.open_outputs > 0;
                effects
            }
            State::Over { .. } | State::Failed(_) => Effects::default(),
        }
    }

    fn output_ended(&mut self, wall: UnixMs) -> Effects {
        self.open_outputs = self.open_outputs.saturating_sub(1);
        match self.state {
            State::Draining { end, until, .. } if self.open_outputs == 0 => {
                self.over(end, until, wall)
            }
            _ => Effects {
                tell: true,
                ..Effects::default()
            },
        }
    }

    fn rest_read(&mut self, whole: bool, now: Monotonic, wall: UnixMs) -> Effects {
        match self.state {
            State::Draining { end, until, .. } if whole || now >= until => {
                self.over(end, until, wall)
            }
            State::Draining { until, .. } => Effects {
                wake_at: Some(until),
                ..Effects::default()
            },
            _ => Effects::default(),
        }
    }

    fn time_has_come(&mut self, now: Monotonic, wall: UnixMs) -> Effects {
        match self.state {
            State::Draining { end, until, .. } if now >= until => {
                let mut effects = self.over(end, until, wall);
                effects.read_rest = self.open_outputs > 0;
                effects
            }
            // It came early.
            State::Draining { until, .. } => Effects {
                wake_at: Some(until),
                ..Effects::default()
            },
            _ => Effects::default(),
        }
    }

    fn tree_changed(&mut self, left: u32) -> Effects {
        self.left = left;
        Effects {
            tell: true,
            ..Effects::default()
        }
    }

    fn abandoned(&mut self) -> Effects {
        // A managed process is its own; a run is its client's.
        let kill = self.kind == Kind::Run && !self.answered;
        self.answered |= kill;
        Effects {
            kill,
            ..Effects::default()
        }
    }

    fn over(&mut self, end: End, complete_at: Monotonic, wall: UnixMs) -> Effects {
        self.state = State::Over {
            end,
            at: wall,
            complete_at,
        };
        Effects {
            retire: true,
            answer: match self.kind {
                Kind::Run => self.answer(Answer::Ended(end)),
                Kind::Managed => None,
            },
            tell: true,
            ..Effects::default()
        }
    }

    /// Answers are given once.
    fn answer(&mut self, answer: Answer) -> Option<Answer> {
        (!std::mem::replace(&mut self.answered, true)).then_some(answer)
    }
}

#[cfg(test)]
mod tests;
