//! How long the server waits for others, and how long others wait for it at most.
//!
//! One table: every duration that somebody outside the code which waits may rely on, with what it
//! promises, to whom, and where that is written. What only tunes one algorithm (the pauses between
//! its passes, when memory is given back) stays beside that algorithm;
//! those of the command line are in `cli` and `client`. The limits of a run that a
//! client may change are in [`Settings`](super::Settings).

use std::time::Duration;

// Clients and connections.

/// From the first byte of a request to the end of its head: who sends slower is cut off, so that
/// the place goes to others. README, "Limits".
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Between requests, and before the first byte of the first one: a client may reuse its connection
/// within it, and is told so in `Keep-Alive`. README, "Limits".
pub(crate) const IDLE_TIME_MAX: Duration = Duration::from_secs(120);

/// Between two pieces of a body: a client that pauses longer is given up. README, "Limits".
pub(crate) const BODY_PAUSE_MAX: Duration = Duration::from_secs(15);

/// For a whole body, however small its pieces. README, "Limits".
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(120);

/// After the last answer what the peer still sends is read for so long: a close with unread bytes
/// is a reset, which may take the answer from it. RFC 9112, section 9.6.
pub(crate) const LINGER_TIME: Duration = Duration::from_millis(500);

/// A peer that does not accept one byte for this long is dead; a slower one is never disconnected
/// for being slow. TCP keep-alive finds those that are gone altogether sooner. The contract on
/// following a log.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(600);

/// And for this long where there is no memory for what waits to be taken.
/// docs/design/038-memory-budget.md.
pub(crate) const STALL_WITHOUT_MEMORY_MAX: Duration = Duration::from_secs(2);

/// A reader that holds memory while it reads takes each piece of some 200 KB within this: 3 KB a
/// second. README, "Limits"; docs/design/038-memory-budget.md.
pub(crate) const HELD_PIECE_MAX: Duration = Duration::from_secs(60);

/// Silence after which TCP asks whether the peer's host is there: one that has vanished gives its
/// connection back, whatever it waits for. The contract on following a log; tcp(7).
pub(crate) const TCP_KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);

/// Between two such questions. README, "Limits".
pub(crate) const TCP_KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// So many of them may stay unanswered. README, "Limits".
pub(crate) const TCP_KEEP_ALIVE_PROBES: u32 = 4;

/// So long a client that has sent FIN is waited for, unless its request says less: it may only
/// have half-closed, and is answered with things as they are. Longer than an input may take, which
/// is the longest of the waits that clients do not choose. docs/design/025-gone-clients.md.
pub(crate) const HALF_CLOSED_MAX: Duration = Duration::from_secs(5);

/// Between two looks at a peer that has sent as much ahead as is read: what it has sent hides its
/// end, and its wait is given up this late. docs/design/025-gone-clients.md.
pub(crate) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The longest wait for an entry of a log (`waitMs`); more is cut to it. README, "Limits".
pub(crate) const LOG_WAIT_MAX: Duration = Duration::from_secs(60);

/// Between two looks at a peer that has sent FIN and is sent what a process writes, while it writes
/// nothing: nothing else can be sent that would show whether the peer still listens.
/// docs/design/025-gone-clients.md.
pub(crate) const STREAM_LOOK_AFTER: Duration = Duration::from_secs(15);

/// Silence after which a comment shows a follower, and the proxies between, that the stream lives.
/// The contract on following a log.
pub(crate) const STREAM_KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);

/// How long a follower that sent FIN has to answer a comment with a reset, if it is gone
/// altogether. docs/design/025-gone-clients.md.
pub(crate) const STREAM_PROBE_AFTER: Duration = Duration::from_millis(100);

/// Silence in both directions after which the viewer of a terminal is asked whether it lives. The
/// contract on the terminal's WebSocket.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(20);

/// How long the viewer of a terminal has to answer a close. RFC 6455, section 7.1.1.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// How long the supervisor's loop has to come round when a probe asks, before it counts as stuck.
/// Below the second that probes wait by default. docs/design/040-metrics.md.
pub(crate) const WATCHDOG_MAX: Duration = Duration::from_millis(800);

/// Between two `cursor` frames, while output flows. README, "Limits".
pub(crate) const CURSOR_EVERY: Duration = Duration::from_secs(1);

/// Output that has paused for so long is followed by a `cursor` frame. README, "Limits".
pub(crate) const CURSOR_AFTER: Duration = Duration::from_millis(100);

/// Between two `activity` events at least, whatever was asked for. README, "Events".
pub(crate) const ACTIVITY_EVERY_MIN: Duration = Duration::from_millis(250);

