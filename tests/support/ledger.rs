//! What clients were promised and what they were shown, kept outside the server, and the check of a log against it.
//!
//! Pure bookkeeping: knows no sockets and no processes, so that the check itself can be tested (see
//! `tests/crash/ledger_bites.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use uuid::Uuid;

/// One message as its publisher knows it, before the server has said anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub publisher: usize,
    pub number: usize,
}

impl Key {
    pub fn client_id(self) -> String {
        format!("p{}-{}", self.publisher, self.number)
    }

    pub fn parse(client_id: &str) -> Option<Self> {
        let (publisher, number) = client_id.strip_prefix('p')?.split_once('-')?;
        Some(Self { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
    }

    /// The text this message has to have: its own name and a tail of changing length, 20 to 400 bytes.
    pub fn text(self) -> String {
        let tail = (self.publisher * 31 + self.number * 7) % 380;
        format!("{} {}", self.client_id(), "chinwag ".repeat(tail / 8))
    }

    pub fn author(self) -> String {
        author(self.publisher)
    }
}

/// The user that a publisher posts as.
pub fn author(publisher: usize) -> String {
    format!("publisher-{publisher}")
}

/// A record as a reader was shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub seq: u64,
    pub id: Uuid,
    pub what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A message of ours, text and author as they were sent.
    Message(Key),
    /// A message whose text or author is not what was sent, or that nobody here sent.
    Altered,
    /// A room's own event: created, joined.
    Other,
}

/// No run gets here; a seq beyond it is a mistake, and must not fill our memory.
const SEQ_MAX: usize = 1 << 30;

/// An order that everything here happened in, as seen from outside the server.
type Tick = u64;

struct Post {
    room: usize,
    /// Before the first byte of it went out.
    sent: Tick,
    ack: Option<Ack>,
    /// The server once asked to send it again later, so it may stand behind what was sent after it.
    deferred: bool,
}

#[derive(Clone, Copy)]
struct Ack {
    seq: u64,
    id: Uuid,
    tick: Tick,
}

/// Everything that was promised and shown so far.
pub struct Ledger {
    tick: Tick,
    /// By publisher, then by number.
    posts: Vec<Vec<Post>>,
    /// What stands at each seq of each room, from the first that mentioned it, an acknowledgement or a reader; nil
    /// where nothing did.
    told: Vec<Vec<Uuid>>,
    /// How far each reader has got in each room.
    readers: Vec<Vec<u64>>,
    epochs: BTreeSet<String>,
    pub acked: u64,
    pub duplicates: u64,
    pub shown: u64,
    pub refused: u64,
    /// Found on the way, before any final check.
    found: Verdict,
}

impl Ledger {
    pub fn new(rooms: usize, publishers: usize, readers: usize) -> Self {
        Self {
            tick: 0,
            posts: (0..publishers).map(|_| Vec::new()).collect(),
            told: vec![Vec::new(); rooms],
            readers: vec![vec![0; rooms]; readers],
            epochs: BTreeSet::new(),
            acked: 0,
            duplicates: 0,
            shown: 0,
            refused: 0,
            found: Verdict::default(),
        }
    }

    /// A new message, about to be sent for the first time.
    pub fn sending(&mut self, publisher: usize, room: usize) -> Key {
        let sent = self.next_tick();
        let posts = &mut self.posts[publisher];
        posts.push(Post { room, sent, ack: None, deferred: false });
        Key { publisher, number: posts.len() - 1 }
    }

    pub fn room(&self, key: Key) -> usize {
        self.posts[key.publisher][key.number].room
    }

    pub fn sent(&self) -> usize {
        self.posts.iter().map(Vec::len).sum()
    }

    /// The server refused `key` for now.
    pub fn deferred(&mut self, key: Key) {
        self.refused += 1;
        self.posts[key.publisher][key.number].deferred = true;
    }

    /// The server refused what it has to take.
    pub fn refused_for_good(&mut self, key: Key, answer: &str) {
        self.found.note(Fault::Refused, || format!("{} was answered {answer}", key.client_id()));
    }

    /// The server acknowledged `key`. An answer to something sent again has to be the first answer.
    pub fn acked(&mut self, key: Key, seq: u64, id: Uuid, duplicate: bool) {
        let tick = self.next_tick();
        let post = &mut self.posts[key.publisher][key.number];
        let room = post.room;
        match post.ack {
            None => {
                post.ack = Some(Ack { seq, id, tick });
                self.acked += 1;
            }
            Some(first) if (first.seq, first.id) == (seq, id) => {}
            Some(first) => self.found.note(Fault::Doubled, || {
                format!("{} was acknowledged as seq {} {} and as seq {seq} {id}", key.client_id(), first.seq, first.id)
            }),
        }
        self.duplicates += u64::from(duplicate);
        self.tell(room, seq, id);
    }

