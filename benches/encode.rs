//! What it costs to turn a record into bytes and a client's bytes into a command, per dialect, with what serde makes
//! of the same members beside it as the limit. `cargo bench --bench encode`.
//!
//! Nothing here waits or talks to anybody: what connections cost is measured by the other benches of this folder.
//!
//! A run of everything holds what it costs beside the limit against what was kept; with `--keep` it keeps that instead.

#[path = "kept/mod.rs"]
mod kept;

use std::process::ExitCode;
use std::time::Duration;

use bytes::BytesMut;
use chinwag::domain::world::{RoomTag, World};
use chinwag::domain::{
    ClientId, Content, Epoch, Event, Mark, Num, Position, Record, RecordId, RoomEvent, RoomId, RoomKey, Seq, TenantId,
    Timestamp, UserId,
};
use chinwag::wire::guard::Limits;
use chinwag::wire::{Assembler, Cursor, Dialect, Label, Sealer};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kept::{Figure, Kept, TIMES_KEPT};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let keep = asked == ["--keep"];
    if !keep {
        divan::main();
    }
    if !keep && !asked.is_empty() {
        return ExitCode::SUCCESS;
    }
    match hold(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("encode: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many rounds of ours and of the limit are made in turn, and how long one takes.
const ROUNDS: usize = 31;
const ROUND: Duration = Duration::from_millis(5);

/// Holds the share of the limit that is reached.
fn hold(keep: bool) -> Result<(), String> {
    let mut kept = Kept::read()?;
    let json = |dialect| share(records::ours(dialect, line(), 16), records::limit_json(16));
    let shares = [
        ("a record as JSON", json(Dialect::NativeJson)),
        ("as a server-sent event", json(Dialect::NativeSse)),
        ("as MessagePack", share(records::ours(Dialect::NativeMsgpack, line(), 16), records::limit_msgpack(16))),
        ("a publish, read from JSON", share(publishes::ours(), publishes::limit())),
    ];
    println!();
    for (case, share) in shares {
        let lost = kept.hold(&format!("encode: {case}"), Figure::Share(share)).unwrap_or_default();
        println!("{case:<26} {share:>4.0} % of the limit {lost}");
    }
    // No library seals the same with less, so there is no limit.
    let nanos = 1e9 / per_second(worlds::ours(0));
    let lost = kept.hold("encode: a world's cursor, ns", Figure::Cost(nanos, TIMES_KEPT)).unwrap_or_default();
    println!("{:<26} {nanos:>4.0} ns {lost}", "a world's cursor");
    kept.end(keep)
}

/// How much of the limit's speed is ours, in per cent: the median of rounds in turn.
fn share<A, B>(mut ours: impl FnMut() -> A, mut limit: impl FnMut() -> B) -> f64 {
    let mut shares: Vec<f64> = (0..ROUNDS).map(|_| 100.0 * per_second(&mut ours) / per_second(&mut limit)).collect();
    shares.sort_unstable_by(f64::total_cmp);
    shares[ROUNDS / 2]
}

/// Of the thread's own time: who else wants the processor does not count.
fn per_second<T>(mut work: impl FnMut() -> T) -> f64 {
    let (began, mut done) = (thread_time(), 0_u32);
    loop {
        for _ in 0..64 {
            black_box(work());
        }
        done += 64;
        let took = thread_time() - began;
        if took >= ROUND {
            return f64::from(done) / took.as_secs_f64();
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// How many records a batch has.
const BATCHES: [usize; 3] = [1, 16, 64];

/// What a message says: 150 bytes of JSON, as the line of a chat and as what a program says.
const LINE: &str = "It is late, the last of the ferries has gone, and nobody told us that the café on the pier would \
                    close \"early\" today; come over.";
const MOVE: &str = r#"{"kind":"move","piece":"3f9d","from":[12,41],"to":[13,44],"at":1763733600123,"by":"ann","undo":false,"note":"a free tile","path":[[12,42],[13,43],[13,44]]}"#;

/// A batch becomes frames, one behind the other, as all followers of a dialect share them.
mod records {
    use super::*;

    #[divan::bench(args = BATCHES)]
    fn json(bencher: Bencher, count: usize) {
        bencher.counter(ItemsCount::new(count)).bench_local(ours(Dialect::NativeJson, line(), count));
    }

    #[divan::bench(args = BATCHES)]
    fn json_of_a_program(bencher: Bencher, count: usize) {
        bencher.counter(ItemsCount::new(count)).bench_local(ours(Dialect::NativeJson, program(), count));
    }

    #[divan::bench(args = BATCHES)]
    fn sse(bencher: Bencher, count: usize) {
        bencher.counter(ItemsCount::new(count)).bench_local(ours(Dialect::NativeSse, line(), count));
    }

    #[divan::bench(args = BATCHES)]
    fn msgpack(bencher: Bencher, count: usize) {
        bencher.counter(ItemsCount::new(count)).bench_local(ours(Dialect::NativeMsgpack, line(), count));
    }

    #[divan::bench(args = BATCHES)]
    fn msgpack_of_a_program(bencher: Bencher, count: usize) {
        bencher.counter(ItemsCount::new(count)).bench_local(ours(Dialect::NativeMsgpack, program(), count));
    }

    #[divan::bench(args = BATCHES)]
    fn limit_serde_json(bencher: Bencher, count: usize) {
        bencher.counter(ItemsCount::new(count)).bench_local(limit_json(count));
    }

    #[divan::bench(args = BATCHES)]
    fn limit_rmp_serde(bencher: Bencher, count: usize) {
        bencher.counter(ItemsCount::new(count)).bench_local(limit_msgpack(count));
    }

    pub fn ours(dialect: Dialect, content: Content, count: usize) -> impl FnMut() -> usize {
        let records: Vec<_> = (1..=count as u64).map(|seq| posted(seq, content.clone())).collect();
        let room = room();
        move || {
            let mut out = BytesMut::with_capacity(count * 512);
            for record in &records {
                dialect.put_record(&mut out, Label::plain(&room), black_box(record));
            }
            out.freeze().len()
        }
    }

    pub fn limit_json(count: usize) -> impl FnMut() -> usize {
        let records = shapes(count);
        move || {
            let mut out = Vec::with_capacity(count * 512);
            for record in &records {
                serde_json::to_writer(&mut out, black_box(record)).expect("it is JSON");
            }
            out.len()
        }
    }

    pub fn limit_msgpack(count: usize) -> impl FnMut() -> usize {
        let records = shapes(count);
        move || {
            let mut out = Vec::with_capacity(count * 512);
            for record in &records {
                rmp_serde::encode::write_named(&mut out, black_box(record)).expect("it is MessagePack");
            }
            out.len()
        }
    }

    /// The members of a record, every text of them made already.
    #[derive(Serialize)]
    struct Shape {
        r#type: &'static str,
        room: String,
        seq: u64,
        cursor: String,
        id: String,
        num: u64,
        at: i64,
        author: String,
        client_id: String,
        event: &'static str,
        content: ShapeOfContent,
    }

    #[derive(Serialize)]
    struct ShapeOfContent {
        text: &'static str,
    }

    fn shapes(count: usize) -> Vec<Shape> {
        let records = (1..=count as u64).map(|seq| posted(seq, line()));
        let shapes = records.map(|record| Shape {
            r#type: "record",
            room: room().room.to_string(),
            seq: record.position.seq.0,
            cursor: Cursor::encode(&room(), record.position).to_string(),
            id: record.id.to_string(),
            num: record.num.0,
            at: record.at.0,
            author: record.author.to_string(),
            client_id: record.client_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            event: "message_posted",
            content: ShapeOfContent { text: LINE },
        });
        let shapes: Vec<_> = shapes.collect();
        let same = Dialect::NativeJson.encode_record(&room(), &posted(1, line()));
        assert_eq!(serde_json::to_vec(&shapes[0]).expect("it is JSON"), same, "the limit writes the same bytes");
        shapes
    }
}

/// A frame that everybody shares becomes one follower's own, with the cursor of its world in it.
mod worlds {
    use super::*;

    /// How many rooms stand elsewhere than at the mark.
    const EXCEPTIONS: [u64; 3] = [0, 8, 64];

    #[divan::bench(args = EXCEPTIONS)]
    fn seal(bencher: Bencher, exceptions: u64) {
        bencher.bench_local(ours(exceptions));
    }

    pub fn ours(exceptions: u64) -> impl FnMut() -> usize {
        let (sealer, world, room, author) = (sealer(), world(exceptions), room(), author());
        move || sealer.seal(&room.tenant, &author, EPOCH, black_box(&world)).len()
    }

    #[divan::bench(args = [Dialect::NativeJson, Dialect::NativeMsgpack, Dialect::NativeSse])]
    fn splice(bencher: Bencher, dialect: Dialect) {
        let cursor = sealer().seal(&room().tenant, &author(), EPOCH, &world(8));
        let mut framed = BytesMut::new();
        dialect.put_record(&mut framed, Label::plain(&room()), &posted(7, line()));
        bencher.bench_local(|| {
            let mut out = BytesMut::with_capacity(1024);
            dialect.put_in_world(&mut out, black_box(&framed), &cursor);
            out.len()
        });
    }

    fn world(exceptions: u64) -> World {
        let exceptions = (0..exceptions).map(|room| (RoomTag(room << 57 | 0x00c0_ffee), Seq(1000 + room)));
        World::restored(Mark(1_000_000), exceptions.collect(), None).expect("there are not too many")
    }

    fn sealer() -> Sealer {
        Sealer::new(&[7; 32]).expect("it has 32 bytes")
    }
}

/// What a client publishes becomes a command.
mod publishes {
    use super::*;

    #[divan::bench]
    fn json(bencher: Bencher) {
        bencher.bench_local(ours());
    }

    #[divan::bench]
    fn json_of_a_program(bencher: Bencher) {
        let frame = publish(&serde_json::from_str(MOVE).expect("it is JSON"));
        bencher.bench_local(|| Dialect::NativeJson.decode(black_box(frame.as_bytes())));
    }

    #[divan::bench]
    fn msgpack(bencher: Bencher) {
        let json: serde_json::Value = serde_json::from_str(&publish(&serde_json::json!({ "text": LINE }))).expect("is");
        let frame = rmp_serde::to_vec_named(&json).expect("it is MessagePack");
        bencher.bench_local(|| Dialect::NativeMsgpack.decode(black_box(&frame)));
    }

    #[divan::bench]
    fn limit_serde_json(bencher: Bencher) {
        bencher.bench_local(limit());
    }

    pub fn ours() -> impl FnMut() -> bool {
        let frame = publish(&serde_json::json!({ "text": LINE }));
        move || black_box(Dialect::NativeJson.decode(black_box(frame.as_bytes()))).is_ok()
    }

    pub fn limit() -> impl FnMut() -> bool {
        let frame = publish(&serde_json::json!({ "text": LINE }));
        move || black_box(serde_json::from_slice::<Shape>(black_box(frame.as_bytes())).map(Shape::owned)).is_ok()
    }

    /// One masked frame, from the socket's bytes to a message.
    #[divan::bench]
    fn assemble(bencher: Bencher) {
        let payload = publish(&serde_json::json!({ "text": LINE }));
        let frame = masked(payload.as_bytes());
        let mut assembler = Assembler::new(Limits::AUTHENTICATED);
        bencher.bench_local(|| assembler.next(&mut black_box(&frame[..])));
    }

    fn publish(content: &serde_json::Value) -> String {
        let content = serde_json::to_string(content).expect("it is JSON");
        let room = room().room;
        format!(r#"{{"id":"17","type":"post","room":"{room}","client_id":"device-4-981273","content":{content}}}"#)
    }

    #[derive(Deserialize)]
    struct Shape<'a> {
        id: &'a str,
        r#type: &'a str,
        room: &'a str,
        client_id: &'a str,
        #[serde(borrow)]
        content: &'a RawValue,
    }

    impl Shape<'_> {
        /// What a command has to keep of it.
        fn owned(self) -> (String, bool, uuid::Uuid, ClientId, Box<str>) {
            let room = self.room.parse().expect("it is a uuid");
            let client_id = ClientId::new(self.client_id).expect("it is one");
            (self.id.to_owned(), self.r#type == "post", room, client_id, self.content.get().into())
        }
    }

    /// A text of 126 bytes to 64 KiB as a client sends it.
    fn masked(payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let bytes = u16::try_from(payload.len()).expect("it is short").to_be_bytes();
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key);
        [0x81, 0x80 | 126].into_iter().chain(bytes).chain(mask).chain(masked).collect()
    }
}

const EPOCH: Epoch = Epoch(3 << 32 | 0xfeed_beef);

fn room() -> RoomKey {
    RoomKey { tenant: TenantId::default_tenant(), room: RoomId::new(Timestamp(1_763_733_600_000), 7 << 64 | 9) }
}

fn author() -> UserId {
    UserId::new("ann@example.org").expect("it is one")
}

fn posted(seq: u64, content: Content) -> Record {
    let (seq, at) = (Seq(1000 + seq), Timestamp(1_763_733_600_123));
    Record {
        position: Position { epoch: EPOCH, seq },
        id: RecordId::new(at, seq, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        num: Num(7000 + seq.0),
        at,
        author: author(),
        client_id: Some(ClientId::new("device-4-981273").expect("it is one")),
        event: Event::Room(RoomEvent::posted(content)),
    }
}

fn line() -> Content {
    Content::text(LINE)
}

fn program() -> Content {
    Content { text: None, body: Some(MOVE.into()) }
}
