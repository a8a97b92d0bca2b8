//! The pools with what is left in them. Nothing here knows who holds an address; the free ones stand as spans, so that the
//! lowest is found in O(log n) and a /64 costs as much as a /32.

use super::family::{Family, address, number};
use super::interval::IntervalSet;
use super::pool::Pool;
use super::refusal::{Extent, Fullness};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What can be said about one address as far as giving it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Free to be given, if a pool gives it.
    Vacant,
    /// Somebody of ours holds it.
    Held,
    /// It cools down.
    Cooling,
    /// A node has it, or a Service that is not ours shows it.
    Blocked,
}

/// Figures of one family of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The pool.
    pub pool: Arc<str>,
    /// The family.
    pub family: Family,
    /// Addresses that it could give: its ranges without what is kept out.
    pub total: u128,
    /// Those that are held.
    pub held: u64,
    /// Those that cool down.
    pub cooling: u64,
    /// Those that belong to nodes or are shown by services that are not ours.
    pub blocked: u64,
    /// Those that are free.
    pub vacant: u128,
}

/// One family of a pool. Sets hold places in the pool's numbering.
#[derive(Debug, Clone, Default)]
struct Shelf {
    given: IntervalSet,
    vacant: IntervalSet,
    held: u64,
    cooling: u64,
    blocked: u64,
}

impl Shelf {
    fn count(&mut self, class: Class) -> Option<&mut u64> {
        match class {
            Class::Vacant => None,
            Class::Held => Some(&mut self.held),
            Class::Cooling => Some(&mut self.cooling),
            Class::Blocked => Some(&mut self.blocked),
        }
    }
}

/// One pool with what is left in it.
#[derive(Debug, Clone)]
pub struct Stock {
    /// The pool as configured.
    pub pool: Arc<Pool>,
    v4: Shelf,
    v6: Shelf,
}

