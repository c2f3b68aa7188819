//! `user` of create and run: who a child may be.
//!
//! In: what a request asks for, what the operator allows, who is who. Out: an account, or why not.
//! Changes nobody.

use std::io;
use std::rc::Rc;

use crate::accounts::{Account, Accounts, Unknown};
use crate::config::flags::AllowUser;
use crate::types::{UserName, Who};

use super::problem::Problem;

/// What the operator says of users.
#[derive(Clone, Debug)]
pub(crate) struct UserRules {
    /// The server has the privilege to make a child somebody else, and to end it then.
    pub may_change: bool,
    /// `--allow-user`.
    pub allowed: Vec<AllowUser>,
    /// `--default-user`.
    pub default: Option<UserName>,
    /// Reads who is who. Asked only where a user is named.
    pub accounts: fn() -> io::Result<Rc<Accounts>>,
}

impl UserRules {
    /// Who a child is to be; None is whoever the server is.
    ///
    /// # Errors
    /// 400 for what names nobody, 501 where the server cannot, 403 for who is not allowed.
    pub(super) fn settle(&self, asked: Option<&UserName>) -> Result<Option<Box<Account>>, Problem> {
        let Some(name) = asked.or(self.default.as_ref()) else {
            return Ok(None);
        };
        if !self.may_change {
            return Err(Problem::user_unavailable(
                "this server cannot make a child another user: it needs CAP_SETUID, CAP_SETGID, \
                 CAP_CHOWN and CAP_KILL, as root has; without \"user\" children are who the server is"
                    .to_owned(),
            ));
        }
        if asked.is_some() && self.allowed.is_empty() {
            return Err(self.forbidden(name));
        }
        let accounts = (self.accounts)().map_err(|error| {
            Problem::user_unavailable(format!("who is who cannot be found out: {error}"))
        })?;
        let found = accounts.find(name);
        // The operator's own choice need not be allowed.
        let may_know = asked.is_none() || self.names_literally(name);
        let account = match found {
            Ok(account) => account,
            Err(Unknown::User) if may_know => {
                let message = format!("user {name}: there is no user {} here", name.user);
                return Err(Problem::invalid(message));
            }
            Err(Unknown::Group) if may_know => {
                let group = name.group.as_ref().map(Who::to_string).unwrap_or_default();
                return Err(Problem::invalid(format!(
                    "user {name}: there is no group {group} here"
                )));
            }
            Err(_) => return Err(self.forbidden(name)),
        };
        if asked.is_some() && !self.allows(&account, &accounts) {
            return Err(self.forbidden(name));
        }
        Ok(Some(Box::new(account)))
    }

    /// Whether it is no secret whether there is such a user.
    fn names_literally(&self, name: &UserName) -> bool {
        self.allowed.iter().any(|allow| match allow {
            AllowUser::Everybody => true,
            AllowUser::User(allowed) => allowed.user == name.user,
        })
    }

    fn allows(&self, account: &Account, accounts: &Accounts) -> bool {
        let of = &account.credentials;
        self.allowed.iter().any(|allow| match allow {
            AllowUser::Everybody => of.uid != 0 && account.is_in_group,
            AllowUser::User(UserName { user, group: None }) => {
                accounts.uid(user) == Some(of.uid) && account.is_in_group
            }
            AllowUser::User(UserName {
                user,
                group: Some(group),
            }) => accounts.uid(user) == Some(of.uid) && accounts.gid(group) == Some(of.gid),
        })
    }

    fn forbidden(&self, name: &UserName) -> Problem {
        Problem::forbidden(match &*self.allowed {
            // "Nobody" would be the name of a user.
            [] => format!(
                "user {name} is not allowed: the server was started without --allow-user, so a \
                 request may not name a user"
            ),
            allowed => {
                let names: Vec<_> = allowed.iter().map(AllowUser::to_string).collect();
                format!(
                    "user {name} is not allowed; allowed are: --allow-user {} (a user's own groups \
                     with it; * is everybody but root)",
                    names.join(", ")
                )
            }
        })
    }
}

