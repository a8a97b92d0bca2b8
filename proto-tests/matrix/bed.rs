//! What a cell runs on: two namespaces with one link, and a folder of Services.
//!
//! ```text
//!   herald  .2 ──── 172.30.1.0/24, 2001:db8:30:1::/64 ──── .1  router
//! ```
//! herald's own addresses, the Node's InternalIPs, are on its loopback. Cells run side by side: each has its own names.

use crate::rig::net::{Link, Namespace};
use crate::rig::{Outcome, Rig, clean, make_folder, replace_file};
use ipnetwork::IpNetwork;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The router's addresses, IPv4 first.
pub const ROUTER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(172, 30, 1, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x30, 1, 0, 0, 0, 1))];
/// herald's on the same link.
pub const SPEAKER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(172, 30, 1, 2)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x30, 1, 0, 0, 0, 2))];

/// The router's link-local address and herald's, on every link.
pub const LINK_LOCAL: [IpAddr; 2] =
    [IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2))];

/// What the namespaces and interfaces of a cell's bed begin with. Behind a link-local address an interface is written `%m007s`,
/// and OpenBGPD 7.7 prints that as a format: m is a letter that does no harm there.
pub fn name(number: usize) -> String {
    format!("m{number:03}")
}

/// What the link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wires {
    /// Both families.
    Both,
    /// IPv6 only, and the node has no IPv4 address anywhere.
    SixOnly,
}

/// The ground of one cell. It is cleared away when this is dropped, whatever still runs on it.
#[derive(Debug)]
pub struct Bed {
    /// Where herald is.
    pub speaker: Namespace,
    /// Where the router is.
    pub router: Namespace,
    /// The link between them; its ends are herald's and the router's.
    pub link: Link,
    /// Files of this cell.
    pub dir: PathBuf,
    prefix: String,
}

impl Bed {
    /// Wires cell `number` up, with services 1 and 2 in its folder.
    ///
    /// # Errors
    /// A command failed.
    pub fn build(rig: &Rig, number: usize, wires: Wires) -> Outcome<Self> {
        let short = name(number);
        let prefix = format!("{}{short}", rig.prefix());
        clean::everything(&prefix, Path::new("/nonexistent"))?;
        let (speaker, router) =
            (Namespace::make(rig, &format!("{short}s"))?, Namespace::make(rig, &format!("{short}r"))?);
        let ends = |pair: [IpAddr; 2]| -> Vec<IpNetwork> {
            let on =
                |at: IpAddr| IpNetwork::new(at, if at.is_ipv4() { 24 } else { 64 }).expect("the lengths are possible");
            pair.into_iter().map(on).filter(|at| wires == Wires::Both || at.is_ipv6()).collect()
        };
        let link = Link::make((&speaker, &ends(SPEAKER)), (&router, &ends(ROUTER)))?;
        // The kernel's own link-local addresses go: a session would begin from either.
        for (end, address) in [(&link.b, "fe80::1/64"), (&link.a, "fe80::2/64")] {
            end.space.ip(&[format!("address flush dev {} scope link", end.device)])?;
            end.space.address(&end.device, &[address.parse().expect("it is one")])?;
        }
        router.forward()?;
        // A withdrawn service leads nowhere.
        router.dead_ends(&[
            "198.51.100.0/24".parse().expect("it is one"),
            "2001:db8:5::/64".parse().expect("it is one"),
        ])?;
        // A row may build several beds, one after the other.
        clean::folder(&rig.dir().join(&short))?;
        let dir = rig.folder(&short, 0o755)?;
        make_folder(&dir.join("manifests"), 0o755)?;
        let bed = Self { speaker, router, link, dir, prefix };
        replace_file(&bed.manifest("node"), &node(wires))?;
        bed.service(1)?;
        bed.service(2)?;
        Ok(bed)
    }

    /// Writes service `number`, both families.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn service(&self, number: u8) -> Outcome {
        replace_file(&self.manifest(&format!("service-{number}")), &object(number.into(), &service(number)))
    }

    /// Writes `count` services of IPv4, from 198.18.0.0 on, in one file.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn many(&self, count: u32) -> Outcome {
        let first = u32::from(Ipv4Addr::new(198, 18, 0, 0));
        let text: String = (0..count).map(|n| object(1000 + n, &[IpAddr::V4(Ipv4Addr::from(first + n))])).collect();
        replace_file(&self.manifest("many"), &text)
    }

    /// Deletes service `number`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn delete(&self, number: u8) -> Outcome {
        let path = self.manifest(&format!("service-{number}"));
        fs::remove_file(&path).map_err(|e| format!("{} could not be removed: {e}", path.display()))
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.dir.join("manifests").join(format!("{name}.yaml"))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Err(what) = clean::everything(&self.prefix, Path::new("/nonexistent")) {
            eprintln!("matrix: {what}");
        }
    }
}

/// The addresses of service `number`, IPv4 first.
pub fn service(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, number)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, number.into())),
    ]
}

fn object(number: u32, addresses: &[IpAddr]) -> String {
    let ingress = addresses.iter().fold(String::new(), |mut text, address| {
        let _infallible = write!(text, "{{ip: \"{address}\"}}, ");
        text
    });
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: lab, uid: s{number}}}\nspec:\n  \
         type: LoadBalancer\n  ports: [{{name: web, port: 80, protocol: TCP}}]\nstatus: {{loadBalancer: {{ingress: [{ingress}]}}}}\n"
    )
}

fn node(wires: Wires) -> String {
    let own = match wires {
        Wires::Both => "{type: InternalIP, address: 172.30.0.1}, {type: InternalIP, address: \"2001:db8:30::1\"}",
        Wires::SixOnly => "{type: InternalIP, address: \"2001:db8:30::1\"}",
    };
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: n1}}\nstatus: {{addresses: [{own}], conditions: [{{type: Ready, status: \"True\"}}]}}\n"
    )
}
