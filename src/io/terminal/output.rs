//! To the client: `ready`, retained and live output, what was queued by others, `exit`, the Close.
//!
//! In: a [`View`]. Out: frames, in order. A viewer that reads slowly costs a place in the log and
//! one write in flight.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::timeouts;
use crate::log::batch::{BATCH_BYTES_MAX, Chunk, Encoder, Found, HEAD_BYTES_MAX};
use crate::log::index::Entry;
use crate::log::{Log, Select};
use crate::metrics::metrics;
use crate::process::life::State;
use crate::process::pacing::Place;
use crate::process::{Notify, Process};
use crate::types::{ExitStatus, Monotonic, WindowSize};
use crate::wire::say::terminal::{self as say, Reason};
use crate::wire::ws::frame::{Opcode, frame_head, write_frame};

use super::Session;
use super::view::{self, View};
use crate::api::query::Replay;
use crate::io::conn::writer::Writer;
use crate::io::host::sizes;
use crate::io::runtime::timer::instant;
use crate::io::screen::{Drawn, First, first, make, redraw};
use crate::io::ws::liveness::Liveness;
use crate::io::ws::{CLOSE_NORMAL, Idle, framed};
use crate::wire::vt::screen::SCROLLBACK_MAX;

/// A viewer that is further behind than this is shown where things are, and not how they came
/// there. Bytes.
const BEHIND_MAX: u64 = 1 << 20;

/// Live output as binary frames, one per batch.
struct Frames;

impl Encoder for Frames {
    fn entry(&self, _: &Entry, data: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(data);
    }

    fn head(&self, body_len: usize, head: &mut [u8; HEAD_BYTES_MAX]) -> usize {
        let mut frame = [0; 10];
        let len = frame_head(Opcode::Binary, true, body_len as u64, &mut frame);
        head[..len].copy_from_slice(&frame[..len]);
        len
    }

    fn trailer(&self) -> &'static [u8] {
        b""
    }
}

/// What is to be done next.
enum Step {
    /// Send live output, of so many bytes.
    Send(Chunk, u64),
    /// Send a piece of what was retained.
    Draw(Vec<u8>),
    /// Show where things are.
    Redraw(Reason),
    Exit(Vec<u8>),
    Gone,
    Wait {
        changed: Notify,
        seen: u64,
        until: Option<Instant>,
    },
}

/// Counted among a terminal's viewers until dropped.
struct Joined<'a>(&'a Session);

impl<'a> Joined<'a> {
    fn new(session: &'a Session, place: Place) -> Self {
        if let Some((process, _)) = session.server.table.borrow_mut().get_mut(session.id) {
            let extras = process.extras.make();
            extras.shared.make().frames.join(&Select::default());
            session.flow.begin(place);
            if !session.query.read_only {
                let pacing = extras.pacing.get_or_insert_default();
                let viewer = pacing.join(place, Monotonic::now());
                session.flow.viewer.set(Some(viewer));
            }
        }
        Self(session)
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        let Self(session) = self;
        if let Some((process, _)) = session.server.table.borrow_mut().get_mut(session.id) {
            let extras = process.extras.make();
            extras.shared.make().frames.leave(&Select::default());
            if let Some(viewer) = session.flow.viewer.take()
                && let Some(pacing) = &mut extras.pacing
            {
                pacing.leave(viewer);
                extras.pacing.take_if(|pacing| pacing.is_empty());
            }
        }
    }
}

impl Session {
    /// Writes to the client until there is nothing more to say.
    pub(super) async fn write(&self, writer: &mut Writer) {
        let _ = self.try_write(writer).await;
    }

