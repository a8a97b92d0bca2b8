//! Labels and the selectors that read them.

use std::collections::{BTreeMap, BTreeSet};

/// `metadata.labels`.
pub type Labels = BTreeMap<String, String>;

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of the values (`matchLabels` is this with one value).
    In(String, BTreeSet<String>),
    /// The label is absent or has none of the values.
    NotIn(String, BTreeSet<String>),
    /// The label is present.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

/// A label selector as Kubernetes defines it: all requirements hold. Empty selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// The requirements.
    pub requirements: Vec<Requirement>,
}

impl Selector {
    /// Whether it selects an object with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_mean_what_kubernetes_means() {
        let labels = Labels::from([("tier".into(), "edge".into())]);
        let values = |value: &str| BTreeSet::from([value.to_owned()]);
        for (requirement, holds) in [
            (Requirement::In("tier".into(), values("edge")), true),
            (Requirement::In("tier".into(), values("core")), false),
            (Requirement::In("zone".into(), values("edge")), false),
            (Requirement::NotIn("tier".into(), values("edge")), false),
            (Requirement::NotIn("tier".into(), values("core")), true),
            (Requirement::NotIn("zone".into(), values("edge")), true),
            (Requirement::Exists("tier".into()), true),
            (Requirement::Exists("zone".into()), false),
            (Requirement::DoesNotExist("tier".into()), false),
            (Requirement::DoesNotExist("zone".into()), true),
        ] {
            let selector = Selector { requirements: vec![requirement.clone()] };
            assert_eq!(selector.selects(&labels), holds, "{requirement:?}");
        }
        assert!(Selector::default().selects(&Labels::new()));
    }
}
