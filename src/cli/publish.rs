//! `chinwag pub`: what comes on standard input, a line a message, is published into a room.
//!
//! Each line has a client id of its own from the beginning, so that sending it again, after a lost connection or a
//! passing refusal, never makes a second message of it.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use uuid::Uuid;

use crate::domain::RoomName;

use super::backoff::{self, Backoff};
use super::failure::{Exit, Failure};
use super::frames::{Command, Entered, Heard, Posted, Refusal};
use super::input::{self, Line};
use super::link::{Connection, Link, Options, Transport};
use super::output::Output;
use super::trouble::{Trouble, refusal_trouble};
use super::window::Window;

/// How many lines may be without an acknowledgement: half of what a server takes from one session by default.
const IN_FLIGHT_MAX: usize = 32;

/// The code of a refusal because of a rate.
const RATE_LIMITED: &str = "rate_limited";

/// What takes less is over before anybody looks.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// After so many acknowledgements the progress is told again.
const PROGRESS_EVERY: u64 = 100;

/// Publish standard input into a room, one message per line.
#[derive(clap::Args)]
#[command(after_help = "\
A line that is a JSON object is the content of its message; any other line becomes {\"text\": LINE}. Empty lines \
are skipped. You join the room if you are not in it.

One acknowledgement per line is printed, in the order of the input, once the message is on the server's disk:
  {\"seq\":7,\"id\":\"0192…\",\"num\":12,\"at\":1767225600000,\"client_id\":\"0192…-1\"}

When the connection is lost it is made again, and what was not acknowledged is sent again; no message is doubled \
by that. When the server is busy for a moment, or lines come faster than it allows, those that it refused go out \
again in their order, with fewer in flight and further apart, and faster again as it takes them. Lines come in the \
order of the input, except that those in flight beside a refused one (at most 32 at first, after a few refusals one \
or a few) may come before it. A line that is refused for good ends the command.

Examples:
  echo hello | chinwag pub lobby --create
  echo '{\"text\":\"hello\",\"mood\":\"fine\"}' | chinwag pub lobby
  tail -f access.log | chinwag pub ops >/dev/null")]
pub struct Args {
    /// The room: its alias, its number or its uuid
    #[arg(value_name = "ROOM", value_parser = room)]
    room: String,
    /// Make a channel of this alias when there is none
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    options: Options,
}

fn room(text: &str) -> Result<String, String> {
    RoomName::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub fn run(args: Args) -> Result<(), Failure> {
    let entry = match (RoomName::parse(&args.room), args.create) {
        (Ok(RoomName::Alias(alias)), true) => Entry::CreateOrJoin { alias: alias.to_string() },
        (_, true) => {
            return Err(Failure::new(Exit::Usage, "--create makes a channel of an alias, not of a number or a uuid"));
        }
        (_, false) => Entry::Join,
    };
    let mut link = args.options.link(Transport::Ws)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Fault, format!("cannot start: {error}")))?;
    let mut publisher = Publisher::new(args.room, entry);
    runtime.block_on(publisher.run(&mut link))
}

/// How to get into the room.
enum Entry {
    Join,
    CreateOrJoin { alias: String },
}

struct Publisher {
    name: String,
    entry: Entry,
    /// The room's id, once we are in.
    room: Option<String>,
    /// Makes the client ids of this run different from those of any other.
    run: Uuid,
    lines: mpsc::Receiver<Line>,
    ended: bool,
    skipped: u64,
    window: Window<Box<RawValue>, Result<Posted, Failure>>,
    backoff: Backoff,
    /// Until when to rest after a passing refusal.
    rest_until: tokio::time::Instant,
    /// When the next line may be sent.
    next_at: tokio::time::Instant,
    /// The passing refusal that the user was told of, while it lasts; for good where it was because of a rate.
    told: Option<String>,
    /// How it ends, when not well.
    failure: Option<(u64, Failure)>,
    output: Output,
    progress: Progress,
}

/// An acknowledgement, as it is printed.
#[derive(Serialize)]
struct Acknowledgement<'a> {
    seq: u64,
    id: &'a str,
    num: u64,
    at: i64,
    client_id: &'a str,
}

impl Publisher {
    fn new(name: String, entry: Entry) -> Self {
        Self {
            name,
            entry,
            room: None,
            run: Uuid::now_v7(),
            lines: input::lines(),
            ended: false,
            skipped: 0,
            window: Window::new(IN_FLIGHT_MAX),
            backoff: Backoff::default(),
            rest_until: tokio::time::Instant::now(),
            next_at: tokio::time::Instant::now(),
            told: None,
            failure: None,
            output: Output::new(),
            progress: Progress::new(),
        }
    }