/// And at most: a timer can be set for it. README, "Events".
pub(crate) const ACTIVITY_EVERY_MAX: Duration = Duration::from_secs(3600);

// Jobs, runs and terminals.

/// An attached client gets a character whole if its second part is read so soon after the first: who
/// writes half a character and waits is no writer of text, and may wait for an answer to it.
/// docs/design/046-cut-characters.md.
pub(crate) const CUT_CHARACTER_MAX: Duration = Duration::from_secs(1);

/// How long `stop` and `kill` wait for the exit where the request does not say. The contract on
/// stop and kill.
pub(crate) const WAIT_DEFAULT: Duration = Duration::from_millis(2000);

/// How long `wait` waits where the request does not say. docs/design/029-waits.md.
pub(crate) const WAIT_FOR_DEFAULT: Duration = Duration::from_secs(30);

/// The longest `wait`: more is cut to it. docs/design/029-waits.md.
pub(crate) const WAIT_FOR_MAX: Duration = Duration::from_secs(3600);

/// Between two looks at which ports a tree listens on, while somebody waits for one.
/// docs/design/029-waits.md.
pub(crate) const PORT_LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a wait for a port may outlast its time to be looked at once.
/// docs/design/029-waits.md.
pub(crate) const PORT_LOOK_MAX: Duration = Duration::from_secs(1);

/// Longer waits than a year are a year, of clients and of every timer: any number that a client
/// sends is taken, and sums of times stay in range. The contract on stop and kill.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(86_400 * 365);

/// After the exit, until the log of a process counts as complete though somebody holds an output
/// open: followers are told of the exit this late. The contract on following a log; also
/// docs/design/028-leftovers.md.
pub(crate) const LOG_GRACE: Duration = Duration::from_millis(250);

/// After the exit, until a run is answered though somebody holds a pipe open: within 250 ms.
/// README, "Compared with the reference"; docs/design/028-leftovers.md.
pub(crate) const PIPES_GRACE: Duration = Duration::from_millis(180);

/// After the exit, until others of a run's tree count as left behind, with all pipes closed: those
/// who were on their way out make no record. docs/design/028-leftovers.md.
pub(crate) const TREE_GRACE: Duration = Duration::from_millis(100);

/// The run of a client that has sent FIN has this long to finish: the client may still listen.
/// docs/design/025-gone-clients.md.
pub(crate) const RUN_HALF_CLOSED_MAX: Duration = Duration::from_millis(800);

/// How long an input over REST may wait for its process to read: somebody waits for the answer,
/// and has it after 5 s. README, "Compared with the reference"; docs/design/024-typed-ahead.md.
pub(crate) const INPUT_PATIENCE: Duration = Duration::from_millis(4800);

/// A process that takes nothing of a raw body for this long is given up by it: the client is told
/// how much was taken, and may go on there. README, "Limits".
pub(crate) const STDIN_STUCK_AFTER: Duration = Duration::from_secs(30);

/// A process may take all of a raw body and end before the end of that has come, as `tar` does: it is
/// waited for so long, so that the client is not told that something was left.
/// docs/design/034-input.md.
pub(crate) const BODY_END_PATIENCE: Duration = Duration::from_secs(1);

/// How long after a broken pipe the exit of its process may be heard of: whoever sent the input is
/// told that the process is not running, not of the pipe. The contract on input.
pub(crate) const BROKEN_PIPE_PATIENCE: Duration = Duration::from_millis(100);

/// How long the news of an exit may take that has happened, and the last output after it, before
/// a delete is answered. docs/design/025-gone-clients.md.
pub(crate) const EXIT_NEWS_MAX: Duration = Duration::from_secs(1);

/// How long the supervisor may take to count what thousands of processes use, before a client that
/// has asked for it is answered all the same (`io::usage`). README, "Limits of trees, and what they
/// use".
pub(crate) const COUNT_MAX: Duration = Duration::from_secs(10);

/// How long what is left of a tree may take to end before its record is removed all the same.
/// docs/design/025-gone-clients.md.
pub(crate) const TREE_END_MAX: Duration = Duration::from_secs(2);

/// A full backlog of which the process takes nothing for this long refuses what its viewers type.
/// docs/design/024-typed-ahead.md.
pub(crate) const BACKLOG_STUCK_AFTER: Duration = Duration::from_secs(5);

