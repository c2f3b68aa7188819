//! What create and run ask for alike: a program, who it is to be, and what it is held to.

use std::collections::BTreeMap;

use crate::accounts::Account;
use crate::process::{Description, Tags};
use crate::types::{Limit, Limits, UnixMs};

use super::limits::Asked;
use super::problem::Problem;
use super::{Core, refuse_while_ending, tags, user};

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Variables of its own, on top of the server's if it gets them.
    pub env: Vec<(String, String)>,
    /// It gets the server's variables.
    pub inherit_env: bool,
    /// What it is held to.
    pub limits: Option<Box<Limits>>,
    /// Who it is; whoever the server is if None.
    pub user: Option<Box<Account>>,
}

impl Launch {
    /// A program as the server is: with its variables, its user and no limits.
    pub fn new(command: String, args: Vec<String>, cwd: Option<String>) -> Self {
        Self {
            command,
            args,
            cwd,
            env: Vec::new(),
            inherit_env: true,
            limits: None,
            user: None,
        }
    }

    /// The same, with variables of its own.
    pub(super) fn with_env(self, env: BTreeMap<String, String>, inherit_env: bool) -> Self {
        Self {
            env: env.into_iter().collect(),
            inherit_env,
            ..self
        }
    }

    /// What its record says of it.
    pub(crate) fn description(&self, created_at: UnixMs) -> Description {
        Description {
            command: self.command.clone(),
            args: self.args.clone(),
            cwd: self.cwd.clone(),
            created_at,
            ..Description::default()
        }
    }

    /// How fast what it writes is read, where that is limited. Bytes in a second.
    pub fn output_rate(&self) -> Option<u64> {
        self.limits.as_deref()?.get(Limit::OutputBytesPerSecond)
    }

    /// The same, with the limits and the user that were asked for or are usual, if it may be started
    /// and called so.
    ///
    /// # Errors
    /// 400 for what cannot be, 403 for a user that is not allowed, 501 for what this server cannot, 503
    /// while it ends, 409 for a name that is taken.
    pub(super) fn settled(
        self,
        limits: Option<Asked>,
        user: Option<String>,
        tags: &Tags,
        core: &Core<'_>,
    ) -> Result<Self, Problem> {
        let limits = core.limits.settle(limits.as_ref())?;
        let user = user::named(user.as_deref())?;
        let user = core.users.settle(user.as_ref())?;
        refuse_while_ending(core)?;
        tags::refuse_taken(tags, core.table)?;
        Ok(Self {
            limits,
            user,
            ..self
        })
    }
}
