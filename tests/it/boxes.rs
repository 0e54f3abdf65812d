//! What Misakey's clients ask of boxes by requests, and what they are answered.

use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::Limits;
use chinwag::actors::limits::{Rate, Rates};
use chinwag::store::memory::MemoryStore;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::harness::{Setup, TestServer, follow, patiently};

const OLGA: &str = "olga@example.org";
const ANN: &str = "ann@example.org";
const NOWHERE: &str = "7eea6625-54c1-41eb-8296-d6c19976ae8a";

/// What a request is answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    total: Option<usize>,
    body: Value,
}

impl Answer {
    fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// The ids of the events that it has.
    fn ids(&self) -> Vec<String> {
        let events = self.body.as_array().unwrap_or_else(|| panic!("{self:?}"));
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        let events = self.body.as_array().unwrap_or_else(|| panic!("{self:?}"));
        events.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }
}

async fn call(server: &TestServer, user: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let token =
        if user.is_empty() { String::new() } else { format!("Authorization: Bearer {}\r\n", server.token(user)) };
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let about = match body.len() {
        0 => String::new(),
        bytes => format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n"),
    };
    let head =
        format!("{method} /misakey{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}{about}\r\n{body}");
    let mut stream = server.raw(&head).await;
    let mut answer = Vec::new();
    patiently(stream.read_to_end(&mut answer)).await.expect("an answer");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let total = head.lines().find_map(|line| line.to_lowercase().strip_prefix("x-total-count: ")?.parse().ok());
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    Answer { status: head[9..12].parse().unwrap(), total, body }
}

async fn get(server: &TestServer, user: &str, path: &str) -> Answer {
    call(server, user, "GET", path, None).await
}

async fn event(server: &TestServer, user: &str, room: &str, event: Value) -> Answer {
    call(server, user, "POST", &format!("/boxes/{room}/events"), Some(event)).await
}

async fn batch(server: &TestServer, user: &str, room: &str, events: Value) -> Answer {
    let batch = json!({"batch_type": "accesses", "events": events});
    call(server, user, "POST", &format!("/boxes/{room}/batch-events"), Some(batch)).await
}

/// A box of `OLGA`.
async fn a_box(server: &TestServer) -> String {
    let made = call(server, OLGA, "POST", "/boxes", Some(json!({"public_key": "a-_b", "title": "Papers"}))).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.id()
}

/// One that `ANN` is in, and by which event she was let in.
async fn with_ann(server: &TestServer) -> (String, String) {
    let room = a_box(server).await;
    let added = batch(server, OLGA, &room, json!([add("identifier", ANN)])).await;
    assert_eq!((added.status, added.kinds()), (201, vec!["access.add"]));
    let joined = event(server, ANN, &room, json!({"type": "member.join"})).await;
    assert_eq!(joined.status, 201, "{joined:?}");
    (room, added.ids().remove(0))
}

fn add(restriction: &str, value: &str) -> Value {
    json!({"type": "access.add", "content": {"restriction_type": restriction, "value": value}})
}

fn text(encrypted: &str) -> Value {
    json!({"type": "msg.text", "content": {"encrypted": encrypted, "public_key": "key"}})
}

fn sender(user: &str) -> Value {
    json!({"display_name": user, "avatar_url": null, "identifier": {"value": user, "kind": "email"}})
}

#[tokio::test]
async fn a_box_is_made_shown_listed_and_counted() {
    let server = TestServer::start();
    let made = call(&server, OLGA, "POST", "/boxes", Some(json!({"public_key": "a-_b", "title": "Papers"}))).await;
    assert_eq!(made.status, 201);
    let (room, mut body) = (made.id(), made.body);
    let (created, first) = (body["server_created_at"].take(), body["last_event"].take());
    assert!(created.as_str().unwrap().ends_with('Z'));
    let expected = json!({"id": room, "server_created_at": null, "public_key": "a-_b", "title": "Papers",
        "lifecycle": "open", "creator": sender(OLGA), "last_event": null});
    assert_eq!(body, expected);
    assert_eq!(
        (&first["type"], &first["content"]),
        (&json!("create"), &json!({"public_key": "a-_b", "title": "Papers"}))
    );

    a_box(&server).await;
    for path in ["/boxes", "/boxes/joined"] {
        let listed = get(&server, OLGA, path).await;
        assert_eq!(listed.body.as_array().unwrap().len(), 2);
        assert!(listed.body.as_array().unwrap().iter().all(|listed| listed["events_count"] == 0), "{listed:?}");
        assert_eq!(get(&server, OLGA, &format!("{path}?offset=1&limit=1")).await.ids(), [&*room]);
        let counted = call(&server, OLGA, "HEAD", path, None).await;
        assert_eq!((counted.status, counted.total), (204, Some(2)));
        assert_eq!(call(&server, ANN, "HEAD", path, None).await.total, Some(0));
    }
    let shown = get(&server, OLGA, &format!("/boxes/{room}")).await;
    assert_eq!((shown.status, &shown.body["title"], shown.body.get("events_count")), (200, &json!("Papers"), None));
}

