//! Somebody who comes, does what the plan says, and goes: every command is repeated until it is answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::device::{Answer, Handle, Known, Order};
use super::plan::{self, Action, Step};
use super::recount::{number, text};
use super::rest;
use super::stage::{Stage, Tally, now_ms, user};
use super::view::{Acknowledged, Book, Entry};
use crate::support::listeners::Http;

/// For how long a command is repeated that gets no answer: longer than a server takes to start.
const REPEAT_MAX: Duration = Duration::from_secs(60);

/// Before it is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// What the rules may refuse somebody who does not know of everything that the others do.
const EXPECTED: [&str; 21] = [
    "already_member",
    "banned",
    "ends_too_soon",
    "forbidden",
    "kind_forbids",
    "last_owner",
    "message_deleted",
    "message_not_found",
    "muted",
    "no_such_member",
    "not_author",
    "not_member",
    "room_archived",
    "room_full",
    "room_not_found",
    "slow_mode",
    "too_many_edits",
    "too_many_pins",
    "too_many_reactions",
    "user_banned",
    "word_not_allowed",
];

/// What may be asked again as it is.
const AGAIN: [&str; 4] = ["busy", "room_shut", "shutting_down", "unavailable"];

/// What many messages say, and some rooms do not allow for a while.
pub const WORD: &str = "chinwag";

const EMOJIS: [&str; 6] = ["👍", "🎉", "😀", "❤️", "ok", "🫶🏽"];

pub struct Person {
    stage: Arc<Stage>,
    name: String,
    token: String,
    pub devices: Vec<Handle>,
    known: Arc<Mutex<Known>>,
    http: Option<Http>,
    /// By room: the own messages that may still be edited.
    own: HashMap<String, Vec<String>>,
    /// Of which message the own reaction is.
    felt: HashMap<String, (String, &'static str)>,
    said: u64,
    pub book: Book,
}

impl Person {
    pub fn new(stage: &Arc<Stage>, n: usize) -> Self {
        let name = user(n);
        Self {
            token: stage.token(&name),
            stage: Arc::clone(stage),
            name,
            devices: Vec::new(),
            known: Arc::default(),
            http: None,
            own: HashMap::new(),
            felt: HashMap::new(),
            said: 0,
            book: Book::default(),
        }
    }

    /// Plays the person's part of the hour.
    pub async fn live(mut self, plan: plan::Person) -> Self {
        let devices = plan.devices.into_iter().map(|device| Handle::new(&self.stage, &self.name, device, &self.known));
        self.devices = devices.collect();
        for visit in plan.visits {
            self.stage.until(visit.come).await;
            self.devices.iter().for_each(|device| device.order(Order::On));
            for step in visit.steps {
                self.stage.until(step.at).await;
                self.take(step).await;
            }
            if let Some(go) = visit.go {
                self.stage.until(go).await;
                self.devices.iter().for_each(|device| device.order(Order::Off));
                self.http = None;
            }
        }
        self
    }

