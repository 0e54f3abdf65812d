//! Publishers that wait for each acknowledgement, which says that the message is on disk.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::Happened;
use crate::figures::{Times, float, micros};
use crate::growth::make_known;
use crate::message::{CONTENT_BYTES, Message, is_reply};
use crate::metrics::Metrics;
use crate::process::{LOAD_CORE, SERVER_CORE, Server, Spent, generate, own_time, pin};
use crate::scene::{Mint, SILENCE, Target, make_rooms, member_name, open, open_many, settle};
use crate::table::{Against, Row, Table};
use crate::{Bench, Outcome, disk, generator};

#[derive(Serialize, Deserialize)]
pub struct Plan {
    pub target: Target,
    /// Each with one message under way.
    pub publishers: usize,
    /// Whether all publish in one room, or each in its own.
    pub one_room: bool,
    /// As many other rooms are there.
    pub known: usize,
    pub warm_up: Duration,
    pub measure: Duration,
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub acknowledged: u64,
    pub latency: Times,
    pub syncs: f64,
    pub spent: Duration,
    pub generator: Duration,
    pub took: Duration,
}

/// The name of the detail that says what a publish costs.
pub const CPU: &str = "us CPU each";

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    for publishers in [1, 16, 256] {
        for one_room in [true, false] {
            if publishers == 1 && !one_room {
                continue;
            }
            let whose = if one_room { "one room" } else { "a room each" };
            table.add(compare(bench, "publish", format!("{publishers} at once, {whose}"), publishers, one_room, 0)?);
        }
    }
    Ok(())
}

/// Server and disk in turns.
pub fn compare(
    bench: &Bench,
    name: &'static str,
    case: String,
    publishers: usize,
    one_room: bool,
    known: usize,
) -> Outcome<Row> {
    let mut row = Row::new(name, case, "us per acknowledged");
    for _ in 0..bench.repetitions {
        let server = Server::start(&bench.server, bench.pinned)?;
        let plan = Plan {
            target: server.target(),
            publishers,
            one_room,
            known,
            warm_up: bench.seconds(0.5),
            measure: bench.seconds(2.0),
        };
        let ours: Measured = generate(&generator::Plan::Publish(plan))?;
        // On the same disk, from the same core: as many messages to each sync as are under way at once.
        if bench.pinned {
            pin(SERVER_CORE)?;
        }
        let limit = disk::commits(server.folder(), CONTENT_BYTES * publishers, bench.seconds(1.0), Duration::ZERO)?;
        if bench.pinned {
            pin(LOAD_CORE)?;
        }
        server.process.stop()?;

        let each = micros(ours.took) / float(ours.acknowledged);
        row.push_beside(each, limit.mean() / float(publishers as u64), Against::Percent);
        row.detail("acknowledged/s", float(ours.acknowledged) / ours.took.as_secs_f64());
        row.detail("us p50", ours.latency.median());
        row.detail("us p99", ours.latency.p99());
        row.detail("messages per sync", float(ours.acknowledged) / ours.syncs);
        row.detail(CPU, micros(ours.spent) / float(ours.acknowledged));
        row.note_generator(ours.generator, ours.took);
    }
    Ok(row)
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let Target::Server { data, pid, .. } = &plan.target else { return Err("only a server has this".into()) };
    let mut clients = plan.target.clients()?;
    let mint = Mint::open(data)?;
    make_known(&mut clients, &mint, plan.known)?;
    let owner = open(&mut clients, "/v1/ws", Some(&mint.token("owner")?))?;
    let (rooms, members) = if plan.one_room { (1, plan.publishers) } else { (plan.publishers, 1) };
    let rooms = make_rooms(&mut clients, owner, rooms, members)?;
    let place = |n: usize| if plan.one_room { (0, n) } else { (n, 0) };
    let names = (0..plan.publishers).map(|n| member_name(place(n).0, place(n).1));
    let tokens: Vec<String> = names.map(|name| mint.token(&name)).collect::<Outcome<_>>()?;
    let ids = open_many(
        &mut clients,
        plan.publishers,
        |n| ("/v1/ws".to_owned(), Some(tokens[n].clone())),
        |_| String::new(),
    )?;
    let first = ids.start;
    let mut messages: Vec<Message> = (0..plan.publishers).map(|n| Message::post(&rooms[place(n).0])).collect();
    let mut sent_at = vec![Instant::now(); plan.publishers];
    let mut next = vec![0_u64; plan.publishers];
    settle(&mut clients, *pid)?;
    let mut receipts = Receipts { rooms: vec![Vec::new(); rooms.len()] };

    let began = Instant::now();
    let (measure_from, until) = (began + plan.warm_up, began + plan.warm_up + plan.measure);
    let (mut latency, mut acknowledged, mut under_way) = (Times::default(), 0_u64, 0_usize);
    let mut start = None;
    for (publisher, id) in ids.enumerate() {
        clients.send(id, messages[publisher].numbered(0));
        under_way += 1;
    }
    let mut measured = None;
    while under_way > 0 {
        let now = Instant::now();
        if start.is_none() && now >= measure_from {
            let metrics = Metrics::of(&plan.target)?;
            start = Some((metrics, Spent::by(*pid)?, own_time(), Instant::now(), acknowledged));
            latency = Times::default();
        }
        if let Some((metrics, spent, own, started, before)) = &start
            && measured.is_none()
            && now >= until
        {
            let (took, generator) = (started.elapsed(), own_time() - *own);
            let spent = Spent::by(*pid)?.since(spent);
            let syncs = Metrics::of(&plan.target)?.since(metrics, "chinwag_store_syncs_total");
            let (acknowledged, latency) = (acknowledged - before, std::mem::take(&mut latency));
            measured = Some(Measured { acknowledged, latency, syncs, spent, generator, took });
        }
        let more = measured.is_none();
        let came = clients.round(Some(SILENCE), &mut |clients, id, happened| {
            let Happened::Text(frame) = happened else { return Ok(()) };
            if !is_reply(frame)? {
                return Err("nobody follows, and a record comes".into());
            }
            let publisher = id - first;
            receipts.take(place(publisher).0, frame)?;
            latency.add(sent_at[publisher].elapsed());
            acknowledged += 1;
            under_way -= 1;
            if more {
                next[publisher] += 1;
                sent_at[publisher] = Instant::now();
                clients.send(id, messages[publisher].numbered(next[publisher]));
                under_way += 1;
            }
            Ok(())
        })?;
        if !came {
            return Err(format!("{under_way} messages are not acknowledged").into());
        }
    }
    receipts.check()?;
    measured.ok_or_else(|| "the load was too short".into())
}

/// The places that were acknowledged, by room.
struct Receipts {
    rooms: Vec<Vec<u64>>,
}

impl Receipts {
    fn take(&mut self, room: usize, reply: &[u8]) -> Outcome<()> {
        let mark = br#""seq":"#;
        let at = reply.windows(mark.len()).position(|part| part == mark).ok_or("a receipt names a place")?;
        let digits = reply[at + mark.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        self.rooms[room].push(digits.fold(0, |seq, digit| seq * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    /// Fails unless the places of each room are distinct and without a gap.
    fn check(&mut self) -> Outcome<()> {
        for seqs in &mut self.rooms {
            seqs.sort_unstable();
            if let Some(pair) = seqs.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
                return Err(format!("after place {} comes place {}", pair[0], pair[1]).into());
            }
        }
        Ok(())
    }
}
