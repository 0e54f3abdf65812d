//! Tenants know nothing of one another: what belongs to another tenant is answered as what nobody has.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chinwag::domain::{Epoch, Mark, Position, RoomId, RoomKey, Seq, StreamId, TenantId};
use chinwag::store::memory::MemoryStore;
use chinwag::store::{At, Commit, CommitError, Health, Page, Store, StoreError, StoreFuture};
use chinwag::wire::Cursor;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Setup, TestServer, post};
use crate::requests::{Answer, Request};
use crate::rest::Document;

/// Something that belongs to another tenant, and the like of it that nobody has.
struct Stranger {
    member: &'static str,
    theirs: String,
    nobodys: String,
}

#[tokio::test]
async fn what_another_tenant_has_is_answered_as_what_nobody_has() {
    let server = TestServer::start();
    let document = Document::of(&server).await;
    let hour = Duration::from_secs(3600);
    let (theirs, ours) = (server.token_in("theirs", "theo", hour), server.token_in("ours", "olga", hour));

    let mut theo = server.client_with(&theirs, None).await;
    // Nums are given out per tenant: those of their later rooms are none of the one room that is ours.
    theo.ask(json!({ "type": "create", "kind": "group" })).await;
    let open = theo.ask(json!({ "type": "create", "kind": "channel", "alias": "square" })).await;
    let message = theo.ask(post("square", "hello")).await;
    let shut = theo.ask(json!({ "type": "create", "kind": "group", "alias": "attic" })).await;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut strangers: Vec<Stranger> = Vec::new();
    for room in [&open, &shut] {
        let alias = text(&room["alias"]);
        let nobodys = "z".repeat(alias.len());
        for (theirs, nobodys) in [
            (text(&room["room"]), Uuid::new_v4().to_string()),
            (text(&room["num"]), "987654321".to_owned()),
            (alias.clone(), nobodys.clone()),
            (format!("alias:{alias}"), format!("alias:{nobodys}")),
        ] {
            strangers.push(Stranger { member: "room", theirs, nobodys });
        }
    }
    let in_ours = Request::new("POST", "/v1/rooms").token(&ours).json(&json!({ "kind": "group" }));
    let in_ours = in_ours.send(&server).await.json();
    assert!([&open, &shut].iter().all(|room| room["num"] != in_ours["num"]), "{open} {shut} {in_ours}");
    let in_ours = text(&in_ours["room"]);
    let record = text(&message["record"]);
    strangers.push(Stranger { member: "message", theirs: record, nobodys: Uuid::new_v4().to_string() });
    strangers.push(Stranger { member: "user", theirs: "theo".into(), nobodys: "nino".into() });
    let of_nobody = Cursor::encode(
        &RoomKey { tenant: TenantId::new("nobody").unwrap(), room: RoomId(Uuid::new_v4()) },
        Position { epoch: MemoryStore::EPOCH, seq: Seq(3) },
    );
    for member in ["after", "before"] {
        strangers.push(Stranger { member, theirs: text(&message["cursor"]), nobodys: of_nobody.to_string() });
        strangers.push(Stranger { member, theirs: text(&open["room"]), nobodys: Uuid::new_v4().to_string() });
    }

    let mut compared = 0;
    for (path, verbs) in document.paths() {
        for verb in verbs {
            let operation = &document.0["paths"][&path][&verb];
            if path == "/v1/ws" {
                continue;
            }
            for stranger in &strangers {
                if !names(operation, stranger.member) {
                    continue;
                }
                // Twice: an answer must not depend on having been asked before.
                for _ in 0..2 {
                    let to_theirs =
                        ask(&server, &ours, &path, &verb, operation, stranger.member, &stranger.theirs, &in_ours);
                    let to_theirs = to_theirs.await;
                    let to_nobodys =
                        ask(&server, &ours, &path, &verb, operation, stranger.member, &stranger.nobodys, &in_ours)
                            .await;
                    let shown = |answer: &Answer, said: &str| {
                        // A num is too short to be told from what else stands there; no answer repeats one.
                        let said = if said.len() > 2 { said } else { "\0" };
                        let body = String::from_utf8_lossy(&answer.body).replace(said, "SAID");
                        (answer.status, answer.header("content-type").to_owned(), body)
                    };
                    let (theirs, nobodys) =
                        (shown(&to_theirs, &stranger.theirs), shown(&to_nobodys, &stranger.nobodys));
                    if stranger.member == "room" {
                        assert_eq!(theirs.0, 404, "{verb} {path} with their {}: {}", stranger.theirs, theirs.2);
                    }
                    if theirs.0 < 300 {
                        // Of our own room, with a user whom both tenants may have. Only places differ.
                        assert_eq!((theirs.0, &theirs.1), (nobodys.0, &nobodys.1), "{verb} {path}");
                    } else {
                        assert_eq!(theirs, nobodys, "{verb} {path} with their {} {}", stranger.member, stranger.theirs);
                    }
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 100, "only {compared}");

    // Nothing of all that has reached them.
    let page = theo.ask(json!({ "type": "history", "room": "square" })).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 3, "{page}");
    let page = theo.ask(json!({ "type": "history", "room": "attic" })).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 2, "{page}");
}

/// Whether an operation takes this member in its address.
fn names(operation: &Value, member: &str) -> bool {
    operation["parameters"].as_array().into_iter().flatten().any(|parameter| parameter["name"] == member)
}

/// Asks with `value` for `member`; every other member is one of ours.
#[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
async fn ask(
    server: &TestServer,
    token: &str,
    path: &str,
    verb: &str,
    operation: &Value,
    member: &str,
    value: &str,
    room: &str,
) -> Answer {
    let mut target = path.to_owned();
    let message = "0192f0c1-2345-7abc-8def-000000000004";
    let places = [("room", room), ("user", "olga"), ("message", message), ("emoji", "+1")];
    let others = [("file", message), ("upload", message), ("report", message)];
    for (name, ours) in places.into_iter().chain(others) {
        let said = if name == member { value } else { ours };
        target = target.replace(&format!("{{{name}}}"), said);
    }
    assert!(!target.contains('{'), "{target} has a place that this test does not know");
    if !path.contains(&format!("{{{member}}}")) {
        target = format!("{target}?{member}={value}");
    }
    let mut request = Request::new(&verb.to_uppercase(), &target).token(token);
    let content = &operation["requestBody"]["content"]["application/json"]["example"];
    if content.is_object() {
        let mut content = content.clone();
        content.as_object_mut().unwrap().remove("client_id");
        request = request.json(&content);
    }
    request.send(server).await
}

#[tokio::test]
async fn every_name_of_a_room_leads_its_own_tenant_to_it() {
    // Else the refusals above would say nothing.
    let server = TestServer::start();
    let token = server.token_in("theirs", "theo", Duration::from_secs(3600));
    let made = Request::new("POST", "/v1/rooms").token(&token).json(&json!({ "kind": "channel", "alias": "square" }));
    let made = made.send(&server).await.json();
    for name in ["square", "alias:square", made["room"].as_str().unwrap(), &made["num"].to_string()] {
        let answer = Request::new("GET", &format!("/v1/rooms/{name}")).token(&token).send(&server).await;
        assert_eq!(answer.json()["room"], made["room"], "{name}");
    }
}

#[tokio::test]
async fn the_same_is_read_for_a_room_that_is_not_there_as_for_one_that_may_not_be_known() {
    let store = Arc::new(Counting::default());
    let server = TestServer::with(Setup { store: Arc::clone(&store) as Arc<dyn Store>, ..Setup::default() });
    let document = Document::of(&server).await;
    let mut ann = server.client("ann").await;
    let shut = ann.ask(json!({ "type": "create", "kind": "group", "alias": "attic" })).await;
    // Its members use its names, which makes nobody else's answer come sooner.
    for name in [json!("attic"), shut["num"].clone()] {
        ann.ask(json!({ "type": "history", "room": name })).await;
    }
    let bob = server.token("bob");
    // A word of bob's own comes first, so that nothing is read for the first time only.
    assert_eq!(Request::new("GET", "/v1/rooms").token(&bob).send(&server).await.status, 200);
    let mut compared = 0;
    for (theirs, nobodys) in [
        (shut["room"].as_str().unwrap().to_owned(), Uuid::new_v4().to_string()),
        (shut["num"].to_string(), "987654321".to_owned()),
        ("attic".to_owned(), "roofs".to_owned()),
    ] {
        for (path, verbs) in document.paths() {
            for verb in verbs {
                let operation = &document.0["paths"][&path][&verb];
                if !names(operation, "room") {
                    continue;
                }
                let mut read = Vec::new();
                for room in [&theirs, &nobodys] {
                    store.take();
                    let answer = ask(&server, &bob, &path, &verb, operation, "room", room, room).await;
                    assert_eq!(answer.code(), "room_not_found", "{verb} {path}");
                    read.push(store.take());
                }
                assert_eq!(read[0], read[1], "{verb} {path} of {theirs}");
                assert!(read[0].len() >= 3, "{verb} {path}: {read:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 30, "only {compared}");
}

/// A store that notes what it is asked to read.
#[derive(Default)]
pub struct Counting {
    store: MemoryStore,
    read: Mutex<Vec<&'static str>>,
}

impl Counting {
    fn note(&self, what: &'static str) {
        self.read.lock().unwrap().push(what);
    }

    pub fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.read.lock().unwrap())
    }
}

impl Store for Counting {
    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>> {
        self.store.commit(commit)
    }

    fn settle(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        self.note("settle");
        self.store.settle(stream)
    }

    fn head(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        self.note("head");
        self.store.head(stream)
    }

    fn mark(&self) -> Mark {
        self.store.mark()
    }

    fn positions_at(&self, streams: Vec<StreamId>, mark: Mark) -> StoreFuture<Result<Vec<At>, StoreError>> {
        self.note("positions_at");
        self.store.positions_at(streams, mark)
    }

    fn rooms(&self, after: Option<RoomKey>, limit: usize) -> StoreFuture<Result<Vec<RoomKey>, StoreError>> {
        self.store.rooms(after, limit)
    }

    fn read(&self, stream: &StreamId, after: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        self.note("read");
        self.store.read(stream, after, limit)
    }

    fn read_back(&self, stream: &StreamId, before: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        self.note("read_back");
        self.store.read_back(stream, before, limit)
    }

    fn records_at(&self, stream: &StreamId, seqs: &[Seq]) -> StoreFuture<Result<Page, StoreError>> {
        self.note("records_at");
        self.store.records_at(stream, seqs)
    }

    fn get(&self, stream: &StreamId, key: &[u8]) -> StoreFuture<Result<Option<Bytes>, StoreError>> {
        self.note("get");
        self.store.get(stream, key)
    }

    /// No read: nothing is noted.
    fn peek(&self, stream: &StreamId, key: &[u8]) -> Option<Bytes> {
        self.store.peek(stream, key)
    }

    fn get_all(&self, stream: &StreamId, keys: &[&[u8]]) -> StoreFuture<Result<Vec<Option<Bytes>>, StoreError>> {
        keys.iter().for_each(|_| self.note("get_all"));
        self.store.get_all(stream, keys)
    }

    fn scan(
        &self,
        stream: &StreamId,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> StoreFuture<Result<Vec<(Bytes, Bytes)>, StoreError>> {
        self.note("scan");
        self.store.scan(stream, prefix, after, limit)
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    fn close(&self) -> StoreFuture<()> {
        self.store.close()
    }
}
