//! The audit log: who changed what, and who was refused, a JSON object a line in a file.
//!
//! In: an [`Act`]. Out: its line, appended. Owns the file, on a thread of its own, so that a slow
//! disk holds up nobody. A line that cannot be written refuses nothing: it is counted, and the
//! server's log says so.
//!
//! The file is opened to append, so that it may be moved away and cut by others; SIGHUP opens the
//! name anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::line::Line;
use super::queue::{Queue, Sink, queue};
use super::{Event, Journal};
use crate::config::timeouts;
use crate::types::UnixMs;

/// Who may read a file that is made.
const MODE: u32 = 0o600;

/// See the module. Cheap to clone; all clones are the same file.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    queue: Queue,
}

/// What somebody did, or was not let do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Act<'a> {
    /// Who: `token`, `token:NAME`, `uid:N`, or an address.
    pub who: &'a str,
    /// Where from.
    pub peer: &'a str,
    /// What, by the name of its route; None if there is none.
    pub action: Option<&'static str>,
    /// The method and the path, without a query.
    pub method: &'static str,
    /// See `method`.
    pub path: &'a str,
    /// To which process, by its id or as the client wrote it.
    pub id: Option<&'a str>,
    /// The program that was to be started.
    pub command: Option<&'a str>,
    /// The id of the request.
    pub request: Option<&'a str>,
    /// What it was answered; None if the client had gone.
    pub status: Option<u16>,
    /// Why it was refused.
    pub reason: Option<&'static str>,
}

impl Act<'_> {
    fn line(&self, lines: &mut String) {
        let mut line = Line::begin(UnixMs::now(), lines);
        line.text("who", self.who);
        line.text("peer", self.peer);
        line.maybe("action", self.action);
        line.maybe("id", self.id);
        line.maybe("request", self.request);
        line.maybe("reason", self.reason);
        line.maybe_number("status", self.status);
        if !self.method.is_empty() {
            line.text("method", self.method);
            line.text("path", self.path);
        }
        line.maybe("command", self.command.map(super::event::first_word));
        line.end();
    }
}

impl Audit {
    /// Opens the file and begins to write. What is lost is told to `journal`.
    ///
    /// # Errors
    /// When the file cannot be opened, or there is no thread to be had.
    pub(crate) fn begin(path: &Path, journal: Journal) -> io::Result<Self> {
        let (queue, waiting) = queue();
        let sink = Appended {
            path: path.to_owned(),
            file: open(path)?,
            is_torn: false,
            untold: 0,
            told_at: None,
            journal,
        };
        waiting.begin("audit", sink)?;
        Ok(Self { queue })
    }

    /// Appends a line.
    pub(crate) fn note(&self, act: &Act<'_>) {
        self.queue.push(false, |lines| act.line(lines));
    }

    /// Opens the name anew: the file may have been moved away.
    pub(crate) fn reopen(&self) {
        self.queue.reopen();
    }

    /// Lines that are in no file.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// Waits until everything is written, or the disk has had the time to take it.
    pub(crate) fn finish(&self) {
        self.queue.finish(timeouts::LAST_LINES);
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    options.open(path)
}

struct Appended {
    path: PathBuf,
    file: File,
    /// A line was written in part.
    is_torn: bool,
    /// Lines that are lost and not told of.
    untold: u64,
    told_at: Option<Instant>,
    journal: Journal,
}

impl Appended {
    fn append(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Sink for Appended {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        // What was left of a line when the disk was full stands by itself.
        if self.is_torn {
            self.append(b"\n")?;
        }
        self.append(lines)
    }

    fn lost(&mut self, lines: u64, why: Option<&io::Error>) -> Option<String> {
        self.untold += lines;
        // A line a second is enough.
        if self
            .told_at
            .is_none_or(|at| at.elapsed() >= timeouts::TOLD_EVERY)
        {
            self.told_at = Some(Instant::now());
            let why = match why {
                Some(error) => format!("{}: {error}", self.path.display()),
                None => "the disk is too slow".to_owned(),
            };
            let lines = std::mem::take(&mut self.untold);
            self.journal.tell(&Event::AuditLost { lines, why: &why });
        }
        None
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
            }
            Err(error) => {
                let path = self.path.display();
                let sentence = format!(
                    "--audit-log {path} cannot be opened anew: {error}; the old file goes on"
                );
                self.journal.tell(&Event::Warning(&sentence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags::{LogFormat, LogLevel};

    #[test]
    fn lines_are_appended_and_a_moved_file_is_made_anew() {
        let dir = std::env::temp_dir().join(format!("procring-audit-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, moved) = (dir.join("audit"), dir.join("audit.1"));
        std::fs::write(&path, "before\n").unwrap();
        let (journal, _unwritten) = Journal::new(LogLevel::Off, LogFormat::Json);
        let audit = Audit::begin(&path, journal).unwrap();
        let act = |status| Act {
            who: "token",
            peer: "127.0.0.1:7",
            action: Some("killProcess"),
            id: Some("proc_1"),
            status,
            ..Act::default()
        };
        audit.note(&act(Some(200)));
        audit.finish();
        std::fs::rename(&path, &moved).unwrap();
        audit.note(&act(None));
        audit.finish();
        audit.reopen();
        audit.note(&act(Some(409)));
        audit.finish();
        let old = std::fs::read_to_string(&moved).unwrap();
        let new = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(old.starts_with("before\n{\"ts\":\""), "{old}");
        assert!(old.contains(",\"status\":200}\n"), "{old}");
        assert!(!old.lines().last().unwrap().contains("status"), "{old}");
        assert_eq!(new.lines().count(), 1);
        assert!(new.contains(
            "\"who\":\"token\",\"peer\":\"127.0.0.1:7\",\"action\":\"killProcess\",\
             \"id\":\"proc_1\",\"status\":409}"
        ));
        assert_eq!(audit.lost(), 0);
    }

    #[test]
    fn a_full_disk_is_counted_and_waited_for_by_nobody() {
        let (journal, _unwritten) = Journal::new(LogLevel::Off, LogFormat::Json);
        let audit = Audit::begin(Path::new("/dev/full"), journal).unwrap();
        for _ in 0..3 {
            audit.note(&Act::default());
        }
        audit.finish();
        assert_eq!(audit.lost(), 3);
    }
}
