//! What the server says when all is quiet, asked by those who may: logs, members, lists, receipts, who is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::device::{Answer, Handle, Known, Order};
use super::plan::{self, Follows, Plan, Transport};
use super::recount::{self, Ends, Log, Recount, Verdict, text};
use super::rest;
use super::stage::{Stage, now_ms, user};
use super::view::Book;
use crate::support::listeners::Http;

/// How many ask at the same time.
const AT_ONCE: usize = 16;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of how many messages of a room it is asked who has read them.
const READ_MESSAGES: usize = 3;

/// Somebody who asks.
struct Asker {
    http: Http,
    name: String,
}

impl Asker {
    async fn new(stage: &Stage, n: usize) -> Self {
        let name = user(n);
        let http = Http::connect(stage.address(), &stage.token(&name)).await.expect("the server listens");
        Self { http, name }
    }

    async fn ask(&mut self, command: Value) -> Value {
        match tokio::time::timeout(PATIENCE, rest::ask(&mut self.http, &command)).await {
            Ok(Answer::Done(reply)) => reply,
            other => panic!("{}: {command}: {other:?}", self.name),
        }
    }

    /// All pages of a list; the first with what the others have in `list`.
    async fn all(&mut self, mut command: Value, list: &str) -> Value {
        command["limit"] = json!(100);
        let mut whole = self.ask(command.clone()).await;
        let mut after = whole["after"].clone();
        while !after.is_null() {
            command["after"] = after;
            let page = self.ask(command.clone()).await;
            let more = page[list].as_array().cloned().unwrap_or_default();
            whole[list].as_array_mut().expect("a page has its list").extend(more);
            after = page["after"].clone();
        }
        whole
    }
}

/// The logs of all rooms, read from their start by their owners; behind them those of the audit rooms that there are.
pub async fn logs(stage: &Stage, plan: &Plan) -> Vec<Log> {
    let reads = plan.rooms.iter().enumerate().map(|(n, room)| async move {
        let mut owner = Asker::new(stage, room.owner).await;
        let log = Log {
            room: stage.rooms[n].clone(),
            kind: room.kind.as_str().to_owned(),
            hidden: u64::from(room.from_join),
            records: Vec::new(),
            shown: Vec::new(),
        };
        let log = read(stage, &mut owner, log).await.expect("its owner may read it");
        let about = owner.ask(json!({ "type": "room", "room": log.room })).await;
        let audit = match about["audit"].as_str() {
            Some(room) => {
                let (room, kind) = (room.to_owned(), "audit".to_owned());
                read(stage, &mut owner, Log { room, kind, hidden: 0, records: Vec::new(), shown: Vec::new() }).await
            }
            None => None,
        };
        (log, audit)
    });
    let (mut logs, audits): (Vec<Log>, Vec<_>) = stream::iter(reads).buffered(AT_ONCE).unzip().await;
    logs.extend(audits.into_iter().flatten());
    logs
}

/// The log of a room to its end; `None` where there is no such room.
async fn read(stage: &Stage, reader: &mut Asker, mut log: Log) -> Option<Log> {
    let mut after = "start".to_owned();
    loop {
        let path = format!("/v1/rooms/{}/events?limit=100&after={after}", log.room);
        let page = reader.http.get(&path).await;
        if page.status == 404 {
            return None;
        }
        let page = page.ok();
        for record in page["records"].as_array().into_iter().flatten() {
            log.shown.push(stage.texts.shown(record.clone()));
            log.records.push(record.clone());
        }
        text(&page, "cursor").clone_into(&mut after);
        if page["complete"] == true {
            return Some(log);
        }
    }
}

