//! The lines of a record; the room tells what they say.
//!
//! In: leaders and marks. Out: lines, and of all lines of a file those trees that may have somebody.
//! Knows no file.

use std::collections::HashMap;

use crate::supervisor::tree::identity::Process;

/// The word before a mark: the limit of file locks.
pub(super) const MARK: &str = "locks";

/// What the members of a recorded tree carry, and nobody else.
pub(super) type Carried = Option<u64>;

pub(super) fn line(leader: Process, carried: Carried) -> String {
    let (pid, start) = (leader.pid(), leader.start_ticks());
    match carried {
        Some(value) => format!("+{pid} {start} {MARK} {value}\n"),
        None => format!("+{pid} {start} -\n"),
    }
}

/// Of a tree of which nobody is left.
pub(super) fn line_over(leader: Process) -> String {
    format!("-{} {}\n", leader.pid(), leader.start_ticks())
}

/// Of a tree whose leader is not known yet.
pub(super) fn line_before(value: u64, since: u64) -> String {
    format!("~{since} {MARK} {value}\n")
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) group: Option<&'a str>,
    pub(super) leaders: HashMap<Process, Carried>,
    /// Marks of trees whose leaders are not known, and when they were to begin.
    pub(super) starting: HashMap<u64, u64>,
}

impl<'a> Record<'a> {
    /// Lines that make no sense, such as the last one of a crash, are left out.
    pub(super) fn parse(text: &'a str) -> Self {
        let mut record = Self::default();
        // The last line is whole if it ends.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            if let Some(group) = line.strip_prefix("group ") {
                record.group = Some(group);
            } else if let Some(begun) = line.strip_prefix('+') {
                let Some((leader, carried)) = parse_leader(begun) else {
                    continue;
                };
                record.leaders.insert(leader, carried);
                if let Some(mark) = carried {
                    record.starting.remove(&mark);
                }
            } else if let Some(starting) = line.strip_prefix('~') {
                record.starting.extend(parse_starting(starting));
            } else if let Some(failed) = line.strip_prefix('^') {
                if let Some(mark) = parse_mark(&mut failed.split(' ')) {
                    record.starting.remove(&mark);
                }
            } else if let Some(forgotten) = line.strip_prefix('-')
                && let Some(leader) = parse_process(&mut forgotten.split(' '))
            {
                record.leaders.remove(&leader);
            }
        }
        record
    }
}

/// The mark may be of another kind: a record of an older version.
fn parse_leader(line: &str) -> Option<(Process, Carried)> {
    let mut words = line.split(' ');
    let leader = parse_process(&mut words)?;
    let mut words = words.peekable();
    let carried = match *words.peek()? {
        MARK => Some(parse_mark(&mut words)?),
        _ => None,
    };
    Some((leader, carried))
}

fn parse_starting(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split(' ');
    let since = words.next()?.parse().ok()?;
    Some((parse_mark(&mut words)?, since))
}

fn parse_mark<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<u64> {
    words.next().filter(|word| *word == MARK)?;
    words.next()?.parse().ok()
}

fn parse_process<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Process> {
    let pid = words.next()?.parse().ok().filter(|pid| *pid > 1)?;
    Some(Process::recorded(pid, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_who_was_begun_and_not_forgotten() {
        let text = "group /x/procring-7-0\n+10 500 locks 50001\n+11 501 locks 16452\n+13 502 -\n\
                    +15 506 slack 50002\n+14 503 -\n+14 504 -\n+14 505 -\n-14 505\n-10 500\n-13 7\n+12 50";
        let record = Record::parse(text);
        assert_eq!(record.group, Some("/x/procring-7-0"));
        let known = [
            (Process::recorded(11, 501), Some(16_452)),
            // What anybody may carry tells nobody.
            (Process::recorded(15, 506), None),
            (Process::recorded(13, 502), None),
            // Two trees whose leaders had the same number.
            (Process::recorded(14, 503), None),
            (Process::recorded(14, 504), None),
        ];
        assert_eq!(record.leaders, HashMap::from(known));
        assert_eq!(record.starting, HashMap::new());
        for text in [
            "+1 2 locks 3\n",
            "+-5 2 locks 3\n",
            "+5 x locks 3\n",
            "+5 2 locks\n",
            "+5 2 -",
            "+5 2 -\n-5 2\n",
            "\n-\n+\n",
        ] {
            assert_eq!(Record::parse(text).leaders, HashMap::new(), "{text:?}");
        }
    }
}
