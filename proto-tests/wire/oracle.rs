//! What a message says, as lines: the common ground on which two codecs are compared. Another codec's values are turned into
//! ours first, so that a line reads the same from both.

use herald::wire::{Attribute, Capability, Context, Message, Nlri, Notification, RouteRefresh, Update};
use std::collections::BTreeMap;

/// Lines with how often each is there; the first word names the kind.
pub type Told = BTreeMap<String, usize>;

/// Another codec.
pub trait Oracle {
    /// What it reads.
    ///
    /// # Errors
    /// A few words on why it does not.
    fn read(&self, octets: &[u8], context: &Context) -> Result<Told, String>;

    /// Our UPDATE as this codec would put it.
    fn put(&self, update: &Update) -> Update {
        update.clone()
    }
}

/// Lines from many sources.
#[derive(Default)]
pub struct Lines(pub Told);

impl Lines {
    pub fn add(&mut self, line: String) {
        *self.0.entry(line).or_default() += 1;
    }

    pub fn withdrawn(&mut self, nlri: Nlri) {
        self.add(format!("withdrawn {nlri}"));
    }

    pub fn nlri(&mut self, nlri: Nlri) {
        self.add(format!("nlri {nlri}"));
    }

    pub fn attribute(&mut self, attribute: &Attribute) {
        // The first word of the debug form is the variant, behind which a bracket follows without a space.
        let text = format!("{attribute:?}");
        let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        self.add(format!("{kind} {text}"));
    }

    pub fn capability(&mut self, capability: &Capability) {
        let text = format!("{capability:?}");
        let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        self.add(format!("capability-{kind} {text}"));
    }

    pub fn open(&mut self, my_as: u16, hold_time: u16, id: std::net::Ipv4Addr) {
        self.add(format!("open {my_as} {hold_time} {id}"));
    }

    pub fn notification(&mut self, notification: &Notification) {
        self.add(format!("notification {notification:?}"));
    }

    pub fn refresh(&mut self, refresh: &RouteRefresh) {
        self.add(format!("refresh {refresh:?}"));
    }
}

/// What we say that a message says.
pub fn ours(message: &Message, oracle: &dyn Oracle) -> Told {
    let mut lines = Lines::default();
    match message {
        Message::Open(open) => {
            lines.open(open.my_as, open.hold_time, open.router_id.octets().into());
            open.capabilities.iter().for_each(|capability| lines.capability(capability));
        }
        Message::Update(update) => {
            let update = oracle.put(update);
            update.withdrawn.iter().for_each(|nlri| lines.withdrawn(*nlri));
            update.attributes.iter().for_each(|attribute| lines.attribute(attribute));
            update.nlri.iter().for_each(|nlri| lines.nlri(*nlri));
        }
        Message::Notification(notification) => lines.notification(notification),
        Message::Keepalive => lines.add("keepalive".into()),
        Message::RouteRefresh(refresh) => lines.refresh(refresh),
    }
    lines.0
}
