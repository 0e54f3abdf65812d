//! Clients that behave as good clients should while the server dies under them: publishers that send again, under the
//! same client id, whatever was not acknowledged, and readers that resume from their last cursor.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::broker;
use super::eventually;
use super::ledger::{Key, Ledger, Seen, author};
use super::random::Random;
use super::wire::{self, Connection, Frame, Gone, follow_id};

/// Unacknowledged messages per publisher.
const WINDOW: usize = 16;

/// What a client lets pass before it tries again.
const PAUSE: Duration = Duration::from_millis(5);

/// How long clients may take to finish once the server stays up.
const FINISH_MAX: Duration = Duration::from_secs(60);

/// How many clients, and in how many rooms.
#[derive(Clone, Copy)]
pub struct Size {
    pub rooms: usize,
    pub publishers: usize,
    pub readers: usize,
}

/// The clients of one run and what they remember.
pub struct Crowd {
    shared: Arc<Shared>,
    address: watch::Sender<SocketAddr>,
    publishers: JoinSet<()>,
    readers: JoinSet<()>,
}

struct Shared {
    ledger: Mutex<Ledger>,
    rooms: Vec<Uuid>,
    reader_token: String,
    finishing: AtomicBool,
    /// Why the last connection ended, for a run that hangs.
    last_gone: Mutex<String>,
}

