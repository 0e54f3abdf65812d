//! Keeps files: which there are, who may read them, how many bytes a tenant has, what is being uploaded.
//!
//! One value for all threads. Bytes go to and come from the disk on threads that may wait, a few at once, so that a slow
//! disk delays files and nothing else. The lock of the table is held for a look-up and never across a wait.
//!
//! What may be collected while somebody wants it is kept by a [`Hold`]: whoever attaches a file holds it before it looks
//! whether there is one, and until the message is on disk; the collector looks at the holds before it looks at what
//! refers to a file. So one of the two sees the other.

mod collecting;
mod upload;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

pub use self::collecting::Collected;
pub use self::upload::{Came, Upload, Wanted};
pub use crate::store::files::Content;

use super::failure::read_failed;
use super::reading::Insider;
use crate::domain::file::{Access, Hash};
use crate::domain::{
    Attach, File, FileId, Principal, Purpose, Rejection, RoomId, RoomKey, Seq, StreamId, TenantId, UserId,
};
use crate::store::files::FileStore;
use crate::store::rows::{self, Filed, Row, Unfinished, Usage};
use crate::store::{Commit, CommitError, Put, Store, StoreError, StoreFuture};
use crate::wire::Refusal;

/// How many calls wait for the disk at once; others wait for them.
const DISK_CALLS_MAX: usize = 8;

/// Over how many locks content is spread: nobody keeps and removes the same at once.
const SHELVES: usize = 64;

/// How many rows are read at once.
const ROWS_PER_SCAN: usize = 256;

/// In how many rooms it is looked for a membership of who wants to read a file, unless the room is named.
const ROOMS_MAX: usize = 100;

/// Why somebody is shown nothing of a room.
const OUTSIDE: [Rejection; 2] = [Rejection::RoomNotFound, Rejection::NotMember];

/// What all threads share of files.
pub struct Files {
    store: Arc<dyn Store>,
    disk: Arc<FileStore>,
    calls: Semaphore,
    shelves: Vec<tokio::sync::Mutex<()>>,
    table: Mutex<Table>,
    /// Rung when somebody has let go of an unfinished upload.
    let_go: Notify,
    /// Behind which row the collector goes on; `None` is at the first.
    looked_at: Mutex<Option<Bytes>>,
    /// Which folder of content is looked through next for what is in no row.
    next_shard: AtomicUsize,
}

#[derive(Default)]
struct Table {
    amounts: HashMap<TenantId, Amount>,
    /// How many uploads of each user come in or are unfinished.
    of_users: HashMap<(TenantId, UserId), usize>,
    /// How many come in, and of which tenants.
    coming: usize,
    coming_of: HashMap<TenantId, usize>,
    /// How many bytes are still to be written of those.
    reserved: u64,
    unfinished: HashMap<FileId, Unfinished>,
    /// Those of the unfinished that are being written, and by what who writes is asked to give way.
    busy: HashMap<FileId, Arc<Notify>>,
    held: HashMap<FileId, usize>,
    /// What is being collected, and cannot be held any more.
    going: HashSet<FileId>,
}

/// The bytes of a tenant's files.
#[derive(Clone, Copy, Default)]
struct Amount {
    used: u64,
    /// To uploads that are under way.
    promised: u64,
}

/// Keeps files from being collected until it is dropped.
pub struct Hold {
    files: Arc<Files>,
    ids: Vec<FileId>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.files.table();
        for id in &self.ids {
            let Some(count) = table.held.get_mut(id) else { continue };
            *count -= 1;
            if *count == 0 {
                table.held.remove(id);
            }
        }
    }
}

impl Files {
    /// Takes up what there is: counts, uploads that may go on, and those that were complete and not put in their place.
    /// What is left over of others is thrown away.
    pub async fn open(store: Arc<dyn Store>, disk: FileStore) -> Result<Arc<Self>, StoreError> {
        let files = Self {
            store,
            disk: Arc::new(disk),
            calls: Semaphore::new(DISK_CALLS_MAX),
            shelves: (0..SHELVES).map(|_| tokio::sync::Mutex::default()).collect(),
            table: Mutex::default(),
            let_go: Notify::new(),
            looked_at: Mutex::default(),
            next_shard: AtomicUsize::new(0),
        };
        let mut after = None;
        while let Some(page) = files.page(rows::UPLOADS, &mut after).await? {
            for (_, row) in page {
                files.table().take_up(Unfinished::decode(&row)?);
            }
        }
        let mut after = None;
        while let Some(page) = files.page(rows::USAGES, &mut after).await? {
            for (key, row) in page {
                let Usage(used) = Usage::decode(&row)?;
                files.table().amounts.entry(rows::tenant_of(&key)?).or_default().used = used;
            }
        }
        files.tidy().await?;
        Ok(Arc::new(files))
    }

