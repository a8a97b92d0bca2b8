//! What the configuration says of a route, read in the router's table.

use super::Cell;
use super::session::shows;
use crate::daemon::Seen;
use crate::rig::Outcome;
use crate::session::{OUR_ASN, Session};

pub fn in_the_table(cell: Cell<'_>) -> Outcome {
    between_systems(cell)?;
    inside_one(cell)
}

fn between_systems(cell: Cell<'_>) -> Outcome {
    let advertisement = vec![
        "communities: [\"64512:100\", no-export, \"64512:1:53\", \"rt:64512:200\"]".to_owned(),
        "med: 300".to_owned(),
        "prepend: 2".to_owned(),
        "linkBandwidth: 10Gbit/s".to_owned(),
    ];
    let session = Session { advertisement, ..Session::default() };
    let seen = [
        Seen::AsPath(vec![OUR_ASN; 3]),
        Seen::Community(64512, 100),
        Seen::NoExport,
        Seen::Large(64512, 1, 53),
        Seen::RouteTarget(64512, 200),
        Seen::Med(300),
        Seen::TenGigabits,
    ];
    let bed = cell.bed(&session)?;
    let (router, herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    shows(&*router, &session, &seen)
}

fn inside_one(cell: Cell<'_>) -> Outcome {
    let advertisement = vec!["localPreference: 250".to_owned()];
    let session = Session { theirs: OUR_ASN, advertisement, ..Session::default() };
    let bed = cell.bed(&session)?;
    let (router, herald) = cell.start(&bed, &session)?;
    cell.settled(&session, &*router, &herald, &[1, 2])?;
    shows(&*router, &session, &[Seen::LocalPref(250)])
}
