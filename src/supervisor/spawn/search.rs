//! Where a program is looked for when its name has no slash: as execvp(3) does.
//!
//! In: the value of PATH, a name, and a buffer. Out: one path after the other, each in the buffer
//! until the next. Needs no memory and makes no system call, so it is fit for a child between
//! vfork and exec; nothing is joined before it is tried, because PATH and the name are the
//! client's, and all paths together are as long as the product of both.

use std::ffi::CStr;

/// Bytes of a path that execve(2) takes, its NUL included.
pub(super) const PATH_BYTES_MAX: usize = libc::PATH_MAX as usize;

/// Bytes of the name of a file.
const NAME_BYTES_MAX: usize = 255;

/// Directories of a PATH. Each is a system call, and costs more on a slow file system.
const DIRECTORIES_MAX: usize = 4096;

/// Whether `name` may be looked for in `path`.
///
/// # Errors
/// ENAMETOOLONG for a name that no file can have, E2BIG for a PATH of too many directories.
pub(super) fn check(path: &[u8], name: &[u8]) -> Result<(), i32> {
    if name.len() > NAME_BYTES_MAX {
        return Err(libc::ENAMETOOLONG);
    }
    let directories = path.iter().filter(|&&byte| byte == b':').count() + 1;
    if directories > DIRECTORIES_MAX {
        return Err(libc::E2BIG);
    }
    Ok(())
}

/// See the module.
#[derive(Debug)]
pub(super) struct Search<'a> {
    /// What of PATH is left; None at its end.
    rest: Option<&'a [u8]>,
    name: &'a CStr,
}

impl<'a> Search<'a> {
    /// Looks for `name` in the directories of `path`, in their order. An empty one is the current
    /// directory.
    pub(super) fn new(path: &'a [u8], name: &'a CStr) -> Self {
        Self {
            rest: Some(path),
            name,
        }
    }

    /// Writes the next path into `buffer`. One that is too long for it is passed over.
    pub(super) fn next<'b>(&mut self, buffer: &'b mut [u8; PATH_BYTES_MAX]) -> Option<&'b CStr> {
        loop {
            let rest = self.rest?;
            let end = rest.iter().position(|&byte| byte == b':');
            let directory = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
            self.rest = end.and_then(|end| rest.get(end + 1..));
            if join(directory, self.name, buffer).is_some() {
                break;
            }
        }
        CStr::from_bytes_until_nul(buffer).ok()
    }
}

/// Writes `directory/name` and a NUL; None if there is no room for it.
fn join(directory: &[u8], name: &CStr, buffer: &mut [u8]) -> Option<()> {
    let directory = if directory.is_empty() {
        b"."
    } else {
        directory
    };
    let name = name.to_bytes_with_nul();
    let (head, rest) = buffer.split_at_mut_checked(directory.len())?;
    let (slash, rest) = rest.split_first_mut()?;
    let tail = rest.get_mut(..name.len())?;
    head.copy_from_slice(directory);
    *slash = b'/';
    tail.copy_from_slice(name);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(path: &[u8], name: &CStr) -> Vec<Vec<u8>> {
        let mut search = Search::new(path, name);
        let mut buffer = [b'?'; PATH_BYTES_MAX];
        let mut found = Vec::new();
        while let Some(path) = search.next(&mut buffer) {
            found.push(path.to_bytes().to_vec());
        }
        found
    }

    #[test]
    fn directories_come_in_order_and_an_empty_one_is_the_current() {
        let text = |path: &str| -> Vec<String> {
            let all = all(path.as_bytes(), c"x");
            all.into_iter()
                .map(|path| String::from_utf8(path).unwrap())
                .collect()
        };
        assert_eq!(text("/bin:/usr/bin"), ["/bin/x", "/usr/bin/x"]);
        assert_eq!(text(":a::/b/:"), ["./x", "a/x", "./x", "/b//x", "./x"]);
        assert_eq!(text(""), ["./x"]);
    }

    #[test]
    fn a_path_that_is_too_long_is_passed_over_and_the_longest_is_not() {
        // The slash, the name and the NUL.
        let longest = "d".repeat(PATH_BYTES_MAX - 3);
        let path = format!(
            "{longest}d:{longest}:{}:/bin",
            "e".repeat(PATH_BYTES_MAX * 3)
        );
        let found = all(path.as_bytes(), c"x");
        assert_eq!(
            found,
            [format!("{longest}/x").as_bytes(), b"/bin/x"],
            "{}",
            found.len()
        );
        assert!(all("d".repeat(PATH_BYTES_MAX).as_bytes(), c"x").is_empty());
    }

    #[test]
    fn names_and_numbers_of_directories_are_bounded() {
        assert_eq!(check(b"/bin", &[b'n'; NAME_BYTES_MAX]), Ok(()));
        let long = [b'n'; NAME_BYTES_MAX + 1];
        assert_eq!(check(b"/bin", &long), Err(libc::ENAMETOOLONG));
        assert_eq!(check(&[b':'; DIRECTORIES_MAX - 1], b"x"), Ok(()));
        assert_eq!(check(&[b':'; DIRECTORIES_MAX], b"x"), Err(libc::E2BIG));
    }
}
