//! `chinwag sub`: the records of rooms, one per line, from wherever one likes and for as long as one likes.
//!
//! Each room is followed from a cursor that moves with every record, so that a new connection goes on where the last
//! one ended. That nothing is missing and nothing comes twice is checked here once more, by the records' seqs.

use std::io::IsTerminal;
use std::num::NonZeroU64;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::domain::RoomName;

use super::failure::{Exit, Failure};
use super::frames::{Answer, Command, Followed, Heard, Record, Refusal, Removed};
use super::link::{Connection, Link, Options, Transport};
use super::output::Output;
use super::trouble::{Trouble, refusal_trouble};

/// How long an interrupted command waits for whoever reads its output.
const FLUSH_DEADLINE: Duration = Duration::from_millis(500);

/// Print the records of rooms, one per line.
#[derive(clap::Args)]
#[command(after_help = "\
A record is printed as the server sends it:
  {\"seq\":7,\"room\":\"0192…\",\"cursor\":\"…\",\"id\":\"0192…\",\"num\":12,\"at\":1767225600000,\"author\":\"ann\",
   \"event\":\"message_posted\",\"content\":{\"text\":\"hello\"}}      (all on one line)

--since says where to begin: `start`, `now`, or the cursor of the last record you have had. When the connection is \
lost it is made again and goes on where it ended: each record is printed once. Channels are joined on the way. When \
the operator has accepted a loss of data, a cursor of before may mean something else: this is told, with exit code 3, \
and --since start begins anew.

Examples:
  chinwag sub lobby
  chinwag sub lobby ops --since start | jq -r '.content.text // empty'
  chinwag sub lobby --since start --limit 10
  chinwag sub lobby --transport sse      (where a proxy lets no WebSocket through)")]
pub struct Args {
    /// The rooms: their aliases, numbers or uuids
    #[arg(value_name = "ROOM", required = true, value_parser = room)]
    rooms: Vec<String>,
    /// Where to begin: start, now, or a cursor (with one room)
    #[arg(long, value_name = "start|now|CURSOR", default_value = "now", value_parser = since)]
    since: Since,
    /// End after so many records: 1 at least
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,
    /// How to talk to the server; records, cursors and their order are the same
    #[arg(long, value_enum, default_value_t)]
    transport: Transport,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Since {
    Start,
    Now,
    Cursor(String),
}

fn room(text: &str) -> Result<String, String> {
    RoomName::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn since(text: &str) -> Result<Since, String> {
    match text {
        "start" => Ok(Since::Start),
        "now" => Ok(Since::Now),
        "" => Err("a cursor is not empty".to_owned()),
        cursor => Ok(Since::Cursor(cursor.to_owned())),
    }
}

pub fn run(args: Args) -> Result<(), Failure> {
    if matches!(args.since, Since::Cursor(_)) && args.rooms.len() > 1 {
        return Err(Failure::new(
            Exit::Usage,
            "a cursor is of one room; follow the others with a command of their own",
        ));
    }
    let mut link = args.options.link(args.transport)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Fault, format!("cannot start: {error}")))?;
    let mut reader = Reader::new(&args.rooms, &args.since, args.limit);
    let outcome = runtime.block_on(async {
        let interrupted = interruption()?;
        let outcome = tokio::select! {
            outcome = reader.run(&mut link) => outcome,
            () = interrupted => Ok(Ending::Interrupted),
        };
        reader.end(outcome).await
    });
    // Standard output may be written to by a thread that waits for its reader; the end does not wait for either.
    runtime.shutdown_background();
    outcome
}

/// Resolves when the user, or a service manager, wants an end.
fn interruption() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error| Failure::new(Exit::Fault, format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Ends that are meant.
enum Ending {
    Limit,
    Interrupted,
}

struct Reader {
    rooms: Vec<Room>,
    /// How many records are still wanted, if that is bounded.
    wanted: Option<u64>,
    output: Output,
}

/// A room that is followed.
struct Room {
    /// As the user calls it.
    name: String,
    /// Once it is known.
    id: Option<String>,
    /// Where a follow has to begin: `start`, `now` or a cursor.
    from: String,
    /// The last record that was printed, or the place before the first, once it is known.
    seq: Option<u64>,
    /// After which record the server skipped some, the last time it did.
    gap_after: Option<u64>,
    /// We are no member any more.
    ended: bool,
}

/// What to do with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Print,
    /// It has been printed before.
    Drop,
    /// Some are missing before it: follow again.
    Again,
    /// The same are missing again.
    GiveUp,
}

impl Room {
    fn new(name: &str, since: &Since) -> Self {
        let (from, seq) = match since {
            Since::Start => ("start", Some(0)),
            Since::Now => ("now", None),
            Since::Cursor(cursor) => (cursor.as_str(), None),
        };
        Self { name: name.to_owned(), id: None, from: from.to_owned(), seq, gap_after: None, ended: false }
    }

    /// The follow has begun, at a position that is known from now on.
    fn followed(&mut self, followed: Followed) {
        if self.from == "now" {
            self.seq = Some(followed.head);
        }
        self.id = Some(followed.room);
        self.from = followed.cursor;
    }

    fn record(&mut self, seq: u64) -> Turn {
        match self.seq {
            Some(last) if seq <= last => return Turn::Drop,
            Some(last) if seq > last + 1 => {
                if self.gap_after.replace(last) == Some(last) {
                    return Turn::GiveUp;
                }
                return Turn::Again;
            }
            // After a cursor of the user's the first record tells where we are.
            Some(_) | None => {}
        }
        self.seq = Some(seq);
        Turn::Print
    }
}

impl Reader {
    fn new(rooms: &[String], since: &Since, limit: Option<NonZeroU64>) -> Self {
        Self {
            rooms: rooms.iter().map(|name| Room::new(name, since)).collect(),
            wanted: limit.map(NonZeroU64::get),
            output: Output::new(),
        }
    }

    async fn run(&mut self, link: &mut Link) -> Result<Ending, Failure> {
        loop {
            let mut connection = link.connect().await?;
            match self.follow(&mut connection, link).await {
                Ok(ending) => {
                    self.output.flush().await?;
                    connection.close().await;
                    return Ok(ending);
                }
                Err(trouble) => {
                    self.output.flush().await?;
                    link.weather(trouble).await?;
                }
            }
        }
    }

    /// Follows all rooms until there is enough, or the connection is of no more use.
    async fn follow(&mut self, connection: &mut Connection, link: &mut Link) -> Result<Ending, Trouble> {
        for at in 0..self.rooms.len() {
            self.ask_to_follow(at, connection);
        }
        loop {
            let heard = match connection.hear().now_or_never() {
                Some(heard) => heard?,
                None => {
                    self.output.flush().await.map_err(Trouble::Lasting)?;
                    connection.hear().await?
                }
            };
            match heard {
                Heard::Record(record) => {
                    if self.take(&record).await? {
                        return Ok(Ending::Limit);
                    }
                    link.progressed();
                }
                Heard::Reply { id, outcome } => {
                    self.reply(id.as_deref(), outcome, connection)?;
                    link.works();
                }
                Heard::Removed(removed) => self.removed(&removed)?,
                Heard::FollowFailed(failed) => {
                    return Err(Trouble::Passing {
                        why: format!("a room cannot be followed: {}", failed.error),
                        wait: failed.error.retry_after(),
                    });
                }
                Heard::Hello(_) | Heard::Other => {}
            }
        }
    }

    fn ask_to_follow(&self, at: usize, connection: &mut Connection) {
        let room = &self.rooms[at];
        if !room.ended {
            let name = room.id.as_ref().unwrap_or(&room.name);
            connection.say(&Command::Follow { id: &Request::Follow(at).id(), room: name, from: &room.from });
        }
    }

    fn reply(
        &mut self,
        id: Option<&str>,
        outcome: Result<Answer, Refusal>,
        connection: &mut Connection,
    ) -> Result<(), Trouble> {
        let Some(request) = id.and_then(|id| Request::parse(id, self.rooms.len())) else {
            return match outcome {
                Ok(_) => Ok(()),
                Err(refusal) => Err(refusal_trouble("the server could not read a frame", &refusal)),
            };
        };
        match (request, outcome) {
            (Request::Follow(at), Ok(answer)) => self.followed(at, &answer),
            (Request::Follow(at), Err(refusal)) => match &*refusal.code {
                "not_member" => match self.rooms[at].id.clone() {
                    // Who was thrown out while away does not come in again unasked.
                    Some(room) => self.removed(&Removed { room, reason: "since the connection was lost".to_owned() }),
                    None => {
                        connection.say(&Command::Join { id: &Request::Join(at).id(), room: &self.rooms[at].name });
                        Ok(())
                    }
                },
                "epoch_changed" => Err(Trouble::Lasting(self.epoch_changed(at))),
                _ => Err(self.refused(at, &refusal)),
            },
            (Request::Join(at), Ok(_)) => {
                self.ask_to_follow(at, connection);
                Ok(())
            }
            (Request::Join(at), Err(refusal)) => match &*refusal.code {
                "already_member" => {
                    self.ask_to_follow(at, connection);
                    Ok(())
                }
                _ => Err(self.refused(at, &refusal)),
            },
        }
    }

    fn followed(&mut self, at: usize, answer: &Answer) -> Result<(), Trouble> {
        let followed: Followed = answer.read().map_err(|error| {
            Trouble::Lasting(Failure::new(Exit::Protocol, format!("the server's reply is not one: {error}")))
        })?;
        let same = |(other, room): (usize, &Room)| other != at && room.id.as_ref() == Some(&followed.room);
        if let Some((other, _)) = self.rooms.iter().enumerate().find(|&pair| same(pair)) {
            let (one, two) = (&self.rooms[other].name, &self.rooms[at].name);
            return Err(Trouble::Lasting(Failure::new(Exit::Usage, format!("{one} and {two} are the same room"))));
        }
        self.rooms[at].followed(followed);
        Ok(())
    }

    /// Takes note of a record; says whether it was the last one wanted.
    async fn take(&mut self, record: &Record) -> Result<bool, Trouble> {
        let Some(room) = self.rooms.iter_mut().find(|room| room.id.as_ref() == Some(&record.room)) else {
            return Ok(false);
        };
        match room.record(record.seq) {
            Turn::Print => {}
            Turn::Drop => return Ok(false),
            Turn::Again => {
                return Err(Trouble::Passing {
                    why: format!("room {}: records before {} are missing", room.name, record.seq),
                    wait: None,
                });
            }
            Turn::GiveUp => {
                return Err(Trouble::Lasting(Failure::new(
                    Exit::Protocol,
                    format!("room {}: the server does not send the records before {}", room.name, record.seq),
                )));
            }
        }
        room.from.clone_from(&record.cursor);
        self.output.line(&record.line).await.map_err(Trouble::Lasting)?;
        if let Some(wanted) = &mut self.wanted {
            *wanted -= 1;
        }
        Ok(self.wanted == Some(0))
    }

    fn removed(&mut self, removed: &Removed) -> Result<(), Trouble> {
        let Some(room) = self.rooms.iter_mut().find(|room| room.id.as_ref() == Some(&removed.room)) else {
            return Ok(());
        };
        room.ended = true;
        let why = format!("you are no member of room {} any more ({})", room.name, removed.reason);
        if self.rooms.iter().all(|room| room.ended) {
            return Err(Trouble::Lasting(Failure::new(Exit::Refused, why)));
        }
        eprintln!("chinwag: {why}");
        Ok(())
    }

    fn refused(&self, at: usize, refusal: &Refusal) -> Trouble {
        refusal_trouble(&format!("room {}", self.rooms[at].name), refusal)
    }

    fn epoch_changed(&self, at: usize) -> Failure {
        let room = &self.rooms[at];
        let last = room.seq.filter(|&seq| seq > 0).map(|seq| format!(" after record {seq}")).unwrap_or_default();
        Failure::new(
            Exit::EpochChanged,
            format!(
                "the history of room {} has begun a new epoch{last}: the server's data was restored, or a loss was \
                 accepted, so the cursor may stand for something else now; begin anew with --since start",
                room.name
            ),
        )
    }

    async fn end(&mut self, outcome: Result<Ending, Failure>) -> Result<(), Failure> {
        match outcome {
            Ok(Ending::Limit) => Ok(()),
            Ok(Ending::Interrupted) => {
                let Ok(flushed) = timeout(FLUSH_DEADLINE, self.output.flush()).await else {
                    // Nobody knows what of it has been read, so there is no cursor to tell.
                    return Ok(());
                };
                if std::io::stderr().is_terminal() {
                    self.say_how_to_resume();
                }
                unless_silent(flushed)
            }
            Err(failure) => unless_silent(Err(failure)),
        }
    }

    fn say_how_to_resume(&self) {
        // Without an id the room has never been followed, and there is nothing to resume.
        for room in self.rooms.iter().filter(|room| room.id.is_some() && !room.ended) {
            eprintln!("chinwag: go on with: chinwag sub {} --since {}", room.name, room.from);
        }
    }
}

/// A reader that has had enough is as good an end as any.
fn unless_silent(outcome: Result<(), Failure>) -> Result<(), Failure> {
    outcome.or_else(|failure| if failure.message.is_none() { Ok(()) } else { Err(failure) })
}

/// What was asked, about which room; its command's id says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    Follow(usize),
    Join(usize),
}

