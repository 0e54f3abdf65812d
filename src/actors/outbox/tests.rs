//! Pieces in, bytes out, in their order and within their bounds.

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
    outbox.push_state(state(1), Bytes::from_static(b"state "));
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
    sent.push_str(&std::iter::from_fn(|| Some(send(&outbox, 7)).filter(|some| !some.is_empty())).collect::<String>());
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
    let pushed = (0..=LOG_RECORDS_MAX).map(|seq| outbox.push_log(Bytes::from_static(b"."), 1, reader.clone(), at(seq)));
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
    outbox.push_state(state(1), Bytes::from_static(b"old "));
    outbox.push_state(state(2), Bytes::from_static(b"other "));
    outbox.push_state(state(1), Bytes::from_static(b"new "));
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
fn what_is_laid_goes_before_more_would_be_too_much() {
    let (outbox, reader, sink) = (Outbox::default(), reader(), Rc::new(Room::default()));
    let (woken, waker) = counting();
    let mut cx = Context::from_waker(&waker);
    outbox.connect(sink.clone());
    assert!(outbox.poll_take(&mut cx, || {}).is_pending());
    let large = |byte| Bytes::from(vec![byte; LOG_BYTES_MAX * 3 / 4]);
    let lay = |byte, seq| outbox.lay_log(large(byte), 1, reader.clone(), at(seq));
    sink.0.set(usize::MAX);
    assert_eq!(lay(b'a', 0), (Pushed::Waiting, 0));
    assert_eq!(lay(b'b', 1), (Pushed::Waiting, large(b'a').len()));
    assert_eq!((outbox.bytes(), woken.0.load(Ordering::Relaxed)), (large(b'b').len(), 0));

    // The socket takes a part: the rest of that is the carrier's, and the bound holds for what comes behind it.
    sink.0.set(10);
    assert_eq!(lay(b'c', 2), (Pushed::Waiting, 10));
    assert_eq!((outbox.send(), woken.0.load(Ordering::Relaxed)), (0, 1));
    assert_eq!(lay(b'd', 3), (Pushed::TakenBack, 0));
    assert_eq!(reader.0.get(), Some(at(2)), "what has begun to leave is not read again");
    assert_eq!(send(&outbox, usize::MAX).len(), large(b'b').len() - 10);
    assert_eq!(send(&outbox, 1), "");
}

#[test]
fn what_is_laid_before_a_socket_that_takes_nothing_is_taken_back_when_more_is_too_much() {
    let (outbox, reader, sink) = (Outbox::default(), reader(), Rc::new(Room::default()));
    let (woken, waker) = counting();
    outbox.connect(sink);
    assert!(outbox.poll_take(&mut Context::from_waker(&waker), || {}).is_pending());
    outbox.lay_log(Bytes::from(vec![b'a'; LOG_BYTES_MAX]), 1, reader.clone(), at(0));
    assert_eq!(outbox.lay_log(Bytes::from_static(b"b"), 1, reader.clone(), at(1)), (Pushed::TakenBack, 0));
    assert_eq!((reader.0.get(), outbox.bytes()), (Some(at(0)), 0));
    assert!(woken.0.load(Ordering::Relaxed) > 0, "the carrier has it read");
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

fn state(of: u64) -> StateKey {
    StateKey { room: RoomId(uuid::Uuid::nil()), of }
}

#[test]
fn what_waits_of_a_room_is_taken_out_and_nothing_of_others() {
    let outbox = Outbox::default();
    let other = StateKey { room: RoomId(uuid::Uuid::from_u128(1)), of: 1 };
    outbox.push_state(state(1), Bytes::from_static(b"its "));
    outbox.push_state(other, Bytes::from_static(b"other's "));
    outbox.purge_state(state(1).room);
    assert_eq!(take(&outbox), Some("other's ".to_owned()));
}
