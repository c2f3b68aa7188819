//! Runs one connection: read a request, ask `api`, answer; again.
//!
//! In: a socket. Out: answers in the order of the requests. Owns the time limits of a connection.
//!
//! An answer is sent before the next request is looked at, so pipelined requests are answered in
//! order. Whatever cannot be framed any more ends with `connection: close` and a lingering close,
//! so that the answer is not lost to a reset.

pub(crate) mod body;
pub(crate) mod fetch;
mod list;
pub(crate) mod listener;
pub(super) mod open;
pub(crate) mod ran;
pub(crate) mod reader;
pub(crate) mod receive;
mod request_id;
mod send;
pub(crate) mod standing;
mod stream;
mod unread;
pub(crate) mod writer;

use std::future::{Future, ready};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use crate::api::access::{Credential, Peer};
use crate::api::attach::AttachQuery;
use crate::api::bytes::Bytes;
use crate::api::health::healthz;
use crate::api::idempotency::{Name, REPLAYED};
use crate::api::list::List;
use crate::api::logs::{AwaitEntry, Fetch};
use crate::api::query::{StdinQuery, TerminalQuery};
use crate::api::run::Run;
use crate::api::stream::Form;
use crate::api::wait::Wait;
use crate::api::{self, Action, BodyPolicy, Core, Outcome, Plan, Problem, Reply};
use crate::budget::{Charge, Kind};
use crate::config::timeouts;
use crate::journal::Event;
use crate::ledger::heritage::Connection;
use crate::log::Cursor;
use crate::types::ProcessId;
use crate::wire::http::head::BodyFraming;
use crate::wire::http::response::Length;
use crate::wire::ws::handshake::Accept;

use self::receive::{BODY_BYTES_MAX, Received, Request};
use self::standing::{Doing, Had, Standing, Wanted};
use crate::io::attach::attach;
use crate::io::audit::Change;
use crate::io::bytes::send;
use crate::io::conn::fetch::{Held, fetch};
use crate::io::conn::list::send_list;
use crate::io::conn::ran::{measure, send_long};
use crate::io::conn::reader::{Filled, Reader};
use crate::io::conn::writer::Writer;
use crate::io::control::{delete, resize, signal_and_wait};
use crate::io::entry::await_entry;
use crate::io::events::{Watch, events};
use crate::io::follow::follow;
use crate::io::host::begun::Handed;
use crate::io::host::create::create;
use crate::io::host::input::Offer;
use crate::io::host::run::{Answered, Long, carry_out, go_on};
use crate::io::memory::SMALL_BYTES;
use crate::io::metrics;
use crate::io::recording::record;
use crate::io::repeats::{self, Answer, Repeat, Waiting};
use crate::io::runtime;
use crate::io::runtime::socket::{Splitable, TcpStream};
use crate::io::runtime::timer::within;
use crate::io::runtime::turn::Turn;
use crate::io::screen;
use crate::io::server::Server;
use crate::io::server_info::server_info;
use crate::io::signal::signal;
use crate::io::stdin::{Announced, close, input, upload};
use crate::io::strangers;
use crate::io::terminal;
use crate::io::upgrade;
use crate::io::usage;
use crate::io::wait_for::wait_for;
use crate::io::watchdog;

/// After the last answer no more than this is read of what the peer still sends.
const LINGER_BYTES: usize = 4 << 20;

/// What becomes of the connection behind an answer (RFC 9112, 9.3 and 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persistence {
    /// Another request may follow.
    Persist,
    /// It is closed when the peer has had time to read the answer.
    Linger,
    /// It is closed: there is nothing more to say, or nobody to say it to.
    Close,
}

/// What is held of a body that is passed on, at most. README, "Limits".
const UPLOAD_BYTES: u64 = 256 << 10;

