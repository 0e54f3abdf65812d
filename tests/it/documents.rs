//! Documents as StaticBackend's clients ask for them: every address for everybody, and the shapes of what is answered.

use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::Limits;
use chinwag::actors::limits::Rate;
use chinwag::clock::{Clock, SystemClock};
use chinwag::domain::document::CollectionName;
use chinwag::domain::revocation::Subject;
use chinwag::domain::{AccountId, Revocation, RoomId, StreamId, TenantId, Timestamp, UserId};
use chinwag::store::files::Depth;
use chinwag::store::memory::MemoryStore;
use chinwag::store::rows::Row;
use chinwag::store::rows::documents::ACCOUNT;
use chinwag::store::sled::{self, SledStore, compact};
use chinwag::store::{Commit, Put, Store};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::accounts::{PASSWORD, log_in, owner, text};
use crate::harness::{Setup, TestServer, patiently};
use crate::requests::{Answer, Request};

/// Who asks for ann's document, besides her.
const ASKERS: [&str; 5] = ["ann", "bob", "eve", "nobody", "root"];

#[tokio::test]
async fn every_address_answers_everybody_as_the_name_of_the_collection_says() {
    let clients = Clients::start().await;
    for name in ["a_700_", "a_740_", "a_760_", "a_720_", "a_704_", "a_706_", "pub_a_700_", "pub_a_722_"] {
        let [account, everyone] = [3, 2].map(|from_end| name.as_bytes()[name.len() - from_end] - b'0');
        for asker in ASKERS {
            let allowed = |bit: u8| match asker {
                "ann" | "root" => true,
                "bob" => (account | everyone) & bit != 0,
                "eve" => everyone & bit != 0,
                _ => false,
            };
            let (reads, writes) = (allowed(4) || name.starts_with("pub_"), allowed(2));
            let known = asker != "nobody" || name.starts_with("pub_");
            clients.walk(name, asker, (reads, writes, known)).await;
        }
    }
}

