//! Regressions: what breaks off, fails or waits in the middle of something leaves nothing behind and lets nothing through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chinwag::actors::Limits;
use chinwag::clock::{Clock, ManualClock, SystemClock};
use chinwag::domain::{Epoch, Mark, Position, RoomKey, RoomName, Seq, StreamId, TenantId};
use chinwag::store::memory::{Fault, MemoryStore};
use chinwag::store::{At, Commit, CommitError, Health, Page, Store, StoreError, StoreFuture};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

use crate::harness::{
    PATIENCE, Setup, TestServer, create_channel, eventually, follow, handshake, join, kick, patiently, post,
};
use crate::kicks::start_following;

#[tokio::test]
async fn a_connection_that_breaks_as_soon_as_it_is_open_is_forgotten() {
    let server = TestServer::start();
    for _ in 0..300 {
        let stream = server.raw(&handshake("")).await;
        stream.set_zero_linger().unwrap();
        drop(stream);
    }
    until_connections(&server, 0).await;
}

#[tokio::test]
async fn a_connection_that_ends_while_it_reads_leaves_no_follower_behind() {
    for command in [follow("lobby", "start"), json!({ "type": "history", "room": "lobby" })] {
        let (server, store) = gated(Setup::default());
        let mut ann = server.client("ann").await;
        let room = room(&ann.ask(create_channel("lobby")).await);
        let mut bob = server.client("bob").await;
        bob.ask(join("lobby")).await;
        store.shut(Shut::Everything);
        bob.send(command).await;
        eventually("the reading", || !server.registry.interest(&room).is_empty()).await;
        drop(bob);
        until_connections(&server, 1).await;
        store.open();
        eventually("no interest", || server.registry.interest(&room).is_empty()).await;
    }
}