/// What is left to do once a request has been understood.
enum Stage {
    /// It has been answered.
    Over(Persistence),
    /// It is carried out if it has not been before.
    Once(Box<Request>, Box<Once>),
    /// It is answered with what others are; whether it was asked for before.
    Joins(Box<Request>, Waiting, bool),
    /// Its body is passed on as it comes.
    Upload(Box<Request>, ProcessId, StdinQuery),
    /// Its answer begins with its program.
    Run(Box<Request>, Box<Run>, Form, Option<Charge>),
    /// It has begun already.
    Resumed(Box<Request>, Box<Handed>),
    /// Its answer is a long list.
    List(Box<Request>, Box<List>),
    /// Its answer is made of what the run wrote, piece by piece.
    Ran(Box<Request>, Box<Long>),
    /// Its answer is long.
    Fetch(Box<Request>, Fetch),
    /// It is answered when a process has come so far.
    Wait(Box<Request>, ProcessId, Box<Wait>),
    /// Its answer is bytes of a log.
    Bytes(Box<Request>, Box<Bytes>),
    /// Its answer goes on for as long as the server runs.
    Events(Box<Request>, Box<Watch>),
    /// Its answer goes on for as long as the process runs.
    Follow(Box<Request>, ProcessId, Box<Cursor>),
    /// Its answer is the recording of a terminal.
    Recording(Box<Request>, ProcessId, bool),
    /// It becomes a WebSocket.
    Upgrade(Box<Request>, Box<Upgrade>),
}

/// A request with a key.
struct Once {
    name: Box<Name>,
    action: Action,
    received: Received,
}

/// What an upgrade needs.
struct Upgrade {
    id: ProcessId,
    to: Socket,
    accept: Accept,
}

/// What a WebSocket is for.
enum Socket {
    Terminal(TerminalQuery),
    Attach(AttachQuery),
}

/// A connection and what belongs to it.
pub(crate) struct Conn {
    server: Rc<Server>,
    /// The other end.
    peer: Peer,
    /// It has come to where only metrics are.
    for_metrics: bool,
    reader: Reader,
    writer: Writer,
    /// It counts among [`Server::busy`].
    busy: bool,
    /// Where it stands, if there is a keeper.
    standing: Option<Rc<Standing>>,
    /// Nobody has been let in on it yet.
    stranger: Option<strangers::Number>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        if let Some(number) = self.stranger.take() {
            self.server.strangers(self.for_metrics).gone(number);
        }
        self.set_busy(false);
        if self.standing.is_some() {
            let socket = self.reader.socket();
            self.server.standing.borrow_mut().remove(&socket);
        }
    }
}

/// Something that a connection is busy with. Boxed, so that a connection carries room for the stage
/// it is in and no other: an idle one waits in `head`, a follower in `follow`.
type Lasting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Serves one connection to its end.
pub(crate) async fn serve(mut conn: Box<Conn>) {
    loop {
        conn.set_busy(false);
        conn.does(Doing::Rests);
        // Nothing but the connection is kept over a wait here: `begin` and `go_on` take the rest.
        let mut head = conn.head().await;
        if conn.server.holds.get() {
            conn.does(Doing::Waits);
            let server = conn.server.clone();
            let held = Box::pin(async move {
                server.begins().await;
                head
            });
            head = held.await;
        }
        conn.does(Doing::Answers);
        let stage = conn.begin(head).await;
        let persistence = match conn.go_on(stage) {
            Ok(persistence) => persistence,
            Err(doing) => doing.await,
        };
        match persistence {
            Persistence::Persist => {}
            Persistence::Linger => return Box::pin(conn.linger()).await,
            Persistence::Close => {
                if conn.writer.has_stalled() {
                    conn.server.tell_dropped(None, "stalled");
                }
                return;
            }
        }
    }
}

/// Answers one request with 503 and closes.
pub(crate) async fn refuse(mut conn: Box<Conn>) {
    conn.does(Doing::Answers);
    if conn.bare_reply(too_many().reply()).await == Persistence::Linger {
        conn.linger().await;
    }
}

fn too_many() -> Problem {
    Problem::unavailable("too many connections", Some("limit_reached")).because("max_connections")
}

