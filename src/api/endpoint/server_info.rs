//! `GET /v1/server`: what this server is, what works here, what does not and why, its bounds, and
//! how much there is of what it manages.
//!
//! In: what the start found out, the limits in force, counts. Out: the answer. Knows nothing of how
//! any of it was found out.
//!
//! A feature adds its word to [`CAPABILITIES`] when it is there, and its bounds to [`Bounds`].

use crate::config::Settings;
use crate::process::counts;
use crate::types::{KeptLimits, Limits as TreeLimits, UnixMs};
use crate::wire::say::server::{self, Body, Bounds, Counts, Limits, Memory};

use crate::api::reply::Reply;

/// A word of `capabilities`, and whether it is true of a server.
type Capability = (&'static str, fn(&ServerInfo) -> bool);

/// What a client may rely on, in the order of the answer. What every server can do has
/// `|_| true`.
const CAPABILITIES: &[Capability] = &[
    ("names", |_| true),
    ("stdin", |_| true),
    ("streamingRun", |_| true),
    ("wait", |_| true),
    ("signals", |_| true),
    ("textLogs", |_| true),
    ("rawLogs", |_| true),
    ("attach", |_| true),
    ("events", |_| true),
    ("idempotency", |_| true),
    ("screen", |_| true),
    ("recording", |_| true),
    ("limits", |_| true),
    ("user", |info| info.users),
    ("memoryLimit", |info| info.keeps(|kept| &kept.memory)),
    ("cpuLimit", |info| info.keeps(|kept| &kept.cpu)),
    ("pidsLimit", |info| info.keeps(|kept| &kept.pids)),
    ("cgroup", |info| info.groups == Some(true)),
    ("keep", |info| info.keeper.is_some()),
    ("io_uring", |info| info.uring),
];

/// What a server has found out about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerInfo {
    /// When it was started.
    pub started_at: UnixMs,
    /// Whether it runs on io_uring; else on epoll.
    pub uring: bool,
    /// Whether children may be other users.
    pub users: bool,
    /// Whether each process gets a cgroup; None as long as that is being found out.
    pub groups: Option<bool>,
    /// Which limits of trees can be kept; None as long as that is being found out.
    pub kept: Option<KeptLimits>,
    /// Limits that each tree has, whatever a request says.
    pub of_all: TreeLimits,
    /// The process that outlives this one, if there is one.
    pub keeper: Option<u32>,
    /// Another one was there before, and has said what is to be said.
    pub goes_on: bool,
    /// What does not work here and why, a sentence each, as the start has said it.
    pub missing: Vec<String>,
}

impl ServerInfo {
    /// It has been found out which limits of trees can be kept. Returns what is to be said of what is
    /// missing, and why no tree can be had, if that is so.
    pub(crate) fn learn_limits(&mut self, kept: KeptLimits) -> (Vec<String>, Option<String>) {
        let was_said = self.goes_on && self.kept.is_none();
        let sentences = |kept: &KeptLimits| (kept.missing(), kept.refusal(&self.of_all));
        let (missing, refusal) = self.kept.as_ref().map(sentences).unwrap_or_default();
        let (mut now, mut refused) = sentences(&kept);
        let is_old = |of: &String| missing.contains(of) || refusal.as_ref() == Some(of);
        self.missing.retain(|sentence| !is_old(sentence));
        self.missing.extend(now.iter().chain(&refused).cloned());
        self.kept = Some(kept);
        let is_news = |of: &String| !was_said && !is_old(of);
        now.retain(is_news);
        refused = refused.filter(is_news);
        (now, refused)
    }

    fn keeps(&self, of: impl Fn(&KeptLimits) -> &Option<String>) -> bool {
        self.kept.as_ref().is_some_and(|kept| of(kept).is_none())
    }

    /// It has been found out whether each process gets a cgroup, or why not. Returns whether that is
    /// to be said.
    pub(crate) fn learn_groups(&mut self, groups: Result<(), String>) -> bool {
        let was_said = self.goes_on && self.groups.is_none();
        self.groups = Some(groups.is_ok());
        self.missing.extend(groups.err());
        !was_said
    }
}

/// How much there is of what it manages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Processes and runs.
    pub of_table: counts::Counts,
    /// Runs that wait in line.
    pub queued_runs: usize,
    /// Connections.
    pub connections: usize,
}

