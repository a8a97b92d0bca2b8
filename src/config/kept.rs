//! A configuration without its secrets, for what is written down; and the secrets of a text, to be put back.

use super::raw;
use super::resolve::Config;
use super::shape;
use crate::peer::settings::Password;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands where a password stood. Whoever took it for one would sign with a wrong key, never with none.
const NOT_KEPT: &str = "(this password is not kept)";

/// What a text says with every password left out; `None` where its shape is wrong.
pub fn without_passwords(text: &str) -> Option<raw::File> {
    let mut file = shape::read(&plain(text)).ok()?;
    for peer in file.peers.iter_mut().flatten() {
        if let Some(password) = &mut peer.value.password {
            NOT_KEPT.clone_into(&mut password.value);
        }
    }
    Some(file)
}

/// The passwords in a text, by peer, as far as names and passwords can be read, whatever else is wrong with it.
pub fn passwords(text: &str) -> BTreeMap<Arc<str>, Password> {
    let found = shape::passwords(&plain(text)).into_iter();
    found.filter_map(|(name, password)| Some((name.into(), Password::new(password.as_bytes())?))).collect()
}

/// What stands for a password that is not known here.
pub fn left_out() -> Password {
    Password::new(NOT_KEPT.as_bytes()).expect("it has a possible length")
}

/// Whether this stands for a password that was left out.
pub fn is_left_out(password: &Password) -> bool {
    password.octets() == NOT_KEPT.as_bytes()
}

/// Puts passwords back where they were left out; whether there was a place for any.
pub fn put_back(config: &mut Config, passwords: &BTreeMap<Arc<str>, Password>) -> bool {
    let mut found = false;
    for (name, peer) in &mut config.peers {
        if peer.neighbor.password.as_ref().is_some_and(is_left_out)
            && let Some(password) = passwords.get(name)
        {
            peer.neighbor.password = Some(password.clone());
            found = true;
        }
    }
    found
}

fn plain(text: &str) -> String {
    text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
asn: 64512
peers:
- {name: a, address: 172.30.1.1, asn: 64500, password: &key 'hunter2: #1'}
- {name: b, address: 172.30.1.2, asn: 64500, password: *key}
- {name: c, address: 172.30.1.3, asn: 64500}
";

    #[test]
    fn passwords_are_left_out_and_put_back_also_from_a_text_that_is_refused() {
        let kept = serde_json::to_string(&without_passwords(TEXT).unwrap()).unwrap();
        assert!(!kept.contains("hunter2"), "{kept}");
        let kept = kept.replace(":null", ":~");
        let whole = Config::parse("a", TEXT).unwrap().0;
        let refused = TEXT.replace("name: c,", "nmae: c, holdTime: [1],") + "pears: {}\n";
        assert!(Config::parse("b", &refused).is_err());
        let mut again = Config::parse("c", &kept).unwrap_or_else(|found| panic!("{found}")).0;
        assert!(again.peers["a"].neighbor.password.as_ref().is_some_and(is_left_out));
        assert!(put_back(&mut again, &passwords(&refused)));
        assert_eq!(again, whole);
        // One that no longer reads stays left out, and is not gone.
        let mut again = Config::parse("c", &kept).unwrap_or_else(|found| panic!("{found}")).0;
        assert!(put_back(&mut again, &passwords(&refused.replace("name: b", "name: x"))));
        assert!(again.peers["b"].neighbor.password.as_ref().is_some_and(is_left_out));
        assert!(!put_back(&mut again, &passwords("asn: [")));
        assert_eq!(without_passwords("asn: ["), None);
    }
}
