//! Numbers that name a process or a run for the life of a server.

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

/// The number of a job: of a managed process, or of a run, which is a job that no client has been
/// told a number of. From 1, never reused while the server lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

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
}
