//! What the supervisor reports, as events in the lives of jobs.

use std::rc::Rc;

use crate::journal;
use crate::metrics::metrics;
use crate::process::life;
use crate::supervisor::mailbox::Receiver;
use crate::supervisor::message::Event;
use crate::types::{Monotonic, UnixMs};

use crate::io::host::effects::happen;
use crate::io::host::resume::damaged;
use crate::io::host::tally;
use crate::io::runtime;
use crate::io::runtime::source::Source;
use crate::io::server::Server;
use crate::io::upgrade::upgrade;
use crate::io::watchdog;

/// Handles events until [`Event::AllGone`]; `bell` is a duplicate of their doorbell.
///
/// # Errors
/// When the doorbell cannot be waited for.
pub(crate) async fn handle(
    server: Rc<Server>,
    events: Receiver<Event>,
    bell: Source,
) -> std::io::Result<()> {
    loop {
        bell.readable().await?;
        let batch: Vec<Event> = events.drain().collect();
        for event in batch {
            let mut seen_exit = None;
            let (job, event) = match event {
                Event::Spawned { job, pid } => {
                    let outputs = server.outputs_of(job);
                    (job, life::Event::Spawned { pid, outputs })
                }
                Event::SpawnFailed { job, error } => {
                    tally::failed(&server, job);
                    (job, life::Event::SpawnFailed(error))
                }
                Event::Exited {
                    job,
                    seen,
                    exit,
                    left,
                } => {
                    tally::ended(&server, job, Some(exit.status));
                    seen_exit = Some(seen);
                    (job, life::Event::Exited { exit, left })
                }
                Event::FoundLate => {
                    server.tell_seldom(journal::Event::LeftEnded {
                        of: "a run",
                        id: None,
                        reason: "found_late",
                        why: "it was found only after the answer",
                    });
                    continue;
                }
                Event::Left { job, left } => (job, life::Event::Left(left)),
                Event::TimedOut { job, status } => {
                    tally::ended(&server, job, status);
                    (job, life::Event::TimedOut(status))
                }
                Event::Limits(kept) => {
                    let (missing, refusal) = server.info.borrow_mut().learn_limits(kept);
                    let told = missing.iter().map(|of| journal::Event::Told(of));
                    let warned = refusal.iter().map(|of| journal::Event::Warning(of));
                    told.chain(warned).for_each(|event| server.tell(&event));
                    continue;
                }
                Event::Groups(groups) => {
                    let is_said = server.info.borrow_mut().learn_groups(groups.clone());
                    match &groups {
                        _ if !is_said => {}
                        Ok(()) => server.tell(&journal::Event::Groups),
                        Err(sentence) => server.tell(&journal::Event::Told(sentence)),
                    }
                    server.groups_known.notify();
                    continue;
                }
                Event::Port { watch, open } => {
                    server.ports.seen(watch, open);
                    continue;
                }
                Event::Used { ticket, used } => {
                    server.counts.answer(ticket, used);
                    continue;
                }
                Event::OutOfMemory { job } => {
                    server.table.borrow_mut().out_of_memory(job, UnixMs::now());
                    continue;
                }
                Event::Damaged { job } => {
                    let what = "the number of its first process is lost; its tree is ended";
                    damaged(&server, job, what);
                    continue;
                }
                Event::Signalled { ticket, result } => {
                    server.signals.answer(ticket, result);
                    continue;
                }
                Event::Pong(metrics) => {
                    watchdog::passed(&server, *metrics);
                    continue;
                }
                Event::ShuttingDown => {
                    watchdog::stopping(&server);
                    server.shutting_down.set(true);
                    server.tell_stopping();
                    server.ending.notify();
                    continue;
                }
                Event::Reload => {
                    server.reload();
                    continue;
                }
                Event::Upgrade => {
                    let server = server.clone();
                    // It tells what comes of it.
                    runtime::spawn(async move { upgrade(&server, None).await.err() });
                    continue;
                }
                Event::AllGone => {
                    server.all_gone.set(true);
                    server.counts.end();
                    server.tell_stopped();
                    server.table.borrow().history().changes().notify();
                    return Ok(());
                }
            };
            happen(&server, job, event);
            if let Some(seen) = seen_exit {
                metrics(|all| all.exit_notice.observe(Monotonic::now().since(seen)));
            }
        }
    }
}
