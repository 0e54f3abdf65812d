//! The log of a room, counted again by hand: who was in it, what its messages say, what of them is unread for whom. And
//! what everybody was shown and told, held against that.
//!
//! Shares no rule with the server: what it has in one pass over positions is done here naively, record by record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::person::WORD;
use super::view::{Acknowledged, Begun, Book, Entry, Shown, Stretch, View};

/// Among so many latest records of a room unread messages are counted, says the protocol.
const REACH: u64 = 2_000;

/// How much of its last message a list of rooms shows.
const PREVIEW_BYTES: usize = 256;

/// A room's log as its owner has read it by pages.
pub struct Log {
    pub room: String,
    pub kind: String,
    /// So many records at its beginning are from before the owner had joined, and not shown in such a room.
    pub hidden: u64,
    pub records: Vec<Value>,
    pub shown: Vec<Shown>,
}

impl Log {
    /// Where the record of this seq is, if there is one.
    fn index(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.hidden + 1)?).ok()
    }
}

/// What was expected and not found.
#[derive(Debug)]
pub struct Fault {
    pub check: &'static str,
    pub user: String,
    pub room: String,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, user, room, expected, found } = self;
        write!(f, "{check}: user={user} room={room}\n      expected: {expected}\n      found:    {found}")
    }
}

/// How often was looked at what, and what was not as it has to be.
#[derive(Default, Debug)]
pub struct Verdict {
    pub checks: BTreeMap<&'static str, u64>,
    pub faults: Vec<Fault>,
}

impl Verdict {
    pub fn equal<T: PartialEq + fmt::Debug>(
        &mut self,
        check: &'static str,
        user: &str,
        room: &str,
        expected: &T,
        found: &T,
    ) {
        self.holds(check, user, room, expected == found, || (format!("{expected:?}"), format!("{found:?}")));
    }

    pub fn holds(
        &mut self,
        check: &'static str,
        user: &str,
        room: &str,
        holds: bool,
        explained: impl FnOnce() -> (String, String),
    ) {
        *self.checks.entry(check).or_default() += 1;
        if !holds {
            let (expected, found) = explained();
            self.faults.push(Fault { check, user: user.to_owned(), room: room.to_owned(), expected, found });
        }
    }
}

/// When something ends by itself, by the user that it is about; `None` for good.
pub type Ends = BTreeMap<String, Option<i64>>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub role: String,
    pub joined: u64,
    pub record: String,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub seq: u64,
    pub at: i64,
    pub author: String,
    pub content: Value,
    pub mentions: BTreeSet<String>,
    /// The seq of its last edit.
    pub edited: Option<u64>,
    /// Who feels what.
    pub reactions: BTreeMap<String, BTreeSet<String>>,
}

/// What a room's log comes to.
#[derive(Default)]
pub struct Recount {
    pub head: u64,
    pub kind: String,
    pub members: BTreeMap<String, Member>,
    /// When each user came in, and went: the seqs of these records.
    pub stays: BTreeMap<String, Vec<(u64, Option<u64>)>>,
    /// Those that are there, by their ids.
    pub messages: BTreeMap<String, Message>,
    /// In the order in which they were pinned.
    pub pins: Vec<String>,
    pub bans: Ends,
    pub mutes: Ends,
    /// To whom it was denied to post.
    denied: BTreeSet<String>,
    /// Members see nothing from before they joined.
    pub from_join: bool,
    /// Whether the word that everybody says is not allowed.
    ruled: bool,
    slow_mode_ms: i64,
    spoken: BTreeMap<String, i64>,
    client_ids: BTreeSet<(String, String)>,
    erased: BTreeSet<u64>,
}

impl Recount {
    /// Reads a log record by record; what may not be in it is a fault.
    pub fn of(log: &Log, verdict: &mut Verdict) -> Self {
        let mut recount = Self { kind: log.kind.clone(), ..Self::default() };
        for (before, record) in log.records.iter().enumerate() {
            let author = text(record, "author");
            verdict.equal(
                "places in the log",
                author,
                &log.room,
                &(log.hidden + before as u64 + 1),
                &number(record, "seq"),
            );
            if let Some(client_id) = record["client_id"].as_str() {
                let new = recount.client_ids.insert((author.to_owned(), client_id.to_owned()));
                verdict.holds("said once", author, &log.room, new, || {
                    ("one record".to_owned(), format!("another: {record}"))
                });
            }
            recount.apply(&log.room, record, verdict);
        }
        recount.head = log.hidden + log.records.len() as u64;
        recount
    }

