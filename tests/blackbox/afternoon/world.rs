//! The model: what must be alive and what must be gone, looked at after each act.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::books::Books;
use crate::harness::{Backend, Launch, Server, WAIT, procfs, sh};

use super::Random;
use super::acts;
use super::census::{self, Member, TAG};
use super::kinds::{After, Kind, SETTLED};
use super::namespace::Room;
use super::strangers::Stranger;

/// Acts of a test that nobody gave a number, and the seed.
const ACTS: usize = 300;
const SEED: u64 = 20_261_126;

/// Findings of one sort that are told in full, and of all sorts before the afternoon is over.
const TOLD_MAX: usize = 3;
const FINDINGS_MAX: usize = 60;
const TOLD_WAIT: Duration = Duration::from_secs(1);

const LEFT: &str = "somebody is left whom an act ended";
const MISCOUNTED: &str = "a record counts its descendants wrongly";

/// What a server may keep of its own memory besides what it had (KiB): pieces of freed memory.
const GROWTH_KIB: u64 = 8 << 10;

/// Exited records that are kept.
const EXITED_MAX: usize = 24;

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
    spoilt: bool,
    /// The same of its record.
    wrongly_listed: bool,
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

/// Everything in the room.
pub(super) struct Afternoon {
    pub(super) room: Room,
    pub(super) random: Random,
    backend: Backend,
    user: Option<u32>,
    acts: usize,
    seed: u64,
    step: usize,
    recent: VecDeque<String>,
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
    fn patience(&self, sort: &str) -> Instant {
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

    /// Compares all that is with all that must be.
    fn look(&mut self) {
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
    fn the_ended_go(&mut self) {
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

    /// Ends everything, strangers too, in the ordinary ways; the servers go on.
    fn clear(&mut self) {
        self.recent.clear();
        self.recent
            .push_back("everything is ended and deleted".to_owned());
        self.viewers.clear();
        for stranger in std::mem::take(&mut self.strangers) {
            stranger.send_away();
        }
        for tree in &mut self.trees {
            tree.put_away(&self.server);
        }
        for tree in &mut self.neighbours {
            tree.put_away(&self.neighbour);
        }
        self.namesake = None;
        self.look();
        self.trees.clear();
        self.neighbours.clear();
    }

    fn nothing_is_left_but_servers(&mut self) {
        let mut known = vec![1, std::process::id() as i32];
        for server in [&self.server, &self.neighbour] {
            known.push(server.pid);
        }
        let end = Instant::now() + WAIT;
        let left = loop {
            let mut left = census::everybody();
            left.retain(|pid| !known.contains(pid));
            if left.is_empty() || Instant::now() > end {
                break left;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for pid in left {
            self.unaccounted(pid);
        }
    }

    fn unaccounted(&mut self, pid: i32) {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let (state, parent) = (procfs::state(pid), procfs::field(pid, 1));
        let what = format!("{pid}: {command:?}, {state:?}, parent {parent:?}");
        self.finding("somebody is there whom nobody knows", &what);
    }

    fn end_servers(&mut self) {
        for server in [&mut self.server, &mut self.neighbour] {
            server.signal(libc::SIGTERM);
            let status = server.await_end(WAIT);
            assert_eq!(status.code(), Some(0), "{}", server.stderr());
        }
        let files = std::fs::read_dir(state_dir(&self.room))
            .into_iter()
            .flatten()
            .flatten();
        let files: Vec<_> = files
            .map(|file| file.path().display().to_string())
            .collect();
        // The lock may stay; a record of processes may not.
        let records: Vec<_> = files
            .iter()
            .filter(|file| file.ends_with(".jobs"))
            .collect();
        if !records.is_empty() {
            self.finding("an orderly end leaves a record", &format!("{files:?}"));
        }
        let terminals = std::fs::read_dir("/dev/pts")
            .into_iter()
            .flatten()
            .flatten();
        let terminals: Vec<_> = terminals
            .map(|entry| entry.file_name())
            .filter(|name| name != "ptmx")
            .collect();
        if !terminals.is_empty() {
            self.finding("a terminal is left", &format!("{terminals:?}"));
        }
    }

    fn nobody_is_left(&mut self) {
        let own = std::process::id() as i32;
        let end = Instant::now() + WAIT;
        loop {
            let mut left = census::everybody();
            left.retain(|pid| ![1, own].contains(pid));
            if left.is_empty() {
                return;
            }
            if Instant::now() > end {
                left.into_iter().for_each(|pid| self.unaccounted(pid));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the server with `signal` and starts the next one; what was left is over.
    pub(super) fn restart(&mut self, signal: i32, between: impl FnOnce(&mut Self)) {
        self.viewers.clear();
        self.namesake = None;
        self.server.signal(signal);
        let status = self.server.await_end(WAIT);
        if signal == libc::SIGTERM {
            if status.code() != Some(0) {
                self.finding(
                    "a server ends in disorder",
                    &format!("{status:?} {}", self.server.stderr()),
                );
            }
            // Nobody waits for the next start.
            self.all_are_over();
            self.the_ended_go();
        }
        between(self);
        let next = start(
            self.backend,
            &self.room,
            self.user,
            &mut self.random,
            Which::First,
        );
        // Not dropped before the look: that ends whatever the old one left.
        let _old = std::mem::replace(&mut self.server, next);
        self.all_are_over();
        self.the_ended_go();
    }

    fn all_are_over(&mut self) {
        for tree in &mut self.trees {
            tree.id = None;
            tree.becomes(After::Nobody);
            tree.spoilt = false;
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
fn lost(tree: &mut Tree) -> Option<String> {
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

/// The server that acts are about, or the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    First,
    Neighbour,
}

fn state_dir(room: &Room) -> PathBuf {
    room.dir.join("state")
}

/// Both share a state directory; the neighbour has another name, or hides it behind a token.
fn start(
    backend: Backend,
    room: &Room,
    user: Option<u32>,
    random: &mut Random,
    which: Which,
) -> Server {
    let cgroup = ["auto", "off"][random.below(2)];
    let state = state_dir(room);
    std::fs::create_dir_all(&state).expect("a directory");
    let mut launch = Launch::new(backend)
        .env_remove(TAG)
        .args(&["--no-token", "--cgroup", cgroup]);
    let state_text = state.display().to_string();
    launch = launch.args(&["--state-dir", &state_text, "--shutdown-grace", "0.3"]);
    launch = match which {
        Which::First => {
            let kept = EXITED_MAX.to_string();
            launch.program(&room.program).args(&["--max-exited", &kept])
        }
        Which::Neighbour => launch.program(&room.renamed),
    };
    if let Some(user) = user {
        std::os::unix::fs::chown(&state, Some(user), Some(user)).expect("chown");
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        launch = launch.through_exec(&["setpriv", &uid, &gid, "--clear-groups"]);
    }
    let server = launch.start();
    server.configure(&[("maxConcurrentProcesses", 1000)]);
    server
}
