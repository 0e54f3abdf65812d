//! Many known rooms, few awake: the others cost disk and nothing else. In a process of its own, because it measures the
//! memory of all of it.

#[path = "it/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests of the server")]
mod harness;

use std::sync::Arc;
use std::time::Duration;

use chinwag::actors::Limits;
use chinwag::store::sled::{Options, SledStore};
use harness::{Setup, TestServer, create_channel, eventually, follow, post, resident_bytes};

/// How many rooms there are, by default: what a build without optimization makes in a few seconds.
const ROOMS: usize = 5_000;

/// From so many rooms on their memory can be told from that of caches.
const MEASURABLE: usize = 50_000;

/// The cache of the log: what it keeps of rooms in memory is bounded by that.
const CACHE_BYTES: usize = 16 << 20;

/// How many connections create them.
const MAKERS: usize = 64;

#[tokio::test]
async fn rooms_at_rest_cost_disk_only() {
    let rooms = std::env::var("CHINWAG_ROOMS").map_or(ROOMS, |rooms| rooms.parse().expect("a number"));
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { cache_bytes: CACHE_BYTES as u64, ballast_bytes: 0, free_bytes_min: 0, ..Options::default() };
    let store = Arc::new(SledStore::open(dir.path(), options).unwrap());
    let limits = Limits { room_idle: Duration::from_millis(100), ..Limits::lifted() };
    let setup = Setup { store: Arc::clone(&store) as _, limits, ..Setup::default() };
    let server = TestServer::with(setup);

    // The first of them warm up what is shared: allocator, caches, tails.
    let warm = rooms / 2;
    create(&server, 0..warm).await;
    asleep(&server).await;
    let before = resident_bytes();
    create(&server, warm..rooms).await;
    asleep(&server).await;
    let grown = resident_bytes().saturating_sub(before);
    let (each, tails) = (grown / (rooms - warm), store.stats().tails);
    println!("{rooms} rooms known, none awake: {each} bytes of memory per room more, {tails} tails in memory");
    // With few rooms it is sled's cache that is seen filling.
    assert!(rooms < MEASURABLE || each < 500, "{each} bytes per room at rest");
    // Two generations, each of as many streams as the cache has kilobytes.
    assert!(tails <= 2 * (CACHE_BYTES >> 10), "{tails} tails in memory");

    let mut ann = server.client("ann").await;
    for room in [0, rooms / 3, rooms - 1] {
        let name = format!("room-{room}");
        ann.ask(follow(&name, "start")).await;
        assert_eq!(server.registry.rooms_awake(), 0, "following wakes nothing");
        assert_eq!(ann.ask(post(&name, "awake")).await["seq"], 3);
        assert_eq!(ann.seqs_until(3).await, [1, 2, 3]);
        asleep(&server).await;
    }
}

/// Creates rooms over several connections, so that many of their commits share a sync.
async fn create(server: &TestServer, rooms: std::ops::Range<usize>) {
    let makers = (0..MAKERS).map(|maker| {
        let mine: Vec<_> = rooms.clone().filter(|room| room % MAKERS == maker).collect();
        async move {
            let mut client = server.client("ann").await;
            for room in mine {
                client.ask(create_channel(&format!("room-{room}"))).await;
                client.take_aside();
            }
        }
    });
    futures_util::future::join_all(makers).await;
}

async fn asleep(server: &TestServer) {
    eventually("sleep", || server.registry.rooms_awake() == 0).await;
}