#[tokio::test]
async fn reading_that_takes_too_long_leaves_no_follower_behind() {
    let limits = Limits { answer_timeout: Duration::from_millis(100), ..Setup::default().limits };
    let (server, store) = gated(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    let room = room(&ann.ask(create_channel("lobby")).await);
    store.shut(Shut::Everything);
    for command in [follow("lobby", "start"), json!({ "type": "history", "room": "lobby" })] {
        assert_eq!(ann.refused(command).await, "unavailable");
        assert!(server.registry.interest(&room).is_empty());
    }
}

#[tokio::test]
async fn commands_of_connections_that_have_gone_still_count_for_their_room() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let limits = Limits { in_flight_per_room: 8, ..Setup::default().limits };
    let server = TestServer::with(Setup { store: Arc::new(store), limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    faults.hold();
    let mut bob = server.client("ann").await;
    for n in 0..8 {
        bob.send(post("lobby", &n.to_string())).await;
    }
    bob.hears_back().await;
    eventually("the commands", || server.registry.commands_in_flight() == 8).await;
    drop(bob);
    until_connections(&server, 1).await;
    assert_eq!(ann.refused(post("lobby", "one more")).await, "busy");
    faults.release();
    eventually("the answers", || server.registry.commands_in_flight() == 0).await;
    assert_eq!(ann.ask(post("lobby", "one more")).await["seq"], 11);
}

#[tokio::test]
async fn asking_for_rooms_that_do_not_exist_wakes_nothing() {
    let server = TestServer::start();
    let mut ann = server.client("ann").await;
    for _ in 0..20 {
        assert_eq!(ann.refused(join(&Uuid::new_v4().to_string())).await, "room_not_found");
    }
    assert_eq!(server.registry.rooms_awake(), 0);
}

#[tokio::test]
async fn a_command_that_waited_until_its_token_had_expired_is_refused() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let limits = Limits { sweep: Duration::from_secs(3600), ..Setup::default().limits };
    let (server, store) = gated(Setup { clock: clock.clone(), limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    ann.ask(post("lobby", "known by name")).await;
    store.shut(Shut::Everything);
    ann.send(json!({ "type": "history", "room": "lobby" })).await;
    let late = ann.send(post("lobby", "too late")).await;
    ann.hears_back().await;
    clock.advance(Duration::from_secs(3700));
    store.open();
    assert_eq!(ann.reply(&late).await["error"]["code"], "token_expired");
    assert_eq!(ann.closed().await, Some(4403));
}

#[tokio::test]
async fn a_page_that_fails_ends_no_follow_but_the_one_it_was_read_for() {
    let (server, store) = gated(Setup::default());
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    store.shut(Shut::Pages);
    ann.ask(follow("lobby", "start")).await;
    ann.ask(follow("lobby", "start")).await;
    store.fail_page();
    store.open();
    assert_eq!(ann.seqs_until(2).await, [1, 2]);
    assert!(ann.take_aside().iter().all(|frame| frame["type"] != "follow_failed"));
}

#[tokio::test]
async fn notices_that_are_not_read_do_not_pile_up() {
    let limits = Limits { slow_consumer: Duration::from_secs(3600), ..Setup::default().limits };
    let server = TestServer::with(Setup { limits, ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    let mut ids = VecDeque::new();
    let mut bob = narrow(&server, "bob").await;
    until_connections(&server, 2).await;
    // It reads so little that the kernel does not give it up, and far less than it is sent.
    let dripping = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        let mut some = [0; 1024];
        while bob.read(&mut some).await.is_ok_and(|count| count > 0) {
            every.tick().await;
        }
    });
    // One MiB and what the kernel holds, in notices of 120 bytes.
    for n in 0..15_000 {
        let role = ["guest", "member"][n % 2];
        let invite = json!({ "type": "invite", "room": "lobby", "user": "bob", "role": role });
        ids.push_back(ann.send(invite).await);
        if ids.len() >= 32 {
            let id = ids.pop_front().expect("there are 32");
            assert_eq!(ann.reply(&id).await["ok"], true);
        }
    }
    until_connections(&server, 1).await;
    patiently(dripping).await.expect("it ends with the connection");
}

/// How a client can end a conversation without having read what was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    CloseFrame,
    HalfClose,
}

#[tokio::test]
async fn nothing_leaves_for_a_kicked_client_that_ended_the_conversation_and_reads_later() {
    for ending in [Ending::CloseFrame, Ending::HalfClose] {
        for while_kicked in [false, true] {
            let server = TestServer::start();
            let mut ann = server.client("ann").await;
            ann.ask(create_channel("lobby")).await;
            {
                let mut bob = server.client("bob").await;
                bob.ask(join("lobby")).await;
            }
            until_connections(&server, 1).await;
            let mut bob = narrow_follower(&server, "bob", "lobby").await;
            let text = "x".repeat(2_000);
            for _ in 0..50 {
                ann.ask(post("lobby", &text)).await;
            }
            let mut kicked = None;
            if while_kicked {
                kicked = Some(ann.send(kick(&json!("lobby"), "bob")).await);
            }
            match ending {
                // Masked with zeros (RFC 6455, section 5.2).
                Ending::CloseFrame => bob.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap(),
                Ending::HalfClose => bob.shutdown().await.unwrap(),
            }
            until_connections(&server, 1).await;
            match kicked {
                Some(id) => drop(ann.reply(&id).await),
                None => drop(ann.ask(kick(&json!("lobby"), "bob")).await),
            }
            let held = usize::try_from(rustix::io::ioctl_fionread(&bob).unwrap()).unwrap();
            let mut rest = Vec::new();
            let _ = patiently(bob.read_to_end(&mut rest)).await;
            let case = (ending, while_kicked);
            assert!(rest.len() <= held, "{case:?}: {} bytes came, {held} were there at the answer", rest.len());
        }
    }
}

#[tokio::test]
async fn a_kick_whose_room_ended_before_it_was_shown_is_a_barrier_when_it_is_asked_for_again() {
    let store = MemoryStore::new();
    let faults = store.faults();
    let server = TestServer::with(Setup { store: Arc::new(store), ..Setup::default() });
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    {
        let mut bob = server.client("bob").await;
        bob.ask(join("lobby")).await;
    }
    until_connections(&server, 1).await;
    let mut bob = narrow_follower(&server, "bob", "lobby").await;
    let text = "x".repeat(2_000);
    for _ in 0..50 {
        ann.ask(post("lobby", &text)).await;
    }
    faults.next(Fault::Tear);
    assert_eq!(ann.refused(kick(&json!("lobby"), "bob")).await, "unavailable");
    assert_eq!(ann.refused(kick(&json!("lobby"), "bob")).await, "no_such_member");
    let held = usize::try_from(rustix::io::ioctl_fionread(&bob).unwrap()).unwrap();
    let mut rest = Vec::new();
    let _ = patiently(bob.read_to_end(&mut rest)).await;
    assert!(rest.len() <= held, "{} bytes came, {held} were there at the answer", rest.len());
}

/// A connection that follows a room, does not read, and has little space of its own for what comes.
async fn narrow_follower(server: &TestServer, user: &str, room: &str) -> TcpStream {
    let mut stream = narrow(server, user).await;
    start_following(server, &mut stream, room).await;
    stream
}

async fn narrow(server: &TestServer, user: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let token = server.token(user);
    stream.write_all(handshake(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await.unwrap();
    stream
}

fn room(created: &Value) -> RoomKey {
    let RoomName::Id(room) = RoomName::parse(created["room"].as_str().unwrap()).unwrap() else { panic!("{created}") };
    RoomKey { tenant: TenantId::default_tenant(), room }
}

async fn until_connections(server: &TestServer, count: usize) {
    let wait = async {
        while server.connections().await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let what = tokio::time::timeout(PATIENCE, wait).await;
    assert!(what.is_ok(), "{} connections, not {count}", server.connections().await);
}

/// A server whose reads of rooms wait while they are shut out.
pub fn gated(setup: Setup) -> (TestServer, Gated) {
    let store =
        Gated { store: MemoryStore::new(), shut: Arc::new(watch::Sender::new(Shut::Nothing)), fail: Arc::default() };
    (TestServer::with(Setup { store: Arc::new(store.clone()), ..setup }), store)
}

#[derive(Clone)]
pub struct Gated {
    store: MemoryStore,
    shut: Arc<watch::Sender<Shut>>,
    /// The next page that is read fails.
    fail: Arc<AtomicBool>,
}

/// What has to wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shut {
    Nothing,
    Pages,
    Everything,
}

impl Gated {
    pub fn shut(&self, what: Shut) {
        self.shut.send_replace(what);
    }

    pub fn open(&self) {
        self.shut(Shut::Nothing);
    }

    fn fail_page(&self) {
        self.fail.store(true, Ordering::SeqCst);
    }

    fn wait<T: 'static>(&self, stream: &StreamId, at: Shut, read: StoreFuture<T>) -> StoreFuture<T> {
        let mut shut = self.shut.subscribe();
        let waits = matches!(stream, StreamId::Room(_));
        Box::pin(async move {
            if waits {
                let _ = shut.wait_for(|shut| *shut < at).await;
            }
            read.await
        })
    }
}

impl Store for Gated {
    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>> {
        self.store.commit(commit)
    }

    fn settle(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        self.store.settle(stream)
    }

    fn head(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        self.wait(stream, Shut::Everything, self.store.head(stream))
    }

    fn rooms(&self, after: Option<RoomKey>, limit: usize) -> StoreFuture<Result<Vec<RoomKey>, StoreError>> {
        self.store.rooms(after, limit)
    }

    fn read(&self, stream: &StreamId, after: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        let (fail, page) = (Arc::clone(&self.fail), self.store.read(stream, after, limit));
        let page = async move {
            if fail.swap(false, Ordering::SeqCst) {
                return Err(StoreError::Failed("a test".to_owned()));
            }
            page.await
        };
        self.wait(stream, Shut::Pages, Box::pin(page))
    }

    fn read_back(&self, stream: &StreamId, before: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        self.wait(stream, Shut::Everything, self.store.read_back(stream, before, limit))
    }

    fn records_at(&self, stream: &StreamId, seqs: &[Seq]) -> StoreFuture<Result<Page, StoreError>> {
        self.wait(stream, Shut::Everything, self.store.records_at(stream, seqs))
    }

    fn get(&self, stream: &StreamId, key: &[u8]) -> StoreFuture<Result<Option<Bytes>, StoreError>> {
        self.wait(stream, Shut::Everything, self.store.get(stream, key))
    }

    fn get_all(&self, stream: &StreamId, keys: &[&[u8]]) -> StoreFuture<Result<Vec<Option<Bytes>>, StoreError>> {
        self.wait(stream, Shut::Everything, self.store.get_all(stream, keys))
    }

    fn scan(
        &self,
        stream: &StreamId,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> StoreFuture<Result<Vec<(Bytes, Bytes)>, StoreError>> {
        self.wait(stream, Shut::Everything, self.store.scan(stream, prefix, after, limit))
    }

    fn mark(&self) -> Mark {
        self.store.mark()
    }

    fn positions_at(&self, streams: Vec<StreamId>, mark: Mark) -> StoreFuture<Result<Vec<At>, StoreError>> {
        let positions = self.store.positions_at(streams.clone(), mark);
        match streams.first() {
            Some(stream) => self.wait(stream, Shut::Everything, positions),
            None => positions,
        }
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    fn close(&self) -> StoreFuture<()> {
        self.store.close()
    }
}