    pub fn epoch(&mut self, epoch: &str) {
        self.epochs.insert(epoch.to_owned());
    }

    /// A reader was shown a record: it has to be the next one, and what stands there must not have been another.
    pub fn shown(&mut self, reader: usize, room: usize, seen: &Seen) {
        self.shown += 1;
        let at = self.readers[reader][room];
        let seq = seen.seq;
        if seq > at + 1 {
            self.found.note(Fault::Gap, || format!("reader {reader}, room {room}: seq {seq} came after {at}"));
        } else if seq <= at {
            self.found.note(Fault::Reordered, || format!("reader {reader}, room {room}: seq {seq} came after {at}"));
        }
        self.readers[reader][room] = seq.max(at);
        if seen.what == What::Altered {
            self.found.note(Fault::Altered, || format!("reader {reader}, room {room}: seq {seq} is not what was sent"));
        }
        self.tell(room, seq, seen.id);
    }

    /// A reader was refused the continuation of what it had been following.
    pub fn follow_refused(&mut self, reader: usize, room: usize, answer: &str) {
        self.found.note(Fault::Refused, || format!("reader {reader}, room {room}: follow was answered {answer}"));
    }

    /// The highest seq of each room that was acknowledged or shown: what must be there from now on.
    pub fn heads(&self) -> Vec<u64> {
        self.told.iter().map(|room| room.len() as u64).collect()
    }

    /// Every reader has been shown everything up to `heads`.
    pub fn readers_reached(&self, heads: &[u64]) -> bool {
        self.readers.iter().all(|reader| reader.iter().zip(heads).all(|(at, head)| at >= head))
    }

    /// Whether anything was wrong so far.
    pub fn found(&self) -> &Verdict {
        &self.found
    }

    /// Checks whole logs, one per room and each read from its start, against everything promised and shown.
    pub fn verdict(&self, logs: &[Vec<Seen>]) -> Verdict {
        let mut verdict = self.found.clone();
        assert_eq!(logs.len(), self.told.len(), "a log for every room");
        let mut places: HashMap<Key, (usize, u64, Uuid)> = HashMap::new();
        for (room, log) in logs.iter().enumerate() {
            check_continuity(&mut verdict, room, log);
            for seen in log {
                match seen.what {
                    What::Message(key) => {
                        if let Some((_, seq, _)) = places.insert(key, (room, seen.seq, seen.id)) {
                            let again = seen.seq;
                            verdict.note(Fault::Doubled, || {
                                format!("room {room}: {} stands at seq {seq} and {again}", key.client_id())
                            });
                        }
                    }
                    What::Altered => {
                        verdict.note(Fault::Altered, || format!("room {room}: seq {} is not what was sent", seen.seq));
                    }
                    What::Other => {}
                }
            }
            self.check_what_was_told(&mut verdict, room, log);
            self.check_order(&mut verdict, room, log);
        }
        self.check_acknowledged(&mut verdict, &places);
        if self.epochs.len() > 1 {
            verdict.note(Fault::Reused, || format!("the epoch changed without a reason: {:?}", self.epochs));
        }
        verdict
    }

    fn check_acknowledged(&self, verdict: &mut Verdict, places: &HashMap<Key, (usize, u64, Uuid)>) {
        for (publisher, posts) in self.posts.iter().enumerate() {
            for (number, post) in posts.iter().enumerate() {
                let key = Key { publisher, number };
                let Some(ack) = post.ack else { continue };
                match places.get(&key) {
                    None => verdict.note(Fault::Lost, || {
                        format!("room {}: {} was acknowledged as seq {}", post.room, key.client_id(), ack.seq)
                    }),
                    Some(&place) if place == (post.room, ack.seq, ack.id) => {}
                    Some(&(room, seq, _)) => verdict.note(Fault::Reordered, || {
                        format!(
                            "{} was acknowledged in room {} at seq {} and stands in room {room} at {seq}",
                            key.client_id(),
                            post.room,
                            ack.seq
                        )
                    }),
                }
            }
        }
    }