    /// Asks until there is an answer; `Err` with the code of a refusal. Says whether an attempt went without an answer.
    pub async fn ask(&mut self, command: Value) -> (Result<Value, String>, bool) {
        let class = text(&command, "type").to_owned();
        let (began, mut unanswered) = (Instant::now(), false);
        while began.elapsed() < REPEAT_MAX {
            let asked = Instant::now();
            let answer = self.attempt(&command).await;
            match answer {
                Answer::Done(reply) => {
                    self.stage.tally.answered(&class, asked, None);
                    return (Ok(reply), unanswered);
                }
                Answer::Refused { code, after } if AGAIN.contains(&&*code) => {
                    unanswered = true;
                    self.stage.tally.answered(&class, asked, Some(&code));
                    tokio::time::sleep(after.map_or(PAUSE, Duration::from_millis)).await;
                }
                Answer::Refused { code, .. } => {
                    self.stage.tally.answered(&class, asked, Some(&code));
                    if !EXPECTED.contains(&&*code) {
                        self.stage.tally.fault(format!("{}: {command} is refused with {code}", self.name));
                    }
                    return (Err(code), unanswered);
                }
                Answer::Gone => {
                    unanswered = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Tally::add(&self.stage.tally.repeated);
        }
        self.stage.tally.fault(format!("{}: {command} is never answered", self.name));
        (Err("unanswered".to_owned()), true)
    }

    /// By a device that is there, or by a request.
    async fn attempt(&mut self, command: &Value) -> Answer {
        let on = |device: &&Handle| device.socket && device.view.lock().expect("nobody panics holding this").on;
        if let Some(device) = self.devices.iter().find(on) {
            let answer = device.ask(command.clone()).await;
            if !matches!(answer, Answer::Gone) {
                return answer;
            }
        }
        if self.http.is_none() {
            self.http = Http::connect(self.stage.address(), &self.token).await.ok();
        }
        let Some(http) = &mut self.http else { return Answer::Gone };
        let asked = tokio::time::timeout(Duration::from_secs(20), rest::ask(http, command)).await;
        let answer = asked.unwrap_or(Answer::Gone);
        if matches!(answer, Answer::Gone) {
            self.http = None;
        }
        answer
    }

    async fn take(&mut self, step: Step) {
        let room = self.stage.rooms[step.room].clone();
        let draw = step.draw;
        match step.action {
            Action::Post | Action::Reply | Action::Mention | Action::LongPost => {
                self.post(&room, step.action, draw).await;
            }
            Action::Forward => self.forward(&room, draw).await,
            Action::Edit => self.edit(&room, draw).await,
            Action::Delete => self.delete(&room, draw).await,
            Action::React | Action::Unreact => self.react(&room, step.action, draw).await,
            Action::Pin | Action::Unpin => {
                let Some((message, _)) = self.message(&room, draw) else { return };
                let kind = if step.action == Action::Pin { "pin" } else { "unpin" };
                let _ = self.ask(json!({ "type": kind, "room": room, "message": message })).await;
            }
            Action::Typing => {
                let _ = self.ask(json!({ "type": "typing", "room": room, "typing": !draw.is_multiple_of(4) })).await;
            }
            Action::Read | Action::Delivered => {
                let head = self.known(&room, |known| known.head);
                let at = head - draw % (head / 4 + 1);
                let member = if step.action == Action::Read { "read_to" } else { "delivered_to" };
                self.mark(&room, json!({ member: at })).await;
            }
            Action::Draft => {
                let draft = if draw.is_multiple_of(3) { Value::Null } else { json!(format!("what {draw} was")) };
                self.mark(&room, json!({ "draft": draft })).await;
            }
            Action::Quiet => {
                let until = if draw.is_multiple_of(3) { Value::Null } else { json!(now_ms() + 3_600_000) };
                self.mark(&room, json!({ "muted_until": until })).await;
            }
            Action::PutAway => self.mark(&room, json!({ "archived": !draw.is_multiple_of(3) })).await,
            Action::PinRoom => self.mark(&room, json!({ "pinned": !draw.is_multiple_of(3) })).await,
            Action::Hide | Action::Unhide => self.hide(&room, step.action == Action::Hide, draw).await,
            Action::Private => {
                let private = !draw.is_multiple_of(3);
                let (answer, _) = self.ask(json!({ "type": "settings_update", "private_reading": private })).await;
                if answer.is_ok() {
                    self.book.private = private;
                }
            }
            Action::Invisible => {
                let invisible = draw.is_multiple_of(3);
                let (answer, _) = self.ask(json!({ "type": "settings_update", "invisible": invisible })).await;
                if answer.is_ok() {
                    self.book.invisible = invisible;
                }
            }
            Action::Profile => {
                let name = (!draw.is_multiple_of(5)).then(|| format!("{} the {draw}th", self.name));
                let (answer, _) = self.ask(json!({ "type": "profile_update", "name": name })).await;
                if answer.is_ok() {
                    self.book.name = name;
                }
            }
            Action::Presence => {
                let word = ["online", "away", "offline"][plan::index(draw % 3)];
                let sockets = self.devices.iter().filter(|device| device.socket).count();
                if let Some(nth) = plan::index(draw / 3).checked_rem(sockets) {
                    let device = self.devices.iter().filter(|device| device.socket).nth(nth);
                    device.expect("there are so many").order(Order::Presence(word));
                }
            }
            Action::Look => {
                let _ = self.ask(json!({ "type": "inbox", "archived": false })).await;
            }
            Action::Join | Action::Leave => {
                let kind = if step.action == Action::Join { "join" } else { "leave" };
                let _ = self.ask(json!({ "type": kind, "room": room })).await;
            }
            Action::Reconnect => {
                let nth = plan::index(draw) % self.devices.len();
                self.devices[nth].order(Order::Break);
            }
            Action::SlowMode => {
                let ms = [0, 300, 800][plan::index(draw % 3)];
                let _ = self.ask(json!({ "type": "update", "room": room, "slow_mode_ms": ms })).await;
            }
            Action::Rules => {
                let words = if draw.is_multiple_of(3) { json!([WORD]) } else { json!([]) };
                let _ = self.ask(json!({ "type": "rules_update", "room": room, "words": words })).await;
            }
            Action::Invite
            | Action::Kick
            | Action::Ban
            | Action::Unban
            | Action::Mute
            | Action::Unmute
            | Action::Role
            | Action::Rights => self.moderate(&room, step.action, draw).await,
        }
    }

    /// The text of the next message; nobody else says the same.
    fn text(&mut self, long: bool) -> (String, String) {
        self.said += 1;
        let client_id = format!("{}:{}", self.name, self.said);
        let tail = if long {
            "Grüße, плюс 多, ".repeat(30)
        } else {
            format!("{WORD} ").repeat(plan::index(self.said % 5))
        };
        let text = format!("{client_id} {tail}");
        (client_id, text)
    }

    async fn post(&mut self, room: &str, action: Action, draw: u64) {
        let (client_id, text) = self.text(action == Action::LongPost);
        let content = json!({ "text": text, "mood": draw % 7 });
        let mut command = json!({ "type": "post", "room": room, "content": content, "client_id": client_id });
        match action {
            Action::Reply => {
                let Some((message, _)) = self.message(room, draw) else { return };
                command["reply_to"] = json!(message);
            }
            Action::Mention => {
                let Some(member) = self.member(room, draw) else { return };
                command["mentions"] = json!([member]);
            }
            _ => {}
        }
        if let Some(record) = self.publish(room, command, client_id, "message_posted", Some(text)).await {
            self.own.entry(room.to_owned()).or_default().push(record);
        }
    }

    async fn forward(&mut self, room: &str, draw: u64) {
        let Some((message, _)) = self.message(room, draw) else { return };
        let (client_id, _) = self.text(false);
        let forward = json!({ "room": room, "message": message });
        let command = json!({ "type": "post", "room": room, "forward": forward, "client_id": client_id });
        // What is forwarded is not this person's to know: its own words are looked at in the record of the other.
        let (answer, _) = self.ask(command).await;
        if let Ok(reply) = answer {
            let known = json!({ "room": room, "record": reply["record"] });
            self.own.entry(room.to_owned()).or_default().push(text(&known, "record").to_owned());
        }
    }

    async fn edit(&mut self, room: &str, draw: u64) {
        let Some(message) = self.own_message(room, draw) else { return };
        let (client_id, text) = self.text(draw.is_multiple_of(9));
        let mentions: Vec<String> = self.member(room, draw).filter(|_| draw.is_multiple_of(4)).into_iter().collect();
        let command = json!({ "type": "edit", "room": room, "message": message, "content": { "text": text },
            "mentions": mentions, "client_id": client_id });
        self.publish(room, command, client_id, "message_edited", Some(text)).await;
    }

    /// Mostly an own message; of others only who moderates may.
    async fn delete(&mut self, room: &str, draw: u64) {
        let own = self.own_message(room, draw);
        let other = || self.message(room, draw).map(|(message, _)| message);
        let message = if draw.is_multiple_of(5) { other() } else { own };
        let Some(message) = message else { return };
        let (client_id, _) = self.text(false);
        let command = json!({ "type": "delete", "room": room, "message": message, "client_id": client_id });
        self.publish(room, command, client_id, "message_deleted", None).await;
        if let Some(own) = self.own.get_mut(room) {
            own.retain(|own| *own != message);
        }
    }

    /// Asks for something with a client id, and notes what was acknowledged. Returns the record's id.
    async fn publish(
        &mut self,
        room: &str,
        command: Value,
        client_id: String,
        event: &'static str,
        said: Option<String>,
    ) -> Option<String> {
        let (answer, _) = self.ask(command).await;
        let reply = answer.ok()?;
        let record = text(&reply, "record").to_owned();
        let (room, seq) = (room.to_owned(), number(&reply, "seq"));
        let done = Acknowledged { room, client_id, seq, record: record.clone(), event, text: said };
        self.book.acknowledged.push(done);
        Some(record)
    }

    async fn react(&mut self, room: &str, action: Action, draw: u64) {
        if action == Action::React {
            let Some((message, _)) = self.message(room, draw) else { return };
            let emoji = EMOJIS[plan::index(draw) % EMOJIS.len()];
            let command = json!({ "type": "react", "room": room, "message": message, "emoji": emoji });
            if self.ask(command).await.0.is_ok() {
                self.felt.insert(room.to_owned(), (message, emoji));
            }
        } else if let Some((message, emoji)) = self.felt.remove(room) {
            let _ = self.ask(json!({ "type": "unreact", "room": room, "message": message, "emoji": emoji })).await;
        }
    }

    /// Changes what the room is to this person.
    async fn mark(&mut self, room: &str, change: Value) {
        let mut command = json!({ "type": "inbox_update", "room": room });
        for (name, value) in change.as_object().expect("a change is an object") {
            command[name] = value.clone();
        }
        let (answer, unanswered) = self.ask(command).await;
        let Book { private, invisible, .. } = self.book;
        let entry = self.book.entries.entry(room.to_owned()).or_default();
        match answer {
            Ok(_) => entry.mark(&change, private, invisible),
            Err(_) => entry.doubtful |= unanswered,
        }
    }

    async fn hide(&mut self, room: &str, hide: bool, draw: u64) {
        let hidden = self.book.hidden.get(room).and_then(|hidden| hidden.first().cloned());
        let message = if hide { self.message(room, draw).map(|(message, _)| message) } else { hidden };
        let Some(message) = message else { return };
        let kind = if hide { "hide" } else { "unhide" };
        let (answer, unanswered) = self.ask(json!({ "type": kind, "room": room, "message": message })).await;
        let hidden = self.book.hidden.entry(room.to_owned()).or_default();
        match answer {
            Ok(_) if hide => drop(hidden.insert(message)),
            Ok(_) => drop(hidden.remove(&message)),
            Err(_) => self.book.entries.entry(room.to_owned()).or_default().doubtful |= unanswered,
        }
    }

    async fn moderate(&mut self, room: &str, action: Action, draw: u64) {
        let Some(member) = self.member(room, draw) else { return };
        let until = if draw.is_multiple_of(3) { Value::Null } else { json!(now_ms() + 3_000) };
        let (kind, more) = match action {
            Action::Kick => ("kick", json!({ "reason": "spam" })),
            Action::Ban if until.is_null() => ("ban", json!({})),
            Action::Ban => ("ban", json!({ "until": until })),
            Action::Mute if until.is_null() => ("mute", json!({})),
            Action::Mute => ("mute", json!({ "until": until })),
            Action::Unban => ("unban", json!({})),
            Action::Unmute => ("unmute", json!({})),
            Action::Role => {
                let role = ["guest", "member", "admin"][plan::index(draw % 3)];
                ("role", json!({ "role": role }))
            }
            Action::Rights if draw.is_multiple_of(3) => ("rights", json!({ "deny": ["post"] })),
            Action::Rights => ("rights", json!({})),
            _ => ("invite", json!({ "role": "member" })),
        };
        let mut command = json!({ "type": kind, "room": room, "user": member });
        for (name, value) in more.as_object().expect("it is an object") {
            command[name] = value.clone();
        }
        let _ = self.ask(command).await;
    }

    fn known<T>(&self, room: &str, look: impl FnOnce(&super::device::KnownRoom) -> T) -> T {
        let mut known = self.known.lock().expect("nobody panics holding this");
        look(known.rooms.entry(room.to_owned()).or_default())
    }

    /// One of the latest messages that this person knows of, and its author.
    fn message(&self, room: &str, draw: u64) -> Option<(String, String)> {
        self.known(room, |known| {
            let nth = plan::index(draw).checked_rem(known.messages.len())?;
            known.messages.get(nth).cloned()
        })
    }

    fn own_message(&self, room: &str, draw: u64) -> Option<String> {
        let own = self.own.get(room)?;
        own.get(plan::index(draw).checked_rem(own.len())?).cloned()
    }

    /// Somebody who has joined a room as far as this person knows; perhaps the person itself.
    fn member(&self, room: &str, draw: u64) -> Option<String> {
        self.known(room, |known| {
            let nth = plan::index(draw).checked_rem(known.members.len())?;
            known.members.iter().nth(nth).cloned()
        })
    }
}

impl Entry {
    /// What follows from a change that was acknowledged.
    fn mark(&mut self, change: &Value, private: bool, invisible: bool) {
        let before = self.clone();
        let reached = |member: &str| change[member].as_u64().unwrap_or(0);
        self.read_to = self.read_to.max(reached("read_to"));
        self.delivered_to = self.delivered_to.max(reached("delivered_to")).max(self.read_to);
        if let Some(until) = change.get("muted_until") {
            self.muted_until = until.as_i64();
        }
        if let Some(pinned) = change["pinned"].as_bool() {
            self.pinned = pinned;
        }
        if let Some(archived) = change["archived"].as_bool() {
            self.archived = archived;
        }
        if let Some(draft) = change.get("draft") {
            self.draft = draft.as_str().map(str::to_owned);
        }
        // Where nothing changes nothing is told.
        if *self != before && !invisible {
            self.known_to = self.delivered_to;
            if !private {
                self.shown_to = self.read_to;
            }
        }
    }
}