#[tokio::test]
async fn what_is_posted_is_answered_as_the_event_that_a_native_client_hears() {
    let server = TestServer::start();
    let (room, _) = with_ann(&server).await;
    let mut olga = server.client(OLGA).await;
    olga.ask(follow(&room, "now")).await;
    let posted = event(&server, ANN, &room, text("one")).await;
    assert_eq!((posted.status, &posted.body["sender"]), (201, &sender(ANN)));
    let record = olga.record().await;
    assert_eq!(record["content"], json!({"encrypted": "one", "public_key": "key"}));
    assert_eq!(record["id"], posted.body["id"]);
    let edit = json!({"type": "msg.edit", "referrer_id": posted.id(), "content": {"new_encrypted": "two", "new_public_key": "other"}});
    let edited = event(&server, ANN, &room, edit).await;
    assert_eq!((edited.status, &edited.body["referrer_id"]), (201, &posted.body["id"]));
    assert_eq!(olga.record().await["content"], json!({"encrypted": "two", "public_key": "other"}));
    let second = event(&server, OLGA, &room, text("gone")).await.id();
    let deleted = event(&server, OLGA, &room, json!({"type": "msg.delete", "referrer_id": second})).await;
    assert_eq!((deleted.status, &deleted.body["content"]), (201, &Value::Null));

    let path = format!("/boxes/{room}/events");
    let listed = get(&server, ANN, &path).await;
    assert_eq!(listed.kinds(), ["msg.text", "msg.text", "member.join", "create"]);
    let gone = &listed.body[0];
    assert_eq!(gone["id"], second);
    assert_eq!(
        gone["content"],
        json!({"deleted": {"at_time": deleted.body["server_event_created_at"], "by_identity": sender(OLGA)}})
    );
    let expected = json!({"encrypted": "two", "public_key": "other", "last_edited_at": edited.body["server_event_created_at"], "deleted": null});
    assert_eq!(listed.body[1]["content"], expected);
    assert_eq!(get(&server, ANN, &format!("{path}?offset=1&limit=2")).await.ids(), listed.ids()[1..3]);
    let counted = call(&server, ANN, "HEAD", &path, None).await;
    assert_eq!((counted.status, counted.total, counted.body), (204, Some(4), Value::Null));
    let members = get(&server, ANN, &format!("/boxes/{room}/members")).await;
    assert_eq!(members.body, json!([sender(ANN), sender(OLGA)]));
}

#[tokio::test]
async fn a_file_that_was_sent_for_a_box_is_posted_in_it() {
    let server = TestServer::start();
    let (room, _) = with_ann(&server).await;
    let token = server.token(ANN);
    let upload = format!(
        "POST /v1/files?room={room}&name=a.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\n\r\nbytes"
    );
    let (status, body) = server.exchange(&upload).await;
    assert_eq!(status, 201, "{body}");
    let file: Value = serde_json::from_str(&body).unwrap();
    let id = file["file"].as_str().or_else(|| file["id"].as_str()).expect("a file has an id");
    let content = json!({"encrypted": "e", "public_key": "k", "encrypted_file_id": id});
    let posted = event(&server, ANN, &room, json!({"type": "msg.file", "content": content})).await;
    assert_eq!((posted.status, &posted.body["type"], &posted.body["content"]), (201, &json!("msg.file"), &content));
    let edit = json!({"type": "msg.edit", "referrer_id": posted.id(), "content": {"new_encrypted": "x", "new_public_key": "y"}});
    assert_eq!(event(&server, ANN, &room, edit).await.status, 403);
}

