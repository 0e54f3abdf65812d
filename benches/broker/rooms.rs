//! Many small rooms under a load that does not wait for anybody.
//!
//! When each message is due is fixed beforehand, and its latency counts from there: a server that falls behind cannot
//! make its load lighter, nor its figures better.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::Happened;
use crate::figures::{Times, float, micros, nanos};
use crate::message::{Finder, is_reply};
use crate::process::{Server, Spent, as_many_as_fit, generate, own_time, start_limit};
use crate::scene::{self, Publisher, SILENCE, Scene, Target};
use crate::table::{Against, Goal, MEDIAN_KEPT, Row, TAIL_KEPT, Table};
use crate::{Bench, Outcome, generator};

const ROOMS: usize = 1_000;
const MEMBERS: usize = 10;

/// What waits at the end of the load may be at most this much of it: more, and it would grow without end.
const BACKLOG_MAX: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
pub struct Plan {
    pub scene: scene::Plan,
    pub deliveries_per_second: u32,
    pub warm_up: Duration,
    pub measure: Duration,
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub deliveries: u64,
    pub spent: Duration,
    pub generator: Duration,
    pub took: Duration,
    /// From when a message was due to when a member had it.
    pub latency: Times,
    /// From when a message was due to when it was sent.
    pub late: Times,
    /// Deliveries that were due and had not come, in the middle of the load and at its end.
    pub backlog_half: u64,
    pub backlog_end: u64,
    /// From the end of the load to the last delivery.
    pub drained: Duration,
}

impl Measured {
    fn each(&self) -> f64 {
        nanos(self.spent) / float(self.deliveries)
    }
}

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let rates: &[u32] = if bench.quick { &[50_000] } else { &[50_000, 100_000, 170_000] };
    let (connections, fewer) = as_many_as_fit(ROOMS * MEMBERS);
    let rooms = connections / MEMBERS;
    for &rate in rates {
        let case = format!("{rate} deliveries/s offered");
        let goal = (rate <= 100_000).then_some(Goal::PercentAtLeast(75.0));
        let mut cost = Row::new("rooms", case.as_str(), "ns CPU per delivery").goal(goal);
        let mut p50 = Row::new("rooms", format!("{case}, p50"), "us latency").kept_within(MEDIAN_KEPT);
        let goal = (rate <= 100_000).then_some(Goal::TimesAtMost(3.0));
        let mut p99 = Row::new("rooms", format!("{case}, p99"), "us latency").goal(goal).kept_within(TAIL_KEPT);
        let goal = (rate > 100_000).then_some(Goal::AtMost(micros(BACKLOG_MAX) / 1e3));
        let mut backlog =
            Row::new("rooms", format!("{case}, backlog"), "ms of load at its end").goal(goal).kept_within(TAIL_KEPT);
        for _ in 0..bench.repetitions {
            let server = Server::start(&bench.server, bench.pinned)?;
            let ours = run(bench, server.target(), rooms, rate)?;
            server.process.stop()?;
            let bare = start_limit(0, bench.pinned)?;
            let limit = run(bench, Target::limit(&bare), rooms, rate)?;
            cost.push_beside(ours.each(), limit.each(), Against::Percent);
            cost.detail("% of one core", 100.0 * ours.spent.as_secs_f64() / ours.took.as_secs_f64());
            cost.note_generator(ours.generator, ours.took);
            p50.push_beside(ours.latency.median(), limit.latency.median(), Against::Times);
            p99.push_beside(ours.latency.p99(), limit.latency.p99(), Against::Times);
            p99.detail("us that the generator sent late, p99", ours.late.p99());
            p99.detail("the same beside the limit", limit.late.p99());
            let of_load = |deliveries: u64| 1e3 * float(deliveries) / f64::from(rate);
            backlog.push_beside(of_load(ours.backlog_end), of_load(limit.backlog_end), Against::Times);
            backlog.detail("half-way", of_load(ours.backlog_half));
            backlog.detail("ms until it was gone", micros(ours.drained) / 1e3);
        }
        cost.remarks(fewer.clone());
        for row in [cost, p50, p99, backlog] {
            table.add(row);
        }
    }
    Ok(())
}