#[tokio::test]
async fn a_document_is_created_listed_changed_and_deleted_in_the_shapes_of_the_original() {
    let clients = Clients::start().await;
    let created = clients.ask("ann", "POST", "/db/tasks", Some(json!({ "name": "one", "n": 1, "id": "mine" }))).await;
    assert_eq!((created.status, created.header("content-type")), (201, "application/json"));
    let document = created.json();
    let id = document["id"].as_str().unwrap();
    assert_ne!(id, "mine");
    assert!(document["sb_created"].as_str().unwrap().ends_with('Z'));
    let expected = json!({
        "id": id, "accountId": "user:ann", "ownerId": "ann", "sb_created": document["sb_created"], "name": "one", "n": 1,
    });
    assert_eq!(document, expected);
    assert_eq!(clients.ok("ann", "GET", &format!("/db/tasks/{id}"), None).await, document);

    let many: Vec<Value> = (2..=30).map(|n| json!({ "n": n, "who": { "name": format!("w{n}") } })).collect();
    let bulk = clients.ask("ann", "POST", "/db/tasks?bulk=1", Some(json!(many))).await;
    assert_eq!((bulk.status, bulk.json()), (201, json!(true)));

    let first = clients.ok("ann", "GET", "/db/tasks", None).await;
    assert_eq!((&first["page"], &first["size"], &first["total"]), (&json!(1), &json!(25), &json!(30)));
    assert_eq!(numbers(&first), (1..=25).collect::<Vec<_>>());
    let last = clients.ok("ann", "GET", "/db/tasks?page=2&size=25&desc=false", None).await;
    assert_eq!(numbers(&last), (26..=30).collect::<Vec<_>>());
    let latest = clients.ok("ann", "GET", "/db/tasks?size=3&desc=true", None).await;
    assert_eq!(numbers(&latest), [30, 29, 28]);
    let beyond = clients.ok("ann", "GET", "/db/tasks?page=9&size=9999999999999999999999", None).await;
    assert_eq!((&beyond["results"], &beyond["total"], &beyond["size"]), (&Value::Null, &json!(30), &json!(25)));
    let most = clients.ok("ann", "GET", "/db/tasks?size=100000", None).await;
    assert_eq!((numbers(&most).len(), &most["size"]), (30, &json!(500)));

    let clauses = json!([["who.name", "in", ["w7", "w9"]], ["n", ">", 7]]);
    let found = clients.ok("ann", "POST", "/query/tasks", Some(clauses.clone())).await;
    assert_eq!((numbers(&found), &found["total"]), (vec![9], &json!(1)));
    assert_eq!(clients.ok("ann", "POST", "/db/count/tasks", Some(clauses)).await, json!({ "count": 1 }));
    assert_eq!(clients.ok("ann", "POST", "/db/count/tasks", Some(json!([]))).await, json!({ "count": 30 }));
    let ids = json!([found["results"][0]["id"], id, "none", "0192f0c1-2345-7abc-8def-000000000004"]);
    let both = clients.ok("ann", "POST", "/db/tasks?ids=true", Some(ids)).await;
    assert_eq!(both.as_array().unwrap().iter().map(|found| found["n"].as_u64().unwrap()).collect::<Vec<_>>(), [9, 1]);

    let path = format!("/db/tasks/{id}");
    let update = json!({ "name": { "first": "o" }, "ownerId": "eve", "accountId": "evil", "sb_created": 0, "id": 0 });
    let mut changed = document.clone();
    changed["name"] = json!({ "first": "o" });
    assert_eq!(clients.ok("ann", "PUT", &path, Some(update)).await, changed);
    let increment = json!({ "field": "n", "range": -3 });
    assert_eq!(clients.ok("ann", "PUT", &format!("/inc/tasks/{id}"), Some(increment)).await, json!(true));
    assert_eq!(clients.ok("ann", "GET", &path, None).await["n"], -2);
    let all = json!({ "update": { "done": true }, "clauses": [["n", "<", 11]] });
    assert_eq!(clients.ok("ann", "PUT", "/db/tasks?bulk=1", Some(all)).await, json!(10));
    let done = clients.ok("ann", "POST", "/query/tasks?desc=1", Some(json!([["done", "==", true]]))).await;
    assert_eq!(numbers(&done)[..2], [10, 9]);

    assert_eq!(clients.ok("ann", "DELETE", &path, None).await, json!(1));
    assert_eq!(clients.ok("ann", "DELETE", &path, None).await, json!(0));
    // [["n",">=",11]]
    assert_eq!(clients.ok("ann", "DELETE", "/db/tasks?bulk=1&x=W1sibiIsIj49IiwxMV1d", None).await, json!(20));
    assert_eq!(clients.ok("ann", "GET", "/db/tasks?size=2", None).await["total"], 9);

    assert_eq!(
        clients.ok("ann", "GET", "/db/nothing", None).await,
        json!({
            "page": 1, "size": 25, "total": 0, "results": null,
        })
    );
    assert_eq!(clients.ok("ann", "DELETE", &format!("/db/nothing/{id}"), None).await, json!(0));
    assert_eq!(
        clients
            .ok("ann", "PUT", "/db/nothing?bulk=1", Some(json!({ "update": {}, "clauses": [["n", "==", 1]] })))
            .await,
        json!(0)
    );
    assert_eq!(clients.ok("root", "GET", "/sudolistall", None).await, json!(["tasks"]));
    assert_eq!(clients.ok("root", "POST", "/sudo/index?col=tasks&field=who.name", None).await, json!(true));
    let found = clients.ok("ann", "POST", "/query/tasks", Some(json!([["who.name", ">=", "w8"]]))).await;
    assert_eq!(numbers(&found), [8, 9]);
    let [one, other] = [clients.ok("ann", "GET", "/newid", None).await, clients.ok("ann", "GET", "/newid", None).await];
    assert!(uuid::Uuid::try_parse(text(&one)).is_ok() && one != other);
}

