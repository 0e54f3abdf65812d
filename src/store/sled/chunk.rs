//! Commit chunks: how the records of one write lie together in one value.
//!
//! A chunk is a header and *runs*; a run is the consecutive records of one stream in one chunk, and names the chunk
//! and place of the stream's run before, so that a log is walked backwards from its tail without looking at the runs of
//! others. All numbers are little-endian.
//!
//! ```text
//! chunk   version 1 | one where runs have moved 1 | runs 2 | number 8 | crc 4, of the twelve bytes before
//! run     crc 4, of the rest of the header | stream length 1 | zero 1 | records 2 | bytes of the records 4
//!         | epoch 8 | first seq 8 | previous chunk 6 | where in it 2, both zero for none, this one alone for
//!         what has been trimmed | stream
//! record  length 4 | crc 4, see `codec::checksum` | bytes
//! ```

use ::sled::IVec;

use super::super::StoreError;
use super::super::codec::{self, damage};
use crate::domain::{Epoch, Position, Record, Seq};

/// Where a chunk ends and the next one begins. A record that is larger has a chunk of its own.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

const VERSION: u8 = 2;
/// In a chunk's header, where its runs may lie elsewhere than they were written.
const MOVED: u8 = 1;
const CHUNK_HEADER: usize = 16;
const RUN_HEADER: usize = 36;
/// Before the bytes of each record.
pub(super) const FRAME_HEADER: usize = 8;

/// Where a run lies. All zero stands for none: numbers begin with one, and a chunk with its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spot {
    pub(super) chunk: u64,
    /// Where in the chunk it began when that was written; erasing moves what comes after.
    at: u16,
}

impl Spot {
    pub(super) const NONE: Self = Self { chunk: 0, at: 0 };
    const NUMBER: u64 = (1 << 48) - 1;

    /// Stands for a run that has been trimmed, whose last record lay in this chunk.
    pub(super) fn trimmed(chunk: u64) -> Self {
        Self { chunk, at: 0 }
    }

    /// Whether it stands for a run that has been trimmed: those that are there lie behind the header of a chunk.
    pub(super) fn is_trimmed(self) -> bool {
        self.at == 0 && self.chunk > 0
    }

    pub(super) fn new(chunk: u64, at: u16) -> Self {
        Self { chunk, at }
    }

    pub(super) fn to_le_bytes(self) -> [u8; 8] {
        (self.chunk | u64::from(self.at) << 48).to_le_bytes()
    }

    pub(super) fn from_le_bytes(bytes: [u8; 8]) -> Self {
        let [.., low, high] = bytes;
        Self { chunk: u64::from_le_bytes(bytes) & Self::NUMBER, at: u16::from_le_bytes([low, high]) }
    }
}

/// Appends `record` as it will lie in a chunk. `stream` is the checksum of the stream's name.
pub(super) fn frame(record: &Record, stream: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER]);
    codec::encode(record, out);
    let bytes = &out[start + FRAME_HEADER..];
    let len = u32::try_from(bytes.len()).expect("a record is far smaller than 4 GiB");
    let crc = codec::checksum(stream, record.position, bytes);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + FRAME_HEADER].copy_from_slice(&crc.to_le_bytes());
}

/// The length of the frame that `frames` begins with.
pub(super) fn frame_len(frames: &[u8]) -> Option<usize> {
    let len = FRAME_HEADER + usize::try_from(u32_at(frames, 0)?).ok()?;
    (len <= frames.len()).then_some(len)
}

/// Puts the runs of one chunk together.
pub(super) struct Builder {
    bytes: Vec<u8>,
    runs: u16,
    /// Where the run being written begins.
    open: Option<usize>,
}

impl Builder {
    pub(super) fn new(number: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(CHUNK_HEADER + capacity);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, runs: 0, open: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs == 0
    }

    /// Whether a run of `stream` that begins with `frame` fits.
    pub(super) fn fits(&self, stream: &[u8], frame: usize) -> bool {
        let header = if self.open.is_some() { 0 } else { RUN_HEADER + stream.len() };
        self.is_empty() || self.bytes.len() + header + frame <= CHUNK_BYTES
    }

