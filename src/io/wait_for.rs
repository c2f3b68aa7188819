//! `GET …/wait`: until a process exits, writes a text, or listens on a port.
//!
//! In: what is waited for. Out: the answer. A waiter for the exit is woken by changes of the life of
//! its process only, one for a text by every output, one for a port by the supervisor, which looks.

use std::future::ready;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Instant;

use crate::api::wait::{Ended, Until, Wait, reply};
use crate::api::{Problem, Reply};
use crate::config::timeouts;
use crate::log::find::{Search, Step};
use crate::process::Notify;
use crate::process::life::State;
use crate::process::searches::Place;
use crate::types::{Monotonic, ProcessId};

use crate::io::conn::reader::Reader;
use crate::io::ports::Waiting;
use crate::io::runtime::lane::PIECE;
use crate::io::runtime::race::{First, race};
use crate::io::runtime::timer::{instant, sleep_until};
use crate::io::server::Server;
use crate::io::usage::usage_of;
use crate::io::wait::{Limits, Waited, for_client, until};

/// What one step of a search looks at, in bytes: some ten microseconds.
const SEARCH_WORK: usize = 64 << 10;

/// Waits, and answers with how that ended; None if the client is gone.
pub(super) async fn wait_for(
    server: &Rc<Server>,
    id: ProcessId,
    wait: Box<Wait>,
    client: &mut Reader,
) -> Option<Reply> {
    let deadline = Instant::now() + wait.timeout;
    let limits = Limits {
        in_all: None,
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    let wants_usage = wait.usage;
    let ended = match wait.until {
        Until::Exit => {
            let exited = pin!(exited(server, id, deadline));
            for_client(pin!(unless_ending(server, exited)), limits, client).await
        }
        Until::Text(search) => {
            let mut found = Box::pin(found(server, id, *search, deadline));
            let found = found.as_mut();
            for_client(pin!(unless_ending(server, found)), limits, client).await
        }
        Until::Port(port) => {
            let mut listens = Box::pin(listens(server, id, port, deadline));
            let listens = listens.as_mut();
            for_client(pin!(unless_ending(server, listens)), limits, client).await
        }
    };
    let ended = match ended {
        Waited::Done(ended) => ended,
        Waited::TimeUp => Ended::Timeout,
        Waited::Gone => return None,
    };
    let job = server.table.borrow().get(id).map(|process| process.job);
    let usage = match job.filter(|_| wants_usage) {
        // Boxed: what is asked for seldom must not make every wait large.
        Some(job) => Box::pin(usage_of(server, job, client)).await?,
        None => None,
    };
    Some(match server.table.borrow().get(id) {
        None => Problem::from(id).reply(),
        Some(process) => reply(process, ended, usage),
    })
}

/// What `what` comes to; a timeout when the server is told to end. What was so before is said, and
/// nothing that only its ending has brought about.
async fn unless_ending<F: Future<Output = Ended>>(server: &Server, mut what: Pin<&mut F>) -> Ended {
    if let First::Left(ended) = race(what.as_mut(), pin!(ready(()))).await {
        return ended;
    }
    let ending = until(|| match server.shutting_down.get() {
        true => Ok(()),
        false => Err(server.ending.clone()),
    });
    match race(pin!(ending), what).await {
        First::Left(()) => Ended::Timeout,
        First::Right(ended) => ended,
    }
}

/// A record that is gone ends every wait: its answer is 404, whatever the wait says.
async fn exited(server: &Server, id: ProcessId, deadline: Instant) -> Ended {
    let exited = until(|| match server.table.borrow_mut().get_mut(id) {
        Some((process, _)) if process.life.is_running() => Err(process.life_changes()),
        _ => Ok(()),
    });
    match race(pin!(exited), pin!(sleep_until(deadline))).await {
        First::Left(()) => Ended::Exited,
        First::Right(()) => Ended::Timeout,
    }
}

/// What a waiter for a text does next.
enum Next {
    End(Ended),
    Search,
    Wait {
        changed: Notify,
        seen: u64,
        until: Instant,
    },
}

async fn found(server: &Server, id: ProcessId, mut search: Search, deadline: Instant) -> Ended {
    // What has been written when the wait begins is looked at, however short it is.
    let (place, written) = match server.table.borrow_mut().get_mut(id) {
        Some((process, _)) => (process.begin_search(), process.log.last()),
        None => return Ended::Exited,
    };
    loop {
        server.searches.turn().await;
        match look(server, id, (&mut search, &place), written, deadline) {
            Next::End(ended) => return ended,
            Next::Search => {}
            Next::Wait {
                changed,
                seen,
                until,
            } => {
                let changed = pin!(changed.changed(seen));
                race(changed, pin!(sleep_until(until))).await;
            }
        }
    }
}

fn look(
    server: &Server,
    id: ProcessId,
    (search, place): (&mut Search, &Place),
    written: u64,
    deadline: Instant,
) -> Next {
    let table = server.table.borrow();
    let Some(process) = table.get(id) else {
        return Next::End(Ended::Exited);
    };
    let begun = Instant::now();
    let step = loop {
        let step = search.step(&process.log, table.arena(), SEARCH_WORK);
        if step != Step::More || begun.elapsed() >= PIECE {
            break step;
        }
    };
    place.moved(search, &process.log);
    server.searches.spent(begun.elapsed());
    match step {
        Step::Found { sequence } => return Next::End(Ended::Found { sequence }),
        Step::More if begun < deadline || search.position() <= written => return Next::Search,
        Step::More => return Next::End(Ended::Timeout),
        Step::Nothing => {}
    }
    if process.life.is_complete(Monotonic::now()) {
        return Next::End(Ended::Exited);
    }
    if begun >= deadline {
        return Next::End(Ended::Timeout);
    }
    let complete = match process.life.state() {
        State::Over { complete_at, .. } => instant(complete_at),
        _ => deadline,
    };
    Next::Wait {
        changed: process.changed.clone(),
        seen: process.changed.version(),
        until: deadline.min(complete),
    }
}

/// A tree goes on listening after its leader has exited, and may begin to: a daemon that has put
/// itself into the background. So the wait goes on while somebody of it is alive.
async fn listens(server: &Server, id: ProcessId, port: u16, deadline: Instant) -> Ended {
    let Some(job) = server.table.borrow().get(id).map(|process| process.job) else {
        return Ended::Exited;
    };
    let waiting = Waiting::new(server, job, port);
    let nobody_left = until(|| match server.table.borrow_mut().get_mut(id) {
        Some((process, _)) if process.life.is_running() || process.life.left() > 0 => {
            Err(process.life_changes())
        }
        _ => Ok(()),
    });
    let opened = until(|| match waiting.is_open() {
        true => Ok(()),
        false => Err(waiting.changes()),
    });
    let over = async {
        sleep_until(deadline).await;
        let looked = until(|| match waiting.is_looked_at() {
            true => Ok(()),
            false => Err(waiting.changes()),
        });
        let at_last = sleep_until(Instant::now() + timeouts::PORT_LOOK_MAX);
        race(pin!(looked), pin!(at_last)).await;
    };
    let end = pin!(async {
        match race(pin!(nobody_left), pin!(over)).await {
            First::Left(()) => Ended::Exited,
            First::Right(()) => Ended::Timeout,
        }
    });
    match race(pin!(opened), end).await {
        First::Left(()) => Ended::Listens,
        First::Right(ended) => ended,
    }
}