    fn apply(&mut self, room: &str, record: &Value, verdict: &mut Verdict) {
        let (seq, at, author) = (number(record, "seq"), record["at"].as_i64().unwrap_or(0), text(record, "author"));
        let (user, message) = (text(record, "user").to_owned(), text(record, "message").to_owned());
        let until = record["until"].as_i64();
        match text(record, "event") {
            "room_updated" => {
                self.from_join = record["history"] == "join";
                self.slow_mode_ms = record["slow_mode_ms"].as_i64().unwrap_or(0);
                if self.slow_mode_ms == 0 {
                    self.spoken.clear();
                }
            }
            "member_joined" => {
                let barred = self.bans.get(&user).is_some_and(|until| until.is_none_or(|until| until > at));
                verdict.holds("nobody banned comes in", &user, room, !barred, || {
                    ("banned".to_owned(), record.to_string())
                });
                let (role, id) = (text(record, "role").to_owned(), text(record, "id").to_owned());
                self.stays.entry(user.clone()).or_default().push((seq, None));
                self.members.insert(user, Member { role, joined: seq, record: id });
            }
            "member_left" | "member_kicked" => self.goes(room, &user, seq, record, verdict),
            "member_banned" => {
                if self.members.contains_key(&user) {
                    self.goes(room, &user, seq, record, verdict);
                }
                self.bans.insert(user, until);
            }
            "member_unbanned" => drop(self.bans.remove(&user)),
            "member_muted" => drop(self.mutes.insert(user, until)),
            "member_unmuted" => drop(self.mutes.remove(&user)),
            "rights_changed" => {
                if names(&record["deny"]).contains("post") {
                    self.denied.insert(user);
                } else {
                    self.denied.remove(&user);
                }
            }
            "rules_changed" => self.ruled = number(record, "words") > 0,
            "role_changed" => {
                if let Some(member) = self.members.get_mut(&user) {
                    text(record, "role").clone_into(&mut member.role);
                }
            }
            "message_posted" => {
                self.may_speak(room, author, at, record, verdict);
                self.may_be_said(room, author, record, verdict);
                if self.slow_mode_ms > 0 {
                    self.spoken.insert(author.to_owned(), at);
                }
                let said = Message {
                    seq,
                    at,
                    author: author.to_owned(),
                    content: record["content"].clone(),
                    mentions: names(&record["mentions"]),
                    edited: None,
                    reactions: BTreeMap::new(),
                };
                self.messages.insert(text(record, "id").to_owned(), said);
            }
            "message_edited" => {
                let whose = self.messages.get(&message).map(|message| message.author.as_str());
                verdict.equal("authors edit", author, room, &Some(author), &whose);
                self.may_be_said(room, author, record, verdict);
                if let Some(said) = self.messages.get_mut(&message) {
                    said.content = record["content"].clone();
                    said.mentions = names(&record["mentions"]);
                    said.edited = Some(seq);
                }
            }
            "message_erased" => drop(self.erased.insert(seq)),
            "message_deleted" => {
                // What was deleted is gone from the log that was read after that.
                let there = self.messages.remove(&message);
                verdict.holds("the deleted is gone", author, room, there.is_none(), || {
                    ("nothing".to_owned(), format!("{there:?}"))
                });
                self.pins.retain(|pinned| *pinned != message);
            }
            "reaction_added" | "reaction_removed" => self.feels(room, record, verdict),
            "message_pinned" => self.pins.push(message),
            "message_unpinned" => self.pins.retain(|pinned| *pinned != message),
            _ => {}
        }
    }

    fn goes(&mut self, room: &str, user: &str, seq: u64, record: &Value, verdict: &mut Verdict) {
        let joined = self.members.remove(user).map(|member| member.record);
        verdict.equal("removals name a membership", user, room, &joined.as_deref(), &record["joined"].as_str());
        if let Some((_, gone)) = self.stays.get_mut(user).and_then(|stays| stays.last_mut()) {
            *gone = Some(seq);
        }
    }