    pub(super) fn begin(&mut self, stream: &[u8], epoch: Epoch, first: Seq, previous: Spot) {
        self.open = Some(self.bytes.len());
        self.runs += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.push(u8::try_from(stream.len()).expect("a stream's name has at most 195 bytes"));
        self.bytes.extend_from_slice(&[0; 7]);
        self.bytes.extend_from_slice(&epoch.0.to_le_bytes());
        self.bytes.extend_from_slice(&first.0.to_le_bytes());
        self.bytes.extend_from_slice(&previous.to_le_bytes());
        self.bytes.extend_from_slice(stream);
    }

    pub(super) fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// Ends the run that was begun, of `count` records, and returns where it begins and how many bytes these take.
    pub(super) fn end(&mut self, stream: &[u8], count: u16) -> (u16, u32) {
        let Some(start) = self.open.take() else { return (0, 0) };
        let records = self.bytes.len() - start - RUN_HEADER - stream.len();
        let records = u32::try_from(records).expect("a chunk is far smaller than 4 GiB");
        seal_run(&mut self.bytes[start..start + RUN_HEADER + stream.len()], count, records);
        (u16::try_from(start).expect("a run that is not the first ends within the chunk"), records)
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[2..4].copy_from_slice(&self.runs.to_le_bytes());
        seal_chunk(&mut self.bytes[..CHUNK_HEADER]);
        self.bytes
    }
}

fn seal_chunk(header: &mut [u8]) {
    let crc = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
}

fn seal_run(header: &mut [u8], count: u16, records: u32) {
    header[6..8].copy_from_slice(&count.to_le_bytes());
    header[8..12].copy_from_slice(&records.to_le_bytes());
    let crc = crc32c::crc32c(&header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
}

/// A run in a chunk that was read.
#[derive(Clone, Debug)]
pub(super) struct Run {
    chunk: IVec,
    pub(super) spot: Spot,
    records: usize,
    end: usize,
    /// The checksum of the stream's name.
    stream: u32,
    pub(super) epoch: Epoch,
    pub(super) first: Seq,
    pub(super) count: u16,
    /// The stream's run before.
    pub(super) previous: Spot,
}

impl Run {
    pub(super) fn last(&self) -> Position {
        Position { epoch: self.epoch, seq: Seq(self.first.0 + u64::from(self.count) - 1) }
    }

    pub(super) fn stream(&self) -> &[u8] {
        &self.chunk[self.header()..self.records]
    }

    /// Where the header ends but for the stream's name.
    fn header(&self) -> usize {
        usize::from(self.spot.at) + RUN_HEADER
    }

    /// The bytes that the records take.
    pub(super) fn bytes(&self) -> u32 {
        u32::try_from(self.end - self.records).expect("its length was read from 32 bits")
    }

    /// The records as they lie, oldest first.
    pub(super) fn frames(&self) -> Result<Vec<Frame>, StoreError> {
        let mut frames = Vec::with_capacity(usize::from(self.count));
        let mut at = self.records;
        let mut seq = self.first;
        for _ in 0..self.count {
            let len = frame_len(&self.chunk[at..self.end]).ok_or_else(|| damage("a record is cut off"))?;
            frames.push(Frame { at, len, position: Position { epoch: self.epoch, seq } });
            at += len;
            seq = seq.next();
        }
        if at == self.end { Ok(frames) } else { Err(damage("a run is longer than its records")) }
    }

    /// Whether the runs of its chunk have moved: where in it they were written, nothing tells any more.
    pub(super) fn has_moved(&self) -> bool {
        self.chunk[1] == MOVED
    }

    /// There is none before it, of which nobody knows why.
    pub(super) fn is_first(&self) -> bool {
        self.is_floor() || self.first == Seq(1) && self.previous == Spot::NONE
    }

    /// What was before it has been trimmed.
    pub(super) fn is_floor(&self) -> bool {
        self.first > Seq(1) && self.previous.is_trimmed()
    }

    pub(super) fn holds(&self, seq: Seq) -> bool {
        (self.first..=self.last().seq).contains(&seq)
    }

    /// Where the record at `seq` lies, which the run holds.
    pub(super) fn frame(&self, seq: Seq) -> Result<Frame, StoreError> {
        let frame = self.frames()?.into_iter().find(|frame| frame.position.seq == seq);
        frame.ok_or_else(|| damage(format!("the record at {seq} is missing")))
    }

    /// The chunk as it would be if the run named another one as the one before.
    #[cfg(test)]
    pub(super) fn with_previous(&self, previous: Spot) -> Vec<u8> {
        let mut chunk = self.chunk.to_vec();
        let header = &mut chunk[usize::from(self.spot.at)..self.records];
        header[28..RUN_HEADER].copy_from_slice(&previous.to_le_bytes());
        seal_run(header, self.count, self.bytes());
        chunk
    }

    /// The stored bytes of a record, checked.
    pub(super) fn bytes_of(&self, frame: &Frame) -> Result<&[u8], StoreError> {
        let bytes = &self.chunk[frame.at + FRAME_HEADER..frame.at + frame.len];
        let crc = u32_at(&self.chunk, frame.at + 4);
        if crc == Some(codec::checksum(self.stream, frame.position, bytes)) {
            Ok(bytes)
        } else {
            Err(damage(format!("the record at {} does not match its checksum", frame.position.seq)))
        }
    }

    pub(super) fn decode(&self, frame: &Frame) -> Result<Record, StoreError> {
        codec::decode(frame.position, self.bytes_of(frame)?)
    }

    /// Checks every record.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.frames()?.iter().try_for_each(|frame| self.bytes_of(frame).map(drop))
    }
}