    /// Puts in its place what was complete when the process ended, and throws away what nobody can go on with.
    async fn tidy(&self) -> Result<(), StoreError> {
        let failed = |refusal: Refusal| StoreError::Failed(refusal.to_string());
        for id in self.on_disk(FileStore::uploads).await.map_err(failed)? {
            let filed = self.store.get(&StreamId::Files, &rows::file(id)).await?;
            match filed.map(|row| Filed::decode(&row)).transpose()? {
                Some(Filed { file, .. }) => self.on_disk(move |disk| disk.keep(id, &file.hash, file.size)).await,
                None if self.table().unfinished.contains_key(&id) => Ok(()),
                None => self.on_disk(move |disk| disk.abandon(id)).await,
            }
            .map_err(failed)?;
        }
        Ok(())
    }

    /// What is known of a file that is there.
    pub async fn file(&self, id: FileId) -> Result<Option<File>, Refusal> {
        Ok(self.filed(id).await?.map(|filed| filed.file))
    }

    /// A file that `by` may read; to others there is none. `room` says in which room it has been attached, where the
    /// reader knows; otherwise the first hundred are looked at.
    pub async fn readable(&self, by: &Principal, id: FileId, room: Option<RoomId>) -> Result<File, Refusal> {
        let file = self.file(id).await?.ok_or(Rejection::FileNotFound)?;
        let may = match file.access(by) {
            Access::Granted => true,
            Access::Denied => false,
            Access::ByRoom => self.is_shown_to(by, id, room).await?,
        };
        if may { Ok(file) } else { Err(Rejection::FileNotFound.into()) }
    }

    /// Whether a message that stands, and that `by` may read, has it attached.
    async fn is_shown_to(&self, by: &Principal, id: FileId, room: Option<RoomId>) -> Result<bool, Refusal> {
        let prefix = room.map_or_else(|| rows::references_by_messages(id), |room| rows::references_in(id, room));
        let mut after: Option<Bytes> = None;
        for _ in 0..ROOMS_MAX {
            let Some(found) = self.reference(&prefix, after.as_deref()).await? else { return Ok(false) };
            let room = rows::referring_room(&found).map_err(|error| read_failed(&error))?;
            let key = RoomKey { tenant: by.tenant.clone(), room };
            match Insider::of(&*self.store, &key, &by.user).await {
                Ok(insider) => {
                    let hidden = rows::referred_by_message(id, room, Seq(insider.shown_from().0 - 1));
                    if self.reference(&rows::references_in(id, room), Some(&hidden)).await?.is_some() {
                        return Ok(true);
                    }
                }
                Err(refusal) if OUTSIDE.map(Rejection::code).contains(&refusal.code()) => {}
                Err(refusal) => return Err(refusal),
            }
            after = Some(rows::referred_by_message(id, room, Seq(u64::MAX)));
        }
        Ok(false)
    }

    /// The key of the first reference that begins with `prefix` and comes after `after`.
    async fn reference(&self, prefix: &[u8], after: Option<&[u8]>) -> Result<Option<Bytes>, Refusal> {
        let found = self.store.scan(&StreamId::Files, prefix, after, 1).await.map_err(|error| read_failed(&error))?;
        Ok(found.into_iter().next().map(|(key, _)| key))
    }

