//! A tree that a server started, as the model knows it.

use crate::harness::Server;

use super::census::Member;
use super::kinds::{After, Kind};

/// A tree that a server started.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) serial: u32,
    pub(super) kind: Option<Kind>,
    /// The record, until that is deleted.
    pub(super) id: Option<String>,
    pub(super) leader_pid: i32,
    /// None once it must be gone.
    pub(super) leader: Option<Member>,
    pub(super) others: Vec<Member>,
    /// Who is left must go.
    pub(super) over: bool,
    /// Something has been told of it; it is not looked at any more.
    pub(super) spoilt: bool,
    /// The same of its record.
    pub(super) wrongly_listed: bool,
    /// It has grown since its leader was gone. The server counts at an exit and at each death; it
    /// does not hear of a birth.
    pub(super) grown: bool,
}

impl Tree {
    pub(super) fn tag(&self) -> String {
        format!("t{}", self.serial)
    }

    pub(super) fn is_running(&self) -> bool {
        self.leader.is_some() && !self.over
    }

    pub(super) fn has_members(&self) -> bool {
        !self.over && (self.leader.is_some() || !self.others.is_empty())
    }

    /// What an act left of it.
    pub(super) fn becomes(&mut self, after: After) {
        match after {
            After::Everybody => {}
            After::Others => self.leader = None,
            After::Nobody => {
                self.leader = None;
                self.others.clear();
                self.over = true;
            }
        }
    }

    pub(super) fn what(&self) -> String {
        let kind = self
            .kind
            .map_or("a run".to_owned(), |kind| format!("{kind:?}"));
        let id = self.id.as_deref().unwrap_or("no record");
        format!("{} ({kind}, {id}, leader {})", self.tag(), self.leader_pid)
    }
}

impl Tree {
    /// Not looked at any more; who is left is ended by hand.
    fn spoil(&mut self) {
        for member in self.leader.iter().chain(&self.others) {
            member.kill();
        }
        self.becomes(After::Nobody);
        self.spoilt = true;
    }

    /// Ends and deletes it, in the ordinary way.
    pub(super) fn put_away(&mut self, server: &Server) {
        let path = self.id.take().map(|id| format!("/v1/processes/{id}"));
        let killed = path.as_ref().map(|path| {
            server
                .post_empty(&format!("{path}/kill?waitMs=20000"))
                .status
        });
        match (path, killed) {
            (Some(path), Some(200)) => {
                let status = server.delete(&format!("{path}?tree=true")).status;
                assert!([204, 404].contains(&status), "{status}");
            }
            // With each that ends here another exited record may be one too many.
            (_, None | Some(404)) if !self.is_running() => {
                self.others.iter().for_each(Member::kill);
            }
            (_, status) => panic!("{status:?} to the kill of {}", self.what()),
        }
        self.becomes(After::Nobody);
        self.spoilt = false;
    }
}

/// What a tree has lost without an act that meant it; it is spoilt then.
pub(super) fn lost(tree: &mut Tree) -> Option<String> {
    if tree.spoilt {
        return None;
    }
    let members = tree.leader.iter().chain(&tree.others);
    let dead: Vec<_> = members
        .filter(|member| !member.is_alive())
        .map(|member| member.pid)
        .collect();
    if dead.is_empty() {
        return None;
    }
    let what = format!("{} lost {dead:?}", tree.what());
    tree.spoil();
    Some(what)
}
