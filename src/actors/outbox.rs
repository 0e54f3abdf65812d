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

use crate::domain::Position;

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
    state: BTreeMap<u64, Bytes>,
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
        let pushed = self.lay_log(frames, records, source, from);
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage == Stage::Open {
            lanes.filled();
        }
        pushed
    }

    /// As [`Outbox::push_log`], for a caller that calls [`Outbox::send`] behind all that it adds.
    pub fn lay_log(&self, frames: Bytes, records: u64, source: Rc<dyn Source>, from: Position) -> Pushed {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Open {
            return Pushed::Waiting;
        }
        let full = !lanes.log.is_empty()
            && (lanes.log_bytes + frames.len() > LOG_BYTES_MAX || lanes.log_records + records > LOG_RECORDS_MAX);
        lanes.push_entry(LogEntry { frames, records, source: Some(source), from: Some(from) });
        if full {
            lanes.take_back();
            return Pushed::TakenBack;
        }
        Pushed::Waiting
    }

    /// As [`Outbox::push_log`], and sends them together with what was laid before, as [`Outbox::send`] does: so many bytes.
    pub fn publish(&self, frames: Bytes, records: u64, source: Rc<dyn Source>, from: Position) -> (Pushed, usize) {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.stage != Stage::Open || !lanes.idle || !lanes.log.is_empty() {
            drop(lanes);
            let pushed = self.lay_log(frames, records, source, from);
            return (pushed, self.send());
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
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::domain::{Epoch, Seq};

    #[test]
    fn lanes_leave_in_their_order_and_are_joined() {
        let (outbox, reader) = (Outbox::default(), reader());
        outbox.push_pulse(Bytes::from_static(b"pulse "));
        outbox.push_state(1, Bytes::from_static(b"state "));
        outbox.push_log(Bytes::from_static(b"log "), 1, reader.clone(), at(0));
        outbox.push_control(Bytes::from_static(b"control "));
        assert_eq!(take(&outbox), Some("control log state pulse ".to_owned()));
        assert_eq!(take(&outbox), None);
    }

    #[test]
    fn a_chunk_has_at_most_64_kib_unless_one_frame_is_longer() {
        let (outbox, reader) = (Outbox::default(), reader());
        outbox.push_log(Bytes::from(vec![b'a'; 40 * 1024]), 1, reader.clone(), at(0));
        outbox.push_log(Bytes::from(vec![b'b'; 40 * 1024]), 1, reader.clone(), at(1));
        outbox.push_log(Bytes::from(vec![b'c'; 70 * 1024]), 1, reader.clone(), at(2));
        let lengths = std::iter::from_fn(|| take(&outbox)).map(|chunk| chunk.len() / 1024);
        assert_eq!(lengths.collect::<Vec<_>>(), [40, 40, 70]);
    }

    #[test]
    fn a_piece_that_has_begun_to_leave_leaves_whole_whatever_comes_meanwhile() {
        let (outbox, reader) = (Outbox::default(), reader());
        outbox.push_log(Bytes::from_static(b"three records"), 3, reader.clone(), at(0));
        assert_eq!(send(&outbox, 5), "three");
        outbox.push_control(Bytes::from_static(b"reply "));
        outbox.push_log(Bytes::from(vec![b'x'; LOG_BYTES_MAX]), 1, reader.clone(), at(3));
        let pushed = outbox.push_log(Bytes::from_static(b"too much"), 1, reader.clone(), at(4));
        assert_eq!(pushed, Pushed::TakenBack);
        assert_eq!(reader.0.get(), Some(at(3)), "what has begun to leave is not read again");
        assert_eq!(outbox.bytes(), 8 + 6);
        assert_eq!(send(&outbox, 4), " rec");
        assert_eq!(send(&outbox, 100), "ords");
        assert_eq!(send(&outbox, 100), "reply ");
    }

    #[test]
    fn a_socket_that_takes_little_and_one_that_takes_nothing_are_asked_again_and_hear_nothing_twice() {
        let (outbox, reader) = (Outbox::default(), reader());
        let mut sent = String::new();
        for seq in 0..20 {
            outbox.push_log(Bytes::from(format!("<{seq}>")), 1, reader.clone(), at(seq));
            outbox.push_control(Bytes::new());
            sent.push_str(&send(&outbox, usize::try_from(seq % 4).unwrap()));
        }
        sent.push_str(
            &std::iter::from_fn(|| Some(send(&outbox, 7)).filter(|some| !some.is_empty())).collect::<String>(),
        );
        assert_eq!(sent, (0..20).map(|seq| format!("<{seq}>")).collect::<String>());
        assert_eq!(outbox.stuck_since(), None);
    }

    #[test]
    fn a_full_log_lane_is_taken_back_to_where_it_began() {
        let (outbox, reader) = (Outbox::default(), reader());
        let frame = Bytes::from(vec![b'x'; 1024]);
        outbox.push_behind_log(Bytes::from_static(b"ping"), None);
        let mut seq = 0;
        let taken_back = loop {
            let pushed = outbox.push_log(frame.clone(), 1, reader.clone(), at(seq));
            seq += 1;
            if pushed == Pushed::TakenBack {
                break seq;
            }
        };
        assert_eq!(taken_back, 256, "256 KiB do not fit beside what is there");
        assert_eq!(reader.0.get(), Some(at(0)));
        assert_eq!(outbox.bytes(), 4, "frames that are not records stay");
    }

    #[test]
    fn many_small_records_are_too_many_too() {
        let (outbox, reader) = (Outbox::default(), reader());
        let pushed =
            (0..=LOG_RECORDS_MAX).map(|seq| outbox.push_log(Bytes::from_static(b"."), 1, reader.clone(), at(seq)));
        let taken_back = pushed.filter(|pushed| *pushed == Pushed::TakenBack).count();
        assert_eq!(taken_back, 1);
    }

    #[test]
    fn an_empty_lane_takes_a_page_of_any_size() {
        let (outbox, reader) = (Outbox::default(), reader());
        let page = Bytes::from(vec![b'x'; 2 * LOG_BYTES_MAX]);
        assert_eq!(outbox.push_log(page.clone(), 256, reader.clone(), at(0)), Pushed::Waiting);
        assert_eq!(outbox.push_log(page, 256, reader.clone(), at(256)), Pushed::TakenBack);
    }

    #[test]
    fn a_pull_is_asked_for_once_and_when_no_record_is_waiting() {
        let (outbox, reader) = (Outbox::default(), reader());
        let waker = Arc::new(Count::default());
        let mut pulls = 0;
        outbox.want_pull();
        outbox.push_log(Bytes::from(vec![b'a'; CHUNK_BYTES]), 1, reader.clone(), at(0));
        outbox.push_log(Bytes::from_static(b"b"), 1, reader.clone(), at(1));
        let waker = Waker::from(waker);
        let mut cx = Context::from_waker(&waker);
        for expected in [0, 1, 1, 1] {
            let _ = outbox.poll_take(&mut cx, || pulls += 1);
            assert_eq!(pulls, expected);
        }
    }

    #[test]
    fn state_is_the_latest_per_key_and_pulses_are_dropped_and_both_are_counted() {
        let outbox = Outbox::default();
        outbox.push_state(1, Bytes::from_static(b"old "));
        outbox.push_state(2, Bytes::from_static(b"other "));
        outbox.push_state(1, Bytes::from_static(b"new "));
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(take(&outbox), Some("new other ".to_owned()));
        for _ in 0..SIGNALS_MAX + 5 {
            outbox.push_pulse(Bytes::from_static(b"."));
        }
        assert_eq!((outbox.dropped(), outbox.bytes()), (6, SIGNALS_MAX));
    }

    #[test]
    fn the_body_is_woken_by_what_comes_in_and_commands_wait_while_replies_pile_up() {
        let outbox = Outbox::default();
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(outbox.poll_take(&mut cx, || {}).is_pending());
        outbox.push_control(Bytes::from_static(b"reply"));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(outbox.poll_uncongested(&mut cx).is_ready());
        outbox.push_control(Bytes::from(vec![b'x'; CONTROL_BYTES_MAX]));
        assert!(outbox.poll_uncongested(&mut cx).is_pending());
        while outbox.poll_take(&mut cx, || {}).is_ready() {}
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "the reader is woken when there is room");
        assert!(outbox.poll_uncongested(&mut cx).is_ready());
    }

    #[test]
    fn what_is_not_taken_is_stuck_until_it_is_taken() {
        let outbox = Outbox::default();
        assert_eq!(outbox.stuck_since(), None);
        outbox.push_control(Bytes::from_static(b"first"));
        let since = outbox.stuck_since();
        assert!(since.is_some());
        outbox.push_control(Bytes::from_static(b"second"));
        assert_eq!(outbox.stuck_since(), since, "more of it makes it no younger");
        take(&outbox);
        assert_eq!(outbox.stuck_since(), None);
        outbox.want_pull();
        assert_eq!(outbox.stuck_since(), None, "nothing waits");
        let one = reader();
        outbox.push_log(Bytes::from_static(b"record"), 1, one.clone(), at(0));
        outbox.purge(&one);
        assert_eq!(take(&outbox), None);
        assert_eq!(outbox.stuck_since(), None, "what waited has been taken out");
    }

    #[test]
    fn a_connection_that_finishes_takes_its_replies_and_the_close_and_nothing_more() {
        let (outbox, reader) = (Outbox::default(), reader());
        outbox.push_log(Bytes::from_static(b"record"), 1, reader.clone(), at(0));
        outbox.push_control(Bytes::from_static(b"reply "));
        outbox.finish(Bytes::from_static(b"close"));
        outbox.push_control(Bytes::from_static(b"late"));
        assert_eq!(take(&outbox), Some("reply close".to_owned()));
        assert!(!outbox.is_open());
        let waker = Waker::from(Arc::new(Count::default()));
        let ended = outbox.poll_take(&mut Context::from_waker(&waker), || {});
        assert_eq!(ended, Poll::Ready(None));
    }

    #[test]
    fn a_purge_takes_out_one_reader_only() {
        let (outbox, one, other) = (Outbox::default(), reader(), reader());
        outbox.push_log(Bytes::from_static(b"a"), 1, one.clone(), at(0));
        outbox.push_log(Bytes::from_static(b"b"), 1, other.clone(), at(0));
        outbox.push_behind_log(Bytes::from_static(b"c"), None);
        outbox.purge(&one);
        assert_eq!(take(&outbox), Some("bc".to_owned()));
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_laid_goes_past_an_idle_carrier_as_far_as_the_socket_takes_it() {
        let (outbox, reader, sink) = (Outbox::default(), reader(), Rc::new(Room::default()));
        let (woken, waker) = counting();
        let mut cx = Context::from_waker(&waker);
        outbox.connect(sink.clone());
        outbox.lay_log(Bytes::from_static(b"at once "), 1, reader.clone(), at(0));
        outbox.send();
        assert_eq!(sink.taken(), "", "no carrier is there yet, and something may stand before it");

        let taken = Cell::new(0);
        let all = |_: &mut Context<'_>, slices: &[IoSlice<'_>]| {
            taken.set(taken.get() + slices[0].len());
            Poll::Ready(Ok(slices[0].len()))
        };
        assert!(outbox.poll_send(&mut cx, all, || {}).is_pending());
        assert_eq!(taken.get(), 8);
        sink.0.set(6);
        outbox.lay_log(Bytes::from_static(b"all"), 1, reader.clone(), at(1));
        outbox.send();
        assert_eq!((sink.taken().as_str(), woken.0.load(Ordering::Relaxed)), ("all", 0));
        assert_eq!((outbox.bytes(), outbox.stuck_since()), (0, None));

        outbox.lay_log(Bytes::from_static(b"partly"), 1, reader.clone(), at(2));
        outbox.send();
        assert_eq!((sink.taken().as_str(), woken.0.load(Ordering::Relaxed)), ("allpar", 1));
        assert!(outbox.stuck_since().is_some());
        sink.0.set(100);
        outbox.lay_log(Bytes::from_static(b" more"), 1, reader, at(3));
        outbox.send();
        assert_eq!(sink.taken(), "allpar", "the carrier is at work and does the rest");
        assert_eq!(send(&outbox, 100), "tly");
        assert_eq!(send(&outbox, 100), " more");
    }

    #[test]
    fn a_pull_that_is_wanted_is_made_also_when_nothing_was_left_for_the_carrier() {
        let (outbox, reader, sink) = (Outbox::default(), reader(), Rc::new(Room::default()));
        let (woken, waker) = counting();
        let mut cx = Context::from_waker(&waker);
        outbox.connect(sink.clone());
        assert!(outbox.poll_take(&mut cx, || {}).is_pending());
        sink.0.set(100);
        outbox.lay_log(Bytes::from_static(b"record"), 1, reader, at(0));
        outbox.lanes.borrow_mut().pull_wanted = true;
        outbox.send();
        assert_eq!((sink.taken().as_str(), woken.0.load(Ordering::Relaxed)), ("record", 1));
    }

    #[test]
    fn what_is_published_goes_past_an_idle_carrier_and_what_is_left_of_it_is_the_carriers() {
        let (outbox, reader, sink) = (Outbox::default(), reader(), Rc::new(Room::default()));
        let (woken, waker) = counting();
        let mut cx = Context::from_waker(&waker);
        outbox.connect(sink.clone());
        assert!(outbox.poll_take(&mut cx, || {}).is_pending());
        let publish = |text: &'static str, seq| {
            let (pushed, sent) = outbox.publish(Bytes::from_static(text.as_bytes()), 1, reader.clone(), at(seq));
            assert_eq!(pushed, Pushed::Waiting);
            sent
        };
        sink.0.set(18);
        assert_eq!((publish("all ", 0), woken.0.load(Ordering::Relaxed)), (4, 0));
        outbox.lay_log(Bytes::from_static(b"laid "), 1, reader.clone(), at(1));
        assert_eq!((publish("with it ", 2), woken.0.load(Ordering::Relaxed)), (13, 0));
        assert_eq!((publish("a part", 3), woken.0.load(Ordering::Relaxed)), (1, 1));
        assert!(outbox.stuck_since().is_some());
        sink.0.set(100);
        assert_eq!(publish(" more", 4), 0, "the carrier is at work");
        assert_eq!(sink.taken(), "all laid with it a");
        assert_eq!(send(&outbox, 100), " part");
        assert_eq!(send(&outbox, 100), " more");
        sink.0.set(0);
        assert!(outbox.poll_take(&mut cx, || {}).is_pending());
        assert_eq!((publish("nothing", 5), outbox.bytes()), (0, 7));
        assert_eq!(send(&outbox, 100), "nothing");
    }

    #[test]
    fn a_connection_that_is_held_for_its_last_word_is_sent_nothing_behind_it() {
        let (outbox, sink) = (Outbox::default(), Rc::new(Room::default()));
        outbox.connect(sink.clone());
        outbox.finish_at_once(Bytes::from_static(b"denied"));
        assert_eq!(take(&outbox), Some("denied".to_owned()));
        assert_eq!(take(&outbox), None);
        assert!(!outbox.is_gone());
        sink.0.set(100);
        assert_eq!(outbox.publish(Bytes::from_static(b"record"), 1, reader(), at(0)), (Pushed::Waiting, 0));
        assert_eq!((sink.taken().as_str(), outbox.bytes()), ("", 0));
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    /// Takes so many bytes, and keeps them.
    #[derive(Default)]
    struct Room(Cell<usize>, RefCell<Vec<u8>>);

    impl Room {
        fn taken(&self) -> String {
            String::from_utf8(self.1.borrow().clone()).unwrap()
        }
    }

    impl Sink for Room {
        fn try_send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let part: Vec<u8> = slices.iter().flat_map(|slice| slice.iter()).copied().take(self.0.get()).collect();
            self.0.set(self.0.get() - part.len());
            self.1.borrow_mut().extend_from_slice(&part);
            if part.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(part.len()) }
        }

        fn look_ahead(&self) {}
    }

    /// Remembers where it was taken back to.
    struct Reader(Cell<Option<Position>>);

    impl Source for Reader {
        fn rewind(&self, to: Position) {
            self.0.set(Some(to));
        }
    }

    fn reader() -> Rc<Reader> {
        Rc::new(Reader(Cell::new(None)))
    }

    fn at(seq: u64) -> Position {
        Position { epoch: Epoch(1), seq: Seq(seq) }
    }

    /// What a socket takes that has room for so much and then for nothing.
    fn send(outbox: &Outbox, room: usize) -> String {
        let mut taken = Vec::new();
        let waker = Waker::from(Arc::new(Count::default()));
        let take = |_: &mut Context<'_>, slices: &[IoSlice<'_>]| {
            if !taken.is_empty() || room == 0 {
                return Poll::Pending;
            }
            taken.extend(slices[0].iter().take(room));
            Poll::Ready(Ok(taken.len()))
        };
        assert!(outbox.poll_send(&mut Context::from_waker(&waker), take, || {}).is_pending());
        String::from_utf8(taken).unwrap()
    }

    fn take(outbox: &Outbox) -> Option<String> {
        let waker = Waker::from(Arc::new(Count::default()));
        match outbox.poll_take(&mut Context::from_waker(&waker), || {}) {
            Poll::Ready(chunk) => chunk.map(|chunk| String::from_utf8_lossy(&chunk).into_owned()),
            Poll::Pending => None,
        }
    }
}
