//! What a viewer types, on its way to the process.
//!
//! In: inputs, as the client sends them. Out: each of them written in its turn, or an error frame
//! that says why not. An input waits until the process reads it and holds up later input of this
//! viewer only; what was typed before a viewer left still arrives.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use crate::api::Problem;
use crate::types::ProcessId;

use crate::budget::Kind;

use crate::io::host::backlog::{BYTES_MAX, Place};
use crate::io::host::input::{InputError, Offer};
use crate::io::runtime;
use crate::io::runtime::lane::Steps;
use crate::io::runtime::race::race;
use crate::io::server::Server;
use crate::io::ws::Peer;
use crate::io::ws::input_queue::{INPUT_COST_BYTES, InputQueue, Queued, What, cost};

/// What is typed is not read any more.
const NOT_RUNNING: &str = "conflict: process is not running";

/// See the module.
#[derive(Debug)]
pub(crate) struct InputPump {
    server: Rc<Server>,
    id: ProcessId,
    queue: Rc<InputQueue>,
}

impl InputPump {
    /// Nothing has been typed.
    pub(crate) fn new(server: Rc<Server>, id: ProcessId) -> Self {
        let queue = Rc::<InputQueue>::default();
        if server.options.upgrades.is_some() {
            let mut queues = server.input_queues.borrow_mut();
            queues.retain(|(_, queue)| queue.strong_count() > 0);
            queues.push((id, Rc::downgrade(&queue)));
        }
        Self { server, id, queue }
    }

    /// Goes on with what viewers of another server had typed, all of which have left.
    pub(crate) fn resume(server: &Rc<Server>, id: ProcessId, typed: Vec<What>) {
        let Some(input) = server.input(id) else {
            return;
        };
        let pump = Self::new(server.clone(), id);
        for what in typed {
            let cost = cost(&what);
            let charge = server.budget.hold(Kind::Bodies, cost as u64);
            let place = input.backlog().hold(cost).charged(charge);
            pump.queue.push(what, input.ticket(), place);
        }
        pump.close();
        let nobody = Peer::new();
        nobody.gone();
        runtime::spawn(async move { pump.pass_on(&nobody).await });
    }

    /// Has an input wait for the process to read it, or says that it was not taken.
    pub(crate) async fn take(&self, what: What, peer: &Peer) {
        let limit = self.server.settings.get().max_input_bytes_per_request;
        let len = what.data().len();
        if len as u64 > limit {
            return peer.error(&format!(
                "input payload exceeds maxInputBytesPerRequest ({limit})"
            ));
        }
        let Some(input) = self.server.input(self.id) else {
            return peer.error(NOT_RUNNING);
        };
        let cost = cost(&what);
        let place = match self.queue.refuses(input.backlog()) {
            true => None,
            false => input.place(cost).await,
        };
        // The client was not read while that waited, so it could not be heard.
        peer.heard();
        // What the clients of all processes type counts together, too.
        let charged = |place: Place| {
            let charge = self.server.charge(Kind::Bodies, cost as u64).ok()?;
            Some(place.charged(charge))
        };
        match place.and_then(charged) {
            Some(place) => self.queue.push(what, input.ticket(), place),
            None => {
                self.queue.refused(cost);
                peer.error(&format!(
                    "input not taken: the process does not read what was typed before it (at most \
                     {BYTES_MAX} bytes may wait, {INPUT_COST_BYTES} of them for each input); of \
                     these {len} bytes none was taken, send them again later"
                ));
            }
        }
    }

    /// There will be no more.
    pub(crate) fn close(&self) {
        self.queue.close();
    }

    /// Writes what the client types until it is gone and all of that is written or given up.
    pub(crate) async fn pass_on(&self, peer: &Peer) {
        let all = async {
            let mut steps = Steps::default();
            while let Some(queued) = self.queue.next().await {
                let began = Instant::now();
                // Boxed: most of the time nobody types.
                Box::pin(self.pass(&queued, peer)).await;
                if self.server.messages.is_piece(&mut steps, began.elapsed()) {
                    Box::pin(self.server.messages.turn()).await;
                }
            }
        };
        race(pin!(all), pin!(self.queue.expired())).await;
        self.queue.clear();
    }

    async fn pass(&self, queued: &Queued, peer: &Peer) {
        let offer = match &queued.what {
            What::Data { data, offset } => Offer {
                data,
                offset: *offset,
                eof: false,
            },
            What::End => Offer {
                eof: true,
                ..Offer::default()
            },
        };
        let Queued {
            ticket, progress, ..
        } = queued;
        match ticket.write(&self.server, self.id, offer, progress).await {
            Ok(()) => {}
            Err(InputError::NotRunning) => {
                // One answer for all: nothing that was typed later is read either.
                self.queue.clear();
                peer.error(NOT_RUNNING);
            }
            Err(InputError::Closed) => peer.error(&Problem::stdin_closed().detail()),
            Err(InputError::Ahead { offset, accepted }) => {
                peer.error(&Problem::stdin_offset(offset, accepted).detail());
            }
            Err(InputError::Failed(errno)) => {
                let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
                peer.error(&format!("stream error: failed to write stdin: {error}"));
            }
        }
    }
}