/// The longest wait for room in it, however little the process takes meanwhile: the viewer is not
/// read while its input waits for that. docs/design/024-typed-ahead.md.
pub(crate) const BACKLOG_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long what a viewer typed may wait after it has gone, all of it together. README, "Limits";
/// docs/design/024-typed-ahead.md.
pub(crate) const GONE_VIEWER_PATIENCE: Duration = Duration::from_secs(5);

/// Where nothing tells that a terminal can be read or written again, nobody waits longer than this
/// for what has come. docs/design/023-terminal-hangups.md.
pub(crate) const UNTOLD_MAX: Duration = Duration::from_millis(200);

/// A viewer of a terminal that takes nothing for so long does not hold its program any more.
/// README, "Limits"; docs/design/032-flow-control.md.
pub(crate) const VIEWER_COUNTS_FOR: Duration = Duration::from_secs(2);

/// How long after the exit a slow viewer may hold what its process wrote last, where the log is too
/// small for it. docs/design/032-flow-control.md.
pub(crate) const HELD_OUTPUT_MAX: Duration = Duration::from_secs(5);

/// How long the answer to a request with an `Idempotency-Key` is kept for its repeats, from when it
/// was given. README, "Safe repeats".
pub(crate) const ANSWER_KEPT: Duration = Duration::from_secs(3600);

// The supervisor and trees.

/// A start that has taken so long hangs, on any machine: it is listed, and where many do and others
/// wait it is killed. README, "Limits".
pub(crate) const START_HANGS_AFTER: Duration = Duration::from_secs(1);

/// A start that has not come to its program after this long, on a dead mount for instance, is killed
/// and refused: its place goes to others. README, "Limits".
pub(crate) const START_HUNG_MAX: Duration = Duration::from_secs(10);

/// A timed-out run is answered at most this long after its deadline, dead or not: within 100 ms.
/// README, "Compared with the reference".
pub(crate) const ANSWER_AFTER: Duration = Duration::from_millis(70);

/// Pauses between the exit of a leader and looks at its tree. What is left after them counts as
/// what will stay: its group keeps no descriptor. docs/design/028-leftovers.md.
pub(crate) const LOOK_AFTER: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(40),
];

/// A member whose death has been heard of may count as alive for a moment: newer kernels take a
/// task out of its group only after its parent has been told. Clients see the right count this
/// late. docs/design/028-leftovers.md.
pub(crate) const LOOK_AFTER_DEATH: Duration = Duration::from_millis(20);

/// How long after the exit of a leader, of whose tree nobody was found, to look at all children:
/// one look for all that exit meanwhile. A record shows so late who left the tree's group and is a
/// child of the leader's own parent. docs/design/028-leftovers.md.
pub(crate) const LOOK_EVERYWHERE_AFTER: Duration = Duration::from_millis(250);

/// How long after a death to look for orphans that died with it: SIGCHLD is not queued, so one
/// signal may stand for several deaths. Nobody is to stay a zombie longer. docs/design/017-orphans.md.
pub(crate) const ORPHAN_CHECK_AFTER: Duration = Duration::from_millis(50);

// Start and end.

/// How long a busy address is tried again, for whoever starts a server where another was killed:
/// its ring holds the address some 10 ms beyond the process. docs/operations.md, "Addresses".
pub(crate) const BUSY_FOR: Duration = Duration::from_secs(1);

/// How long a word to a service manager that does not read may wait; then it is lost, so that
/// nobody else waits. sd_notify(3).
pub(crate) const SERVICE_MANAGER_BUSY: Duration = Duration::from_millis(100);

/// How long `GET /v1/server` waits for what a start is still finding out; then it tells the rest.
/// docs/security.md, "Trees".
pub(crate) const START_MAX: Duration = Duration::from_secs(2);

/// How long a start waits for the lock of a server that was killed, for whoever starts the next one
/// with the same `--state-dir`: children between clone and exec hold it, on a machine that is busy.
/// docs/operations.md, "How it ends".
pub(crate) const NEWBORN_MAX: Duration = Duration::from_secs(1);

/// What children have between SIGTERM and SIGKILL when the server ends, unless
/// `--shutdown-grace` says something else. README, "Signals and environment".
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The longest `--shutdown-grace`; more is refused, and the refusal names it. README, "Signals and
/// environment".
pub(crate) const SHUTDOWN_GRACE_MAX: Duration = Duration::from_secs(3600);

/// After the grace and the kill, the server ends although something refuses to die, so that its
/// starter need not kill it. README, "Signals and environment".
pub(crate) const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

/// What may still be said to clients after the last child is gone: exit events, answers to open
/// requests. Without any the server does not wait. README, "Signals and environment".
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(150);

