//! The title of a terminal, for a viewer that wants to hear of it.
//!
//! In: what the viewer is sent. Out: a `title` frame where that has changed the title. Who goes on
//! where it was cut off (`since`, `offset`) was told before and hears of the next change; everybody
//! else is told at the beginning.

use crate::wire::say::terminal as say;
use crate::wire::vt::screen::Titles;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Title {
    titles: Titles,
    /// What the viewer knows.
    told: Option<Box<str>>,
}

impl Title {
    /// Before anything is sent the terminal has this title.
    pub(super) fn begin(&mut self, title: &str) {
        self.titles = Titles::new(title);
    }

    /// The viewer is where it was before, and knows the title.
    pub(super) fn is_known(&mut self) {
        self.told = Some(self.titles.title().into());
    }

    /// The viewer has been sent this.
    pub(super) fn sent(&mut self, output: &[u8]) {
        self.titles.push(output);
    }

    /// What it is to be told.
    pub(super) fn news(&mut self) -> Option<Vec<u8>> {
        let title = self.titles.title();
        if self.told.as_deref() == Some(title) {
            return None;
        }
        self.told = Some(title.into());
        Some(say::title(title))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(title: &mut Title) -> Option<String> {
        let frame = title.news()?;
        let frame: serde_json::Value = serde_json::from_slice(&frame).unwrap();
        Some(frame["title"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_viewer_is_told_at_the_beginning_and_of_every_change() {
        let mut title = Title::default();
        assert_eq!(told(&mut title).as_deref(), Some(""));
        title.sent(b"\x1b]2;a\x07text");
        assert_eq!(told(&mut title).as_deref(), Some("a"));
        title.sent(b"\x1b]2;a\x07");
        assert_eq!(told(&mut title), None);
    }

    #[test]
    fn who_goes_on_is_told_of_the_next_change() {
        let mut title = Title::default();
        title.is_known();
        assert_eq!(told(&mut title), None);
        title.sent(b"\x1b]2;a\x07");
        assert_eq!(told(&mut title).as_deref(), Some("a"));

        let mut title = Title::default();
        title.begin("before");
        assert_eq!(told(&mut title).as_deref(), Some("before"));
    }
}