impl Stock {
    fn shelf(&self, family: Family) -> &Shelf {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn shelf_mut(&mut self, family: Family) -> &mut Shelf {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// The lowest free address.
    pub fn lowest(&self, family: Family) -> Option<IpAddr> {
        let place = self.shelf(family).vacant.first()?;
        Some(address(family, self.pool.numbering(family).number(place)))
    }

    /// Whether it has any address of a family to give, free or not.
    pub fn has(&self, family: Family) -> bool {
        !self.shelf(family).given.is_empty()
    }

    /// Whether it gives this address, free or not.
    pub fn gives(&self, address: IpAddr) -> bool {
        let family = Family::of(address);
        let place = self.pool.numbering(family).place(number(address));
        place.is_some_and(|place| self.shelf(family).given.contains(place))
    }

    /// How full it is.
    pub fn fullness(&self, family: Family) -> Fullness {
        let shelf = self.shelf(family);
        let extent = if self.has(family.other()) { Extent::OneFamily } else { Extent::Pool };
        let total = shelf.given.len();
        let used = total - shelf.vacant.len();
        Fullness { family, extent, total, used, cooling: shelf.cooling, blocked: shelf.blocked }
    }

    fn usage(&self, family: Family) -> Usage {
        let shelf = self.shelf(family);
        Usage {
            pool: Arc::clone(&self.pool.name),
            family,
            total: shelf.given.len(),
            held: shelf.held,
            cooling: shelf.cooling,
            blocked: shelf.blocked,
            vacant: shelf.vacant.len(),
        }
    }

    fn reclassify(&mut self, address: IpAddr, from: Class, to: Class) {
        let family = Family::of(address);
        let Some(place) = self.pool.numbering(family).place(number(address)) else { return };
        let shelf = self.shelf_mut(family);
        if from == to || !shelf.given.contains(place) {
            return;
        }
        match shelf.count(from) {
            Some(count) => *count -= 1,
            None => shelf.vacant.remove(place, place),
        }
        match shelf.count(to) {
            Some(count) => *count += 1,
            None => shelf.vacant.insert(place, place),
        }
    }
}

/// All pools, in the order in which they are asked.
#[derive(Debug, Clone, Default)]
pub struct Stocks {
    ordered: BTreeMap<(u32, Arc<str>), Stock>,
    priorities: BTreeMap<Arc<str>, u32>,
    /// Where each range begins: its last address and its pool.
    ranges: BTreeMap<(Family, u128), (u128, Arc<str>)>,
}

impl Stocks {
    /// All addresses vacant. Of two pools that claim one address the one that is asked first has it; of two pools of one
    /// name the last counts.
    pub fn new(pools: Vec<Pool>) -> Self {
        let by_name: BTreeMap<Arc<str>, Pool> = pools.into_iter().map(|pool| (Arc::clone(&pool.name), pool)).collect();
        let mut order: Vec<Pool> = by_name.into_values().collect();
        order.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
        let mut stocks = Self::default();
        let mut claimed = [IntervalSet::default(), IntervalSet::default()];
        for pool in order {
            let mut stock = Stock { pool: Arc::new(pool), v4: Shelf::default(), v6: Shelf::default() };
            for (family, claimed) in [Family::V4, Family::V6].into_iter().zip(&mut claimed) {
                stocks.lay_out(&mut stock, family, claimed);
            }
            let key = (stock.pool.priority, Arc::clone(&stock.pool.name));
            stocks.priorities.insert(Arc::clone(&key.1), key.0);
            stocks.ordered.insert(key, stock);
        }
        stocks
    }

    /// Fills one family of a stock from its pool, without what earlier pools claimed.
    fn lay_out(&mut self, stock: &mut Stock, family: Family, claimed: &mut IntervalSet) {
        let mut own = stock.pool.spans(family);
        claimed.spans().for_each(|(first, last)| own.remove(first, last));
        for (first, last) in own.spans() {
            claimed.insert(first, last);
            self.ranges.insert((family, first), (last, Arc::clone(&stock.pool.name)));
        }
        stock.pool.kept_out(family).spans().for_each(|(first, last)| own.remove(first, last));
        let numbering = stock.pool.numbering(family);
        let given = &mut stock.shelf_mut(family).given;
        for (first, last) in own.spans().filter_map(|(first, last)| numbering.span(first, last)) {
            given.insert(first, last);
        }
        stock.shelf_mut(family).vacant = stock.shelf(family).given.clone();
    }

    /// In the order in which they are asked.
    pub fn iter(&self) -> impl Iterator<Item = &Stock> {
        self.ordered.values()
    }

    /// By name.
    pub fn named(&self, name: &str) -> Option<&Stock> {
        let (name, priority) = self.priorities.get_key_value(name)?;
        self.ordered.get(&(*priority, Arc::clone(name)))
    }

    /// The one in whose ranges an address lies, given or kept out.
    pub fn around(&self, address: IpAddr) -> Option<&Stock> {
        let at = (Family::of(address), number(address));
        let (first, (last, name)) = self.ranges.range(..=at).next_back()?;
        (first.0 == at.0 && *last >= at.1).then(|| self.named(name))?
    }

    /// Notes that an address changed from one class to another.
    pub fn reclassify(&mut self, address: IpAddr, from: Class, to: Class) {
        if from == to {
            return;
        }
        let Some(stock) = self.around(address) else { return };
        let key = (stock.pool.priority, Arc::clone(&stock.pool.name));
        self.ordered.get_mut(&key).expect("a stock that was found stands in the order").reclassify(address, from, to);
    }

    /// Figures of every pool, in order.
    pub fn usage(&self) -> Vec<Usage> {
        let of = |stock: &Stock| {
            [Family::V4, Family::V6].into_iter().filter(|f| stock.has(*f)).map(|f| stock.usage(f)).collect::<Vec<_>>()
        };
        self.ordered.values().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Edges;
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool(name: &str, priority: u32, first: &str, last: &str) -> Pool {
        Pool { priority, ..Pool::new(name, vec![(ip(first), ip(last))]) }
    }

    #[test]
    fn an_address_of_two_pools_belongs_to_the_one_asked_first() {
        let stocks = Stocks::new(vec![pool("b", 1, "10.0.0.0", "10.0.0.7"), pool("a", 0, "10.0.0.4", "10.0.0.5")]);
        let at = |text| stocks.around(ip(text)).map(|stock| stock.pool.name.to_string());
        let found: Vec<_> =
            ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.8", "9.255.255.255"].map(at).into();
        let expected = [Some("b"), Some("a"), Some("a"), Some("b"), None, None].map(|name| name.map(str::to_owned));
        assert_eq!(found, expected);
        assert_eq!(stocks.named("b").unwrap().fullness(Family::V4).total, 6);
        // ::10.0.0.3 has the same number as 10.0.0.3.
        assert!(stocks.around(ip("::10.0.0.3")).is_none());
    }

    #[test]
    fn kept_out_addresses_are_not_counted_and_not_given() {
        let mut pool = pool("a", 0, "10.0.0.254", "10.0.1.3");
        pool.edges = Edges::KeptOut;
        pool.kept_out = vec![(ip("10.0.1.1"), ip("10.0.1.2"))];
        let mut stocks = Stocks::new(vec![pool]);
        let mut given = Vec::new();
        while let Some(lowest) = stocks.named("a").unwrap().lowest(Family::V4) {
            given.push(lowest);
            stocks.reclassify(lowest, Class::Vacant, Class::Held);
        }
        assert_eq!(given, [ip("10.0.0.254"), ip("10.0.1.3")]);
        stocks.reclassify(ip("10.0.1.0"), Class::Held, Class::Vacant);
        assert_eq!(stocks.named("a").unwrap().lowest(Family::V4), None);
        assert!(!stocks.named("a").unwrap().gives(ip("10.0.1.0")));
        stocks.reclassify(ip("10.0.1.3"), Class::Held, Class::Cooling);
        let full = stocks.named("a").unwrap().fullness(Family::V4);
        assert_eq!(
            full,
            Fullness { family: Family::V4, extent: Extent::Pool, total: 2, used: 2, cooling: 1, blocked: 0 }
        );
    }

    #[test]
    fn the_largest_pools_cost_nothing() {
        let stocks = Stocks::new(vec![
            pool("v4", 0, "1.0.0.0", "223.255.255.255"),
            pool("v6", 0, "2000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ]);
        assert_eq!(stocks.named("v6").unwrap().lowest(Family::V6), Some(ip("2000::")));
        assert_eq!(stocks.named("v6").unwrap().fullness(Family::V6).total, 1 << 125);
    }
}
