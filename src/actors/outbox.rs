//! What waits to be written to one connection: bounded, already framed, in four lanes.
//!
//! An outbox lives on the worker thread that owns the connection. The session and the relay put frames in; what is
//! published goes to the socket at once while nothing waits before it, and everything else is written by the carrier, from
//! where it lies. When the log lane is full it is emptied and its followers go back to reading the log, so a slow reader
//! costs its own place in the log and no memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hint;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use crate::domain::{Position, RoomId};

/// The most bytes that wait in the log lane.
pub const LOG_BYTES_MAX: usize = 256 * 1024;

/// The most records that wait in the log lane.
pub const LOG_RECORDS_MAX: u64 = 1024;

/// Above this much in the control lane the connection's own commands are not read: it has to take its replies first.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;

/// The most keys of the state lane; of the pulse lane, the most frames.
pub const SIGNALS_MAX: usize = 256;

/// The most bytes handed to the socket at once. What is longer goes alone.
const CHUNK_BYTES: usize = 64 * 1024;

/// The most pieces handed to the socket at once.
const SLICES_MAX: usize = 32;

/// Whose records wait in an outbox.
pub trait Source {
    /// What was handed over after `to` has been taken back. Must not call the outbox.
    fn rewind(&self, to: Position);
}

/// Takes bytes for one connection, as many as go without waiting.
pub trait Sink {
    /// How much of `slices` was taken; an error where there is anything to wait for, or something is wrong: the carrier
    /// finds out what.
    fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Looks at what [`Sink::try_send`] needs, so that the processor fetches it.
    fn look_ahead(&self);
}

/// Of which room a state is, and which of its states.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StateKey {
    pub room: RoomId,
    pub of: u64,
}

/// Frames on their way to one connection.
#[derive(Default)]
pub struct Outbox {
    lanes: RefCell<Lanes>,
}

/// What each publication looks at comes first, and so lies on one line of the processor's cache.
#[derive(Default)]
#[repr(C)]
struct Lanes {
    /// Where what is published goes while nothing else waits; none where that is always the carrier's work.
    sink: Option<Rc<dyn Sink>>,
    stage: Stage,
    /// The carrier waits for something to carry, and not for the socket: only what has just been laid is here.
    idle: bool,
    /// A follower has to read the log as soon as the connection takes bytes again and no record is waiting.
    pull_wanted: bool,
    /// Records, in order; never dropped, only taken back to be read again.
    log: VecDeque<LogEntry>,
    log_bytes: usize,
    log_records: u64,
    /// What is left of a piece of which the socket has taken a part: nothing may come between.
    begun: Bytes,
    /// Replies, notices and heartbeats. Bounded by not reading commands while it is long.
    control: VecDeque<Bytes>,
    control_bytes: usize,
    /// Latest values by key; a newer one takes the place of an older.
    state: BTreeMap<StateKey, Bytes>,
    /// Volatile signals; dropped when there are too many.
    pulse: VecDeque<Bytes>,
    dropped: u64,
    /// The last frame; after it the connection ends.
    last: Option<Bytes>,
    /// The connection does not end with the last frame, but when it is let go.
    held: bool,
    carrier: Option<Waker>,
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
    source: Option<Rc<dyn Source>>,
    /// Where the source stood before these records; `None` for what is not a record.
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

