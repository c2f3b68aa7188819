//! A history of logs is written down store by store; whoever goes on after any of them finds every
//! log whole.

use super::*;
use crate::types::StreamFilter;

/// What happens to the memory, in order.
enum Event {
    Store(usize, u64),
    Bytes(SlotId, usize, Vec<u8>),
}

/// What one log has ever been given.
#[derive(Clone, Default)]
struct Model {
    /// The stream, what was cut, what was kept.
    entries: Vec<(Stream, usize, Vec<u8>)>,
    first: u64,
    cell: Option<CellId>,
}

/// One step of a history: when it ends, and what there is then.
struct Step {
    events: usize,
    /// The read is done after so many events, and brings this.
    read: Option<(usize, CellId, Vec<u8>)>,
    logs: Vec<Model>,
}

/// A generator of Marsaglia's; a history is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

struct History {
    arena: Arena,
    logs: Vec<Log>,
    models: Vec<Model>,
    events: Vec<Event>,
    steps: Vec<Step>,
}

impl History {
    fn new(logs: usize) -> Self {
        let mut arena = Arena::new().unwrap();
        arena.keep();
        Self {
            arena,
            logs: (0..logs).map(|_| Log::default()).collect(),
            models: vec![Model::default(); logs],
            events: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn note_stores(&mut self) {
        let mut stores = self.arena.blocks().words().stores();
        let stores = stores.drain(..).map(|(at, value)| Event::Store(at, value));
        self.events.extend(stores);
    }

    fn end_step(&mut self, read: Option<(usize, CellId, Vec<u8>)>) {
        self.note_stores();
        self.steps.push(Step {
            events: self.events.len(),
            read,
            logs: self.models.clone(),
        });
    }

    /// The record of a log knows its cell before anything is read.
    fn begin(&mut self, of: usize) {
        if self.models[of].cell.is_none() {
            self.models[of] = Model {
                first: 1,
                cell: self.logs[of].cell(&self.arena),
                ..Model::default()
            };
            self.end_step(None);
        }
    }

    fn read(&mut self, of: usize, stream: Stream, data: Vec<u8>, limit: u64) {
        self.begin(of);
        let log = &mut self.logs[of];
        let room = log.tail_of(&mut self.arena, stream).unwrap().len();
        let data = data[..data.len().min(room)].to_vec();
        let (cell, to) = self.arena.blocks().intent().unwrap();
        let slot = SlotId::from_number((to >> 32) as u32);
        let start = (to >> 2 & 0x3fff_ffff) as usize;
        let zeros = vec![0; SLOT_BYTES - start];
        assert_eq!(self.arena.bytes(slot, start, zeros.len()), zeros);
        self.events.push(Event::Bytes(slot, start, zeros));
        self.note_stores();
        self.arena.tail(slot, start)[..data.len()].copy_from_slice(&data);
        self.events.push(Event::Bytes(slot, start, data.clone()));
        let read = self.events.len();
        let log = &mut self.logs[of];
        log.commit(&mut self.arena, data.len(), stream, 7, limit);
        let model = &mut self.models[of];
        let kept = data.len().min(limit as usize);
        if kept > 0 {
            let cut = data.len() - kept;
            model.entries.push((stream, cut, data[cut..].to_vec()));
        }
        model.first = log.first();
        self.end_step(Some((read, cell, data)));
    }

    fn clear(&mut self, of: usize) {
        // Its record is gone before that, and nothing leads to it.
        self.models[of] = Model::default();
        self.logs[of].clear(&mut self.arena);
        self.logs[of] = Log::default();
        self.end_step(None);
    }

    /// The memory as it is after the first `count` events.
    fn replay(&self, count: usize) -> Arena {
        let mut arena = Arena::new().unwrap();
        arena.keep();
        for event in &self.events[..count] {
            match event {
                Event::Store(at, value) => arena.blocks().words().set(*at, *value),
                Event::Bytes(slot, start, data) => {
                    arena.tail(*slot, *start)[..data.len()].copy_from_slice(data);
                }
            }
        }
        arena
    }
}

fn offsets(model: &Model, entries: usize, stream: Stream) -> u64 {
    let of_stream = model.entries[..entries]
        .iter()
        .filter(|entry| entry.0 == stream);
    of_stream
        .map(|(_, cut, data)| (cut + data.len()) as u64)
        .sum()
}

/// A log is what it was before the step or after it, or between the two.
fn check(arena: &Arena, log: &Log, before: &Model, after: &Model) {
    let (first, last) = (log.first(), log.last());
    assert!(before.first <= first && first <= after.first.max(before.first));
    let counts = [before, after].map(|model| model.entries.len() as u64);
    assert!(counts.contains(&last), "{last} of {counts:?}");
    for entry in log.from(0) {
        let (stream, _, data) = &after.entries[entry.sequence as usize - 1];
        assert_eq!((entry.stream, entry.timestamp_ms), (*stream, 7));
        assert_eq!(log.bytes(arena, &entry), data);
    }
    for stream in [Stream::Stdout, Stream::Stderr, Stream::Pty] {
        let of = |count: u64| offsets(after, count as usize, stream);
        let filter = StreamFilter::Only(stream);
        assert_eq!(log.end_offset(filter), of(last));
        let cut = after.entries[first as usize - 1..last as usize].iter();
        let cut: usize = cut.filter(|of| of.0 == stream).map(|of| of.1).sum();
        assert_eq!(log.first_offset(filter), of(first - 1) + cut as u64);
    }
}

/// Goes on after so many events, in a step that begins with `before`.
fn go_on(history: &History, count: usize, before: &[Model], step: &Step) {
    let mut arena = history.replay(count);
    let mut recovery = Recovery::begin(&mut arena);
    let mut logs: Vec<(usize, Log)> = Vec::new();
    for (of, (before, after)) in before.iter().zip(&step.logs).enumerate() {
        // A record that is being begun or removed leads nowhere.
        if let (Some(cell), Some(_)) = (before.cell, after.cell) {
            logs.push((of, recovery.log(cell).expect("a whole log")));
        }
    }
    let unentered = recovery.finish();
    for (of, log) in &logs {
        check(&arena, log, &before[*of], &step.logs[*of]);
    }
    let read = step.read.as_ref().filter(|(at, ..)| *at <= count);
    if let Some((_, cell, data)) = read {
        let (of, log) = logs
            .iter_mut()
            .find(|(of, _)| step.logs[*of].cell == Some(*cell))
            .expect("the log that is read for");
        let after = &step.logs[*of];
        if let Some(read) = unentered {
            log.enter_read(&mut arena, read, 7, data.len() as u64 + (1 << 20));
        }
        let entered: Vec<u8> = log
            .get(log.last())
            .map(|entry| log.bytes(&arena, &entry).to_vec())
            .unwrap_or_default();
        if !data.is_empty() && after.entries.len() > before[*of].entries.len() {
            assert!(data.ends_with(&entered) && log.last() as usize == after.entries.len());
        }
    } else {
        assert_eq!(unentered, None);
    }
    // Whatever is handed out from here on is in no log.
    let bytes = |logs: &[(usize, Log)], arena: &Arena| -> Vec<Vec<u8>> {
        let of = |log: &Log| {
            let entries = log.from(0);
            entries
                .flat_map(|entry| log.bytes(arena, &entry).to_vec())
                .collect()
        };
        logs.iter().map(|(_, log)| of(log)).collect()
    };
    let before = bytes(&logs, &arena);
    let mut other = Log::default();
    for _ in 0..60 {
        let tail = other.tail_of(&mut arena, Stream::Stderr).unwrap();
        tail[0] = 0xee;
        other.commit(&mut arena, 1, Stream::Stderr, 9, 1 << 22);
    }
    let used: HashSet<SlotId> = logs.iter().flat_map(|(_, log)| log.slots()).collect();
    let taken: Vec<SlotId> = (0..8).map(|_| arena.alloc().unwrap()).collect();
    assert!(taken.iter().all(|slot| !used.contains(slot)));
    taken.into_iter().for_each(|slot| arena.free(slot));
    assert_eq!(bytes(&logs, &arena), before);
    for (_, mut log) in logs {
        log.clear(&mut arena);
    }
    other.clear(&mut arena);
    assert_eq!(arena.in_use(), 0);
}

#[test]
fn after_any_store_every_log_is_whole_and_a_read_under_way_is_found() {
    for seed in 1..=3 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut history = History::new(3);
        let limits = [60, 900, 5_000, 200_000];
        let streams = [Stream::Stdout, Stream::Stderr, Stream::Pty];
        for step in 0..90 {
            let of = random.below(3) as usize;
            if random.below(25) == 0 {
                history.clear(of);
                continue;
            }
            let len = match random.below(12) {
                0 => SLOT_BYTES,
                1 => 0,
                2 => 5_000,
                _ => 1 + random.below(300) as usize,
            };
            let data: Vec<u8> = (0..len).map(|at| (at + step) as u8 | 1).collect();
            let limit = limits[random.below(4) as usize];
            let stream = streams[random.below(3) as usize];
            history.read(of, stream, data, limit);
        }
        let (mut events, mut before) = (0, vec![Model::default(); 3]);
        for step in &history.steps {
            for count in events..=step.events {
                go_on(&history, count, &before, step);
            }
            (events, before) = (step.events, step.logs.clone());
        }
    }
}

#[test]
fn a_log_that_loses_many_blocks_at_once_is_whole_after_any_store() {
    let mut history = History::new(1);
    for step in 0..60u8 {
        history.read(0, Stream::Stdout, vec![step | 1; 10], 10_000);
    }
    // One that is larger than the limit evicts all the others.
    history.read(0, Stream::Stderr, vec![9; 500], 100);
    history.read(0, Stream::Stdout, vec![7; 10], 100);
    let (mut events, mut before) = (0, vec![Model::default()]);
    for step in &history.steps {
        for count in events..=step.events {
            go_on(&history, count, &before, step);
        }
        (events, before) = (step.events, step.logs.clone());
    }
}

#[test]
fn damaged_numbers_are_told_and_lead_nowhere() {
    let mut history = History::new(1);
    for step in 0..40u8 {
        history.read(0, Stream::Stdout, vec![step | 1; 10], 300);
    }
    let cell = history.models[0].cell.unwrap();
    let words = history.arena.blocks().words().len();
    let mut random = Random(77);
    let used = history.events.iter().filter_map(|event| match event {
        Event::Store(at, _) => Some(*at),
        Event::Bytes(..) => None,
    });
    let used: Vec<usize> = used.collect();
    for _ in 0..300 {
        let mut arena = history.replay(history.events.len());
        let at = used[random.below(used.len() as u64) as usize];
        let value = [0, 1, 7, u64::MAX, words as u64, random.below(1 << 50)];
        arena
            .blocks()
            .words()
            .set(at, value[random.below(6) as usize]);
        let mut recovery = Recovery::begin(&mut arena);
        let log = recovery.log(cell);
        recovery.finish();
        if let Some(mut log) = log {
            assert!(log.retained_bytes() < 1 << 40);
            log.clear(&mut arena);
        }
    }
}
