//! Safe repeats: a request that comes again under the same key is not carried out again.
//!
//! In: who asks for what, with which body, under which key, and when. Out: whether it is the first
//! of its kind, has to wait for that one, or is answered as it was. Owns the answers that are kept,
//! within bounds. Knows no clock, and nothing of how a repeat waits: `W` is whatever the first one
//! left for the others, `A` an answer that several may hold.
//!
//! - A key belongs to a caller and a route. Of a body its length and a keyed hash are kept, 128 bits
//!   that no client can aim at.
//! - Only answers of 2xx are kept, for [`timeouts::ANSWER_KEPT`]. Who waits for one that fails gets
//!   that same failure; whoever comes later tries anew.
//! - Answers that are too many bytes go first, the oldest first; their keys stay, so that nothing
//!   is started twice. Keys that are too many go with their answers, the oldest first. One under
//!   way never goes.

pub(crate) mod written;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::rc::Rc;

use sha1::{Digest, Sha1};

use crate::config::timeouts;
use crate::types::{JobId, Monotonic};
use crate::wire::http::head::Head;

use super::access::{Caller, Credential};
use super::problem::Problem;
use super::reply::Reply;

use self::written::{Left, LeftState};

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 255;

/// Keys that are known at the same time.
const KEYS_MAX: usize = 4096;

/// Bytes of all answers that are kept.
const ANSWERS_BYTES_MAX: usize = 16 << 20;

/// Says that an answer is another request's.
pub(crate) const REPLAYED: (&str, &str) = ("idempotency-replayed", "true");

/// What a repeat is known by: equal names are the same request, or a mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    credential: Credential,
    route: &'static str,
    key: Box<str>,
}

impl Name {
    /// Reads the `Idempotency-Key` of a request of this caller to this route, if there is one.
    ///
    /// # Errors
    /// 400 for a key that is empty, too long, not visible ASCII, or not the only one.
    pub(super) fn read(
        head: &Head<'_>,
        caller: &Caller,
        route: &'static str,
    ) -> Result<Option<Box<Self>>, Problem> {
        let mut keys = head.headers("idempotency-key");
        let Some(key) = keys.next() else {
            return Ok(None);
        };
        if keys.next().is_some() {
            return Err(Problem::invalid("Idempotency-Key is given more than once"));
        }
        let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
        let text = std::str::from_utf8(key).ok();
        let visible = text.filter(|text| fits && text.bytes().all(|byte| byte.is_ascii_graphic()));
        match visible {
            None => Err(Problem::invalid(format!(
                "Idempotency-Key must be 1 to {KEY_BYTES_MAX} visible ASCII characters"
            ))),
            Some(key) => Ok(Some(Box::new(Self {
                credential: caller.credential.clone(),
                route,
                key: key.into(),
            }))),
        }
    }
}

/// By what bodies are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Print {
    len: usize,
    hashes: [u64; 2],
}

#[derive(Debug)]
enum State<W, A> {
    UnderWay(W),
    /// Its answer; None once it has made room for others.
    Answered {
        answer: Option<A>,
        until: Monotonic,
    },
}

