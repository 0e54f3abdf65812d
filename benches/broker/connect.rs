//! What a connection costs: to come, and to stay.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::figures::{float, micros};
use crate::process::{Server, Spent, as_many_as_fit, generate, own_time, resident};
use crate::scene::{Mint, Target, follow, make_rooms, member_name, open, open_many, settle};
use crate::table::{Goal, Row, Table};
use crate::{Bench, Outcome, generator};

const CONNECTIONS: usize = 10_000;

/// As many come and go before anything is measured, so that what a process needs once is there.
const WARM_UP: usize = 400;

#[derive(Serialize, Deserialize)]
pub struct Plan {
    pub target: Target,
    pub connections: usize,
    /// Whether each follows a room, the same for all.
    pub follow: bool,
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    /// Bytes of resident memory before and after.
    pub before: u64,
    pub after: u64,
    pub spent: Duration,
    pub generator: Duration,
    pub took: Duration,
}

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let (connections, fewer) = as_many_as_fit(if bench.quick { 1_000 } else { CONNECTIONS });
    let at = format!("at {connections}");
    let mut idle = Row::new("connect", format!("idle, {at}"), "KiB per connection").goal(Some(Goal::AtMost(10.0)));
    let mut following = Row::new("connect", format!("following a room, {at}"), "KiB per connection");
    let mut come = Row::new("connect", "connect", "us CPU each");
    let goal = Some(Goal::AtMost(40.0));
    let mut come_and_follow = Row::new("connect", "connect and follow", "us CPU each").goal(goal);
    idle.remarks(fewer);
    for _ in 0..bench.repetitions {
        for follow in [false, true] {
            let server = Server::start(&bench.server, bench.pinned)?;
            let plan = Plan { target: server.target(), connections, follow };
            let measured: Measured = generate(&generator::Plan::Connect(plan))?;
            server.process.stop()?;
            let (memory, cost) = if follow { (&mut following, &mut come_and_follow) } else { (&mut idle, &mut come) };
            let kib = |bytes: u64| float(bytes) / 1024.0;
            memory.push(kib(measured.after.saturating_sub(measured.before)) / float(connections as u64));
            memory.detail("MiB before", kib(measured.before) / 1024.0);
            memory.detail("MiB after", kib(measured.after) / 1024.0);
            cost.push(micros(measured.spent) / float(connections as u64));
            cost.detail("a second", float(connections as u64) / measured.took.as_secs_f64());
            cost.note_generator(measured.generator, measured.took);
        }
    }
    for row in [idle, following, come, come_and_follow] {
        table.add(row);
    }
    Ok(())
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let Target::Server { data, pid, .. } = &plan.target else { return Err("only a server has this".into()) };
    let mut clients = plan.target.clients()?;
    let mint = Mint::open(data)?;
    let owner = open(&mut clients, "/v1/ws", Some(&mint.token("owner")?))?;
    let rooms = make_rooms(&mut clients, owner, usize::from(plan.follow), plan.connections)?;
    let first = |_| rooms.first().map_or_else(String::new, |room| follow(room, "now"));
    let tokens: Vec<String> = (0..plan.connections).map(|n| mint.token(&member_name(0, n))).collect::<Outcome<_>>()?;
    let whose = |n: usize| ("/v1/ws".to_owned(), Some(tokens[n].clone()));

    let warm = open_many(&mut clients, WARM_UP, whose, first)?;
    for id in warm {
        clients.cut(id);
    }
    settle(&mut clients, *pid)?;
    let (before, spent, own, began) = (resident(*pid)?, Spent::by(*pid)?, own_time(), Instant::now());
    open_many(&mut clients, plan.connections, whose, first)?;
    let (took, generator, spent) = (began.elapsed(), own_time() - own, Spent::by(*pid)?.since(&spent));
    settle(&mut clients, *pid)?;
    Ok(Measured { before, after: resident(*pid)?, spent, generator, took })
}
