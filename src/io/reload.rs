//! SIGHUP: the configuration is read again. What can change while the server runs does, all of it
//! or nothing.
//!
//! In: a signal. Out: other limits, another token, another level of the log, and a line that says
//! what has changed, or why nothing has. The file is read on a thread of its own, since a disk may be
//! slow and a mount dead.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::config::FIELDS;
use crate::config::flags::{Change, Given, ServerArgs};
use crate::journal::Event;
use crate::supervisor::mailbox;
use crate::supervisor::message::Command;

use crate::io::host::admission::RunBounds;
use crate::io::rules::Rules;
use crate::io::runtime;
use crate::io::runtime::source::Source;
use crate::io::server::Server;
use crate::io::watchdog;

/// A configuration that a server could be started with.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// All of it.
    pub args: ServerArgs,
    /// What requests are carried out by then.
    pub rules: Rules,
    /// Runs at the same time, and in line.
    pub runs: RunBounds,
    /// What clients may make the server hold.
    pub memory_max: u64,
    /// How long the end may take.
    pub end_max: Duration,
}

/// Reads the configuration again; the error is a sentence.
pub(crate) type Load = Arc<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// See the module.
pub(super) struct Reloads {
    load: Load,
    under_way: Cell<bool>,
    /// Another signal has come meanwhile.
    again: Cell<bool>,
    /// Where what is in force comes from.
    given: RefCell<Given>,
}

impl std::fmt::Debug for Reloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloads")
    }
}

impl Reloads {
    pub(super) fn new(load: Load, given: Given) -> Self {
        Self {
            load,
            under_way: Cell::new(false),
            again: Cell::new(false),
            given: RefCell::new(given),
        }
    }
}

impl Server {
    /// Somebody wants the configuration to be read again, and files to be opened anew.
    pub(super) fn reload(self: &Rc<Self>) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
        if self.reloads.under_way.replace(true) {
            self.reloads.again.set(true);
            return;
        }
        self.options.manager.reloading();
        let server = self.clone();
        runtime::spawn(async move {
            loop {
                server.reloads.again.set(false);
                let loaded = load(server.reloads.load.clone()).await;
                match loaded.and_then(|loaded| server.take(loaded)) {
                    Ok(changed) => server.tell(&Event::Reloaded { changed: &changed }),
                    Err(why) => server.tell(&Event::ReloadRefused { why: &why }),
                }
                if !server.reloads.again.get() {
                    break;
                }
            }
            server.reloads.under_way.set(false);
            server.options.manager.ready(&watchdog::status(&server));
        });
    }

    /// Reads again what a server that is gone had read again: this one began with what the first one
    /// began with, and a token that was taken back since must not count again. Where it cannot be
    /// read, and a token is wanted, nobody is let in by one until it can.
    pub(crate) fn reload_again(&self, wants_token: bool) {
        // They are written down as they were last, by whoever changed them.
        let settings = self.settings.get();
        let loaded = (self.reloads.load)().and_then(|loaded| self.take(loaded));
        self.change_settings(settings);
        if let Err(mut why) = loaded {
            if wants_token {
                let mut rules = Rules::clone(&self.rules());
                rules.guard.token = Some(nobodys_token());
                rules.guard.named_tokens.clear();
                self.rules.replace(Rc::new(rules));
                why.push_str("; until it is, no token is let in");
            }
            self.tell(&Event::ReloadRefused { why: &why });
        }
    }

    /// Takes all that has changed, and says what, or takes nothing.
    fn take(&self, loaded: Loaded) -> Result<String, String> {
        let Loaded {
            args,
            rules,
            runs,
            memory_max,
            end_max,
        } = loaded;
        let mut before = self.reloads.given.borrow_mut();
        let changes = before.changes(&args.given);
        let fixed = changes.iter().filter(|change| !change.is_live);
        let fixed: Vec<_> = fixed.map(|change| change.text.as_str()).collect();
        if !fixed.is_empty() {
            return Err(format!("a restart is needed for {}", fixed.join(", ")));
        }
        let held = self.rules();
        let guard = &held.guard;
        if guard.has_token() && !rules.guard.has_token() && !args.no_token {
            let why = "there was a token and there would be none; no_token = true is for that";
            return Err(why.to_owned());
        }
        // What a client has set stays where the configuration says nothing.
        let old = self.settings.get();
        let says = |flag: &str| args.given.names(flag) || before.names(flag);
        let new = old.with(args.settings, says).validated();
        let new = new.map_err(|error| error.message().to_owned())?;
        let is_limit = |change: &&Change| FIELDS.iter().any(|(flag, _)| change.long == *flag);
        let mut told = vec![old.changes(new)];
        let others = changes.iter().filter(|change| !is_limit(change));
        told.extend(others.map(|change| change.text.clone()));
        if guard.token != rules.guard.token {
            told.retain(|text| text != "token");
            told.push("the token".to_owned());
        }
        for (name, token) in &rules.guard.named_tokens {
            let before = guard.named_tokens.iter().find(|(known, _)| known == name);
            if before.is_some_and(|(_, before)| before != token) {
                told.push(format!("the token of {name}"));
            }
        }
        told.retain(|text| !text.is_empty());
        self.change_settings(new);
        let wants_token = rules.guard.has_token();
        self.rules.replace(Rc::new(rules));
        self.connections_max.set(args.connections_max);
        self.runs.bound(runs);
        self.end_max.set(end_max);
        self.command(Command::ShutdownGrace(args.shutdown_grace));
        let mut table = self.table.borrow_mut();
        table.bound(args.exited_max, args.leftovers_max);
        if let Some(kept) = table.kept() {
            kept.records().set_reloaded(wants_token);
        }
        // What the machine has may be more or less than at the start: only what was asked for changes.
        if changes.iter().any(|change| change.long == "memory-max") {
            table.bound_memory(memory_max);
            self.repeats.bound();
        }
        drop(table);
        *before = args.given;
        drop(before);
        let changed = told.join(", ");
        self.telling.journal.set_level(args.log_level);
        Ok(changed)
    }
}

/// One that nobody knows.
fn nobodys_token() -> String {
    let mut bytes = [0; 32];
    // Only a kernel before 3.17 has no such call.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has the configuration read, however long that takes.
async fn load(load: Load) -> Result<Loaded, String> {
    let failed = |error: io::Error| format!("it cannot be read again: {error}");
    let (sender, receiver) = mailbox::channel().map_err(failed)?;
    let reader = thread::Builder::new().name("reload".to_owned());
    let reader = reader.stack_size(256 << 10);
    reader.spawn(move || sender.send(load())).map_err(failed)?;
    let bell = rustix::io::fcntl_dupfd_cloexec(&receiver, 3).map_err(|error| failed(error.into()));
    let bell = Source::new(bell?).map_err(failed)?;
    bell.readable().await.map_err(failed)?;
    let loaded = receiver.drain().next();
    loaded.unwrap_or_else(|| Err("nobody has read it".to_owned()))
}