    async fn try_write(&self, writer: &mut Writer) -> io::Result<()> {
        writer.all(framed(&say::ready(self.id))).await?;
        if self.query.extended {
            self.tell_size(sizes::get(&self.server, self.id));
        }
        let mut view = Box::pin(self.begin(writer)).await?;
        let _joined = Joined::new(self, view.place());
        let mut liveness = Liveness::new(Instant::now());
        let mut sent_at = Instant::now();
        loop {
            let seen_outbox = self.peer.seen();
            if self.query.extended {
                self.tell_size(self.last_size());
            }
            if !view.is_drawing() {
                self.tell_title();
            }
            if self.peer.flush(writer).await? {
                return Ok(());
            }
            if self.server.leaves.get() {
                return self.peer.leave(writer).await;
            }
            if !view.is_drawing() {
                self.ask(&view, writer).await?;
            }
            let (changed, seen, mut until) = match self.step(&mut view) {
                Step::Send(chunk, bytes) => {
                    self.tell_cursor(&mut view, timeouts::CURSOR_EVERY, writer)
                        .await?;
                    self.send_live(chunk, bytes, writer).await?;
                    view.sent = view.place();
                    sent_at = Instant::now();
                    liveness.sent(sent_at);
                    continue;
                }
                Step::Draw(shown) => {
                    self.send_drawn(shown, view.place(), writer).await?;
                    view.sent = view.place();
                    liveness.sent(Instant::now());
                    continue;
                }
                Step::Redraw(reason) => {
                    self.server.tell_gap(self.id, self.behind(&view));
                    Box::pin(self.redraw(&mut view, reason, writer)).await?;
                    continue;
                }
                Step::Exit(frame) => {
                    self.tell_cursor(&mut view, Duration::ZERO, writer).await?;
                    writer.all(frame).await?;
                    return self.peer.finish(writer, CLOSE_NORMAL, "").await;
                }
                Step::Gone => return self.peer.finish(writer, CLOSE_NORMAL, "").await,
                Step::Wait {
                    changed,
                    seen,
                    until,
                } => (changed, seen, until),
            };
            if self.owes_cursor(&view) && !view.is_drawing() {
                let due = sent_at + timeouts::CURSOR_AFTER;
                if view.told.is_none() || Instant::now() >= due {
                    self.tell_cursor(&mut view, Duration::ZERO, writer).await?;
                    continue;
                }
                until = Some(until.map_or(due, |until| until.min(due)));
            }
            let news = self.server.news(changed.changed(seen));
            let idle = self.peer.idle(&mut liveness, seen_outbox, news, until);
            if idle.await == Idle::Dead {
                self.server.tell_dropped(Some(self.id), "silent");
                return Ok(());
            }
        }
    }

    /// Where the viewer begins; says so where what it has asked for is gone.
    async fn begin(&self, writer: &mut Writer) -> io::Result<View> {
        let missed = match first(&self.server, self.id, self.query.replay).await {
            First::Screen(drawn) => return self.show(drawn, None, writer).await,
            First::Output(replay) => {
                self.begin_title(replay).await;
                let table = self.server.table.borrow();
                let Some(process) = table.get(self.id) else {
                    return Ok(self.nowhere());
                };
                let exactly = self.query.extended;
                match View::new(&process.log, table.arena(), replay, exactly) {
                    Ok(view) => return Ok(view),
                    Err(missed) => missed,
                }
            }
        };
        match redraw(&self.server, self.id, self.scrollback()).await {
            Some(drawn) => {
                let from = Some((Reason::Evicted, missed.next));
                self.show(drawn, from, writer).await
            }
            None => Ok(self.nowhere()),
        }
    }

    /// Finds out about the title, where what is shown first may not say it.
    async fn begin_title(&self, replay: Replay) {
        let is_whole = match self.server.table.borrow().get(self.id) {
            Some(process) => process.log.dropped_bytes() == 0,
            None => return,
        };
        match replay {
            _ if !self.query.extended => {}
            Replay::Since(_) | Replay::Offset(_) => {
                self.title
                    .borrow_mut()
                    .iter_mut()
                    .for_each(|title| title.is_known());
            }
            Replay::All if is_whole => {}
            _ => {
                let made = make(&self.server, self.id, 0).await;
                if let (Some(title), Some(made)) = (&mut *self.title.borrow_mut(), made) {
                    title.begin(made.screen().title());
                }
            }
        }
    }

    /// A record that was removed meanwhile; the next step finds that out.
    fn nowhere(&self) -> View {
        View::behind(&Log::default(), 0)
    }

    /// Lines that have scrolled out, for a viewer that is drawn the terminal.
    fn scrollback(&self) -> u16 {
        match self.query.replay {
            Replay::Usual(Some(scrollback)) | Replay::Screen(scrollback) => scrollback,
            _ => SCROLLBACK_MAX,
        }
    }

