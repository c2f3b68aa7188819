//! What clients call a process besides its id.
//!
//! In: a name and labels that have been checked. Out: whether a filter fits. Knows no bounds.

/// Labels, by key.
pub(crate) type Labels = Box<[(Box<str>, Box<str>)]>;

/// A name, labels, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    /// Unique among all records.
    pub name: Option<Box<str>>,
    /// None if no object was given; an empty one is shown.
    pub labels: Option<Labels>,
}

impl Tags {
    /// Whether there is nothing to keep.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What they keep in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let labels = self.labels.iter().flatten();
        let labels = labels.map(|(key, value)| key.len() + value.len());
        labels.sum::<usize>() + self.name.as_ref().map_or(0, |name| name.len())
    }

    /// Whether one of the labels is `pair`, which is `KEY=VALUE`.
    pub(crate) fn has_label(&self, pair: &str) -> bool {
        let is_it = |(key, value): &(Box<str>, Box<str>)| {
            let rest = pair.strip_prefix(&**key);
            rest.and_then(|rest| rest.strip_prefix('=')) == Some(value)
        };
        self.labels.iter().flatten().any(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_fits_by_its_whole_key_and_value() {
        let pairs = [("a", "1"), ("b", ""), ("c=d", "e=f")];
        let labels = pairs.map(|(key, value)| (key.into(), value.into()));
        let tags = Tags {
            name: None,
            labels: Some(labels.into()),
        };
        for pair in ["a=1", "b=", "c=d=e=f"] {
            assert!(tags.has_label(pair), "{pair}");
        }
        for pair in ["a=", "a=12", "=1", "a", "b", "b==", "c=d", "A=1"] {
            assert!(!tags.has_label(pair), "{pair}");
        }
        assert!(!Tags::default().has_label("a=1"));
    }
}
