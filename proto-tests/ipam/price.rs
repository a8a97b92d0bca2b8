//! What it costs: so many grants, taking over as many, and the memory a Service. The figures are printed; the benches, which
//! share this file, set limits.

use herald::ipam::{
    Allocator, Backend, Claim, Families, Family, Labels, Pool, PoolChoice, Port, Protocol, Record, Renumber, ServiceName,
    Sharing, Start, Terms, Timestamp, Write,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Services.
    pub count: usize,
    /// All grants, one after the other, each chosen, written down and shown.
    pub grants: Duration,
    /// Of that, choosing alone.
    pub choosing: Duration,
    /// A new allocator takes all of it over.
    pub adoption: Duration,
    /// One more is given when all the others are there, and one waits in vain: the slowest of a hundred.
    pub slowest: Duration,
    /// Resident memory a Service, claim and record included; 0 where the kernel does not say.
    pub octets: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, grants, choosing, adoption, slowest, octets } = self;
        write!(
            f,
            "{count} services: granted in {grants:.0?} (choosing alone {choosing:.0?}), adopted in {adoption:.0?}, \
             one more in at most {slowest:.1?}, {octets} octets a service"
        )
    }
}

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

fn pools() -> Vec<Pool> {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let full = |n: u8| Pool { priority: 0, ..Pool::new(&format!("full-{n}"), vec![(IpAddr::from([10, 0, 0, n]), IpAddr::from([10, 0, 0, n]))]) };
    let wide = Pool::new("wide", vec![(ip("10.64.0.0"), ip("10.127.255.255")), (ip("2001:db8::"), ip("2001:db8::ffff:ffff"))]);
    // Some small ones stand before the wide one, and are full after the first grants.
    (0..8).map(full).chain([wide]).collect()
}

fn claim(n: usize) -> Claim {
    Claim {
        uid: format!("{n:08x}-5e1f-4c11-9d2a-0123456789ab").as_str().into(),
        service: ServiceName { namespace: format!("team-{}", n % 200).into(), name: format!("service-{n}").into() },
        created: Timestamp::from_unix_millis(1_600_000_000_000 + n as u64 * 1000),
        families: Families::Single(Family::V4),
        addresses: BTreeSet::new(),
        pool: PoolChoice::Any,
        terms: Arc::new(Terms {
            sharing: Sharing::Exclusive,
            backend: Backend::Cluster,
            ports: [80, 443].map(|number| Port { protocol: Protocol::Tcp, number }).into(),
        }),
        labels: Arc::new(Labels::from([("app.kubernetes.io/name".to_owned(), format!("service-{n}"))])),
        namespace_labels: Arc::default(),
        renumber: Renumber::Stay,
        shown: Vec::new(),
    }
}

/// Resident octets of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn serve(allocator: &mut Allocator, mut claim: Claim, choosing: &mut Duration) -> Claim {
    let begin = Instant::now();
    allocator.apply(claim.clone(), NOW);
    *choosing += begin.elapsed();
    for address in allocator.take_changes().addresses {
        let Write::Put(record) = allocator.begin_write(address) else { panic!("{address} has nothing to write") };
        allocator.confirm(address, Some(record), NOW);
    }
    let status = allocator.status(&claim.uid).expect("it is served");
    assert_eq!(status.ingress.len(), 1, "{}", claim.service);
    claim.shown = status.ingress;
    allocator.apply(claim.clone(), NOW);
    claim
}

/// Measures with so many services, and checks that each has an address of its own and keeps it.
pub fn measure(count: usize) -> Figures {
    let wishes: Vec<Claim> = (0..count).map(claim).collect();
    let mut allocator = Allocator::adopt(Start { pools: pools(), ..Start::default() }, NOW);
    let mut choosing = Duration::ZERO;
    let begin = Instant::now();
    let claims: Vec<Claim> = wishes.into_iter().map(|wish| serve(&mut allocator, wish, &mut choosing)).collect();
    let grants = begin.elapsed();
    let records: Vec<Record> = allocator.records().collect();
    assert_eq!(records.len(), count, "an address for each");
    drop(allocator);

    let before = resident();
    let again = (0..count).map(claim).collect();
    let mut start = Start { pools: pools(), records: records.clone(), claims: again, ..Start::default() };
    start.claims.iter_mut().zip(&claims).for_each(|(claim, served)| claim.shown.clone_from(&served.shown));
    let begin = Instant::now();
    let mut allocator = Allocator::adopt(start, NOW);
    let adoption = begin.elapsed();
    let octets = resident().saturating_sub(before) / count;
    assert!(allocator.take_changes().addresses.is_empty(), "an adoption has nothing to write");
    assert!(allocator.records().eq(records), "an adoption changes nothing");

    allocator.apply(Claim { addresses: claims[0].shown.iter().copied().collect(), ..claim(count) }, NOW);
    let (mut slowest, mut choosing_more) = (Duration::ZERO, Duration::ZERO);
    for n in count + 1..count + 101 {
        let begin = Instant::now();
        serve(&mut allocator, claim(n), &mut choosing_more);
        slowest = slowest.max(begin.elapsed());
    }
    Figures { count, grants, choosing, adoption, slowest, octets }
}