    /// Sends what draws the terminal. What follows is behind it.
    async fn show(
        &self,
        drawn: Drawn,
        instead: Option<(Reason, u64)>,
        writer: &mut Writer,
    ) -> io::Result<View> {
        let view = match self.server.table.borrow().get(self.id) {
            Some(process) => View::behind(&process.log, drawn.sequence),
            None => self.nowhere(),
        };
        if let Some((reason, from)) = instead
            && self.query.extended
            && from <= drawn.sequence
        {
            let frame = framed(&say::redraw(reason, from, drawn.sequence));
            writer.all(frame).await?;
        }
        self.send_drawn(drawn.bytes, view.place(), writer).await?;
        Ok(view)
    }

    /// Draws the terminal for a viewer that has been outrun, which then counts again.
    async fn redraw(&self, view: &mut View, reason: Reason, writer: &mut Writer) -> io::Result<()> {
        let from = view.sent.next;
        let Some(drawn) = redraw(&self.server, self.id, self.scrollback()).await else {
            // The next step finds out that it is gone.
            return Ok(());
        };
        let shown = self.show(drawn, Some((reason, from)), writer).await?;
        view.again(shown);
        let place = view.place();
        if let Some((process, _)) = self.server.table.borrow_mut().get_mut(self.id)
            && let Some(viewer) = self.flow.viewer.get()
            && let Some(pacing) = &mut process.extras.make().pacing
        {
            pacing.redrawn(viewer, place, Monotonic::now());
        }
        Ok(())
    }

    /// How many bytes of the output it is not shown.
    fn behind(&self, view: &View) -> u64 {
        let table = self.server.table.borrow();
        table
            .get(self.id)
            .map_or(0, |process| view.lacks(&process.log))
    }

    /// Sends the questions that nobody was there for, behind what was retained.
    async fn ask(&self, view: &View, writer: &mut Writer) -> io::Result<()> {
        let asked = self.questions.take();
        if asked.is_empty() {
            return Ok(());
        }
        self.send_drawn(asked, view.place(), writer).await
    }

    fn step(&self, view: &mut View) -> Step {
        let mut table = self.server.table.borrow_mut();
        let Some((process, arena)) = table.get_mut(self.id) else {
            return Step::Gone;
        };
        let (changed, seen) = (process.changed.clone(), process.changed.version());
        let wait = |until| Step::Wait {
            changed,
            seen,
            until,
        };
        // Somebody of its tree may write on, for ever.
        let mut until = None;
        if let State::Over {
            end, complete_at, ..
        } = process.life.state()
        {
            if process.life.is_complete(Monotonic::now()) {
                if view.ends(&process.log) {
                    let code = end.status().and_then(ExitStatus::code);
                    return Step::Exit(framed(&say::exit(code)));
                }
            } else {
                until = Some(instant(complete_at));
            }
        }
        // A piece of what was retained is not larger than a batch.
        let more = view.lacks(&process.log).min(BATCH_BYTES_MAX as u64);
        if !view.is_ending() && !self.flow.may_send(more) {
            return wait(until);
        }
        loop {
            match view.draw(&process.log, arena) {
                Err(()) => return Step::Redraw(Reason::Evicted),
                Ok(None) => break,
                Ok(Some(shown)) if shown.is_empty() => view.sent = view.place(),
                Ok(Some(shown)) => return Step::Draw(shown),
            }
        }
        if view.has_all(&process.log) {
            let place = view::end(&process.log);
            if view.sent != place {
                view.sent = place;
                let place = self.flow.begin(place);
                self.tell_pacing(process, place, 0);
            }
            return wait(until);
        }
        if view.lacks(&process.log) > BEHIND_MAX {
            return Step::Redraw(Reason::Behind);
        }
        let before = view.place().at;
        let frames = &mut process.extras.make().shared.make().frames;
        match frames.next(&process.log, arena, view.cursor(), &Frames) {
            Found::Chunk(chunk) => {
                let bytes = payload_len(&chunk);
                view.took(bytes);
                self.flow.begin(Place {
                    at: before,
                    ..view.place()
                });
                Step::Send(chunk, bytes)
            }
            Found::Gap(gap) => {
                metrics(|all| all.gap(gap.bytes));
                Step::Redraw(Reason::Evicted)
            }
            Found::Unwanted | Found::Nothing => wait(until),
        }
    }

