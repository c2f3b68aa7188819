//! The answer of `GET /metrics`.
//!
//! In: everything that is counted. Out: the answer, once the supervisor has handed over its numbers
//! or has had the time to. Owns what is counted of answers, by route, status and reason. Walks
//! nothing.

use std::cell::RefCell;
use std::fs;
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::api::Reply;
use crate::api::metrics::{self, Format, Sample};
use crate::api::routes::ROUTES;
use crate::budget::Kind;
use crate::config::timeouts;
use crate::log::SLOT_BYTES;
use crate::metrics::Histogram;

use crate::io::server::Server;
use crate::io::watchdog;

/// What is counted of answers.
#[derive(Debug)]
pub(super) struct Answers {
    /// How long they took to begin, by place in the table of routes.
    routes: Vec<Histogram>,
    statuses: RefCell<Vec<(u16, u64)>>,
    refusals: RefCell<Vec<(&'static str, u64)>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            routes: ROUTES.iter().map(|_| Histogram::default()).collect(),
            statuses: RefCell::default(),
            refusals: RefCell::default(),
        }
    }
}

impl Answers {
    /// An answer begins to a request that was understood at `since` as one for this route; None for
    /// one that was refused before.
    pub(super) fn begins(&self, route: Option<usize>, since: Instant, reply: &Reply) {
        if let Some(took) = route.and_then(|route| self.routes.get(route)) {
            took.observe(since.elapsed());
        }
        self.counts(reply);
    }

    /// An answer that is to no request, too.
    pub(super) fn counts(&self, reply: &Reply) {
        add(&mut self.statuses.borrow_mut(), reply.status);
        if reply.status >= 400 {
            add(&mut self.refusals.borrow_mut(), reason(reply));
        }
    }
}

/// Few are told apart, and the same ones come again and again.
fn add<T: Copy + PartialEq>(all: &mut Vec<(T, u64)>, what: T) {
    match all.iter_mut().find(|(known, _)| *known == what) {
        Some((_, count)) => *count += 1,
        None => all.push((what, 1)),
    }
}

/// Answers without a problem have their cause in their status.
pub(super) fn reason(reply: &Reply) -> &'static str {
    reply.reason.unwrap_or(match reply.status {
        405 => "method_not_allowed",
        408 => "too_slow",
        414 | 431 => "head_too_long",
        _ => "malformed",
    })
}

/// Answers with what is counted.
pub(super) async fn answer(server: &Server, format: Format) -> Reply {
    let supervisor_answers = watchdog::look(server, timeouts::WATCHDOG_MAX).await;
    let (counts, slots) = {
        let table = server.table.borrow();
        let arena = table.arena();
        let hot = arena.hot() as u64;
        (
            table.counts(),
            [arena.in_use().into(), hot, arena.slots().into()],
        )
    };
    let requests = ROUTES.iter().zip(&server.answers.routes);
    let requests = requests.map(|(route, took)| (route.path, route.verb.name(), took.get()));
    let info = server.info.borrow();
    let budget = &server.budget;
    let sample = Sample {
        uring: info.uring,
        started_at_ms: info.started_at.0,
        counts,
        queued_runs: server.runs.queued(),
        memory: [
            ("output", budget.slots() + budget.held(Kind::Index)),
            ("bodies", budget.held(Kind::Bodies)),
            ("answers", budget.held(Kind::Answers)),
            ("records", budget.held(Kind::Records)),
        ],
        memory_max: budget.max(),
        connections: (server.connections.get(), server.connections_max.get()),
        slots,
        slot_bytes: SLOT_BYTES as u64,
        resident_bytes: resident_bytes(),
        cpu_seconds: cpu_seconds(),
        descriptors_max: getrlimit(Resource::Nofile).current,
        supervisor_answers,
        supervisor: server.watchdog.last(),
        is_ending: server.shutting_down.get(),
        requests: requests.filter(|(_, _, took)| took.count() > 0).collect(),
        statuses: sorted(&server.answers.statuses),
        refusals: sorted(&server.answers.refusals),
        server_deaths: server
            .table
            .borrow()
            .kept()
            .map(|kept| kept.records().deaths()),
        damages: server
            .table
            .borrow()
            .kept()
            .map(|kept| kept.records().lost()),
        lines_dropped: server.lines_lost(),
    };
    metrics::reply(&sample, format)
}

fn sorted<T: Copy + Ord>(all: &RefCell<Vec<(T, u64)>>) -> Vec<(T, u64)> {
    let mut all = all.borrow().clone();
    all.sort_unstable();
    all
}

/// Not from `statm`, which counts pages: how large one is cannot be asked everywhere. Before kernel 6.4
/// rustix reads `/proc/self/auxv` for it, which is root's alone once the server is not dumpable, and
/// panics.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(spent.tv_nsec).unwrap_or(0);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or(0);
    std::time::Duration::new(seconds, nanos).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_their_status_and_refusals_by_their_reason() {
        let answers = Answers::default();
        let now = Instant::now();
        answers.begins(Some(0), now, &Reply::new(200));
        answers.begins(Some(ROUTES.len()), now, &Reply::new(200));
        answers.begins(None, now, &Reply::new(405));
        let problem = crate::api::Problem::unauthorized().reply();
        answers.begins(None, now, &problem);
        answers.counts(&Reply::new(431));
        assert_eq!(answers.routes[0].get().count(), 1);
        assert_eq!(
            sorted(&answers.statuses),
            [(200, 2), (401, 1), (405, 1), (431, 1)]
        );
        assert_eq!(
            sorted(&answers.refusals),
            [
                ("head_too_long", 1),
                ("method_not_allowed", 1),
                ("token_invalid", 1)
            ]
        );
    }
}