#[tokio::test]
async fn whoever_is_let_in_may_join_and_goes_when_he_is_let_in_no_longer() {
    let store = MemoryStore::new();
    let setup = || Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() };
    let mut server = TestServer::with(setup());
    let room = a_box(&server).await;
    let join = json!({"type": "member.join"});
    let refused = event(&server, ANN, &room, join.clone()).await;
    assert_eq!((refused.status, &refused.body["details"]["reason"]), (403, &json!("no_access")));
    let added =
        batch(&server, OLGA, &room, json!([add("identifier", ANN), add("email_domain", "friends.example")])).await;
    assert_eq!((added.status, added.kinds()), (201, vec!["access.add", "access.add"]));
    assert_eq!(get(&server, ANN, &format!("/boxes/{room}")).await.body["details"]["reason"], "not_member");
    for user in [ANN, "bob@friends.example"] {
        assert_eq!(event(&server, user, &room, join.clone()).await.status, 201);
        assert_eq!(event(&server, user, &room, join.clone()).await.status, 409);
    }
    assert_eq!(event(&server, "eve@example.org", &room, join.clone()).await.status, 403);

    // Nothing of a batch in which one change cannot be is done.
    let [of_ann, of_friends] = &added.ids()[..] else { panic!("{added:?}") };
    let remove = |event: &str| json!({"type": "access.rm", "referrer_id": event});
    let accesses = format!("/boxes/{room}/accesses");
    for (events, status) in [
        (json!([remove(of_ann), remove(NOWHERE)]), 404),
        (json!([remove(of_ann), add("email_domain", "Friends.example")]), 409),
        (json!([remove(of_ann), {"type": "msg.text"}]), 400),
        (json!([]), 400),
    ] {
        assert_eq!(batch(&server, OLGA, &room, events.clone()).await.status, status, "{events}");
        assert_eq!(get(&server, OLGA, &accesses).await.ids(), [of_ann.clone(), of_friends.clone()]);
    }
    for (user, reason) in [(ANN, None), ("eve@example.org", Some("no_access"))] {
        let refused = batch(&server, user, &room, json!([remove(of_ann)])).await;
        assert_eq!((refused.status, refused.body["details"]["reason"].as_str()), (403, reason));
        assert_eq!(get(&server, user, &accesses).await.status, 403);
    }

    server.stop();
    let server = TestServer::with(setup());
    let left = get(&server, OLGA, &accesses).await;
    assert_eq!(left.ids(), [of_ann.clone(), of_friends.clone()], "they are on the disk");
    assert_eq!(left.body[0]["content"], json!({"restriction_type": "identifier", "value": ANN}));
    let removed = batch(&server, OLGA, &room, json!([remove(of_ann)])).await;
    assert_eq!((removed.status, removed.kinds()), (201, vec!["access.rm", "member.kick"]));
    assert_eq!(removed.body[0]["referrer_id"], *of_ann);
    assert_eq!(removed.body[1]["sender"], sender(ANN));
    assert_eq!(removed.body[1]["content"], json!({"kicker": sender(OLGA)}));
    let refused = get(&server, ANN, &format!("/boxes/{room}/events")).await;
    assert_eq!((refused.status, &refused.body["details"]["reason"]), (403, &json!("no_access")));
    assert_eq!(get(&server, "bob@friends.example", &format!("/boxes/{room}/events")).await.status, 200);
}