impl Conn {
    /// Of a socket that has been accepted.
    pub(crate) fn new(
        server: Rc<Server>,
        stream: TcpStream,
        peer: Peer,
        for_metrics: bool,
    ) -> Box<Self> {
        let socket = stream.as_raw_fd();
        let (read, write) = stream.into_split();
        let turn = Rc::new(Turn::default());
        let budget = server.budget.clone();
        let standing = server.options.upgrades.as_ref().map(|_| {
            let standing = Standing::new(socket, peer == Peer::Starter, for_metrics);
            let mut all = server.standing.borrow_mut();
            all.insert(socket, standing.clone());
            standing
        });
        let stranger = Some(server.strangers(for_metrics).come(socket));
        Box::new(Self {
            stranger,
            server,
            peer,
            for_metrics,
            standing: standing.clone(),
            reader: Reader::new(read, socket, turn.clone(), standing),
            writer: Writer::new(write, socket, turn, budget),
            busy: false,
        })
    }

    /// Of a socket that another program has handed over.
    pub(crate) fn goes_on_with(&mut self, mut about: Connection, run: Option<Had>) {
        let unread = std::mem::take(&mut about.bytes);
        if let Some(standing) = &self.standing {
            standing.was(&about, run);
        }
        self.reader.goes_on_with(unread);
    }

    /// Notes what it is doing.
    fn does(&self, doing: Doing) {
        if let Some(standing) = &self.standing {
            standing.does(doing, self.reader.bytes());
        }
    }

    /// Another server could not go on with what it is doing any more.
    fn answers(&self) {
        if let Some(standing) = &self.standing {
            standing.answers();
        }
    }

    /// Whoever asks this may ask: its connection is no stranger's any more.
    fn let_in(&mut self, plan: &Plan) {
        let is_known = plan.caller.credential != Credential::None
            || self.peer == Peer::Starter
            || !self.server.rules().guard(self.for_metrics).has_token();
        if let Some(number) = self.stranger
            && is_known
            && !self.for_metrics
            && self.server.strangers(false).let_in(number)
        {
            self.stranger = None;
        }
    }

    /// Notes that its head is not finished, and has so many bytes; 0 once it is. False if the
    /// connection has to go.
    fn hold_head(&self, bytes: usize) -> bool {
        self.stranger.is_none_or(|number| {
            let strangers = self.server.strangers(self.for_metrics);
            strangers.hold_head(number, bytes as u64, &self.server.budget)
        })
    }

