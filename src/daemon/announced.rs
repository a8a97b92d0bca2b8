//! What is announced, written down for the next process: a first answer that is much smaller is not believed at once.

use super::boot;
use super::spec::{Planned, Spec};
use super::state_folder::{File, Previous, Record, Writer};
use crate::wire::Prefix;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const FILE: File = File {
    name: "announced",
    heading: "herald announced 1",
    cost: "the next process believes its first answer of the cluster, however small",
};

/// At most how often it is written. The last changes before a stop may be missing.
const PAUSE: Duration = Duration::from_secs(2);

/// What a process under this boot announced last. After another boot nothing: no router holds any of it.
pub fn before(previous: &mut Previous) -> BTreeSet<Prefix> {
    let body = match previous.read(&FILE) {
        Record::Absent => return BTreeSet::new(),
        Record::Torn(why) => {
            let place = previous.place(&FILE);
            warn!("{place} is not used: {why}; the first answer of the cluster is believed, however small");
            return BTreeSet::new();
        }
        Record::Whole(body) => body,
    };
    let mut lines = body.lines();
    if lines.next() != boot::id().ok().as_deref() {
        return BTreeSet::new();
    }
    lines.filter_map(|line| line.parse().ok()).collect()
}

/// Writes down what is announced whenever it has changed, until `stop`. What is only doubted is still written.
pub async fn run(writer: Writer, mut spec: watch::Receiver<Arc<Spec>>, stop: CancellationToken) {
    let Ok(boot) = boot::id() else { return stop.cancelled().await };
    let mut written: Option<Arc<Planned>> = None;
    loop {
        let planned = spec.borrow_and_update().planned.clone();
        if let Some(planned) = planned
            && written.as_ref().is_none_or(|written| is_news(written, &planned))
        {
            writer.write(FILE, body(&boot, &planned));
            written = Some(planned);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = spec.changed() => {}
            else => return stop.cancelled().await,
        }
    }
}

fn is_news(written: &Planned, planned: &Planned) -> bool {
    written.routes.routes != planned.routes.routes || written.doubted != planned.doubted
}

fn body(boot: &str, planned: &Planned) -> String {
    let routes = planned.routes.routes.values().flat_map(|routes| routes.iter().map(|(prefix, _)| *prefix));
    let prefixes: BTreeSet<Prefix> = routes.chain(planned.doubted.iter().copied()).collect();
    std::iter::once(boot.to_owned()).chain(prefixes.iter().map(ToString::to_string)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::state_folder;
    use super::*;
    use crate::advertise::Plan;
    use crate::rib::{Bounds, RouteSet};
    use std::collections::BTreeMap;

    #[test]
    fn what_is_announced_or_doubted_is_read_by_the_next_process_of_this_boot() {
        let folder = tempfile::tempdir().unwrap();
        let before = |folder| before(&mut Previous::of(folder));
        assert_eq!(before(None), BTreeSet::new());
        assert_eq!(before(Some(folder.path())), BTreeSet::new());
        let [a, b, c]: [Prefix; 3] =
            ["198.51.100.1/32", "2001:db8::1/128", "198.51.100.9/32"].map(|p| p.parse().unwrap());
        let routes = |prefixes: &[Prefix]| prefixes.iter().map(|p| (*p, Arc::default())).collect::<RouteSet>();
        let plan =
            Plan { routes: [("x".into(), routes(&[a])), ("y".into(), routes(&[a, b]))].into(), ..Plan::default() };
        let (node_addresses, bounds) = (Vec::new(), Bounds::default());
        let (node_labels, doubted) = (BTreeMap::new(), Arc::new([c].into()));
        let planned = Planned { routes: plan, node_addresses, node_labels, bounds, doubted };
        let write = |boot: &str| {
            state_folder::write(folder.path(), &FILE, &body(boot, &planned)).unwrap();
            before(Some(folder.path()))
        };
        assert_eq!(write(&boot::id().unwrap()), [a, b, c].into());
        assert_eq!(write("another"), BTreeSet::new());
    }
}
