//! Kill -9 under load, again and again, on one data directory: whatever was acknowledged or shown is there
//! afterwards, once, at its place, and the server opens by itself every time.
//!
//! `./test` runs it; alone: `cargo test --release --test crash -- --include-ignored --nocapture`. `CHINWAG_CRASH_KILLS`
//! says how often, `CHINWAG_CRASH_SEED` repeats a run's choices (not its timing).

#[path = "../support/mod.rs"]
mod support;

mod ledger_bites;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::broker::{self, Broker};
use support::clients::{Crowd, Size};
use support::random::Random;
use support::sized_by;

const SIZE: Size = Size { rooms: 6, publishers: 16, readers: 2 };

/// A kill comes this long after the server said it was ready, at most.
const UP_MAX_MS: u64 = 350;

/// Of all kills, in percent: before the server has said so.
const DURING_START: u64 = 15;

/// After so many kills the next one waits until the readers have seen everything that was acknowledged.
const SETTLE_EVERY: u64 = 8;

#[tokio::test]
#[ignore = "kills the built server for minutes; ./test runs it"]
async fn no_kill_loses_doubles_or_moves_what_was_acknowledged() {
    let kills = sized_by("CHINWAG_CRASH_KILLS", 40);
    let mut random = Random::seeded_by("CHINWAG_CRASH_SEED");
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the run");
    let bound = Duration::from_secs(180 + 3 * kills);
    let run = tokio::time::timeout(bound, run(&home.path().join("data"), kills, &mut random)).await;
    let failed = match run {
        Ok(Ok(())) => return,
        Ok(Err(why)) => why,
        Err(_) => format!("the run took longer than {} s", bound.as_secs()),
    };
    // What is left of a failed run is the evidence.
    panic!("{failed}\nthe data directory is kept in {}", home.keep().display());
}

async fn run(data: &Path, kills: u64, random: &mut Random) -> Result<(), String> {
    let began = Instant::now();
    let port = port_outside_the_ephemeral_range(random);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut broker, took) = up(data, port).await?;
    let mut starts = vec![took];
    let mut crowd = Crowd::gather(data, address, SIZE, random).await?;

    let mut killed_during_start = 0;
    let mut serving = true;
    for kill in 1..=kills {
        if serving {
            tokio::time::sleep(Duration::from_millis(random.below(UP_MAX_MS + 1))).await;
            if kill % SETTLE_EVERY == 0 {
                crowd.readers_catch_up().await?;
            }
        } else {
            killed_during_start += 1;
            let typical = u64::try_from(starts[starts.len() / 2].as_millis()).expect("starts are short");
            tokio::time::sleep(Duration::from_millis(random.below(typical + 10))).await;
        }
        broker.check_alive()?;
        broker.kill();
        serving = kill == kills || !random.percent(DURING_START);
        if serving {
            let started = up(data, port).await?;
            broker = started.0;
            starts.push(started.1);
            if !crowd.ledger().found().is_clean() {
                break;
            }
        } else {
            broker = Broker::start(data, port);
        }
    }
    crowd.finish().await?;
    broker.check_alive()?;
    let logs = crowd.logs(address).await?;
    let verdict = crowd.ledger().verdict(&logs);
    broker.kill();
    let verified = broker::verify(data);

    starts.sort_unstable();
    let ledger = crowd.ledger();
    println!(
        "crash: kills={kills} during_start={killed_during_start} sent={} acked={} duplicates={} deferred={} shown={} \
         {verdict} start_p50_ms={} start_max_ms={} seconds={}",
        ledger.sent(),
        ledger.acked,
        ledger.duplicates,
        ledger.refused,
        ledger.shown,
        starts[starts.len() / 2].as_millis(),
        starts[starts.len() - 1].as_millis(),
        began.elapsed().as_secs(),
    );
    if !verdict.is_clean() {
        return Err(format!("the promise was broken:\n    {}", verdict.examples.join("\n    ")));
    }
    verified
}

/// A server that serves, and how long that took. The clients go on meanwhile.
async fn up(data: &Path, port: u16) -> Result<(Broker, Duration), String> {
    let data: PathBuf = data.to_owned();
    let started = tokio::task::spawn_blocking(move || {
        let mut broker = Broker::start(&data, port);
        let (_, took) = broker.ready()?;
        Ok((broker, took))
    });
    started.await.expect("starting does not panic")
}

/// Below 32768: a client that connects to a port of the ephemeral range while nobody listens there can be given that
/// very port as its own and so connect to itself, and the server could not have it back.
fn port_outside_the_ephemeral_range(random: &mut Random) -> u16 {
    loop {
        let port = u16::try_from(15_000 + random.below(17_000)).expect("below 32768");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
