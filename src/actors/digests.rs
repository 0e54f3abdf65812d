//! What is known of rooms' latest messages, shared by all threads: so that a list of rooms with what is unread in each
//! reads the log of those that have changed, and of no others.
//!
//! A digest is a memory of the log and never in its way. Where there is none, or one that does not reach far enough, it
//! is read; a room hands on what it has committed to the one that is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::domain::inbox::{Digest, depth_for};
use crate::domain::room::Header;
use crate::domain::{Event, Position, Record, RoomEvent, RoomKey, Seq};
use crate::store::rows::{self, Row};
use crate::store::{Store, StoreError};

/// How many bytes of digests are remembered, about.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How many rooms that is, about.
const ROOMS_EXPECTED: usize = 16_384;

/// What a digest takes besides its messages, about, and for each record that it looks back: the second for one without
/// mentions.
const DIGEST_BYTES: u64 = 1024;
const RECORD_BYTES: u64 = 64;

/// How much more of mentions may come to a digest before it is weighed again.
const MENTIONS_BYTES: u64 = 4 * 1024;

/// How many records are read at once.
const RECORDS_PER_READ: usize = 256;

/// Digests of rooms.
pub struct Digests(Cache<RoomKey, Arc<Digested>, Bytes>);

/// A room's digest, and what the room is.
pub struct Digested {
    pub header: Header,
    depth: u64,
    /// What the mentions in it come to, with some room for others.
    mentions: u64,
    digest: Mutex<Digest>,
}

impl Digested {
    pub fn digest(&self) -> MutexGuard<'_, Digest> {
        self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A digest weighs what it may come to.
#[derive(Clone)]
struct Bytes;

impl Weighter<RoomKey, Arc<Digested>> for Bytes {
    fn weight(&self, _: &RoomKey, digested: &Arc<Digested>) -> u64 {
        DIGEST_BYTES + digested.depth * RECORD_BYTES + digested.mentions
    }
}

impl Default for Digests {
    fn default() -> Self {
        Self(Cache::with_weighter(ROOMS_EXPECTED, BYTES_MAX, Bytes))
    }
}

impl Digests {
    /// Takes note of what a room has just committed, if its digest is here.
    pub fn committed(&self, room: &RoomKey, records: &[Record]) {
        let Some(digested) = self.0.get(room) else { return };
        if records.iter().any(changes_header) {
            self.0.remove(room);
            return;
        }
        let mut digest = digested.digest();
        for record in records {
            digest.apply(record);
        }
        if digest.mention_bytes() > digested.mentions {
            // It takes more than it was weighed for: whoever asks has it made, and weighed, again.
            self.0.remove(room);
        }
    }

    /// The digest of a room that ends at `head`, if it is here and can tell what is unread behind `floor`.
    pub fn peek(&self, room: &RoomKey, head: Position, floor: Seq) -> Option<Arc<Digested>> {
        let digested = self.0.get(room)?;
        let fits = {
            let digest = digested.digest();
            digest.head().is_some_and(|at| at.seq >= head.seq) && digest.suffices(floor)
        };
        fits.then_some(digested)
    }

    /// The digest of a room, read as far as it takes to tell what is unread behind `floor`; `None` for a room that is not
    /// there.
    pub async fn load(
        &self,
        store: &dyn Store,
        room: &RoomKey,
        floor: Seq,
    ) -> Result<Option<Arc<Digested>>, StoreError> {
        let stream = room.stream();
        let mut depth = 0;
        if let Some(digested) = self.0.get(room) {
            let known = digested.digest().head();
            // One that was only too shallow is made twice as deep; one that is behind as deep again.
            let shallow = known == store.head(&stream).await?;
            depth = if shallow { digested.depth } else { digested.depth / 2 };
        }
        'again: loop {
            let Some(head) = store.head(&stream).await? else { return Ok(None) };
            let Some(row) = store.get(&stream, rows::HEADER).await? else { return Ok(None) };
            depth = depth_for(depth, head.seq, floor);
            let header = Header::decode(&row)?;
            let mut digest = Digest::after(Seq(head.seq.0.saturating_sub(depth)), depth, header.trimmed.seq);
            let mut after = digest.from();
            loop {
                let page = store.read(&stream, after, RECORDS_PER_READ).await?;
                let trimmed = page.records.first().is_some_and(|record| record.position.seq != after.next());
                let changed = |record: &Record| record.position.seq > head.seq && changes_header(record);
                if trimmed || page.records.iter().any(changed) {
                    // What the room is may have been read before.
                    continue 'again;
                }
                for record in &page.records {
                    digest.apply(record);
                    after = record.position.seq;
                }
                if page.complete {
                    break;
                }
            }
            if digest.suffices(floor) {
                let mentions = digest.mention_bytes() + MENTIONS_BYTES;
                let digested = Digested { header, depth, mentions, digest: Mutex::new(digest) };
                let digested = Arc::new(digested);
                self.0.insert(room.clone(), Arc::clone(&digested));
                return Ok(Some(digested));
            }
        }
    }
}

/// Whether a record changes what the room is.
fn changes_header(record: &Record) -> bool {
    match &record.event {
        Event::Room(RoomEvent::RoomCreated { .. } | RoomEvent::RoomUpdated(_) | RoomEvent::RoomArchived) => true,
        // The digest takes note of what is trimmed itself.
        Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => false,
    }
}
