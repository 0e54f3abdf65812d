//! The same work with more of everything: what one more follower costs, and one more room that is there.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::Happened;
use crate::figures::{float, micros};
use crate::process::{Server, Spent, as_many_as_fit, generate, resident};
use crate::scene::{Mint, SILENCE, Target, open, open_many, pipeline, settle};
use crate::table::{Against, Row, Table};
use crate::{Bench, Outcome, fan_out, generator, publish};

const FOLLOWERS: [usize; 4] = [10, 100, 1_000, 10_000];
const ROOMS: [usize; 3] = [1, 1_000, 100_000];

/// Of the rooms that are known.
const WARM: usize = 1_000;

/// Publishers of the room that is measured, each with one message under way.
const PUBLISHERS: usize = 16;

/// As many make rooms at once, each a room after the other.
const MAKERS: usize = 128;

/// One more may cost so much more than one more did where there were few.
const STEADY_PERCENT: f64 = 20.0;

#[derive(Serialize, Deserialize)]
pub enum Plan {
    /// Make so many rooms.
    Make { target: Target, rooms: usize },
    /// Wake so many of them by a message.
    Wake { target: Target, rooms: usize },
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    /// Bytes of resident memory, when all is quiet again.
    pub resident: u64,
    pub spent: Duration,
    pub took: Duration,
}

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    for window in [1, 64] {
        followers(bench, table, window)?;
    }
    known(bench, table)?;
    memory(bench, table)
}

/// What one more follower costs, between a few of them and many.
fn followers(bench: &Bench, table: &mut Table, window: usize) -> Outcome<()> {
    let mut steps = Row::new("growth", format!("one more follower, {window} in flight"), "ns CPU, by step");
    let mut before: Option<(usize, f64, f64)> = None;
    for wanted in FOLLOWERS {
        let (followers, fewer) = as_many_as_fit(if bench.quick { wanted.min(2_000) } else { wanted });
        let mut row = fan_out::compare(bench, "growth", followers, window)?;
        row.remarks(fewer);
        let of_all = |each: f64| each * float(followers as u64);
        let (ours, limit) = (of_all(row.ours()), of_all(row.limit().unwrap_or(f64::NAN)));
        if let Some((fewer, its_ours, its_limit)) = before {
            let one_more = |all: f64, its: f64| (all - its) / float((followers - fewer) as u64);
            steps.push_beside(one_more(ours, its_ours), one_more(limit, its_limit), Against::Percent);
            row.detail(&format!("one more, from {fewer} on"), one_more(ours, its_ours));
            row.detail("one more, limit", one_more(limit, its_limit));
        }
        table.add(row);
        before = Some((followers, ours, limit));
    }
    steps.remarks([steps.steadiness(STEADY_PERCENT)]);
    table.add(steps);
    Ok(())
}

/// A publish into one room, with so many others there.
fn known(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let mut costs = Row::new("growth", "a publish, by rooms known", "us CPU");
    for rooms in ROOMS {
        let rooms = if bench.quick { rooms.min(5_000) } else { rooms };
        let case = format!("publish, {rooms} rooms known");
        let row = publish::compare(bench, "growth", case, PUBLISHERS, true, rooms - 1)?;
        costs.push(row.detailed(publish::CPU).unwrap_or(f64::NAN));
        table.add(row);
    }
    costs.remarks([costs.steadiness(STEADY_PERCENT)]);
    table.add(costs);
    Ok(())
}

