//! What takes time and then has one answer.
//!
//! In: what a request came to. Out: its answer, or nothing if the client is gone. Each of these
//! waits watches the client (`io::wait`).

use std::path::PathBuf;

use crate::api::health::healthz;
use crate::api::logs::AwaitEntry;
use crate::api::{self, Core, Outcome, Problem, Reply};
use crate::config::timeouts;

use super::Conn;
use super::receive::Request;
use super::standing::Doing;
use crate::io::control::{delete, resize, signal_and_wait};
use crate::io::entry::await_entry;
use crate::io::host::create::create;
use crate::io::host::input::Offer;
use crate::io::metrics;
use crate::io::runtime;
use crate::io::screen;
use crate::io::server_info::server_info;
use crate::io::signal::signal;
use crate::io::stdin::{close, input};
use crate::io::upgrade;
use crate::io::watchdog;

impl Conn {
    /// Everything that takes time and then has one answer; None if the client is gone.
    pub(super) async fn carry_out(&mut self, outcome: Outcome) -> Option<Reply> {
        let server = self.server.clone();
        match outcome {
            Outcome::Create {
                job,
                launch,
                terminal,
                deadline,
                stdin,
            } => {
                let client = &mut self.reader;
                create(&server, job, launch, terminal, deadline, stdin, client).await
            }
            Outcome::Signal { id, signal, wait } => {
                signal_and_wait(&server, id, signal, wait, &mut self.reader).await
            }
            Outcome::ServerInfo => server_info(&server, &mut self.reader).await,
            Outcome::Upgrade { binary } => self.upgraded(binary).await,
            Outcome::Healthz => {
                let answers = watchdog::look(&server, timeouts::WATCHDOG_MAX).await;
                Some(healthz(answers))
            }
            Outcome::Metrics(format) => Some(metrics::answer(&server, format).await),
            Outcome::Send { id, signalling } => {
                signal(&server, id, signalling, &mut self.reader).await
            }
            Outcome::Input {
                id,
                data,
                offset,
                eof,
            } => {
                let data = &data;
                input(&server, id, Offer { data, offset, eof }, &mut self.reader).await
            }
            Outcome::CloseStdin { id } => close(&server, id, &mut self.reader).await,
            Outcome::Screen { id, query } => {
                Box::pin(screen::answer(&server, id, query, &mut self.reader)).await
            }
            Outcome::Resize { id, size } => Some(resize(&server, id, size)),
            Outcome::Delete { id, tree } => delete(&server, id, tree, &mut self.reader).await,
            // Answered by the caller.
            Outcome::Run(_)
            | Outcome::Reply(_)
            | Outcome::AwaitEntry(_)
            | Outcome::Bytes(_)
            | Outcome::Stdin { .. }
            | Outcome::Fetch(_)
            | Outcome::List(_)
            | Outcome::Usage(_)
            | Outcome::Events { .. }
            | Outcome::Wait { .. }
            | Outcome::Stream(..)
            | Outcome::Follow { .. }
            | Outcome::Attach { .. }
            | Outcome::Recording { .. }
            | Outcome::Terminal { .. } => None,
        }
    }

    /// Has another program take over. The answer is that server's; this one has it only if it goes on.
    pub(super) async fn upgraded(&mut self, binary: Option<PathBuf>) -> Option<Reply> {
        let server = self.server.clone();
        let refused = |why: String| Some(Problem::not_upgraded(why).reply());
        if let Some(standing) = &self.standing {
            if standing.take_asked() {
                return match upgrade::arrived(&server) {
                    Ok(()) => server_info(&server, &mut self.reader).await,
                    Err(why) => refused(why),
                };
            }
            standing.asks.set(true);
            self.does(Doing::Waits);
        }
        // Whoever has asked may go: it goes on.
        let asked = runtime::spawn(async move { upgrade::upgrade(&server, binary).await });
        let Err(why) = asked.await;
        self.does(Doing::Answers);
        refused(why)
    }

    /// Waits for an entry and gives the answer; None if the client is gone. Whoever asks for the
    /// head only does not wait.
    pub(super) async fn await_entry(
        &mut self,
        request: &Request,
        mut wait: Box<AwaitEntry>,
    ) -> Option<Outcome> {
        if !request.head_only && !await_entry(&self.server, &mut wait, &mut self.reader).await {
            return None;
        }
        let mut settings = self.server.settings.get();
        let rules = self.server.rules();
        let mut core = Core {
            settings: &mut settings,
            table: &mut self.server.table.borrow_mut(),
            shutting_down: self.server.shutting_down.get(),
            strict: request.strict,
            stdin_default: rules.stdin_default,
            limits: &rules.limits,
            users: &rules.users,
        };
        let answer = api::logs::answer(wait.id, &wait.query, &mut core);
        Some(answer.unwrap_or_else(Outcome::from))
    }
}
