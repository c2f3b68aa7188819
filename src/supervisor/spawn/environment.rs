//! The environment that every child begins with.
//!
//! In: names and values, once, at start. Out: `NAME=value` strings ready for execve(2), shared by
//! all spawns. Knows no request.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Variables in the form that execve(2) takes.
#[derive(Debug, Default)]
pub struct Environment(Vec<Variable>);

#[derive(Debug)]
struct Variable {
    /// `NAME=value`.
    pair: CString,
    name_len: usize,
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
    /// Prepares variables; one that holds a NUL byte, which no process can have, is left out.
    pub fn new(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let prepared = variables.filter_map(|(name, value)| {
            let name_len = name.len();
            let pair = pair(name.into_vec(), value.as_bytes()).ok()?;
            Some(Variable { pair, name_len })
        });
        Self(prepared.collect())
    }

    /// The value of a variable.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        let variable = self.0.iter().find(|v| v.name() == name.as_bytes())?;
        Some(OsStr::from_bytes(variable.value()))
    }

    /// Every variable whose name is none of `hidden`.
    pub(crate) fn without(&self, hidden: &[String]) -> impl Iterator<Item = &CStr> {
        self.0
            .iter()
            .filter(|v| !hidden.iter().any(|name| v.name() == name.as_bytes()))
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
        let left: Vec<_> = environment.without(&["PATH".to_owned()]).collect();
        assert_eq!(left, [c"PATHS=a=b"]);
    }
}
