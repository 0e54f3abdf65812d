//! Power cuts: what was acknowledged is on the disk, not only in the kernel's memory.
//!
//! A cut is made without cutting anything. The data directory lies in an ext4 file system on a loop device, whose
//! backing file is the disk: what was synced has reached it, what was only written is still in the page cache of the
//! mounted file system. The server is stopped where it stands, the backing file copied from outside and the copy
//! mounted: that is what a machine would find that lost its power at this moment. A second server on the copy must
//! have everything that was acknowledged or shown; then the copy becomes the disk, and the run goes on.
//!
//! That the test can fail is shown by `tests/power/bite.sh`, which takes the sync out of a copy of the sources.
//!
//! Needs root, loop devices and mkfs.ext4; without them it says so loudly and passes. `./test` runs it; alone:
//! `cargo test --release --test power -- --include-ignored --nocapture`. `CHINWAG_POWER_CUTS` says how often,
//! `CHINWAG_POWER_SEED` repeats a run's choices (not its timing).

#[path = "../support/mod.rs"]
mod support;

mod disk;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use disk::Disk;
use support::broker::{self, Broker};
use support::clients::{Crowd, Size};
use support::random::Random;
use support::sized_by;

const SIZE: Size = Size { rooms: 6, publishers: 16, readers: 1 };

/// Between two cuts, at most. Long enough for hundreds of commits, and below the 5 s after which a kernel begins to
/// write by itself what nobody synced (dirty_writeback_centisecs), which would hide a missing sync.
const UP_MAX_MS: u64 = 1_500;

#[tokio::test]
#[ignore = "mounts file systems and cuts their power; ./test runs it"]
async fn no_power_cut_loses_what_was_acknowledged() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the run");
    if let Err(why) = Disk::try_out(home.path()) {
        println!("NOTICE: POWER CUTS WERE NOT TESTED: {why}; root, loop devices and mkfs.ext4 are needed");
        return;
    }
    let cuts = sized_by("CHINWAG_POWER_CUTS", 5);
    let mut random = Random::seeded_by("CHINWAG_POWER_SEED");
    let bound = Duration::from_secs(180 + 10 * cuts);
    let run = tokio::time::timeout(bound, run(home.path(), cuts, &mut random)).await;
    match run {
        Ok(Ok(())) => {}
        Ok(Err(why)) => panic!("{why}"),
        Err(_) => panic!("the run took longer than {} s", bound.as_secs()),
    }
}

async fn run(home: &Path, cuts: u64, random: &mut Random) -> Result<(), String> {
    let began = Instant::now();
    // Dropped in the reverse of this order, so that a server is gone before its disk.
    let mut disk = Disk::create(&home.join("disk-0"))?;
    let (mut broker, mut address) = up(&disk.mounted().join("data")).await?;
    let mut crowd = Crowd::gather(&disk.mounted().join("data"), address, SIZE, random).await?;

    for cut in 1..=cuts {
        tokio::time::sleep(Duration::from_millis(200 + random.below(UP_MAX_MS - 200))).await;
        broker.check_alive()?;
        broker.freeze()?;
        let copy = disk.copy_image(&home.join(format!("disk-{cut}")))?;
        // Acknowledgements that were sent before the cut and not read yet count like all others.
        tokio::time::sleep(Duration::from_millis(50)).await;

        let after = Disk::mount(copy)?;
        let data = after.mounted().join("data");
        let (second, second_address) = up(&data).await?;
        let logs = crowd.logs(second_address).await?;
        let verdict = crowd.ledger().verdict(&logs);
        println!("cut {cut}: acked={} {verdict}", crowd.ledger().acked);
        if !verdict.is_clean() {
            return Err(format!("a power cut broke the promise:\n    {}", verdict.examples.join("\n    ")));
        }

        broker.kill();
        broker = second;
        address = second_address;
        disk = after;
        crowd.moved_to(address);
    }

    crowd.finish().await?;
    broker.check_alive()?;
    let logs = crowd.logs(address).await?;
    let verdict = crowd.ledger().verdict(&logs);
    broker.kill();
    let verified = broker::verify(&disk.mounted().join("data"));
    let ledger = crowd.ledger();
    println!(
        "power: cuts={cuts} sent={} acked={} duplicates={} deferred={} shown={} {verdict} seconds={}",
        ledger.sent(),
        ledger.acked,
        ledger.duplicates,
        ledger.refused,
        ledger.shown,
        began.elapsed().as_secs(),
    );
    if !verdict.is_clean() {
        return Err(format!("the promise was broken:\n    {}", verdict.examples.join("\n    ")));
    }
    verified
}

/// A server that serves on a free port.
async fn up(data: &Path) -> Result<(Broker, SocketAddr), String> {
    let data: PathBuf = data.to_owned();
    let started = tokio::task::spawn_blocking(move || {
        let mut broker = Broker::start(&data, 0);
        let (port, _) = broker.ready()?;
        Ok((broker, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    });
    started.await.expect("starting does not panic")
}
