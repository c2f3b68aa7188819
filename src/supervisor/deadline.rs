//! What is due when: absolute times, at most one for each thing.
//!
//! In: things and their times, set anew or cancelled as often as wanted. Out: those whose time has
//! come, earliest first. Who no longer cares for a thing cancels it: a client chooses some of the
//! times, and an entry that waits for a year is memory for a year.

use std::collections::BTreeMap;

use crate::types::Monotonic;

/// Things due, by time. Holds as many entries as there are things with a time.
#[derive(Debug)]
pub(crate) struct Deadlines<T> {
    /// By time; of the same time, by the order in which they were set.
    queue: BTreeMap<(Monotonic, u64), T>,
    /// Where each thing is in the queue.
    places: BTreeMap<T, (Monotonic, u64)>,
    set: u64,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self {
            queue: BTreeMap::new(),
            places: BTreeMap::new(),
            set: 0,
        }
    }
}

impl<T: Ord + Copy> Deadlines<T> {
    /// Makes `what` due at `when`, and at no other time.
    pub(crate) fn set(&mut self, when: Monotonic, what: T) {
        self.set += 1;
        let place = (when, self.set);
        if let Some(old) = self.places.insert(what, place) {
            self.queue.remove(&old);
        }
        self.queue.insert(place, what);
    }

    /// Makes `what` due at `when`, unless it is due before.
    pub(crate) fn set_if_earlier(&mut self, when: Monotonic, what: T) {
        if self.places.get(&what).is_none_or(|(at, _)| when < *at) {
            self.set(when, what);
        }
    }

    /// Makes `what` due at no time.
    pub(crate) fn cancel(&mut self, what: T) {
        if let Some(place) = self.places.remove(&what) {
            self.queue.remove(&place);
        }
    }

    /// Whether `what` is due at any time.
    pub(crate) fn is_set(&self, what: T) -> bool {
        self.places.contains_key(&what)
    }

    /// Everything that is due, and when.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Monotonic, T)> + '_ {
        self.queue.iter().map(|((when, _), what)| (*when, *what))
    }

    /// When the next thing is due.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.queue.first_key_value().map(|((when, _), _)| *when)
    }

    /// Takes the earliest thing that is due at `now`.
    pub(crate) fn pop(&mut self, now: Monotonic) -> Option<T> {
        let first = self.queue.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let what = first.remove();
        self.places.remove(&what);
        Some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn things_come_in_the_order_of_their_times_and_never_early() {
        let start = Monotonic::from_nanos(0);
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        for (ms, what) in [(30, 'c'), (10, 'z'), (20, 'b'), (10, 'a')] {
            deadlines.set(at(ms), what);
        }
        assert_eq!(deadlines.pop(at(9)), None);
        assert_eq!(deadlines.next(), Some(at(10)));
        let due: Vec<_> = std::iter::from_fn(|| deadlines.pop(at(20))).collect();
        assert_eq!(due, ['z', 'a', 'b']);
        assert_eq!(deadlines.pop(at(29)), None);
        assert_eq!(deadlines.pop(at(30)), Some('c'));
    }

    #[test]
    fn a_thing_has_one_time_however_often_it_is_set_and_none_once_cancelled() {
        let start = Monotonic::from_nanos(0);
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        for ms in [20, 30, 10, 40] {
            deadlines.set(at(ms), 'a');
            deadlines.set_if_earlier(at(ms), 'b');
            deadlines.set(at(ms), 'c');
        }
        deadlines.cancel('c');
        deadlines.cancel('d');
        assert!(deadlines.is_set('a') && !deadlines.is_set('c'));
        assert_eq!((deadlines.queue.len(), deadlines.places.len()), (2, 2));
        assert_eq!(deadlines.pop(at(39)), Some('b'));
        assert_eq!(deadlines.pop(at(39)), None);
        assert_eq!(deadlines.pop(at(40)), Some('a'));
        assert_eq!(deadlines.next(), None);
        assert!(deadlines.places.is_empty());
    }
}
