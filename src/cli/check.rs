//! `herald check FILE`.

use super::against;
use crate::config::{Config, Style};
use crate::files;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `herald check` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file
    file: PathBuf,
    /// Say what the file would do to the sessions of the speaker on this node; exits with 3 where one would end
    #[arg(long)]
    against_running: bool,
    /// The Unix socket of that speaker
    #[arg(long, default_value = super::DEFAULT_SOCKET, value_name = "PATH", requires = "against_running")]
    socket: PathBuf,
}

/// Prints everything there is to say about a configuration file. Warnings alone are no failure.
pub fn run(arguments: &Arguments) -> ExitCode {
    let file = arguments.file.as_path();
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("herald: cannot read {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    match Config::parse(&file.display().to_string(), &text) {
        Ok((config, warnings)) => {
            if !warnings.is_empty() {
                eprint!("{}", warnings.render(style()));
            }
            println!("{}: good: {}", file.display(), summary(&config));
            advise_files(&config);
            match arguments.against_running {
                true => super::or_complain(against::run(&config, &arguments.socket)),
                false => ExitCode::SUCCESS,
            }
        }
        Err(report) => {
            eprint!("{}", report.render(style()));
            ExitCode::FAILURE
        }
    }
}

/// A password in the configuration is lost to a speaker that is restarted while the configuration is refused.
fn advise_files(config: &Config) {
    let inline = config.peers.iter().filter(|(_, peer)| peer.neighbor.password.is_some());
    let names: Vec<_> = inline.map(|(name, _)| &**name).take(10).collect();
    if !names.is_empty() {
        println!(
            "note: passwords stand in the file itself ({}): 'passwordFile' names a file for each, which people with the right \
             to read the configuration need not see, and which a restart finds also when the configuration is refused",
            names.join(", ")
        );
    }
}

/// A pipe is read as well as a file: whoever types this command waits for it.
fn read(file: &Path) -> std::io::Result<String> {
    let mut octets = Vec::new();
    std::fs::File::open(file)?.take(files::CONFIGURATION + 1).read_to_end(&mut octets)?;
    if u64::try_from(octets.len()).is_ok_and(|size| size > files::CONFIGURATION) {
        return Err(files::too_large(files::CONFIGURATION));
    }
    files::text(octets)
}

fn style() -> Style {
    if std::io::stderr().is_terminal() { Style::Coloured } else { Style::Plain }
}

fn summary(config: &Config) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    format!(
        "AS {}, {}, {}, {}",
        config.asn,
        count(config.peers.len(), "peer"),
        count(config.policy.pools.len(), "pool"),
        count(config.policy.advertisements.len(), "advertisement"),
    )
}
