//! Reads the configuration file.
//!
//! In: what was given on the command line and in the environment. Out: the same with what the file
//! says. The only place of this room that knows files; it may wait for a disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::flags::{ConfigError, FileError, ServerArgs};

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The configuration, with that of the file, if one is named.
///
/// # Errors
/// When it cannot be read, or says what cannot be.
pub fn load(args: &ServerArgs) -> Result<ServerArgs, ConfigError> {
    let Some(path) = &args.config else {
        return Ok(args.clone());
    };
    let name = path.display().to_string();
    let text = read(path).map_err(|error| FileError::whole(&name, error.to_string()))?;
    args.given.with_file(&name, &text)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}
