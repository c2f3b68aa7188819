//! Where the token comes from, and how it is kept from children.
//!
//! In: flags, files, the environment. Out: the tokens; the server's own no longer stands where other
//! processes can read it (`conceal`), those of clients never did.

mod conceal;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::config::flags::ServerArgs;

/// Acts like `--token`; no child gets it.
pub(crate) const VARIABLE: &str = "PROCRING_TOKEN";

/// All that there are. Whoever brings one of them is let in.
#[derive(Clone, Default)]
pub(crate) struct Tokens {
    /// The server's own.
    pub own: Option<String>,
    /// Those of clients, behind their names.
    pub named: Vec<(String, String)>,
}

impl Tokens {
    /// Whether the server is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_none() && self.named.is_empty()
    }

    /// Each of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        let named = self.named.iter().map(|(_, token)| token);
        self.own.iter().chain(named).map(String::as_str)
    }
}

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    /// The tokens, if there are any.
    pub tokens: Tokens,
    /// Why others can still read the server's own in `/proc`, if they can.
    pub exposed: Option<std::io::Error>,
}

/// The server's token, from the first of: `--token`, `--token-file`, the variable; and the first two in
/// the configuration file; and those of clients. It is overwritten where others could read it. To be
/// called before there are other threads, which could read the environment meanwhile.
///
/// # Errors
/// As [`read`].
pub(crate) fn find(args: &ServerArgs) -> Result<Found, String> {
    let (tokens, is_in_variable) = look(args)?;
    let Some(token) = &tokens.own else {
        return Ok(Found {
            tokens,
            exposed: None,
        });
    };
    let exposed = conceal::conceal(args.token.as_deref(), token).err();
    Ok(Found {
        exposed: exposed.filter(|_| args.token.is_some() || is_in_variable),
        tokens,
    })
}

/// The tokens, which are left where they are: they were concealed before, or nobody stays to read
/// them.
///
/// # Errors
/// A sentence, when a file cannot be read, or when what was given cannot be a token.
pub(crate) fn read(args: &ServerArgs) -> Result<Tokens, String> {
    Ok(look(args)?.0)
}

/// The tokens, and whether there is a variable with one.
fn look(args: &ServerArgs) -> Result<(Tokens, bool), String> {
    // It is overwritten in the environment once it has been read.
    let before = args.given.token_variable().map(OsStr::to_owned);
    let variable = before.or_else(|| std::env::var_os(VARIABLE));
    let own = if let Some(token) = &args.token {
        Some(usable("--token", token)?)
    } else if let Some(path) = &args.token_file {
        Some(in_file("--token-file ", path)?)
    } else if let Some(value) = &variable {
        let value = value.to_str();
        let value = value.ok_or_else(|| format!("{VARIABLE} is not UTF-8"))?;
        Some(usable(VARIABLE, value)?)
    } else {
        None
    };
    let mut tokens = Tokens {
        own,
        named: Vec::new(),
    };
    for (name, path) in &args.client_tokens {
        let token = in_file(&format!("--client-token {name}="), path)?;
        if tokens.all().any(|known| known == token) {
            // Nobody could tell whose it is.
            return Err(format!(
                "--client-token {name}={} holds a token that somebody else has",
                path.display()
            ));
        }
        tokens.named.push((name.clone(), token));
    }
    Ok((tokens, variable.is_some()))
}

/// The first line of a file that a flag names.
fn in_file(flag: &str, path: &Path) -> Result<String, String> {
    let source = format!("{flag}{}", path.display());
    let text = fs::read_to_string(path).map_err(|error| format!("{source}: {error}"))?;
    let first = text.lines().next().unwrap_or_default();
    usable(&format!("{source}: its first line"), first)
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
