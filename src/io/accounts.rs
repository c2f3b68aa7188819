//! Reads who is who: `/etc/passwd` and `/etc/group`.
//!
//! In: nothing. Out: [`Accounts`], read again when a file has changed. Owns the last ones.
//!
//! Only requests that name a user come here, and the default user's. The files are the host's, but
//! children that are root may change them: nothing in there may hold this thread up.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::accounts::Accounts;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Bytes of each file. With 10,000 users they have some 800 KB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What tells one content of a file from another; None where there is no file.
type Identity = Option<(u64, u64, u64, i64, i64)>;

thread_local! {
    static LAST: RefCell<Option<([Identity; 2], Rc<Accounts>)>> = const { RefCell::new(None) };
}

/// Who is who now.
///
/// # Errors
/// When a file is there and cannot be read.
pub(crate) fn read() -> io::Result<Rc<Accounts>> {
    let now = [identity(PASSWD)?, identity(GROUP)?];
    if let Some(known) = LAST.with_borrow(|last| {
        let same = last.as_ref().filter(|(of, _)| *of == now);
        same.map(|(_, accounts)| accounts.clone())
    }) {
        return Ok(known);
    }
    let accounts = Rc::new(Accounts::new(contents(PASSWD)?, contents(GROUP)?));
    LAST.set(Some((now, accounts.clone())));
    Ok(accounts)
}

fn identity(path: &str) -> io::Result<Identity> {
    match std::fs::metadata(path) {
        Ok(of) => Ok(Some((
            of.dev(),
            of.ino(),
            of.size(),
            // Set by every change, and by nobody else (inode(7)).
            of.ctime(),
            of.ctime_nsec(),
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, error)),
    }
}

fn contents(path: &str) -> io::Result<Vec<u8>> {
    let named = |error| named(path, error);
    // A pipe in its place would be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(error) => return Err(named(error.into())),
    };
    let stat = fstat(&file).map_err(|error| named(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(named(io::Error::other("it is no regular file")));
    }
    let mut text = Vec::new();
    let mut file = std::fs::File::from(file).take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut text).map_err(named)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let what = format!("it is longer than {FILE_BYTES_MAX} bytes");
        return Err(named(io::Error::other(what)));
    }
    Ok(text)
}

fn named(path: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Who;

    #[test]
    fn root_is_somebody_and_files_are_read_once() {
        let accounts = read().unwrap();
        assert_eq!(accounts.uid(&Who::Name("root".to_owned())), Some(0));
        assert!(Rc::ptr_eq(&accounts, &read().unwrap()));
    }

    #[test]
    fn what_is_no_file_is_refused_and_what_is_not_there_is_empty() {
        assert!(contents("/dev/zero").is_err());
        assert!(contents("/etc").is_err());
        assert_eq!(contents("/etc/no-such-file").unwrap(), b"");
        assert_eq!(identity("/etc/no-such-file").unwrap(), None);
    }
}
