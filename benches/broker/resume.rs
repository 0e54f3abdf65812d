//! Everybody comes back at once, and gets what was said meanwhile.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Clients, Happened};
use crate::figures::{float, micros};
use crate::message::{Finder, Message, is_reply};
use crate::process::{Server, Spent, as_many_as_fit, generate, own_time};
use crate::scene::{Mint, SILENCE, Target, follow, make_rooms, member_name, open, open_many, settle};
use crate::table::{Goal, Row, Table};
use crate::{Bench, Outcome, generator};

const CLIENTS: usize = 5_000;
const MISSED: u64 = 20;

/// As many were delivered before the cut; the last tells each client its cursor.
const SEEN: u64 = 3;

/// As many handshakes are under way at once: as many as wait in the server's backlog. Beyond it the kernel drops what
/// comes, and the client's sends it again after a second.
const OPENING: usize = 1_000;

#[derive(Serialize, Deserialize)]
pub struct Plan {
    pub target: Target,
    pub clients: usize,
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub spent: Duration,
    pub generator: Duration,
    pub took: Duration,
}

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let (clients, fewer) = as_many_as_fit(if bench.quick { 1_000 } else { CLIENTS });
    let case = format!("{clients} come back, {MISSED} missed");
    let mut row = Row::new("resume", case, "us CPU per client").goal(Some(Goal::AtMost(60.0)));
    row.remarks(fewer);
    for _ in 0..bench.repetitions {
        let server = Server::start(&bench.server, bench.pinned)?;
        let plan = Plan { target: server.target(), clients };
        let measured: Measured = generate(&generator::Plan::Resume(plan))?;
        server.process.stop()?;
        row.push(micros(measured.spent) / float(clients as u64));
        row.detail("ms until all have all of it", micros(measured.took) / 1e3);
        row.note_generator(measured.generator, measured.took);
    }
    table.add(row);
    Ok(())
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let Target::Server { data, pid, .. } = &plan.target else { return Err("only a server has this".into()) };
    let mut clients = plan.target.clients()?;
    let mint = Mint::open(data)?;
    let owner = open(&mut clients, "/v1/ws", Some(&mint.token("owner")?))?;
    let room = make_rooms(&mut clients, owner, 1, plan.clients)?.remove(0);
    let tokens: Vec<String> = (0..plan.clients).map(|n| mint.token(&member_name(0, n))).collect::<Outcome<_>>()?;
    let mut message = Message::post(&room);

    let whose = |n: usize| ("/v1/ws".to_owned(), Some(tokens[n].clone()));
    let before = open_many(&mut clients, plan.clients, whose, |_| follow(&room, "now"))?;
    let mut readers =
        Readers { first: before.start, next: vec![0; plan.clients], cursors: vec![String::new(); plan.clients] };
    publish(&mut clients, owner, &mut message, 0..SEEN, &mut readers)?;
    readers.until_all_have(&mut clients, SEEN)?;
    for id in before {
        clients.cut(id);
    }
    settle(&mut clients, *pid)?;
    publish(&mut clients, owner, &mut message, SEEN..SEEN + MISSED, &mut readers)?;
    settle(&mut clients, *pid)?;

    let cursors = std::mem::take(&mut readers.cursors);
    readers.first = clients.len();
    let (spent, own, began) = (Spent::by(*pid)?, own_time(), Instant::now());
    let (mut begun, mut opened) = (0, 0);
    while opened < plan.clients {
        while begun < plan.clients && begun - opened < OPENING {
            clients.open("/v1/ws", Some(&tokens[begun]))?;
            begun += 1;
        }
        let came = clients.round(Some(SILENCE), &mut |clients, id, happened| match happened {
            Happened::Opened => {
                opened += 1;
                clients.send(id, follow(&room, &cursors[id - readers.first]).as_bytes());
                Ok(())
            }
            Happened::Text(frame) => readers.take(id, frame, false),
        })?;
        if !came {
            return Err(format!("{opened} of {} are back, and no more come", plan.clients).into());
        }
    }
    readers.until_all_have(&mut clients, SEEN + MISSED)?;
    let (took, generator, spent) = (began.elapsed(), own_time() - own, Spent::by(*pid)?.since(&spent));

    // Whatever came twice would come now, and would not be the next.
    let quiet = Instant::now() + Duration::from_millis(50);
    while let Some(left) = quiet.checked_duration_since(Instant::now()) {
        clients.round(Some(left), &mut |_, id, happened| match happened {
            Happened::Text(_) => Err(format!("client {id} got more than there is").into()),
            Happened::Opened => Ok(()),
        })?;
    }
    Ok(Measured { spent, generator, took })
}

/// Who follows the room, and how far each has got.
struct Readers {
    /// The id of the first of them.
    first: usize,
    /// The number that each gets next.
    next: Vec<u64>,
    cursors: Vec<String>,
}

impl Readers {
    /// A frame for one of them; `keep` keeps its cursor.
    fn take(&mut self, id: usize, frame: &[u8], keep: bool) -> Outcome<()> {
        if is_reply(frame)? {
            return Ok(());
        }
        let reader = id.checked_sub(self.first).ok_or("a record for somebody who follows nothing")?;
        let number = Finder::default().number(frame)?;
        if number != self.next[reader] {
            return Err(format!("client {reader} got message {number} and not {}", self.next[reader]).into());
        }
        self.next[reader] += 1;
        if keep {
            let record: Value = serde_json::from_slice(frame)?;
            self.cursors[reader] = record["cursor"].as_str().ok_or("a record has a cursor")?.to_owned();
        }
        Ok(())
    }

    fn until_all_have(&mut self, clients: &mut Clients, count: u64) -> Outcome<()> {
        while let Some(behind) = self.next.iter().find(|&&next| next < count) {
            let told = format!("a client has {behind} messages of {count}, and gets no more");
            let keep = !self.cursors.is_empty();
            let came = clients.round(Some(SILENCE), &mut |_, id, happened| match happened {
                Happened::Text(frame) => self.take(id, frame, keep),
                Happened::Opened => Ok(()),
            })?;
            if !came {
                return Err(told.into());
            }
        }
        Ok(())
    }
}

/// Publishes, and waits until all of it is acknowledged.
fn publish(
    clients: &mut Clients,
    owner: usize,
    message: &mut Message,
    numbers: std::ops::Range<u64>,
    readers: &mut Readers,
) -> Outcome<()> {
    let mut waiting = numbers.end - numbers.start;
    for number in numbers {
        clients.send(owner, message.numbered(number));
    }
    while waiting > 0 {
        let came = clients.round(Some(SILENCE), &mut |_, id, happened| match happened {
            Happened::Text(frame) if id == owner => {
                waiting -= u64::from(is_reply(frame)?);
                Ok(())
            }
            Happened::Text(frame) => readers.take(id, frame, true),
            Happened::Opened => Ok(()),
        })?;
        if !came {
            return Err("messages are not acknowledged".into());
        }
    }
    Ok(())
}