fn run(bench: &Bench, target: Target, rooms: usize, deliveries_per_second: u32) -> Outcome<Measured> {
    generate(&generator::Plan::Rooms(Plan {
        scene: scene::Plan { target, rooms, followers: MEMBERS, publisher: Publisher::Member },
        deliveries_per_second,
        warm_up: bench.seconds(1.0),
        measure: bench.seconds(4.0),
    }))
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let mut scene = Scene::set(&plan.scene)?;
    let members = plan.scene.followers as u64;
    let per_second = u64::from(plan.deliveries_per_second) / members;
    let warm = messages(plan.warm_up, per_second);
    let all = warm + messages(plan.measure, per_second);
    let half = warm.midpoint(all);

    let began = Instant::now();
    let mut load = Load {
        rooms: plan.scene.rooms as u64,
        expected: vec![0; scene.follows.len()],
        due: |message| began + Duration::from_nanos(message * 1_000_000_000 / per_second),
        warm,
        delivered: 0,
        acknowledged: 0,
        finder: Finder::default(),
        latency: Times::default(),
    };
    let pid = plan.scene.target.pid();
    let (mut next, mut start, mut half_way, mut end) = (0, None, None, None);
    let mut late = Times::default();
    while load.delivered < all * members || (scene.acknowledges && load.acknowledged < all) {
        let now = Instant::now();
        while next < all && (load.due)(next) <= now {
            let room = usize::try_from(next % load.rooms)?;
            late.add(now.saturating_duration_since((load.due)(next)));
            scene.clients.send(scene.publishers[room], scene.messages[room].numbered(next / load.rooms));
            next += 1;
        }
        let waiting = next * members - load.delivered;
        if start.is_none() && next >= warm {
            start = Some((Spent::by(pid)?, own_time(), Instant::now(), load.delivered));
        }
        if half_way.is_none() && next >= half {
            half_way = Some(waiting);
        }
        if end.is_none() && next == all {
            end = Some((waiting, Instant::now()));
        }
        let wait = if next < all { (load.due)(next).saturating_duration_since(Instant::now()) } else { SILENCE };
        let came = load.round(&mut scene, wait)?;
        if !came && next == all {
            return Err(format!("{} of {} deliveries come, and no more", load.delivered, all * members).into());
        }
    }
    let (before, own, started, delivered) = start.ok_or("the load was too short")?;
    let (backlog_end, ended) = end.ok_or("the load was too short")?;
    let (took, generator, spent) = (started.elapsed(), own_time() - own, Spent::by(pid)?.since(&before));
    let drained = ended.elapsed();

    // Whatever came twice would come now.
    let quiet = Instant::now() + Duration::from_millis(50);
    while let Some(left) = quiet.checked_duration_since(Instant::now()) {
        load.round(&mut scene, left)?;
    }
    if load.delivered != all * members {
        return Err("something came for which nothing was published".into());
    }
    Ok(Measured {
        deliveries: all * members - delivered,
        spent,
        generator,
        took,
        latency: load.latency,
        late,
        backlog_half: half_way.unwrap_or(0),
        backlog_end,
        drained,
    })
}

fn messages(time: Duration, per_second: u64) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(0) * per_second / 1000
}

/// Messages on their way, room by room in turn.
struct Load<D> {
    rooms: u64,
    /// By client: the number that it gets next.
    expected: Vec<u64>,
    due: D,
    /// As many are not looked at for their latency.
    warm: u64,
    delivered: u64,
    acknowledged: u64,
    finder: Finder,
    latency: Times,
}

impl<D: Fn(u64) -> Instant> Load<D> {
    fn round(&mut self, scene: &mut Scene, wait: Duration) -> Outcome<bool> {
        let (follows, publishers) = (&scene.follows, &scene.publishers);
        scene.clients.round(Some(wait), &mut |_, id, happened| {
            let Happened::Text(frame) = happened else { return Ok(()) };
            let Some(room) = follows[id] else { return Err("not a member".into()) };
            if publishers[room] == id && is_reply(frame)? {
                self.acknowledged += 1;
                return Ok(());
            }
            let number = self.finder.number(frame)?;
            if number != self.expected[id] {
                return Err(format!("client {id} got message {number} and not {}", self.expected[id]).into());
            }
            self.expected[id] += 1;
            self.delivered += 1;
            let message = number * self.rooms + room as u64;
            if message >= self.warm {
                self.latency.add((self.due)(message).elapsed());
            }
            Ok(())
        })
    }
}