#[tokio::test]
async fn documents_outlast_a_restart_a_check_and_a_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let options = || sled::Options { ballast_bytes: 0, free_bytes_min: 0, ..sled::Options::default() };
    let open = || -> Arc<dyn Store> { Arc::new(SledStore::open(&dir.path().join("data"), options()).unwrap()) };
    let mut clients = Clients::over(open()).await;
    let many: Vec<Value> = (1..=300).map(|n| json!({ "n": n, "text": "x".repeat(400) })).collect();
    clients.ok_as(201, "ann", "POST", "/db/tasks?bulk=1", Some(json!(many))).await;
    clients.ok("root", "POST", "/sudo/index?col=tasks&field=n", None).await;
    let all = json!({ "update": { "done": true }, "clauses": [["n", "<=", 40]] });
    assert_eq!(clients.ok("ann", "PUT", "/db/tasks?bulk=1", Some(all)).await, json!(40));
    // [["n","<",11]]
    assert_eq!(clients.ok("ann", "DELETE", "/db/tasks?bulk=1&x=W1sibiIsIjwiLDExXV0=", None).await, json!(10));
    let seen = async |clients: &Clients| {
        let done = clients.ok("ann", "POST", "/query/tasks", Some(json!([["n", "<", 60], ["done", "==", true]]))).await;
        (clients.ok("ann", "GET", "/db/tasks?size=500", None).await, done)
    };
    let before = seen(&clients).await;
    assert_eq!((&before.0["total"], &before.1["total"]), (&json!(290), &json!(30)));
    clients.server.stop();
    drop(clients);
    let whole = || sled::verify(&dir.path().join("data"), Depth::Sizes).unwrap().damage;
    assert_eq!(whole(), Vec::<String>::new());
    compact(&dir.path().join("data"), options(), |_| ()).unwrap();
    assert_eq!(whole(), Vec::<String>::new());
    let clients = Clients::again(open()).await;
    assert_eq!(seen(&clients).await, before);
    let increment = json!({ "field": "n", "range": 1000 });
    let id = text(&before.0["results"][0]["id"]).to_owned();
    clients.ok("ann", "PUT", &format!("/inc/tasks/{id}"), Some(increment)).await;
    let found = clients.ok("ann", "POST", "/query/tasks", Some(json!([["n", ">", 1000]]))).await;
    assert_eq!((numbers(&found), &found["results"][0]["id"]), (vec![1011], &json!(id)));
}

#[tokio::test]
async fn nobody_finds_a_collection_among_the_rooms_or_gets_into_it_as_into_one() {
    let clients = Clients::start().await;
    clients.ok_as(201, "ann", "POST", "/db/tasks_777_", Some(json!({}))).await;
    let tenant = TenantId::default_tenant();
    let room = RoomId::collection(&tenant, &CollectionName::new("tasks_777_").unwrap()).to_string();
    let mut ann = clients.server.client("ann").await;
    for name in [room.as_str(), "1"] {
        for command in [
            json!({ "type": "join", "room": name }),
            json!({ "type": "follow", "room": name, "from": "start" }),
            json!({ "type": "history", "room": name }),
            json!({ "type": "room", "room": name }),
            json!({ "type": "members", "room": name }),
            json!({ "type": "post", "room": name, "content": { "text": "hi" } }),
            json!({ "type": "invite", "room": name, "user": "bob" }),
            json!({ "type": "leave", "room": name }),
            json!({ "type": "archive", "room": name }),
        ] {
            assert_eq!(ann.refused(command.clone()).await, "room_not_found", "{command}");
        }
    }
    assert_eq!(ann.ask(json!({ "type": "rooms" })).await["rooms"], json!([]));
    assert_eq!(ann.ask(json!({ "type": "inbox" })).await["rooms"], json!([]));
    assert_eq!(ann.refused(json!({ "type": "create", "kind": "collection" })).await, "bad_request");
}

#[tokio::test]
async fn whoever_looks_is_counted_by_name_or_by_address() {
    let clients = Clients::start().await;
    clients.ok_as(201, "ann", "POST", "/db/pub_a", Some(json!({}))).await;
    let rate = Some(Rate::per_minute(1, 3));
    let mut limits = Limits::lifted();
    let looks = [
        ("GET", "/db/pub_a", None),
        ("GET", "/db/pub_a/0192f0c1-2345-7abc-8def-000000000004", None),
        ("POST", "/db/pub_a?ids=true", Some(json!([]))),
        ("POST", "/query/pub_a", Some(json!([["n", "==", 1]]))),
        ("POST", "/db/count/pub_a", Some(json!([]))),
        ("PUT", "/db/pub_a?bulk=1", Some(json!({ "update": {}, "clauses": [["n", "==", 1]] }))),
        ("DELETE", "/db/pub_a?bulk=1&x=W1sibiIsIj0iLDFdXQ", None),
    ];
    for (method, path, body) in &looks {
        // Each look begins anew with another rate, so that the ones before do not count.
        limits.rates.messages_per_user = rate;
        clients.server.registry.set_limits(limits.clone());
        let mut refused = 0;
        for _ in 0..6 {
            refused += usize::from(clients.ask("ann", method, path, body.clone()).await.status == 429);
        }
        assert!(refused >= 3, "{method} {path}: {refused}");
        limits.rates.messages_per_user = Some(Rate::per_minute(2, 90));
        clients.server.registry.set_limits(limits.clone());
        assert_ne!(clients.ask("ann", method, path, body.clone()).await.status, 429);
    }
    limits.rates.messages_per_user = None;
    limits.tenant.messages = rate;
    limits.rates.connects_per_address = None;
    clients.server.registry.set_limits(limits.clone());
    let told = async |user: &'static str| {
        let mut told = Vec::new();
        for _ in 0..4 {
            told.push(clients.ask(user, "GET", "/db/pub_a", None).await.status);
        }
        told
    };
    assert_eq!(told("ann").await, [200, 200, 200, 429]);
    assert_eq!(told("nobody").await, [200; 4], "a stranger uses nothing up of the tenant's");
    limits.rates.connects_per_address = Some(Rate::per_minute(1, 5));
    clients.server.registry.set_limits(limits);
    let request = |more: &str| format!("GET /staticbackend/db/pub_a?sbpk=pk HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    // On one connection.
    let mut stream = clients.server.raw(&(request("").repeat(5) + &request("Connection: close\r\n"))).await;
    let mut answers = String::new();
    patiently(stream.read_to_string(&mut answers)).await.unwrap();
    let told: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(told, ["200", "200", "200", "200", "200", "429"]);
}

