//! Silent cuts and packet counters, by nftables.
//!
//! A cut drops everything where it arrives (netdev ingress, so ARP as well), at both ends of each link: the interfaces stay
//! up and nobody is told, as when a machine loses its power. Dropping where a packet leaves would hand its sender an error.

use super::Outcome;
use super::net::{Link, Namespace, feed};
use serde_json::Value;
use std::collections::BTreeMap;

/// Links that carry nothing until this is healed or dropped.
#[derive(Debug)]
pub struct Cut {
    spaces: Vec<Namespace>,
}

impl Cut {
    /// Cuts links, silently. One cut at a time in a namespace.
    ///
    /// # Errors
    /// nftables refused.
    pub fn links(links: &[&Link]) -> Outcome<Self> {
        let mut devices: BTreeMap<&Namespace, Vec<&str>> = BTreeMap::new();
        for end in links.iter().flat_map(|link| [&link.a, &link.b]) {
            devices.entry(&end.space).or_default().push(&end.device);
        }
        let cut = Self { spaces: devices.keys().map(|space| (*space).clone()).collect() };
        for (space, names) in devices {
            let chains: String = names
                .iter()
                .enumerate()
                .map(|(n, device)| {
                    format!(" chain c{n} {{\n type filter hook ingress device \"{device}\" priority -500; policy drop;\n }}\n")
                })
                .collect();
            load(space, &format!("table netdev hd_cut {{\n{chains}}}\n"))?;
        }
        Ok(cut)
    }

    /// Lets everything through again.
    pub fn heal(self) {}
}

impl Drop for Cut {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _gone_with_its_namespace = space.run("nft", &["delete", "table", "netdev", "hd_cut"]);
        }
    }
}

/// Single connections that carry nothing until this is dropped, while others do.
#[derive(Debug)]
pub struct Silence {
    space: Namespace,
}

impl Silence {
    /// Silences the TCP connections whose ends inside have these ports.
    ///
    /// # Errors
    /// There is none, or nftables refused.
    pub fn of(space: &Namespace, ports: &[u16]) -> Outcome<Self> {
        if ports.is_empty() {
            return Err("no connection to silence".to_owned());
        }
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let rules = format!(
            "table inet hd_silence {{\n chain c {{\n  type filter hook prerouting priority -400; policy accept;\n  \
             tcp sport {{ {ports} }} drop\n  tcp dport {{ {ports} }} drop\n }}\n}}\n"
        );
        load(space, &rules)?;
        Ok(Self { space: space.clone() })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _gone_with_its_namespace = self.space.run("nft", &["delete", "table", "inet", "hd_silence"]);
    }
}

/// Named packet counters in a namespace's prerouting hook.
#[derive(Debug)]
pub struct Counters {
    space: Namespace,
}

impl Counters {
    /// Installs a counter for each (name, match), for instance `("uplink", "iifname \"r1\" ip daddr 198.51.100.0/24")`.
    ///
    /// # Errors
    /// nftables refused.
    pub fn install(space: &Namespace, rules: &[(&str, &str)]) -> Outcome<Self> {
        let counters: String = rules.iter().map(|(name, _)| format!(" counter {name} {{ }}\n")).collect();
        let chain: String = rules.iter().map(|(name, filter)| format!("  {filter} counter name {name}\n")).collect();
        load(
            space,
            &format!(
                "table inet hd_count {{\n{counters} chain c {{\n  type filter hook prerouting priority -400; policy accept;\n{chain} }}\n}}\n"
            ),
        )?;
        Ok(Self { space: space.clone() })
    }

    /// Packets so far, by name.
    ///
    /// # Errors
    /// nftables gave no answer that could be read.
    pub fn read(&self) -> Outcome<BTreeMap<String, u64>> {
        let text = self.space.run("nft", &["-j", "list", "counters", "table", "inet", "hd_count"])?;
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("nft wrote no JSON: {e}"))?;
        let entries = value["nftables"].as_array().into_iter().flatten().map(|entry| &entry["counter"]);
        Ok(entries
            .filter_map(|counter| Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?)))
            .collect())
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        let _gone_with_its_namespace = self.space.run("nft", &["delete", "table", "inet", "hd_count"]);
    }
}

fn load(space: &Namespace, rules: &str) -> Outcome {
    feed(space.command("nft").args(["-f", "-"]), rules).map_err(|e| format!("{e}\n{rules}"))
}
