//! An allocator as a process, and a configuration file that is refused.

use crate::fake_api::{ALLOCATIONS, SERVICES};
use crate::releases::{Fixture, service};
use std::process::Command;
use std::time::Duration;

impl Fixture {
    fn write(&self, text: &str) {
        let path = self.folder.path().join("herald.yaml");
        std::fs::write(path.with_extension("new"), text).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn hang_up(&self) {
        assert!(Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap().success());
    }

    async fn says(&self, text: &str) -> bool {
        self.ask("GET /readyz").await.contains(text)
    }
}

/// One that runs goes on with what it has, and says so. One that starts does not, takes nothing away, and says what to do.
#[tokio::test]
async fn a_refused_file_takes_no_address_away_and_is_said_whether_it_runs_or_starts() {
    let mut fixture = Fixture::serving("", 10).await;
    let good = std::fs::read_to_string(fixture.folder.path().join("herald.yaml")).unwrap();
    fixture.write(&(good.clone() + "pears: []\n"));
    fixture.hang_up();
    fixture.wait("the condition", async |f: &Fixture| f.says("ConfigurationRefused: ").await).await;
    let pools = String::from_utf8(fixture.command(&["pools"]).await.stdout).unwrap();
    assert!(pools.contains("! ConfigurationRefused: "), "{pools}");
    fixture.api.put(SERVICES, service("new"));
    fixture.wait("a new service to be served", async |f: &Fixture| f.served() == 11).await;

    fixture.child.kill().unwrap();
    fixture.child.wait().unwrap();
    let given = fixture.api.all(ALLOCATIONS);
    let before = fixture.log().len();
    fixture.child = Fixture::spawn(&fixture.folder, fixture.port);
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match fixture.child.try_wait().unwrap() {
                Some(ended) => break ended,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    assert!(!ended.await.expect("it ends").success());
    let said = fixture.log()[before..].to_owned();
    for words in ["herald.yaml", "pears", "does not start on a refused one: mend the file ('herald check' says where)"]
    {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert_eq!((fixture.served(), fixture.held()), (11, 11));
    assert_eq!(fixture.api.all(ALLOCATIONS), given, "nothing was written");

    fixture.write(&good);
    fixture.child = Fixture::spawn(&fixture.folder, fixture.port);
    fixture.api.put(SERVICES, service("newer"));
    fixture.wait("the next service to be served", async |f: &Fixture| f.served() == 12).await;
    assert!(given.iter().all(|held| fixture.api.all(ALLOCATIONS).contains(held)), "some were written");
    assert!(!fixture.says("ConfigurationRefused").await);
}
