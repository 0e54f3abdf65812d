//! What waits to be written to one connection: bounded, already framed, in four lanes.
//!
//! An outbox lives on the worker thread that owns the connection. The session and the relay put frames in; the
//! response body only takes them out. When the log lane is full it is emptied and its followers go back to reading
//! the log, so a slow reader costs its own place in the log and no memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::relay::Follower;
use crate::domain::Position;

/// The most bytes that wait in the log lane.
pub const LOG_BYTES_MAX: usize = 256 * 1024;

/// The most records that wait in the log lane.
pub const LOG_RECORDS_MAX: u64 = 1024;

/// Above this much in the control lane the connection's own commands are not read: it has to take its replies first.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;

/// The most keys of the state lane; of the pulse lane, the most frames.
pub const SIGNALS_MAX: usize = 256;

/// The most bytes handed to the socket at once. Longer frames go alone.
const CHUNK_BYTES: usize = 64 * 1024;

/// Frames on their way to one connection.
#[derive(Default)]
pub struct Outbox {
    lanes: RefCell<Lanes>,
}

#[derive(Default)]
struct Lanes {
    /// Replies, notices and heartbeats. Bounded by not reading commands while it is long.
    control: VecDeque<Bytes>,
    control_bytes: usize,
    /// Records, in order; never dropped, only taken back to be read again.
    log: VecDeque<LogEntry>,
    log_bytes: usize,
    log_records: u64,
    /// Latest values by key; a newer one takes the place of an older.
    state: BTreeMap<u64, Bytes>,
    /// Volatile signals; dropped when there are too many.
    pulse: VecDeque<Bytes>,
    dropped: u64,
    /// The last frame; after it the connection ends.
    last: Option<Bytes>,
    /// A follower has to read the log as soon as the connection takes bytes again and no record is waiting.
    pull_wanted: bool,
    stage: Stage,
    body: Option<Waker>,
    reader: Option<Waker>,
    /// Since when something has been waiting without any of it being taken.
    stuck_since: Option<Instant>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// Takes nothing more in; what is in it still goes out.
    Finishing,
    /// The connection is gone.
    Gone,
}

/// Records of one follower, or a frame that has to come behind them.
struct LogEntry {
    frames: Bytes,
    records: u64,
    /// Whose follow it is about; nobody's for a ping.
    follower: Option<Rc<Follower>>,
    /// Where the follower stood before these records; `None` for what is not a record.
    from: Option<Position>,
}

/// What became of records that were offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    Waiting,
    /// The log lane was full: everything in it has been taken back, the offered records too, and every follower
    /// concerned stands again where its first lost record would have continued.
    TakenBack,
}