    /// What was ever acknowledged or shown at a seq stands there for ever.
    fn check_what_was_told(&self, verdict: &mut Verdict, room: usize, log: &[Seen]) {
        let log: HashMap<u64, Uuid> = log.iter().map(|seen| (seen.seq, seen.id)).collect();
        for (seq, id) in (1..).zip(&self.told[room]).filter(|(_, id)| !id.is_nil()) {
            match log.get(&seq) {
                Some(found) if found == id => {}
                Some(found) => {
                    verdict.note(Fault::Reused, || format!("room {room}: seq {seq} was {id} and is {found}"));
                }
                None => verdict.note(Fault::Vanished, || format!("room {room}: seq {seq} {id} was told and is gone")),
            }
        }
    }

    /// The log's order agrees with time as seen from outside, and with each publisher's own order.
    fn check_order(&self, verdict: &mut Verdict, room: usize, log: &[Seen]) {
        let mut latest_sent: Option<(Tick, Key)> = None;
        let mut latest_of: HashMap<usize, Key> = HashMap::new();
        for seen in log {
            let What::Message(key) = seen.what else { continue };
            let Some(post) = self.posts.get(key.publisher).and_then(|posts| posts.get(key.number)) else {
                verdict.note(Fault::Altered, || format!("room {room}: nobody sent {}", key.client_id()));
                continue;
            };
            if let (Some(ack), Some((sent, before))) = (post.ack, latest_sent)
                && ack.tick < sent
            {
                verdict.note(Fault::Reordered, || {
                    let (key, before) = (key.client_id(), before.client_id());
                    format!("room {room}: {key} was acknowledged before {before} was sent, and stands behind it")
                });
            }
            if latest_sent.is_none_or(|(sent, _)| post.sent > sent) {
                latest_sent = Some((post.sent, key));
            }
            if post.deferred {
                continue;
            }
            if let Some(before) = latest_of.insert(key.publisher, key)
                && before.number > key.number
            {
                verdict.note(Fault::Reordered, || {
                    let (key, before) = (key.client_id(), before.client_id());
                    format!("room {room}: {key} stands behind {before}, which its publisher sent later")
                });
            }
        }
    }

    fn tell(&mut self, room: usize, seq: u64, id: Uuid) {
        let Some(index) = seq.checked_sub(1).and_then(|index| usize::try_from(index).ok()).filter(|i| *i < SEQ_MAX)
        else {
            self.found.note(Fault::Gap, || format!("room {room}: seq {seq} is no seq"));
            return;
        };
        let room_told = &mut self.told[room];
        if room_told.len() <= index {
            room_told.resize(index + 1, Uuid::nil());
        }
        let told = &mut room_told[index];
        if told.is_nil() {
            *told = id;
        } else if *told != id {
            let told = *told;
            self.found.note(Fault::Reused, || format!("room {room}: seq {seq} was {told} and is {id}"));
        }
    }

    fn next_tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }
}

fn check_continuity(verdict: &mut Verdict, room: usize, log: &[Seen]) {
    let mut at = 0;
    for seen in log {
        if seen.seq > at + 1 {
            verdict.note(Fault::Gap, || format!("room {room}: seq {} follows {at}", seen.seq));
        } else if seen.seq <= at {
            verdict.note(Fault::Reordered, || format!("room {room}: seq {} follows {at}", seen.seq));
        }
        at = at.max(seen.seq);
    }
}

/// The ways to break the promise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// Acknowledged and in no log.
    Lost,
    /// Acknowledged or shown at a seq that is no more.
    Vanished,
    Doubled,
    Gap,
    Reordered,
    /// One seq, two records.
    Reused,
    Altered,
    Refused,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Lost,
        Self::Vanished,
        Self::Doubled,
        Self::Gap,
        Self::Reordered,
        Self::Reused,
        Self::Altered,
        Self::Refused,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Vanished => "vanished",
            Self::Doubled => "doubled",
            Self::Gap => "gaps",
            Self::Reordered => "reordered",
            Self::Reused => "reused",
            Self::Altered => "altered",
            Self::Refused => "refused",
        }
    }
}

/// How often each promise was broken, with the first few cases.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    counts: BTreeMap<Fault, u64>,
    pub examples: Vec<String>,
}

impl Verdict {
    const EXAMPLES: u64 = 5;

    pub fn count(&self, fault: Fault) -> u64 {
        self.counts.get(&fault).copied().unwrap_or(0)
    }

    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    fn note(&mut self, fault: Fault, example: impl FnOnce() -> String) {
        let count = self.counts.entry(fault).or_default();
        *count += 1;
        if *count <= Self::EXAMPLES {
            self.examples.push(format!("{}: {}", fault.as_str(), example()));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in Fault::ALL.into_iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{}={}", fault.as_str(), self.count(fault))?;
        }
        Ok(())
    }
}
