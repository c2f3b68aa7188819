//! Where the token comes from, and how it is kept from children.
//!
//! In: flags, a file, the environment. Out: the token, which no longer stands where other
//! processes can read it (`conceal`).

mod conceal;

use std::ffi::OsStr;
use std::fs;

use crate::config::flags::ServerArgs;

/// Acts like `--token`; no child gets it.
pub const VARIABLE: &str = "PROCRING_TOKEN";

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The token, if there is one.
    pub token: Option<String>,
    /// Why others can still read it in `/proc`, if they can.
    pub exposed: Option<std::io::Error>,
}

/// The token, from the first of: `--token`, `--token-file`, the variable; and the first two in the
/// configuration file. It is overwritten where others could read it. To be called before there are
/// other threads, which could read the environment meanwhile.
///
/// # Errors
/// As [`read`].
pub fn find(args: &ServerArgs) -> Result<Found, String> {
    let Some((token, variable)) = look(args)? else {
        return Ok(Found::default());
    };
    let exposed = conceal::conceal(args.token.as_deref(), &token).err();
    Ok(Found {
        token: Some(token),
        exposed: exposed.filter(|_| args.token.is_some() || variable),
    })
}

/// The token, which is left where it is: it was concealed before, or nobody stays to read it.
///
/// # Errors
/// A sentence, when a file cannot be read, or when what was given cannot be a token.
pub fn read(args: &ServerArgs) -> Result<Option<String>, String> {
    Ok(look(args)?.map(|(token, _)| token))
}

/// The token, and whether there is a variable.
fn look(args: &ServerArgs) -> Result<Option<(String, bool)>, String> {
    // It is overwritten in the environment once it has been read.
    let before = args.given.token_variable().map(OsStr::to_owned);
    let variable = before.or_else(|| std::env::var_os(VARIABLE));
    let token = if let Some(token) = &args.token {
        usable("--token", token)?
    } else if let Some(path) = &args.token_file {
        let source = format!("--token-file {}", path.display());
        let text = fs::read_to_string(path).map_err(|error| format!("{source}: {error}"))?;
        let first = text.lines().next().unwrap_or_default();
        usable(&format!("{source}: its first line"), first)?
    } else if let Some(value) = &variable {
        let value = value.to_str();
        let value = value.ok_or_else(|| format!("{VARIABLE} is not UTF-8"))?;
        usable(VARIABLE, value)?
    } else {
        return Ok(None);
    };
    Ok(Some((token, variable.is_some())))
}

/// A token as a client can send it: blanks around it would never arrive, and a control character
/// is in no header.
fn usable(source: &str, given: &str) -> Result<String, String> {
    let token = given.trim();
    if token.is_empty() {
        // Never an open server because a secret went missing.
        Err(format!("{source} holds no token"))
    } else if token.chars().any(char::is_control) {
        Err(format!("{source} holds control characters"))
    } else {
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_a_client_can_send() {
        for given in ["T", " T", "T\n", "\tT \r\n"] {
            assert_eq!(usable("it", given).as_deref(), Ok("T"), "{given:?}");
        }
        assert_eq!(usable("it", "a b").as_deref(), Ok("a b"));
        for given in ["", " \n", "a\nb", "a\tb", "a\u{7f}b"] {
            assert!(usable("it", given).is_err(), "{given:?}");
        }
    }
}
