//! What the outputs of a job hold when its direct child is gone.
//!
//! In: a job that has exited. Out: that in its log or its answer, and the news of it.

use std::rc::Rc;
use std::time::Instant;

use crate::config::timeouts;
use crate::process::life::{Event, State};
use crate::types::{JobId, Monotonic, Stream};

use crate::io::host::effects::happen;
use crate::io::host::outputs::{Pumped, pump, pump_until, room};
use crate::io::host::paced::{self, Output, readable_now};
use crate::io::runtime;
use crate::io::runtime::source::Source;
use crate::io::server::Server;

/// What has become of it.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Nothing that the child wrote can come later: what it wrote to a pipe is in it, all of it, and
    /// somebody else may write on; a terminal passes its last output on with a delay.
    whole: bool,
    /// There was no room for all that is in the pipes.
    is_held: bool,
}

/// Reads it and tells of that, later if those who look for a text in it are to see it first
/// (`process::searches`).
pub(crate) fn read_rest(server: &Rc<Server>, job: JobId) {
    let rest = read(server, job);
    let whole = rest.whole && !rest.is_held;
    happen(server, job, Event::RestRead { whole });
    if rest.is_held && is_draining(server, job) {
        runtime::spawn(read_later(server.clone(), job));
    }
}

/// As much as there is room for, again and again. The exit is told once all is read, or after the
/// usual grace; who waits for all of its output waits on, but not for ever.
async fn read_later(server: Rc<Server>, job: JobId) {
    let until = Instant::now() + timeouts::HELD_OUTPUT_MAX;
    while Instant::now() < until {
        happen(&server, job, Event::OutputHeld);
        let is_waited_for = room(&server, job).await;
        let state = server.table.borrow().job(job).map(|of| of.life.state());
        match state {
            Some(State::Draining { .. }) => {}
            // Its outputs are read on by their tasks.
            Some(State::Over { complete_at, .. })
                if is_waited_for && Monotonic::now() < complete_at =>
            {
                continue;
            }
            _ => return,
        }
        let rest = read(&server, job);
        if !rest.is_held {
            let whole = rest.whole;
            return happen(&server, job, Event::RestRead { whole });
        }
    }
}

fn is_draining(server: &Server, job: JobId) -> bool {
    let table = server.table.borrow();
    let process = table.job(job);
    process.is_some_and(|process| matches!(process.life.state(), State::Draining { .. }))
}

fn read(server: &Rc<Server>, job: JobId) -> Rest {
    let child = server.children.borrow().get(&job).cloned();
    let is_paced = paced::is_paced(server, job);
    let mut whole = true;
    let mut rest = [0; Stream::COUNT];
    for &(stream, ref source) in child.iter().flat_map(|child| &child.outputs) {
        let output = Output { stream, is_paced };
        whole &= match stream {
            Stream::Pty => {
                let bytes = readable_now(server, job, output, source);
                let pumped = pump(server, job, output, source, bytes);
                matches!(pumped, Pumped::Ended { .. })
            }
            Stream::Stdout | Stream::Stderr => {
                rest[stream as usize] = read_pipe(server, job, output, source);
                true
            }
        };
    }
    if let Some((process, _)) = server.table.borrow_mut().job_mut(job)
        && let Some(extras) = process.extras.get_mut()
        && let Some(backpressure) = &mut extras.backpressure
    {
        backpressure.over(rest, &process.log);
    }
    let is_held = rest != [0; Stream::COUNT];
    Rest { whole, is_held }
}

/// Reads what is in a pipe whose writer has ended, and not what somebody else writes meanwhile.
/// Returns how much of it there was no room for.
fn read_pipe(server: &Rc<Server>, job: JobId, output: Output, source: &Source) -> u64 {
    let pending = source.pending();
    if pending == 0 {
        return 0;
    }
    // A short read does not say that a pipe is empty, it is only likely.
    match pump_until(server, job, output, source, pending, false) {
        Pumped::Full { brought } => pending.saturating_sub(brought),
        Pumped::Waiting { .. } | Pumped::Ended { .. } => 0,
    }
}
