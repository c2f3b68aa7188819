//! The life of a managed process.
//!
//! In: what happened. Out: the next state. A state carries its data, and one function makes every
//! move, so a test needs no child.

use std::time::{Duration, Instant};

use crate::types::ExitStatus;

/// After its exit a process's output counts as over even if somebody still holds it open.
pub const OUTPUT_GRACE: Duration = Duration::from_millis(250);

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Asked for; no client has been told its id yet.
    Starting,
    /// The program runs.
    Running {
        /// Its process id.
        pid: i32,
    },
    /// The direct child is gone; its last output is still being read. Shown as running.
    Draining {
        /// Its former process id.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
        /// When reading must be enough.
        until: Instant,
    },
    /// Over, and its output is in the log.
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// When, milliseconds since the Unix epoch.
        at_ms: u64,
        /// From then on its log counts as complete, whoever holds its output open.
        over_at: Instant,
    },
}

/// What can happen to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The supervisor started it.
    Spawned {
        /// Its process id.
        pid: i32,
    },
    /// The supervisor reaped it.
    Ended(ExitStatus),
    /// Everything it wrote has been read, or the time for that is over.
    Drained,
}

impl State {
    /// The state after `what`, at `now`; None if that cannot happen in this state.
    pub fn after(self, what: Happening, now: Instant, now_ms: u64) -> Option<State> {
        match (self, what) {
            (State::Starting, Happening::Spawned { pid }) => Some(State::Running { pid }),
            (State::Running { pid }, Happening::Ended(status)) => Some(State::Draining {
                pid,
                status,
                until: now + OUTPUT_GRACE,
            }),
            (State::Draining { status, until, .. }, Happening::Drained) => Some(State::Exited {
                status,
                at_ms: now_ms,
                over_at: until,
            }),
            _ => None,
        }
    }

    /// Whether clients see `running`.
    pub fn is_running(&self) -> bool {
        matches!(self, State::Running { .. } | State::Draining { .. })
    }

    /// The pid that clients see.
    pub fn pid(&self) -> Option<i32> {
        match self {
            State::Running { pid } | State::Draining { pid, .. } => Some(*pid),
            State::Starting | State::Exited { .. } => None,
        }
    }

    /// How it ended, once clients may know.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match self {
            State::Exited { status, .. } => Some(*status),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_shows_as_running_until_its_output_is_in_the_log() {
        let now = Instant::now();
        let step = |state: State, what| state.after(what, now, 7).unwrap();
        let running = step(State::Starting, Happening::Spawned { pid: 3 });
        let draining = step(running, Happening::Ended(ExitStatus::Code(2)));
        assert!(draining.is_running());
        assert_eq!((draining.pid(), draining.exit_status()), (Some(3), None));
        let exited = step(draining, Happening::Drained);
        assert!(!exited.is_running());
        assert_eq!(
            exited,
            State::Exited {
                status: ExitStatus::Code(2),
                at_ms: 7,
                over_at: now + OUTPUT_GRACE
            }
        );
    }

    #[test]
    fn nothing_happens_twice_or_out_of_order() {
        let now = Instant::now();
        let ended = Happening::Ended(ExitStatus::Signal(9));
        assert_eq!(State::Starting.after(ended, now, 0), None);
        assert_eq!(State::Starting.after(Happening::Drained, now, 0), None);
        let running = State::Running { pid: 1 };
        assert_eq!(running.after(Happening::Spawned { pid: 2 }, now, 0), None);
        let exited = State::Exited {
            status: ExitStatus::Code(0),
            at_ms: 0,
            over_at: now,
        };
        for what in [ended, Happening::Drained, Happening::Spawned { pid: 2 }] {
            assert_eq!(exited.after(what, now, 0), None);
        }
    }
}
