//! Who is who on this machine.
//!
//! In: the texts of `/etc/passwd` and `/etc/group` (passwd(5), group(5)). Out: what a user is called,
//! its home and shell, and the groups that it is in. Reads no file.
//!
//! Our own reading, because the static C library would have to load plugins for its own (getpwnam(3),
//! nsswitch.conf(5)), which need the very same library at run time: docs/design/037-users.md.

use crate::types::{Credentials, UserName, Who};

/// The group of who has none of its own: `nogroup`, which the kernel itself takes where it has no
/// number (/proc/sys/kernel/overflowgid).
const NO_GROUP: u32 = 65_534;

/// The shell where the entry names none (passwd(5)).
const USUAL_SHELL: &str = "/bin/sh";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

/// What a process is to be, and to be told that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name; its number where it has none.
    pub name: String,
    /// Its home.
    pub home: String,
    /// Its shell.
    pub shell: String,
    /// What the kernel knows of it.
    pub credentials: Credentials,
    /// The group is one of the user's.
    pub is_in_group: bool,
}

/// Why there is no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// No entry has the user's name.
    User,
    /// No entry has the group's name.
    Group,
}

/// One line of passwd(5).
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
    shell: &'a str,
}

/// One line of group(5).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    /// Takes both texts as they are; lines that say nothing are passed over.
    pub(crate) fn new(passwd: Vec<u8>, group: Vec<u8>) -> Self {
        Self { passwd, group }
    }

    /// Finds a user and a group. A number needs no entry.
    ///
    /// # Errors
    /// Whose name is not there.
    pub(crate) fn find(&self, name: &UserName) -> Result<Account, Unknown> {
        let entry = self.entry(&name.user);
        let uid = match (&name.user, &entry) {
            (_, Some(entry)) => entry.uid,
            (Who::Id(uid), None) => *uid,
            (Who::Name(_), None) => return Err(Unknown::User),
        };
        let own_gid = match &entry {
            Some(entry) => entry.gid,
            // As if it had been given a group of its own. Not one that is somebody's: 42 is shadow.
            None if self.groups().all(|group| group.gid != uid) => uid,
            None => NO_GROUP,
        };
        let gid = match &name.group {
            None => own_gid,
            Some(Who::Id(gid)) => *gid,
            Some(Who::Name(name)) => {
                let mut groups = self.groups();
                let found = groups.find(|group| group.name == name);
                found.ok_or(Unknown::Group)?.gid
            }
        };
        let mut groups = vec![gid];
        for group in self.groups() {
            let has = |entry: &Entry<'_>| group.members.split(',').any(|one| one == entry.name);
            if entry.as_ref().is_some_and(has) && !groups.contains(&group.gid) {
                groups.push(group.gid);
            }
        }
        let is_in_group = gid == own_gid || self.lists(entry.as_ref(), gid);
        let known = |of: fn(&Entry<'_>) -> String| entry.as_ref().map(of);
        Ok(Account {
            name: known(|entry| entry.name.to_owned()).unwrap_or_else(|| uid.to_string()),
            home: known(|entry| entry.home.to_owned()).unwrap_or_else(|| "/".to_owned()),
            shell: known(|entry| entry.shell.to_owned()).unwrap_or_else(|| USUAL_SHELL.to_owned()),
            credentials: Credentials { uid, gid, groups },
            is_in_group,
        })
    }

    /// The number of a user, as far as it has one.
    pub(crate) fn uid(&self, who: &Who) -> Option<u32> {
        match who {
            Who::Id(uid) => Some(*uid),
            Who::Name(_) => self.entry(who).map(|entry| entry.uid),
        }
    }

    /// The number of a group, as far as it has one.
    pub(crate) fn gid(&self, who: &Who) -> Option<u32> {
        match who {
            Who::Id(gid) => Some(*gid),
            Who::Name(name) => {
                let mut groups = self.groups();
                groups
                    .find(|group| group.name == name)
                    .map(|group| group.gid)
            }
        }
    }

    /// Whether the line of a group with this number names the user.
    fn lists(&self, entry: Option<&Entry<'_>>, gid: u32) -> bool {
        let Some(entry) = entry else { return false };
        let mut of_number = self.groups().filter(|group| group.gid == gid);
        of_number.any(|group| group.members.split(',').any(|one| one == entry.name))
    }

    /// The first one counts, as for getpwnam(3) and getpwuid(3).
    fn entry(&self, who: &Who) -> Option<Entry<'_>> {
        let mut entries = lines(&self.passwd).filter_map(Entry::parse);
        entries.find(|entry| match who {
            Who::Name(name) => entry.name == name,
            Who::Id(uid) => entry.uid == *uid,
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        lines(&self.group).filter_map(Group::parse)
    }
}

/// Lines of text without what no name or path can hold.
fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
    // Those with a sign in front stand for other sources (nsswitch.conf(5), compat).
    lines.filter(|line| !line.contains('\0') && !line.starts_with(['+', '-', '#']))
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
        let _comment = fields.next()?;
        let or =
            |text: Option<&'a str>, usual| text.filter(|text| !text.is_empty()).unwrap_or(usual);
        Some(Self {
            name,
            uid,
            gid,
            home: or(fields.next(), "/"),
            shell: or(fields.next(), USUAL_SHELL),
        })
    }
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        Some(Self {
            name,
            gid: id(fields.next()?)?,
            members: fields.next().unwrap_or_default(),
        })
    }
}

