//! The environment that every child begins with.
//!
//! In: names and values, once, at start. Out: `NAME=value` strings ready for execve(2), shared by
//! all spawns. Knows no request.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// `PATH` of a child that does not get the server's variables and names none: what containers begin
/// with.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that describe the window in which the server was started. A program on a terminal of
/// its own would believe them rather than its terminal, for ever.
const WINDOW: [&[u8]; 8] = [
    b"COLUMNS",
    b"LINES",
    b"TERMCAP",
    b"TMUX",
    b"TMUX_PANE",
    b"STY",
    b"WINDOWID",
    b"VTE_VERSION",
];

/// Names of more such variables begin with this: the terminal emulator's name and version.
const WINDOW_PREFIX: &[u8] = b"TERM_PROGRAM";

/// Variables that are about the server itself and wrong, or none of the business, for children:
/// the conversation with whoever started it, by a socket, a pid or descriptors that children do not
/// have. A child that answered for the server could have it restarted, and Node.js does not start
/// with a channel that is not there. A request may still set them.
const OF_THE_SERVER: [&str; 17] = [
    // systemd (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5)).
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "MAINPID",
    "SYSTEMD_EXEC_PID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    // Node.js (child_process, `stdio: 'ipc'`), so also pm2.
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
];

/// Variables in the form that execve(2) takes.
#[derive(Debug, Default)]
pub(crate) struct Environment(Vec<Variable>);

#[derive(Debug)]
struct Variable {
    /// `NAME=value`.
    pair: CString,
    name_len: usize,
    /// See [`WINDOW`].
    of_window: bool,
}

impl Variable {
    fn name(&self) -> &[u8] {
        &self.pair.as_bytes()[..self.name_len]
    }

    fn value(&self) -> &[u8] {
        &self.pair.as_bytes()[self.name_len + 1..]
    }
}

impl Environment {
    /// Prepares the server's variables for children: all but those that are about the server
    /// itself. One that holds a NUL byte, which no process can have, is left out.
    pub(crate) fn new(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let for_children =
            variables.filter(|(name, _)| !OF_THE_SERVER.iter().any(|own| name == own));
        let prepared = for_children.filter_map(|(name, value)| {
            let name = name.into_vec();
            let name_len = name.len();
            let of_window = WINDOW.contains(&&*name) || name.starts_with(WINDOW_PREFIX);
            let pair = pair(name, value.as_bytes()).ok()?;
            Some(Variable {
                pair,
                name_len,
                of_window,
            })
        });
        Self(prepared.collect())
    }

    /// What a child has that does not get the server's variables: a `PATH`, without which most
    /// programs find nothing.
    pub(crate) fn bare() -> Self {
        Self::new(std::iter::once(("PATH".into(), USUAL_PATH.into())))
    }

    /// The value of a variable.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        let variable = self.0.iter().find(|v| v.name() == name.as_bytes())?;
        Some(OsStr::from_bytes(variable.value()))
    }

    /// Every variable whose name is none of `hidden`; `terminal` leaves out those of the server's
    /// own window, too. `hidden` is sorted: a request may bring a hundred thousand names.
    pub(crate) fn without(&self, hidden: &[String], terminal: bool) -> impl Iterator<Item = &CStr> {
        self.0
            .iter()
            .filter(move |v| !(terminal && v.of_window))
            .filter(|v| {
                let place = hidden.binary_search_by(|name| name.as_bytes().cmp(v.name()));
                place.is_err()
            })
            .map(|v| v.pair.as_c_str())
    }
}

/// `NAME=value`.
///
/// # Errors
/// For a NUL byte in either.
pub(crate) fn pair(name: Vec<u8>, value: &[u8]) -> Result<CString, std::ffi::NulError> {
    let mut pair = name;
    pair.reserve_exact(value.len() + 2);
    pair.push(b'=');
    pair.extend_from_slice(value);
    CString::new(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_variables_are_left_out_by_their_whole_name() {
        let text = |s: &str| OsString::from(s);
        let environment = Environment::new(
            [
                (text("PATH"), text("/bin")),
                (text("PATHS"), text("a=b")),
                (text("bad\0"), text("")),
            ]
            .into_iter(),
        );
        assert_eq!(environment.value("PATHS"), Some(OsStr::new("a=b")));
        assert_eq!(environment.value("PAT"), None);
        let left: Vec<_> = environment.without(&["PATH".to_owned()], false).collect();
        assert_eq!(left, [c"PATHS=a=b"]);
    }

    #[test]
    fn a_terminal_does_not_get_the_variables_of_the_servers_window() {
        let names = ["STY", "STYLE", "TERM_PROGRAM_VERSION", "TERM", "LINES"];
        let variables = names.map(|name| (OsString::from(name), OsString::from("1")));
        let environment = Environment::new(variables.into_iter());
        let left: Vec<_> = environment.without(&[], true).collect();
        assert_eq!(left, [c"STYLE=1", c"TERM=1"]);
        assert_eq!(environment.without(&[], false).count(), names.len());
    }
}
