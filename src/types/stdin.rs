//! Whether a process may be sent input.

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// It has a pipe.
    #[default]
    Open,
    /// It begins with the end of its input: `/dev/null`.
    Closed,
}
