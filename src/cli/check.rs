//! `herald check FILE`.

use crate::config::{Config, Style};
use crate::files;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

/// Prints everything there is to say about a configuration file. Warnings alone are no failure.
pub fn run(file: &Path) -> ExitCode {
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
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprint!("{}", report.render(style()));
            ExitCode::FAILURE
        }
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
