//! One message from one idle client to another, and where its time goes.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::Happened;
use crate::figures::Times;
use crate::message::{CONTENT_BYTES, Finder, is_reply};
use crate::metrics::Metrics;
use crate::process::{LOAD_CORE, SERVER_CORE, Server, generate, pin, start_limit};
use crate::scene::{self, Publisher, SILENCE, Scene, Target};
use crate::table::{Against, MEDIAN_KEPT, Row, TAIL_KEPT, Table};
use crate::{Bench, Outcome, disk, generator};

/// Between two messages: long enough for everything to have gone to sleep.
const PAUSE: Duration = Duration::from_millis(3);

/// What a record takes in the log besides its content, roughly: a sync costs the same for a few bytes more or less.
const RECORD_BYTES: usize = CONTENT_BYTES + 100;

#[derive(Serialize, Deserialize)]
pub struct Plan {
    pub target: Target,
    pub measure: Duration,
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub latency: Times,
    /// The median in microseconds, as the server counts it: from a room's commit being called to its being on disk.
    pub commit: f64,
}

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    let mut p50 = Row::new("latency", "idle to idle, p50", "us").kept_within(MEDIAN_KEPT);
    let mut p99 = Row::new("latency", "idle to idle, p99", "us").kept_within(TAIL_KEPT);
    for _ in 0..bench.repetitions {
        let server = Server::start(&bench.server, bench.pinned)?;
        let ours = run(bench, server.target())?;
        if bench.pinned {
            pin(SERVER_CORE)?;
        }
        let sync = disk::commits(server.folder(), RECORD_BYTES, bench.seconds(1.5), PAUSE)?;
        if bench.pinned {
            pin(LOAD_CORE)?;
        }
        server.process.stop()?;
        let bare = start_limit(0, bench.pinned)?;
        let limit = run(bench, Target::limit(&bare))?;

        p50.push_beside(ours.latency.median(), limit.latency.median(), Against::Times);
        p99.push_beside(ours.latency.p99(), limit.latency.p99(), Against::Times);
        p50.detail("of it the commit, p50 by the buckets of the server", ours.commit);
        p50.detail("of that a bare write and fdatasync, p50", sync.median());
        p50.detail("of it sockets, p50 of the limit", limit.latency.median());
        let left = ours.latency.median() - ours.commit - limit.latency.median();
        p50.detail("of it what is left: actor hops, decoding, framing", left);
        p99.detail("of it a bare write and fdatasync, p99", sync.p99());
        p99.detail("of it sockets, p99 of the limit", limit.latency.p99());
    }
    table.add(p50);
    table.add(p99);
    Ok(())
}

fn run(bench: &Bench, target: Target) -> Outcome<Measured> {
    generate(&generator::Plan::Latency(Plan { target, measure: bench.seconds(4.0) }))
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let target = plan.target.clone();
    let mut scene = Scene::set(&scene::Plan { target, rooms: 1, followers: 1, publisher: Publisher::Outside })?;
    let mut finder = Finder::default();
    let (mut latency, mut number) = (Times::default(), 0);
    let before = Metrics::of(&plan.target)?;
    let until = Instant::now() + plan.measure;
    while Instant::now() < until {
        let sent = Instant::now();
        scene.clients.send(scene.publishers[0], scene.messages[0].numbered(number));
        let (mut got, mut acknowledged) = (None, !scene.acknowledges);
        while got.is_none() || !acknowledged {
            let (follows, finder) = (&scene.follows, &mut finder);
            let came = scene.clients.round(Some(SILENCE), &mut |_, id, happened| {
                let Happened::Text(frame) = happened else { return Ok(()) };
                if follows[id].is_none() && is_reply(frame)? {
                    acknowledged = true;
                } else if finder.number(frame)? == number && got.is_none() {
                    got = Some(sent.elapsed());
                } else {
                    return Err(format!("not message {number}").into());
                }
                Ok(())
            })?;
            if !came {
                return Err(format!("message {number} does not come").into());
            }
        }
        latency.add(got.expect("the loop ends with it"));
        number += 1;
        let next = Instant::now() + PAUSE;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            scene.clients.round(Some(left), &mut |_, _, happened| match happened {
                Happened::Text(_) => Err("something comes that was not published".into()),
                Happened::Opened => Ok(()),
            })?;
        }
    }
    let after = Metrics::of(&plan.target)?;
    let commit = 1e6 * after.median_since(&before, "chinwag_commit_seconds");
    Ok(Measured { latency, commit })
}