#[tokio::test]
async fn whoever_is_revoked_is_cut_off_from_whatever_has_been_answered() {
    let clients = Clients::start().await;
    clients.ok_as(201, "root", "POST", "/db/a", Some(json!({}))).await;
    let mut streams = Vec::new();
    for (method, path) in
        [("GET", "/sudolistall"), ("POST", "/sudo/index?col=a&field=n"), ("GET", "/newid"), ("GET", "/db/a")]
    {
        let head = format!(
            "{method} /staticbackend{path} HTTP/1.1\r\nHost: localhost\r\nSB-PUBLIC-KEY: pk\r\n\
             Content-Length: 0\r\nAuthorization: Bearer {}\r\n\r\n",
            clients.token("root")
        );
        let mut stream = clients.server.raw(&head).await;
        let mut answer = [0; 12];
        patiently(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200", "{path}");
        streams.push(stream);
    }
    let subject = Subject::Tenant(TenantId::default_tenant());
    let now = SystemClock.now();
    let revocation = Revocation { since: now, until: Timestamp(now.0 + 3_600_000) };
    clients.server.registry.revoke(subject, revocation).await.unwrap();
    for mut stream in streams {
        let ended = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "it goes on");
    }
    let after = clients.ask("root", "GET", "/sudolistall", None).await;
    assert!(after.status == 400 && after.body.starts_with(b"error validating auth key: "), "{after:?}");
}

