//! Signals by number and by name, as signal(7) has them.

/// The standard signals of Linux.
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

/// Other names of some of them (signal(7)).
const ALIASES: [(i32, &str); 3] = [
    (libc::SIGABRT, "SIGIOT"),
    (libc::SIGCHLD, "SIGCLD"),
    (libc::SIGIO, "SIGPOLL"),
];

/// The processes of a job that a signal goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The child alone.
    Leader,
    /// The process group that the child leads.
    #[default]
    Group,
    /// Every process of its tree.
    Tree,
    /// The foreground process group of its terminal.
    Foreground,
}

impl Scope {
    /// The names that clients use.
    pub(crate) const NAMES: [(&'static str, Scope); 4] = [
        ("leader", Scope::Leader),
        ("group", Scope::Group),
        ("tree", Scope::Tree),
        ("foreground", Scope::Foreground),
    ];

    /// Reads a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, scope)| *scope)
    }
}

/// Every name that [`number`] knows, for people.
pub(crate) fn names() -> String {
    let names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
    let above = libc::SIGRTMAX() - libc::SIGRTMIN();
    format!("{}, SIGRTMIN to SIGRTMIN+{above}", names.join(", "))
}

/// The name of signal `number`; real-time signals are named from `SIGRTMIN`.
pub(crate) fn name(number: i32) -> String {
    if let Some((_, name)) = NAMES.iter().find(|(n, _)| *n == number) {
        return (*name).to_owned();
    }
    match number - libc::SIGRTMIN() {
        0 => "SIGRTMIN".to_owned(),
        above @ 1.. => format!("SIGRTMIN+{above}"),
        _ => format!("SIG{number}"),
    }
}

/// The number of a signal by its name (`SIGINT`, `INT` or `int`, `RTMIN+3`, `RTMAX-1`) or its
/// number, 1 to 64, in decimal. None for anything else.
pub(crate) fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=64).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let mut names = NAMES.iter().chain(&ALIASES);
    if let Some((number, _)) = names.find(|(_, name)| &name[3..] == short) {
        return Some(*number);
    }
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let number = match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(rest), _) => real_time.start().checked_add(offset(rest, '+')?)?,
        (None, Some(rest)) => real_time.end().checked_sub(offset(rest, '-')?)?,
        (None, None) => return None,
    };
    real_time.contains(&number).then_some(number)
}

/// What stands behind `RTMIN` or `RTMAX`: nothing, or the sign and digits.
fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| only_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_as_in_signal_7() {
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(15), "SIGTERM");
        assert_eq!(name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        for signal in (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            assert_eq!(number(&name(signal)), Some(signal));
            assert_eq!(number(&signal.to_string()), Some(signal));
        }
    }

    #[test]
    fn a_name_is_read_in_any_case_and_without_its_prefix() {
        for text in ["SIGINT", "INT", "int", "sigint", "2"] {
            assert_eq!(number(text), Some(2), "{text}");
        }
        for (text, signal) in [
            ("rtmax", libc::SIGRTMAX()),
            ("SIGRTMAX-2", libc::SIGRTMAX() - 2),
            ("sigrtmin", libc::SIGRTMIN()),
            ("cld", libc::SIGCHLD),
            ("SIGPOLL", libc::SIGIO),
            ("iot", libc::SIGABRT),
        ] {
            assert_eq!(number(text), Some(signal), "{text}");
        }
        for text in [
            "", "0", "65", "-1", "+2", "SIG", "SIGNOPE", "RTMIN+", "RTMIN+99", "RTMIN+-1",
            "RTMIN-1", "RTMAX+1", "RTMAX-99", "RTMAX-",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
