//! What is written down of all servers of a keeper together: numbers, settings, a handover.
//!
//! In: what one of them has to know of the others. Out: the same. It is in the first record, which is
//! no job's.

use std::os::fd::RawFd;

use super::{NUMBERS_MAX, Records};
use crate::types::Monotonic;

/// Places in the first record.
const LAST_ID: usize = 0;
const LAST_JOB: usize = 1;
/// Records below this one have been used.
pub(super) const HIGH: usize = 2;
const SERVES: usize = 3;
const DEATHS: usize = 4;
const RELOADED: usize = 5;
const ENDING_SINCE: usize = 6;
const LAST_EVENT: usize = 7;
const SETTINGS: usize = 8;
const EVENTS_FROM: usize = 14;
const LOST: usize = 15;
/// What is handed over and to which program, and why that failed. The first is stored last.
const HANDOVER: usize = 16;
const HANDOVER_TO: usize = 17;
const HANDOVER_ERROR: usize = 18;
/// What only this machine's servers know, in so many numbers.
const SECRET: usize = 20;
const SECRET_WORDS: usize = 4;

/// Numbers of settings.
pub(super) const SETTINGS_WORDS: usize = 6;

impl Records {
    /// Another server goes on.
    pub(super) fn begin_again(&self) {
        self.words.set(HANDOVER, 0);
        self.words.set(SERVES, 0);
    }

    /// The last id that may have been told to anybody.
    pub(crate) fn last_id(&self) -> u64 {
        self.words.get(LAST_ID)
    }

    /// The same; before it is told.
    pub(crate) fn set_last_id(&self, id: u64) {
        self.words.set(LAST_ID, id);
    }

    /// The last job.
    pub(crate) fn last_job(&self) -> u64 {
        self.words.get(LAST_JOB)
    }

    /// The same; before it is begun.
    pub(crate) fn set_last_job(&self, job: u64) {
        self.words.set(LAST_JOB, job);
    }

    /// The last id and the last job are not before these, which there are; whether that was so.
    pub(crate) fn goes_on_behind(&self, job: Option<u64>, id: Option<u64>) -> bool {
        let goes_on = |(place, known): (usize, Option<u64>)| {
            let (last, known) = (self.words.get(place), known.unwrap_or_default());
            let is_last = (known..NUMBERS_MAX).contains(&last);
            if !is_last {
                self.words.set(place, known);
            }
            is_last
        };
        let both = [(LAST_JOB, job), (LAST_ID, id)].map(goes_on);
        both == [true; 2]
    }

    /// So much of records was damaged so far.
    pub(crate) fn lost(&self) -> u64 {
        self.words.get(LOST)
    }

    /// And so much more.
    pub(crate) fn count_lost(&self, count: usize) {
        self.words.set(LOST, self.lost() + count as u64);
    }

    /// Settings that were changed, as numbers of the caller's that are not all 0.
    pub(crate) fn settings(&self) -> Option<[u64; SETTINGS_WORDS]> {
        let settings = std::array::from_fn(|at| self.words.get(SETTINGS + at));
        settings.iter().any(|&of| of != 0).then_some(settings)
    }

    /// The same.
    pub(crate) fn set_settings(&self, settings: [u64; SETTINGS_WORDS]) {
        for (at, value) in settings.into_iter().enumerate() {
            self.words.set(SETTINGS + at, value);
        }
    }

    /// What bodies of requests are hashed with, in all servers; made by the first who asks, of these
    /// bytes.
    pub(crate) fn secret(&self, random: [u8; 32]) -> [u8; 32] {
        let now: [u64; SECRET_WORDS] = std::array::from_fn(|at| self.words.get(SECRET + at));
        let mut secret = random;
        let (words, _) = secret.as_chunks_mut::<8>();
        if now.contains(&0) {
            for (at, word) in words.iter().enumerate() {
                self.words.set(SECRET + at, u64::from_ne_bytes(*word) | 1);
            }
        }
        for (at, word) in words.iter_mut().enumerate() {
            *word = self.words.get(SECRET + at).to_ne_bytes();
        }
        secret
    }

    /// The configuration was read again while a server ran, and a token is wanted since, or none.
    pub(crate) fn set_reloaded(&self, wants_token: bool) {
        self.words.set(RELOADED, 1 + u64::from(wants_token));
    }

    /// Whether a token is wanted since then, if that ever was.
    pub(crate) fn was_reloaded(&self) -> Option<bool> {
        match self.words.get(RELOADED) {
            0 => None,
            was => Some(was > 1),
        }
    }

    /// The keeper is to hand over what is described there to a program; two descriptors. It does not
    /// come back, or there is a [`Records::handover_error`].
    pub(crate) fn hand_over(&self, heritage: RawFd, program: RawFd) {
        self.words.set(HANDOVER_ERROR, 0);
        self.words
            .set(HANDOVER_TO, u64::from(program.cast_unsigned()));
        self.words
            .set(HANDOVER, u64::from(heritage.cast_unsigned()));
    }

    /// The same.
    pub(crate) fn handover(&self) -> Option<(RawFd, RawFd)> {
        let number = |at| i32::try_from(self.words.get(at)).ok();
        Some((number(HANDOVER).filter(|&fd| fd > 2)?, number(HANDOVER_TO)?))
    }

    /// It is not to be done: who said so is gone.
    pub(crate) fn forget_handover(&self) {
        self.words.set(HANDOVER, 0);
        for record in self.iter().filter(|&of| self.is_handed_over(of)) {
            self.hand_over_run(record, false);
        }
    }

    /// It could not be done, for this reason, an errno.
    pub(crate) fn handover_failed(&self, errno: i32) {
        self.words.set(HANDOVER, 0);
        self.words
            .set(HANDOVER_ERROR, u64::from(errno.cast_unsigned()));
    }

    /// The same.
    pub(crate) fn handover_error(&self) -> Option<i32> {
        let errno = i32::try_from(self.words.get(HANDOVER_ERROR)).ok();
        errno.filter(|&errno| errno != 0)
    }

    /// A server has begun to serve.
    pub(crate) fn serves(&self) {
        self.words.set(SERVES, 1);
    }

    /// Whether one ever has.
    pub(crate) fn has_served(&self) -> bool {
        self.words.get(SERVES) != 0
    }

    /// The number before the first event that any server has told of, and that of the last; None if
    /// there was no server.
    pub(crate) fn events(&self) -> Option<(u64, u64)> {
        let from = self.words.get(EVENTS_FROM);
        (from != 0).then(|| (from, self.words.get(LAST_EVENT)))
    }

    /// The numbers of events begin behind this one.
    pub(crate) fn set_events_from(&self, from: u64) {
        self.words.set(LAST_EVENT, from);
        self.words.set(EVENTS_FROM, from);
    }

    /// The last event; before it is told.
    pub(crate) fn set_last_event(&self, number: u64) {
        self.words.set(LAST_EVENT, number);
    }

    /// A server has begun to end everything, and whoever comes after it goes on with that.
    pub(crate) fn set_ending_since(&self, at: Monotonic) {
        self.words.set(ENDING_SINCE, at.nanos());
    }

    /// Since when everything is being ended.
    pub(crate) fn ending_since(&self) -> Option<Monotonic> {
        let since = self.words.get(ENDING_SINCE);
        (since != 0).then(|| Monotonic::from_nanos(since))
    }

    /// Servers that have died so far.
    pub(crate) fn deaths(&self) -> u64 {
        self.words.get(DEATHS)
    }

    /// One more has.
    pub(crate) fn count_death(&self) {
        self.words.set(DEATHS, self.deaths() + 1);
    }
}