/// Reads the `user` field.
///
/// # Errors
/// 400 for what can name nobody.
pub(super) fn named(text: Option<&str>) -> Result<Option<UserName>, Problem> {
    let name = text.map(UserName::parse).transpose();
    name.map_err(|error| Problem::invalid(format!("user {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\ntoor:x:0:0:::\n\
        alice:x:1000:1000:::\nbob:x:1001:1001:::\n";
    const GROUP: &str = "alice:x:1000:\nbob:x:1001:\nadm:x:4:alice\ndocker:x:999:\n";

    fn accounts() -> io::Result<Rc<Accounts>> {
        Ok(Rc::new(Accounts::new(PASSWD.into(), GROUP.into())))
    }

    fn rules(allowed: &[&str]) -> UserRules {
        let allowed = allowed.iter().map(|text| match *text {
            "*" => AllowUser::Everybody,
            text => AllowUser::User(UserName::parse(text).unwrap()),
        });
        UserRules {
            may_change: true,
            allowed: allowed.collect(),
            default: None,
            accounts,
        }
    }

    /// The status, or the uid and gid.
    fn settled(rules: &UserRules, text: &str) -> Result<(u32, u32), u16> {
        let name = named(Some(text)).map_err(|problem| problem.reply().status)?;
        match rules.settle(name.as_ref()) {
            Ok(account) => {
                let credentials = account.unwrap().credentials;
                Ok((credentials.uid, credentials.gid))
            }
            Err(problem) => {
                assert!(problem.detail().contains(text), "{}", problem.detail());
                Err(problem.reply().status)
            }
        }
    }

    #[test]
    fn a_listed_name_allows_its_number_and_its_groups_and_nobody_else() {
        let rules = rules(&["alice"]);
        for (text, expected) in [
            ("alice", Ok((1000, 1000))),
            ("1000", Ok((1000, 1000))),
            ("alice:adm", Ok((1000, 4))),
            ("1000:4", Ok((1000, 4))),
            ("alice:docker", Err(403)),
            ("alice:nosuch", Err(400)),
            ("bob", Err(403)),
            ("root", Err(403)),
            ("0", Err(403)),
            ("2000", Err(403)),
            // Whether there is one is not told to who may not be one.
            ("nosuch", Err(403)),
            ("a:b:c", Err(400)),
        ] {
            assert_eq!(settled(&rules, text), expected, "{text}");
        }
    }

    #[test]
    fn everybody_is_everybody_but_root_under_all_its_names() {
        let all = rules(&["*"]);
        for (text, expected) in [
            ("bob", Ok((1001, 1001))),
            ("2000", Ok((2000, 2000))),
            ("2000:2000", Ok((2000, 2000))),
            ("2000:4", Err(403)),
            ("root", Err(403)),
            ("toor", Err(403)),
            ("0", Err(403)),
            ("nosuch", Err(400)),
        ] {
            assert_eq!(settled(&all, text), expected, "{text}");
        }
        let root = rules(&["*", "root"]);
        assert_eq!(settled(&root, "toor"), Ok((0, 0)));
    }

    #[test]
    fn a_listed_group_is_allowed_with_that_user_only() {
        let rules = rules(&["bob:docker", "0:0"]);
        for (text, expected) in [
            ("bob:docker", Ok((1001, 999))),
            ("1001:999", Ok((1001, 999))),
            ("bob", Err(403)),
            ("bob:adm", Err(403)),
            ("alice:docker", Err(403)),
            ("root", Ok((0, 0))),
        ] {
            assert_eq!(settled(&rules, text), expected, "{text}");
        }
    }

    #[test]
    fn without_the_privilege_or_the_flag_nobody_is_another() {
        assert_eq!(settled(&rules(&[]), "alice"), Err(403));
        let mut rules = rules(&["alice"]);
        rules.may_change = false;
        let name = named(Some("bob")).unwrap();
        let problem = rules.settle(name.as_ref()).unwrap_err();
        assert_eq!(problem.reply().status, 501);
        assert_eq!(rules.settle(None), Ok(None));
    }

    #[test]
    fn a_refusal_names_those_who_are_allowed_and_no_user_where_there_is_none() {
        let said = |allowed: &[&str]| {
            let name = named(Some("bob")).unwrap();
            rules(allowed).settle(name.as_ref()).unwrap_err()
        };
        let problem = said(&["alice", "adm:adm"]);
        let names = "allowed are: --allow-user alice, adm:adm (";
        assert!(problem.detail().contains(names), "{}", problem.detail());
        let problem = said(&[]);
        assert!(!problem.detail().contains("nobody"), "{}", problem.detail());
    }

    #[test]
    fn the_default_need_not_be_allowed() {
        let mut rules = rules(&[]);
        rules.default = named(Some("bob")).unwrap();
        let account = rules.settle(None).unwrap().unwrap();
        assert_eq!(account.credentials.uid, 1001);
        assert_eq!(settled(&rules, "bob"), Err(403));
    }
}
