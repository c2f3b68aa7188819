//! The life of a job: of a managed process, or of a run.
//!
//! In: what happened, and when. Out: the next state, and [`Effects`]: what others have to do about
//! it. The one place where a job changes state. Knows no descriptor, no thread and no clock.
//!
//! ```text
//!               Spawned              Exited               all is read, or
//! StartPending --------> Running ------------> Draining ----------------> Over
//!      |                                          ^       a grace is over  ^
//!      |   Exited (few runs are told of their start)                       |
//!      |------------------------------------------'     TimedOut (from    |
//!      |                                         any of the first three)   |
//!      |-------------------------------------------------------------------'
//!      '--> Failed   SpawnFailed
//! ```
//!
//! Events of several threads meet here, so any of them may come in any state. One that makes no
//! sense there leaves the state as it is; outputs that end, and how many are left of the tree, are
//! counted in any.

use std::time::Duration;

use crate::types::{Exit, ExitStatus, Monotonic, SpawnError, UnixMs};

/// Whose life it is. The states are the same; what is said about them differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A managed process: its client is told of the start.
    Managed,
    /// A run: its client is told of the end.
    Run,
    /// A run that is listed from its start.
    Recorded,
}

impl Kind {
    /// Whether it is a run, which is its client's; a managed process is its own.
    pub(crate) fn is_run(self) -> bool {
        self != Kind::Managed
    }
}

/// How long a job that has exited waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Graces {
    /// Until its log counts as complete, though somebody holds an output open.
    pub log: Duration,
    /// Until a run is answered, though somebody holds a pipe open. What a helper of the child
    /// writes until then is part of the answer.
    pub pipes: Duration,
    /// Until others of a run's tree count as left behind, with all pipes closed: most are on their
    /// way out.
    pub tree: Duration,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, or by a signal.
    Exited(Exit),
    /// By the timeout of a run. The status is missing if it would not die in time.
    TimedOut(Option<ExitStatus>),
}

impl End {
    /// How the direct child ended, as far as that is known.
    pub(crate) fn status(self) -> Option<ExitStatus> {
        self.exit().map(|exit| exit.status)
    }

    /// The same, with the reason.
    pub(crate) fn exit(self) -> Option<Exit> {
        match self {
            End::Exited(exit) => Some(exit),
            End::TimedOut(status) => status.map(Exit::from),
        }
    }
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
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
        /// When that was.
        since: Monotonic,
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
pub(crate) enum Event {
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
        exit: Exit,
        /// The others.
        left: u32,
    },
    /// The timeout of a run has passed; the tree is dead, or refuses to die.
    TimedOut(Option<ExitStatus>),
    /// One of its outputs has reached its end.
    OutputEnded,
    /// What its outputs held at the exit has been read.
    RestRead {
        /// Nothing that it wrote can come later. A terminal passes its last output on with a
        /// delay.
        whole: bool,
    },
    /// It has exited, and what it wrote last is not read yet, so that a viewer gets all of it.
    OutputHeld,
    /// A time that was asked for has come ([`Effects::wake_at`]).
    Time,
    /// So many of its tree are alive; only after its exit.
    Left(u32),
    /// Nobody waits for it any longer.
    Abandoned,
}

/// What others have to do, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Begin to read its outputs.
    pub listen: bool,
    /// Read what its outputs hold now, and say [`Event::RestRead`].
    pub read_rest: bool,
    /// What is listed needs its place under the limit, and its input, no longer. What becomes of
    /// another run is decided with its answer.
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

impl Effects {
    fn telling(self) -> Self {
        Self { tell: true, ..self }
    }
}

/// What there is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It runs.
    Started,
    /// It does not.
    Failed(SpawnError),
    /// It has ended, with what it wrote.
    Ended(End),
}

/// See the module. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    kind: Kind,
    state: State,
    open_outputs: u8,
    left: u32,
    answered: bool,
    /// The last time that was asked for.
    wake_at: Option<Monotonic>,
    /// Before then its log does not count as complete, because its output is held.
    held_until: Monotonic,
}

impl Life {
    /// A job that has been asked for. The outputs of a run are read from then on, so they count
    /// from then on.
    pub(crate) fn new(kind: Kind, open_outputs: u8) -> Self {
        Self {
            kind,
            state: State::StartPending,
            open_outputs,
            left: 0,
            answered: false,
            wake_at: None,
            held_until: Monotonic::from_nanos(0),
        }
    }

    /// A job of a server that is gone; `is_waited_for` if somebody still waits for its answer.
    pub(crate) fn resumed(kind: Kind, state: State, open_outputs: u8, is_waited_for: bool) -> Self {
        Self {
            state,
            answered: !is_waited_for,
            ..Self::new(kind, open_outputs)
        }
    }

    /// Whose it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Outputs that have not reached their end.
    pub(crate) fn open_outputs(&self) -> u8 {
        self.open_outputs
    }

    /// How many of its tree were alive when that was last said.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// Whether there is news of its start.
    pub(crate) fn has_begun(&self) -> bool {
        self.state != State::StartPending
    }

    /// Whether clients see `running`, if they see it: also one that is about to begin.
    pub(crate) fn is_running(&self) -> bool {
        matches!(
            self.state,
            State::StartPending | State::Running { .. } | State::Draining { .. }
        )
    }

