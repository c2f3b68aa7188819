//! What is worth a line: everything that the server tells, once.
//!
//! In: what a room has decided. Out: a name, a level, and fields in the order in which they are
//! shown. An event borrows what it says, so that one whose level is off costs nothing.
//!
//! A new event is a variant and an arm in `name`, in `level` where it is not `info`, and in
//! `fields`. Names are in snake case, keys in camel case as in the API; `id`, `request` and `reason`
//! come first and mean the same everywhere.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Line;
use crate::config::flags::LogLevel;
use crate::types::{JobId, ProcessId};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A server has started.
    Start(Start<'a>),
    /// It takes connections from there.
    Listening {
        /// Where, as a client would write it.
        address: &'a str,
        /// Who may ask.
        access: &'a str,
        /// io_uring or epoll.
        backend: &'a str,
    },
    /// Something does not work here, and what that weakens.
    Warning(&'a str),
    /// Something was written to the memory of records that no server has written.
    Damaged {
        /// Of which process, if that is known.
        id: Option<ProcessId>,
        /// What is lost by it, in a sentence.
        what: &'a str,
    },
    /// Each process gets a cgroup.
    Groups,
    /// There is no server, or no longer.
    Failed {
        /// Why.
        why: &'a str,
    },
    /// A program runs, or a run has been asked for.
    Started(Started<'a>),
    /// It has ended.
    Ended(Ended<'a>),
    /// A request was refused.
    Refused(Refused<'a>),
    /// A bound was reached, and something had to make room for something else.
    Limit {
        /// Which bound, by the name of its flag or setting.
        reason: &'static str,
        /// What made room.
        id: Option<ProcessId>,
        /// How often.
        count: u64,
    },
    /// What outlived a process was ended to keep a bound.
    LeftEnded {
        /// Whose: of a run or a process.
        of: &'static str,
        /// Which one, if it is listed.
        id: Option<ProcessId>,
        /// Which bound.
        reason: &'static str,
        /// The same for people.
        why: &'a str,
    },
    /// A reader has missed output that had to make room for newer output.
    Gap {
        /// Of which process.
        id: ProcessId,
        /// How many bytes.
        bytes: u64,
        /// How many readers.
        count: u64,
    },
    /// A viewer or follower was given up.
    ViewerDropped {
        /// Of which process, if of one.
        id: Option<ProcessId>,
        /// Why.
        reason: &'static str,
        /// How many.
        count: u64,
    },
    /// A client has changed the limits.
    LimitsSet {
        /// Its request.
        request: Option<&'a str>,
        /// What has changed.
        changed: &'a str,
    },
    /// SIGHUP: the configuration was read again.
    Reloaded {
        /// What has changed.
        changed: &'a str,
    },
    /// SIGHUP: nothing was changed.
    ReloadRefused {
        /// Why.
        why: &'a str,
    },
    /// This server has taken over.
    Upgraded {
        /// From a program of this version.
        from: &'a str,
        /// Since that was asked for.
        duration_ms: u64,
    },
    /// Another program was to take over, and does not.
    UpgradeRefused {
        /// Why.
        why: &'a str,
    },
    /// Lines of the audit log are lost.
    AuditLost {
        /// How many since the last such line.
        lines: u64,
        /// Why.
        why: &'a str,
    },
    /// The end has begun.
    Stopping {
        /// Managed processes that run.
        processes: usize,
        /// Runs under way.
        runs: usize,
    },
    /// Everything has ended.
    Stopped {
        /// Managed processes that were ended.
        processes: usize,
        /// Runs that were ended.
        runs: usize,
        /// How long that took.
        duration_ms: u64,
    },
    /// Lines of this log are lost.
    LinesLost {
        /// How many since the last such line.
        lines: u64,
    },
    /// A sentence of another room.
    Told(&'a str),
}

/// A server that has started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start<'a> {
    /// io_uring or epoll.
    pub backend: &'a str,
    /// RLIMIT_NOFILE; None is no limit.
    pub descriptors: Option<u64>,
    /// What connections and processes need where all limits are reached.
    pub descriptors_wanted: u64,
    /// Bytes of memory that the machine, or the server's group, has.
    pub memory: u64,
    /// What logs of running processes can hold where all limits are reached.
    pub logs_wanted: u64,
    /// The configuration file.
    pub config: Option<&'a str>,
}

/// A process or a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Job<'a> {
    /// Its id, if it is listed.
    pub id: Option<ProcessId>,
    /// What it is called besides.
    pub name: Option<&'a str>,
    /// Set for a run: tells its start and its end from those of others.
    pub run: Option<JobId>,
    /// The program.
    pub command: &'a str,
    /// The request that made it.
    pub request: Option<&'a str>,
}

/// A process or a run that has started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Started<'a> {
    /// Which one.
    pub job: Job<'a>,
    /// Its arguments, for those who ask for all details.
    pub args: &'a [String],
    /// Its pid, where it is known.
    pub pid: Option<i32>,
}

/// A process or a run that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended<'a> {
    /// Which one.
    pub job: Job<'a>,
    /// Why, where its status does not tell.
    pub reason: Option<&'static str>,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// Or the signal that ended it.
    pub signal: Option<&'a str>,
    /// Since it was asked for.
    pub duration_ms: u64,
    /// What it wrote.
    pub output_bytes: u64,
    /// How many of its tree live on.
    pub descendants: u32,
}

/// A request that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused<'a> {
    /// Why, in one word of `api::problem`.
    pub reason: &'static str,
    /// What stands for an id in the path.
    pub id: Cow<'a, str>,
    /// The status that it was answered with.
    pub status: u16,
    /// Its method; empty if nothing could be read of it.
    pub method: &'static str,
    /// Its path, without a query.
    pub path: Cow<'a, str>,
    /// The same reason in a sentence.
    pub detail: Cow<'a, str>,
    /// Who asked.
    pub peer: Option<Cow<'a, str>>,
    /// The id that it brought.
    pub request: Option<Cow<'a, str>>,
    /// How many were refused for this reason since the last such line; the rest is of the last one.
    pub count: u64,
}

