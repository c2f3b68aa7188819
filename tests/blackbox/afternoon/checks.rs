//! What is compared after each act: strangers, trees, who must be gone, and the list of records.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::census::{self, Member};
use super::servers::EXITED_MAX;
use super::tree::{Tree, lost};
use super::world::Afternoon;

const LEFT: &str = "somebody is left whom an act ended";

const MISCOUNTED: &str = "a record counts its descendants wrongly";

impl Afternoon {
    /// Compares all that is with all that must be.
    pub(super) fn look(&mut self) {
        self.strangers_live();
        self.trees_live();
        self.the_ended_go();
        self.the_list_is_right();
        let health = self.server.get("/v1/health").status;
        if health != 200 {
            self.finding("the server is not well", &health.to_string());
        }
        // A later look does not find what has gone and is in no list.
        self.trees
            .retain(|tree| tree.id.is_some() || tree.has_members());
        self.neighbours.retain(|tree| !tree.spoilt);
    }

    fn strangers_live(&mut self) {
        let all = std::mem::take(&mut self.strangers);
        let (harmed, well): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|stranger| !stranger.dead().is_empty());
        self.strangers = well;
        for stranger in harmed {
            let what = format!("{} lost {:?}", stranger.what, stranger.dead());
            stranger.send_away();
            self.finding("a stranger was ended", &what);
        }
        let mut told = Vec::new();
        for tree in &mut self.neighbours {
            if let Some(what) = lost(tree) {
                told.push(what);
            }
        }
        for what in told {
            self.finding("a process of another server was ended", &what);
        }
    }

    fn trees_live(&mut self) {
        let mut told = Vec::new();
        for tree in &mut self.trees {
            if let Some(what) = lost(tree) {
                told.push(what);
            }
        }
        for what in told {
            self.finding("a process was ended that no act meant", &what);
        }
    }

    /// Whoever an act ended must be gone: the leaders, and all of a tree that is over.
    pub(super) fn the_ended_go(&mut self) {
        let end = self.patience(LEFT);
        let left = loop {
            let left = self.left_of_the_ended();
            if left.is_empty() || Instant::now() > end {
                break left;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for (pid, tag) in left {
            let (name, _) = Member::of(pid)
                .map(|member| member.name())
                .unwrap_or_default();
            let tree = self.trees.iter().find(|tree| tree.tag() == tag);
            let tree = tree.map_or(tag.clone(), Tree::what);
            let what = format!("{pid} ({name}) of {tree}");
            self.finding(LEFT, &what);
            if let Some(member) = Member::of(pid) {
                member.kill();
            }
        }
    }

    /// Who carries the tag of a tree and is none of those that may live.
    fn left_of_the_ended(&self) -> Vec<(i32, String)> {
        let mut left = Vec::new();
        for (tag, pids) in census::by_tag() {
            if !tag.starts_with('t') {
                continue;
            }
            let mut trees = self.trees.iter().chain(&self.neighbours);
            let tree = trees.find(|tree| tree.tag() == tag);
            if tree.is_some_and(|tree| tree.spoilt) {
                continue;
            }
            for pid in pids {
                let mut known = tree
                    .into_iter()
                    .flat_map(|tree| tree.leader.iter().chain(&tree.others));
                if !known.any(|member| member.pid == pid) {
                    left.push((pid, tag.clone()));
                }
            }
        }
        left
    }

    /// Every record says what there is.
    fn the_list_is_right(&mut self) {
        let end = self.patience(MISCOUNTED);
        let wrong = loop {
            let list = self.server.get("/v1/processes").json();
            let list = list["processes"].as_array().cloned().unwrap_or_default();
            self.note_evicted(&list);
            let wrong = self.wrong_in(&list);
            if wrong.is_empty() || Instant::now() > end {
                break wrong;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for (serial, sort, what) in wrong {
            self.finding(sort, &what);
            if let Some(tree) = self
                .trees
                .iter_mut()
                .find(|tree| Some(tree.serial) == serial)
            {
                tree.wrongly_listed = true;
            }
        }
    }

    /// Records that the server rightly dropped: there were too many, and they had nobody, or all
    /// that are kept have somebody.
    fn note_evicted(&mut self, list: &[Value]) {
        let exited: Vec<_> = list
            .iter()
            .filter(|info| info["status"] == "exited")
            .collect();
        if exited.len() < EXITED_MAX {
            return;
        }
        let all_have_somebody = exited.iter().all(|info| info["descendants"].is_u64());
        for tree in &mut self.trees {
            let evictable = !tree.is_running() && (tree.others.is_empty() || all_have_somebody);
            let listed = list
                .iter()
                .any(|info| tree.id.as_deref() == info["id"].as_str());
            if evictable && !listed {
                tree.id = None;
            }
        }
    }

    fn wrong_in(&self, list: &[Value]) -> Vec<(Option<u32>, &'static str, String)> {
        let mut wrong = Vec::new();
        for info in list {
            let known = self
                .trees
                .iter()
                .any(|tree| tree.id.as_deref() == info["id"].as_str());
            if !known {
                wrong.push((
                    None,
                    "a record is listed that nobody knows",
                    info.to_string(),
                ));
            }
        }
        for tree in self
            .trees
            .iter()
            .filter(|tree| !tree.spoilt && !tree.wrongly_listed)
        {
            let Some(id) = &tree.id else { continue };
            let Some(info) = list.iter().find(|info| info["id"] == id[..]) else {
                let what = tree.what();
                wrong.push((Some(tree.serial), "a record is not listed", what));
                continue;
            };
            let status = if tree.is_running() {
                "running"
            } else {
                "exited"
            };
            let mut sort = None;
            if info["status"] != status {
                sort = Some("a record has the wrong status");
            } else if !tree.is_running() {
                let descendants = info["descendants"].as_u64().unwrap_or(0);
                let right = tree.others.len() as u64;
                let behind = tree.grown && (1..=right).contains(&descendants);
                if descendants != right && !behind {
                    sort = Some(MISCOUNTED);
                }
            }
            if let Some(sort) = sort {
                let expected = format!("{status}, {} others", tree.others.len());
                let what = format!("{}, expected {expected}: {info}", tree.what());
                wrong.push((Some(tree.serial), sort, what));
            }
        }
        wrong
    }
}