    /// The pid that clients see.
    pub(crate) fn pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid } => Some(pid),
            State::Draining { pid, .. } => pid,
            State::StartPending | State::Over { .. } | State::Failed(_) => None,
        }
    }

    /// When its log counts as complete, once it is over.
    pub(crate) fn complete_at(&self) -> Option<Monotonic> {
        match self.state {
            State::Over { complete_at, .. } => Some(complete_at),
            _ => None,
        }
    }

    /// Whether no more output is to be expected: over, and every output has ended or the grace for
    /// that has.
    pub(crate) fn is_complete(&self, now: Monotonic) -> bool {
        match self.state {
            State::Over { complete_at, .. } => self.open_outputs == 0 || now >= complete_at,
            _ => false,
        }
    }

    /// Takes an event, at `now`, which is `wall` for clients.
    pub(crate) fn on(
        &mut self,
        event: Event,
        now: Monotonic,
        wall: UnixMs,
        graces: &Graces,
    ) -> Effects {
        match event {
            Event::Spawned { pid, outputs } => self.spawned(pid, outputs),
            Event::SpawnFailed(error) => self.spawn_failed(error),
            Event::Exited { exit, left } => self.exited(exit, left, now, wall, graces),
            Event::TimedOut(status) => self.timed_out(status, now, wall, graces),
            Event::OutputEnded => {
                self.open_outputs = self.open_outputs.saturating_sub(1);
                let whole = !self.kind.is_run() && self.open_outputs == 0;
                self.settle(whole, now, wall, graces).telling()
            }
            Event::RestRead { whole } => self.settle(whole, now, wall, graces),
            Event::OutputHeld => self.output_held(now + graces.log),
            Event::Time => self.settle(false, now, wall, graces),
            Event::Left(left) => {
                self.left = left;
                self.settle(false, now, wall, graces).telling()
            }
            Event::Abandoned => self.abandoned(),
        }
    }

    fn spawned(&mut self, pid: i32, outputs: u8) -> Effects {
        if self.state != State::StartPending {
            return Effects::default();
        }
        self.state = State::Running { pid };
        if self.kind.is_run() {
            // Its outputs are read already.
            return Effects::default().telling();
        }
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
            retire: self.kind != Kind::Run,
            answer: self.answer(Answer::Failed(error)),
            tell: true,
            ..Effects::default()
        }
    }

    fn exited(
        &mut self,
        exit: Exit,
        left: u32,
        now: Monotonic,
        wall: UnixMs,
        graces: &Graces,
    ) -> Effects {
        let pid = match self.state {
            State::Running { pid } => Some(pid),
            State::StartPending => None,
            // The timeout was told before: its answer stands, and the status is not news.
            State::Draining { .. } | State::Over { .. } | State::Failed(_) => {
                return Effects::default();
            }
        };
        self.left = left;
        self.state = State::Draining {
            pid,
            end: End::Exited(exit),
            since: now,
        };
        match self.kind {
            Kind::Managed => Effects {
                read_rest: true,
                tell: true,
                ..Effects::default()
            },
            // Its outputs are read by their own tasks; mostly they have ended, too.
            Kind::Run | Kind::Recorded => self.settle(false, now, wall, graces).telling(),
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
                self.over(End::TimedOut(status), now + graces.log, wall)
            }
            State::Over { .. } | State::Failed(_) => Effects::default(),
        }
    }

    /// Ends the draining if nothing more is waited for. `whole`: all that a managed process wrote
    /// is known to be read.
    fn settle(&mut self, whole: bool, now: Monotonic, wall: UnixMs, graces: &Graces) -> Effects {
        let State::Draining { end, since, .. } = self.state else {
            return Effects::default();
        };
        let until = match self.kind {
            Kind::Managed if whole => None,
            Kind::Managed => Some(since + graces.log),
            Kind::Run | Kind::Recorded if self.open_outputs > 0 => Some(since + graces.pipes),
            Kind::Run | Kind::Recorded if self.left > 0 => Some(since + graces.tree),
            Kind::Run | Kind::Recorded => None,
        };
        match until {
            Some(until) if now < until => Effects {
                // Once for each time.
                wake_at: (self.wake_at.replace(until) != Some(until)).then_some(until),
                ..Effects::default()
            },
            _ => self.over(end, since + graces.log, wall),
        }
    }

    fn output_held(&mut self, until: Monotonic) -> Effects {
        self.held_until = until;
        if let State::Over { complete_at, .. } = &mut self.state {
            *complete_at = until.max(*complete_at);
        }
        Effects::default()
    }

    fn abandoned(&mut self) -> Effects {
        // A managed process is its own; a run is its client's.
        let kill = self.kind.is_run() && !self.answered;
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
            complete_at: self.held_until.max(complete_at),
        };
        Effects {
            // What a run's child had written when it ended is in the pipes, all of it.
            read_rest: self.kind.is_run() && self.open_outputs > 0,
            retire: self.kind != Kind::Run,
            answer: match self.kind {
                Kind::Run | Kind::Recorded => self.answer(Answer::Ended(end)),
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