impl Outbox {
    /// Adds a reply, notice or heartbeat.
    pub fn push_control(&self, frame: Bytes) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.control_bytes += frame.len();
            lanes.control.push_back(frame);
            lanes.filled();
        }
    }

    /// Adds `records` records of `follower`, which stood at `from` before them. An empty lane takes any amount.
    pub fn push_log(&self, frames: Bytes, records: u64, follower: &Rc<Follower>, from: Position) -> Pushed {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Open {
            return Pushed::Waiting;
        }
        let full = !lanes.log.is_empty()
            && (lanes.log_bytes + frames.len() > LOG_BYTES_MAX || lanes.log_records + records > LOG_RECORDS_MAX);
        lanes.push_entry(LogEntry { frames, records, follower: Some(Rc::clone(follower)), from: Some(from) });
        if full {
            lanes.take_back();
            return Pushed::TakenBack;
        }
        lanes.filled();
        Pushed::Waiting
    }

    /// Adds a frame behind every record that is waiting now; with a `follower`, one that is about its follow.
    pub fn push_behind_log(&self, frame: Bytes, follower: Option<&Rc<Follower>>) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.push_entry(LogEntry { frames: frame, records: 0, follower: follower.cloned(), from: None });
            lanes.filled();
        }
    }

    /// Sets the value of `key`, which takes the place of an earlier one that has not left yet.
    pub fn push_state(&self, key: u64, frame: Bytes) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Open {
            return;
        }
        if lanes.state.len() >= SIGNALS_MAX && !lanes.state.contains_key(&key) {
            lanes.dropped += 1;
            return;
        }
        if lanes.state.insert(key, frame).is_some() {
            lanes.dropped += 1;
        }
        lanes.filled();
    }

    /// Adds a signal, unless too many are waiting.
    pub fn push_pulse(&self, frame: Bytes) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Open {
            return;
        }
        if lanes.pulse.len() >= SIGNALS_MAX {
            lanes.dropped += 1;
            return;
        }
        lanes.pulse.push_back(frame);
        lanes.filled();
    }

    /// Asks for `drained` to be called as soon as the connection takes bytes and no record is waiting.
    pub fn want_pull(&self) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.pull_wanted = true;
            lanes.filled();
        }
    }

    /// Takes out what is waiting of `follower`, also what is said about its follow.
    pub fn purge(&self, follower: &Rc<Follower>) {
        let mut lanes = self.lanes.borrow_mut();
        let entries = std::mem::take(&mut lanes.log);
        (lanes.log_bytes, lanes.log_records) = (0, 0);
        for entry in entries {
            if !entry.follower.as_ref().is_some_and(|other| Rc::ptr_eq(other, follower)) {
                lanes.push_entry(entry);
            }
        }
    }

    /// Ends the connection with `frame` once what is waiting in the control lane has left. Records that have not left
    /// are not waited for; their follower reads them after it has come back.
    pub fn finish(&self, frame: Bytes) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.stage = Stage::Finishing;
            lanes.log.clear();
            (lanes.log_bytes, lanes.log_records) = (0, 0);
            lanes.state.clear();
            lanes.pulse.clear();
            lanes.last = Some(frame);
            lanes.filled();
        }
    }

    /// Notes that the connection is gone: nothing is kept for it any more.
    pub fn abandon(&self) {
        let lanes = std::mem::take(&mut *self.lanes.borrow_mut());
        self.lanes.borrow_mut().stage = Stage::Gone;
        // Entries may hold the last handle of a follower whose drop looks into this outbox; so they go last.
        for waker in [lanes.body.clone(), lanes.reader.clone()].into_iter().flatten() {
            waker.wake();
        }
        drop(lanes);
    }

    /// Whether frames are still taken in.
    pub fn is_open(&self) -> bool {
        self.lanes.borrow().stage == Stage::Open
    }

    /// Whether there is no connection any more.
    pub fn is_gone(&self) -> bool {
        self.lanes.borrow().stage == Stage::Gone
    }

    /// Whether no record is waiting.
    pub fn log_is_empty(&self) -> bool {
        self.lanes.borrow().log.is_empty()
    }

    /// How many bytes are waiting in the control lane.
    pub fn control_bytes(&self) -> usize {
        self.lanes.borrow().control_bytes
    }

    /// How many bytes are waiting in all lanes.
    pub fn bytes(&self) -> usize {
        let lanes = self.lanes.borrow();
        let signals = lanes.state.values().chain(&lanes.pulse).map(Bytes::len).sum::<usize>();
        lanes.control_bytes + lanes.log_bytes + signals
    }

    /// How many signals were replaced or dropped.
    pub fn dropped(&self) -> u64 {
        self.lanes.borrow().dropped
    }

    /// Since when something has been waiting without any of it being taken.
    pub fn stuck_since(&self) -> Option<Instant> {
        self.lanes.borrow().stuck_since
    }

    /// Ready while the connection may send commands: not while its replies pile up.
    pub fn poll_uncongested(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.control_bytes <= CONTROL_BYTES_MAX {
            return Poll::Ready(());
        }
        lanes.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes the next bytes for the socket: control, then log, state and pulse, joined up to 64 KiB. `None` when the
    /// connection has nothing more to say. `drained` is called when a pull is wanted and no record is waiting.
    pub fn poll_take(&self, cx: &mut Context<'_>, drained: impl FnOnce()) -> Poll<Option<Bytes>> {
        let mut lanes = self.lanes.borrow_mut();
        let chunk = lanes.chunk();
        let pull = lanes.pull_wanted && lanes.log.is_empty();
        if pull {
            lanes.pull_wanted = false;
        }
        if chunk.is_empty() {
            if lanes.stage != Stage::Open {
                lanes.stage = Stage::Gone;
                return Poll::Ready(None);
            }
            lanes.stuck_since = None;
            lanes.body = Some(cx.waker().clone());
            drop(lanes);
            if pull {
                drained();
            }
            return Poll::Pending;
        }
        lanes.stuck_since = (!lanes.is_empty()).then(Instant::now);
        let reader = if lanes.control_bytes <= CONTROL_BYTES_MAX { lanes.reader.take() } else { None };
        drop(lanes);
        if let Some(reader) = reader {
            reader.wake();
        }
        if pull {
            drained();
        }
        Poll::Ready(Some(chunk))
    }
}

