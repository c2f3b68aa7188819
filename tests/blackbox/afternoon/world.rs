//! The model: all that is in the room, act by act. What must be alive and what must be gone is looked
//! at after each ([`super::checks`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::harness::books::Books;
use crate::harness::{Backend, Server, WAIT, sh};

use super::Random;
use super::acts;
use super::census::{self, Member};
use super::kinds::{Kind, SETTLED};
use super::namespace::Room;
use super::servers::{Which, start};
use super::strangers::Stranger;
use super::tree::Tree;

/// Acts of a test that nobody gave a number, and the seed.
const ACTS: usize = 300;
const SEED: u64 = 20_261_126;

/// Findings of one sort that are told in full, and of all sorts before the afternoon is over.
const TOLD_MAX: usize = 3;
const FINDINGS_MAX: usize = 60;
const TOLD_WAIT: Duration = Duration::from_secs(1);

/// What a server may keep of its own memory besides what it had (KiB): pieces of freed memory.
const GROWTH_KIB: u64 = 8 << 10;

/// Everything in the room.
pub(super) struct Afternoon {
    pub(super) room: Room,
    pub(super) random: Random,
    pub(super) backend: Backend,
    pub(super) user: Option<u32>,
    acts: usize,
    seed: u64,
    step: usize,
    pub(super) recent: VecDeque<String>,
    pub(super) server: Server,
    /// Another server, whose processes are strangers to the first one.
    pub(super) neighbour: Server,
    pub(super) trees: Vec<Tree>,
    pub(super) neighbours: Vec<Tree>,
    pub(super) strangers: Vec<Stranger>,
    /// Connections that somebody looks through, or has forgotten.
    pub(super) viewers: Vec<acts::Viewer>,
    pub(super) serial: u32,
    /// The record that was given a namesake in the last act.
    pub(super) namesake: Option<u32>,
    findings: BTreeMap<&'static str, usize>,
    told: Vec<String>,
}

impl Afternoon {
    pub(super) fn begin(backend: Backend, room: Room, user: Option<u32>) -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("PROCRING_SEED").unwrap_or(SEED);
        let acts = number("PROCRING_ACTS").map_or(ACTS, |acts| acts as usize);
        let mut random = Random(seed);
        let server = start(backend, &room, user, &mut random, Which::First);
        let neighbour = start(backend, &room, user, &mut random, Which::Neighbour);
        Self {
            room,
            random,
            backend,
            user,
            acts,
            seed,
            step: 0,
            recent: VecDeque::new(),
            server,
            neighbour,
            trees: Vec::new(),
            neighbours: Vec::new(),
            strangers: Vec::new(),
            viewers: Vec::new(),
            serial: 0,
            namesake: None,
            findings: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    pub(super) fn is_privileged(&self) -> bool {
        self.user.is_none()
    }

    /// All of it: two thirds of the acts with restarts, a third without, after which the books of
    /// both servers must be what they were in between.
    pub(super) fn spend(mut self) {
        let begun = Instant::now();
        let with_restarts = self.acts * 2 / 3;
        while self.step < with_restarts && self.goes_on() {
            self.act(true);
        }
        self.clear();
        // The first one leaves what is kept for the next: a thread, the memory of logs.
        for server in [&self.server, &self.neighbour] {
            let id = server.spawn(&sh("echo begun; exec sleep 9999"));
            server.await_output(&id, "begun");
            server.kill(&id);
            server
                .delete(&format!("/v1/processes/{id}"))
                .expect_empty(204);
            assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
        }
        let before = [
            Books::at_rest(&self.server),
            Books::at_rest(&self.neighbour),
        ];
        while self.step < self.acts && self.goes_on() {
            self.act(false);
        }
        self.clear();
        self.nothing_is_left_but_servers();
        if self.findings.is_empty() {
            before[0].await_balance(&self.server, GROWTH_KIB);
            before[1].await_balance(&self.neighbour, GROWTH_KIB);
        }
        self.end_servers();
        self.nobody_is_left();
        let told = std::mem::take(&mut self.told);
        let took = begun.elapsed();
        eprintln!(
            "{} acts with seed {} on {} took {took:?}: {:?}",
            self.step,
            self.seed,
            self.backend.word(),
            self.findings
        );
        assert!(told.is_empty(), "{}", told.join("\n"));
    }

    /// How long something of this sort is waited for: what was told of often enough, not long.
    pub(super) fn patience(&self, sort: &str) -> Instant {
        let told = self
            .findings
            .get(sort)
            .is_some_and(|count| *count >= TOLD_MAX);
        Instant::now() + if told { TOLD_WAIT } else { WAIT }
    }

    fn goes_on(&self) -> bool {
        self.findings.values().sum::<usize>() < FINDINGS_MAX
    }

    fn act(&mut self, restarts: bool) {
        self.step += 1;
        let act = acts::one(self, restarts);
        if std::env::var_os("PROCRING_ACTS").is_some() {
            eprintln!("{}: {act}", self.step);
        }
        self.recent.push_back(act);
        if self.recent.len() > 4 {
            self.recent.pop_front();
        }
        self.look();
    }

    /// Notes what is wrong, with the acts that may have done it.
    pub(super) fn finding(&mut self, sort: &'static str, what: &str) {
        let count = self.findings.entry(sort).or_default();
        *count += 1;
        let acts: Vec<_> = self.recent.iter().map(String::as_str).collect();
        let text = format!(
            "FINDING seed {} step {} on {}: {sort}: {what}; after: {}",
            self.seed,
            self.step,
            self.backend.word(),
            acts.join(" | ")
        );
        if *count <= TOLD_MAX {
            eprintln!("{text}");
            self.told.push(text);
        }
    }

    /// Waits until a new tree is what its kind says, and begins to look after it.
    pub(super) fn settle(
        &mut self,
        tag: &str,
        leader: Option<i32>,
        others: usize,
    ) -> (Option<Member>, Vec<Member>) {
        let end = Instant::now() + WAIT;
        loop {
            let pids = census::by_tag().remove(tag).unwrap_or_default();
            let seen: Vec<_> = pids.into_iter().filter_map(Member::of).collect();
            let is_leader = |member: &Member| Some(member.pid) == leader;
            let settled = |member: &Member| {
                let (name, whole) = member.name();
                (is_leader(member) || SETTLED.contains(&&name[..])) && (name == "headless") != whole
            };
            let led = seen.iter().any(is_leader) == leader.is_some();
            let count = others + usize::from(leader.is_some());
            if led && seen.len() == count && seen.iter().all(settled) {
                let (first, others): (Vec<_>, _) = seen.into_iter().partition(is_leader);
                return (first.into_iter().next(), others);
            }
            if Instant::now() > end {
                let names = seen.iter().map(|member| (member.pid, member.name()));
                let names: Vec<_> = names.collect();
                let what = format!("{tag}, leader {leader:?}, {others} others: {names:?}");
                self.finding("something new is not whole", &what);
                return (None, Vec::new());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A tree to look after.
    pub(super) fn enter(
        &mut self,
        kind: Option<Kind>,
        id: Option<String>,
        leader_pid: i32,
        (leader, others): (Option<Member>, Vec<Member>),
    ) -> Tree {
        Tree {
            serial: self.serial,
            kind,
            id,
            leader_pid,
            over: leader.is_none() && others.is_empty(),
            leader,
            others,
            spoilt: false,
            wrongly_listed: false,
            grown: false,
        }
    }
}

impl Drop for Afternoon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = self.told.join("\n");
            eprintln!(
                "seed {} step {}, after: {:?}\n{told}",
                self.seed, self.step, self.recent
            );
        }
    }
}