/// Everything about rooms that their owners are told.
pub async fn rooms(
    stage: &Arc<Stage>,
    plan: &Plan,
    logs: &[Log],
    recounts: &[Recount],
    books: &BTreeMap<String, Book>,
) -> Verdict {
    let asked = plan.rooms.iter().enumerate().map(|(n, room)| async move {
        let mut verdict = Verdict::default();
        let (log, recount) = (&logs[n], &recounts[n]);
        let mut owner = Asker::new(stage, room.owner).await;
        members(&mut owner, log, recount, &mut verdict).await;
        pins(&mut owner, log, recount, &mut verdict).await;
        receipts(&mut owner, log, recount, books, &mut verdict).await;
        if room.kind != plan::Kind::Direct {
            ending(&mut owner, "bans", log, &recount.bans, &mut verdict).await;
            ending(&mut owner, "mutes", log, &recount.mutes, &mut verdict).await;
        }
        history(stage, room.owner, log, recount, &mut verdict).await;
        verdict
    });
    merged(stream::iter(asked).buffered(AT_ONCE).collect().await)
}

async fn members(owner: &mut Asker, log: &Log, recount: &Recount, verdict: &mut Verdict) {
    let found = owner.all(json!({ "type": "members", "room": log.room }), "members").await;
    let found = found["members"].as_array().into_iter().flatten();
    let found: BTreeMap<&str, (&str, &str)> =
        found.map(|member| (text(member, "user"), (text(member, "role"), text(member, "joined")))).collect();
    let expected = recount.members.iter().map(|(user, member)| (user.as_str(), (&*member.role, &*member.record)));
    verdict.equal("members and roles", &owner.name, &log.room, &expected.collect(), &found);
}

/// Who is banned, or muted, now.
async fn ending(owner: &mut Asker, list: &'static str, log: &Log, counted: &Ends, verdict: &mut Verdict) {
    let before = now_ms();
    let found = owner.all(json!({ "type": list, "room": log.room }), list).await;
    let after = now_ms();
    let found: BTreeMap<&str, Option<i64>> =
        found[list].as_array().into_iter().flatten().map(|one| (text(one, "user"), one["until"].as_i64())).collect();
    // What ends while it is asked may be told or not.
    let certain = |until: Option<i64>| until.is_none_or(|until| until <= before || until > after);
    let expected = counted.iter().filter(|(_, until)| until.is_none_or(|until| until > before) && certain(**until));
    let expected = expected.map(|(user, until)| (user.as_str(), *until)).collect();
    let found = found.into_iter().filter(|(_, until)| certain(*until)).collect();
    verdict.equal::<BTreeMap<_, _>>(list, &owner.name, &log.room, &expected, &found);
}

async fn pins(owner: &mut Asker, log: &Log, recount: &Recount, verdict: &mut Verdict) {
    let (mut command, mut found) = (json!({ "type": "pins", "room": log.room }), Vec::new());
    loop {
        let page = owner.ask(command.clone()).await;
        found.extend(page["pins"].as_array().into_iter().flatten().map(|pin| text(pin, "message").to_owned()));
        if page["before"].is_null() {
            break;
        }
        command["before"] = page["before"].clone();
    }
    let expected: Vec<String> = recount.pins.iter().rev().cloned().collect();
    verdict.equal("pins", &owner.name, &log.room, &expected, &found);
}

async fn receipts(
    owner: &mut Asker,
    log: &Log,
    recount: &Recount,
    books: &BTreeMap<String, Book>,
    verdict: &mut Verdict,
) {
    let every = (recount.messages.len() / READ_MESSAGES).max(1);
    for (id, message) in recount.messages.iter().step_by(every) {
        let found = owner.all(json!({ "type": "readers", "room": log.room, "message": id }), "users").await;
        recount::check_readers(message, &log.room, recount, books, &found, verdict);
    }
}

/// Backwards over a WebSocket: the same records as forwards by requests, and what stands beside them.
async fn history(stage: &Arc<Stage>, owner: usize, log: &Log, recount: &Recount, verdict: &mut Verdict) {
    let (transport, follows) = (Transport::MessagePack, Follows::Rooms(Vec::new()));
    let device = plan::Device { transport, follows, from: "now", presence: None };
    let device = Handle::new(stage, &user(owner), device, &Arc::<std::sync::Mutex<Known>>::default());
    device.order(Order::On);
    let (mut records, mut edited, mut reactions) = (Vec::new(), Vec::new(), Vec::new());
    let mut command = json!({ "type": "history", "room": log.room, "limit": 100 });
    for attempt in 0.. {
        let page = match device.ask(command.clone()).await {
            Answer::Done(page) => page,
            // It is not connected yet.
            Answer::Gone if attempt < 100 => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            other @ (Answer::Refused { .. } | Answer::Gone) => panic!("{command}: {other:?}"),
        };
        let list = |member: &str| page[member].as_array().cloned().unwrap_or_default();
        records.extend(list("records").into_iter().rev());
        edited.extend(list("edited"));
        reactions.extend(list("reactions"));
        if page["before"].is_null() {
            break;
        }
        command["before"] = page["before"].clone();
    }
    records.reverse();
    verdict.holds("history is the log", "", &log.room, records == log.records, || {
        (format!("{} records as by pages", log.records.len()), format!("{} others", records.len()))
    });
    recount::check_beside(&log.room, recount, &edited, &reactions, verdict);
}