impl Event<'_> {
    /// Names it in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Listening { .. } => "listening",
            Self::Warning(_) => "warning",
            Self::Damaged { .. } => "damaged",
            Self::Groups => "cgroups",
            Self::Failed { .. } => "failed",
            Self::Started(started) if started.job.run.is_some() => "run_started",
            Self::Started(_) => "process_started",
            Self::Ended(ended) if ended.job.run.is_some() => "run_ended",
            Self::Ended(_) => "process_exited",
            Self::Refused(_) => "refused",
            Self::Limit { .. } => "limit_reached",
            Self::LeftEnded { .. } => "descendants_ended",
            Self::Gap { .. } => "gap",
            Self::ViewerDropped { .. } => "viewer_dropped",
            Self::LimitsSet { .. } => "limits_set",
            Self::Reloaded { .. } => "reloaded",
            Self::ReloadRefused { .. } => "reload_refused",
            Self::Upgraded { .. } => "upgraded",
            Self::UpgradeRefused { .. } => "upgrade_refused",
            Self::AuditLost { .. } => "audit_lost",
            Self::Stopping { .. } => "stopping",
            Self::Stopped { .. } => "stopped",
            Self::LinesLost { .. } => "lines_lost",
            Self::Told(_) => "told",
        }
    }

    /// How important it is.
    pub(crate) fn level(&self) -> LogLevel {
        match self {
            Self::Failed { .. }
            | Self::Damaged { .. }
            | Self::ReloadRefused { .. }
            | Self::UpgradeRefused { .. }
            | Self::AuditLost { .. } => LogLevel::Error,
            Self::Warning(_) | Self::LeftEnded { .. } | Self::LinesLost { .. } => LogLevel::Warn,
            Self::Refused(Refused {
                status: 401 | 403 | 500..,
                ..
            }) => LogLevel::Warn,
            _ => LogLevel::Info,
        }
    }

    /// What happens again and again for the same reason has a kind.
    pub(super) fn kind(&self) -> (&'static str, &'static str) {
        let reason = match self {
            Self::Refused(refused) => refused.reason,
            Self::Limit { reason, .. } | Self::ViewerDropped { reason, .. } => reason,
            _ => "",
        };
        (self.name(), reason)
    }

    /// What tells one cause of a kind from another, as far as anything does.
    pub(super) fn cause(&self) -> u64 {
        match self {
            Self::Refused(refused) => {
                let mut hasher = DefaultHasher::new();
                refused.status.hash(&mut hasher);
                // Who is not there is another one each time, for the same cause.
                let (id, detail) = (&*refused.id, &*refused.detail);
                match id.is_empty() {
                    true => detail.hash(&mut hasher),
                    false => detail.split(id).for_each(|part| part.hash(&mut hasher)),
                }
                hasher.finish()
            }
            _ => 0,
        }
    }

    /// The same, to be told later together with `earlier` ones of its kind, which are counted; None
    /// for what does not happen again and again.
    pub(super) fn with(self, earlier: Option<&Event<'_>>) -> Option<Event<'static>> {
        Some(match self {
            Self::Refused(refused) => Event::Refused(Refused {
                count: refused.count + earlier.map_or(0, Event::count),
                ..refused.owned()
            }),
            Self::Limit { reason, id, count } => {
                let count = count + earlier.map_or(0, Event::count);
                Event::Limit { reason, id, count }
            }
            Self::Gap { id, bytes, count } => {
                let before = match earlier {
                    Some(Event::Gap { bytes, .. }) => *bytes,
                    _ => 0,
                };
                let bytes = bytes.saturating_add(before);
                let count = count + earlier.map_or(0, Event::count);
                Event::Gap { id, bytes, count }
            }
            Self::ViewerDropped { id, reason, count } => {
                let count = count + earlier.map_or(0, Event::count);
                Event::ViewerDropped { id, reason, count }
            }
            _ => return None,
        })
    }

    /// How often it has happened.
    fn count(&self) -> u64 {
        match self {
            Self::Refused(Refused { count, .. })
            | Self::Limit { count, .. }
            | Self::Gap { count, .. }
            | Self::ViewerDropped { count, .. } => *count,
            _ => 1,
        }
    }

    /// What people read in place of the fields.
    pub(super) fn sentence(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Listening {
                address,
                access,
                backend,
            } => Cow::Owned(format!("listening on {address} ({access}, {backend})")),
            Self::Warning(sentence) | Self::Told(sentence) => Cow::Borrowed(*sentence),
            Self::Failed { why } => Cow::Borrowed(*why),
            Self::Damaged { id, what } => match id {
                Some(id) => Cow::Owned(format!("{id}: {what}")),
                None => Cow::Borrowed(*what),
            },
            Self::Groups => Cow::Borrowed("each process has a cgroup"),
            Self::LeftEnded { of, id, why, .. } => match id {
                Some(id) => Cow::Owned(format!("ended what {of} {id} left: {why}")),
                None => Cow::Owned(format!("ended what {of} left: {why}")),
            },
            Self::Reloaded { changed: "" } => {
                Cow::Borrowed("the configuration was read again: nothing has changed")
            }
            Self::Reloaded { changed } => {
                Cow::Owned(format!("the configuration was read again: {changed}"))
            }
            Self::ReloadRefused { why } => Cow::Owned(format!("nothing was reloaded: {why}")),
            Self::Upgraded { from, duration_ms } => Cow::Owned(format!(
                "procring {} goes on where {from} was, {duration_ms} ms after that was asked for",
                env!("CARGO_PKG_VERSION")
            )),
            Self::UpgradeRefused { why } => Cow::Owned(format!("nothing was upgraded: {why}")),
            Self::AuditLost { lines, why } => {
                Cow::Owned(format!("{lines} lines of the audit log are lost: {why}"))
            }
            Self::LinesLost { lines } => {
                Cow::Owned(format!("{lines} lines are lost: nobody took them in time"))
            }
            _ => return None,
        })
    }

    /// Its fields.
    pub(super) fn fields(&self, line: &mut Line<'_>) {
        match self {
            Self::Start(start) => start.fields(line),
            Self::Listening {
                address,
                access,
                backend,
            } => {
                line.text("address", address);
                line.text("access", access);
                line.text("backend", backend);
            }
            Self::Damaged { id, .. } => line.maybe_word("id", *id),
            Self::Started(started) => started.fields(line),
            Self::Ended(ended) => ended.fields(line),
            Self::Refused(refused) => refused.fields(line),
            Self::Limit { reason, id, count } | Self::ViewerDropped { id, reason, count } => {
                line.maybe_word("id", *id);
                line.text("reason", reason);
                line.number("count", count);
            }
            Self::LeftEnded { id, reason, .. } => {
                line.maybe_word("id", *id);
                line.text("reason", reason);
            }
            Self::Gap { id, bytes, count } => {
                line.maybe_word("id", Some(id));
                line.number("bytes", bytes);
                line.number("count", count);
            }
            Self::LimitsSet { request, changed } => {
                line.maybe("request", *request);
                line.text("changed", changed);
            }
            Self::Reloaded { changed } => line.text("changed", changed),
            Self::Upgraded { from, duration_ms } => {
                line.text("version", env!("CARGO_PKG_VERSION"));
                line.text("from", from);
                line.number("durationMs", duration_ms);
            }
            Self::AuditLost { lines, .. } | Self::LinesLost { lines } => {
                line.number("lines", lines);
            }
            Self::Stopping { processes, runs } => {
                line.number("processes", processes);
                line.number("runs", runs);
            }
            Self::Stopped {
                processes,
                runs,
                duration_ms,
            } => {
                line.number("processes", processes);
                line.number("runs", runs);
                line.number("durationMs", duration_ms);
            }
            Self::Warning(_)
            | Self::Told(_)
            | Self::Groups
            | Self::Failed { .. }
            | Self::ReloadRefused { .. }
            | Self::UpgradeRefused { .. } => {}
        }
    }
}

