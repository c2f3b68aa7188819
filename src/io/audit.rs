//! What the audit log is told of requests.
//!
//! In: a request that changes something, and its answer; a request that was refused. Out: a line
//! (`journal::Audit`). A change is told once: with its answer, or, if its client has gone, when
//! nothing more comes of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::api::access::{Caller, Credential};
use crate::api::routes::{Answer, ROUTES, Verb};
use crate::api::{Outcome, Plan, Reply};
use crate::journal::Act;
use crate::types::ProcessId;

use crate::io::metrics;
use crate::io::server::Server;
use crate::io::telling::{Told, id_in};

/// A change that has been asked for. Dropped without an answer, it is told all the same.
pub(super) struct Change {
    server: Rc<Server>,
    action: &'static str,
    who: String,
    peer: String,
    id: RefCell<Option<Box<str>>>,
    command: RefCell<Option<Box<str>>>,
    request: Option<Box<str>>,
    is_told: Cell<bool>,
}

impl Change {
    /// What a plan would change, if anybody wants to know and it changes anything.
    pub(super) fn of(server: &Rc<Server>, plan: &Plan, told: &Told<'_>) -> Option<Box<Self>> {
        let route = ROUTES.get(plan.route?)?;
        // Who opens a WebSocket may send input.
        let changes = route.verb != Verb::Get || route.answer == Answer::Upgrade;
        if server.audit.is_none() || !changes {
            return None;
        }
        let written = id_in(told.path);
        let table = server.table.borrow();
        let named = table.get_named(written).map(|process| process.id);
        let id = named.map(|id| id.to_string().into());
        let id = id.or_else(|| (!written.is_empty()).then(|| written.into()));
        Some(Box::new(Self {
            server: server.clone(),
            action: route.name,
            who: who(&plan.caller),
            peer: told.peer.to_string(),
            id: RefCell::new(id),
            command: RefCell::default(),
            request: told.request.map(Into::into),
            is_told: Cell::new(false),
        }))
    }

    /// What the request has come to, before it is carried out.
    pub(super) fn becomes(&self, outcome: &Outcome, made: Option<ProcessId>) {
        let command = match outcome {
            Outcome::Run(run) | Outcome::Stream(run, _) => &run.launch.command,
            Outcome::Create { launch, .. } => &launch.command,
            _ => return,
        };
        self.runs(command);
        if let Some(id) = made {
            self.id.replace(Some(id.to_string().into()));
        }
    }

    /// It is this program.
    pub(super) fn runs(&self, command: &str) {
        self.command.replace(Some(command.into()));
    }

    fn tell(&self, status: Option<u16>, reason: Option<&'static str>) {
        if self.is_told.replace(true) {
            return;
        }
        if let Some(audit) = &self.server.audit {
            audit.note(&Act {
                who: &self.who,
                peer: &self.peer,
                action: Some(self.action),
                id: self.id.borrow().as_deref(),
                command: self.command.borrow().as_deref(),
                request: self.request.as_deref(),
                status,
                reason,
                ..Act::default()
            });
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.tell(None, Some("client_gone"));
    }
}

/// A request is answered. What it changed is told, and whatever was refused.
pub(super) fn answered(server: &Server, change: Option<&Change>, told: &Told<'_>, reply: &Reply) {
    let reason = (reply.status >= 400).then(|| metrics::reason(reply));
    match (change, reason) {
        (Some(change), reason) => change.tell(Some(reply.status), reason),
        (None, None) => {}
        (None, Some(reason)) => {
            let Some(audit) = &server.audit else { return };
            let peer = told.peer.to_string();
            let id = id_in(told.path);
            audit.note(&Act {
                who: &peer,
                peer: &peer,
                method: told.method.map_or("", |method| method.name()),
                path: told.path,
                id: (!id.is_empty()).then_some(id),
                request: told.request,
                status: Some(reply.status),
                reason: Some(reason),
                ..Act::default()
            });
        }
    }
}

/// By what somebody is known.
fn who(caller: &Caller) -> String {
    match (&caller.credential, caller.peer) {
        (Credential::Token, _) => "token".to_owned(),
        (Credential::Named(name), _) => format!("token:{name}"),
        (Credential::User(uid), _) => format!("uid:{uid}"),
        // That of a user is the same word.
        (Credential::None, peer) => peer.to_string(),
    }
}