    /// Adds `records` records of `source`, which stood at `from` before them. An empty lane takes any amount.
    pub fn push_log(&self, frames: Bytes, records: u64, source: Rc<dyn Source>, from: Position) -> Pushed {
        let (pushed, _) = self.lay_log(frames, records, source, from);
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.filled();
        }
        pushed
    }

    /// As [`Outbox::push_log`], for a caller that calls [`Outbox::send`] behind all that it adds. What was laid before goes
    /// first where both would be too much: so many bytes.
    pub fn lay_log(&self, frames: Bytes, records: u64, source: Rc<dyn Source>, from: Position) -> (Pushed, usize) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Open {
            return (Pushed::Waiting, 0);
        }
        let sent = lanes.make_place(frames.len(), records);
        let full = lanes.is_full_for(frames.len(), records);
        lanes.push_entry(LogEntry { frames, records, source: Some(source), from: Some(from) });
        if full {
            lanes.take_back();
            return (Pushed::TakenBack, sent);
        }
        (Pushed::Waiting, sent)
    }

    /// As [`Outbox::push_log`], and sends them together with what was laid before, as [`Outbox::send`] does: so many bytes.
    pub fn publish(&self, frames: Bytes, records: u64, source: Rc<dyn Source>, from: Position) -> (Pushed, usize) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Open || !lanes.idle || !lanes.log.is_empty() {
            drop(lanes);
            let (pushed, sent) = self.lay_log(frames, records, source, from);
            return (pushed, sent + self.send());
        }
        let sent = lanes.sink.as_ref().and_then(|sink| sink.try_send(&[IoSlice::new(&frames)]).ok());
        match sent {
            Some(sent) if sent == frames.len() => lanes.sent_all(),
            Some(sent) => {
                lanes.begun = frames.slice(sent..);
                lanes.filled();
            }
            None => {
                lanes.push_entry(LogEntry { frames, records, source: Some(source), from: Some(from) });
                lanes.filled();
            }
        }
        (Pushed::Waiting, sent.unwrap_or(0))
    }

    /// Sends what waits, once, as far as the socket takes it now: so many bytes. What is left is the carrier's, and so is
    /// everything while the carrier is at work: then it goes together with what waited before.
    pub fn send(&self) -> usize {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.is_empty() {
            return 0;
        }
        let sent = if lanes.idle { lanes.send().unwrap_or(0) } else { 0 };
        if sent > 0 && lanes.is_empty() {
            lanes.sent_all();
        } else {
            lanes.filled();
        }
        sent
    }

    /// Has the processor fetch what [`Outbox::publish`] is going to look at.
    pub fn look_ahead(&self) {
        let lanes = self.lanes.borrow();
        hint::black_box(lanes.log.len());
        if let Some(sink) = &lanes.sink {
            sink.look_ahead();
        }
    }

    /// Has [`Outbox::send`] give what waits to `sink`.
    pub fn connect(&self, sink: Rc<dyn Sink>) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.sink = Some(sink);
        }
    }

    /// Adds a frame behind every record that is waiting now; with a `source`, one that is about its follow.
    pub fn push_behind_log(&self, frame: Bytes, source: Option<Rc<dyn Source>>) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.push_entry(LogEntry { frames: frame, records: 0, source, from: None });
            lanes.filled();
        }
    }

    /// Sets the value of `key`, which takes the place of an earlier one that has not left yet.
    pub fn push_state(&self, key: StateKey, frame: Bytes) {
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

    /// Takes out the states of `room`.
    pub fn purge_state(&self, room: RoomId) {
        let mut lanes = self.lanes.borrow_mut();
        if !lanes.state.is_empty() {
            lanes.state.retain(|key, _| key.room != room);
        }
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
            lanes.wake_if_idle();
        }
    }

    /// Whether a pull is wanted and no record is waiting. True only once: whoever asks does it.
    pub fn take_pull(&self) -> bool {
        let mut lanes = self.lanes.borrow_mut();
        let due = lanes.pull_wanted && lanes.log.is_empty();
        lanes.pull_wanted &= !due;
        due
    }

    /// Takes out what is waiting of `source`, also what is said about its follow.
    pub fn purge<S: Source>(&self, source: &Rc<S>) {
        let mut lanes = self.lanes.borrow_mut();
        let entries = std::mem::take(&mut lanes.log);
        (lanes.log_bytes, lanes.log_records) = (0, 0);
        for entry in entries {
            let its =
                entry.source.as_ref().is_some_and(|other| std::ptr::addr_eq(Rc::as_ptr(other), Rc::as_ptr(source)));
            if !its {
                lanes.push_entry(entry);
            }
        }
    }

    /// Puts `bytes` before everything else: the head of an answer, behind which the frames come.
    pub fn begin(&self, bytes: Bytes) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Gone {
            debug_assert!(lanes.begun.is_empty(), "a connection begins once");
            lanes.begun = bytes;
            lanes.filled();
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

    /// Ends the connection with `frame` and nothing before it: what was waiting is thrown away. The connection is held
    /// until [`Outbox::let_go`], to hear an answer.
    pub fn finish_at_once(&self, frame: Bytes) {
        self.finish(frame);
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Finishing {
            lanes.control.clear();
            lanes.control_bytes = 0;
            lanes.held = true;
        }
    }

    /// Nothing more is waited for once the last frame has left.
    pub fn let_go(&self) {
        let mut lanes = self.lanes.borrow_mut();
        lanes.held = false;
        lanes.wake();
    }

    /// Notes that the connection is gone: nothing is kept for it any more.
    pub fn abandon(&self) {
        let lanes = std::mem::take(&mut *self.lanes.borrow_mut());
        self.lanes.borrow_mut().stage = Stage::Gone;
        // Entries may hold the last handle of a follower whose drop looks into this outbox; so they go last.
        for waker in [lanes.carrier.clone(), lanes.reader.clone()].into_iter().flatten() {
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
        lanes.begun.len() + lanes.control_bytes + lanes.log_bytes + signals
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

    /// Hands what waits to `send`, which says how much of it the socket has taken: control, then log, state and pulse,
    /// as many pieces as make 64 KiB. Ready when the connection has nothing more to say, or fails. `drained` is called
    /// when a pull is wanted and no record is waiting, unless the socket takes nothing.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
        drained: impl FnOnce(),
    ) -> Poll<io::Result<()>> {
        let mut lanes = self.lanes.borrow_mut();
        let (mut jammed, mut pull) = (false, false);
        while !jammed {
            lanes.skip_empty();
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let pieces = lanes.gather(&mut slices);
            if pieces == 0 {
                break;
            }
            match send(cx, &slices[..pieces]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => lanes.sent(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => jammed = true,
            }
        }
        if !jammed {
            lanes.stuck_since = None;
            pull = lanes.pull_wanted && lanes.log.is_empty();
            lanes.pull_wanted &= !pull;
            if lanes.stage != Stage::Open && !lanes.held {
                lanes.stage = Stage::Gone;
                return Poll::Ready(Ok(()));
            }
        }
        lanes.idle = !jammed;
        if !lanes.carrier.as_ref().is_some_and(|carrier| carrier.will_wake(cx.waker())) {
            lanes.carrier = Some(cx.waker().clone());
        }
        let reader = if lanes.control_bytes <= CONTROL_BYTES_MAX { lanes.reader.take() } else { None };
        drop(lanes);
        if let Some(reader) = reader {
            reader.wake();
        }
        if pull {
            drained();
        }
        Poll::Pending
    }

    /// Takes out what waits, at most 64 KiB of it, for a reader that is no socket. `None` when the connection has nothing
    /// more to say.
    pub fn poll_take(&self, cx: &mut Context<'_>, drained: impl FnOnce()) -> Poll<Option<Bytes>> {
        let mut taken = BytesMut::new();
        let take = |_: &mut Context<'_>, slices: &[IoSlice<'_>]| {
            if !taken.is_empty() {
                return Poll::Pending;
            }
            slices.iter().for_each(|slice| taken.extend_from_slice(slice));
            Poll::Ready(Ok(taken.len()))
        };
        let ended = self.poll_send(cx, take, drained).is_ready();
        match (taken.is_empty(), ended) {
            (false, _) => Poll::Ready(Some(taken.freeze())),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }
}

impl Lanes {
    /// Gives the sink what goes into one call.
    fn send(&mut self) -> io::Result<usize> {
        let sink = self.sink.clone().ok_or(io::ErrorKind::NotConnected)?;
        self.skip_empty();
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let pieces = self.gather(&mut slices);
        let sent = sink.try_send(&slices[..pieces])?;
        self.sent(sent);
        Ok(sent)
    }

    /// Whether so much more would be too much for the log lane.
    fn is_full_for(&self, bytes: usize, records: u64) -> bool {
        !self.log.is_empty() && (self.log_bytes + bytes > LOG_BYTES_MAX || self.log_records + records > LOG_RECORDS_MAX)
    }

    /// Sends what was laid, while so much more would be too much and the socket takes all it is given: so many bytes.
    fn make_place(&mut self, bytes: usize, records: u64) -> usize {
        let mut all = 0;
        while self.idle && self.is_full_for(bytes, records) {
            let sent = self.send().unwrap_or(0);
            if sent == 0 || !self.begun.is_empty() {
                self.filled();
            }
            all += sent;
        }
        all
    }

    /// Nothing is left for the carrier but to ask for more, where that is wanted.
    fn sent_all(&mut self) {
        if self.pull_wanted {
            self.wake();
        }
    }

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
        self.wake_if_idle();
    }

    fn wake_if_idle(&mut self) {
        if self.idle {
            self.wake();
        }
    }

    /// Has the carrier look again.
    fn wake(&mut self) {
        self.idle = false;
        if let Some(carrier) = &self.carrier {
            carrier.wake_by_ref();
        }
    }

    fn is_empty(&self) -> bool {
        self.begun.is_empty()
            && self.control.is_empty()
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
        for (source, from) in entries.iter().rev().filter_map(|entry| entry.source.as_ref().zip(entry.from)) {
            source.rewind(from);
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

    /// What leaves next, and so on.
    fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let begun = Some(&self.begun).filter(|begun| !begun.is_empty());
        let records = self.log.iter().map(|entry| &entry.frames);
        begun
            .into_iter()
            .chain(&self.control)
            .chain(records)
            .chain(self.state.values())
            .chain(&self.pulse)
            .chain(&self.last)
    }

    /// Lays out what leaves next, in as many slices as there are for it and as make a chunk.
    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
            bytes += piece.len();
            if count > 0 && bytes > CHUNK_BYTES {
                break;
            }
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Nothing is written of what has no bytes.
    fn skip_empty(&mut self) {
        while self.pieces().next().is_some_and(Bytes::is_empty) {
            self.next();
        }
    }

    /// The socket has taken `sent` bytes of what was gathered.
    fn sent(&mut self, mut sent: usize) {
        while sent > 0 {
            let begun = Some(std::mem::take(&mut self.begun)).filter(|begun| !begun.is_empty());
            let Some(mut piece) = begun.or_else(|| self.next()) else { break };
            let part = sent.min(piece.len());
            piece.advance(part);
            sent -= part;
            self.begun = piece;
        }
        self.stuck_since = (!self.is_empty()).then(Instant::now);
    }
}

#[cfg(test)]
mod tests;
