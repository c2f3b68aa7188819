//! What may happen as often as a client likes, told seldom: a line a second for each kind and cause.
//!
//! In: events, and when they happened. Out: which are to be told now, and which later, with how many
//! there were. Owns one event of each cause; kinds are words of the program, so they are few, and of
//! causes, which clients can make up, a few are told apart. Knows no clock.
//!
//! The first of its kind is told at once. What comes within a second of that waits for its end, and
//! one line tells the last of it and the count; nothing is left untold.

use std::collections::BTreeMap;

use super::Event;
use crate::config::timeouts::TOLD_EVERY;
use crate::types::Monotonic;

/// Causes of one kind that are told apart within a second; the others share a line.
const CAUSES_MAX: usize = 10;

/// The kind, and the cause: 0 is those that are not told apart.
type Key = (&'static str, &'static str, u64);

#[derive(Debug)]
struct Window {
    ends: Monotonic,
    held: Option<Event<'static>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    windows: BTreeMap<Key, Window>,
    /// [`Seldom::due`] has been promised to be called.
    asked: bool,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer<'a> {
    /// Tell it now.
    Now(Event<'a>),
    /// It is kept.
    Kept,
    /// It is kept; call [`Seldom::due`] then.
    KeptUntil(Monotonic),
}

impl Seldom {
    /// An event happens at `now`.
    pub(crate) fn offer<'a>(&mut self, event: Event<'a>, now: Monotonic) -> Offer<'a> {
        let key = self.key(&event);
        match self.windows.get_mut(&key) {
            Some(window) if window.held.is_some() || now < window.ends => {
                window.held = event.with(window.held.as_ref());
                match std::mem::replace(&mut self.asked, true) {
                    true => Offer::Kept,
                    false => Offer::KeptUntil(window.ends),
                }
            }
            _ => {
                let ends = now + TOLD_EVERY;
                self.windows.insert(key, Window { ends, held: None });
                Offer::Now(event)
            }
        }
    }

    fn key(&self, event: &Event<'_>) -> Key {
        let (name, reason) = event.kind();
        let key = (name, reason, event.cause());
        let all = self
            .windows
            .range((name, reason, 1)..=(name, reason, u64::MAX));
        match self.windows.contains_key(&key) || all.count() < CAUSES_MAX {
            true => key,
            false => (name, reason, 0),
        }
    }

    /// What is to be told at `now`, and when to ask again, if there is more.
    pub(crate) fn due(&mut self, now: Monotonic) -> (Vec<Event<'static>>, Option<Monotonic>) {
        let mut told = Vec::new();
        self.windows.retain(|_, window| {
            if now < window.ends {
                return true;
            }
            match window.held.take() {
                Some(event) => {
                    told.push(event);
                    window.ends = now + TOLD_EVERY;
                    true
                }
                None => false,
            }
        });
        let held = self.windows.values().filter(|of| of.held.is_some());
        let next = held.map(|window| window.ends).min();
        self.asked = next.is_some();
        (told, next)
    }

    /// What is kept, whenever it is due: nothing comes after it.
    pub(crate) fn rest(&mut self) -> Vec<Event<'static>> {
        let windows = std::mem::take(&mut self.windows);
        windows.into_values().filter_map(|of| of.held).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Refused;

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_nanos(ms * 1_000_000)
    }

    fn refused<'a>(reason: &'static str, path: &'a str) -> Event<'a> {
        Event::Refused(Refused {
            reason,
            path: path.into(),
            count: 1,
            ..Refused::default()
        })
    }

    fn told(events: &[Event<'_>]) -> Vec<(String, u64)> {
        let of = |event: &Event<'_>| match event {
            Event::Refused(refused) => (refused.path.to_string(), refused.count),
            _ => panic!("{event:?}"),
        };
        events.iter().map(of).collect()
    }

    #[test]
    fn one_line_a_second_tells_the_last_and_how_many_there_were() {
        let mut seldom = Seldom::default();
        let first = seldom.offer(refused("a", "/1"), at(0));
        assert_eq!(first, Offer::Now(refused("a", "/1")));
        // Another kind has its own second.
        assert!(matches!(
            seldom.offer(refused("b", "/b"), at(500)),
            Offer::Now(_)
        ));
        assert_eq!(
            seldom.offer(refused("a", "/2"), at(100)),
            Offer::KeptUntil(at(1000))
        );
        assert_eq!(seldom.offer(refused("a", "/3"), at(999)), Offer::Kept);
        // Late, and asked before what is kept was told: the order of lines stays.
        assert_eq!(seldom.offer(refused("a", "/4"), at(1001)), Offer::Kept);
        let (events, next) = seldom.due(at(1002));
        assert_eq!((told(&events), next), (vec![("/4".to_owned(), 3)], None));
        assert_eq!(
            seldom.offer(refused("a", "/5"), at(1500)),
            Offer::KeptUntil(at(2002))
        );
        let (events, next) = seldom.due(at(2001));
        assert_eq!((told(&events), next), (vec![], Some(at(2002))));
        let (events, next) = seldom.due(at(2002));
        assert_eq!((told(&events), next), (vec![("/5".to_owned(), 1)], None));
        // Nothing is kept of what has become quiet.
        assert_eq!(seldom.due(at(9000)), (vec![], None));
        assert!(seldom.windows.is_empty());
        assert!(matches!(
            seldom.offer(refused("a", "/6"), at(9000)),
            Offer::Now(_)
        ));
    }

    #[test]
    fn causes_are_told_apart_as_long_as_they_are_few() {
        let mut seldom = Seldom::default();
        let mut offer = |detail: String| {
            let refused = Refused {
                reason: "a",
                detail: detail.into(),
                count: 1,
                ..Refused::default()
            };
            matches!(seldom.offer(Event::Refused(refused), at(0)), Offer::Now(_))
        };
        for cause in 0..CAUSES_MAX {
            assert!(offer(format!("cause {cause}")));
        }
        // Together they are one more.
        assert!(offer("another".to_owned()));
        for cause in 0..1000 {
            assert!(!offer(format!("cause {cause}")));
        }
        let (events, _) = seldom.due(at(1000));
        assert_eq!(events.len(), CAUSES_MAX + 1);
        assert_eq!(
            told(&events).iter().map(|(_, count)| count).sum::<u64>(),
            1000
        );
    }

    #[test]
    fn what_is_kept_is_told_at_the_end() {
        let mut seldom = Seldom::default();
        seldom.offer(refused("a", "/1"), at(0));
        seldom.offer(refused("a", "/2"), at(1));
        assert_eq!(told(&seldom.rest()), [("/2".to_owned(), 1)]);
    }
}
