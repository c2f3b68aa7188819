//! Blocks of 256 bytes in one sealed memfd: where the indexes of logs are.
//!
//! In: which log wants a block. Out: numbers in it, by place. Owns the memory and who has which
//! block of it. Knows no entry; `log::index` says what the numbers mean.
//!
//! What is used is what the cells of logs lead to, so nothing here has to be kept: whoever goes on
//! with this memory finds free blocks by what is left over ([`Blocks::recover`]).

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::os::fd::{OwnedFd, RawFd};

use super::memory::Words;

/// Numbers in one block.
pub(crate) const BLOCK_WORDS: usize = 32;

/// Bytes of text in one block; the first number is the next block's.
const TEXT_BYTES: usize = (BLOCK_WORDS - 1) * size_of::<u64>();

/// Numbers in one cell, which is where a log begins.
pub(crate) const CELL_WORDS: usize = 4;

const CELLS: u32 = 8;

const _: () = assert!(CELLS as usize * CELL_WORDS == BLOCK_WORDS);

/// Blocks in one page of 4 KiB.
const PER_PAGE: u32 = 16;

/// Free blocks that keep their pages: 256 KiB.
const HOT_BLOCKS: usize = 1024;

/// Virtual sizes to try, largest first; only touched pages cost memory. The largest has room for
/// an entry of 64 bytes in every byte of an arena of 16 TiB.
const SIZES: [usize; 5] = [64 << 30, 4 << 30, 512 << 20, 64 << 20, 4 << 20];

/// The first block is nobody's: a link to it is none. It has what is about all logs.
const HEADER: u32 = 0;

/// Places in the header: which cell is read for, and to where. The first is stored last.
const INTENT: usize = 1;
const INTENT_TO: usize = 2;

/// Names the cell of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellId(u32);

impl CellId {
    /// The number, to be written down.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The cell that [`CellId::number`] was taken from.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Blocks {
    words: Words,
    count: u32,
    /// Blocks below this number have been handed out at least once.
    fresh: Cell<u32>,
    free: RefCell<Vec<u32>>,
    /// Blocks given back since the last trim.
    given_back: Cell<usize>,
    free_cells: RefCell<Vec<CellId>>,
}

