//! What the process before this one announced, against the first plans of this one.
//!
//! An answer that is much smaller is not believed at once: its routes go out, but nobody is told that they are all. A router that
//! kept the others over the restart (RFC 4724 §4.2) keeps them so.

use super::guard::{Cause, Limits, Until};
use super::plan::Plan;
use crate::wire::Prefix;
use std::collections::BTreeSet;
use std::time::Instant;

/// What was announced before. Once the plan is agreed with it is forgotten: from then on the guard judges each step.
#[derive(Debug, Default)]
pub struct Remembered {
    prefixes: BTreeSet<Prefix>,
    doubt: Doubt,
}

/// How plans have been doubted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Doubt {
    /// There was none yet.
    #[default]
    None,
    /// The last one had nothing. Should something come, the others have a hold from then on to follow.
    Empty,
    /// Each since then had something, and too little.
    Since(Instant),
}

/// What the plan lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// How many prefixes that were announced before.
    pub missing: usize,
    /// How many were.
    pub before: usize,
    /// When the plan is taken for the whole.
    pub until: Until,
    /// By which people confirm that it is.
    pub number: String,
}

impl Remembered {
    /// What was announced by a process under the same boot; nothing, where nothing is known.
    pub fn new(prefixes: BTreeSet<Prefix>) -> Self {
        Self { prefixes, doubt: Doubt::None }
    }

    /// What this plan lacks of it, unless that is little, confirmed or has been so for [`Limits::hold`].
    pub fn judge(&mut self, plan: &Plan, limits: &Limits, confirmed: Option<&str>, now: Instant) -> Option<Lack> {
        if self.prefixes.is_empty() {
            return None;
        }
        let has = |prefix: &&Prefix| plan.routes.values().any(|routes| routes.attributes(prefix).is_some());
        let before = self.prefixes.len();
        let missing = before - self.prefixes.iter().filter(has).count();
        let is_first = self.doubt == Doubt::None;
        self.doubt = match self.doubt {
            _ if plan.routes.values().all(crate::rib::RouteSet::is_empty) => Doubt::Empty,
            Doubt::Since(since) => Doubt::Since(since),
            Doubt::None | Doubt::Empty => Doubt::Since(now),
        };
        let (until, is_over) = match self.doubt {
            Doubt::None | Doubt::Empty => (Until::Confirmed, false),
            Doubt::Since(since) => {
                let at = since + limits.hold;
                (Until::Time(at), now >= at || missing == 0 || is_first && missing <= limits.share(before))
            }
        };
        let number = self.number();
        let is_allowed = [limits.confirmed.as_deref(), confirmed].contains(&Some(&*number)) || limits.allow_all();
        if is_over || is_allowed {
            self.prefixes.clear();
            return None;
        }
        Some(Lack { missing, before, until, number })
    }

    /// What was announced before and is not agreed on yet.
    pub fn prefixes(&self) -> &BTreeSet<Prefix> {
        &self.prefixes
    }

    /// Of all that was announced, so that it stays the same while objects come back.
    fn number(&self) -> String {
        let missing = self.prefixes.iter().map(ToString::to_string).collect();
        Cause { configuration: Some("restart".into()), missing }.hash()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::RouteSet;
    use std::sync::Arc;
    use std::time::Duration;

    fn prefixes(range: std::ops::Range<u8>) -> BTreeSet<Prefix> {
        range.map(|n| Prefix::host([198, 51, 100, n].into())).collect()
    }

    fn plan(range: std::ops::Range<u8>) -> Plan {
        let routes: RouteSet = prefixes(range).into_iter().map(|prefix| (prefix, Arc::default())).collect();
        Plan { routes: [("a".into(), RouteSet::new()), ("b".into(), routes)].into(), ..Plan::default() }
    }

    #[test]
    fn a_plan_much_smaller_than_before_is_doubted_for_a_while() {
        let (limits, start) = (Limits::default(), Instant::now());
        let mut remembered = Remembered::new(prefixes(0..20));
        let lack = remembered.judge(&plan(0..14), &limits, None, start).expect("six of twenty");
        assert_eq!((lack.missing, lack.before, lack.until), (6, 20, Until::Time(start + limits.hold)));
        assert!(remembered.judge(&plan(2..14), &limits, None, start + limits.hold / 2).is_some());
        assert_eq!(remembered.judge(&plan(0..14), &limits, None, start + limits.hold), None);
        assert_eq!(remembered.judge(&plan(0..0), &limits, None, start + limits.hold), None, "agreed, for good");
    }

    #[test]
    fn little_less_is_agreed_with_at_once_and_so_is_what_comes_back() {
        let (limits, now) = (Limits::default(), Instant::now());
        assert_eq!(Remembered::new(prefixes(0..20)).judge(&plan(0..15), &limits, None, now), None);
        assert_eq!(Remembered::new(prefixes(0..4)).judge(&plan(3..4), &limits, None, now), None, "three always may");
        assert_eq!(Remembered::default().judge(&plan(0..0), &limits, None, now), None);
        let mut remembered = Remembered::new(prefixes(0..20));
        assert!(remembered.judge(&plan(0..0), &limits, None, now).is_some());
        assert_eq!(remembered.judge(&plan(0..20), &limits, None, now), None);
    }

    #[test]
    fn what_comes_back_one_by_one_is_waited_for() {
        let (limits, start) = (Limits::default(), Instant::now());
        let mut remembered = Remembered::new(prefixes(0..20));
        assert!(remembered.judge(&plan(0..0), &limits, None, start).is_some());
        let first = start + 10 * limits.hold;
        let lack = remembered.judge(&plan(0..1), &limits, None, first).expect("one of twenty");
        assert_eq!((lack.missing, lack.until), (19, Until::Time(first + limits.hold)));
        let later = first + limits.hold / 2;
        assert!(remembered.judge(&plan(0..19), &limits, None, later).is_some(), "the last may follow too");
        assert_eq!(remembered.judge(&plan(0..19), &limits, None, first + limits.hold), None);
    }

    #[test]
    fn nothing_at_all_waits_until_it_is_confirmed_or_the_limit_is_off() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let mut remembered = Remembered::new(prefixes(0..1));
        let lack = remembered.judge(&plan(0..0), &limits, None, now).expect("nothing left");
        assert_eq!(lack.until, Until::Confirmed);
        let later = now + Duration::from_secs(86_400);
        assert!(remembered.judge(&plan(0..0), &limits, Some("another"), later).is_some());
        assert_eq!(remembered.judge(&plan(0..0), &limits, Some(&lack.number), later), None);
        limits.confirmed = Some(lack.number.into());
        assert_eq!(Remembered::new(prefixes(0..1)).judge(&plan(0..0), &limits, None, now), None);
        let off = Limits { max_withdraw: 100, ..Limits::default() };
        assert_eq!(Remembered::new(prefixes(0..9)).judge(&plan(0..0), &off, None, now), None);
    }
}
