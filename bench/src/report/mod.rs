//! Writes docs/benchmarks.md and its charts from the figures that are kept.
//!
//! In: the JSON files of earlier runs. Out: Markdown and SVG. Measures nothing.

mod chart;
mod judge;
mod page;
mod text;

use std::fs;
use std::path::Path;

use crate::results::{Comparison, Group, load};
use crate::trouble::{During, Result};

/// The judged table of a comparison, as Markdown.
pub(crate) fn summary(run: &Comparison) -> String {
    page::summary(run)
}

/// The table of one group of alternatives, as Markdown.
pub(crate) fn group(group: &Group) -> String {
    page::group(group)
}

/// Writes `benchmarks.md` into `out`, and the charts into `out/benchmarks`.
///
/// # Errors
/// `Trouble::Io` when a file cannot be written; `Trouble::Setup` when a chart cannot be drawn.
pub(crate) fn write(out: &Path) -> Result<()> {
    let folder = out.join("benchmarks");
    let comparison: Option<Comparison> = load(&folder.join("compare.json"));
    let floor: Vec<Group> = load(&folder.join("floor.json")).unwrap_or_default();
    let contenders: Vec<Group> = load(&folder.join("contenders.json")).unwrap_or_default();
    if let Some(run) = &comparison {
        chart::factors(&folder.join("factors.svg"), &judge::judge(run))?;
        chart::scale(&folder, run)?;
    }
    for group in floor.iter().chain(&contenders) {
        chart::bars(&folder.join(format!("{}.svg", group.name)), group)?;
    }
    let text = page::whole(comparison.as_ref(), &floor, &contenders, &folder);
    fs::write(out.join("benchmarks.md"), text).during("write benchmarks.md")
}
