//! How many jobs of each kind there are, counted as they change.

/// What a job is among [`Counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing that anybody sees: its start is pending, or it is an answer that is waited for.
    #[default]
    Nothing,
    Run,
    Running,
    Exited,
    Leftover,
}

/// How many of each kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Records of managed processes that run.
    pub running: usize,
    /// Records of what has exited.
    pub exited: usize,
    /// Those of them that are of runs with living descendants.
    pub leftovers: usize,
    /// Runs under way.
    pub runs: usize,
}

impl Counts {
    /// A job that was one thing is another now.
    pub(super) fn moved(&mut self, before: Standing, now: Standing) {
        if before == now {
            return;
        }
        let mut change = |what: Standing, by: isize| {
            let change = |count: &mut usize| *count = count.saturating_add_signed(by);
            match what {
                Standing::Nothing => {}
                Standing::Run => change(&mut self.runs),
                Standing::Running => change(&mut self.running),
                Standing::Exited => change(&mut self.exited),
                Standing::Leftover => {
                    change(&mut self.exited);
                    change(&mut self.leftovers);
                }
            }
        };
        change(before, -1);
        change(now, 1);
    }
}