    /// Begins with a request.
    fn begin(
        &mut self,
        head: Result<(Box<Request>, Result<Plan, Reply>), Persistence>,
    ) -> Lasting<'_, Stage> {
        match head {
            Ok((request, plan)) => {
                self.set_busy(true);
                Box::pin(self.answer(request, plan))
            }
            Err(persistence) => Box::pin(ready(Stage::Over(persistence))),
        }
    }

    /// What comes next, or what has to be done before that is known.
    fn go_on(&mut self, stage: Stage) -> Result<Persistence, Lasting<'_, Persistence>> {
        let doing = match &stage {
            Stage::Over(persistence) => return Ok(*persistence),
            Stage::Once(..)
            | Stage::Joins(..)
            | Stage::Upload(..)
            | Stage::Run(..)
            | Stage::Resumed(..) => Doing::Answers,
            Stage::Wait(..) => Doing::Waits,
            Stage::List(..) | Stage::Ran(..) | Stage::Fetch(..) => Doing::Sends,
            Stage::Bytes(_, bytes) if !bytes.follow => Doing::Sends,
            Stage::Bytes(..)
            | Stage::Events(..)
            | Stage::Follow(..)
            | Stage::Recording(..)
            | Stage::Upgrade(..) => Doing::Streams,
        };
        // Until then it answers.
        if doing != Doing::Answers {
            self.does(doing);
        }
        Err(match stage {
            Stage::Over(persistence) => return Ok(persistence),
            Stage::Once(request, once) => Box::pin(self.once(request, *once)),
            Stage::Joins(request, waiting, replayed) => {
                Box::pin(self.joins(request, waiting, replayed))
            }
            Stage::Upload(request, id, query) => Box::pin(self.upload(request, id, query)),
            Stage::List(request, list) => Box::pin(self.list(request, list)),
            Stage::Ran(request, long) => Box::pin(self.ran(request, long)),
            Stage::Fetch(request, fetch) => Box::pin(self.fetch(request, fetch)),
            Stage::Events(request, watch) => Box::pin(self.events(request, *watch)),
            Stage::Wait(request, id, wait) => Box::pin(self.wait(request, id, wait)),
            Stage::Bytes(request, bytes) => Box::pin(self.bytes(request, bytes)),
            Stage::Run(request, run, form, charge) => {
                Box::pin(self.stream(request, run, form, charge))
            }
            Stage::Resumed(request, handed) => Box::pin(self.stream_on(request, *handed)),
            Stage::Follow(request, id, cursor) => Box::pin(self.follow(request, id, cursor)),
            Stage::Recording(request, id, follow) => Box::pin(self.recording(request, id, follow)),
            Stage::Upgrade(request, upgrade) => Box::pin(self.upgrade(request, upgrade)),
        })
    }

    /// Notes whether it has a request to answer.
    fn set_busy(&mut self, busy: bool) {
        match (std::mem::replace(&mut self.busy, busy), busy) {
            (false, true) => self.server.busy.begin(),
            (true, false) => self.server.busy.end(),
            _ => {}
        }
        if let Some(number) = self.stranger {
            self.server
                .strangers(self.for_metrics)
                .answers(number, busy);
        }
    }

    /// Reads the body of a request and carries it out.
    async fn answer(&mut self, mut request: Box<Request>, plan: Result<Plan, Reply>) -> Stage {
        let standing = self.standing.as_ref();
        let had = standing.and_then(|standing| standing.take_run());
        if had.is_some() {
            // Another server has read its body.
            request.framing = BodyFraming::Empty;
        }
        if let Ok(plan) = &plan {
            self.let_in(plan);
            request.change = Change::of(&self.server, plan, &self.told(&request));
        }
        let Plan {
            action,
            body: policy,
            caller: _,
            route: _,
            repeat,
        } = match plan {
            Ok(plan) => plan,
            Err(reply) => return Stage::Over(self.refuse_body_and_reply(request, reply).await),
        };
        // Whatever the request comes to now: nothing else goes on with what it had.
        let body = match had {
            None => None,
            Some(Had::InLine(body)) => Some(body),
            Some(had) => return Box::pin(self.goes_on(request, had)).await,
        };
        let received = match policy {
            BodyPolicy::Stream => Ok(Received::default()),
            BodyPolicy::Read if body.is_some() => {
                let charge = None;
                let body = body.unwrap_or_default();
                Ok(Received { body, charge })
            }
            BodyPolicy::Ignore | BodyPolicy::Read => self.body(&request, policy).await,
        };
        let received = match received {
            Ok(received) => received,
            Err(None) => return Stage::Over(Persistence::Close),
            Err(Some(problem)) => {
                request.close = true;
                return Stage::Over(self.reply(&request, problem.reply()).await);
            }
        };
        if let Some(name) = repeat {
            let once = Once {
                name,
                action,
                received,
            };
            return Stage::Once(request, Box::new(once));
        }
        // What it becomes is charged until it is gone: a run takes the charge with it.
        let Received { body, charge } = received;
        let outcome = self.execute(action, &body, &request);
        match (&outcome, &self.standing) {
            (Outcome::Run(_) | Outcome::Stream(..), Some(standing)) => {
                let held = self.server.budget.hold(Kind::Bodies, body.len() as u64);
                let wanted = Rc::<Wanted>::default();
                wanted.asks(body, held, Duration::ZERO);
                standing.asks_for_run(wanted, false, self.reader.bytes());
            }
            _ => drop(body),
        }
        let outcome = match outcome {
            Outcome::AwaitEntry(wait) => match Box::pin(self.await_entry(&request, wait)).await {
                Some(outcome) => outcome,
                None => return Stage::Over(Persistence::Close),
            },
            Outcome::Usage(asked) => {
                let counted = usage::answer(&self.server, asked, &mut self.reader);
                match Box::pin(counted).await {
                    Some(outcome) => outcome,
                    None => return Stage::Over(Persistence::Close),
                }
            }
            other => other,
        };
        let reply = match outcome {
            Outcome::Reply(reply) if policy == BodyPolicy::Stream => {
                return Stage::Over(self.refuse_body_and_reply(request, reply).await);
            }
            Outcome::Reply(reply) => reply,
            Outcome::Run(run) => {
                let answered = carry_out(&self.server, run, charge, &mut self.reader).await;
                self.answers();
                match answered {
                    Some(Answered::Whole(reply)) => reply,
                    Some(Answered::Long(long)) => return Stage::Ran(request, long),
                    None => return Stage::Over(Persistence::Close),
                }
            }
            Outcome::Upgrade { .. } if request.framing != BodyFraming::Empty => {
                // The request is begun again by another server, which sees its head only.
                Problem::invalid("an upgrade has no body; binary stands in the query").reply()
            }
            Outcome::Stdin { id, query } => return Stage::Upload(request, id, query),
            Outcome::Stream(run, form) => return Stage::Run(request, run, form, charge),
            Outcome::Fetch(fetch) => return Stage::Fetch(request, fetch),
            Outcome::List(list) => return Stage::List(request, list),
            Outcome::Bytes(bytes) => return Stage::Bytes(request, bytes),
            Outcome::Events {
                seen,
                labels,
                activity,
            } => {
                let watch = Watch {
                    seen,
                    labels,
                    activity,
                };
                return Stage::Events(request, watch.into());
            }
            Outcome::Wait { id, wait } => return Stage::Wait(request, id, Box::new(wait)),
            Outcome::Follow { id, cursor } => return Stage::Follow(request, id, cursor.into()),
            Outcome::Recording { id, follow } => return Stage::Recording(request, id, follow),
            Outcome::Terminal { id, query, accept } => {
                let to = Socket::Terminal(query);
                return Stage::Upgrade(request, Box::new(Upgrade { id, to, accept }));
            }
            Outcome::Attach { id, query, accept } => {
                let to = Socket::Attach(query);
                return Stage::Upgrade(request, Box::new(Upgrade { id, to, accept }));
            }
            other => match self.carry_out(other).await {
                Some(reply) => reply,
                None => return Stage::Over(Persistence::Close),
            },
        };
        Stage::Over(self.reply(&request, reply).await)
    }

    /// Goes on with a run that another server has begun.
    async fn goes_on(&mut self, request: Box<Request>, had: Had) -> Stage {
        let handed = match had {
            Had::Begun(handed) => handed,
            Had::Joins(waiting, is_repeat) => return Stage::Joins(request, waiting, is_repeat),
            Had::InLine(_) | Had::Lost => return Stage::Over(Persistence::Close),
        };
        if let Some(change) = &request.change {
            change.runs(handed.command());
        }
        if let Some(standing) = &self.standing {
            standing.asks_for_run(Rc::default(), false, self.reader.bytes());
        }
        if handed.is_streamed() {
            return Stage::Resumed(request, handed);
        }
        let answered = go_on(*handed, &mut self.reader).await;
        self.answers();
        match answered {
            Some(Answered::Whole(reply)) => Stage::Over(self.reply(&request, reply).await),
            Some(Answered::Long(long)) => Stage::Ran(request, long),
            None => Stage::Over(Persistence::Close),
        }
    }

    /// What a request comes to.
    fn execute(&self, action: Action, body: &[u8], request: &Request) -> Outcome {
        let before = self.server.settings.get();
        let rules = self.server.rules();
        let mut settings = before;
        let mut table = self.server.table.borrow_mut();
        let mut core = Core {
            settings: &mut settings,
            table: &mut table,
            shutting_down: self.server.shutting_down.get(),
            strict: request.strict,
            stdin_default: rules.stdin_default,
            limits: &rules.limits,
            users: &rules.users,
        };
        let mut outcome = api::execute(action, body, &mut core);
        if before != settings {
            self.server.tell(&Event::LimitsSet {
                request: request.id.as_deref(),
                changed: &before.changes(settings),
            });
        }
        if let Some(change) = &request.change {
            let made = match &outcome {
                Outcome::Create { job, .. } => table.job(*job).map(|process| process.id),
                _ => None,
            };
            change.becomes(&outcome, made);
        }
        match &mut outcome {
            Outcome::Run(run) | Outcome::Stream(run, _) => run.request.clone_from(&request.id),
            Outcome::Create { job, .. } if request.id.is_some() => {
                if let Some((process, _)) = table.job_mut(*job) {
                    process.extras.make().request.clone_from(&request.id);
                }
            }
            _ => {}
        }
        drop(table);
        if settings != before {
            self.server.change_settings(settings);
        }
        self.server.make_way();
        outcome
    }

    /// Carries out a request that may come again, or answers it as it was answered before.
    async fn once(&mut self, request: Box<Request>, once: Once) -> Persistence {
        let Once {
            name,
            action,
            received,
        } = once;
        let Received { body, charge } = received;
        let execute = |body: &[u8]| self.execute(action, body, &request);
        let held = (charge, self.reader.waited());
        match repeats::begin(&self.server, name, body, held, execute) {
            Err(problem) => self.reply(&request, problem.reply()).await,
            Ok(Repeat::Answered(answer)) => self.shared_reply(&request, &answer, true).await,
            Ok(Repeat::First(waiting)) => self.joins(request, waiting, false).await,
            Ok(Repeat::Waits(waiting)) => self.joins(request, waiting, true).await,
        }
    }

    /// Answers a request with what is carried out for all who wait for it.
    async fn joins(
        &mut self,
        request: Box<Request>,
        waiting: Waiting,
        replayed: bool,
    ) -> Persistence {
        if let (Some(standing), Some(run)) = (&self.standing, waiting.run()) {
            standing.asks_for_run(run.clone(), replayed, self.reader.bytes());
        }
        let answer = waiting.answer(&mut self.reader).await;
        self.answers();
        match answer {
            Some(Answer::Whole(answer)) => self.shared_reply(&request, &answer, replayed).await,
            Some(Answer::Long(long, len)) => self.send_ran(request, &long, len, replayed).await,
            None => Persistence::Close,
        }
    }

    /// Answers a request whose body nobody wants, and reads the body away if that is cheap.
    async fn refuse_body_and_reply(
        &mut self,
        mut request: Box<Request>,
        reply: Reply,
    ) -> Persistence {
        let cheap = match request.framing {
            BodyFraming::Empty => true,
            // A client that waits for 100 may or may not send the body after a final answer.
            _ if request.expects_continue => false,
            BodyFraming::Length(bytes) => bytes <= BODY_BYTES_MAX,
            BodyFraming::Chunked => true,
        };
        request.close |= !cheap;
        match self.reply(&request, reply).await {
            Persistence::Persist => match self.body(&request, BodyPolicy::Ignore).await {
                Ok(_) => Persistence::Persist,
                Err(_) => Persistence::Linger,
            },
            persistence => persistence,
        }
    }

    /// Everything that takes time and then has one answer; None if the client is gone.
    async fn carry_out(&mut self, outcome: Outcome) -> Option<Reply> {
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
    async fn upgraded(&mut self, binary: Option<PathBuf>) -> Option<Reply> {
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

    async fn upload(
        &mut self,
        mut request: Box<Request>,
        id: ProcessId,
        query: StdinQuery,
    ) -> Persistence {
        let body = Announced {
            framing: request.framing,
            expects_continue: request.expects_continue,
        };
        let _charge = match self.server.charge(Kind::Bodies, UPLOAD_BYTES) {
            Ok(charge) => charge,
            Err(problem) => return self.refuse_body_and_reply(request, problem.reply()).await,
        };
        self.reader.passes_on(true);
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let answer = upload(&self.server, id, query, body, reader, writer).await;
        self.reader.passes_on(false);
        let Some((reply, whole)) = answer else {
            return Persistence::Close;
        };
        // What is left of the body could not be told from another request.
        request.close |= !whole;
        self.reply(&request, reply).await
    }

    async fn fetch(&mut self, request: Box<Request>, what: Fetch) -> Persistence {
        let held = match Held::new(&self.server, what) {
            Ok(held) => held,
            Err(problem) => return self.reply(&request, problem.reply()).await,
        };
        let reply = Reply::new(200).typed("application/json", Vec::new());
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, Length::Known(held.body_len()), &mut out);
        let whole = fetch(held, out, request.head_only, &mut self.writer).await;
        self.after_stream(&request, whole)
    }

    /// Answers with a list piece by piece.
    async fn list(&mut self, mut request: Box<Request>, mut list: Box<List>) -> Persistence {
        if let Err(problem) = self.server.charge(Kind::Answers, list.piece_bytes()) {
            return self.reply(&request, problem.reply()).await;
        }
        let reply = Reply::new(200).typed("application/json", Vec::new());
        let chunked = request.http_minor > 0;
        // Without chunks only the end of the connection ends the body.
        request.close |= !chunked;
        let length = match chunked {
            true => Length::Chunked,
            false => Length::UntilClose,
        };
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, length, &mut out);
        let bytes = list.bytes();
        let _held = (bytes >= SMALL_BYTES).then(|| self.server.budget.hold(Kind::Answers, bytes));
        let whole = match request.head_only {
            true => self.writer.all(out).await.is_ok(),
            false => send_list(&self.server, &mut list, out, chunked, &mut self.writer).await,
        };
        self.after_stream(&request, whole)
    }

    /// Answers a run piece by piece.
    async fn ran(&mut self, request: Box<Request>, long: Box<Long>) -> Persistence {
        match measure(&long, &mut self.reader).await {
            Some(len) => self.send_ran(request, &long, len, false).await,
            None => Persistence::Close,
        }
    }

    /// Sends an answer of `len` bytes piece by piece. `replayed`: it was another request's.
    async fn send_ran(
        &mut self,
        request: Box<Request>,
        long: &Long,
        len: u64,
        replayed: bool,
    ) -> Persistence {
        let mut reply = Reply::new(200).typed("application/json", Vec::new());
        if replayed {
            let (name, value) = REPLAYED;
            reply = reply.header(name, value);
        }
        let mut out = Vec::with_capacity(320);
        self.write_head(&request, &reply, Length::Known(len), &mut out);
        let whole = send_long(long, out, request.head_only, &mut self.writer).await;
        self.after_stream(&request, whole)
    }

    async fn wait(
        &mut self,
        request: Box<Request>,
        id: ProcessId,
        mut wait: Box<Wait>,
    ) -> Persistence {
        if request.head_only {
            // What would be said is not known, so neither is its length.
            let reply = Reply::new(200).typed("application/json", Vec::new());
            let reply = reply.header("cache-control", "no-store");
            let mut out = Vec::with_capacity(320);
            self.write_head(&request, &reply, Length::Absent, &mut out);
            drop(reply);
            let sent = self.writer.all(out).await.is_ok();
            return self.after_stream(&request, sent);
        }
        if let Some(standing) = &self.standing {
            // It has waited for a part of this before another server.
            wait.timeout = wait.timeout.saturating_sub(standing.waited());
        }
        self.reader.expect_silence();
        match wait_for(&self.server, id, wait, &mut self.reader).await {
            Some(reply) => Box::pin(self.reply(&request, reply)).await,
            None => Persistence::Close,
        }
    }

    /// Waits for an entry and gives the answer; None if the client is gone. Whoever asks for the
    /// head only does not wait.
    async fn await_entry(
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

    async fn bytes(&mut self, mut request: Box<Request>, bytes: Box<Bytes>) -> Persistence {
        let length = match (bytes.length, request.http_minor) {
            (Some(length), _) => Length::Known(length),
            (None, 0) => Length::UntilClose,
            (None, _) => Length::Chunked,
        };
        request.close |= length == Length::UntilClose;
        let mut out = Vec::with_capacity(512);
        self.write_head(&request, &bytes.reply, length, &mut out);
        let whole = if request.head_only {
            self.writer.all(out).await.is_ok()
        } else {
            let (reader, writer) = (&mut self.reader, &mut self.writer);
            send(&self.server, bytes, out, length, reader, writer).await
        };
        self.after_stream(&request, whole)
    }

    async fn follow(
        &mut self,
        request: Box<Request>,
        id: ProcessId,
        cursor: Box<Cursor>,
    ) -> Persistence {
        let Some((request, chunked)) = self.begin_events(request).await else {
            return Persistence::Close;
        };
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let whole =
            request.head_only || follow(&self.server, id, cursor, chunked, reader, writer).await;
        self.after_stream(&request, whole)
    }

    async fn events(&mut self, request: Box<Request>, watch: Watch) -> Persistence {
        let Some((request, chunked)) = self.begin_events(request).await else {
            return Persistence::Close;
        };
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let whole = request.head_only || events(&self.server, watch, chunked, reader, writer).await;
        self.after_stream(&request, whole)
    }

    /// Sends the head of an event stream, and says whether its body comes in chunks. None if the
    /// connection cannot go on.
    async fn begin_events(&mut self, mut request: Box<Request>) -> Option<(Box<Request>, bool)> {
        let reply = Reply::new(200)
            .typed("text/event-stream", Vec::new())
            .header("cache-control", "no-cache")
            .header("x-accel-buffering", "no");
        let chunked = request.http_minor > 0;
        // Without chunks only the end of the connection ends the body.
        request.close |= !chunked;
        let mut out = Vec::with_capacity(320);
        let length = if chunked {
            Length::Chunked
        } else {
            Length::UntilClose
        };
        self.write_head(&request, &reply, length, &mut out);
        self.writer.all(out).await.ok()?;
        Some((request, chunked))
    }

    async fn recording(
        &mut self,
        mut request: Box<Request>,
        id: ProcessId,
        follow: bool,
    ) -> Persistence {
        let reply = Reply::new(200)
            .typed("application/x-asciicast", Vec::new())
            .header("cache-control", "no-store")
            .header("x-accel-buffering", "no");
        let chunked = request.http_minor > 0;
        // Without chunks only the end of the connection ends the body.
        request.close |= !chunked;
        let mut out = Vec::with_capacity(320);
        let length = match chunked {
            true => Length::Chunked,
            false => Length::UntilClose,
        };
        self.write_head(&request, &reply, length, &mut out);
        if self.writer.all(out).await.is_err() {
            return Persistence::Close;
        }
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let whole =
            request.head_only || record(&self.server, id, follow, chunked, reader, writer).await;
        self.after_stream(&request, whole)
    }

    /// What follows an answer that was written piece by piece.
    fn after_stream(&self, request: &Request, whole: bool) -> Persistence {
        match whole {
            false => Persistence::Close,
            true if request.close || self.reader.ended() => Persistence::Linger,
            true => Persistence::Persist,
        }
    }

    async fn upgrade(&mut self, mut request: Box<Request>, upgrade: Box<Upgrade>) -> Persistence {
        // `connection` is about the upgrade here, not about what comes after it.
        request.close = false;
        request.keep_alive = false;
        let head = self.upgrade_head(&request, &upgrade.accept);
        drop(request);
        if self.writer.all(head).await.is_err() {
            return Persistence::Close;
        }
        let id = upgrade.id;
        let sockets = &self.server.web_sockets;
        sockets.set(sockets.get() + 1);
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        match upgrade.to {
            Socket::Terminal(query) => {
                terminal::attach(&self.server, id, query, reader, writer).await;
            }
            Socket::Attach(query) => attach(&self.server, id, query, reader, writer).await,
        }
        sockets.set(sockets.get() - 1);
        Persistence::Linger
    }

    fn upgrade_head(&self, request: &Request, accept: &Accept) -> Vec<u8> {
        let key = String::from_utf8_lossy(&accept.accept).into_owned();
        let mut reply = Reply::new(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", key);
        if let Some(protocol) = &accept.protocol {
            reply = reply.header("sec-websocket-protocol", protocol.clone());
        }
        let mut out = Vec::with_capacity(400);
        self.write_head(request, &reply, Length::Absent, &mut out);
        out
    }

    /// Lets the last answer arrive: closing with unread bytes would reset the connection and may
    /// destroy it on the way.
    async fn linger(mut self) {
        self.does(Doing::Streams);
        self.writer.finish().await;
        let drain = async {
            let mut read = 0;
            while read < LINGER_BYTES && self.reader.fill().await == Filled::Data {
                let len = self.reader.bytes().len();
                read += len;
                self.reader.consume(len);
            }
        };
        let _ = within(timeouts::LINGER_TIME, pin!(drain)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a function with these arguments returns, in bytes.
    fn size<A, F>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_carries_no_stage_that_it_is_not_in() {
        // It was 560 with room for the next stage, and for what refuses a head.
        assert!(size(serve) <= 400, "{} bytes", size(serve));
    }
}
