//! Runs that have begun, as far as another server has to know of them to go on.
//!
//! In: a run under way. Out: its part of `ledger::heritage::Run`; [`super::handed`] has it there.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::api::run::Run;
use crate::api::stream::Position;
use crate::ledger::heritage::{self, Asked, Streamed, Text};
use crate::process::backpressure::Backpressure;
use crate::types::{Monotonic, UnixMs};

use crate::io::host::feed::Feed;

/// What is known of a run that has begun, as long as it is under way.
#[derive(Debug)]
pub(crate) struct Begun {
    /// What was asked for.
    pub(crate) run: Rc<Run>,
    /// When it began.
    pub(crate) since: (Monotonic, UnixMs),
    /// What its input is written by, until all of it is.
    pub(crate) feed: Weak<Feed>,
    /// Where it has been stopped, while nothing is begun any more, if it is streamed.
    pub(crate) paused: RefCell<Option<Paused>>,
}

/// A stream that has been stopped.
#[derive(Debug)]
pub(crate) struct Paused {
    /// How far it has been made.
    pub(crate) position: Position,
    /// What is still to be sent of that.
    pub(crate) unsent: Vec<u8>,
}

impl Begun {
    /// What is still to be written of its input; None if nothing is.
    pub(crate) fn input(&self) -> Option<Text> {
        let feed = self.feed.upgrade()?;
        Some(Text(feed.rest().to_vec()))
    }

    /// How far it has been sent, if it is streamed and has been stopped.
    pub(crate) fn stream(&self, backpressure: Option<&Backpressure>) -> Option<Streamed> {
        let paused = self.paused.borrow();
        let Paused { position, unsent } = paused.as_ref()?;
        let Position {
            form,
            next,
            ref outputs,
        } = *position;
        Some(Streamed {
            as_events: form.as_events(),
            as_text: form.as_text,
            max: form.max,
            next,
            outputs: outputs.each_ref().map(|of| heritage::Passed {
                written: of.written,
                sent: of.sent,
                held: Text(of.held.clone()),
                last: of.last,
            }),
            unsent: Text(unsent.clone()),
            rest: backpressure.and_then(Backpressure::rest),
            last: backpressure.and_then(Backpressure::end),
        })
    }

    /// Bytes of all that.
    pub(crate) fn len(&self) -> u64 {
        let input = self.feed.upgrade();
        let args = self.run.launch.args.iter().map(String::len);
        let paused = self.paused.borrow();
        let unsent = paused.as_ref().map_or(0, |paused| paused.unsent.len());
        (args.sum::<usize>() + input.map_or(0, |feed| feed.rest().len()) + unsent) as u64
    }
}

/// What another server has to know of what was asked for.
pub(crate) fn asked(run: &Run) -> Asked {
    Asked {
        command: run.launch.command.clone(),
        args: run.launch.args.clone(),
        cwd: run.launch.cwd.clone(),
        output_max: run.output_max,
        keep: run.keep.name().to_owned(),
        tells_bytes: run.tells_bytes,
        tells_usage: run.tells_usage,
        outlives_client: !run.kill_on_disconnect,
        is_record: run.record.is_some(),
        request: run.request.as_deref().map(str::to_owned),
        rate: run.launch.output_rate(),
    }
}
