//! What few records have.
//!
//! In: a first use. Out: room for it. A server has thousands of processes that nobody asked for
//! more than to run, so what a record needs only sometimes lies behind one pointer.
//!
//! Here belongs what a request may ask for and seldom does (a name, labels, a deadline, a bound of
//! its own), and what is there while somebody looks (batches, the offsets of an input). What every
//! process has stands in [`Process`](super::Process); so does what is looked at with every byte.

use super::backpressure::Backpressure;
use super::notify::Notify;
use super::pacing::Pacing;
use super::rate::Rate;
use super::tags::Tags;
use super::terminal::Terminal;
use crate::log::batch::Batches;
use crate::types::WindowSize;

/// See the module.
#[derive(Debug, Default)]
pub struct Extras {
    /// What event-stream followers share.
    pub events: Batches,
    /// What terminal viewers share.
    pub frames: Batches,
    /// What attached clients share, of each way of framing.
    pub attached: Attached,
    /// Who is waited for before its terminal is read, while there is somebody.
    pub pacing: Option<Box<Pacing>>,
    /// How fast its outputs are read, where that is limited.
    pub rate: Option<Box<Rate>>,
    /// The size that its terminal was last given.
    pub size: Option<WindowSize>,
    /// What is kept of its terminal besides its output.
    pub terminal: Option<Box<Terminal>>,
    /// Bytes that its log may hold where that is less than the usual limit: what a run may keep.
    pub log_max: Option<u64>,
    /// What it is called besides its id.
    pub tags: Tags,
    /// The id of the request that made it, if that brought one.
    pub request: Option<Box<str>>,
    /// Tells of changes of its life only, from when somebody wants to know.
    pub(super) life_changed: Option<Notify>,
    /// What holds it up while the client that its output is streamed to is slower.
    pub backpressure: Option<Backpressure>,
}

/// What attached clients share.
#[derive(Debug, Default)]
pub struct Attached {
    /// Output as JSON.
    pub json: Batches,
    /// Output as it is.
    pub binary: Batches,
}

/// Room for [`Extras`], made when it is first asked for.
#[derive(Debug, Default)]
pub struct Lazy(Option<Box<Extras>>);

impl Lazy {
    /// What there is.
    pub fn get(&self) -> Option<&Extras> {
        self.0.as_deref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self) -> Option<&mut Extras> {
        self.0.as_deref_mut()
    }

    /// What there is, made if there is nothing yet.
    pub fn make(&mut self) -> &mut Extras {
        self.0.get_or_insert_default()
    }
}