    fn may_speak(&self, room: &str, author: &str, at: i64, record: &Value, verdict: &mut Verdict) {
        let muted = self.mutes.get(author).is_some_and(|until| until.is_none_or(|until| until > at));
        let member = self.members.get(author);
        let waits = member.is_none_or(|member| !matches!(&*member.role, "admin" | "owner"));
        let due =
            self.spoken.get(author).filter(|_| waits && self.slow_mode_ms > 0).map(|last| last + self.slow_mode_ms);
        let denied = self.denied.contains(author);
        let may = member.is_some() && !muted && !denied && due.is_none_or(|due| due <= at);
        let why = || {
            let found =
                format!("{record}, a member: {}, muted: {muted}, denied: {denied}, due: {due:?}", member.is_some());
            ("a member who may post and is neither muted nor to wait".to_owned(), found)
        };
        verdict.holds("who speaks may", author, room, may, why);
    }

    /// Admins and owners say what they want.
    fn may_be_said(&self, room: &str, author: &str, record: &Value, verdict: &mut Verdict) {
        let exempt = self.members.get(author).is_some_and(|member| matches!(&*member.role, "admin" | "owner"));
        let said = record["content"]["text"].as_str().is_some_and(|text| text.split(' ').any(|word| word == WORD));
        let allowed = exempt || !self.ruled || !said;
        verdict.holds("rules about words", author, room, allowed, || (format!("without {WORD}"), record.to_string()));
    }

    fn feels(&mut self, room: &str, record: &Value, verdict: &mut Verdict) {
        let (author, emoji) = (text(record, "author"), text(record, "emoji"));
        // Of a message that has been deleted since, the log tells nothing any more.
        let Some(message) = self.messages.get_mut(text(record, "message")) else { return };
        let users = message.reactions.entry(emoji.to_owned()).or_default();
        if record["event"] == "reaction_added" {
            users.insert(author.to_owned());
        } else {
            users.remove(author);
        }
        verdict.equal("reactions in records", author, room, &(users.len() as u64), &number(record, "count"));
        message.reactions.retain(|_, users| !users.is_empty());
    }

    /// What `user`, with this entry, has not read: messages, mentions, and whether there may be others.
    pub fn unread(&self, user: &str, entry: &Entry) -> (u64, u64, bool) {
        let Some(member) = self.members.get(user) else { return (0, 0, false) };
        let (begin, floor) = (self.head.saturating_sub(REACH), entry.read_to.max(member.joined));
        let unread = self.messages.values().filter(|said| said.author != user && said.seq > floor.max(begin));
        let mentions = unread.clone().filter(|said| said.mentions.contains(user)).count();
        (unread.count() as u64, mentions as u64, floor < begin)
    }

    /// The last message that is there, as a list of rooms shows it to a member who does not hide it.
    pub fn last(&self, member: &Member, hidden: &BTreeSet<String>) -> Value {
        let last = self.messages.iter().max_by_key(|(_, said)| said.seq);
        let floor = if self.from_join { member.joined } else { 0 };
        let shown = |id: &String, said: &Message| !hidden.contains(id) && said.seq > floor;
        let Some((id, said)) = last.filter(|(id, said)| shown(id, said) && said.seq > self.head.saturating_sub(REACH))
        else {
            return Value::Null;
        };
        let text = said.content["text"].as_str().map(|text| &text[..text.floor_char_boundary(PREVIEW_BYTES)]);
        serde_json::json!({ "id": id, "seq": said.seq, "at": said.at, "author": said.author, "text": text })
    }
}

/// What one device was shown of all rooms.
pub fn check_view(user: &str, view: &View, logs: &[Log], recounts: &[Recount], verdict: &mut Verdict) {
    for (log, recount) in logs.iter().zip(recounts) {
        let stays = recount.stays.get(user).map_or(&[][..], Vec::as_slice);
        let stretches = view.rooms.get(&log.room).map_or(&[][..], Vec::as_slice);
        for stretch in stretches {
            check_texts(user, stretch, log, verdict);
        }
        if view.world {
            let nothing = Stretch { begun: Begun::Between(0, 0), head: None, shown: Vec::new() };
            check_world(user, view, stretches.first().unwrap_or(&nothing), stays, log, recount, verdict);
        } else {
            check_follows(user, view, stretches, stays, log, recount, verdict);
        }
    }
    for room in view.rooms.keys() {
        verdict.holds("rooms of a device", user, room, logs.iter().any(|log| log.room == *room), || {
            ("a room of the plan".to_owned(), room.clone())
        });
    }
}

/// Each record as it is in the log, or was before it was erased.
fn check_texts(user: &str, stretch: &Stretch, log: &Log, verdict: &mut Verdict) {
    for shown in &stretch.shown {
        let there = log.index(shown.seq);
        let same = there.and_then(|at| log.shown.get(at).zip(log.records.get(at)));
        let same = same.is_some_and(|(there, record)| there.text == shown.text || was(&shown.text, record));
        verdict.holds("records shown", user, &log.room, same, || {
            let there = there.and_then(|at| log.shown.get(at));
            (there.map_or("no such record".to_owned(), |there| there.text.to_string()), shown.text.to_string())
        });
    }
}

