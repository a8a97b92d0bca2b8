//! Messages and streams that nobody here wrote, said to a live speaker: to one that waits for an OPEN, and inside a session.
//! What the wire suite knows the right verdict of is judged; the rest must be survived, and answered with a NOTIFICATION that
//! exists or with none.

use crate::Form;
use crate::line::{Line, fresh};
use crate::octets::{REFRESHES, Told, Who, hex, message};
use crate::router::NODE_ASN;
use crate::table::EXTERNAL_ASN;
use crate::tar::untar;
use crate::ward::{Bounds, EXTERNAL, INTERNAL, Peak, Ward};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The ranges for routers of the AS that a corpus names.
const FRR: (u8, u16) = (128, 65_002);
const OPENBSD: (u8, u16) = (160, 64_502);

/// All corpora; without their folder the case says that it was left out.
pub fn all(form: Form) -> Result<String, String> {
    let Some(root) = std::env::var_os("HERALD_CORPORA").map(PathBuf::from) else {
        return Ok("left out: HERALD_CORPORA is not set".to_owned());
    };
    let ward = Ward::start("")?;
    let mut siege = Siege { ward, peak: Peak::default(), told: BTreeMap::new(), connections: 0 };
    let proofs = siege.proofs_of_concept(&root.join("cve-poc"))?;
    let verdicts = siege.verdicts_of_openbgpd(&root.join("openbgpd"))?;
    let messages = messages(&root)?;
    for message in &messages {
        siege.survives(message)?;
    }
    let streams = streams(&root.join("qlyoung-corpi"))?;
    let step = if form == Form::Long { 1 } else { 8 };
    let chosen: Vec<_> = streams.iter().step_by(step).collect();
    for stream in &chosen {
        siege.survives(stream)?;
    }
    let Siege { ward, peak, told, connections } = siege;
    Ok(format!(
        "{proofs} proofs of concept, {verdicts} verdicts of OpenBGPD, {} messages, {} of {} streams on {connections} \
         connections; told {told:?}; {}",
        messages.len(),
        chosen.len(),
        streams.len(),
        ward.unharmed(Bounds::default(), peak)?
    ))
}

struct Siege {
    ward: Ward,
    peak: Peak,
    /// How often which NOTIFICATION came.
    told: BTreeMap<(u8, u8), usize>,
    connections: usize,
}

impl Siege {
    /// Says octets and then nothing more; what is told is one of the RFCs' NOTIFICATIONs, and the connection ends.
    fn say(&mut self, mut line: Line, octets: &[u8]) -> Result<Option<Told>, String> {
        // The speaker may have closed in the middle of it.
        let _refused = line.say(octets);
        let _closed = line.stream.shutdown(Shutdown::Write);
        let told = line.last_words()?;
        if let Some(Told { code, subcode, .. }) = &told {
            if !(1..=7).contains(code) || *subcode > 11 {
                return Err(format!("no RFC has this NOTIFICATION: {told:?}"));
            }
            *self.told.entry((*code, *subcode)).or_default() += 1;
        }
        self.connections += 1;
        if self.connections.is_multiple_of(32) {
            self.peak.see(&self.ward);
        }
        Ok(told)
    }

    fn survives(&mut self, octets: &[u8]) -> Result<(), String> {
        let said =
            |what: String| format!("{what}\nafter {} octets: {:02x?}", octets.len(), &octets[..octets.len().min(99)]);
        let opening = Line::dial(fresh(EXTERNAL), self.ward.speaker)?;
        self.say(opening, octets).map_err(said)?;
        let who = Who::new(EXTERNAL_ASN, 9);
        let up = Line::established(fresh(EXTERNAL), self.ward.speaker, &who)?;
        self.say(up, octets).map_err(said)?;
        Ok(())
    }

    /// Whole conversations, from a router of the AS that their OPEN names.
    fn proofs_of_concept(&mut self, folder: &Path) -> Result<usize, String> {
        let rows = rows(&folder.join("messages.jsonl"))?;
        let mut conversations: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for row in &rows {
            let name = row["cve"].as_str().unwrap_or_default().to_owned();
            conversations.entry(name).or_default().push(hex(row["hex"].as_str().unwrap_or_default()));
        }
        for (cve, messages) in &conversations {
            let wanted = match cve.as_str() {
                "CVE-2022-40302" => (2, 4),
                "CVE-2022-43681" => (2, 0),
                "CVE-2023-46753" | "CVE-2023-47235" => (3, 10),
                other => return Err(format!("{other} has no wanted answer")),
            };
            let mut ordered = messages.clone();
            ordered.sort_by_key(|message| [1, 4, 2].iter().position(|kind| *kind == message[18]));
            let line = Line::dial(fresh(FRR.0), self.ward.speaker)?;
            let told = self.say(line, &ordered.concat())?;
            if told.as_ref().map(|told| (told.code, told.subcode)) != Some(wanted) {
                return Err(format!("{cve}: told {told:?} instead of {wanted:?}"));
            }
        }
        if rows.len() == 8 { Ok(rows.len()) } else { Err(format!("{} proofs of concept", rows.len())) }
    }

