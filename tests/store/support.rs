//! Streams, records and commits to test with.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use chinwag::domain::{
    ClientId, Content, Epoch, Event, Num, Position, Record, RecordId, RoomEvent, RoomId, RoomKey, Seq, StreamId,
    TenantId, Timestamp, UserId,
};
use chinwag::store::sled::{Hooks, Options, SledStore};
use chinwag::store::{Commit, CommitError, Put, Store};
use uuid::Uuid;

pub fn room(number: u128) -> StreamId {
    StreamId::Room(RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::from_u128(number)) })
}

pub fn user(name: &str) -> StreamId {
    StreamId::User(TenantId::default_tenant(), UserId::new(name).unwrap())
}

pub fn text(position: Position, text: &str) -> Record {
    Record {
        position,
        id: RecordId::new(Timestamp(1_700_000_000_000), position.seq, 7),
        num: Num(position.seq.0),
        at: Timestamp(1_700_000_000_000),
        author: UserId::new("ann").unwrap(),
        client_id: Some(ClientId::new("c-1").unwrap()),
        event: Event::Room(RoomEvent::posted(Content::text(text))),
    }
}

pub fn at(epoch: Epoch, seq: u64) -> Option<Position> {
    (seq > 0).then_some(Position { epoch, seq: Seq(seq) })
}

/// The records that say `texts`, after `after`.
pub fn records(epoch: Epoch, after: u64, texts: &[&str]) -> Vec<Record> {
    let positions = (after + 1..).map(|seq| Position { epoch, seq: Seq(seq) });
    positions.zip(texts).map(|(position, said)| text(position, said)).collect()
}

pub fn posts(epoch: Epoch, stream: &StreamId, after: u64, texts: &[&str]) -> Commit {
    Commit {
        stream: stream.clone(),
        expected: at(epoch, after),
        records: records(epoch, after, texts),
        puts: Vec::new(),
        erase: Vec::new(),
        trim: None,
    }
}

pub fn puts(stream: &StreamId, expected: Option<Position>, rows: &[(&str, Option<&str>)]) -> Commit {
    let row = |(key, value): &(&str, Option<&str>)| put(stream, key, *value);
    let puts = rows.iter().map(row).collect();
    Commit { stream: stream.clone(), expected, records: Vec::new(), puts, erase: Vec::new(), trim: None }
}

pub fn put(under: &StreamId, key: &str, value: Option<&str>) -> Put {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Put { under: under.clone(), key: bytes(key), value: value.map(bytes) }
}

/// Appends `texts` to a stream that has `after` records.
pub async fn post(store: &dyn Store, stream: &StreamId, after: u64, texts: &[&str]) -> Result<(), CommitError> {
    store.commit(posts(store.epoch(), stream, after, texts)).await
}

pub fn said(records: &[Record]) -> Vec<String> {
    let words = |record: &Record| match &record.event {
        Event::Room(RoomEvent::MessagePosted { content, .. }) => content.text.as_deref().unwrap_or_default().to_owned(),
        Event::Room(RoomEvent::MessageErased) => "(erased)".to_owned(),
        event => panic!("not a message: {event:?}"),
    };
    records.iter().map(words).collect()
}

pub async fn all(store: &dyn Store, stream: &StreamId) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let after = records.last().map_or(Seq::ZERO, |record| record.position.seq);
        let page = store.read(stream, after, 1000).await.unwrap();
        records.extend(page.records);
        if page.complete {
            return records;
        }
    }
}

/// Options for a disk that is never full.
pub fn options() -> Options {
    let hooks = Hooks { free_bytes: Some(Arc::new(|| u64::MAX)), before_sync: None };
    Options { ballast_bytes: 0, hooks, ..Options::default() }
}

pub fn open(path: &Path) -> SledStore {
    SledStore::open(path, options()).unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A gate that the writing thread has to pass before each sync.
#[derive(Clone, Default)]
pub struct Gate {
    state: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Default)]
struct GateState {
    shut: bool,
    waiting: u64,
}

impl Gate {
    pub fn options(&self) -> Options {
        let gate = self.clone();
        let mut options = options();
        options.hooks.before_sync = Some(Arc::new(move || {
            gate.pass();
            Ok(())
        }));
        options
    }

    /// Opens again at the end of a test that fails, too: dropping a store waits for its writing thread.
    pub fn shut(&self) -> Shut<'_> {
        self.state.0.lock().unwrap().shut = true;
        Shut(self)
    }

    pub fn open(&self) {
        self.state.0.lock().unwrap().shut = false;
        self.state.1.notify_all();
    }

    /// Waits until the writing thread stands before the gate.
    pub fn until_reached(&self) {
        let (state, changed) = &*self.state;
        drop(changed.wait_while(state.lock().unwrap(), |state| state.waiting == 0).unwrap());
    }

    fn pass(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        state.waiting += 1;
        changed.notify_all();
        state = changed.wait_while(state, |state| state.shut).unwrap();
        state.waiting -= 1;
    }
}

pub struct Shut<'a>(&'a Gate);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}