/// Where a record lies in its chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    at: usize,
    len: usize,
    pub(super) position: Position,
}

impl Frame {
    /// The bytes of the record.
    pub(super) fn bytes(&self) -> usize {
        self.len - FRAME_HEADER
    }
}

/// The runs of a chunk, whose headers are checked on the way.
pub(super) struct Runs {
    chunk: IVec,
    number: u64,
    at: usize,
    left: u16,
}

impl Runs {
    pub(super) fn of(chunk: &IVec, number: u64) -> Result<Self, StoreError> {
        let whole = chunk.len() >= CHUNK_HEADER
            && u32_at(chunk, 12) == Some(crc32c::crc32c(&chunk[..12]))
            && u64_at(chunk, 4) == Some(number);
        if !whole {
            return Err(damage(format!("the header of chunk {number} does not match its checksum")));
        }
        if chunk[0] != VERSION {
            return Err(damage(format!("chunk {number} is of version {}", chunk[0])));
        }
        let left = u16::from_le_bytes([chunk[2], chunk[3]]);
        Ok(Self { chunk: chunk.clone(), number, at: CHUNK_HEADER, left })
    }

    /// The run of `stream` that was written at `spot`, if there is one.
    pub(super) fn at(mut self, spot: Spot, stream: &[u8]) -> Result<Option<Run>, StoreError> {
        if self.chunk[1] == MOVED {
            return self.find(stream);
        }
        self.at = usize::from(spot.at);
        self.run().ok_or_else(damaged_run).map(|run| Some(run).filter(|run| run.stream() == stream))
    }

    /// The run of `stream`, if there is one. Of the others no more is read than how long they are.
    pub(super) fn find(mut self, stream: &[u8]) -> Result<Option<Run>, StoreError> {
        while self.left > 0 {
            let (records, end) = self.bounds().ok_or_else(damaged_run)?;
            if self.chunk.get(self.at + RUN_HEADER..records) == Some(stream) {
                return self.run().ok_or_else(damaged_run).map(Some);
            }
            self.at = end;
            self.left -= 1;
        }
        Ok(None)
    }

    /// Where the records of the run begin and end, as its header says.
    fn bounds(&self) -> Option<(usize, usize)> {
        let records = self.at + RUN_HEADER + usize::from(*self.chunk.get(self.at + 4)?);
        let end = records + usize::try_from(u32_at(&self.chunk, self.at + 8)?).ok()?;
        (end <= self.chunk.len()).then_some((records, end))
    }