impl Request {
    fn id(self) -> String {
        match self {
            Self::Follow(at) => format!("follow-{at}"),
            Self::Join(at) => format!("join-{at}"),
        }
    }

    fn parse(id: &str, rooms: usize) -> Option<Self> {
        let (kind, at) = id.split_once('-')?;
        let at = at.parse().ok().filter(|&at| at < rooms)?;
        match kind {
            "follow" => Some(Self::Follow(at)),
            "join" => Some(Self::Join(at)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_printed_once_and_in_order() {
        let mut room = Room::new("lobby", &Since::Start);
        let turns: Vec<Turn> = [1, 2, 2, 1, 3].into_iter().map(|seq| room.record(seq)).collect();
        assert_eq!(turns, [Turn::Print, Turn::Print, Turn::Drop, Turn::Drop, Turn::Print]);
    }

    #[test]
    fn a_gap_is_asked_for_once_and_then_told() {
        let mut room = Room::new("lobby", &Since::Start);
        assert_eq!(room.record(1), Turn::Print);
        assert_eq!(room.record(3), Turn::Again);
        assert_eq!(room.record(2), Turn::Print);
        assert_eq!(room.record(4), Turn::Again);
        assert_eq!(room.record(4), Turn::GiveUp);
    }

    #[test]
    fn from_now_on_means_after_the_head() {
        let mut room = Room::new("lobby", &Since::Now);
        room.followed(followed(7));
        assert_eq!(room.from, "c");
        assert_eq!(room.record(9), Turn::Again);
        assert_eq!(room.record(8), Turn::Print);
        room.followed(followed(20));
        assert_eq!(room.record(9), Turn::Print, "a resumed follow goes on where it was");
    }

    #[test]
    fn after_a_cursor_the_first_record_tells_the_place() {
        let mut room = Room::new("lobby", &Since::Cursor("abc".to_owned()));
        room.followed(followed(7));
        assert_eq!(room.record(5), Turn::Print);
        assert_eq!(room.record(7), Turn::Again);
    }

    #[test]
    fn a_request_is_known_by_its_id() {
        for request in [Request::Follow(0), Request::Join(1)] {
            assert_eq!(Request::parse(&request.id(), 2), Some(request));
            assert_eq!(Request::parse(&request.id(), 0), None);
        }
        assert_eq!(Request::parse("post-1", 2), None);
    }

    fn followed(head: u64) -> Followed {
        Followed { room: "r".to_owned(), cursor: "c".to_owned(), head }
    }
}