/// Whether `record` is what was left when this was erased.
fn was(shown: &str, record: &Value) -> bool {
    let Ok(shown) = serde_json::from_str::<Value>(shown) else { return false };
    let said = matches!(shown["event"].as_str(), Some("message_posted" | "message_edited"));
    let same = |member: &str| shown[member] == record[member];
    record["event"] == "message_erased"
        && said
        && ["room", "seq", "id", "num", "at", "author", "cursor"].into_iter().all(same)
}

pub const ORDER: &str = "order, without a gap or a repetition";
pub const BARRIER: &str = "nothing behind a removal";
pub const FROM_JOIN: &str = "nothing from before the joining, and that is told";
pub const COMPLETE: &str = "everything up to the end";

/// A stay at a time: from the record by which the user came in, without a gap, to its end, or the record of going at most.
fn check_world(
    user: &str,
    view: &View,
    whole: &Stretch,
    stays: &[(u64, Option<u64>)],
    log: &Log,
    recount: &Recount,
    verdict: &mut Verdict,
) {
    let Begun::Between(first, last) = whole.begun else { return };
    let (mut expected, mut latest): (Option<u64>, _) = (None, 0);
    let mut stay = None;
    for shown in &whole.shown {
        let of = stays.iter().find(|(came, gone)| *came <= shown.seq && gone.is_none_or(|gone| shown.seq <= gone));
        verdict.holds(BARRIER, user, &log.room, of.is_some(), || (format!("within {stays:?}"), shown.text.to_string()));
        let Some(of) = of else { continue };
        if stay != Some(of) {
            let fits =
                if stay.is_none() { (of.0.max(first + 1), of.0.max(last.saturating_add(1))) } else { (of.0, of.0) };
            let begins = fits.0 <= shown.seq && shown.seq <= fits.1 && shown.seq > latest;
            verdict.holds(ORDER, user, &log.room, begins, || (format!("to begin at {fits:?}"), shown.text.to_string()));
            stay = Some(of);
        } else {
            verdict.equal(ORDER, user, &log.room, &expected, &Some(shown.seq));
        }
        latest = shown.seq;
        expected = Some(shown.seq + 1);
    }
    if let Some((came, None)) = stays.last()
        && view.on
    {
        let nothing_yet = recount.head <= last && whole.shown.is_empty();
        let complete = nothing_yet || (latest == recount.head && latest >= *came);
        verdict.holds(COMPLETE, user, &log.room, complete, || (recount.head.to_string(), latest.to_string()));
    }
    for (_, from, to) in view.gaps.iter().filter(|(room, ..)| *room == log.room) {
        let told = whole.shown.iter().any(|shown| *from <= shown.seq && shown.seq <= *to);
        let before = stays.iter().any(|(came, _)| *came == to + 1);
        verdict.holds("gaps are of another time", user, &log.room, before && !told && from <= to, || {
            (format!("before one of {stays:?}, and not shown"), format!("{from} to {to}"))
        });
    }
}

/// Each follow begins where it was asked for, and ends with the stay in which it was.
fn check_follows(
    user: &str,
    view: &View,
    stretches: &[Stretch],
    stays: &[(u64, Option<u64>)],
    log: &Log,
    recount: &Recount,
    verdict: &mut Verdict,
) {
    let mut latest = None;
    for stretch in stretches {
        let (Begun::At(begun), Some(head)) = (stretch.begun, stretch.head) else { continue };
        verdict.holds(ORDER, user, &log.room, latest.is_none_or(|latest| begun <= latest), || {
            (format!("to go on behind {latest:?} at most"), begun.to_string())
        });
        let stay = stays.iter().rev().find(|(came, _)| *came <= head);
        let hidden = stay.filter(|_| recount.from_join).map_or(0, |(came, _)| came - 1);
        let told = hidden <= begun || view.gaps.contains(&(log.room.clone(), begun + 1, hidden));
        let first = stretch.shown.first().map_or(u64::MAX, |shown| shown.seq);
        verdict.holds(FROM_JOIN, user, &log.room, told && first > hidden, || {
            (format!("a gap up to {hidden}, and nothing of it"), format!("{first}, and {:?}", view.gaps))
        });
        let mut last = begun.max(hidden);
        for shown in &stretch.shown {
            verdict.equal(ORDER, user, &log.room, &(last + 1), &shown.seq);
            last = shown.seq;
        }
        let within = stretch.shown.is_empty() || stay.is_some_and(|(_, gone)| gone.is_none_or(|gone| last <= gone));
        verdict.holds(BARRIER, user, &log.room, within, || (format!("up to the end of {stay:?}"), last.to_string()));
        latest = latest.max(Some(last));
    }
    let followed = stretches.last().is_some();
    if let Some((_, None)) = stays.last()
        && view.on
        && followed
    {
        verdict.equal(COMPLETE, user, &log.room, &Some(recount.head), &latest);
    }
}

