//! The first bytes of one stream of a run, up to a cap; the rest is read and thrown away.
//!
//! In: bytes already read into the tail it lends. Out: segments in order. Owns its slots until
//! [`Capture::release`]. Knows no stream names and no text.

use super::arena::{Arena, ArenaError, SLOT_BYTES, SlotId};

/// What one stream of a run wrote, cut at its cap.
#[derive(Debug)]
pub struct Capture {
    slots: Vec<SlotId>,
    len: u64,
    cap: u64,
    /// Bytes that were written and not kept.
    lost: u64,
}

impl Capture {
    /// Keeps at most `cap` bytes.
    pub fn new(cap: u64) -> Self {
        Self {
            slots: Vec::new(),
            len: 0,
            cap,
            lost: 0,
        }
    }

    /// Lends free bytes to read into, or nothing once the cap is reached: then read elsewhere and
    /// call [`Capture::discard`].
    ///
    /// # Errors
    /// [`ArenaError::Full`] when a new slot is needed and there is none.
    pub fn tail<'a>(&mut self, arena: &'a mut Arena) -> Result<&'a mut [u8], ArenaError> {
        if self.len >= self.cap {
            return Ok(&mut []);
        }
        let len = mapped(self.len);
        let (start, needed) = (len % SLOT_BYTES, len / SLOT_BYTES);
        if self.slots.len() <= needed {
            self.slots.push(arena.alloc()?);
        }
        Ok(arena.tail(self.slots[needed], start))
    }

    /// Keeps the first `len` bytes of the tail, as far as the cap goes.
    pub fn commit(&mut self, len: usize) {
        let kept = (len as u64).min(self.cap - self.len);
        self.len += kept;
        self.lost += len as u64 - kept;
    }

    /// Notes that `len` bytes were read and not kept.
    pub fn discard(&mut self, len: usize) {
        self.lost += len as u64;
    }

    /// Whether bytes were lost to the cap.
    pub fn truncated(&self) -> bool {
        self.lost > 0
    }

    /// Bytes that were written and are not kept.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Bytes kept.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops the last `bytes` kept bytes.
    pub fn cut_tail(&mut self, bytes: u64) {
        let cut = bytes.min(self.len);
        self.len -= cut;
        self.lost += cut;
    }

    /// The kept bytes in order.
    pub fn segments<'a>(&'a self, arena: &'a Arena) -> impl Iterator<Item = &'a [u8]> + 'a {
        let mut left = self.len;
        self.slots.iter().map_while(move |&slot| {
            let len = mapped(left).min(SLOT_BYTES);
            left -= len as u64;
            (len > 0).then(|| arena.bytes(slot, 0, len))
        })
    }

    /// Hands over the slots that hold kept bytes, in order, with how many each holds; nothing is
    /// kept afterwards.
    pub fn take(&mut self, arena: &mut Arena) -> Vec<(SlotId, usize)> {
        let mut left = std::mem::take(&mut self.len);
        let mut taken = Vec::new();
        for slot in self.slots.drain(..) {
            let len = mapped(left).min(SLOT_BYTES);
            left -= len as u64;
            if len > 0 {
                taken.push((slot, len));
            } else {
                arena.free(slot);
            }
        }
        taken
    }

    /// Gives the slots back.
    pub fn release(&mut self, arena: &mut Arena) {
        for slot in self.slots.drain(..) {
            arena.free(slot);
        }
        self.len = 0;
    }
}

/// How many bytes of the mapping `kept` bytes are.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is kept lies in slots of one mapping, so its length is one of memory"
)]
fn mapped(kept: u64) -> usize {
    kept as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(capture: &mut Capture, arena: &mut Arena, mut data: &[u8]) {
        while !data.is_empty() {
            let tail = capture.tail(arena).unwrap();
            if tail.is_empty() {
                capture.discard(data.len());
                return;
            }
            let n = tail.len().min(data.len());
            tail[..n].copy_from_slice(&data[..n]);
            capture.commit(n);
            data = &data[n..];
        }
    }

    #[test]
    fn exactly_the_cap_is_not_truncated_and_one_more_is() {
        let mut arena = Arena::new().unwrap();
        for (len, truncated) in [
            (99_999, false),
            (100_000, false),
            (100_001, true),
            (300_000, true),
        ] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut capture = Capture::new(100_000);
            write(&mut capture, &mut arena, &data);
            let kept: Vec<u8> = capture.segments(&arena).flatten().copied().collect();
            assert_eq!(kept, data[..len.min(100_000)]);
            assert_eq!(capture.truncated(), truncated, "{len}");
            capture.release(&mut arena);
        }
        assert_eq!(arena.in_use(), 0);
    }

    #[test]
    fn a_cap_of_zero_takes_no_slot_and_says_truncated_only_for_output() {
        let mut arena = Arena::new().unwrap();
        let mut capture = Capture::new(0);
        assert!(!capture.truncated());
        write(&mut capture, &mut arena, b"x");
        assert!(capture.truncated());
        assert_eq!((capture.len(), arena.in_use()), (0, 0));
    }
}