/// What a room takes that is only known, and one that is awake.
fn memory(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let rooms = if bench.quick { 5_000 } else { ROOMS[2] };
    let mut made = Row::new("growth", format!("{rooms} rooms made"), "us CPU each");
    let mut known = Row::new("growth", format!("{rooms} rooms known"), "bytes of memory each");
    let mut warm = Row::new("growth", format!("{WARM} of them awake"), "KiB of memory each");
    for _ in 0..bench.repetitions {
        let server = Server::start(&bench.server, bench.pinned)?;
        let empty = resident(server.process.pid())?;
        let making: Measured = generate(&generator::Plan::Growth(Plan::Make { target: server.target(), rooms }))?;
        made.push(micros(making.spent) / float(rooms as u64));
        made.detail("a second", float(rooms as u64) / making.took.as_secs_f64());
        made.detail("MiB with all of them just made", mib(making.resident));

        // Rooms that are at rest are what is left after a new start.
        let server = server.restart(&bench.server, bench.pinned)?;
        let before = resident(server.process.pid())?;
        let waking: Measured = generate(&generator::Plan::Growth(Plan::Wake { target: server.target(), rooms: WARM }))?;
        server.process.stop()?;
        known.push(float(before.saturating_sub(empty)) / float(rooms as u64));
        known.detail("MiB empty", mib(empty));
        known.detail("MiB after a new start", mib(before));
        warm.push(float(waking.resident.saturating_sub(before)) / 1024.0 / float(WARM as u64));
        warm.detail("MiB", mib(waking.resident));
        warm.detail("us CPU to wake one and publish", micros(waking.spent) / float(WARM as u64));
    }
    for row in [made, known, warm] {
        table.add(row);
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    float(bytes) / 1024.0 / 1024.0
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let (Plan::Make { target, .. } | Plan::Wake { target, .. }) = plan;
    let Target::Server { data, pid, .. } = target else { return Err("only a server has this".into()) };
    let mut clients = target.clients()?;
    let mint = Mint::open(data)?;
    let (spent, began);
    match plan {
        Plan::Make { rooms, .. } => {
            (spent, began) = (Spent::by(*pid)?, Instant::now());
            make_known(&mut clients, &mint, *rooms)?;
        }
        Plan::Wake { rooms, .. } => {
            let makers: Vec<String> = (0..MAKERS).map(|n| mint.token(&maker(n))).collect::<Outcome<_>>()?;
            let ids =
                open_many(&mut clients, MAKERS, |n| ("/v1/ws".to_owned(), Some(makers[n].clone())), |_| String::new())?;
            settle(&mut clients, *pid)?;
            (spent, began) = (Spent::by(*pid)?, Instant::now());
            for n in 0..*rooms {
                let post = format!(r#"{{"id":"w","type":"post","room":"r{n}","content":{{"text":"wake up"}}}}"#);
                pipeline(&mut clients, ids.start + n % MAKERS, 1, std::iter::once(post))?;
            }
        }
    }
    let (took, spent) = (began.elapsed(), Spent::by(*pid)?.since(&spent));
    settle(&mut clients, *pid)?;
    Ok(Measured { resident: resident(*pid)?, spent, took })
}

/// Makes the channels `r0`, `r1` and so on, room `n` by maker `n` modulo [`MAKERS`].
pub fn make_known(clients: &mut crate::client::Clients, mint: &Mint, rooms: usize) -> Outcome<()> {
    if rooms == 0 {
        return Ok(());
    }
    let mut first = None;
    for n in 0..MAKERS {
        let id = open(clients, "/v1/ws", Some(&mint.token(&maker(n))?))?;
        first.get_or_insert(id);
    }
    let first = first.unwrap_or(0);
    let create = |n: usize| format!(r#"{{"id":"c","type":"create","kind":"channel","alias":"r{n}"}}"#);
    let mut made = 0;
    for n in 0..rooms.min(MAKERS) {
        clients.send(first + n, create(n).as_bytes());
    }
    // By maker: the room that it makes now.
    let mut making: Vec<usize> = (0..MAKERS).collect();
    while made < rooms {
        let came = clients.round(Some(SILENCE), &mut |clients, id, happened| {
            let Happened::Text(frame) = happened else { return Ok(()) };
            if !crate::message::is_reply(frame)? {
                // The list of the maker's rooms has changed.
                return Ok(());
            }
            made += 1;
            let next = &mut making[id - first];
            *next += MAKERS;
            if *next < rooms {
                clients.send(id, create(*next).as_bytes());
            }
            Ok(())
        })?;
        if !came {
            return Err(format!("{made} of {rooms} rooms are made, and no more become it").into());
        }
    }
    for id in first..first + MAKERS {
        clients.cut(id);
    }
    Ok(())
}

fn maker(n: usize) -> String {
    format!("maker{n}")
}