/// The server as an answer.
pub(crate) fn reply(
    info: &ServerInfo,
    settings: &Settings,
    bounds: Bounds,
    memory: Memory,
    counted: Counted,
) -> Reply {
    let counts = counted.of_table;
    let holds = |(word, holds): &Capability| holds(info).then_some(*word);
    let body = Body {
        name: "procring",
        version: env!("CARGO_PKG_VERSION"),
        backend: if info.uring { "io_uring" } else { "epoll" },
        started_at_ms: info.started_at.0,
        pid: info.keeper.unwrap_or_else(std::process::id),
        capabilities: CAPABILITIES.iter().filter_map(holds).collect(),
        limits: Limits { settings, bounds },
        counts: Counts {
            running_processes: counts.running,
            exited_processes: counts.exited,
            leftovers: counts.leftovers,
            runs: counts.runs,
            queued_runs: counted.queued_runs,
            connections: counted.connections,
        },
        memory,
        missing: &info.missing,
    };
    Reply::json(server::write(&body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(info: &ServerInfo) -> Value {
        let reply = reply(
            info,
            &Settings::default(),
            Bounds::default(),
            Memory::default(),
            Counted::default(),
        );
        serde_json::from_slice(&reply.body).unwrap()
    }

    #[test]
    fn what_does_not_work_is_no_capability_and_is_said_once() {
        let mut info = ServerInfo::default();
        assert_eq!(shown(&info)["missing"], json!([]));
        info.learn_groups(Err("no cgroup".to_owned()));
        let without = shown(&info);
        assert_eq!(without["missing"], json!(["no cgroup"]));
        assert_eq!(without["backend"], "epoll");
        let words = without["capabilities"].as_array().unwrap();
        assert!(!words.contains(&json!("cgroup")) && !words.contains(&json!("io_uring")));

        let mut info = ServerInfo {
            uring: true,
            ..ServerInfo::default()
        };
        info.learn_groups(Ok(()));
        let with = shown(&info);
        let words = with["capabilities"].as_array().unwrap();
        assert!(words.contains(&json!("cgroup")) && words.contains(&json!("io_uring")));
        assert_eq!(with["backend"], "io_uring");
    }

    #[test]
    fn limits_that_are_kept_are_capabilities_and_the_others_are_told_as_they_change() {
        let mut info = ServerInfo::default();
        let kept = KeptLimits {
            pids: Some("why".to_owned()),
            ..KeptLimits::default()
        };
        let (told, refusal) = info.learn_limits(kept.clone());
        assert_eq!(told, ["the limits pids cannot be kept: why"]);
        assert_eq!(refusal, None);
        let words = |info: &ServerInfo| {
            let words = shown(info)["capabilities"].clone();
            let words = serde_json::from_value::<Vec<String>>(words).unwrap();
            ["memoryLimit", "cpuLimit", "pidsLimit"].map(|word| words.contains(&word.to_owned()))
        };
        assert_eq!(words(&info), [true, true, false]);
        assert_eq!(info.learn_limits(kept.clone()), (Vec::new(), None));
        let worse = KeptLimits {
            memory: Some("other".to_owned()),
            ..kept
        };
        assert_eq!(info.learn_limits(worse).0.len(), 1);
        assert_eq!(words(&info), [false, true, false]);
        assert_eq!(shown(&info)["missing"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn limits_of_all_trees_that_cannot_be_kept_are_told_once_and_while_that_is_so() {
        let new = |goes_on| ServerInfo {
            of_all: TreeLimits::parse("memoryBytes=1M").unwrap(),
            goes_on,
            ..ServerInfo::default()
        };
        let mut info = new(false);
        let none = || KeptLimits::none("why");
        let (told, refusal) = info.learn_limits(none());
        assert_eq!((told.len(), refusal.is_some()), (1, true));
        assert_eq!(shown(&info)["missing"], json!([told[0], refusal]));
        assert_eq!(info.learn_limits(none()), (Vec::new(), None));
        assert_eq!(info.learn_limits(KeptLimits::default()), (Vec::new(), None));
        assert_eq!(shown(&info)["missing"], json!([]));
        assert!(info.learn_limits(none()).1.is_some());
        // The server before it has said so.
        let mut next = new(true);
        assert_eq!(next.learn_limits(none()), (Vec::new(), None));
        assert_eq!(shown(&next)["missing"].as_array().unwrap().len(), 2);
        assert_eq!(next.learn_limits(KeptLimits::default()), (Vec::new(), None));
        assert!(next.learn_limits(none()).1.is_some());
    }

    #[test]
    fn no_word_stands_there_twice() {
        let mut words: Vec<_> = CAPABILITIES.iter().map(|(word, _)| word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), CAPABILITIES.len());
    }
}