    /// What `user` may attach in `room` of `ids`, held.
    pub async fn find(
        self: &Arc<Self>,
        room: &RoomKey,
        user: &UserId,
        ids: &[FileId],
    ) -> Result<(Vec<Attach>, Hold), Refusal> {
        let hold = self.hold(ids);
        let keys: Vec<Bytes> = ids.iter().map(|id| rows::file(*id)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let rows = self.store.get_all(&StreamId::Files, &keys).await.map_err(|error| read_failed(&error))?;
        let attach = ids.iter().zip(rows).map(|(id, row)| {
            let filed = row.filter(|_| hold.ids.contains(id)).map(|row| Filed::decode(&row)).transpose();
            let filed = filed.map_err(|error| read_failed(&error))?;
            let found = filed.and_then(|filed| filed.file.attachment(&room.tenant, room.room, user));
            Ok(Attach { file: *id, found })
        });
        Ok((attach.collect::<Result<_, Refusal>>()?, hold))
    }

    /// Holds all of `ids`; `None` where one of them is not there any more.
    pub async fn hold_all(self: &Arc<Self>, ids: Vec<FileId>) -> Result<Option<Hold>, Refusal> {
        let hold = self.hold(&ids);
        let keys: Vec<Bytes> = ids.iter().map(|id| rows::file(*id)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let rows = self.store.get_all(&StreamId::Files, &keys).await.map_err(|error| read_failed(&error))?;
        let all = ids.iter().all(|id| hold.ids.contains(id)) && rows.iter().all(Option::is_some);
        Ok(all.then_some(hold))
    }

    /// A picture that `user` has uploaded to stand for it, held. What says that it does puts
    /// [`avatar_reference`](Self::avatar_reference) into the same commit, and lets go of the hold behind it.
    pub async fn avatar(self: &Arc<Self>, tenant: &TenantId, user: &UserId, id: FileId) -> Result<Hold, Refusal> {
        let hold = self.hold(&[id]);
        let file = self.file(id).await?.filter(|file| {
            file.tenant == *tenant && file.owner == *user && file.purpose == Purpose::Avatar && !hold.ids.is_empty()
        });
        file.ok_or(Rejection::FileNotFound)?;
        Ok(hold)
    }

    /// The row that says that `file` stands for `user`, or does no longer. The stream that writes it is the one whose
    /// record says so.
    pub fn avatar_reference(file: FileId, user: &UserId, stands: bool) -> Put {
        let value = stands.then(Bytes::new);
        Put { under: StreamId::Files, key: rows::referred_by_user(file, user), value }
    }

    /// Holds those of `ids` that are not being collected.
    fn hold(self: &Arc<Self>, ids: &[FileId]) -> Hold {
        let mut table = self.table();
        let ids: Vec<_> = ids.iter().copied().filter(|id| !table.going.contains(id)).collect();
        for id in &ids {
            *table.held.entry(*id).or_default() += 1;
        }
        Hold { files: Arc::clone(self), ids }
    }

    /// Opens a file for reading.
    pub async fn open_content(&self, file: &File) -> Result<Content, Refusal> {
        let (hash, size) = (file.hash, file.size);
        let content = self.on_disk(move |disk| {
            let content = disk.content(&hash)?;
            if content.size()? == size { Ok(content) } else { Err(io::Error::other("a file has lost its content")) }
        });
        content.await
    }

    /// Reads from a file, on a thread that may wait.
    pub async fn read(&self, content: Arc<Content>, at: u64, bytes: usize) -> Result<Bytes, Refusal> {
        let read = self.on_disk(move |_| {
            let mut piece = vec![0; bytes];
            content.read(at, &mut piece)?;
            Ok(piece.into())
        });
        read.await
    }

    /// How many bytes all files have, each counted for every upload of it, and how many uploads come in now.
    pub fn figures(&self) -> (u64, usize) {
        let table = self.table();
        (table.amounts.values().map(|amount| amount.used).sum(), table.coming)
    }

    async fn filed(&self, id: FileId) -> Result<Option<Filed>, Refusal> {
        let row = self.store.get(&StreamId::Files, &rows::file(id)).await;
        let filed = row.and_then(|row| row.map(|row| Filed::decode(&row)).transpose());
        filed.map_err(|error| read_failed(&error))
    }

    /// The next rows whose keys begin with `prefix`, and where they end; `None` behind the last.
    async fn page(&self, prefix: &[u8], after: &mut Option<Bytes>) -> Result<Option<Vec<(Bytes, Bytes)>>, StoreError> {
        let page = self.store.scan(&StreamId::Files, prefix, after.as_deref(), ROWS_PER_SCAN).await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        *after = Some(last.clone());
        Ok(Some(page))
    }

    /// Writes rows. In the order of the calls, so that the latest count of a tenant is the one that stays.
    fn commit(&self, puts: Vec<(Bytes, Option<Bytes>)>) -> StoreFuture<Result<(), CommitError>> {
        let put = |(key, value)| Put { under: StreamId::Files, key, value };
        let puts = puts.into_iter().map(put).collect();
        let commit = Commit {
            stream: StreamId::Files,
            expected: None,
            records: Vec::new(),
            puts,
            erase: Vec::new(),
            trim: None,
        };
        self.store.commit(commit)
    }

    /// Does something with the disk, on a thread that may wait for it.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&FileStore) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _call = self.calls.acquire().await.map_err(|_| Refusal::unavailable())?;
        let disk = Arc::clone(&self.disk);
        match tokio::task::spawn_blocking(move || work(&disk)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) if is_full(&error) => Err(Refusal::storage_full()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the disk failed at a file");
                Err(Refusal::unavailable())
            }
            Err(_) => Err(Refusal::unavailable()),
        }
    }

    /// Has nobody else keep or remove this content.
    async fn shelf(&self, hash: &Hash) -> tokio::sync::MutexGuard<'_, ()> {
        self.shelves[usize::from(hash.0[0]) % SHELVES].lock().await
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Plain maps and numbers, that are whole between any two statements.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Counts an unfinished upload for its user, and promises it all its bytes.
    fn take_up(&mut self, upload: Unfinished) {
        *self.of_users.entry((upload.tenant.clone(), upload.owner.clone())).or_default() += 1;
        self.amounts.entry(upload.tenant.clone()).or_default().promised += upload.size;
        self.unfinished.insert(upload.id, upload);
    }

    /// Forgets an unfinished upload.
    fn give_up(&mut self, id: FileId) {
        let Some(upload) = self.unfinished.remove(&id) else { return };
        self.uncount(&(upload.tenant.clone(), upload.owner));
        self.take_back(&upload.tenant, upload.size);
    }

    fn uncount(&mut self, user: &(TenantId, UserId)) {
        if let Some(count) = self.of_users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.of_users.remove(user);
            }
        }
    }

    /// Takes back a promise of bytes.
    fn take_back(&mut self, tenant: &TenantId, bytes: u64) {
        if let Some(amount) = self.amounts.get_mut(tenant) {
            amount.promised = amount.promised.saturating_sub(bytes);
        }
    }
}

/// Whether it says that there is no space, also not for this user (errno(3)).
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