#[tokio::test]
async fn refusals_are_texts_in_the_words_of_the_original() {
    let clients = Clients::start().await;
    let document = clients.ok_as(201, "ann", "POST", "/db/a", Some(json!({ "text": "x" }))).await;
    let path = format!("/db/a/{}", text(&document["id"]));
    let large = json!({ "text": "\"".repeat(20_000) });
    let all = Some(json!({ "update": { "text": "y" }, "clauses": [["text", "==", "x"]] }));
    let cases = [
        ("GET", "/db/a", "", "pk", None, 401, "missing authorization HTTP header"),
        ("GET", "/sudo/a", "", "pk", None, 401, "missing authorization HTTP header"),
        ("GET", "/sudo/a", "ann", "pk", None, 401, "invalid StaticBackend root token"),
        ("POST", "/sudo/index?col=a&field=n", "ann", "pk", None, 401, "invalid StaticBackend root token"),
        ("POST", "/sudo/index?col=b&field=n", "root", "pk", None, 404, "document_not_found"),
        ("POST", "/sudo/index?col=a", "root", "pk", None, 409, "too_many_indexes"),
        ("GET", "/sudolistall", "ann", "pk", None, 401, "invalid StaticBackend root token"),
        ("GET", "/db/a", "ann", "kp", None, 401, "invalid StaticBackend public key"),
        ("GET", "/db/a", "none", "pk", None, 400, "error validating auth key: "),
        ("GET", "/db/sb_a", "ann", "pk", None, 400, "names that begin with sb_ are the server's own"),
        ("GET", "/db/a_790_", "ann", "pk", None, 400, "the permissions at the end of the name"),
        ("POST", "/db/a", "ann", "pk", Some(json!([])), 400, "invalid body"),
        ("POST", "/db/a?bulk=1", "ann", "pk", Some(json!({})), 400, "invalid body"),
        ("POST", "/db/a", "ann", "pk", Some(large.clone()), 413, "document_size"),
        ("PUT", &path, "ann", "pk", Some(large), 413, "document_size"),
        ("PUT", "/db/a/7", "ann", "pk", Some(json!({})), 404, "document_not_found"),
        ("GET", "/db/a/0192f0c1-2345-7abc-8def-000000000004", "ann", "pk", None, 404, "document_not_found"),
        ("POST", "/query/a", "ann", "pk", Some(json!([["a", "like", 1]])), 400, "the 1 query clause's operator: like"),
        ("PUT", "/db/a", "ann", "pk", all.clone(), 400, "a change of several documents says bulk=1"),
        ("PUT", "/sudo/a?bulk=0", "root", "pk", all.clone(), 400, "a change of several documents says bulk=1"),
        ("PUT", "/db/a?bulk=1", "ann", "pk", Some(json!({ "update": {} })), 400, "the clauses are missing"),
        ("DELETE", "/db/a?x=W1sidGV4dCIsIj0iLCJ4Il1d", "ann", "pk", None, 400, "says bulk=1"),
        ("DELETE", "/db/a?bulk=false&x=W1sidGV4dCIsIj0iLCJ4Il1d", "ann", "pk", None, 400, "says bulk=1"),
        ("DELETE", "/db/a?bulk=1&x=W10", "ann", "pk", None, 400, "the clauses are missing"),
        ("POST", "/db/a?bulk=0", "ann", "pk", Some(json!([{}])), 400, "invalid body"),
        ("DELETE", "/db/a?bulk=1&x=%25", "ann", "pk", None, 400, "the clauses are no base64"),
        (
            "PUT",
            &path.replacen("db", "inc", 1),
            "ann",
            "pk",
            Some(json!({ "field": vec!["a"; 100_000].join("."), "range": 1 })),
            413,
            "document_size",
        ),
        (
            "PUT",
            &path.replacen("db", "inc", 1),
            "ann",
            "pk",
            Some(json!({ "field": "text", "range": 1 })),
            422,
            "not_a_number",
        ),
    ];
    for (method, path, user, key, body, status, says) in cases {
        let request = Request::new(method, &format!("/staticbackend{path}")).header("SB-PUBLIC-KEY", key);
        let request = match user {
            "" => request,
            user => request.token(&clients.token(user)),
        };
        let request = body.iter().fold(request, Request::json);
        let answer = request.send(&clients.server).await;
        let told = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!((answer.status, told.contains(says)), (status, true), "{method} {path}: {told}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8", "{method} {path}");
    }
    assert_eq!(clients.ok("ann", "GET", &path, None).await, document);
}

#[tokio::test]
async fn behind_a_refusal_before_the_body_the_connection_ends_at_every_address() {
    let clients = Clients::start().await;
    let addresses = [
        ("POST", "/register"),
        ("POST", "/login"),
        ("POST", "/account/users"),
        ("POST", "/sse/msg"),
        ("POST", "/publish"),
        ("POST", "/publish-message"),
        ("POST", "/db/a"),
        ("PUT", "/db/a?bulk=1"),
        ("POST", "/sudo/index?col=a&field=n"),
    ];
    for (method, path) in addresses {
        let head = format!(
            "{method} /staticbackend{path} HTTP/1.1\r\nHost: localhost\r\nSB-PUBLIC-KEY: kp\r\n\
             Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
        );
        let mut stream = clients.server.raw(&head).await;
        let mut answer = String::new();
        let _ = patiently(stream.read_to_string(&mut answer)).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{path}: {answer}");
    }
}

struct Clients {
    server: TestServer,
    root: String,
}

impl Clients {
    /// Bob is of ann's account.
    async fn start() -> Self {
        Self::over(Arc::new(MemoryStore::new())).await
    }

    async fn over(store: Arc<dyn Store>) -> Self {
        let tenant = TenantId::default_tenant();
        let account = Put {
            under: StreamId::User(tenant.clone(), UserId::new("bob").unwrap()),
            key: ACCOUNT.into(),
            value: Some(AccountId::of(&UserId::new("ann").unwrap()).encode()),
        };
        let stream = account.under.clone();
        let commit = Commit { stream, expected: None, records: vec![], puts: vec![account], erase: vec![], trim: None };
        store.commit(commit).await.unwrap();
        let server = TestServer::with(Setup { store, ..Setup::default() });
        let root = text(&owner(&server).await["token"]).to_owned();
        Self { server, root }
    }

