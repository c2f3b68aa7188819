//! Which limits of whole trees the server can keep.

use super::limits::{Limit, Limits};

/// For each kind of limit why it cannot be kept here; None where it can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptLimits {
    /// Of memory and swap.
    pub memory: Option<String>,
    /// Of processor time.
    pub cpu: Option<String>,
    /// Of processes.
    pub pids: Option<String>,
}

impl KeptLimits {
    /// None of them, for this reason.
    pub fn none(why: &str) -> Self {
        let why = || Some(why.to_owned());
        Self {
            memory: why(),
            cpu: why(),
            pids: why(),
        }
    }

    /// Why a limit cannot be kept, if it is one of trees and cannot be.
    pub fn why_not(&self, limit: Limit) -> Option<&str> {
        match limit {
            Limit::MemoryBytes | Limit::SwapBytes => self.memory.as_deref(),
            Limit::CpuMillis => self.cpu.as_deref(),
            Limit::Pids => self.pids.as_deref(),
            _ => None,
        }
    }

    /// What cannot be kept, and why: one sentence for each reason.
    pub fn missing(&self) -> Vec<String> {
        let kinds = [
            ("memoryBytes and swapBytes", &self.memory),
            ("cpuMillis", &self.cpu),
            ("pids", &self.pids),
        ];
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (names, why) in kinds {
            let Some(why) = why else { continue };
            match reasons.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, of)) => of.push(names),
                None => reasons.push((why, vec![names])),
            }
        }
        let sentence = |(why, names): (&str, Vec<&str>)| {
            let names = names.join(", ");
            format!("the limits {names} cannot be kept: {why}")
        };
        reasons.into_iter().map(sentence).collect()
    }

    /// What it means if each tree is to have these limits, whatever a request says; None if all of
    /// them can be kept.
    pub fn refusal(&self, of_all: &Limits) -> Option<String> {
        let unkept = of_all
            .iter()
            .filter_map(|(limit, _)| Some((limit, self.why_not(limit)?)));
        let unkept: Vec<(Limit, &str)> = unkept.collect();
        let (_, why) = unkept.first()?;
        let names: Vec<&str> = unkept.iter().map(|(limit, _)| limit.name()).collect();
        Some(format!(
            "every create and run is refused (501, limits_unavailable): --default-limits or \
             --max-limits gives each of them {}, which cannot be kept: {why}",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_all_trees_that_cannot_be_kept_refuse_all() {
        let kept = KeptLimits {
            pids: Some("why".to_owned()),
            ..KeptLimits::default()
        };
        let refusal = |limits| kept.refusal(&Limits::parse(limits).unwrap());
        assert_eq!(refusal(""), None);
        assert_eq!(refusal("memoryBytes=1M,nofile=9"), None);
        let sentence = refusal("memoryBytes=1M,pids=9").unwrap();
        assert!(
            sentence.contains("gives each of them pids, which"),
            "{sentence}"
        );
        assert!(sentence.ends_with(": why"), "{sentence}");
    }

    #[test]
    fn each_reason_is_told_once() {
        assert_eq!(KeptLimits::default().missing(), [""; 0]);
        assert_eq!(
            KeptLimits::none("no group").missing(),
            ["the limits memoryBytes and swapBytes, cpuMillis, pids cannot be kept: no group"]
        );
        let some = KeptLimits {
            memory: Some("a".to_owned()),
            cpu: None,
            pids: Some("b".to_owned()),
        };
        assert_eq!(
            some.missing(),
            [
                "the limits memoryBytes and swapBytes cannot be kept: a",
                "the limits pids cannot be kept: b"
            ]
        );
    }
}