/// Within this after the last child is gone, a request that is on its way is still taken. Where there
/// is no connection none can be. README, "Signals and environment".
pub(crate) const LAST_REQUESTS: Duration = Duration::from_millis(2);

/// The end of the server waits so long for its last lines to be taken. docs/operations.md, "Log".
pub(crate) const LAST_LINES: Duration = Duration::from_millis(500);

/// Between two lines of the log of one kind and cause: what a client can have happen at will.
/// docs/operations.md, "Log".
pub(crate) const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A server that lives shorter than this has died at once: five of them in a row, and the keeper
/// begins none any more. docs/operations.md, "What survives".
pub(crate) const SHORT_LIFE: Duration = Duration::from_secs(2);

/// Then it kills what is left for so long. docs/operations.md, "What survives".
pub(crate) const LAST_KILLS: Duration = Duration::from_secs(5);

/// A program that is to take over says within this whether it can. docs/operations.md, "Upgrades".
pub(crate) const UPGRADE_CHECK_MAX: Duration = Duration::from_secs(5);

/// For an upgrade, requests under way are waited for so long; then it is refused.
/// docs/operations.md, "Upgrades".
pub(crate) const UPGRADE_ANSWERS_MAX: Duration = Duration::from_secs(5);

/// And downloads so long; then they are cut short. docs/operations.md, "What survives".
pub(crate) const UPGRADE_SENDS_MAX: Duration = Duration::from_secs(1);

/// Then viewers are told to come back, within this. docs/operations.md, "What survives".
pub(crate) const UPGRADE_CLOSES_MAX: Duration = Duration::from_millis(50);

/// A program that has taken over serves within this, or the one from before does again.
/// docs/operations.md, "What survives".
pub(crate) const UPGRADE_SERVES_MAX: Duration = Duration::from_secs(10);

/// The supervisor comes to rest for an upgrade within this; then it is refused. docs/operations.md,
/// "Upgrades".
pub(crate) const UPGRADE_REST_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// What an answer may take besides the wait before it, on a machine with work to do.
    const ANSWER_MARGIN: Duration = Duration::from_millis(30);

    #[test]
    fn a_run_is_answered_within_what_readme_says() {
        let left_something = Duration::from_millis(250);
        assert!(PIPES_GRACE + ANSWER_MARGIN <= left_something);
        assert!(TREE_GRACE + ANSWER_MARGIN <= left_something);
        assert!(ANSWER_AFTER + ANSWER_MARGIN <= Duration::from_millis(100));
        // Its log is open until it has been answered.
        assert!(PIPES_GRACE < LOG_GRACE && TREE_GRACE < LOG_GRACE);
    }

    #[test]
    fn what_is_left_has_been_looked_at_before_it_counts() {
        let looks: Duration = LOOK_AFTER.iter().sum();
        assert!(looks + LOOK_AFTER_DEATH < TREE_GRACE);
        assert!(ORPHAN_CHECK_AFTER < TREE_GRACE);
    }

    #[test]
    fn who_half_closes_outwaits_what_clients_do_not_choose() {
        assert!(INPUT_PATIENCE < HALF_CLOSED_MAX);
        assert!(EXIT_NEWS_MAX + TREE_END_MAX < HALF_CLOSED_MAX);
        assert!(WAIT_DEFAULT < HALF_CLOSED_MAX);
        assert!(LOG_GRACE < EXIT_NEWS_MAX);
        assert!(PIPES_GRACE < RUN_HALF_CLOSED_MAX);
    }

    #[test]
    fn whoever_is_gone_is_found_before_whoever_is_slow() {
        let vanished = TCP_KEEP_ALIVE_AFTER + TCP_KEEP_ALIVE_EVERY * TCP_KEEP_ALIVE_PROBES;
        assert!(vanished < STALL_MAX);
        assert!(BODY_PAUSE_MAX < BODY_TIME_MAX);
        assert!(BACKLOG_STUCK_AFTER < BACKLOG_WAIT_MAX);
        // A stream that says nothing looks idle to a proxy that is as patient as we are.
        assert!(STREAM_KEEP_ALIVE_AFTER < IDLE_TIME_MAX && PING_AFTER < IDLE_TIME_MAX);
    }

    #[test]
    fn the_grace_at_the_end_is_one_that_may_be_asked_for() {
        assert!(SHUTDOWN_GRACE <= SHUTDOWN_GRACE_MAX);
        assert!(SHUTDOWN_GRACE_MAX + SHUTDOWN_MAX < WAIT_MAX);
    }
}
