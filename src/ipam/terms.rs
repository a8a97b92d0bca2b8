//! The terms on which a Service holds an address, and when two Services may hold the same one.
//!
//! Two may share when both name the same key, no protocol and port is used twice, and both lead their traffic to the same
//! backends: both with policy `Cluster`, or both with `Local`, in one namespace, with one selector. With `Local` a node attracts
//! the address for one Service's endpoints, so the other's must stand on the same nodes.

use super::name::ServiceName;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol} {}", self.number)
    }
}

/// Whether a Service is willing to share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Its address is its own.
    Exclusive,
    /// With others of the same key.
    Key(Arc<str>),
}

/// `spec.externalTrafficPolicy`, with what decides about the backends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// `Cluster`: any node leads to any endpoint.
    Cluster,
    /// `Local`: only nodes with an endpoint. Carries the selector, written one way; empty for a Service without a
    /// selector, whose endpoints nobody can compare and who therefore never shares.
    Local(Arc<str>),
}

/// What a Service brings to an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// Whether it shares.
    pub sharing: Sharing,
    /// Where its traffic ends.
    pub backend: Backend,
    /// Its ports.
    pub ports: BTreeSet<Port>,
}

/// Which namespaces may share one address of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharingScope {
    /// One: a key of another namespace is another key, so that no tenant moves in with a stranger.
    #[default]
    Namespace,
    /// All: whoever knows the key may join.
    Cluster,
}

/// Why two Services may not share an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash {
    /// One of them does not share.
    Exclusive,
    /// Their keys differ.
    Key,
    /// They are in different namespaces.
    Namespace,
    /// Both use this port.
    Port(Port),
    /// One has policy `Cluster`, the other `Local`.
    TrafficPolicy,
    /// Both have policy `Local`, and their selectors differ or are absent.
    Selector,
    /// The other has been edited so that it may no longer share what it holds; until that is resolved nobody joins it.
    Disputed,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exclusive => f.write_str("sharing needs a key on both"),
            Self::Key => f.write_str("their sharing keys differ"),
            Self::Namespace => f.write_str("this pool shares within one namespace only"),
            Self::Port(port) => write!(f, "both use {port}"),
            Self::TrafficPolicy => f.write_str("their externalTrafficPolicy differs"),
            Self::Selector => f.write_str("with externalTrafficPolicy Local both need one namespace and one selector"),
            Self::Disputed => f.write_str("it has been edited and may no longer share what it holds"),
        }
    }
}

/// Whether two Services may hold one address. Symmetric.
pub fn clash(a: (&ServiceName, &Terms), b: (&ServiceName, &Terms), scope: SharingScope) -> Result<(), Clash> {
    let same_namespace = a.0.namespace == b.0.namespace;
    match (&a.1.sharing, &b.1.sharing) {
        (Sharing::Exclusive, _) | (_, Sharing::Exclusive) => return Err(Clash::Exclusive),
        (Sharing::Key(a), Sharing::Key(b)) if a != b => return Err(Clash::Key),
        (Sharing::Key(_), Sharing::Key(_)) => {}
    }
    match scope {
        SharingScope::Namespace if !same_namespace => return Err(Clash::Namespace),
        SharingScope::Namespace | SharingScope::Cluster => {}
    }
    match (&a.1.backend, &b.1.backend) {
        (Backend::Cluster, Backend::Cluster) => {}
        (Backend::Local(a), Backend::Local(b)) if same_namespace && a == b && !a.is_empty() => {}
        (Backend::Local(_), Backend::Local(_)) => return Err(Clash::Selector),
        (Backend::Cluster, Backend::Local(_)) | (Backend::Local(_), Backend::Cluster) => {
            return Err(Clash::TrafficPolicy);
        }
    }
    match a.1.ports.intersection(&b.1.ports).next() {
        Some(port) => Err(Clash::Port(*port)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str) -> ServiceName {
        ServiceName { namespace: namespace.into(), name: "a".into() }
    }

    fn terms(key: &str, backend: Backend, number: u16) -> Terms {
        let sharing = if key.is_empty() { Sharing::Exclusive } else { Sharing::Key(key.into()) };
        Terms { sharing, backend, ports: BTreeSet::from([Port { protocol: Protocol::Tcp, number }]) }
    }

    #[test]
    fn one_reason_a_rule_and_both_sides_agree() {
        let local = |selector: &str| Backend::Local(selector.into());
        let (web, db) = (service("web"), service("db"));
        let port = Port { protocol: Protocol::Tcp, number: 80 };
        let base = terms("k", Backend::Cluster, 80);
        let cases = [
            (&web, terms("k", Backend::Cluster, 81), SharingScope::Namespace, Ok(())),
            (&web, terms("k", Backend::Cluster, 80), SharingScope::Namespace, Err(Clash::Port(port))),
            (&web, terms("", Backend::Cluster, 81), SharingScope::Namespace, Err(Clash::Exclusive)),
            (&web, terms("j", Backend::Cluster, 81), SharingScope::Namespace, Err(Clash::Key)),
            (&db, terms("k", Backend::Cluster, 81), SharingScope::Namespace, Err(Clash::Namespace)),
            (&db, terms("k", Backend::Cluster, 81), SharingScope::Cluster, Ok(())),
            (&web, terms("k", local("x"), 81), SharingScope::Namespace, Err(Clash::TrafficPolicy)),
        ];
        for (other, theirs, scope, expected) in cases {
            assert_eq!(clash((&web, &base), (other, &theirs), scope), expected);
            assert_eq!(clash((other, &theirs), (&web, &base), scope), expected);
        }
        let base = terms("k", local("app=x"), 80);
        for (other, selector, expected) in
            [(&web, "app=x", Ok(())), (&web, "app=y", Err(Clash::Selector)), (&db, "app=x", Err(Clash::Selector))]
        {
            let theirs = terms("k", local(selector), 81);
            assert_eq!(clash((&web, &base), (other, &theirs), SharingScope::Cluster), expected);
        }
        let without = [terms("k", local(""), 80), terms("k", local(""), 81)];
        assert_eq!(clash((&web, &without[0]), (&web, &without[1]), SharingScope::Cluster), Err(Clash::Selector));
        // The same number over another protocol is another port.
        let mut udp = terms("k", Backend::Cluster, 80);
        udp.ports = BTreeSet::from([Port { protocol: Protocol::Udp, number: 80 }]);
        let tcp = terms("k", Backend::Cluster, 80);
        assert_eq!(clash((&web, &tcp), (&web, &udp), SharingScope::Namespace), Ok(()));
    }
}
