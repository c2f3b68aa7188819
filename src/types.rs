//! Vocabulary that every room shares. Knows nothing but itself.

use std::fmt;

/// The number of a managed process; shown to clients as `proc_<n>`, n from 1, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

impl ProcessId {
    /// Reads the `proc_<n>` form exactly as [`fmt::Display`] writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("proc_")?;
        let canonical = !digits.starts_with('0')
            && !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit());
        if canonical {
            digits.parse().ok().map(Self)
        } else {
            None
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proc_{}", self.0)
    }
}

/// What the supervisor supervises: a managed process or a one-shot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobId {
    /// Made by `POST /v1/processes`.
    Process(ProcessId),
    /// Made by `POST /v1/processes/run`; the number is private to the server.
    Run(u64),
}

/// Where a log entry came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// The pipe on descriptor 1.
    Stdout = 0,
    /// The pipe on descriptor 2.
    Stderr = 1,
    /// The terminal's master side.
    Pty = 2,
}

impl Stream {
    /// How many variants there are; tables are indexed by `stream as usize`.
    pub const COUNT: usize = 3;

    /// The name used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Pty => "pty",
        }
    }
}

/// Which entries a reader asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamFilter {
    /// Every entry.
    #[default]
    Combined,
    /// Entries of one stream.
    Only(Stream),
}

impl StreamFilter {
    /// Reads the `stream` query parameter.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "combined" => StreamFilter::Combined,
            "stdout" => StreamFilter::Only(Stream::Stdout),
            "stderr" => StreamFilter::Only(Stream::Stderr),
            "pty" => StreamFilter::Only(Stream::Pty),
            _ => return None,
        })
    }

    /// The name used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamFilter::Combined => "combined",
            StreamFilter::Only(stream) => stream.as_str(),
        }
    }

    /// Whether an entry of `stream` was asked for.
    pub fn matches(self, stream: Stream) -> bool {
        match self {
            StreamFilter::Combined => true,
            StreamFilter::Only(only) => only == stream,
        }
    }
}

/// How a process ended (`waitid(2)`, `si_code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit` with this code, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The exit code, if it exited by itself.
    pub fn code(self) -> Option<i32> {
        match self {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }

    /// The name of the signal that ended it, such as `SIGKILL`.
    pub fn signal_name(self) -> Option<String> {
        match self {
            ExitStatus::Code(_) => None,
            ExitStatus::Signal(number) => Some(signal_name(number)),
        }
    }
}

/// The name of signal `number` (signal(7)); real-time signals are named from `SIGRTMIN`.
pub fn signal_name(number: i32) -> String {
    const NAMES: [(i32, &str); 31] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGSTKFLT, "SIGSTKFLT"),
        (libc::SIGCHLD, "SIGCHLD"),
        (libc::SIGCONT, "SIGCONT"),
        (libc::SIGSTOP, "SIGSTOP"),
        (libc::SIGTSTP, "SIGTSTP"),
        (libc::SIGTTIN, "SIGTTIN"),
        (libc::SIGTTOU, "SIGTTOU"),
        (libc::SIGURG, "SIGURG"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGXFSZ, "SIGXFSZ"),
        (libc::SIGVTALRM, "SIGVTALRM"),
        (libc::SIGPROF, "SIGPROF"),
        (libc::SIGWINCH, "SIGWINCH"),
        (libc::SIGIO, "SIGIO"),
        (libc::SIGPWR, "SIGPWR"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    if let Some((_, name)) = NAMES.iter().find(|(n, _)| *n == number) {
        return (*name).to_owned();
    }
    match number - libc::SIGRTMIN() {
        0 => "SIGRTMIN".to_owned(),
        above @ 1.. => format!("SIGRTMIN+{above}"),
        _ => format!("SIG{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_id() {
        assert_eq!(ProcessId::parse("proc_12"), Some(ProcessId(12)));
        for text in [
            "",
            "proc_",
            "proc_0",
            "proc_01",
            "proc_+1",
            "proc_1 ",
            "Proc_1",
            "proc_99999999999999999999",
        ] {
            assert_eq!(ProcessId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn signals_are_named_as_in_signal_7() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
    }
}