    async fn run(&mut self, link: &mut Link) -> Result<(), Failure> {
        let outcome = self.publish_all(link).await;
        let outcome = match outcome {
            Ok(()) => self.failure.take().map_or(Ok(()), |(_, failure)| Err(failure)),
            Err(failure) => Err(self.give_up(failure).await),
        };
        self.progress.clear();
        if self.skipped > 0 {
            eprintln!("chinwag: skipped {} empty lines", self.skipped);
        }
        outcome
    }

    async fn publish_all(&mut self, link: &mut Link) -> Result<(), Failure> {
        loop {
            let mut connection = link.connect().await?;
            match self.publish(&mut connection, link).await {
                Ok(()) => {
                    connection.close().await;
                    return Ok(());
                }
                Err(trouble) => {
                    self.window.disconnected();
                    self.output.flush().await?;
                    link.weather(trouble).await?;
                }
            }
        }
    }

    /// Publishes until everything is settled or the connection is of no more use.
    async fn publish(&mut self, connection: &mut Connection, link: &mut Link) -> Result<(), Trouble> {
        let room = match &self.room {
            Some(room) => room.clone(),
            None => self.enter(connection).await?,
        };
        self.room = Some(room.clone());
        loop {
            self.release(link).await?;
            while self.next_at <= tokio::time::Instant::now()
                && let Some((number, content)) = self.window.send()
            {
                let (id, client_id) = (number.to_string(), client_id(self.run, number));
                connection.say(&Command::Post { id: &id, room: &room, client_id: &client_id, content });
                // What has been late is not caught up with: the server might not have room for two at once.
                self.next_at = tokio::time::Instant::now() + self.window.spacing();
            }
            if self.ended && self.window.is_empty() {
                return self.output.flush().await.map_err(Trouble::Lasting);
            }
            if self.output.holds() {
                match connection.hear().now_or_never() {
                    Some(heard) => {
                        self.hear(heard?)?;
                        continue;
                    }
                    None => self.output.flush().await.map_err(Trouble::Lasting)?,
                }
            }
            tokio::select! {
                biased;
                heard = connection.hear() => self.hear(heard?)?,
                () = sleep_until(self.rest_until), if self.window.is_resting() => self.window.resume(),
                () = sleep_until(self.next_at), if self.window.may_send() => {}
                line = self.lines.recv(), if !self.ended && self.window.has_room() => self.take(line),
            }
        }
    }

    /// Gets into the room, and returns its id.
    async fn enter(&mut self, connection: &mut Connection) -> Result<String, Trouble> {
        if let Entry::CreateOrJoin { alias } = &self.entry {
            let create = Command::Create { id: "create", kind: "channel", alias };
            if let Some(room) = ask(connection, "create", &create, "room_exists", &self.name).await? {
                return Ok(room);
            }
        }
        let join = Command::Join { id: "join", room: &self.name };
        let room = ask(connection, "join", &join, "already_member", &self.name).await?;
        // The name does as well as the id that a refusal does not tell.
        Ok(room.unwrap_or_else(|| self.name.clone()))
    }

    fn hear(&mut self, heard: Heard) -> Result<(), Trouble> {
        let (id, outcome) = match heard {
            Heard::Reply { id, outcome } => (id, outcome),
            Heard::Hello(_) | Heard::Record(_) | Heard::Removed(_) | Heard::FollowFailed(_) | Heard::Other => {
                return Ok(());
            }
        };
        let Some(number) = id.and_then(|id| id.parse().ok()) else {
            return match outcome {
                Ok(_) => Ok(()),
                Err(refusal) => Err(refusal_trouble("the server could not read a frame", &refusal)),
            };
        };
        match outcome {
            Ok(answer) => {
                let posted = answer.read().map_err(|error| {
                    Trouble::Lasting(Failure::new(Exit::Protocol, format!("the server's reply is not one: {error}")))
                })?;
                self.window.settle(number, Ok(posted));
                self.backoff.reset();
                // A rate stays, and being refused now and then is how it is found out.
                self.told.take_if(|code| code != RATE_LIMITED);
            }
            Err(refusal) if refusal.is_passing() => {
                let wait = refusal.retry_after().unwrap_or_else(|| self.backoff.after_failure(backoff::random()));
                self.rest_until = self.rest_until.max(tokio::time::Instant::now() + wait);
                let room_after = refusal.retry_after().filter(|_| refusal.code == RATE_LIMITED);
                self.window.postpone(number, room_after);
                self.tell(refusal);
            }
            Err(refusal) => {
                let failure = Failure::new(Exit::Refused, format!("line {number} was refused: {refusal}"));
                self.window.settle(number, Err(failure));
                self.stop_after(number);
            }
        }
        Ok(())
    }

    /// Says why it takes longer, once for as long as it is the same reason.
    fn tell(&mut self, refusal: Refusal) {
        if self.told.as_ref() != Some(&refusal.code) {
            eprintln!("chinwag: the server cannot now: {refusal}; trying again until it can");
            self.told = Some(refusal.code);
        }
    }