#[tokio::test]
async fn what_the_rules_forbid_is_refused_in_the_words_of_the_original() {
    let server = TestServer::start();
    let (room, _) = with_ann(&server).await;
    let (own, others) =
        (event(&server, ANN, &room, text("a")).await.id(), event(&server, OLGA, &room, text("o")).await.id());
    let create = get(&server, OLGA, &format!("/boxes/{room}/events")).await.ids().pop().unwrap();
    let edit = |message: &str| json!({"type": "msg.edit", "referrer_id": message, "content": {"new_encrypted": "x", "new_public_key": "y"}});
    let delete = |message: &str| json!({"type": "msg.delete", "referrer_id": message});
    let gone = event(&server, ANN, &room, text("gone")).await.id();
    assert_eq!(event(&server, ANN, &room, delete(&gone)).await.status, 201);
    let large = "x".repeat(33 * 1024);
    for (user, body, status, code, desc) in [
        (ANN, json!({"type": "member.join"}), 409, "conflict", Some("already box member")),
        (OLGA, json!({"type": "member.leave"}), 403, "forbidden", Some("admin can't leave their own box")),
        (ANN, edit(&others), 403, "forbidden", Some("can only edit own messages")),
        (OLGA, edit(&create), 403, "forbidden", None),
        (ANN, delete(&others), 403, "forbidden", None),
        (ANN, edit(&gone), 410, "gone", None),
        (ANN, delete(&gone), 410, "gone", None),
        (ANN, delete(NOWHERE), 404, "not_found", None),
        (ANN, json!({"type": "state.lifecycle", "content": {"state": "closed"}}), 403, "forbidden", None),
        (ANN, json!({"type": "msg.text"}), 400, "bad_request", None),
        (ANN, json!({"type": "access.add"}), 400, "bad_request", None),
        (ANN, text(&large), 413, "request_entity_too_large", None),
        ("eve@example.org", text("hello"), 403, "forbidden", None),
    ] {
        let refused = event(&server, user, &room, body.clone()).await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)), "{user} {body}: {refused:?}");
        if let Some(desc) = desc {
            assert_eq!(refused.body["desc"], desc);
        }
    }
    // A room of another kind is no box, whoever is in it.
    let mut ann = server.client(ANN).await;
    let channel = ann.ask(json!({"type": "create", "kind": "channel", "alias": "harbour"})).await;
    let channel = channel["room"].as_str().unwrap();
    for (user, body) in [(ANN, text("hello")), ("eve@example.org", json!({"type": "member.join"}))] {
        let refused = event(&server, user, channel, body).await;
        assert_eq!((refused.status, &refused.body["details"]["reason"]), (403, &json!("no_access")));
    }
    // The owner takes back what others have said.
    assert_eq!(event(&server, OLGA, &room, delete(&own)).await.status, 201);

    for (method, path, status) in [
        ("GET", "/boxes/7", 400),
        ("GET", "/boxes/7/events", 400),
        ("GET", &format!("/boxes/{NOWHERE}"), 403),
        ("GET", &format!("/boxes/{NOWHERE}/events"), 403),
        ("GET", &format!("/boxes/{room}/events?limit=many"), 400),
    ] {
        assert_eq!(call(&server, ANN, method, path, None).await.status, status, "{path}");
    }
    let nobody = get(&server, "", &format!("/boxes/{room}")).await;
    assert_eq!((nobody.status, &nobody.body["details"]), (401, &json!({"Authorization": "required"})));
    // A token in the address is taken by sockets alone.
    let token = server.token(OLGA);
    assert_eq!(get(&server, "", &format!("/boxes/{room}?access_token={token}")).await.status, 401);
    let untitled = call(&server, OLGA, "POST", "/boxes", Some(json!({"public_key": "a-_b"}))).await;
    let expected =
        json!({"code": "bad_request", "desc": "title is required", "origin": "body", "details": {"title": "required"}});
    assert_eq!((untitled.status, untitled.body), (400, expected));

    let close = json!({"type": "state.lifecycle", "content": {"state": "closed"}});
    let closed = event(&server, OLGA, &room, close.clone()).await;
    assert_eq!((closed.status, &closed.body["content"]), (201, &json!({"state": "closed"})));
    let expected = json!({"code": "conflict", "desc": "box is closed.", "origin": "not_defined", "details": {"lifecycle": "conflict"}});
    for (user, body) in [(OLGA, close), (OLGA, text("late")), (ANN, text("late"))] {
        let refused = event(&server, user, &room, body).await;
        assert_eq!((refused.status, &refused.body), (409, &expected));
    }
    let refused = get(&server, ANN, &format!("/boxes/{room}/events")).await;
    assert_eq!((refused.status, &refused.body["details"]["reason"]), (403, &json!("closed")));
    assert_eq!(get(&server, OLGA, &format!("/boxes/{room}/events")).await.kinds()[0], "state.lifecycle");
    assert_eq!(get(&server, OLGA, &format!("/boxes/{room}")).await.body["lifecycle"], "closed");
}