impl Blocks {
    /// Makes and maps the memory.
    ///
    /// # Errors
    /// If not even the smallest size can be mapped.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self::of(Words::new("procring-index", &SIZES)?))
    }

    /// Maps memory that another program has made; [`Blocks::recover`] has to follow.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn again(fd: OwnedFd) -> std::io::Result<Self> {
        Ok(Self::of(Words::again(fd)?))
    }

    fn of(words: Words) -> Self {
        let count = u32::try_from(words.len() / BLOCK_WORDS).unwrap_or(u32::MAX);
        Self {
            words,
            count,
            fresh: Cell::new(HEADER + 1),
            free: RefCell::default(),
            given_back: Cell::new(0),
            free_cells: RefCell::default(),
        }
    }

    /// The descriptor of the memory.
    pub(crate) fn number(&self) -> RawFd {
        self.words.number()
    }

    /// The number at a place in a block.
    pub(crate) fn get(&self, block: u32, place: usize) -> u64 {
        self.words.get(block as usize * BLOCK_WORDS + place)
    }

    /// Stores a number there, after all that was stored before.
    pub(crate) fn set(&self, block: u32, place: usize, value: u64) {
        self.words.set(block as usize * BLOCK_WORDS + place, value);
    }

    /// The number at a place in a cell.
    pub(crate) fn cell(&self, cell: CellId, place: usize) -> u64 {
        let (block, first) = of(cell);
        self.get(block, first + place)
    }

    /// Stores a number there, after all that was stored before.
    pub(crate) fn set_cell(&self, cell: CellId, place: usize, value: u64) {
        let (block, first) = of(cell);
        self.set(block, first + place, value);
    }

    /// A free block, in whatever state its last owner left it; None if there is none.
    pub(crate) fn alloc(&self) -> Option<u32> {
        if let Some(block) = self.free.borrow_mut().pop() {
            return Some(block);
        }
        let fresh = self.fresh.get();
        (fresh < self.count).then(|| {
            self.fresh.set(fresh + 1);
            fresh
        })
    }

    /// Gives a block back that nothing leads to.
    pub(crate) fn free(&self, block: u32) {
        self.free.borrow_mut().push(block);
        self.given_back.set(self.given_back.get() + 1);
    }

    /// A free cell, as its last owner left it; None if there is no block for more of them.
    pub(crate) fn alloc_cell(&self) -> Option<CellId> {
        if let Some(cell) = self.free_cells.borrow_mut().pop() {
            return Some(cell);
        }
        let block = self.alloc()?;
        let mut free = self.free_cells.borrow_mut();
        free.extend((1..CELLS).rev().map(|n| CellId(block * CELLS + n)));
        Some(CellId(block * CELLS))
    }

    /// Gives a cell back.
    pub(crate) fn free_cell(&self, cell: CellId) {
        self.free_cells.borrow_mut().push(cell);
    }

    /// Notes that the log of this cell is about to be read for, to this place, which it has to
    /// itself, until [`Blocks::is_read`].
    pub(crate) fn intend(&self, cell: CellId, to: u64) {
        self.set(HEADER, INTENT_TO, to);
        self.set(HEADER, INTENT, u64::from(cell.0) + 1);
    }

    /// What was read is entered.
    pub(crate) fn is_read(&self) {
        self.set(HEADER, INTENT, 0);
    }

    /// What was read for when the memory was left.
    pub(crate) fn intent(&self) -> Option<(CellId, u64)> {
        let cell = self.get(HEADER, INTENT).checked_sub(1)?;
        let cell = u32::try_from(cell).ok()?;
        Some((CellId(cell), self.get(HEADER, INTENT_TO)))
    }

    /// Whether this can be the number of a block that was handed out.
    pub(crate) fn is_block(&self, block: u64) -> bool {
        block > u64::from(HEADER) && block < u64::from(self.count)
    }

    /// The same, of one that something was written to, in memory that may be damaged.
    pub(crate) fn is_written(&self, block: u64) -> bool {
        let at = usize::try_from(block).map_or(usize::MAX, |block| block * BLOCK_WORDS);
        self.is_block(block) && self.words.is_touched(at)
    }

    /// As [`Blocks::is_written`], of the block of a cell.
    pub(crate) fn is_written_cell(&self, cell: CellId) -> bool {
        self.is_written(of(cell).0.into())
    }

    /// Everything but what is `used` and the `cells` is free.
    pub(crate) fn recover(&self, used: &HashSet<u32>, cells: &HashSet<CellId>) {
        let of_cells: HashSet<u32> = cells.iter().map(|&cell| of(cell).0).collect();
        let taken = |block: &u32| used.contains(block) || of_cells.contains(block);
        let last = used.iter().chain(&of_cells).max();
        let fresh = last.map_or(HEADER, |&last| last) + 1;
        self.fresh.set(fresh);
        let free = (HEADER + 1..fresh).rev().filter(|block| !taken(block));
        *self.free.borrow_mut() = free.collect();
        let of_block = |&block: &u32| (0..CELLS).map(move |n| CellId(block * CELLS + n));
        let free_cells = of_cells.iter().flat_map(of_block);
        *self.free_cells.borrow_mut() = free_cells.filter(|cell| !cells.contains(cell)).collect();
        let behind = fresh.div_ceil(PER_PAGE) * PER_PAGE;
        if behind < self.count {
            let words = |blocks: u32| blocks as usize * BLOCK_WORDS;
            self.words.punch(words(behind), words(self.count - behind));
        }
    }

    /// Whether [`Blocks::trim`] has anything to do.
    pub(crate) fn wants_trim(&self) -> bool {
        self.given_back.get() > HOT_BLOCKS
    }

    /// Gives pages of free blocks back to the kernel. Those that are handed out next keep theirs.
    pub(crate) fn trim(&self) {
        if !self.wants_trim() {
            return;
        }
        self.given_back.set(0);
        let mut free = self.free.borrow_mut();
        // The lowest is handed out first, so that the used ones lie together.
        free.sort_unstable_by_key(|&block| std::cmp::Reverse(block));
        let cold = free.len().saturating_sub(HOT_BLOCKS);
        let mut pages: Option<(u32, u32)> = None;
        let mut at = 0;
        while at < cold {
            let page = free[at] / PER_PAGE;
            let within = free[at..cold].iter();
            let here = within
                .take_while(|&&block| block / PER_PAGE == page)
                .count();
            at += here;
            if here == PER_PAGE as usize {
                pages = match pages {
                    Some((first, end)) if first == page + 1 => Some((page, end)),
                    other => {
                        self.punch_pages(other);
                        Some((page, page + 1))
                    }
                };
            }
        }
        self.punch_pages(pages);
    }

    fn punch_pages(&self, pages: Option<(u32, u32)>) {
        if let Some((first, end)) = pages {
            let words = |page: u32| page as usize * PER_PAGE as usize * BLOCK_WORDS;
            self.words.punch(words(first), words(end) - words(first));
        }
    }

    /// Writes a text into a chain of blocks; its first one, or None if there is no room.
    pub(crate) fn write_text(&self, text: &[u8]) -> Option<u32> {
        let mut next = HEADER;
        // From its end, so that whatever is linked is whole.
        let pieces = text.chunks(TEXT_BYTES);
        for piece in pieces.rev() {
            let Some(block) = self.alloc() else {
                self.free_text(next, text.len());
                return None;
            };
            self.set(block, 0, next.into());
            for (at, word) in piece.chunks(size_of::<u64>()).enumerate() {
                let mut bytes = [0; size_of::<u64>()];
                bytes[..word.len()].copy_from_slice(word);
                self.set(block, at + 1, u64::from_ne_bytes(bytes));
            }
            next = block;
        }
        Some(next)
    }

    /// A text of so many bytes; None if it is damaged. `uses` is told of every block, and says whether
    /// that can be.
    pub(crate) fn read_text(
        &self,
        first: u32,
        bytes: u32,
        mut uses: impl FnMut(u32) -> bool,
    ) -> Option<Vec<u8>> {
        let bytes = bytes as usize;
        let (mut text, mut block) = (Vec::new(), first);
        while text.len() < bytes {
            if !self.is_written(block.into()) || !uses(block) {
                return None;
            }
            let words = (1..BLOCK_WORDS).flat_map(|at| self.get(block, at).to_ne_bytes());
            text.extend(words.take(bytes - text.len()));
            block = u32::try_from(self.get(block, 0)).ok()?;
        }
        Some(text)
    }

    /// Gives the blocks of a text of at most so many bytes back.
    pub(crate) fn free_text(&self, first: u32, bytes: usize) {
        let mut block = first;
        for _ in 0..bytes.div_ceil(TEXT_BYTES) {
            if !self.is_block(block.into()) {
                return;
            }
            let next = u32::try_from(self.get(block, 0)).unwrap_or(HEADER);
            self.free(block);
            block = next;
        }
    }

    /// All stores so far, to be replayed.
    #[cfg(test)]
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }
}