/// A number of a user or group; the greatest one means nobody to the kernel.
fn id(field: &str) -> Option<u32> {
    field.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
        alice:x:1000:1000:,,,:/home/alice:\n\
        +nis:x:7:7:::\n\
        bad:x:-1:0:::\nworse:x:4294967295:0:::\nshort:x:9\n\
        toor:x:0:0:::\n\
        \u{fc}ml:x:1001:1000::/home/\u{fc}ml:/bin/zsh";
    const GROUP: &str = "root:x:0:\nshadow:x:42:\nnogroup:x:65534:\n\
        alice:x:1000:\nadm:x:4:alice,bob\ndocker:x:999:bob,alice\ntwice:x:999:alice\n";

    fn accounts() -> Accounts {
        Accounts::new(PASSWD.into(), GROUP.into())
    }

    fn find(text: &str) -> Result<Account, Unknown> {
        accounts().find(&UserName::parse(text).unwrap())
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number_with_its_groups() {
        let alice = Account {
            name: "alice".to_owned(),
            home: "/home/alice".to_owned(),
            shell: "/bin/sh".to_owned(),
            credentials: Credentials {
                uid: 1000,
                gid: 1000,
                groups: vec![1000, 4, 999],
            },
            is_in_group: true,
        };
        for text in ["alice", "1000", "alice:1000", "1000:alice"] {
            assert_eq!(find(text).as_ref(), Ok(&alice), "{text}");
        }
        let other = find("\u{fc}ml").unwrap();
        assert_eq!(
            (other.shell.as_str(), other.credentials.uid),
            ("/bin/zsh", 1001)
        );
        assert_eq!(find("toor").unwrap().name, "toor");
        assert_eq!(find("0").unwrap().name, "root");
    }

    #[test]
    fn a_group_may_be_one_of_others() {
        for (text, gid, is_in_group) in [
            ("alice:adm", 4, true),
            ("alice:999", 999, true),
            ("alice:shadow", 42, false),
            ("nobody:4", 4, false),
            ("nobody:7777", 7777, false),
        ] {
            let account = find(text).unwrap();
            assert_eq!(account.credentials.gid, gid, "{text}");
            assert_eq!(account.credentials.groups[0], gid, "{text}");
            assert_eq!(account.is_in_group, is_in_group, "{text}");
        }
    }

    #[test]
    fn a_number_without_an_entry_has_a_group_that_is_nobodys() {
        let of = |text| find(text).unwrap();
        let plain = of("5000");
        assert_eq!(
            (&*plain.name, &*plain.home, &*plain.shell),
            ("5000", "/", "/bin/sh")
        );
        assert_eq!(plain.credentials.groups, [5000]);
        assert!(of("5000:5000").is_in_group);
        assert!(!of("5000:4").is_in_group);
        // Not the group that may read passwords.
        assert_eq!(of("42").credentials.groups, [NO_GROUP]);
        assert!(!of("42:42").is_in_group);
    }

    #[test]
    fn who_is_not_there_is_not_found_and_bad_lines_are_nobody() {
        for text in ["bob", "bad", "worse", "short", "+nis", "nis"] {
            assert_eq!(find(text), Err(Unknown::User), "{text}");
        }
        assert_eq!(find("alice:bob"), Err(Unknown::Group));
        let empty = Accounts::default();
        let root = UserName::parse("0").unwrap();
        assert_eq!(empty.find(&root).unwrap().credentials.groups, [0]);
        assert_eq!(empty.uid(&Who::Name("root".to_owned())), None);
    }

    #[test]
    fn no_bytes_make_it_fail() {
        let name = UserName::parse("a:b").unwrap();
        for text in [
            &b":::::"[..],
            b"\xff\xfe:x:1:1",
            b"a",
            b"a:",
            b"a:x:0",
            b"\n\n:\n",
        ] {
            let accounts = Accounts::new(text.to_vec(), text.to_vec());
            assert!(accounts.find(&name).is_err());
        }
    }
}
