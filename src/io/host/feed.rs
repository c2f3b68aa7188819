//! The whole input of a run, into its pipe, and then the end of input.
//!
//! In: the bytes and our end of the pipe. Out: nothing; a program that does not read all of its
//! input has its reasons. Waits as long as the run is under way and holds nobody else up.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use rustix::io::Errno;

use crate::process::life::State;
use crate::types::JobId;

use crate::io::runtime::race::race;
use crate::io::runtime::source::Source;
use crate::io::server::Server;

/// An input, and how far it has been written.
#[derive(Debug)]
pub(crate) struct Feed {
    pipe: Source,
    data: Vec<u8>,
    at: Cell<usize>,
}

impl Feed {
    /// Of this, into our end of a pipe.
    pub(crate) fn new(pipe: Source, data: Vec<u8>) -> Rc<Self> {
        let at = Cell::default();
        Rc::new(Self { pipe, data, at })
    }

    /// What is still to be written.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.data[self.at.get()..]
    }

    /// The descriptor of the pipe.
    pub(crate) fn number(&self) -> i32 {
        self.pipe.number()
    }
}

/// Writes it for as long as somebody reads it and the run is not over. The pipe is closed then.
pub(crate) async fn feed(server: Rc<Server>, job: JobId, feed: Rc<Feed>) {
    let pipe = &feed.pipe;
    loop {
        let rest = feed.rest();
        if rest.is_empty() {
            return;
        }
        match pipe.write(rest) {
            Ok(len) => {
                feed.at.set(feed.at.get() + len);
                if let Some((run, _)) = server.table.borrow_mut().job_mut(job) {
                    run.input_bytes += len as u64;
                }
            }
            Err(Errno::AGAIN) => {
                let changed = match server.table.borrow().job(job) {
                    Some(run) if !is_ended(run.life.state()) => run.changed.clone(),
                    _ => return,
                };
                let changed = changed.changed(changed.version());
                race(pin!(pipe.writable()), pin!(changed)).await;
            }
            // Nobody reads any more.
            Err(_) => return,
        }
    }
}

fn is_ended(state: State) -> bool {
    matches!(state, State::Over { .. } | State::Failed(_))
}