#[derive(Debug)]
struct Entry<W, A> {
    print: Print,
    state: State<W, A>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Begun<W, A> {
    /// It is the first of its kind; [`Repeats::finish`] is to follow.
    First,
    /// The first of its kind is under way.
    UnderWay(W),
    /// The first of its kind was answered so.
    Answered(A),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Repeats<W, A = Rc<Reply>> {
    entries: BTreeMap<Rc<Name>, Entry<W, A>>,
    /// Those that have been answered, oldest first.
    answered: VecDeque<Rc<Name>>,
    /// Those of them whose answers are kept, oldest first.
    held: VecDeque<Rc<Name>>,
    held_bytes: usize,
    keys_max: usize,
    bytes_max: usize,
    /// What bodies are hashed with.
    secret: [u8; SECRET_BYTES],
    /// Names whose keys have changed, where somebody wants to know.
    changed: Option<Vec<Rc<Name>>>,
}

/// Bytes of the secret that bodies are hashed with.
pub(crate) const SECRET_BYTES: usize = 32;

impl<W, A: Clone + Deref<Target = Reply>> Default for Repeats<W, A> {
    fn default() -> Self {
        Self::new(KEYS_MAX, ANSWERS_BYTES_MAX)
    }
}

impl<W, A: Clone + Deref<Target = Reply>> Repeats<W, A> {
    fn new(keys_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            answered: VecDeque::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            keys_max,
            bytes_max,
            secret: [0; SECRET_BYTES],
            changed: None,
        }
    }

    /// Hashes bodies with this from now on. To be called before the first request.
    pub(crate) fn hash_with(&mut self, secret: [u8; SECRET_BYTES]) {
        self.secret = secret;
    }

    /// Notes every change from now on.
    pub(crate) fn note_changes(&mut self) {
        self.changed = Some(Vec::new());
    }

    /// The names whose keys have changed since this was asked for.
    pub(crate) fn take_changed(&mut self) -> Vec<Rc<Name>> {
        self.changed
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn note(&mut self, name: &Rc<Name>) {
        if let Some(changed) = &mut self.changed {
            changed.push(name.clone());
        }
    }

    /// A key as text; `job` says what is carried out for one that is under way. None if it is gone.
    pub(crate) fn write(
        &self,
        name: &Name,
        job: impl FnOnce(&W) -> Option<JobId>,
    ) -> Option<Vec<u8>> {
        let Entry { print, state } = self.entries.get(name)?;
        Some(match state {
            State::UnderWay(waiting) => written::write(name, print, job(waiting), None),
            State::Answered { answer, until } => {
                let answer = answer.as_ref().map(|answer| &**answer);
                written::write(name, print, None, Some((answer, *until)))
            }
        })
    }

    /// Goes on with a key that a server has left, which has been answered, or is as good as that:
    /// `answer` is made of its reply. False if there is no room for it, or it has been kept long
    /// enough.
    pub(crate) fn go_on(
        &mut self,
        left: Left,
        now: Monotonic,
        answer: impl FnOnce(Reply) -> A,
    ) -> bool {
        let (reply, until) = match left.state {
            LeftState::UnderWay(_) => (None, now + timeouts::ANSWER_KEPT),
            LeftState::Answered { answer, until } => (answer, until),
        };
        if self.entries.len() >= self.keys_max || until <= now {
            return false;
        }
        let name = Rc::new(left.name);
        let reply = reply.filter(|reply| self.keeps(reply.body.len() as u64));
        let answer = reply.map(answer);
        if let Some(answer) = &answer {
            self.held_bytes += answer.body.len();
            self.held.push_back(name.clone());
        }
        let state = State::Answered { answer, until };
        let print = left.print;
        self.entries.insert(name.clone(), Entry { print, state });
        self.answered.push_back(name);
        self.within_bytes();
        true
    }

    /// Goes on with a key whose request is still under way: others find `waiting`.
    pub(crate) fn goes_on(&mut self, left: Left, waiting: W) -> Rc<Name> {
        let name = Rc::new(left.name);
        let entry = Entry {
            print: left.print,
            state: State::UnderWay(waiting),
        };
        self.entries.insert(name.clone(), entry);
        name
    }

    fn print(&self, body: &[u8]) -> Print {
        let hash = Sha1::new_with_prefix(self.secret).chain_update(body);
        let hash = hash.finalize();
        let half = |at: usize| {
            let bytes = hash.get(at..at + 8).and_then(|half| half.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        Print {
            len: body.len(),
            hashes: [half(0), half(8)],
        }
    }

    /// A request with this body comes at `now`. If it is the first of its kind, others find
    /// `waiting`.
    ///
    /// # Errors
    /// 409 for another body, and for an answer that is no longer kept; 503 where all keys are of
    /// requests under way.
    pub(crate) fn begin(
        &mut self,
        name: &Name,
        body: &[u8],
        waiting: W,
        now: Monotonic,
    ) -> Result<Begun<W, A>, Problem>
    where
        W: Clone,
    {
        self.forget(now);
        let print = self.print(body);
        if let Some(entry) = self.entries.get(name) {
            if entry.print != print {
                return Err(Problem::key_of_another(&name.key));
            }
            return match &entry.state {
                State::UnderWay(waiting) => Ok(Begun::UnderWay(waiting.clone())),
                State::Answered { answer, .. } => match answer {
                    Some(answer) => Ok(Begun::Answered(answer.clone())),
                    None => Err(Problem::answer_expired(&name.key)),
                },
            };
        }
        if self.entries.len() >= self.keys_max && !self.drop_oldest() {
            return Err(Problem::unavailable(
                format!(
                    "{} requests with an Idempotency-Key are under way; no more are taken",
                    self.keys_max
                ),
                Some("limit_reached"),
            ));
        }
        let state = State::UnderWay(waiting);
        let name = Rc::new(name.clone());
        self.note(&name);
        self.entries.insert(name, Entry { print, state });
        Ok(Begun::First)
    }

    /// The first of its kind has been answered at `now`; None if nobody will be.
    pub(crate) fn finish(&mut self, name: &Name, answer: Option<&A>, now: Monotonic) {
        match answer.filter(|answer| (200..300).contains(&answer.status)) {
            None => {
                if let Some((name, _)) = self.entries.remove_entry(name) {
                    self.note(&name);
                }
            }
            Some(answer) => {
                let fits = self.keeps(answer.body.len() as u64);
                self.answer(name, fits.then(|| answer.clone()), now);
            }
        }
    }

    /// Whether an answer of so many bytes is kept.
    pub(crate) fn keeps(&self, bytes: u64) -> bool {
        bytes <= self.bytes_max as u64
    }

    /// The first of its kind has been answered well at `now`; with more than is kept if `answer` is
    /// None.
    pub(crate) fn answer(&mut self, name: &Name, answer: Option<A>, now: Monotonic) {
        let Some((name, _)) = self.entries.get_key_value(name) else {
            return;
        };
        let name = name.clone();
        if let Some(answer) = &answer {
            self.held_bytes += answer.body.len();
            self.held.push_back(name.clone());
        }
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.state = State::Answered {
                answer,
                until: now + timeouts::ANSWER_KEPT,
            };
        }
        self.note(&name);
        self.answered.push_back(name);
        self.within_bytes();
    }

    fn within_bytes(&mut self) {
        while self.held_bytes > self.bytes_max && self.drop_oldest_answer() {}
    }

    /// Forgets what has been kept long enough at `now`. Returns when the next one has.
    pub(crate) fn forget(&mut self, now: Monotonic) -> Option<Monotonic> {
        loop {
            let oldest = self.entries.get(self.answered.front()?)?;
            match oldest.state {
                State::Answered { until, .. } if until > now => return Some(until),
                _ => self.drop_oldest(),
            };
        }
    }

    /// Forgets the oldest that has been answered. False if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.answered.pop_front() else {
            return false;
        };
        if self.held.front() == Some(&oldest) {
            self.held.pop_front();
            self.take_answer(&oldest);
        }
        self.entries.remove(&oldest);
        self.note(&oldest);
        true
    }

    /// Keeps answers of at most so many bytes together, if that is less than usual.
    pub(crate) fn keep_within(&mut self, bytes: usize) {
        self.bytes_max = ANSWERS_BYTES_MAX.min(bytes);
    }

    /// Lets go of the oldest answer; its key stays. False if there is none.
    pub(crate) fn drop_oldest_answer(&mut self) -> bool {
        let oldest = self.held.pop_front();
        if let Some(oldest) = &oldest {
            self.take_answer(oldest);
        }
        oldest.is_some()
    }

    fn take_answer(&mut self, name: &Rc<Name>) {
        let entry = self.entries.get_mut(name).map(|entry| &mut entry.state);
        if let Some(State::Answered { answer, .. }) = entry {
            let bytes = answer.take().map_or(0, |answer| answer.body.len());
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
            self.note(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Monotonic = Monotonic::from_nanos(0);

    fn name(key: &str) -> Name {
        Name {
            credential: Credential::Token,
            route: "runProcess",
            key: key.into(),
        }
    }

    fn after(time: Duration) -> Monotonic {
        NOW + time
    }

    fn of_bytes(len: usize) -> Rc<Reply> {
        Rc::new(Reply::json(vec![b'x'; len]))
    }

    /// What becomes of a request, in a word.
    fn ask(repeats: &mut Repeats<u32>, name: &Name, body: &str, now: Monotonic) -> String {
        match repeats.begin(name, body.as_bytes(), 7, now) {
            Ok(Begun::First) => "first".to_owned(),
            Ok(Begun::UnderWay(waiting)) => format!("waits for {waiting}"),
            Ok(Begun::Answered(answer)) => format!("answered {}", answer.body.len()),
            Err(problem) => {
                let reply = problem.reply();
                let text = String::from_utf8_lossy(&reply.body).into_owned();
                let code = text.rsplit('"').nth(1).unwrap_or_default();
                format!("{} {code}", reply.status)
            }
        }
    }

    #[test]
    fn every_state_of_a_key_and_every_request_under_it() {
        let failed = Rc::new(Reply::new(502));
        type Row = (&'static str, Option<Option<Rc<Reply>>>, [&'static str; 3]);
        let ends: [Row; 4] = [
            (
                "under way",
                None,
                ["waits for 7", "409 idempotency_mismatch", "first"],
            ),
            (
                "answered",
                Some(Some(of_bytes(3))),
                ["answered 3", "409 idempotency_mismatch", "first"],
            ),
            ("failed", Some(Some(failed)), ["first", "first", "first"]),
            ("given up", Some(None), ["first", "first", "first"]),
        ];
        for (state, end, expected) in ends {
            let requests = [("k", "body"), ("k", "bodY"), ("K", "body")];
            for ((key, body), expected) in requests.into_iter().zip(expected) {
                let mut repeats = Repeats::default();
                assert_eq!(ask(&mut repeats, &name("k"), "body", NOW), "first");
                if let Some(end) = &end {
                    repeats.finish(&name("k"), end.as_ref(), NOW);
                }
                let what = ask(&mut repeats, &name(key), body, NOW);
                assert_eq!(what, expected, "{state}: {key} {body}");
            }
        }
    }

    #[test]
    fn every_change_is_told_and_what_is_written_goes_on() {
        let mut repeats = Repeats::<u32>::new(9, 100);
        repeats.hash_with([7; SECRET_BYTES]);
        repeats.note_changes();
        let changed = |repeats: &mut Repeats<u32>| {
            let names = repeats.take_changed();
            let keys: Vec<_> = names.iter().map(|name| name.key.to_string()).collect();
            keys.join(" ")
        };
        for key in ["a", "b", "c", "d"] {
            ask(&mut repeats, &name(key), "body", NOW);
        }
        assert_eq!(changed(&mut repeats), "a b c d");
        repeats.finish(&name("a"), Some(&of_bytes(60)), NOW);
        repeats.finish(&name("b"), None, NOW);
        repeats.finish(&name("c"), Some(&of_bytes(50)), NOW);
        assert_eq!(changed(&mut repeats), "a b c a");
        let texts: Vec<_> = ["a", "b", "c", "d"]
            .iter()
            .filter_map(|key| repeats.write(&name(key), |_| None))
            .collect();
        assert_eq!(texts.len(), 3);
        let mut next = Repeats::<u32>::new(9, 100);
        next.hash_with([7; SECRET_BYTES]);
        for text in &texts {
            next.go_on(written::read(text).unwrap(), NOW, Rc::new);
        }
        for (key, body, expected) in [
            ("a", "body", "409 idempotency_expired"),
            ("b", "body", "first"),
            ("c", "body", "answered 50"),
            ("c", "bodY", "409 idempotency_mismatch"),
            // It may have begun, and nobody knows its answer.
            ("d", "body", "409 idempotency_expired"),
        ] {
            assert_eq!(
                ask(&mut next, &name(key), body, NOW),
                expected,
                "{key} {body}"
            );
        }
        next.note_changes();
        next.forget(after(timeouts::ANSWER_KEPT));
        assert_eq!(changed(&mut next), "a c c d");
    }

    #[test]
    fn a_key_belongs_to_a_caller_and_a_route() {
        let mut repeats = Repeats::default();
        let mine = name("k");
        let others = Name {
            credential: Credential::None,
            ..mine.clone()
        };
        let elsewhere = Name {
            route: "createProcess",
            ..mine.clone()
        };
        for name in [mine, others, elsewhere] {
            assert_eq!(ask(&mut repeats, &name, "", NOW), "first");
        }
    }

    #[test]
    fn an_answer_is_kept_for_an_hour_from_when_it_was_given() {
        let mut repeats = Repeats::default();
        let hour = Duration::from_secs(3600);
        let late = after(hour * 9);
        assert_eq!(ask(&mut repeats, &name("k"), "", NOW), "first");
        assert_eq!(ask(&mut repeats, &name("k"), "", late), "waits for 7");
        repeats.finish(&name("k"), Some(&of_bytes(1)), late);
        let end = late + hour;
        let just_before = Monotonic::from_nanos(end.nanos() - 1);
        assert_eq!(ask(&mut repeats, &name("k"), "", just_before), "answered 1");
        assert_eq!(repeats.forget(just_before), Some(end));
        assert_eq!(ask(&mut repeats, &name("k"), "", end), "first");
        assert_eq!((repeats.held_bytes, repeats.answered.len()), (0, 0));
    }

    #[test]
    fn too_many_bytes_take_the_oldest_answers_and_leave_their_keys() {
        let mut repeats = Repeats::new(9, 100);
        for (key, len) in [("a", 60), ("b", 30), ("c", 20), ("d", 101), ("e", 50)] {
            assert_eq!(ask(&mut repeats, &name(key), "", NOW), "first");
            repeats.finish(&name(key), Some(&of_bytes(len)), NOW);
            assert!(repeats.held_bytes <= 100);
        }
        for (key, expected) in [
            ("a", "409 idempotency_expired"),
            ("b", "answered 30"),
            ("c", "answered 20"),
            ("d", "409 idempotency_expired"),
            ("e", "answered 50"),
        ] {
            assert_eq!(ask(&mut repeats, &name(key), "", NOW), expected, "{key}");
        }
        let mismatch = ask(&mut repeats, &name("a"), "other", NOW);
        assert_eq!(mismatch, "409 idempotency_mismatch");
        repeats.forget(after(timeouts::ANSWER_KEPT));
        assert!(repeats.entries.is_empty() && repeats.held.is_empty());
        assert_eq!(repeats.held_bytes, 0);
    }

    #[test]
    fn too_many_keys_take_the_oldest_that_is_answered_and_none_under_way() {
        let mut repeats = Repeats::new(3, 100);
        for key in ["a", "b", "c"] {
            assert_eq!(ask(&mut repeats, &name(key), "", NOW), "first");
        }
        assert_eq!(ask(&mut repeats, &name("d"), "", NOW), "503 limit_reached");
        repeats.finish(&name("b"), Some(&of_bytes(1)), NOW);
        assert_eq!(ask(&mut repeats, &name("d"), "", NOW), "first");
        assert_eq!(ask(&mut repeats, &name("a"), "", NOW), "waits for 7");
        assert_eq!(repeats.held_bytes, 0, "the answer to b has gone with it");
        repeats.finish(&name("d"), None, NOW);
        assert_eq!(ask(&mut repeats, &name("b"), "", NOW), "first");
    }
}
