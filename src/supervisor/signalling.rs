//! Signals that clients ask for: to a leader, its group, its tree, or its terminal's foreground.
//!
//! In: a request, a start or a look that it has waited for, an escalation that is due. Out: signals,
//! through `tree::identity` alone, and [`Event::Signalled`].
//!
//! A leader and its group can be signalled at once. Who belongs to a tree takes a look at orphans,
//! which several requests share, and a walk over what they lead to, which is made in steps
//! ([`Supervisor::make_steps`]). All members are found before the first gets the signal: whatever a
//! member starts because of it is not to get it, too.
//!
//! Escalations are deadlines of the job, at most one for each signal; the exit cancels them.

use std::collections::VecDeque;
use std::time::Instant;

use crate::supervisor::job::{self, State};
use crate::supervisor::message::{Escalation, Event, SignalError, SignalRequest};
use crate::supervisor::tree::identity::Leader;
use crate::supervisor::tree::walk::Walk;
use crate::supervisor::{Due, Supervisor};
use crate::types::JobId;
use crate::types::signal::Scope;

/// A request that could not be carried out at once.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    job: JobId,
    request: SignalRequest,
    /// None for an escalation, which nobody waits for.
    ticket: Option<u64>,
}

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Signalling {
    /// For the start of the child.
    early: Vec<Waiting>,
    /// For the look of this number.
    looking: Vec<(u64, Waiting)>,
    /// Walks that go on.
    walking: VecDeque<(Waiting, Walk)>,
}

impl Signalling {
    /// Whether [`Supervisor::step_signals`] would do something.
    pub(crate) fn is_walking(&self) -> bool {
        !self.walking.is_empty()
    }
}

impl Supervisor {
    /// Sends a signal, or begins to.
    pub(crate) fn signal(&mut self, id: JobId, request: SignalRequest, ticket: Option<u64>) {
        let waiting = Waiting {
            job: id,
            request,
            ticket,
        };
        let Some(job) = self.jobs.get(&id) else {
            return self.signalled(waiting, Err(SignalError::NotRunning));
        };
        let leader = match (job.life.state(), &job.leader) {
            (State::Running, Some(leader)) => leader,
            (State::Starting { .. }, _) => {
                self.signalling.early.push(waiting);
                return self.on_event(id, job::Event::Awaited);
            }
            _ => return self.signalled(waiting, Err(SignalError::NotRunning)),
        };
        let sent = match request.scope {
            Scope::Leader => leader.send(request.signal),
            Scope::Group => leader.send_to_group(request.signal),
            Scope::Tree if request.signal == libc::SIGKILL => {
                self.on_event(id, job::Event::Kill);
                Ok(())
            }
            Scope::Tree | Scope::Foreground => {
                let number = self.orphans.want(true);
                return self.signalling.looking.push((number, waiting));
            }
        };
        let result = sent.map_err(|errno| match errno {
            rustix::io::Errno::SRCH => SignalError::NotRunning,
            errno => SignalError::Refused(errno.raw_os_error()),
        });
        self.signalled(waiting, result);
    }

    /// A start is over: what was to be sent to the child can be.
    pub(crate) fn send_early_signals(&mut self, id: JobId) {
        let early = std::mem::take(&mut self.signalling.early);
        for waiting in early {
            match waiting.job == id {
                true => self.signal(id, waiting.request, waiting.ticket),
                false => self.signalling.early.push(waiting),
            }
        }
    }

    /// A look is over: trees whose orphans it has shown can be walked over.
    pub(crate) fn signal_those_found(&mut self, number: u64) {
        let looking = std::mem::take(&mut self.signalling.looking);
        for (wanted, waiting) in looking {
            if wanted > number {
                self.signalling.looking.push((wanted, waiting));
                continue;
            }
            let SignalRequest {
                signal,
                scope,
                foreground,
                ..
            } = waiting.request;
            let group = (scope == Scope::Foreground).then_some(foreground);
            let mut walk = Walk::signalling(signal, group);
            self.begin_at_tree(waiting.job, &mut walk);
            self.signalling.walking.push_back((waiting, walk));
        }
    }

    /// Has a walk begin at all that is known of a tree: its leader, its group, its orphans.
    pub(crate) fn begin_at_tree(&self, id: JobId, walk: &mut Walk) {
        if let Some(job) = self.jobs.get(&id) {
            walk.add(job.leader.iter().filter_map(Leader::process));
            let members = job.tree.group.iter().map(|group| group.members());
            walk.add_listed(members.flatten().collect());
        }
        walk.add(self.orphans.of(id));
    }

    /// Goes on with one walk.
    pub(crate) fn step_signals(&mut self, until: Instant) {
        let Some((waiting, mut walk)) = self.signalling.walking.pop_front() else {
            return;
        };
        if !walk.step(Some(until)) {
            return self.signalling.walking.push_back((waiting, walk));
        }
        let sent = walk.sent();
        let result = match (sent.reached, sent.refused, waiting.request.scope) {
            (1.., _, _) => Ok(()),
            (0, Some(errno), _) => Err(SignalError::Refused(errno)),
            (0, None, Scope::Foreground) => Err(SignalError::NoForeground),
            (0, None, _) => Err(SignalError::NotRunning),
        };
        self.signalled(waiting, result);
    }

    fn signalled(&mut self, waiting: Waiting, result: Result<(), SignalError>) {
        if let (Ok(()), Some(escalation)) = (result, waiting.request.escalation) {
            self.escalate_later(waiting.job, escalation);
        }
        if let Some(ticket) = waiting.ticket {
            self.events.send(Event::Signalled { ticket, result });
        }
    }

    /// Notes that a signal is due later, or earlier than it was.
    fn escalate_later(&mut self, id: JobId, escalation: Escalation) {
        if let Some(job) = self.jobs.get_mut(&id)
            && !job.life.has_exited()
            && let Some(bit) = bit(escalation.signal)
        {
            job.escalations |= bit;
            let due = Due::Escalation(id, escalation.signal);
            self.deadlines
                .set_if_earlier(self.clock.now() + escalation.after, due);
        }
    }

    /// A signal is due to a tree, if its leader still runs.
    pub(crate) fn escalate(&mut self, id: JobId, signal: i32) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.escalations &= !bit(signal).unwrap_or(0);
        let request = SignalRequest {
            signal,
            scope: Scope::Tree,
            foreground: 0,
            escalation: None,
        };
        self.signal(id, request, None);
    }

    /// The leader has exited, or the job is removed.
    pub(crate) fn cancel_escalations(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            let mut left = std::mem::take(&mut job.escalations);
            while left != 0 {
                let signal = left.trailing_zeros().cast_signed() + 1;
                left &= left - 1;
                self.deadlines.cancel(Due::Escalation(id, signal));
            }
        }
    }
}

fn bit(signal: i32) -> Option<u64> {
    let place = u32::try_from(signal.checked_sub(1)?).ok()?;
    1_u64.checked_shl(place)
}
