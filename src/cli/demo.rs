//! `herald demo`: three nodes' speakers, a router that listens to them, and a short story that is checked as it is told.

pub mod router;
pub mod screen;
pub mod session;
pub mod stage;
pub mod story;

use crate::wire::{Asn, RouterId};
use router::{Router, Table};
use screen::Screen;
use session::Settings;
use stage::{NODE_ASN, NODES, ROUTER_ASN, Stage};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use story::{Act, Step};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// What `herald demo` is told.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Arguments {
    /// Leave everything running after the story, on a folder of manifests that you may edit
    #[arg(long)]
    pub stay: bool,
}

/// Runs the demo to its end: 0 if every step came true at the router, 1 if one did not, 130 if interrupted.
/// `program` is the herald whose speakers are shown.
pub async fn run(arguments: &Arguments, program: PathBuf) -> ExitCode {
    let mut screen = Screen::new();
    // Heard from here on: what is interrupted any later cleans up after itself.
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            screen.failure(0, "cannot wait for signals", &error.to_string(), "");
            return ExitCode::FAILURE;
        }
    };
    // Whichever ends first, dropping the play ends the speakers and removes the folder.
    tokio::select! {
        code = play(arguments, program, &mut screen) => return code,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if arguments.stay { ExitCode::SUCCESS } else { ExitCode::from(130) }
}

async fn play(arguments: &Arguments, program: PathBuf, screen: &mut Screen) -> ExitCode {
    let (router, mut stage) = match build(program).await {
        Ok(built) => built,
        Err(error) => {
            screen.failure(0, "the stage could not be built", &error.to_string(), "");
            return ExitCode::FAILURE;
        }
    };
    screen.cast(&stage, router.address());
    let began = Instant::now();
    let mut table = router.table();
    let steps = story::steps();
    for (number, step) in (1..).zip(&steps) {
        screen.begin(number, step.title);
        if let Err(wrong) = tell(step, &mut stage, &mut table, screen).await {
            let last_words = stage.last_words();
            screen.failure(number, step.title, &wrong, &last_words);
            return ExitCode::FAILURE;
        }
    }
    screen.applause(steps.len(), began.elapsed());
    if arguments.stay {
        return stay(&mut stage, &mut table, screen).await;
    }
    ExitCode::SUCCESS
}

async fn build(program: PathBuf) -> io::Result<(Router, Stage)> {
    let settings = Settings {
        asn: Asn(ROUTER_ASN),
        router_id: RouterId::new(Ipv4Addr::LOCALHOST).expect("it is not zero"),
        peer_asn: Asn(NODE_ASN),
        hold_time: Duration::from_secs(9),
    };
    let router = Router::start((Ipv4Addr::LOCALHOST, 0).into(), settings).await?;
    let stage = Stage::build(program, router.address())?;
    Ok((router, stage))
}

async fn tell(
    step: &Step,
    stage: &mut Stage,
    table: &mut watch::Receiver<Table>,
    screen: &mut Screen,
) -> Result<(), String> {
    for act in &step.acts {
        perform(act, stage).map_err(|error| format!("{act:?}: {error}"))?;
    }
    let took = story::reached(table, &step.expected, |table, at| screen.table(table, at)).await?;
    screen.end(step, took);
    Ok(())
}

fn perform(act: &Act, stage: &mut Stage) -> io::Result<()> {
    match act {
        Act::Start(node) => stage.start(*node),
        Act::Put(file, text) => stage.put(file, text),
        Act::Remove(file) => stage.remove(file),
        Act::Kill(node) => {
            stage.kill(*node);
            Ok(())
        }
    }
}

/// Puts everything back and shows the table until somebody ends it.
async fn stay(stage: &mut Stage, table: &mut watch::Receiver<Table>, screen: &mut Screen) -> ExitCode {
    let dead = NODES.into_iter().filter(|node| stage.pid(*node).is_none());
    let acts: Vec<Act> = dead.map(Act::Start).chain([story::web()]).collect();
    for act in &acts {
        if let Err(error) = perform(act, stage) {
            screen.failure(0, "the stage could not be put back", &format!("{act:?}: {error}"), "");
            return ExitCode::FAILURE;
        }
    }
    screen.invitation(stage);
    let began = Instant::now();
    loop {
        screen.table(&table.borrow_and_update(), began.elapsed());
        if table.changed().await.is_err() {
            return ExitCode::FAILURE;
        }
    }
}
