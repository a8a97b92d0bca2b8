//! Label selectors.

use super::error::{Finding, Place};
use super::names::nearest;
use super::raw;
use crate::advertise::NodeSelector;
use crate::advertise::policy::{Requirement, satisfiable};
use crate::ipam;
use serde_saphyr::Spanned;
use std::collections::BTreeSet;

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// A selector of nodes; absent selects every node.
pub fn resolve(raw: Option<&raw::Selector>, out: &mut Vec<Finding>) -> NodeSelector {
    let requirements = raw.map(|raw| requirements(raw, "node", out)).unwrap_or_default();
    NodeSelector { requirements }
}

/// A selector of `what` (in the singular) that a pool serves.
pub fn of_labels(raw: &raw::Selector, what: &str, out: &mut Vec<Finding>) -> ipam::Selector {
    let same = |requirement| match requirement {
        Requirement::In(key, values) => ipam::Requirement::In(key, values),
        Requirement::NotIn(key, values) => ipam::Requirement::NotIn(key, values),
        Requirement::Exists(key) => ipam::Requirement::Exists(key),
        Requirement::DoesNotExist(key) => ipam::Requirement::DoesNotExist(key),
    };
    ipam::Selector { requirements: requirements(raw, what, out).into_iter().map(same).collect() }
}

fn requirements(raw: &raw::Selector, what: &str, out: &mut Vec<Finding>) -> Vec<Requirement> {
    let mut requirements = Vec::new();
    // Where each requirement stands, so that a contradiction can show both sides.
    let mut places = Vec::new();
    for (key, value) in raw.match_labels.iter().flatten() {
        requirements.push(Requirement::In(key.clone(), BTreeSet::from([value.value.clone()])));
        places.push(Place::of(value));
    }
    for expression in raw.match_expressions.iter().flatten() {
        if let Some((place, requirement)) = requirement(expression, out) {
            requirements.push(requirement);
            places.push(place);
        }
    }
    report_contradiction(&requirements, &places, what, out);
    requirements
}

fn report_contradiction(requirements: &[Requirement], places: &[Place], what: &str, out: &mut Vec<Finding>) {
    let Err(key) = satisfiable(requirements) else { return };
    let mut about = requirements.iter().zip(places).filter(|(requirement, _)| requirement.key() == key);
    let first = about.next().map(|(_, place)| *place).unwrap_or_default();
    let title = format!("this selector matches no {what}: label {key:?} cannot be all that it asks for");
    let finding = Finding::warning(first, title)
        .help(format!("each requirement must hold for the same {what}; drop one of them"));
    out.push(about.fold(finding, |finding, (_, place)| finding.related(*place, "contradicts it")));
}

fn requirement(raw: &Spanned<raw::Expression>, out: &mut Vec<Finding>) -> Option<(Place, Requirement)> {
    let expression = &raw.value;
    let (Some(key), Some(operator)) = (&expression.key, &expression.operator) else {
        let missing = if expression.key.is_none() { "key" } else { "operator" };
        let title = format!("this expression has no '{missing}'");
        out.push(Finding::error(Place::of(raw), title).help("write {key: rack, operator: In, values: [r1, r2]}"));
        return None;
    };
    let values: Option<BTreeSet<String>> =
        expression.values.as_ref().map(|values| values.iter().map(|value| value.value.clone()).collect());
    let (place, key, at) = (Place::of(key), key.value.clone(), Place::of(operator));
    let requirement = match (operator.value.as_str(), values) {
        ("In", Some(values)) if !values.is_empty() => Some(Requirement::In(key, values)),
        ("NotIn", Some(values)) if !values.is_empty() => Some(Requirement::NotIn(key, values)),
        ("In" | "NotIn", _) => {
            let title = format!("{} needs 'values'", operator.value);
            out.push(Finding::error(at, title).help("add 'values: [r1, r2]' with at least one value"));
            None
        }
        ("Exists", None) => Some(Requirement::Exists(key)),
        ("DoesNotExist", None) => Some(Requirement::DoesNotExist(key)),
        ("Exists" | "DoesNotExist", Some(_)) => {
            let title = format!("{} takes no 'values'", operator.value);
            let help = "remove 'values', or write In or NotIn to ask for values";
            out.push(Finding::error(at, title).help(help));
            None
        }
        (other, _) => {
            let help = match nearest(other, OPERATORS) {
                Some(near) => format!("write {near}"),
                None => format!("operators are {}", OPERATORS.join(", ")),
            };
            out.push(Finding::error(at, format!("{other:?} is no operator")).help(help));
            None
        }
    };
    Some((place, requirement?))
}
