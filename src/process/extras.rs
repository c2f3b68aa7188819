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
use super::searches::Searches;
use super::tags::Tags;
use super::terminal::Terminal;
use crate::log::batch::Batches;
use crate::types::WindowSize;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// What those share that take its output as it comes.
    pub shared: Lazy<Shared>,
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
    pub backpressure: Option<Box<Backpressure>>,
    /// Who looks for a text in its log, from the first on.
    pub(super) searches: Option<Searches>,
}

/// What several readers of one log share, by the form that they take it in.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Followers of the event stream.
    pub events: Batches,
    /// Terminal viewers.
    pub frames: Batches,
    /// Attached clients that take JSON.
    pub attached_json: Batches,
    /// Attached clients that take output as it is.
    pub attached_binary: Batches,
}

/// Room for something that few need, made when it is first asked for.
#[derive(Debug)]
pub(crate) struct Lazy<T>(Option<Box<T>>);

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> Lazy<T> {
    /// What there is.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// What there is, made if there is nothing yet.
    pub(crate) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
