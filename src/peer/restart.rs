//! The last words of a session: what a stop says, and whether it says anything (RFC 4486, RFC 4724 §4, RFC 8538 §5.1).

use super::seam::Stop;
use crate::fsm::restart::Graceful;
use crate::wire::{CeaseSubcode, Notification};

/// Whether the Cease is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// It is.
    Said,
    /// The connection is closed without a word, so that the peer keeps our routes.
    Silent,
}

impl Stop {
    /// The Cease of this stop, and whether an Established session hears it.
    pub(super) fn words(&self, graceful: Graceful) -> (Notification, Manner) {
        match (self, graceful) {
            (Stop::Shutdown(text), Graceful::No) => (shutdown(text), Manner::Said),
            // The next process takes over: the routes must stay.
            (Stop::Shutdown(text), Graceful::WithoutNotification | Graceful::WithNotification) => {
                (shutdown(text), Manner::Silent)
            }
            // We do not come back: the routes must go.
            (Stop::Leave(text), Graceful::No | Graceful::WithoutNotification) => (shutdown(text), Manner::Said),
            (Stop::Leave(text), Graceful::WithNotification) => (shutdown(text).hard_reset(), Manner::Said),
            (Stop::Deconfigured, Graceful::No | Graceful::WithoutNotification) => {
                (bare(CeaseSubcode::PeerDeconfigured), Manner::Said)
            }
            (Stop::Deconfigured, Graceful::WithNotification) => {
                (bare(CeaseSubcode::PeerDeconfigured).hard_reset(), Manner::Said)
            }
            (Stop::OutOfResources, Graceful::No | Graceful::WithoutNotification) => {
                (bare(CeaseSubcode::OutOfResources), Manner::Said)
            }
            (Stop::OutOfResources, Graceful::WithNotification) => {
                (bare(CeaseSubcode::OutOfResources).hard_reset(), Manner::Said)
            }
            // We come back at once.
            (Stop::ConfigurationChange, Graceful::No | Graceful::WithNotification) => {
                (bare(CeaseSubcode::OtherConfigurationChange), Manner::Said)
            }
            (Stop::ConfigurationChange, Graceful::WithoutNotification) => {
                (bare(CeaseSubcode::OtherConfigurationChange), Manner::Silent)
            }
        }
    }
}

fn shutdown(text: &str) -> Notification {
    Notification::cease(CeaseSubcode::AdministrativeShutdown, text)
}

fn bare(subcode: CeaseSubcode) -> Notification {
    Notification::bare(6, subcode as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stopping table: code and subcode, those inside a Hard Reset, or silence.
    #[test]
    fn the_whole_table() {
        let heard = |stop: &Stop, graceful| match stop.words(graceful) {
            (_, Manner::Silent) => "silence".to_owned(),
            (cease, Manner::Said) => match cease.wrapped() {
                Some(inner) => format!("{}/{} around {}/{}", cease.code, cease.subcode, inner.code, inner.subcode),
                None => format!("{}/{}", cease.code, cease.subcode),
            },
        };
        let (shutdown, leave) = (Stop::Shutdown("rolled out".to_owned()), Stop::Leave("node is drained".to_owned()));
        for (stop, no, without, with) in [
            (&shutdown, "6/2", "silence", "silence"),
            (&leave, "6/2", "6/2", "6/9 around 6/2"),
            (&Stop::Deconfigured, "6/3", "6/3", "6/9 around 6/3"),
            (&Stop::OutOfResources, "6/8", "6/8", "6/9 around 6/8"),
            (&Stop::ConfigurationChange, "6/6", "silence", "6/6"),
        ] {
            assert_eq!(heard(stop, Graceful::No), no, "{stop:?}");
            assert_eq!(heard(stop, Graceful::WithoutNotification), without, "{stop:?}");
            assert_eq!(heard(stop, Graceful::WithNotification), with, "{stop:?}");
        }
        let (cease, _) = leave.words(Graceful::WithNotification);
        assert_eq!(cease.wrapped().unwrap().shutdown_text().unwrap(), "node is drained");
    }
}
