//! A user's rooms in one call: the first time after a start, again, and after messages in some of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::{ClientId, Clients, Happened};
use crate::figures::{Times, float, micros};
use crate::message::is_reply;
use crate::process::{Server, Spent, generate};
use crate::scene::{Mint, SILENCE, Target, open, pipeline};
use crate::table::{Goal, Row, Table};
use crate::{Bench, Outcome, generator};

const ROOMS: [usize; 2] = [500, 5_000];

/// In each room, none of them read.
const MESSAGES: usize = 3;

/// How often it is asked for when nothing is new, and with something new in a tenth of the rooms.
const AGAIN: usize = 20;
const CHANGED: usize = 10;

/// Commands under way while the rooms are made.
const IN_FLIGHT: usize = 48;

/// One call for 5,000 rooms is to take no longer.
const ASKED_MS: f64 = 50.0;

#[derive(Serialize, Deserialize)]
pub enum Plan {
    /// Make so many rooms with messages.
    Fill { target: Target, rooms: usize },
    /// Ask for them.
    Ask { target: Target, rooms: usize },
}

#[derive(Serialize, Deserialize, Default)]
pub struct Measured {
    first: Duration,
    again: Times,
    changed: Times,
    /// Processor time of one call when nothing is new.
    spent: Duration,
    bytes: usize,
}

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    for rooms in ROOMS {
        let mut first = Row::new("inbox", format!("{rooms} rooms, first after a start"), "ms");
        let mut again = Row::new("inbox", format!("{rooms} rooms, nothing new, p50"), "ms");
        let mut changed = Row::new("inbox", format!("{rooms} rooms, a tenth with something new, p50"), "ms");
        let mut cost = Row::new("inbox", format!("{rooms} rooms, nothing new"), "us CPU per room");
        if rooms == ROOMS[1] {
            again = again.goal(Some(Goal::AtMost(ASKED_MS)));
        }
        for _ in 0..bench.repetitions {
            let server = Server::start(&bench.server, bench.pinned)?;
            let _: Measured = generate(&generator::Plan::Inbox(Plan::Fill { target: server.target(), rooms }))?;
            // So that nothing is in memory, and all rooms are at rest.
            let server = server.restart(&bench.server, bench.pinned)?;
            let measured: Measured = generate(&generator::Plan::Inbox(Plan::Ask { target: server.target(), rooms }))?;
            server.process.stop()?;
            first.push(measured.first.as_secs_f64() * 1e3);
            again.push(measured.again.median() / 1e3);
            again.detail("p99", measured.again.p99() / 1e3);
            again.detail("MiB in the answer", float(measured.bytes as u64) / 1024.0 / 1024.0);
            changed.push(measured.changed.median() / 1e3);
            cost.push(micros(measured.spent) / float(rooms as u64));
        }
        for row in [first, again, changed, cost] {
            table.add(row);
        }
    }
    Ok(())
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let (Plan::Fill { target, rooms } | Plan::Ask { target, rooms }) = plan;
    let Target::Server { data, pid, .. } = target else { return Err("only a server has this".into()) };
    let mut clients = target.clients()?;
    let mint = Mint::open(data)?;
    let speaker = open(&mut clients, "/v1/ws", Some(&mint.token("speaker")?))?;
    if let Plan::Fill { .. } = plan {
        let create = |n| {
            let members = r#"[{"user":"reader"}]"#;
            format!(r#"{{"id":"c","type":"create","kind":"canvas","alias":"r{n}","members":{members}}}"#)
        };
        pipeline(&mut clients, speaker, IN_FLIGHT, (0..*rooms).map(create))?;
        for _ in 0..MESSAGES {
            pipeline(&mut clients, speaker, IN_FLIGHT, (0..*rooms).map(post))?;
        }
        return Ok(Measured::default());
    }
    let reader = open(&mut clients, "/v1/ws", Some(&mint.token("reader")?))?;
    let (first, bytes) = ask(&mut clients, reader, *rooms)?;
    let mut measured = Measured { first, bytes, ..Measured::default() };
    let before = Spent::by(*pid)?;
    for _ in 0..AGAIN {
        measured.again.add(ask(&mut clients, reader, *rooms)?.0);
    }
    measured.spent = Spent::by(*pid)?.since(&before) / u32::try_from(AGAIN)?;
    for n in 0..CHANGED {
        pipeline(&mut clients, speaker, IN_FLIGHT, (0..*rooms).skip(n).step_by(10).map(post))?;
        measured.changed.add(ask(&mut clients, reader, *rooms)?.0);
    }
    Ok(measured)
}

fn post(n: usize) -> String {
    format!(r#"{{"id":"p","type":"post","room":"r{n}","content":{{"text":"A line of chat, as people write them."}}}}"#)
}

/// Asks for all rooms; how long that took, and how long the answer is.
fn ask(clients: &mut Clients, reader: ClientId, rooms: usize) -> Outcome<(Duration, usize)> {
    let began = Instant::now();
    clients.send(reader, br#"{"id":"i","type":"inbox","limit":5000}"#);
    let mut answer = None;
    while answer.is_none() {
        let came = clients.round(Some(SILENCE), &mut |_, _, happened| {
            let Happened::Text(frame) = happened else { return Ok(()) };
            if is_reply(frame)? {
                answer =
                    Some((began.elapsed(), frame.len(), frame.windows(8).filter(|word| word == b"\"unread\"").count()));
            }
            Ok(())
        })?;
        if !came {
            return Err("the inbox does not come".into());
        }
    }
    let (took, bytes, counted) = answer.expect("the loop ends with it");
    // Each room's, and the sum.
    if counted != rooms + 1 {
        return Err(format!("{counted} counts of {rooms} rooms").into());
    }
    Ok((took, bytes))
}