/// What was acknowledged is there, at its place, as it was said.
pub fn check_acknowledged(user: &str, done: &[Acknowledged], logs: &BTreeMap<&str, &Log>, verdict: &mut Verdict) {
    for done in done {
        let log = logs.get(done.room.as_str());
        let record = log.and_then(|log| log.records.get(log.index(done.seq)?));
        let there = record.is_some_and(|record| {
            let event = text(record, "event");
            let whole = event == done.event && done.text.as_deref() == record["content"]["text"].as_str();
            let erased = event == "message_erased" && done.event != "message_deleted";
            (whole || erased)
                && text(record, "id") == done.record
                && text(record, "client_id") == done.client_id
                && text(record, "author") == user
        });
        verdict
            .holds("what was acknowledged", user, &done.room, there, || (format!("{done:?}"), format!("{record:?}")));
    }
}

/// A user's list of rooms: `pages` has those that are not put away and those that are.
pub fn check_inbox(
    user: &str,
    book: &Book,
    lists: &[Value; 2],
    logs: &[Log],
    recounts: &[Recount],
    now: i64,
    verdict: &mut Verdict,
) {
    let empty = (Entry::default(), BTreeSet::new());
    let (mut unread_sum, mut mentions_sum, mut doubtful) = (0, 0, false);
    let mut expected_rooms = [BTreeSet::new(), BTreeSet::new()];
    for (log, recount) in logs.iter().zip(recounts) {
        let Some(member) = recount.members.get(user) else { continue };
        let entry = book.entries.get(&log.room).unwrap_or(&empty.0);
        if entry.doubtful {
            doubtful = true;
            continue;
        }
        expected_rooms[usize::from(entry.archived)].insert(log.room.as_str());
        let (unread, mentions, more) = recount.unread(user, entry);
        if !entry.archived && entry.muted_until.is_none_or(|until| until <= now) {
            (unread_sum, mentions_sum) = (unread_sum + unread, mentions_sum + mentions);
        }
        let listed = lists[usize::from(entry.archived)]["rooms"].as_array();
        let Some(found) = listed.and_then(|rooms| rooms.iter().find(|found| found["room"] == *log.room)) else {
            continue;
        };
        let counted = (number(found, "unread"), number(found, "mentions"), found["more_unread"] == true);
        verdict.equal("unread", user, &log.room, &(unread, mentions, more), &counted);
        let hidden = book.hidden.get(&log.room).unwrap_or(&empty.1);
        verdict.equal("last messages", user, &log.room, &recount.last(member, hidden), &found["last"]);
        verdict.equal("entries", user, &log.room, &entry_told(entry), &entry_found(found));
        let what = (recount.head, member.role.as_str(), recount.kind.as_str());
        verdict.equal(
            "rooms in lists",
            user,
            &log.room,
            &what,
            &(number(found, "head"), text(found, "role"), text(found, "kind")),
        );
    }
    if doubtful {
        return;
    }
    for (list, expected) in lists.iter().zip(&expected_rooms) {
        let rooms: BTreeSet<&str> =
            list["rooms"].as_array().into_iter().flatten().map(|room| text(room, "room")).collect();
        verdict.equal("lists of rooms", user, "", expected, &rooms);
        let sums = (number(list, "unread"), number(list, "mentions"));
        verdict.equal("sums of unread", user, "", &(unread_sum, mentions_sum), &sums);
    }
}

type Told<'a> = (u64, u64, Option<i64>, bool, bool, Option<&'a str>);

fn entry_told(entry: &Entry) -> Told<'_> {
    let Entry { delivered_to, read_to, muted_until, pinned, archived, draft, .. } = entry;
    (*delivered_to, *read_to, *muted_until, *pinned, *archived, draft.as_deref())
}