    fn run(&self) -> Option<Run> {
        let chunk = &self.chunk;
        let at = self.at;
        let (records, end) = self.bounds()?;
        let sealed = chunk.get(at + 4..records)?;
        let count = u16::from_le_bytes([chunk[at + 6], chunk[at + 7]]);
        let first = u64_at(chunk, at + 20)?;
        if u32_at(chunk, at)? != crc32c::crc32c(sealed) || count == 0 {
            return None;
        }
        first.checked_add(u64::from(count))?;
        Some(Run {
            stream: crc32c::crc32c(&chunk[at + RUN_HEADER..records]),
            epoch: Epoch(u64_at(chunk, at + 12)?),
            first: Seq(first),
            count,
            previous: Spot::from_le_bytes(*chunk.get(at + 28..)?.first_chunk()?),
            chunk: chunk.clone(),
            spot: Spot::new(self.number, u16::try_from(at).ok()?),
            records,
            end,
        })
    }
}

impl Iterator for Runs {
    type Item = Result<Run, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return (self.at != self.chunk.len()).then(|| {
                self.at = self.chunk.len();
                Err(damage("a chunk is longer than its runs"))
            });
        }
        let Some(run) = self.run() else {
            self.left = 0;
            self.at = self.chunk.len();
            return Some(Err(damaged_run()));
        };
        self.left -= 1;
        self.at = run.end;
        Some(Ok(run))
    }
}

fn damaged_run() -> StoreError {
    damage("the header of a run does not match its checksum")
}

/// Rewrites `frames`, consecutive records from `first` on, so that the one at `seq` has lost its content.
pub(super) fn erase_frame(frames: &mut Vec<u8>, stream: u32, first: Position, seq: Seq) -> Result<(), StoreError> {
    let mut at = 0;
    for _ in first.seq.0..seq.0 {
        at += frame_len(&frames[at..]).ok_or_else(|| damage("a record is cut off"))?;
    }
    let end = at + frame_len(&frames[at..]).ok_or_else(|| damage("a record is cut off"))?;
    let record = codec::decode(Position { seq, ..first }, &frames[at + FRAME_HEADER..end])?;
    if let Some(erased) = codec::erased(&record) {
        let mut shorter = Vec::new();
        frame(&erased, stream, &mut shorter);
        frames.splice(at..end, shorter);
    }
    Ok(())
}

/// The chunk as it is once the record of `stream` at `seq` has lost its content.
pub(super) fn erase(chunk: &IVec, number: u64, stream: &[u8], seq: Seq) -> Result<Vec<u8>, StoreError> {
    let run = Runs::of(chunk, number)?.find(stream)?.ok_or_else(|| damage("a run is missing from its chunk"))?;
    run.bytes_of(&run.frame(seq)?)?;
    let mut frames = chunk[run.records..run.end].to_vec();
    erase_frame(&mut frames, run.stream, Position { epoch: run.epoch, seq: run.first }, seq)?;
    let mut rewritten = Vec::with_capacity(chunk.len());
    rewritten.extend_from_slice(&chunk[..run.records]);
    let records = u32::try_from(frames.len()).expect("a chunk is far smaller than 4 GiB");
    rewritten[1] = MOVED;
    seal_chunk(&mut rewritten[..CHUNK_HEADER]);
    seal_run(&mut rewritten[usize::from(run.spot.at)..], run.count, records);
    rewritten.extend_from_slice(&frames);
    rewritten.extend_from_slice(&chunk[run.end..]);
    Ok(rewritten)
}