#[tokio::test]
async fn all_who_are_let_in_no_longer_go_whatever_the_rate_of_their_owner() {
    let rates = Rates { messages_per_user: Some(Rate::per_second(5, 20)), ..Rates::default() };
    let limits = Limits { rates, ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let room = a_box(&server).await;
    let added = batch(&server, OLGA, &room, json!([add("email_domain", "friends.example")])).await.ids().remove(0);
    for number in 0..8 {
        let user = format!("f{number}@friends.example");
        assert_eq!(event(&server, &user, &room, json!({"type": "member.join"})).await.status, 201);
    }
    let members = get(&server, OLGA, &format!("/boxes/{room}/members")).await.body.as_array().unwrap().len();
    assert_eq!(members, 9);
    let removed = batch(&server, OLGA, &room, json!([{"type": "access.rm", "referrer_id": added}])).await;
    assert_eq!((removed.status, removed.body.as_array().map(Vec::len)), (201, Some(members)), "{removed:?}");
    assert_eq!(get(&server, OLGA, &format!("/boxes/{room}/members")).await.body, json!([sender(OLGA)]));
}

#[tokio::test]
async fn what_is_new_is_counted_until_it_is_acknowledged() {
    let server = TestServer::start();
    let (room, _) = with_ann(&server).await;
    for said in ["one", "two"] {
        event(&server, OLGA, &room, text(said)).await;
    }
    let listed = get(&server, ANN, "/boxes/joined").await;
    assert_eq!(
        (&listed.body[0]["events_count"], &listed.body[0]["last_event"]["content"]["encrypted"]),
        (&json!(2), &json!("two"))
    );
    let path = format!("/boxes/{room}/new-events-count/ack");
    let foreign = call(&server, ANN, "PUT", &path, Some(json!({"identity_id": OLGA}))).await;
    assert_eq!(foreign.status, 403);
    assert_eq!(call(&server, ANN, "PUT", &path, Some(json!({"identity_id": ANN}))).await.status, 204);
    assert_eq!(get(&server, ANN, "/boxes/joined").await.body[0]["events_count"], 0);
}

#[tokio::test]
async fn a_request_waits_for_what_happens_behind_an_event() {
    let limits = Limits { poll_wait: Duration::from_millis(300), ..Limits::lifted() };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let (room, _) = with_ann(&server).await;
    let one = event(&server, OLGA, &room, text("one")).await.id();
    let two = event(&server, OLGA, &room, text("two")).await.id();
    let path = |since: &str| format!("/boxes/{room}/events?since={since}");
    assert_eq!(get(&server, ANN, &path(&one)).await.ids(), [&*two]);
    let nothing = get(&server, ANN, &path(&two)).await;
    assert_eq!((nothing.status, nothing.body), (200, json!([])));
    let waits = path(&two);
    let mut olga = server.client(OLGA).await;
    // What has no word here does not end the wait.
    let (waited, ()) = tokio::join!(get(&server, ANN, &waits), async {
        olga.ask(json!({"type": "react", "room": room, "message": two, "emoji": "+1"})).await;
        event(&server, OLGA, &room, json!({"type": "msg.delete", "referrer_id": one})).await;
    });
    assert_eq!((waited.kinds(), &waited.body[0]["referrer_id"]), (vec!["msg.delete"], &json!(one)));
    assert_eq!(get(&server, ANN, &path(NOWHERE)).await.status, 400);
    assert_eq!(get(&server, "eve@example.org", &path(&one)).await.status, 403);
}

#[tokio::test]
async fn anybody_may_know_the_title_of_a_box_that_lets_others_in() {
    let server = TestServer::start();
    let room = a_box(&server).await;
    let path = format!("/boxes/{room}/public?other_share_hash=abc");
    assert_eq!(get(&server, "", &path).await.status, 403, "it is nobody else's");
    batch(&server, OLGA, &room, json!([add("invitation_link", "abc")])).await;
    let shown = get(&server, "", &path).await;
    assert_eq!((shown.status, shown.body), (200, json!({"title": "Papers"})));
    assert_eq!(get(&server, "", &format!("/boxes/{NOWHERE}/public")).await.status, 403);
    // Where there are only links, whoever knows of it comes in.
    assert_eq!(event(&server, "eve@example.org", &room, json!({"type": "member.join"})).await.status, 201);
}

#[tokio::test]
async fn who_cannot_come_in_for_now_does_not_keep_an_invitation_instead() {
    let slow = Rates {
        messages_per_user: Some(Rate { count: 1, per: Duration::from_secs(3600), burst: 10 }),
        ..Rates::default()
    };
    let limits = |rates| Limits { rates, ..Setup::default().limits };
    let server = TestServer::with(Setup { limits: limits(slow), ..Setup::default() });
    let room = a_box(&server).await;
    let added = batch(&server, OLGA, &room, json!([add("identifier", ANN)])).await.body[0]["id"].clone();
    let mut ann = server.client(ANN).await;
    while ann.try_ask(json!({"type": "create", "kind": "group"})).await["ok"] == true {}
    assert_eq!(event(&server, ANN, &room, json!({"type": "member.join"})).await.status, 429);
    let removed = batch(&server, OLGA, &room, json!([{"type": "access.rm", "referrer_id": added}])).await;
    assert_eq!(removed.status, 201, "{removed:?}");
    server.registry.set_limits(limits(Rates::default()));
    assert_eq!(event(&server, ANN, &room, json!({"type": "member.join"})).await.status, 403);
    assert_ne!(ann.try_ask(json!({"type": "join", "room": room})).await["ok"], true);
}