    fn take(&mut self, line: Option<Line>) {
        match line {
            Some(Line::Content { number, content }) => self.window.push(number, content),
            Some(Line::Empty) => self.skipped += 1,
            Some(Line::Bad { number, why }) => {
                let why = format!("line {number} cannot be sent: {why}");
                self.fail(number, Failure::new(Exit::Refused, why));
                self.ended = true;
            }
            None => self.ended = true,
        }
    }

    /// Sends nothing that comes after line `number` and is not on its way already.
    fn stop_after(&mut self, number: u64) {
        self.ended = true;
        self.window.drop_waiting_after(number);
    }

    /// Keeps why line `number` ends it all. The first in the order of the input is the one to tell.
    fn fail(&mut self, number: u64, failure: Failure) {
        if self.failure.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
            self.failure = Some((number, failure));
        }
    }

    /// Prints the acknowledgements that are due.
    async fn release(&mut self, link: &mut Link) -> Result<(), Trouble> {
        while let Some((number, settled)) = self.window.release() {
            link.progressed();
            self.report(number, settled).await.map_err(Trouble::Lasting)?;
        }
        Ok(())
    }

    async fn report(&mut self, number: u64, settled: Result<Posted, Failure>) -> Result<(), Failure> {
        let posted = match settled {
            Ok(posted) => posted,
            Err(failure) => {
                self.fail(number, failure);
                return Ok(());
            }
        };
        let client_id = client_id(self.run, number);
        let acknowledgement = Acknowledgement {
            seq: posted.seq,
            id: &posted.record,
            num: posted.num,
            at: posted.at,
            client_id: &client_id,
        };
        let line = serde_json::to_string(&acknowledgement).expect("strings and integers always serialize");
        self.output.line(&line).await?;
        self.progress.step();
        Ok(())
    }

    /// Tells what has been acknowledged so far, and adds to `failure` where to go on.
    async fn give_up(&mut self, failure: Failure) -> Failure {
        let (settled, first_open) = self.window.give_up();
        for (number, settled) in settled {
            if let Err(unprinted) = self.report(number, settled).await {
                return unprinted;
            }
        }
        if let Err(unprinted) = self.output.flush().await {
            return unprinted;
        }
        match (failure.message, first_open) {
            (Some(message), Some(line)) => {
                Failure::new(failure.exit, format!("{message}\nline {line} is the first without an acknowledgement"))
            }
            (message, _) => Failure { exit: failure.exit, message },
        }
    }
}

/// Asks for entry. `Some` is the room's id; `None` when the refusal is `fine`, which says that it needs no asking.
async fn ask(
    connection: &mut Connection,
    id: &str,
    command: &Command<'_>,
    fine: &str,
    name: &str,
) -> Result<Option<String>, Trouble> {
    connection.say(command);
    loop {
        let outcome = match connection.hear().await? {
            Heard::Reply { id: Some(of), outcome } if of == id => outcome,
            Heard::Reply { id: None, outcome: Err(refusal) } => Err(refusal),
            Heard::Reply { .. }
            | Heard::Hello(_)
            | Heard::Record(_)
            | Heard::Removed(_)
            | Heard::FollowFailed(_)
            | Heard::Other => continue,
        };
        return match outcome {
            Ok(answer) => match answer.read::<Entered>() {
                Ok(entered) => Ok(Some(entered.room)),
                Err(error) => Err(Trouble::Lasting(Failure::new(
                    Exit::Protocol,
                    format!("the server's reply is not one: {error}"),
                ))),
            },
            Err(refusal) if refusal.code == fine => Ok(None),
            Err(refusal) => Err(refusal_trouble(&format!("room {name}"), &refusal)),
        };
    }
}

fn client_id(run: Uuid, number: u64) -> String {
    format!("{run}-{number}")
}

/// A line on the terminal that says how far it is, for what takes longer than a moment.
struct Progress {
    since: Instant,
    bar: Option<ProgressBar>,
    done: u64,
    wanted: bool,
}

impl Progress {
    fn new() -> Self {
        // Where the acknowledgements go to the terminal too, they are progress enough.
        let wanted = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        Self { since: Instant::now(), bar: None, done: 0, wanted }
    }

    fn step(&mut self) {
        self.done += 1;
        if !self.wanted || self.since.elapsed() < PROGRESS_AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is right");
            ProgressBar::new_spinner().with_style(style)
        });
        // Drawn at most twenty times a second, so only then it is worth the words.
        if self.done.is_multiple_of(PROGRESS_EVERY) {
            let rate = u128::from(self.done) * 1_000 / self.since.elapsed().as_millis().max(1);
            bar.set_message(format!("{} messages acknowledged, {rate} per second", self.done));
            bar.tick();
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