/// The chunk as it is once the records of `stream` up to `until` are gone from it, and what is left of them names
/// `previous` as the run before; without any, so is the run.
pub(super) fn trim(
    chunk: &IVec,
    number: u64,
    stream: &[u8],
    until: Seq,
    previous: Spot,
) -> Result<Vec<u8>, StoreError> {
    let run = Runs::of(chunk, number)?.find(stream)?.ok_or_else(|| damage("a run is missing from its chunk"))?;
    let start = usize::from(run.spot.at);
    let mut rewritten = Vec::with_capacity(chunk.len());
    rewritten.extend_from_slice(&chunk[..start]);
    rewritten[1] = MOVED;
    if run.last().seq <= until {
        let runs = u16::from_le_bytes([chunk[2], chunk[3]]).saturating_sub(1);
        rewritten[2..4].copy_from_slice(&runs.to_le_bytes());
    } else {
        let first = run.first.max(until.next());
        let kept = if first == run.first { run.records } else { run.frame(first)?.at };
        rewritten.extend_from_slice(&chunk[start..run.records]);
        let header = &mut rewritten[start..];
        header[20..28].copy_from_slice(&first.0.to_le_bytes());
        header[28..RUN_HEADER].copy_from_slice(&previous.to_le_bytes());
        let count = u16::try_from(run.last().seq.0 - first.0 + 1).expect("no more than there were");
        let records = u32::try_from(run.end - kept).expect("a chunk is far smaller than 4 GiB");
        seal_run(header, count, records);
        rewritten.extend_from_slice(&chunk[kept..run.end]);
    }
    rewritten.extend_from_slice(&chunk[run.end..]);
    seal_chunk(&mut rewritten[..CHUNK_HEADER]);
    Ok(rewritten)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Content, Event, Num, RecordId, RoomEvent, Timestamp, UserId};

    proptest! {
        #[test]
        fn reading_a_changed_chunk_never_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = sample();
            for (index, byte) in changes {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            read(&IVec::from(bytes));
        }
    }

    #[test]
    fn a_record_longer_than_a_chunk_gets_one_of_its_own() {
        let mut builder = Builder::new(1, 0);
        assert!(builder.fits(b"s", CHUNK_BYTES + 1));
        builder.begin(b"s", Epoch(1), Seq(1), Spot::NONE);
        builder.push(&[0; CHUNK_BYTES + 1]);
        assert!(!builder.fits(b"s", 1));
    }

    #[test]
    fn a_run_is_found_where_it_was_written_and_nowhere_else() {
        let chunk = IVec::from(sample());
        let at = |at, stream: &[u8]| Runs::of(&chunk, 9).unwrap().at(Spot::new(9, at), stream);
        for run in runs(&chunk) {
            assert_eq!(Spot::from_le_bytes(run.spot.to_le_bytes()), run.spot);
            assert_eq!(at(run.spot.at, run.stream()).unwrap().unwrap().spot, run.spot);
            assert!(at(run.spot.at, b"other").unwrap().is_none());
        }
        for elsewhere in [0, 17, u16::MAX] {
            assert!(at(elsewhere, b"one").is_err());
        }
    }

    #[test]
    fn erased_content_is_no_longer_in_the_chunk() {
        let stream = b"stream";
        let crc = crc32c::crc32c(stream);
        let mut builder = Builder::new(9, 0);
        for other in [&b"before"[..], stream, b"behind"] {
            builder.begin(other, Epoch(1), Seq(5), Spot::new(3, 16));
            for seq in 5..8 {
                let mut bytes = Vec::new();
                frame(&message(Seq(seq), &format!("secret {seq}")), crc32c::crc32c(other), &mut bytes);
                builder.push(&bytes);
            }
            builder.end(other, 3);
        }
        let chunk = IVec::from(builder.finish());
        assert!(contains(&chunk, b"secret 6"));

        let erased = IVec::from(erase(&chunk, 9, stream, Seq(6)).unwrap());
        assert_eq!(runs(&erased).len(), 3);
        assert!(runs(&erased).iter().all(|run| run.check().is_ok()));
        let run = Runs::of(&erased, 9).unwrap().find(stream).unwrap().unwrap();
        assert_eq!(run.stream, crc);
        assert!(!contains(&erased[run.records..run.end], b"secret 6"));
        assert!(contains(&erased[run.records..run.end], b"secret 7"));
        for behind in runs(&chunk) {
            let found = Runs::of(&erased, 9).unwrap().at(behind.spot, behind.stream()).unwrap().unwrap();
            assert_eq!(found.stream(), behind.stream());
        }
        let record = run.decode(&run.frames().unwrap()[1]).unwrap();
        assert_eq!(record, Record { event: Event::Room(RoomEvent::MessageErased), ..message(Seq(6), "") });
    }

    #[test]
    fn what_is_trimmed_is_no_longer_in_the_chunk() {
        let mut builder = Builder::new(9, 0);
        for name in [&b"before"[..], b"stream", b"behind"] {
            builder.begin(name, Epoch(1), Seq(5), Spot::new(3, 16));
            for seq in 5..8 {
                let mut bytes = Vec::new();
                frame(&message(Seq(seq), &format!("secret {seq}")), crc32c::crc32c(name), &mut bytes);
                builder.push(&bytes);
            }
            builder.end(name, 3);
        }
        let chunk = IVec::from(builder.finish());
        let trimmed = |until| IVec::from(trim(&chunk, 9, b"stream", Seq(until), Spot::trimmed(9)).unwrap());
        for (until, first) in [(4, 5), (5, 6), (6, 7)] {
            let cut = trimmed(until);
            let run = Runs::of(&cut, 9).unwrap().at(Spot::new(9, 999), b"stream").unwrap().unwrap();
            assert_eq!((run.first, run.last().seq, run.is_floor()), (Seq(first), Seq(7), true));
            assert!(runs(&cut).len() == 3 && runs(&cut).iter().all(|run| run.check().is_ok()));
            let own = &cut[run.records..run.end];
            let kept: Vec<bool> = (5..8).map(|seq| contains(own, format!("secret {seq}").as_bytes())).collect();
            assert_eq!(kept, (5..8).map(|seq| seq >= first).collect::<Vec<_>>());
        }
        let gone = trimmed(7);
        assert!(Runs::of(&gone, 9).unwrap().find(b"stream").unwrap().is_none());
        assert_eq!(runs(&gone).iter().map(Run::stream).collect::<Vec<_>>(), [&b"before"[..], b"behind"]);
        assert!(runs(&gone).iter().all(|run| run.check().is_ok() && !run.is_floor()));
        let alone = IVec::from(trim(&gone, 9, b"before", Seq(9), Spot::NONE).unwrap());
        let empty = IVec::from(trim(&alone, 9, b"behind", Seq(9), Spot::NONE).unwrap());
        assert_eq!((runs(&empty).len(), empty.len()), (0, CHUNK_HEADER));
    }

    fn runs(chunk: &IVec) -> Vec<Run> {
        Runs::of(chunk, 9).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn message(seq: Seq, text: &str) -> Record {
        Record {
            position: Position { epoch: Epoch(1), seq },
            id: RecordId::new(Timestamp(5), seq, 1),
            num: Num(1),
            at: Timestamp(5),
            author: UserId::new("ann").unwrap(),
            client_id: None,
            event: Event::Room(RoomEvent::posted(Content::text(text))),
        }
    }

    fn contains(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    fn sample() -> Vec<u8> {
        let mut builder = Builder::new(9, 0);
        for stream in [&b"one"[..], b"two"] {
            builder.begin(stream, Epoch(1), Seq(5), Spot::new(3, 16));
            for _ in 0..3 {
                builder.push(&[4, 0, 0, 0, 1, 2, 3, 4, 9, 9, 9, 9]);
            }
            builder.end(stream, 3);
        }
        builder.finish()
    }

    fn read(chunk: &IVec) {
        let Ok(runs) = Runs::of(chunk, 9) else { return };
        for run in runs.flatten() {
            let _ = (run.last(), run.stream(), run.bytes(), run.check());
            let _ = Runs::of(chunk, 9).map(|runs| runs.at(run.previous, b"two"));
        }
        let _ = erase(chunk, 9, b"two", Seq(6));
        let _ = trim(chunk, 9, b"two", Seq(6), Spot::trimmed(9));
    }
}
