//! `limits` of create and run: what a request asks for, and what holds.
//!
//! In: an object of a body, and what the operator allows. Out: the limits of one tree, or why they
//! cannot be. Knows nothing of how any of them is kept to.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::types::{KeptLimits, Limit, Limits};

use super::problem::Problem;

/// `limits` of a body. The names are those of [`Limit`], and there is no other list of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked(pub Limits);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_struct("Limits", &Limit::NAMES, AskedVisitor)
    }
}

struct AskedVisitor;

impl<'de> Visitor<'de> for AskedVisitor {
    type Value = Asked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Asked, A::Error> {
        let mut limits = Limits::default();
        let mut seen = [false; Limit::COUNT];
        while let Some(name) = fields.next_key::<String>()? {
            let Some(limit) = Limit::named(&name) else {
                fields.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut seen[limit as usize], true) {
                return Err(A::Error::duplicate_field(limit.name()));
            }
            let amount = fields.next_value::<Option<Amount>>()?;
            limits.set(limit, amount.map(|Amount(amount)| amount));
        }
        Ok(Asked(limits))
    }
}

/// A number of something.
struct Amount(u64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        struct AmountVisitor;
        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number that is not negative, or null")
            }

            fn visit_u64<E>(self, amount: u64) -> Result<Amount, E> {
                Ok(Amount(amount))
            }
        }
        decoder.deserialize_u64(AmountVisitor)
    }
}

/// What the operator says of limits.
#[derive(Clone, Debug, Default)]
pub(crate) struct LimitRules {
    /// `--default-limits`: what holds where a request names none.
    pub defaults: Limits,
    /// `--max-limits`: what none may exceed, and what holds where nobody names any.
    pub maxima: Limits,
    /// What the server itself is held to (getrlimit(2)); a child cannot have more.
    pub hard: Limits,
}

impl LimitRules {
    /// What holds for a request; None if there is no limit at all.
    ///
    /// # Errors
    /// 400 for one that cannot be or is too high.
    pub(super) fn settle(&self, asked: Option<&Asked>) -> Result<Option<Box<Limits>>, Problem> {
        let mut limits = Limits::default();
        for limit in Limit::ALL {
            let asked = asked.and_then(|Asked(asked)| asked.get(limit));
            if let Some(value) = asked {
                self.check(limit, value)?;
            }
            let (max, hard) = (self.maxima.get(limit), self.hard.get(limit));
            let value = asked.or(self.defaults.get(limit)).or(max);
            // A default is no request: what is too high in it is cut.
            let most = max.unwrap_or(u64::MAX).min(hard.unwrap_or(u64::MAX));
            limits.set(limit, value.map(|value| value.min(most)));
        }
        Ok((!limits.is_empty()).then(|| Box::new(limits)))
    }

    fn check(&self, limit: Limit, value: u64) -> Result<(), Problem> {
        let name = limit.name();
        if value < limit.least() {
            let least = limit.least();
            return Err(Problem::invalid(format!(
                "limits.{name} must be at least {least}"
            )));
        }
        if let Some(max) = self.maxima.get(limit).filter(|max| value > *max) {
            return Err(Problem::limit_too_high(format!(
                "limits.{name} must be at most {max}, which --max-limits allows"
            )));
        }
        if let Some(hard) = self.hard.get(limit).filter(|hard| value > *hard) {
            return Err(Problem::limit_too_high(format!(
                "limits.{name} must be at most {hard}, the hard limit of the server itself \
                 (getrlimit(2))"
            )));
        }
        Ok(())
    }
}

