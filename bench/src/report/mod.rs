//! Writes docs/benchmarks.md and its charts from the figures that are kept.
//!
//! In: the JSON files of earlier runs. Out: Markdown and SVG. Measures nothing.

mod baseline;
mod chart;
mod judge;
mod page;
mod text;

use std::fs;
use std::path::Path;

use crate::results::{Comparison, Group, load};
use crate::sample::Side;
use crate::trouble::{During, Result};

/// Everything that is kept.
#[derive(Debug, Default)]
struct Figures {
    /// procring beside the reference.
    comparison: Option<Comparison>,
    /// The same within an emulated machine.
    emulated: Option<Comparison>,
    /// What the machine allows.
    floor: Vec<Group>,
    /// The runtimes.
    contenders: Vec<Group>,
}

/// How the names of the charts over size begin.
const SCALE: &str = "scale";
/// The same for those of the emulated machine.
const SCALE_EMULATED: &str = "emulated";

/// The judged table of a comparison, and what an older build has beside it, as Markdown.
pub(crate) fn summary(run: &Comparison) -> String {
    let mut text = String::new();
    if run.has(Side::Reference) {
        text += &page::summary(run);
    }
    text + &baseline::section(run)
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
    let figures = Figures {
        comparison: load(&folder.join("compare.json")),
        emulated: load(&folder.join("emulated.json")),
        floor: load(&folder.join("floor.json")).unwrap_or_default(),
        contenders: load(&folder.join("contenders.json")).unwrap_or_default(),
    };
    if let Some(run) = &figures.comparison {
        if run.has(Side::Reference) {
            chart::factors(&folder.join("factors.svg"), &judge::judge(run))?;
        }
        chart::scale(&folder, SCALE, run)?;
    }
    if let Some(run) = &figures.emulated {
        chart::scale(&folder, SCALE_EMULATED, run)?;
    }
    for group in figures.floor.iter().chain(&figures.contenders) {
        chart::bars(&folder.join(format!("{}.svg", group.name)), group)?;
    }
    let text = page::whole(&figures, &folder);
    fs::write(out.join("benchmarks.md"), text).during("write benchmarks.md")
}
