//! What may not be said, in a room and in a tenant.

use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::Limits;
use chinwag::actors::limits::TenantRules;
use chinwag::domain::rules::Links;
use chinwag::domain::{Rules, TenantId};
use chinwag::store::memory::MemoryStore;
use serde_json::json;

use crate::harness::{Setup, TestServer, create_channel, join, post};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_rules_of_a_room_outlast_restarts() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    {
        let mut server = TestServer::with(setup());
        let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
        ann.ask(create_channel("lobby")).await;
        bob.ask(join("lobby")).await;
        ann.ask(json!({ "type": "rules_update", "room": "lobby", "words": ["spam"], "links": "none" })).await;
        server.stop();
    }
    let server = TestServer::with(setup());
    let (mut ann, mut bob) = (server.client("ann").await, server.client("bob").await);
    assert_eq!(bob.refused(post("lobby", "SPAM")).await, "word_not_allowed");
    assert_eq!(bob.refused(post("lobby", "http://a")).await, "link_not_allowed");
    ann.ask(json!({ "type": "rules_update", "room": "lobby", "words": [] })).await;
    bob.ask(post("lobby", "SPAM")).await;
    assert_eq!(bob.refused(post("lobby", "http://a")).await, "link_not_allowed");
}

#[tokio::test]
async fn the_rules_of_a_tenant_hold_in_its_rooms_and_in_no_others_and_change_while_they_are_awake() {
    let of = |word: &str| Arc::new(Rules::new(vec![word.to_owned()], Links::Any, Vec::new()).unwrap());
    let limits = |rules| Limits { rules, ..Limits::lifted() };
    let harbour = TenantId::new("harbour").unwrap();
    let rules = TenantRules { others: of("spam"), named: [(harbour, of("ham"))].into() };
    let server = TestServer::with(Setup { limits: limits(rules), ..Setup::default() });
    for (tenant, refused, taken) in [("default", "spam", "ham"), ("harbour", "ham", "spam")] {
        let mut ann = server.client_with(&server.token_in(tenant, "ann", HOUR), None).await;
        ann.ask(create_channel("lobby")).await;
        let mut bob = server.client_with(&server.token_in(tenant, "bob", HOUR), None).await;
        bob.ask(join("lobby")).await;
        assert_eq!(bob.refused(post("lobby", refused)).await, "word_not_allowed");
        bob.ask(post("lobby", taken)).await;
        ann.ask(post("lobby", refused)).await;
    }
    server.registry.set_limits(limits(TenantRules { others: of("eggs"), ..TenantRules::default() }));
    let mut bob = server.client("bob").await;
    bob.ask(post("lobby", "spam")).await;
    assert_eq!(bob.refused(post("lobby", "eggs")).await, "word_not_allowed");
}
