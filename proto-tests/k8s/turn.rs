//! Whose turn it is among nodes, by the requests that each makes of a server that keeps one Lease.

use crate::fake_api::{FakeApi, LEASES, Mode};
use crate::until;
use herald::condition::{Conditions, Reason};
use herald::config::rollout::{Need, Turn};
use herald::k8s::turn::{Answer, Heed, LEASE, Lines, Request, run};
use serde_json::json;
use tokio::sync::watch::{self, Receiver, Sender};

struct Node {
    ask: Sender<Request>,
    answers: Receiver<Answer>,
    conditions: Receiver<Conditions>,
}

impl Node {
    fn start(client: &kube::Client, name: &str) -> Self {
        let nothing = Request { walk: 0, need: Need::Nothing, configuration: "".into(), heed: Heed::Heeded };
        let (ask, requests) = watch::channel(nothing);
        let (answers, answers_read) = watch::channel(Answer { walk: 0, turn: Turn::Unknown });
        let (conditions, said) = watch::channel(Conditions::default());
        tokio::spawn(run(client.clone(), name.into(), Lines { requests, answers, conditions }));
        Self { ask, answers: answers_read, conditions: said }
    }

    fn asks(&self, walk: u64, need: Need, configuration: &str) {
        self.ask.send_replace(Request { walk, need, configuration: configuration.into(), heed: Heed::Heeded });
    }

    async fn hears(&mut self, what: &str, wanted: impl Fn(&Turn) -> bool) -> u64 {
        until(what, &mut self.answers, |answer| wanted(&answer.turn)).await.walk
    }
}

fn is_ours(turn: &Turn) -> bool {
    matches!(turn, Turn::Ours { .. })
}

/// As `deploy/` creates it.
fn create(api: &FakeApi) {
    api.put(LEASES, json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}}));
}

#[tokio::test]
async fn it_is_one_nodes_turn_and_then_the_others() {
    let (api, client) = FakeApi::start().await;
    create(&api);
    let (mut one, mut two) = (Node::start(&client, "n1"), Node::start(&client, "n2"));
    one.asks(1, Need::Turn, "x");
    assert_eq!(one.hears("n1 has its turn", is_ours).await, 1);
    two.asks(1, Need::Turn, "x");
    two.hears("n2 waits for n1", |turn| *turn == Turn::Theirs("n1".into())).await;
    one.asks(1, Need::Nothing, "x");
    two.hears("n2 has its turn", is_ours).await;
    assert!(!is_ours(&one.answers.borrow().turn), "what was given up is nobody's any more");
    // A walk that begins next is another one, and its answer says so.
    one.asks(2, Need::Turn, "y");
    one.hears("n1 waits for n2", |turn| *turn == Turn::Theirs("n2".into())).await;
    two.asks(1, Need::Nothing, "x");
    assert_eq!(one.hears("n1 has its turn again", is_ours).await, 2);
    assert!(api.requests().iter().all(|request| request.starts_with("leases/herald-rollout")));
}

#[tokio::test]
async fn what_failed_on_one_node_is_begun_on_no_other_until_it_is_something_else() {
    let (api, client) = FakeApi::start().await;
    create(&api);
    let (mut one, mut two) = (Node::start(&client, "n1"), Node::start(&client, "n2"));
    one.asks(1, Need::Turn, "x");
    one.hears("n1 has its turn", is_ours).await;
    two.asks(1, Need::Turn, "x");
    two.hears("n2 waits for n1", |turn| *turn == Turn::Theirs("n1".into())).await;
    one.asks(1, Need::Warning, "x");
    two.hears("n2 is told", |turn| *turn == Turn::Barred("n1".into())).await;
    // Another file, and an operator who insists.
    two.asks(2, Need::Turn, "y");
    two.hears("n2 has its turn with another file", is_ours).await;
    two.asks(3, Need::Turn, "x");
    two.hears("n2 is told again", |turn| *turn == Turn::Barred("n1".into())).await;
    let insists = Request { walk: 3, need: Need::Turn, configuration: "x".into(), heed: Heed::Overruled };
    two.ask.send_replace(insists);
    two.hears("n2 has its turn all the same", is_ours).await;
}

#[tokio::test]
async fn who_cannot_be_asked_is_named_and_asked_again() {
    let (api, client) = FakeApi::start().await;
    let mut node = Node::start(&client, "n1");
    assert!(api.requests().is_empty(), "nobody is asked for nothing");
    let said = |conditions: &Conditions, words: &str| {
        conditions.contains(Reason::LeaseUnavailable, "") && conditions.lines()[0].contains(words)
    };
    node.asks(1, Need::Turn, "x");
    until("it is missing", &mut node.conditions, |now| said(now, "it does not exist: apply deploy/base once more"))
        .await;
    api.set_mode(Mode::Away(403));
    until("it is forbidden", &mut node.conditions, |now| said(now, "not today")).await;
    assert_eq!(node.answers.borrow().turn, Turn::Unknown);
    create(&api);
    api.set_mode(Mode::Well);
    node.hears("it has its turn", is_ours).await;
    until("nothing is wrong", &mut node.conditions, |now| *now == Conditions::default()).await;
}