impl Crowd {
    /// Makes the rooms, lets everybody join, and sets publishers and readers going.
    pub async fn gather(data: &Path, address: SocketAddr, size: Size, random: &mut Random) -> Result<Self, String> {
        let reader_token = broker::token(data, "reader")?;
        let owner_token = broker::token(data, "owner")?;
        let rooms = make_rooms(address, &owner_token, size.rooms).await.map_err(|Gone(why)| why)?;
        join(address, &reader_token, &rooms).await.map_err(|Gone(why)| why)?;
        let mut tokens = Vec::new();
        for publisher in 0..size.publishers {
            let token = broker::token(data, &author(publisher))?;
            join(address, &token, &rooms).await.map_err(|Gone(why)| why)?;
            tokens.push(token);
        }

        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(size.rooms, size.publishers, size.readers)),
            rooms,
            reader_token,
            finishing: AtomicBool::new(false),
            last_gone: Mutex::default(),
        });
        let (sender, receiver) = watch::channel(address);
        let mut publishers = JoinSet::new();
        for (me, token) in tokens.into_iter().enumerate() {
            publishers.spawn(publish(Arc::clone(&shared), receiver.clone(), me, token, random.fork()));
        }
        let mut readers = JoinSet::new();
        for me in 0..size.readers {
            readers.spawn(read(Arc::clone(&shared), receiver.clone(), me));
        }
        Ok(Self { shared, address: sender, publishers, readers })
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    /// Where the server is from now on.
    pub fn moved_to(&self, address: SocketAddr) {
        self.address.send_replace(address);
    }

    /// Waits until every reader was shown everything that anybody knows of by now.
    pub async fn readers_catch_up(&self) -> Result<(), String> {
        let heads = self.ledger().heads();
        let what = "readers see what was acknowledged";
        let reached = eventually(what, FINISH_MAX, || self.ledger().readers_reached(&heads)).await;
        reached.map_err(|why| self.explained(&why))
    }

    /// Lets every publisher have everything acknowledged, and the readers see it; nothing new is sent.
    pub async fn finish(&mut self) -> Result<(), String> {
        self.shared.finishing.store(true, Ordering::Relaxed);
        let publishers = &mut self.publishers;
        let done = tokio::time::timeout(FINISH_MAX, async {
            while let Some(ended) = publishers.join_next().await {
                ended.expect("a publisher does not panic");
            }
        });
        if done.await.is_err() {
            return Err(self.explained("publishers could not finish"));
        }
        self.readers_catch_up().await?;
        self.readers.shutdown().await;
        Ok(())
    }

    /// Every room's whole log, as a client sees it that comes for the first time.
    pub async fn logs(&self, address: SocketAddr) -> Result<Vec<Vec<Seen>>, String> {
        let read = async {
            let mut connection = Connection::open(address, &self.shared.reader_token).await?;
            self.ledger().epoch(&connection.epoch);
            let mut logs = Vec::new();
            for room in &self.shared.rooms {
                logs.push(connection.read_all(*room).await?);
            }
            Ok(logs)
        };
        read.await.map_err(|Gone(why)| self.explained(&format!("not everything could be read: {why}")))
    }

    /// `why`, with what is known of the run so far.
    fn explained(&self, why: &str) -> String {
        let last_gone = self.shared.last_gone.lock().expect("nobody panics holding this");
        let ledger = self.ledger();
        let found = ledger.found();
        let examples = found.examples.join("\n    ");
        format!(
            "{why}\nuntil then: sent={} acked={} {found}\n    {examples}\nthe last connection ended with: {last_gone}",
            ledger.sent(),
            ledger.acked
        )
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panics holding the ledger")
    }

    fn finishing(&self) -> bool {
        self.finishing.load(Ordering::Relaxed)
    }

    async fn pause_after(&self, Gone(why): Gone) {
        *self.last_gone.lock().expect("nobody panics holding this") = why;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn make_rooms(address: SocketAddr, token: &str, count: usize) -> Result<Vec<Uuid>, Gone> {
    let mut connection = Connection::open(address, token).await?;
    let mut rooms = Vec::new();
    for room in 0..count {
        let create = json!({ "type": "create", "kind": "channel", "alias": format!("room-{room}") });
        let reply = connection.ask(create).await?.map_err(|refusal| Gone(format!("create: {refusal:?}")))?;
        rooms.push(wire::id(&reply["room"]).ok_or_else(|| Gone(format!("no room: {reply}")))?);
    }
    Ok(rooms)
}

async fn join(address: SocketAddr, token: &str, rooms: &[Uuid]) -> Result<(), Gone> {
    let mut connection = Connection::open(address, token).await?;
    for room in rooms {
        let joined = connection.ask(json!({ "type": "join", "room": room.to_string() })).await?;
        joined.map_err(|refusal| Gone(format!("join: {refusal:?}")))?;
    }
    Ok(())
}

async fn publish(
    shared: Arc<Shared>,
    address: watch::Receiver<SocketAddr>,
    me: usize,
    token: String,
    mut random: Random,
) {
    let mut unacknowledged = VecDeque::new();
    loop {
        let at = *address.borrow();
        let ended = match Connection::open(at, &token).await {
            Ok(connection) => publish_on(connection, &shared, me, &mut unacknowledged, &mut random).await,
            Err(gone) => Err(gone),
        };
        match ended {
            Ok(()) => return,
            Err(gone) => shared.pause_after(gone).await,
        }
    }
}

/// Posts until the connection ends, or until the run finishes and everything is acknowledged.
async fn publish_on(
    mut connection: Connection,
    shared: &Shared,
    me: usize,
    unacknowledged: &mut VecDeque<Key>,
    random: &mut Random,
) -> Result<(), Gone> {
    shared.ledger().epoch(&connection.epoch);
    for key in unacknowledged.iter() {
        let room = shared.ledger().room(*key);
        connection.post(shared.rooms[room], *key).await?;
    }
    loop {
        while unacknowledged.len() < WINDOW && !shared.finishing() {
            let room = usize::try_from(random.below(shared.rooms.len() as u64)).expect("rooms are few");
            let key = shared.ledger().sending(me, room);
            unacknowledged.push_back(key);
            connection.post(shared.rooms[room], key).await?;
        }
        connection.flush().await?;
        if unacknowledged.is_empty() {
            return Ok(());
        }
        let Frame::Reply { id, answer } = connection.next().await? else { continue };
        let Some(key) = Key::parse(&id) else { continue };
        let room = shared.ledger().room(key);
        match answer {
            Ok(reply) => {
                let Some((seq, id, duplicate)) = wire::acknowledged(&reply) else {
                    return Err(Gone(format!("not an acknowledgement: {reply}")));
                };
                shared.ledger().acked(key, seq, id, duplicate);
                unacknowledged.retain(|waiting| *waiting != key);
                // Nobody has to send again what was acknowledged; who does is told the same.
                if random.percent(1) {
                    connection.post(shared.rooms[room], key).await?;
                }
            }
            Err(refusal) if refusal.retry == "later" || refusal.retry == "same" => {
                shared.ledger().deferred(key);
                tokio::time::sleep(PAUSE).await;
                connection.post(shared.rooms[room], key).await?;
            }
            Err(refusal) => {
                shared.ledger().refused_for_good(key, &refusal.code);
                unacknowledged.retain(|waiting| *waiting != key);
            }
        }
    }
}

async fn read(shared: Arc<Shared>, address: watch::Receiver<SocketAddr>, me: usize) {
    let mut cursors = vec!["start".to_owned(); shared.rooms.len()];
    loop {
        let at = *address.borrow();
        let ended = match Connection::open(at, &shared.reader_token).await {
            Ok(connection) => read_on(connection, &shared, me, &mut cursors).await,
            Err(gone) => gone,
        };
        shared.pause_after(ended).await;
    }
}

async fn read_on(mut connection: Connection, shared: &Shared, me: usize, cursors: &mut [String]) -> Gone {
    let read = async {
        shared.ledger().epoch(&connection.epoch);
        for (room, cursor) in shared.rooms.iter().zip(cursors.iter()) {
            connection.follow(*room, cursor).await?;
        }
        connection.flush().await?;
        loop {
            match connection.next().await? {
                Frame::Record { room, cursor, seen } => {
                    let Some(room) = shared.rooms.iter().position(|known| *known == room) else { continue };
                    shared.ledger().shown(me, room, &seen);
                    cursors[room] = cursor;
                }
                Frame::Reply { id, answer: Err(refusal) } => {
                    let room = shared.rooms.iter().position(|room| follow_id(*room) == id);
                    if let Some(room) = room
                        && refusal.retry == "no"
                    {
                        shared.ledger().follow_refused(me, room, &refusal.code);
                    }
                    return Err(Gone(format!("follow: {refusal:?}")));
                }
                Frame::FollowEnded => return Err(Gone("a follow ended".to_owned())),
                Frame::Reply { .. } | Frame::Notice => {}
            }
        }
    };
    let ended: Result<std::convert::Infallible, Gone> = read.await;
    match ended {
        Err(gone) => gone,
    }
}