fn entry_found(found: &Value) -> Told<'_> {
    let flag = |member: &str| found[member] == true;
    let (delivered_to, read_to) = (number(found, "delivered_to"), number(found, "read_to"));
    (delivered_to, read_to, found["muted_until"].as_i64(), flag("pinned"), flag("archived"), found["draft"].as_str())
}

/// Who has read one message, as all pages of `readers` say: the counts of the first and the users of all.
pub fn check_readers(
    message: &Message,
    room: &str,
    recount: &Recount,
    books: &BTreeMap<String, Book>,
    found: &Value,
    verdict: &mut Verdict,
) {
    let entry = |user: &str| books.get(user).and_then(|book| book.entries.get(room)).cloned().unwrap_or_default();
    let others: Vec<(&str, Entry)> = recount
        .members
        .keys()
        .filter(|user| **user != message.author)
        .map(|user| (user.as_str(), entry(user)))
        .collect();
    if others.iter().any(|(_, entry)| entry.doubtful) {
        return;
    }
    let count = |has: &dyn Fn(&Entry) -> bool| others.iter().filter(|(_, entry)| has(entry)).count() as u64;
    let expected = (
        others.len() as u64,
        count(&|entry| entry.known_to >= message.seq),
        count(&|entry| entry.shown_to >= message.seq),
    );
    let counts = (number(found, "members"), number(found, "delivered"), number(found, "read"));
    verdict.equal("receipts counted", &message.author, room, &expected, &counts);
    let users = found["users"].as_array().map_or(&[][..], Vec::as_slice);
    let users: BTreeMap<&str, (u64, u64)> = users
        .iter()
        .map(|user| (text(user, "user"), (number(user, "delivered_to"), number(user, "read_to"))))
        .collect();
    for (user, entry) in &others {
        let told = users.get(user).copied();
        verdict.equal("receipts", user, room, &Some((entry.known_to, entry.shown_to)), &told);
    }
}

/// Who of a room is there, as all pages of `presences` say.
pub fn check_presences(
    room: &str,
    recount: &Recount,
    there: &BTreeMap<String, &'static str>,
    found: &Value,
    verdict: &mut Verdict,
) {
    let of = |user: &str| there.get(user).copied().unwrap_or("offline");
    let count = |word: &str| recount.members.keys().filter(|user| of(user) == word).count() as u64;
    let expected = (recount.members.len() as u64, count("online"), count("away"));
    let counts = (number(found, "members"), number(found, "online"), number(found, "away"));
    verdict.equal("presences counted", "", room, &expected, &counts);
    let users: BTreeMap<&str, &str> = found["users"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|user| (text(user, "user"), text(user, "presence")))
        .collect();
    if recount.members.len() <= 1_000 {
        for user in recount.members.keys() {
            verdict.equal("presences", user, room, &Some(of(user)), &users.get(user.as_str()).copied());
        }
    }
}

/// What a user says of itself.
pub fn check_profile(user: &str, book: &Book, found: &Value, verdict: &mut Verdict) {
    let expected = (user, book.name.as_deref());
    verdict.equal("profiles", user, "", &expected, &(text(found, "user"), found["name"].as_str()));
}

/// What stands beside the messages of `history`, of all its pages together.
pub fn check_beside(room: &str, recount: &Recount, edited: &[Value], reactions: &[Value], verdict: &mut Verdict) {
    let edits: BTreeMap<&str, &Value> = edited.iter().map(|edited| (text(edited, "message"), edited)).collect();
    let mut felt: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for reaction in reactions {
        felt.entry(text(reaction, "message")).or_default().insert(text(reaction, "emoji"), number(reaction, "count"));
    }
    for (id, said) in &recount.messages {
        let found =
            edits.get(id.as_str()).map(|found| (number(found, "seq"), &found["content"], names(&found["mentions"])));
        let expected = said.edited.map(|seq| (seq, &said.content, said.mentions.clone()));
        verdict.equal("what edited messages say", &said.author, room, &expected, &found);
        let expected: BTreeMap<&str, u64> =
            said.reactions.iter().map(|(emoji, users)| (emoji.as_str(), users.len() as u64)).collect();
        verdict.equal("reactions", &said.author, room, &expected, &felt.remove(id.as_str()).unwrap_or_default());
    }
    verdict.holds("reactions", "", room, felt.is_empty(), || {
        ("none to what is not there".to_owned(), format!("{felt:?}"))
    });
}

pub fn number(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or(0)
}

pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}