impl Lanes {
    fn push_entry(&mut self, entry: LogEntry) {
        self.log_bytes += entry.frames.len();
        self.log_records += entry.records;
        self.log.push_back(entry);
    }

    /// Something new is waiting.
    fn filled(&mut self) {
        if self.stuck_since.is_none() {
            self.stuck_since = Some(Instant::now());
        }
        if let Some(body) = self.body.take() {
            body.wake();
        }
    }

    fn is_empty(&self) -> bool {
        self.control.is_empty()
            && self.log.is_empty()
            && self.state.is_empty()
            && self.pulse.is_empty()
            && self.last.is_none()
    }

    /// Empties the log lane of records; newest first, so that each follower ends where its oldest one continued.
    /// Frames that are not records stay.
    fn take_back(&mut self) {
        let entries = std::mem::take(&mut self.log);
        (self.log_bytes, self.log_records) = (0, 0);
        for (follower, from) in entries.iter().rev().filter_map(|entry| entry.follower.as_ref().zip(entry.from)) {
            follower.rewind(from);
        }
        for entry in entries.into_iter().filter(|entry| entry.from.is_none()) {
            self.push_entry(entry);
        }
        self.pull_wanted = true;
        self.filled();
    }

    fn next(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.control.pop_front() {
            self.control_bytes -= frame.len();
            return Some(frame);
        }
        if let Some(entry) = self.log.pop_front() {
            self.log_bytes -= entry.frames.len();
            self.log_records -= entry.records;
            return Some(entry.frames);
        }
        if let Some((_, frame)) = self.state.pop_first() {
            return Some(frame);
        }
        self.pulse.pop_front().or_else(|| self.last.take())
    }

    fn next_bytes(&self) -> Option<usize> {
        self.control
            .front()
            .or_else(|| self.log.front().map(|entry| &entry.frames))
            .or_else(|| self.state.values().next())
            .or_else(|| self.pulse.front())
            .or(self.last.as_ref())
            .map(Bytes::len)
    }

    /// One frame, or several joined as long as they fit.
    fn chunk(&mut self) -> Bytes {
        let Some(first) = self.next() else { return Bytes::new() };
        let fits = |lanes: &Self, taken: usize| lanes.next_bytes().is_some_and(|bytes| taken + bytes <= CHUNK_BYTES);
        if !fits(self, first.len()) {
            return first;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES.min(first.len() + self.log_bytes + self.control_bytes));
        chunk.extend_from_slice(&first);
        while fits(self, chunk.len()) {
            if let Some(frame) = self.next() {
                chunk.extend_from_slice(&frame);
            }
        }
        chunk.freeze()
    }
}