    /// With those who are known already.
    async fn again(store: Arc<dyn Store>) -> Self {
        let server = TestServer::with(Setup { store, ..Setup::default() });
        let root = text(&log_in(&server, "owner", PASSWORD).await["token"]).to_owned();
        Self { server, root }
    }

    fn token(&self, user: &str) -> String {
        match user {
            "root" => self.root.clone(),
            "none" => "none".to_owned(),
            user => self.server.token(user),
        }
    }

    async fn ask(&self, user: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = Request::new(method, &format!("/staticbackend{path}")).header("SB-PUBLIC-KEY", "pk");
        let request = if user == "nobody" { request } else { request.token(&self.token(user)) };
        body.iter().fold(request, Request::json).send(&self.server).await
    }

    async fn ok_as(&self, status: u16, user: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.ask(user, method, path, body).await;
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!((answer.status, answer.header("content-type")), (status, "application/json"), "{path}: {told}");
        answer.json()
    }

    async fn ok(&self, user: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        self.ok_as(200, user, method, path, body).await
    }

    /// Has somebody ask for a document of ann's at every address.
    async fn walk(&self, name: &str, asker: &str, (reads, writes, known): (bool, bool, bool)) {
        let document =
            self.ok_as(201, "ann", "POST", &format!("/db/{name}"), Some(json!({ "n": 1, "of": asker }))).await;
        let id = text(&document["id"]).to_owned();
        let (db, query) = if asker == "root" { ("/sudo", "/sudoquery") } else { ("/db", "/query") };
        let mine = json!([["id", "==", id]]);
        let bulk = json!({ "update": { "m": 1 }, "clauses": mine });
        let of_read = |found: u16| {
            if !known {
                401
            } else if reads {
                200
            } else {
                found
            }
        };
        let of_write = |found: u16| {
            if asker == "nobody" {
                401
            } else if writes {
                200
            } else {
                found
            }
        };
        let one = |allowed| if allowed { 1 } else { 0 };
        let steps: Vec<(&str, String, Option<Value>, u16, Option<(&str, Value)>)> = vec![
            ("GET", format!("{db}/{name}/{id}"), None, of_read(404), Some(("/id", json!(id)))),
            ("GET", format!("{db}/{name}?size=500&desc=1"), None, of_read(200), None),
            ("POST", format!("{query}/{name}"), Some(mine.clone()), of_read(200), Some(("/total", json!(one(reads))))),
            (
                "POST",
                format!("/db/count/{name}"),
                Some(mine.clone()),
                of_read(200),
                Some(("/count", json!(one(reads)))),
            ),
            ("POST", format!("{db}/{name}?ids=true"), Some(json!([id])), of_read(200), None),
            ("PUT", format!("{db}/{name}/{id}"), Some(json!({ "n": 2 })), of_write(404), Some(("/id", json!(id)))),
            (
                "PUT",
                format!("/inc/{name}/{id}"),
                Some(json!({ "field": "n", "range": 1 })),
                of_write(404),
                Some(("", json!(true))),
            ),
            ("PUT", format!("{db}/{name}?bulk=1"), Some(bulk), of_write(200), Some(("", json!(one(reads && writes))))),
            ("DELETE", format!("{db}/{name}/{id}"), None, of_write(200), Some(("", json!(one(writes))))),
        ];
        for (method, path, body, status, expected) in steps {
            let root_by_user = asker == "root" && !(path.starts_with("/sudo"));
            let status = if root_by_user { None } else { Some(status) };
            let answer = self.ask(asker, method, &path, body).await;
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            if let Some(status) = status {
                assert_eq!(answer.status, status, "{asker}: {method} {path}: {told}");
                if let Some((pointer, expected)) = expected.filter(|_| status == 200) {
                    assert_eq!(answer.json().pointer(pointer), Some(&expected), "{asker}: {method} {path}: {told}");
                }
            }
        }
        let gone = self.ask("ann", "GET", &format!("/db/{name}/{id}"), None).await.status == 404;
        assert_eq!(gone, writes, "{asker} in {name}");
    }
}

fn numbers(page: &Value) -> Vec<i64> {
    page["results"].as_array().unwrap().iter().map(|document| document["n"].as_i64().unwrap()).collect()
}