fn of(cell: CellId) -> (u32, usize) {
    (cell.0 / CELLS, (cell.0 % CELLS) as usize * CELL_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_and_no_cell_is_handed_out_twice() {
        let blocks = Blocks::new().unwrap();
        let mut seen: HashSet<u32> = (0..100).map(|_| blocks.alloc().unwrap()).collect();
        let cells: HashSet<CellId> = (0..100).map(|_| blocks.alloc_cell().unwrap()).collect();
        assert_eq!((seen.len(), cells.len()), (100, 100));
        assert!(!seen.contains(&HEADER));
        for cell in &cells {
            assert!(!seen.contains(&of(*cell).0));
        }
        seen.drain().for_each(|block| blocks.free(block));
        assert!((0..100).all(|_| seen.insert(blocks.alloc().unwrap())));
    }

    #[test]
    fn free_pages_are_given_back_and_used_blocks_keep_what_they_have() {
        let blocks = Blocks::new().unwrap();
        let all: Vec<u32> = (0..HOT_BLOCKS as u32 * 4)
            .map(|_| blocks.alloc().unwrap())
            .collect();
        for &block in &all {
            blocks.set(block, 3, 7);
        }
        let (kept, freed): (Vec<u32>, Vec<u32>) = all.iter().partition(|&block| block % 100 == 0);
        freed.iter().for_each(|&block| blocks.free(block));
        assert!(blocks.wants_trim());
        blocks.trim();
        assert!(!blocks.wants_trim());
        assert!(kept.iter().all(|&block| blocks.get(block, 3) == 7));
        let cold = freed.iter().filter(|&&block| blocks.get(block, 3) == 0);
        assert!(cold.count() > HOT_BLOCKS, "most pages have no used block");
        assert_eq!(blocks.alloc(), freed.first().copied());
    }

    #[test]
    fn what_nothing_leads_to_is_free_again() {
        let blocks = Blocks::new().unwrap();
        let all: Vec<u32> = (0..40).map(|_| blocks.alloc().unwrap()).collect();
        let cell = blocks.alloc_cell().unwrap();
        let used = HashSet::from([all[3], all[20]]);
        blocks.recover(&used, &HashSet::from([cell]));
        let again: HashSet<u32> = (0..38).map(|_| blocks.alloc().unwrap()).collect();
        assert!(used.is_disjoint(&again));
        assert!(again.is_subset(&all.into_iter().collect()));
        let cells: HashSet<CellId> = (0..7).map(|_| blocks.alloc_cell().unwrap()).collect();
        assert!(!cells.contains(&cell) && cells.iter().all(|&other| of(other).0 == of(cell).0));
    }

    #[test]
    fn a_text_of_any_length_is_read_as_it_was_written() {
        let blocks = Blocks::new().unwrap();
        for len in [1, 7, 8, TEXT_BYTES, TEXT_BYTES + 1, 5000] {
            let text: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let first = blocks.write_text(&text).unwrap();
            let mut used = 0;
            let count = |_| {
                used += 1;
                true
            };
            let read = blocks.read_text(first, len as u32, count);
            assert_eq!(read, Some(text));
            assert_eq!(used, len.div_ceil(TEXT_BYTES));
            assert_eq!(blocks.read_text(first, len as u32 + 5000, |_| true), None);
            blocks.free_text(first, len);
        }
    }

    #[test]
    fn places_outside_are_nothing() {
        let blocks = Blocks::new().unwrap();
        blocks.set(u32::MAX, 0, 7);
        assert_eq!(blocks.get(u32::MAX, 0), 0);
        assert!(!blocks.is_block(0) && !blocks.is_block(u64::MAX) && blocks.is_block(1));
    }
}
