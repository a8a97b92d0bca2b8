//! `herald peers` and `herald routes`: the looking glass as tables.

use super::client;
use crate::admin::glass::{Peer, Peers, RoutePlace, Routes};
use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// What both are told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The Unix socket of the speaker
    #[arg(long, default_value = super::DEFAULT_SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What `herald routes` is told.
#[derive(Debug, clap::Args)]
pub struct RoutesArguments {
    #[command(flatten)]
    both: Arguments,
    /// Only the routes towards this peer
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people
    Table,
    /// What was answered
    Json,
}

/// Prints the peers.
///
/// # Errors
/// The speaker does not answer.
pub fn peers(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let body = client::ask("speaker", &arguments.socket, "/v1/peers")?;
    print(arguments.output, &body, |peers: &Peers| peers_text(peers))
}

/// Prints the routes.
///
/// # Errors
/// The speaker does not answer, or has no such peer.
pub fn routes(arguments: &RoutesArguments) -> anyhow::Result<ExitCode> {
    let path = match &arguments.peer {
        Some(peer) => format!("/v1/routes?peer={}", encode(peer)),
        None => "/v1/routes".to_owned(),
    };
    let body = client::ask("speaker", &arguments.both.socket, &path)?;
    print(arguments.both.output, &body, |routes: &Routes| routes_text(routes))
}

/// Prints an answer.
///
/// # Errors
/// It is not understood, or cannot be written.
pub fn print<T>(output: Output, body: &[u8], text: impl Fn(&T) -> String) -> anyhow::Result<ExitCode>
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    let answer: T =
        serde_json::from_slice(body).context("whoever answers is of another version: the answer is not understood")?;
    let shown = match output {
        Output::Table => text(&answer),
        Output::Json => serde_json::to_string_pretty(&answer)? + "\n",
    };
    super::print(&shown)
}

/// Octets that may not stand in a query are written as %XX (RFC 3986 §2.1).
pub(super) fn encode(text: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
    text.bytes()
        .map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

/// A table without lines around it.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// A table as text.
pub fn lines(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn peers_text(answer: &Peers) -> String {
    let asn = answer.asn.map_or("unknown".to_owned(), |asn| asn.to_string());
    let mut text =
        format!("Node {}, AS {asn}, router ID {}\n", answer.node, answer.router_id.as_deref().unwrap_or("unknown"));
    for line in answer.waiting.iter().chain(&answer.doubts).chain(&answer.conditions) {
        text += &format!("! {line}\n");
    }
    for peer in &answer.peers {
        text.extend(peer.remarks.iter().map(|remark| format!("! {}: {remark}\n", peer.name)));
        text.extend(withheld(peer));
    }
    let mut table = table(["NAME", "ADDRESS", "AS", "STATE", "SINCE", "HOLD", "IPV4", "IPV6", "LAST ERROR"]);
    for peer in &answer.peers {
        table.add_row(peer_row(peer));
    }
    text += "\n";
    text += &if answer.peers.is_empty() { "No peers.\n".to_owned() } else { lines(table) };
    text
}

/// Families that the session carries and that are not announced all the same. That a peer did not offer one is its own choice.
fn withheld(peer: &Peer) -> impl Iterator<Item = String> {
    let carried = peer.session.iter().flat_map(|session| &session.families);
    carried.filter_map(|family| {
        let why = peer.unannounced.get(family)?;
        Some(format!("! {}: {family} is not announced: {why}\n", peer.name))
    })
}

fn peer_row(peer: &Peer) -> [String; 9] {
    let since = peer.session.as_ref().map(|session| session.since).or(peer.last_down.as_ref().map(|down| down.at));
    let sent = |family: &str| match (&peer.session, peer.unannounced.contains_key(family)) {
        (None, _) => "-".to_owned(),
        (Some(session), false) if session.families.iter().any(|carried| carried == family) => {
            let count = peer.advertised.get(family).copied().unwrap_or(0);
            match peer.prefix_limits.get(family).map_or(0, |limit| limit.held_back) {
                0 => count.to_string(),
                held_back => format!("{count} ({held_back} held back)"),
            }
        }
        (Some(_), _) => "no".to_owned(),
    };
    let port = if peer.port == 179 { String::new() } else { format!(" port {}", peer.port) };
    [
        peer.name.clone(),
        format!("{}{port}", whereabouts(peer)),
        peer.asn.to_string(),
        peer.state.clone(),
        since.unwrap_or(peer.started).to_string(),
        peer.session.as_ref().map_or("-".to_owned(), |session| format!("{}s", session.hold_time_seconds)),
        sent("ipv4-unicast"),
        sent("ipv6-unicast"),
        peer.last_down.as_ref().map_or("-".to_owned(), |down| down.reason.clone()),
    ]
}

/// The address, with its interface where it means nothing without; only that, while a router is looked for there.
fn whereabouts(peer: &Peer) -> String {
    let on = peer.interface.as_deref().unwrap_or_default();
    match peer.address {
        IpAddr::V6(v6) if v6.is_unspecified() => format!("on {on}"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => format!("{v6}%{on}"),
        IpAddr::V4(_) | IpAddr::V6(_) => peer.address.to_string(),
    }
}

fn routes_text(answer: &Routes) -> String {
    let mut text: String = answer.conditions.iter().map(|line| format!("! {line}\n")).collect();
    if answer.routes.is_empty() {
        return text + "No routes.\n";
    }
    let mut table =
        table(["PREFIX", "PEER", "STATE", "NEXT HOP", "LOCPREF", "MED", "PREPEND", "BYTES/S", "COMMUNITIES"]);
    for route in &answer.routes {
        table.add_row([
            route.prefix.clone(),
            route.peer.clone(),
            match route.place {
                RoutePlace::InPool => route.state.text().to_owned(),
                RoutePlace::OutsidePool => format!("{}, outsidePool", route.state.text()),
            },
            route.next_hop.map_or("-".to_owned(), |address| address.to_string()),
            or_dash(route.local_pref),
            or_dash(route.med),
            or_dash(route.prepend),
            or_dash(route.link_bandwidth),
            if route.communities.is_empty() { "-".to_owned() } else { route.communities.join(" ") },
        ]);
    }
    text += &lines(table);
    text
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}