impl Start<'_> {
    fn fields(&self, line: &mut Line<'_>) {
        line.text("version", env!("CARGO_PKG_VERSION"));
        line.number("pid", std::process::id());
        line.text("backend", self.backend);
        line.maybe("config", self.config);
        line.maybe_number("descriptors", self.descriptors);
        line.number("descriptorsWanted", self.descriptors_wanted);
        line.number("memoryBytes", self.memory);
        line.number("logBytesWanted", self.logs_wanted);
    }
}

impl Job<'_> {
    fn fields(&self, reason: Option<&str>, line: &mut Line<'_>) {
        line.maybe_word("id", self.id);
        line.maybe("request", self.request);
        line.maybe("reason", reason);
        line.maybe("name", self.name);
        line.maybe_number("run", self.run.map(|run| run.0));
        line.text("command", first_word(self.command));
    }
}

impl Started<'_> {
    fn fields(&self, line: &mut Line<'_>) {
        self.job.fields(None, line);
        if line.in_detail {
            line.list("args", self.args);
        }
        line.maybe_number("pid", self.pid);
    }
}

impl Ended<'_> {
    fn fields(&self, line: &mut Line<'_>) {
        self.job.fields(self.reason, line);
        line.maybe_number("exitCode", self.exit_code);
        line.maybe("signal", self.signal);
        line.number("durationMs", self.duration_ms);
        line.number("outputBytes", self.output_bytes);
        if self.descendants > 0 {
            line.number("descendants", self.descendants);
        }
    }
}

impl Refused<'_> {
    fn owned(self) -> Refused<'static> {
        Refused {
            reason: self.reason,
            id: self.id.into_owned().into(),
            status: self.status,
            method: self.method,
            path: self.path.into_owned().into(),
            detail: self.detail.into_owned().into(),
            peer: self.peer.map(|peer| peer.into_owned().into()),
            request: self.request.map(|request| request.into_owned().into()),
            count: self.count,
        }
    }

    fn fields(&self, line: &mut Line<'_>) {
        if !self.id.is_empty() {
            line.text("id", &self.id);
        }
        line.maybe("request", self.request.as_deref());
        line.text("reason", self.reason);
        line.number("status", self.status);
        if !self.method.is_empty() {
            line.text("method", self.method);
            line.text("path", &self.path);
        }
        line.maybe("peer", self.peer.as_deref());
        if self.count > 1 {
            line.number("count", self.count);
        }
        if !self.detail.is_empty() {
            line.text("detail", &self.detail);
        }
    }
}

/// The program of a command that may hold more than its name, as some clients write it.
pub(super) fn first_word(command: &str) -> &str {
    command.split_whitespace().next().unwrap_or_default()
}
