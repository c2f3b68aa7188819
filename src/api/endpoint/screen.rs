//! `GET /v1/processes/{id}/terminal/screen` and `…/logs/recording`: what a terminal shows, and how
//! that came about, without attaching to it.

use crate::wire::vt::screen::SCROLLBACK_MAX;

use super::processes::find;
use crate::api::problem::Problem;
use crate::api::query::{Params, choice, number};
use crate::api::route::Id;
use crate::api::{Core, Outcome};

/// How a screen is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines, cursor, title.
    #[default]
    Json,
    /// Lines.
    Text,
    /// What draws it.
    Ansi,
}

/// What is wanted of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScreenQuery {
    /// In which form.
    pub format: Format,
    /// Lines that have scrolled out.
    pub scrollback: u16,
}

/// The parameters of a screen.
///
/// # Errors
/// 400 naming the parameter.
pub(crate) fn screen_query(query: &Params<'_>) -> Result<ScreenQuery, Problem> {
    let words = [
        ("json", Format::Json),
        ("text", Format::Text),
        ("ansi", Format::Ansi),
    ];
    Ok(ScreenQuery {
        format: choice(query, "format", &words)?.unwrap_or_default(),
        scrollback: scrollback(query)?.unwrap_or_default(),
    })
}

/// How many lines that have scrolled out are wanted.
///
/// # Errors
/// 400 for more than are kept.
pub(crate) fn scrollback(query: &Params<'_>) -> Result<Option<u16>, Problem> {
    let lines = number(query, "scrollback")?;
    let in_range = |lines: u64| u16::try_from(lines).ok().filter(|n| *n <= SCROLLBACK_MAX);
    lines
        .map(|lines| {
            in_range(lines).ok_or_else(|| {
                Problem::unreadable(
                    400,
                    format!("query parameter scrollback must be between 0 and {SCROLLBACK_MAX}"),
                )
            })
        })
        .transpose()
}

/// Checks whether there is a screen.
///
/// # Errors
/// 404, 409 without a terminal.
pub(crate) fn screen(id: &Id, query: ScreenQuery, core: &Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    if !process.description.tty {
        return Err(Problem::conflict("process is not running in tty mode"));
    }
    Ok(Outcome::Screen {
        id: process.id,
        query,
    })
}

/// Checks whether there is a recording.
///
/// # Errors
/// 404, 409 without a terminal.
pub(crate) fn recording(id: &Id, follow: bool, core: &Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    if !process.description.tty {
        return Err(Problem::conflict("process is not running in tty mode"));
    }
    let id = process.id;
    Ok(Outcome::Recording { id, follow })
}
