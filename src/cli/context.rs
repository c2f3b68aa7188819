//! What every command needs: the server, and for whom it prints.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::ServerFlag;
use super::error::{CliError, Result};
use super::parse::Parsed;
use super::terminal;
use crate::client::{Client, ClientError, Endpoint, Request, segment};

/// How long a server that is away for a moment (a restart, a proxy that is reloaded) is tried.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before a connection that was cut is made again.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// The server.
    pub(super) client: Client,
    /// Somebody named it.
    pub(super) is_named: bool,
    /// It was started for this one command and ends with it.
    pub(super) is_own: bool,
    /// The other half of this program's flags.
    pub(super) server_flags: Vec<ServerFlag>,
}

impl Context {
    /// Finds the server: the flags, then the variables, then the usual address.
    pub(super) fn new(parsed: &Parsed, server_flags: Vec<ServerFlag>) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = parsed.value("url")?.or_else(|| variable("PROCRING_URL"));
        let endpoint = url.as_deref().map(Endpoint::parse).transpose();
        let endpoint = endpoint.map_err(|error| CliError::Usage(error.to_string()))?;
        let own = variable("PROCRING_TOKEN");
        let file = match (&own, parsed.value("token-file")?) {
            (None, None) => variable("PROCRING_TOKEN_FILE"),
            (_, file) => file,
        };
        let token = match file {
            Some(file) => {
                let text = fs::read_to_string(&file)
                    .map_err(CliError::local(format!("--token-file {file}")))?;
                Some(text.lines().next().unwrap_or_default().trim().to_owned())
            }
            None => own.map(|token| token.trim().to_owned()),
        };
        if token
            .as_deref()
            .is_some_and(|token| token.chars().any(char::is_control))
        {
            return Err(CliError::Usage(
                "the token holds control characters, which no header can carry".to_owned(),
            ));
        }
        Ok(Self {
            is_named: endpoint.is_some(),
            is_own: false,
            client: Client::new(endpoint.unwrap_or_default(), token)
                .telling(terminal::tell_waiting),
            server_flags,
        })
    }

    /// The record of a process, by id or name.
    pub(super) fn process(&self, name: &str) -> Result<Value> {
        Ok(self.client.get(&path(name, ""))?)
    }

    /// What the server can do beyond the reference; nothing where it does not say.
    pub(super) fn capabilities(&self) -> Result<Vec<String>> {
        match self.client.get("/v1/server") {
            Ok(about) => {
                let words = about["capabilities"].as_array().into_iter().flatten();
                Ok(words.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Err(ClientError::Refused(problem)) if problem.status == 404 => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses to go on with a server that cannot do what a command needs.
    pub(super) fn require(&self, capability: &str, what: &str) -> Result<()> {
        if self.capabilities()?.iter().any(|word| word == capability) {
            return Ok(());
        }
        Err(self.too_old(what))
    }

    /// What is said of a server that cannot do what a command needs.
    pub(super) fn too_old(&self, what: &str) -> CliError {
        CliError::TooOld {
            url: self.client.endpoint().url().to_owned(),
            what: what.to_owned(),
        }
    }

    /// Does something for each of several processes, and goes on after a failure.
    pub(super) fn for_each(
        &self,
        parsed: &Parsed,
        mut act: impl FnMut(&str) -> Result<()>,
    ) -> Result<u8> {
        let mut code = 0;
        for name in parsed.words()? {
            match act(&name) {
                Ok(()) => {}
                // It would be said of each of them.
                Err(error @ (CliError::Client(ClientError::Absent { .. }) | CliError::Gone)) => {
                    return Err(error);
                }
                Err(error) => {
                    crate::notice::line(format_args!("{name}: {error}"));
                    code = error.exit_code();
                }
            }
        }
        Ok(code)
    }

    /// `POST` without a body to something of a process.
    pub(super) fn act(&self, name: &str, what: &str) -> Result<Value> {
        Ok(self.client.json(Request::post(&path(name, what)))?)
    }
}

/// The path of a process, or of something of it: `/logs?follow=true`.
pub(super) fn path(name: &str, what: &str) -> String {
    format!("/v1/processes/{}{what}", segment(name))
}
