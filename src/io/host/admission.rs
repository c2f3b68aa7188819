//! How many runs are under way at the same time: the others wait in line.
//!
//! In: a run that is to begin, and its client. Out: a place, in the order of asking, given back when
//! dropped; or why there is none. Owns the counts and the line. Who waits has not begun: its time
//! counts from its start, and who is refused has started nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use crate::api::Problem;
use crate::process::Notify;

use crate::io::server::Server;
use crate::io::wait::{Client, Limits, Waited, for_client, until};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunBounds {
    /// Under way at the same time.
    pub concurrent_max: usize,
    /// In line.
    pub queued_max: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Runs {
    bounds: Cell<RunBounds>,
    under_way: Cell<usize>,
    /// Who waits, the first one first.
    line: RefCell<VecDeque<Rc<Waiting>>>,
}

/// One that waits.
#[derive(Debug, Default)]
struct Waiting {
    called: Cell<bool>,
    changed: Notify,
}

/// A place among the runs under way, until dropped.
pub(crate) struct Place(Rc<Server>);

impl Place {
    /// Of a run that is under way already.
    pub(crate) fn of_one_more(server: &Rc<Server>) -> Self {
        let under_way = &server.runs.under_way;
        under_way.set(under_way.get() + 1);
        Self(server.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.runs.leave();
    }
}

/// In line until dropped. One that was called and did not come passes its place on.
struct InLine<'a> {
    runs: &'a Runs,
    me: Rc<Waiting>,
    came: bool,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if self.came {
            return;
        }
        if self.me.called.get() {
            return self.runs.leave();
        }
        let mut line = self.runs.line.borrow_mut();
        line.retain(|waiting| !Rc::ptr_eq(waiting, &self.me));
    }
}

impl Runs {
    /// Nothing runs.
    pub(crate) fn new(bounds: RunBounds) -> Self {
        Self {
            bounds: Cell::new(bounds),
            under_way: Cell::new(0),
            line: RefCell::default(),
        }
    }

    /// What it keeps to.
    pub(crate) fn bounds(&self) -> RunBounds {
        self.bounds.get()
    }

    /// Keeps to others from now on. Who is in line stays there, and who is under way goes on.
    pub(crate) fn bound(&self, bounds: RunBounds) {
        self.bounds.set(bounds);
        while self.under_way.get() < bounds.concurrent_max && self.call_next() {
            self.under_way.set(self.under_way.get() + 1);
        }
    }

    /// Those that wait.
    pub(crate) fn queued(&self) -> usize {
        self.line.borrow().len()
    }

    fn enter(&self) -> bool {
        let free = self.under_way.get() < self.bounds().concurrent_max && self.queued() == 0;
        if free {
            self.under_way.set(self.under_way.get() + 1);
        }
        free
    }

    /// The place of one that has ended is the next one's, unless there are fewer places now.
    fn leave(&self) {
        let is_one_too_many = self.under_way.get() > self.bounds().concurrent_max;
        if is_one_too_many || !self.call_next() {
            self.under_way.set(self.under_way.get() - 1);
        }
    }

    fn call_next(&self) -> bool {
        let next = self.line.borrow_mut().pop_front();
        if let Some(next) = &next {
            next.called.set(true);
            next.changed.notify();
        }
        next.is_some()
    }

    fn join(&self) -> Option<InLine<'_>> {
        let mut line = self.line.borrow_mut();
        if line.len() >= self.bounds().queued_max {
            return None;
        }
        let me = Rc::<Waiting>::default();
        line.push_back(me.clone());
        Some(InLine {
            runs: self,
            me,
            came: false,
        })
    }
}

/// A place for a run, after a wait if need be, of at most `patience`.
///
/// # Errors
/// 503, or nothing if the client is gone.
pub(crate) async fn admit(
    server: &Rc<Server>,
    patience: Duration,
    half_closed: Duration,
    client: &mut impl Client,
) -> Result<Place, Option<Problem>> {
    let runs = &server.runs;
    let place = || Place(server.clone());
    if runs.enter() {
        return Ok(place());
    }
    let RunBounds {
        concurrent_max,
        queued_max,
    } = runs.bounds();
    let refused = |why: String| {
        let message = format!(
            "{concurrent_max} runs are under way (--max-concurrent-runs) and {why}; nothing was \
             started"
        );
        Some(Problem::unavailable(message, Some("runs")))
    };
    let Some(mut in_line) = runs.join() else {
        return Err(refused(format!(
            "{queued_max} wait in line (--max-queued-runs)"
        )));
    };
    let me = in_line.me.clone();
    let called = pin!(async {
        let called = pin!(until(|| match me.called.get() {
            true => Ok(()),
            false => Err(me.changed.clone()),
        }));
        let ending = pin!(until(|| match server.shutting_down.get() {
            true => Ok(()),
            false => Err(server.ending.clone()),
        }));
        crate::io::runtime::race::race(called, ending).await;
    });
    let limits = Limits {
        in_all: Some(patience),
        half_closed,
    };
    let waited = for_client(called, limits, client).await;
    if me.called.get() {
        in_line.came = true;
        let place = place();
        return match waited {
            Waited::Gone => Err(None),
            _ => Ok(place),
        };
    }
    Err(match waited {
        Waited::Gone => None,
        Waited::Done(()) => Some(Problem::ending()),
        Waited::TimeUp => refused(format!(
            "no place was free within {} ms",
            patience.as_millis()
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(concurrent_max: usize, queued_max: usize) -> Runs {
        Runs::new(RunBounds {
            concurrent_max,
            queued_max,
        })
    }

    #[test]
    fn who_waits_is_called_in_order_and_who_leaves_the_line_is_passed_over() {
        let runs = runs(2, 3);
        assert!(runs.enter() && runs.enter() && !runs.enter());
        let [first, second, third] = [(); 3].map(|()| runs.join().unwrap());
        assert!(runs.join().is_none(), "the line is full");
        drop(second);
        runs.leave();
        assert!(first.me.called.get() && !third.me.called.get());
        assert!(!runs.enter(), "whoever waits comes first");
        runs.leave();
        assert!(third.me.called.get());
        assert_eq!((runs.queued(), runs.under_way.get()), (0, 2));
    }

    #[test]
    fn other_bounds_call_whom_there_is_a_place_for_and_nobody_else() {
        let runs = runs(1, 3);
        assert!(runs.enter());
        let [first, second, third] = [(); 3].map(|()| runs.join().unwrap());
        let bounds = |concurrent_max, queued_max| RunBounds {
            concurrent_max,
            queued_max,
        };
        runs.bound(bounds(3, 1));
        assert!(first.me.called.get() && second.me.called.get() && !third.me.called.get());
        assert!(runs.join().is_none(), "the line is full");
        runs.bound(bounds(1, 1));
        drop(first);
        runs.leave();
        assert!(!third.me.called.get(), "there were two too many");
        drop(second);
        assert!(third.me.called.get());
        assert_eq!((runs.queued(), runs.under_way.get()), (0, 1));
    }

    #[test]
    fn who_was_called_and_is_gone_passes_its_place_on() {
        let runs = runs(1, 3);
        assert!(runs.enter());
        let (first, mut second) = (runs.join().unwrap(), runs.join().unwrap());
        runs.leave();
        assert!(first.me.called.get());
        drop(first);
        assert!(second.me.called.get());
        second.came = true;
        drop(second);
        runs.leave();
        assert_eq!(runs.under_way.get(), 0);
        assert!(runs.enter());
    }
}