    /// Sends live output, and has whoever reads the terminal know how fast that goes.
    async fn send_live(&self, chunk: Chunk, bytes: u64, writer: &mut Writer) -> io::Result<()> {
        let Chunk {
            bytes: frame,
            range,
        } = chunk;
        let mut head = (range.len() as u64).saturating_sub(bytes);
        let took = |written: usize| {
            let of_head = head.min(written as u64);
            head -= of_head;
            self.took(written as u64 - of_head, true);
        };
        let payload = range
            .end
            .saturating_sub(usize::try_from(bytes).unwrap_or(range.len()));
        let payload = payload..range.end;
        let sent = writer.noting::<Rc<Vec<u8>>>(frame, range, took).await?;
        if let Some(title) = &mut *self.title.borrow_mut() {
            title.sent(&sent[payload]);
        }
        Ok(())
    }

    /// Sends a piece of what was retained, with which the viewer is at `place`.
    async fn send_drawn(
        &self,
        shown: Vec<u8>,
        place: Place,
        writer: &mut Writer,
    ) -> io::Result<()> {
        let mut frame = Vec::with_capacity(shown.len() + 10);
        write_frame(Opcode::Binary, &shown, &mut frame);
        let range = 0..frame.len();
        let mut head = frame.len() - shown.len();
        let payload = head..frame.len();
        drop(shown);
        let took = |written: usize| {
            let of_head = head.min(written);
            head -= of_head;
            self.took((written - of_head) as u64, false);
        };
        let frame = writer.noting(frame, range, took).await?;
        if let Some(title) = &mut *self.title.borrow_mut() {
            title.sent(&frame[payload]);
        }
        self.flow.begin(place);
        self.took(0, false);
        Ok(())
    }

    /// The kernel has taken so many bytes of output for this viewer.
    fn took(&self, bytes: u64, live: bool) {
        let worth = self.flow.sent(bytes, live);
        self.note_progress(worth);
    }

    /// Has whoever reads the terminal know how far this viewer is.
    pub(super) fn note_progress(&self, worth: u64) {
        if let Some((process, _)) = self.server.table.borrow_mut().get_mut(self.id) {
            self.tell_pacing(process, self.flow.place(), worth);
        }
    }

    fn tell_pacing(&self, process: &mut Process, place: Place, worth: u64) {
        let end = view::end(&process.log).at;
        if let Some(viewer) = self.flow.viewer.get()
            && let Some(pacing) = &mut process.extras.make().pacing
        {
            pacing.took(viewer, place, worth, end, Monotonic::now());
        }
    }

    /// The size that the terminal was last given, if it ever was given another one.
    fn last_size(&self) -> Option<WindowSize> {
        let table = self.server.table.borrow();
        table.get(self.id)?.extras.get()?.size
    }

    /// Tells the size of the terminal, if the client does not know it.
    fn tell_size(&self, size: Option<WindowSize>) {
        if let Some(size) = size
            && self.size.replace(Some(size)) != Some(size)
        {
            self.peer
                .send(|out| write_frame(Opcode::Text, &say::resized(size), out));
        }
    }

    /// Tells the title of the terminal, if the client wants to know and does not.
    fn tell_title(&self) {
        let news = self
            .title
            .borrow_mut()
            .as_mut()
            .and_then(|title| title.news());
        if let Some(frame) = news {
            self.peer.send(|out| write_frame(Opcode::Text, &frame, out));
        }
    }

    /// Whether the client is to be told how far it is.
    fn owes_cursor(&self, view: &View) -> bool {
        self.query.extended && view.told.is_none_or(|(told, _)| told != view.sent)
    }

    /// Tells how far the client is, if that is news and was not told within `pause`.
    async fn tell_cursor(
        &self,
        view: &mut View,
        pause: Duration,
        writer: &mut Writer,
    ) -> io::Result<()> {
        let now = Instant::now();
        let due = view.told.is_none_or(|(_, at)| now >= at + pause);
        if self.owes_cursor(view) && due && !view.is_drawing() {
            view.told = Some((view.sent, now));
            let Place { at, next, .. } = view.sent;
            writer
                .all(framed(&say::cursor(next.saturating_sub(1), at)))
                .await?;
        }
        Ok(())
    }
}

/// Bytes of output in a frame of [`Frames`].
fn payload_len(chunk: &Chunk) -> u64 {
    let head = match chunk.bytes.get(chunk.range.start + 1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    (chunk.range.len() as u64).saturating_sub(head)
}