    /// Each UPDATE in a session of its own, and what is counted after it.
    fn verdicts_of_openbgpd(&mut self, folder: &Path) -> Result<usize, String> {
        let rows = rows(&folder.join("attr-cases.jsonl"))?;
        for row in &rows {
            let (range, (block, asn)) = match row["peer_sort"].as_str() {
                Some("ebgp") => ("openbsd", OPENBSD),
                _ => ("internal", (INTERNAL, u16::try_from(NODE_ASN).unwrap())),
            };
            let source = fresh(block);
            let who = Who::new(asn, 9).with(REFRESHES);
            let mut line = Line::established(source, self.ward.speaker, &who)?;
            line.say(&hex(row["update_hex"].as_str().unwrap_or_default()))?;
            line.in_step()?;
            let name = format!("{range}/{source}");
            let peer = self.ward.peer(&name);
            let verdict = match Ward::faults(&peer) {
                (0, 0) => "good",
                (1.., 0) => "discard",
                _ => "withdraw",
            };
            if peer["state"] != "Established" || row["expect"] != verdict {
                return Err(format!("{row}: {verdict}: {peer}"));
            }
        }
        if rows.len() == 16 { Ok(rows.len()) } else { Err(format!("{} rows of OpenBGPD", rows.len())) }
    }
}

fn rows(path: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display())))
        .collect()
}

/// The files of a folder in order, READMEs excepted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.expect("a folder that can be read").path()).collect();
    Ok(paths.into_iter().filter(|path| path.is_file() && path.extension().is_none_or(|end| end != "md")).collect())
}

/// ExaBGP's decoder cases, CoreBGP's UPDATE bodies, GoBGP's crashers, MetalLB's OPENs.
fn messages(root: &Path) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: PathBuf| std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()));
    let mut found: Vec<Vec<u8>> = Vec::new();
    for row in rows(&root.join("exabgp/decoding.jsonl"))? {
        let octets = hex(row["hex"].as_str().unwrap_or_default());
        found.push(if row["full_message"] == true { octets } else { message(2, &octets) });
    }
    for path in files(&root.join("corebgp"))? {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        let quoted = text.split_once("(\"").and_then(|(_, rest)| rest.rsplit_once("\")"));
        found.push(message(2, &go_string(quoted.ok_or("no Go string")?.0)));
    }
    for path in files(&root.join("gobgp/bad-len"))? {
        let mut octets = read(path)?;
        found.push(octets.clone());
        octets[..16].fill(0xff);
        found.push(octets.clone());
        for kind in 1..=5 {
            let len = u16::try_from(octets.len()).map_err(|_| "a crasher that is no message")?;
            octets[16..18].copy_from_slice(&len.to_be_bytes());
            octets[18] = kind;
            found.push(octets.clone());
        }
    }
    for path in files(&root.join("metallb"))? {
        found.push(read(path)?);
    }
    let wanted = 22 + 2 + 11 * 7 + 4;
    if found.len() == wanted { Ok(found) } else { Err(format!("{} messages instead of {wanted}", found.len())) }
}

/// Text with `\xHH` in it.
fn go_string(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(digits) = rest.strip_prefix("\\x") {
            octets.extend(hex(&digits[..2]));
            rest = &digits[2..];
        } else {
            octets.push(first as u8);
            rest = &rest[first.len_utf8()..];
        }
    }
    octets
}

/// What fuzzers of FRR's bgpd and of BIRD found worth keeping.
fn streams(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let mut streams = Vec::new();
    for archive in ["bgpd-unique.tar.gz", "bird-unique.tar.gz"] {
        let output = Command::new("gzip").arg("-dc").arg(folder.join(archive)).output().map_err(|e| e.to_string())?;
        streams.extend(untar(&output.stdout));
    }
    let wanted = 2443 + 292;
    if streams.len() == wanted { Ok(streams) } else { Err(format!("{} streams instead of {wanted}", streams.len())) }
}
