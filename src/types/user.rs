//! Users: how a request or a flag names one, and what the kernel knows of one.
//!
//! In: a text. Out: a [`UserName`]. Knows no file that tells who that is.

use std::fmt;

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// By its name.
    Name(String),
    /// By its number.
    Id(u32),
}

/// `name`, `uid`, `uid:gid` or `name:group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    /// Who.
    pub user: Who,
    /// In which group; the user's own if None.
    pub group: Option<Who>,
}

/// Why a text names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserError;

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "must be \"name\", \"uid\", \"uid:gid\" or \"name:group\"; numbers are at most {ID_MAX}"
        )
    }
}

impl std::error::Error for UserError {}

/// The one above means "no change" to system calls (setresuid(2)).
const ID_MAX: u32 = u32::MAX - 1;

/// Bytes of a name; useradd(8) allows 32.
const NAME_BYTES_MAX: usize = 256;

impl Who {
    fn parse(text: &str) -> Result<Self, UserError> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.len() {
            1..=NAME_BYTES_MAX if is_number => match text.parse() {
                Ok(id @ 0..=ID_MAX) => Ok(Self::Id(id)),
                _ => Err(UserError),
            },
            // No name in /etc/passwd has any of these.
            1..=NAME_BYTES_MAX
                if !text.contains([':', ',', '*']) && !text.contains(char::is_control) =>
            {
                Ok(Self::Name(text.to_owned()))
            }
            _ => Err(UserError),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl UserName {
    /// Reads one.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        Ok(Self {
            user: Who::parse(user)?,
            group: group.map(Who::parse).transpose()?,
        })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(f)?;
        match &self.group {
            Some(group) => write!(f, ":{group}"),
            None => Ok(()),
        }
    }
}

/// Who a process is to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups that it is in, its own one included.
    pub groups: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_four_forms_and_is_shown_as_it_was_written() {
        for text in [
            "nobody",
            "0",
            "1000:1000",
            "www-data:adm",
            "4294967294",
            "1a:7",
        ] {
            assert_eq!(UserName::parse(text).unwrap().to_string(), text);
        }
        let of = |text| UserName::parse(text).unwrap();
        assert_eq!(of("007").user, Who::Id(7));
        assert_eq!(of("7a").user, Who::Name("7a".to_owned()));
        assert_eq!(of("a:0").group, Some(Who::Id(0)));
    }

    #[test]
    fn what_can_be_no_user_is_refused() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let wrong = [
            "",
            ":",
            "a:",
            ":a",
            "a:b:c",
            "4294967295",
            "99999999999",
            "a\0",
            "a\nb",
            "a,b",
            "*",
            &long,
        ];
        for text in wrong {
            assert_eq!(UserName::parse(text), Err(UserError), "{text:?}");
        }
    }
}