/// What there is to say of the first of these limits that cannot be kept, as far as that is known.
pub(crate) fn unavailable(limits: Option<&Limits>, kept: Option<&KeptLimits>) -> Option<Problem> {
    let (limits, kept) = (limits?, kept?);
    let mut unkept = limits
        .iter()
        .filter_map(|(limit, _)| Some((limit, kept.why_not(limit)?)));
    let (limit, why) = unkept.next()?;
    Some(Problem::limits_unavailable(limit, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::body;

    fn asked(text: &str) -> Result<Limits, String> {
        #[derive(Debug, Deserialize)]
        struct Body {
            limits: Option<Asked>,
        }
        let text = format!("{{\"limits\":{text}}}");
        let read = body::object::<Body>(text.as_bytes(), true);
        match read {
            Ok(Body { limits }) => Ok(limits.unwrap_or_default().0),
            Err(problem) => {
                assert_eq!(problem.reply().status, 422, "{text}");
                Err(problem.detail())
            }
        }
    }

    #[test]
    fn a_number_may_be_written_as_a_float_and_null_is_absent() {
        let text = r#"{"pids":null,"nofile":94388.0,"cpuSeconds":1e1,"coreBytes":0}"#;
        let all: Vec<_> = asked(text).unwrap().iter().collect();
        assert_eq!(
            all,
            [
                (Limit::Nofile, 94_388),
                (Limit::CoreBytes, 0),
                (Limit::CpuSeconds, 10)
            ]
        );
        assert!(asked("null").unwrap().is_empty());
        assert!(asked("{}").unwrap().is_empty());
    }

    #[test]
    fn every_name_is_known_and_others_are_refused_where_that_is_asked_for() {
        for limit in Limit::ALL {
            let limits = asked(&format!("{{\"{}\":7}}", limit.name())).unwrap();
            assert_eq!(limits.iter().collect::<Vec<_>>(), [(limit, 7)]);
        }
        let detail = asked(r#"{"pid":1}"#).unwrap_err();
        assert!(
            detail.contains("limits.pid (nearest known: pids)"),
            "{detail}"
        );
    }

    #[test]
    fn what_is_no_amount_is_refused_by_its_name_with_what_it_may_be() {
        for (text, part) in [
            (r#"{"pids":-1}"#, "limits.pids"),
            (r#"{"pids":1.5}"#, "limits.pids"),
            (r#"{"pids":"1"}"#, "limits.pids"),
            (
                r#"{"pids":true}"#,
                "a whole number that is not negative, or null",
            ),
            (r#"{"pids":[1]}"#, "limits.pids"),
            (r#"{"pids":1e30}"#, "limits.pids"),
            (r#"{"pids":18446744073709551616}"#, "limits.pids"),
            (r#"{"pids":1,"pids":1}"#, "duplicate field `pids`"),
            ("[1,2,3]", "an object of limits"),
            ("5", "an object of limits"),
            (r#""pids""#, "an object of limits"),
        ] {
            let detail = asked(text).unwrap_err();
            assert!(detail.contains(part), "{text}: {detail}");
        }
    }

    fn rules(defaults: &str, maxima: &str, hard: &str) -> LimitRules {
        let [defaults, maxima, hard] =
            [defaults, maxima, hard].map(|text| Limits::parse(text).unwrap());
        LimitRules {
            defaults,
            maxima,
            hard,
        }
    }

    #[test]
    fn what_is_asked_goes_before_the_default_and_the_default_before_the_maximum() {
        let rules = rules("nofile=10,pids=5", "nofile=20,cpuSeconds=3,pids=4", "");
        let settle = |text| {
            let asked = Asked(Limits::parse(text).unwrap());
            let limits = rules.settle(Some(&asked)).unwrap().unwrap();
            limits.iter().map(|(_, value)| value).collect::<Vec<_>>()
        };
        // pids, nofile, cpuSeconds; a default that is too high is cut.
        assert_eq!(settle(""), [4, 10, 3]);
        assert_eq!(settle("nofile=20,cpuSeconds=1"), [4, 20, 1]);
        assert_eq!(LimitRules::default().settle(None).unwrap(), None);
    }

    #[test]
    fn what_is_too_high_or_nothing_is_400_and_says_what_may_be() {
        let rules = rules("", "nofile=20", "nofile=30,fileBytes=100");
        for (text, code, part) in [
            ("nofile=21", true, "limits.nofile must be at most 20"),
            (
                "fileBytes=101",
                true,
                "limits.fileBytes must be at most 100",
            ),
        ] {
            let asked = Asked(Limits::parse(text).unwrap());
            let reply = rules.settle(Some(&asked)).unwrap_err().reply();
            let body = String::from_utf8(reply.body.to_vec()).unwrap();
            assert_eq!(reply.status, 400, "{body}");
            assert!(body.contains(part), "{body}");
            assert_eq!(body.contains(r#""code":"limit_too_high""#), code, "{body}");
        }
        for limit in Limit::ALL {
            let mut limits = Limits::default();
            limits.set(limit, Some(0));
            let settled = rules.settle(Some(&Asked(limits)));
            assert_eq!(settled.is_ok(), limit.least() == 0, "{limit:?}");
        }
    }
}