/// The lists of all users, and what they hide.
pub async fn inboxes(
    stage: &Stage,
    users: usize,
    logs: &[Log],
    recounts: &[Recount],
    books: &BTreeMap<String, Book>,
) -> Verdict {
    let nothing = Book::default();
    let asked = (0..users).map(|n| {
        let nothing = &nothing;
        async move {
            let mut verdict = Verdict::default();
            let mut asker = Asker::new(stage, n).await;
            let name = asker.name.clone();
            let book = books.get(&name).unwrap_or(nothing);
            let lists = [false, true].map(|archived| json!({ "type": "inbox", "archived": archived }));
            let [shown, put_away] = lists;
            let lists = [asker.ask(shown).await, asker.ask(put_away).await];
            recount::check_inbox(&name, book, &lists, logs, recounts, now_ms(), &mut verdict);
            for (room, expected) in &book.hidden {
                let recount = logs.iter().zip(recounts).find(|(log, _)| log.room == *room).map(|(_, recount)| recount);
                let doubtful = book.entries.get(room).is_some_and(|entry| entry.doubtful);
                if doubtful || recount.is_none_or(|recount| !recount.members.contains_key(&name)) {
                    continue;
                }
                let found = asker.all(json!({ "type": "hidden", "room": room }), "messages").await;
                let found = found["messages"].as_array().into_iter().flatten();
                let found = found.filter_map(|id| Some(id.as_str()?.to_owned())).collect();
                verdict.equal("hidden messages", &name, room, expected, &found);
            }
            verdict
        }
    });
    merged(stream::iter(asked).buffered(AT_ONCE).collect().await)
}

/// Who everybody says to be, as somebody is told who has asked.
pub async fn profiles(stage: &Stage, asker: usize, books: &BTreeMap<String, Book>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut asker = Asker::new(stage, asker).await;
    let books: Vec<_> = books.iter().collect();
    for some in books.chunks(100) {
        let users: Vec<_> = some.iter().map(|(user, _)| user).collect();
        let found = asker.ask(json!({ "type": "users", "users": users })).await;
        for (nth, (user, book)) in some.iter().enumerate() {
            recount::check_profile(user, book, &found["users"][nth], &mut verdict);
        }
    }
    verdict
}

/// Who of each room is there, until that is as it has to be: a while after the last have gone.
pub async fn presences(
    stage: &Stage,
    plan: &Plan,
    recounts: &[Recount],
    there: &BTreeMap<String, &'static str>,
    within: Duration,
) -> Verdict {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        let asked = plan.rooms.iter().enumerate().map(|(n, room)| async move {
            let mut verdict = Verdict::default();
            let mut owner = Asker::new(stage, room.owner).await;
            let found = owner.all(json!({ "type": "presences", "room": stage.rooms[n] }), "users").await;
            recount::check_presences(&stage.rooms[n], &recounts[n], there, &found, &mut verdict);
            verdict
        });
        let verdict = merged(stream::iter(asked).buffered(AT_ONCE).collect().await);
        if verdict.faults.is_empty() || tokio::time::Instant::now() > deadline {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub fn merged(verdicts: Vec<Verdict>) -> Verdict {
    let mut all = Verdict::default();
    for verdict in verdicts {
        for (check, count) in verdict.checks {
            *all.checks.entry(check).or_default() += count;
        }
        all.faults.extend(verdict.faults);
    }
    all
}
