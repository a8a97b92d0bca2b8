//! Keys, tokens and kubeconfigs of the test's cluster.
//!
//! The API server makes its own serving certificate; what is made here is the key that signs ServiceAccount tokens and one
//! administrator's token. Both live in the run's folder and die with it.

use crate::rig::{Outcome, run, write_file};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The administrator's bearer token: it opens an API server that only the test's own namespaces can reach.
pub const ADMIN_TOKEN: &str = "herald-cluster-admin";

/// The files that the control plane is started from.
#[derive(Debug)]
pub struct Pki {
    /// Private key that signs ServiceAccount tokens.
    pub service_account_key: PathBuf,
    /// Its public half.
    pub service_account_public_key: PathBuf,
    /// One administrator, in `system:masters`.
    pub tokens: PathBuf,
}

impl Pki {
    /// Makes the keys and the token file in `folder`.
    ///
    /// # Errors
    /// openssl failed or a file could not be written.
    pub fn create(folder: &Path) -> Outcome<Self> {
        let pki = Self {
            service_account_key: folder.join("service-account.key"),
            service_account_public_key: folder.join("service-account.pub"),
            tokens: folder.join("tokens.csv"),
        };
        run(Command::new("openssl").args(["genrsa", "-out"]).arg(&pki.service_account_key).arg("2048"))?;
        run(Command::new("openssl")
            .args(["rsa", "-pubout", "-in"])
            .arg(&pki.service_account_key)
            .arg("-out")
            .arg(&pki.service_account_public_key))?;
        write_file(&pki.tokens, &format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"))?;
        Ok(pki)
    }
}

/// Writes a kubeconfig for the bearer of `token` at the API server `server`:6443; `authority` is that server's certificate.
///
/// # Errors
/// The file could not be written.
pub fn write_kubeconfig(path: &Path, server: Ipv4Addr, authority: &Path, token: &str) -> Outcome {
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: 'https://{server}:6443', certificate-authority: '{authority}'}}}}]
users: [{{name: bearer, user: {{token: {token}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: bearer}}}}]
current-context: test
",
        authority = authority.display()
    );
    write_file(path, &text)
}
