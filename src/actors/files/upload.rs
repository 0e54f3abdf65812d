//! An upload while it comes in: bounded, counted, written to the disk piece by piece.
//!
//! When all of it is on disk its row is committed, and then it is put in its place. Whatever ends the process between
//! these, the next start finds either nothing that counts, an upload that goes on where it was acknowledged, or a file.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::Files;
use crate::actors::failure::commit_failed;
use crate::actors::limits::{Files as FileLimits, Limits, names};
use crate::actors::registry::{BUSY, Registry};
use crate::clock::random_wide;
use crate::domain::file::{Hash, fits};
use crate::domain::{File, FileId, FileName, Principal, Purpose, Rejection, TenantId, Timestamp, UserId};
use crate::store::CommitError;
use crate::store::files::{FileStore, Incoming};
use crate::store::rows::{self, Filed, Row, Unfinished, Usage};
use crate::wire::Refusal;

/// How many uploads may be unfinished in all: each has a row, and a place in memory.
const UNFINISHED_MAX: usize = 10_000;

/// For how long an upload of which nothing has come is left alone although its user wants to begin another.
const EMPTY_MS: u64 = 60 * 1000;

/// Of what there is for all tenants, each gets one part of so many where there are others.
const SHARES: usize = 4;

/// How much of an upload that may go on is acknowledged at once while it comes in.
const ACKNOWLEDGED_BYTES: u64 = 8 * 1024 * 1024;

/// What somebody wants to upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub purpose: Purpose,
    pub name: FileName,
    /// How large it will be, where that is said.
    pub size: Option<u64>,
}

/// How much of an upload there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Came {
    pub offset: u64,
    pub size: u64,
    /// When the last of it came, unless it is complete.
    pub at: Option<Timestamp>,
}

/// An upload that comes in. Dropped before it is finished, nothing is left of it but what was acknowledged.
pub struct Upload {
    files: Arc<Files>,
    id: FileId,
    tenant: TenantId,
    owner: UserId,
    purpose: Purpose,
    name: FileName,
    bytes_max: u64,
    /// What the tenant's files may have, where there is a limit.
    quota: Option<u64>,
    /// Away while a piece is written.
    writing: Option<Writing>,
    /// Space on the disk for what has been announced and not been written.
    space: Reserved,
    /// Bytes that have been promised to it; an upload that may go on has all of its own.
    promised: u64,
    /// Of one that may go on: how much of it has been acknowledged.
    acknowledged: Option<u64>,
    /// Rung when somebody else wants to write to it.
    give_way: Arc<Notify>,
    /// What lies on the disk is a file's, or may be.
    kept: bool,
    _place: Place,
}

/// What is written to, and the proof that nobody else writes there. Both are with the disk while it works.
struct Writing {
    incoming: Incoming,
    _busy: Option<Busy>,
}

/// Space on the disk that nobody else is given, until it is used or this is dropped.
struct Reserved {
    files: Arc<Files>,
    bytes: u64,
}

impl Reserved {
    fn nothing(files: &Arc<Files>) -> Self {
        Self { files: Arc::clone(files), bytes: 0 }
    }

    /// Reserves more, unless too little would be free then, whatever others have reserved.
    async fn extend(&mut self, bytes: u64) -> Result<(), Refusal> {
        let mut more = Self { files: Arc::clone(&self.files), bytes };
        let reserved = {
            let mut table = self.files.table();
            table.reserved += bytes;
            table.reserved
        };
        self.files.has_space(reserved).await?;
        self.bytes += std::mem::take(&mut more.bytes);
        Ok(())
    }

    /// So much of it has been written.
    fn used(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.files.table().reserved -= bytes;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.used(self.bytes);
    }
}

/// A place among the uploads that come in.
struct Place {
    files: Arc<Files>,
    tenant: TenantId,
    /// For whom it is counted; an upload that may go on is counted as long as it is unfinished.
    user: Option<(TenantId, UserId)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.files.table();
        table.coming -= 1;
        if let Entry::Occupied(mut count) = table.coming_of.entry(self.tenant.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if let Some(user) = &self.user {
            table.uncount(user);
        }
    }
}

/// An unfinished upload that is being written.
struct Busy {
    files: Arc<Files>,
    id: FileId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.files.table().busy.remove(&self.id);
        self.files.let_go.notify_waiters();
    }
}

/// How long who writes to an unfinished upload has to give way to who comes later.
const GIVE_WAY: Duration = Duration::from_secs(2);

impl Files {
    /// Begins an upload in one request.
    pub async fn begin(
        self: &Arc<Self>,
        registry: &Registry,
        by: &Principal,
        wanted: Wanted,
    ) -> Result<Upload, Refusal> {
        let limits = registry.limits().files;
        let (bytes_max, quota) = self.admit(registry, by, &wanted)?;
        let size = wanted.size.unwrap_or_default();
        let user = (by.tenant.clone(), by.user.clone());
        self.make_place(&user, limits.uploads_per_user, registry.now()).await?;
        let mut space = Reserved::nothing(self);
        space.extend(size).await?;
        let place = {
            let mut table = self.table();
            let of_user = table.of_users.get(&user).copied().unwrap_or_default();
            if of_user >= limits.uploads_per_user {
                return Err(Refusal::too_many_uploads(names::UPLOADS_PER_USER));
            }
            table.has_place(&by.tenant, &limits)?;
            table.promise(&by.tenant, size, quota)?;
            *table.of_users.entry(user.clone()).or_default() += 1;
            table.take_place(self, by.tenant.clone(), Some(user))
        };
        let mut upload = Upload {
            files: Arc::clone(self),
            id: FileId::new(registry.now(), random_wide()),
            tenant: by.tenant.clone(),
            owner: by.user.clone(),
            purpose: wanted.purpose,
            name: wanted.name,
            bytes_max,
            quota,
            writing: None,
            space,
            promised: size,
            acknowledged: None,
            give_way: Arc::default(),
            kept: false,
            _place: place,
        };
        let id = upload.id;
        let incoming = self.on_disk(move |disk| disk.resume(id, 0)).await?;
        upload.writing = Some(Writing { incoming, _busy: None });
        Ok(upload)
    }

    /// Makes an upload that comes in several requests.
    pub async fn create(
        self: &Arc<Self>,
        registry: &Registry,
        by: &Principal,
        wanted: Wanted,
        size: u64,
    ) -> Result<Unfinished, Refusal> {
        let limits = registry.limits().files;
        let (_, quota) = self.admit(registry, by, &Wanted { size: Some(size), ..wanted.clone() })?;
        let user = (by.tenant.clone(), by.user.clone());
        self.make_place(&user, limits.uploads_per_user, registry.now()).await?;
        // Nothing is kept for it before it comes: it may never.
        Reserved::nothing(self).extend(size).await?;
        let upload = Unfinished {
            id: FileId::new(registry.now(), random_wide()),
            tenant: by.tenant.clone(),
            owner: by.user.clone(),
            purpose: wanted.purpose,
            name: wanted.name,
            size,
            offset: 0,
            at: registry.now(),
        };
        let committed = {
            let mut table = self.table();
            let of_user = table.of_users.get(&user).copied().unwrap_or_default();
            if of_user >= limits.uploads_per_user {
                return Err(Refusal::too_many_uploads(names::UPLOADS_PER_USER));
            }
            table.has_room_for_another(&by.tenant)?;
            table.check(&by.tenant, size, quota)?;
            table.take_up(upload.clone());
            self.commit(vec![(rows::upload(upload.id), Some(upload.encode()))])
        };
        let committed = committed.await.map_err(commit_failed);
        committed.inspect_err(|_| self.table().give_up(upload.id))?;
        Ok(upload)
    }

    /// Waits until nobody writes to an unfinished upload of `by`, having asked who does to give way: that is mostly a
    /// connection whose client has gone and come back by another one.
    pub async fn take_over(&self, by: &Principal, id: FileId) -> Result<(), Refusal> {
        if self.unfinished(by, id).is_none() {
            return Ok(());
        }
        let free = async {
            loop {
                let let_go = self.let_go.notified();
                tokio::pin!(let_go);
                // From here on it is not missed.
                let_go.as_mut().enable();
                let writer = self.table().busy.get(&id).cloned();
                let Some(writer) = writer else { return };
                writer.notify_one();
                let_go.await;
            }
        };
        tokio::time::timeout(GIVE_WAY, free).await.map_err(|_| Refusal::busy(BUSY))
    }

    /// How much there is of an upload of `by`.
    pub async fn came(&self, by: &Principal, id: FileId) -> Result<Came, Refusal> {
        if let Some(upload) = self.unfinished(by, id) {
            return Ok(Came { offset: upload.offset, size: upload.size, at: Some(upload.at) });
        }
        let file = self.file(id).await?.filter(|file| file.tenant == by.tenant && file.owner == by.user);
        let size = file.ok_or(Rejection::FileNotFound)?.size;
        Ok(Came { offset: size, size, at: None })
    }

    /// Goes on with an upload of `by` at `offset`, which has to be where it stands.
    pub async fn go_on(
        self: &Arc<Self>,
        registry: &Registry,
        by: &Principal,
        id: FileId,
        offset: u64,
    ) -> Result<Upload, Refusal> {
        if let Some(refusal) = registry.unready() {
            return Err(refusal);
        }
        self.take_over(by, id).await?;
        let upload = self.unfinished(by, id).ok_or(Rejection::FileNotFound)?;
        let mut space = Reserved::nothing(self);
        space.extend(upload.size - upload.offset).await?;
        let give_way = Arc::new(Notify::new());
        let (upload, busy, place) = {
            let mut table = self.table();
            // It may have been written to, or given up, meanwhile.
            let upload = table.unfinished.get(&id).ok_or(Rejection::FileNotFound)?.clone();
            if table.busy.contains_key(&id) {
                return Err(Refusal::busy(BUSY));
            }
            if upload.offset != offset {
                return Err(Refusal::offset_mismatch(upload.offset));
            }
            table.has_place(&by.tenant, &registry.limits().files)?;
            table.busy.insert(id, Arc::clone(&give_way));
            (upload, Busy { files: Arc::clone(self), id }, table.take_place(self, by.tenant.clone(), None))
        };
        let (incoming, busy) = self.on_disk(move |disk| Ok((disk.resume(id, offset)?, busy))).await?;
        Ok(Upload {
            files: Arc::clone(self),
            id,
            tenant: upload.tenant,
            owner: upload.owner,
            purpose: upload.purpose,
            name: upload.name,
            bytes_max: upload.size,
            quota: None,
            writing: Some(Writing { incoming, _busy: Some(busy) }),
            space,
            promised: upload.size,
            acknowledged: Some(offset),
            give_way,
            kept: false,
            _place: place,
        })
    }

    /// Gives up an upload of `by`.
    pub async fn give_up(self: &Arc<Self>, by: &Principal, id: FileId) -> Result<(), Refusal> {
        self.take_over(by, id).await?;
        self.unfinished(by, id).ok_or(Rejection::FileNotFound)?;
        let busy = {
            let mut table = self.table();
            if table.busy.contains_key(&id) {
                return Err(Refusal::busy(BUSY));
            }
            table.busy.insert(id, Arc::default());
            Busy { files: Arc::clone(self), id }
        };
        let files = Arc::clone(self);
        to_the_end(async move {
            let dropped = files.drop_unfinished(id).await;
            drop(busy);
            dropped
        })
        .await
    }

    /// Notes how much of an upload that may go on is on disk.
    async fn acknowledge(self: Arc<Self>, id: FileId, writing: Writing) -> Result<Writing, Refusal> {
        let sync = move |_: &FileStore| writing.incoming.sync().map(|()| writing);
        let writing = self.on_disk(sync).await?;
        let offset = writing.incoming.bytes();
        let committed = {
            let table = self.table();
            let upload = table.unfinished.get(&id).ok_or(Rejection::FileNotFound)?;
            let upload = Unfinished { offset, ..upload.clone() };
            self.commit(vec![(rows::upload(id), Some(upload.encode()))])
        };
        committed.await.map_err(commit_failed)?;
        if let Some(upload) = self.table().unfinished.get_mut(&id) {
            upload.offset = offset;
        }
        Ok(writing)
    }

    /// Removes an unfinished upload that nobody writes to.
    pub(super) async fn drop_unfinished(&self, id: FileId) -> Result<(), Refusal> {
        self.commit(vec![(rows::upload(id), None)]).await.map_err(commit_failed)?;
        self.table().give_up(id);
        self.on_disk(move |disk| disk.abandon(id)).await
    }

    fn unfinished(&self, by: &Principal, id: FileId) -> Option<Unfinished> {
        let upload = self.table().unfinished.get(&id).cloned();
        upload.filter(|upload| upload.tenant == by.tenant && upload.owner == by.user)
    }

    /// Refuses what cannot be taken; how large it may be, and how much the tenant's files may have.
    fn admit(&self, registry: &Registry, by: &Principal, wanted: &Wanted) -> Result<(u64, Option<u64>), Refusal> {
        if let Some(refusal) = registry.unready() {
            return Err(refusal);
        }
        let (bytes_max, quota) = bounds(&registry.limits(), &by.tenant, wanted.purpose);
        let size = wanted.size.unwrap_or_default();
        if size > bytes_max {
            return Err(Refusal::file_too_large(names::FILE_BYTES));
        }
        Ok((bytes_max, quota))
    }

    /// Gives up the oldest upload of a user who has as many as may be, where nothing has come of it for a while: its answer
    /// was lost, as a rule, and nobody knows of it.
    async fn make_place(
        self: &Arc<Self>,
        user: &(TenantId, UserId),
        most: usize,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let id = {
            let mut table = self.table();
            if table.of_users.get(user).copied().unwrap_or_default() < most {
                return Ok(());
            }
            let own = table.unfinished.values().filter(|upload| (&upload.tenant, &upload.owner) == (&user.0, &user.1));
            let empty = own.filter(|upload| upload.offset == 0 && upload.at.is_past(EMPTY_MS, now));
            let idle = empty.filter(|upload| !table.busy.contains_key(&upload.id));
            let Some(id) = idle.min_by_key(|upload| (upload.at, upload.id)).map(|upload| upload.id) else {
                return Ok(());
            };
            table.busy.insert(id, Arc::default());
            id
        };
        let (files, busy) = (Arc::clone(self), Busy { files: Arc::clone(self), id });
        to_the_end(async move {
            let dropped = files.drop_unfinished(id).await;
            drop(busy);
            dropped
        })
        .await
    }

    async fn has_space(&self, bytes: u64) -> Result<(), Refusal> {
        let has = self.on_disk(move |disk| disk.has_space(bytes)).await?;
        if has { Ok(()) } else { Err(Refusal::storage_full()) }
    }
}

/// What comes of `work`, which is done also when who waits for it goes away: what is on disk and what is remembered of it
/// do not part.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(Refusal::unavailable()))
}

/// How large a file may be, and how much the tenant's files may have.
fn bounds(limits: &Limits, tenant: &TenantId, purpose: Purpose) -> (u64, Option<u64>) {
    (purpose.bytes_max(limits.files.bytes_max), limits.of_tenant(tenant).file_bytes)
}

impl super::Table {
    /// Sets bytes aside for an upload, unless the tenant's files would have too many.
    fn promise(&mut self, tenant: &TenantId, bytes: u64, quota: Option<u64>) -> Result<(), Refusal> {
        self.check(tenant, bytes, quota)?;
        self.amounts.entry(tenant.clone()).or_default().promised += bytes;
        Ok(())
    }

    /// How many of `all` a tenant gets.
    fn share(&self, tenant: &TenantId, all: usize) -> usize {
        let alone = self.amounts.keys().chain(self.coming_of.keys()).all(|other| other == tenant);
        if alone { all } else { all.div_ceil(SHARES) }
    }

    /// Refuses an upload for which there is no place among those that come in.
    fn has_place(&self, tenant: &TenantId, limits: &FileLimits) -> Result<(), Refusal> {
        let own = self.coming_of.get(tenant).copied().unwrap_or_default();
        if self.coming < limits.uploads && own < self.share(tenant, limits.uploads) {
            return Ok(());
        }
        Err(Refusal::too_many_uploads(names::UPLOADS))
    }

    fn take_place(&mut self, files: &Arc<Files>, tenant: TenantId, user: Option<(TenantId, UserId)>) -> Place {
        self.coming += 1;
        *self.coming_of.entry(tenant.clone()).or_default() += 1;
        Place { files: Arc::clone(files), tenant, user }
    }

    /// Refuses an upload that would be one too many of those that are unfinished.
    fn has_room_for_another(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let (all, share) = (self.unfinished.len(), self.share(tenant, UNFINISHED_MAX));
        let own = || self.unfinished.values().filter(|upload| upload.tenant == *tenant).count();
        if all < share || all < UNFINISHED_MAX && own() < share { Ok(()) } else { Err(Refusal::busy(BUSY)) }
    }

    fn check(&self, tenant: &TenantId, bytes: u64, quota: Option<u64>) -> Result<(), Refusal> {
        let amount = self.amounts.get(tenant).copied().unwrap_or_default();
        let fits = fits(amount.used, amount.promised, bytes, quota);
        if fits { Ok(()) } else { Err(Refusal::quota_reached(names::FILES_PER_TENANT)) }
    }
}

impl Upload {
    pub fn id(&self) -> FileId {
        self.id
    }

    /// How much of it has come.
    pub fn bytes(&self) -> u64 {
        self.writing.as_ref().map_or(0, |writing| writing.incoming.bytes())
    }

    /// Whether all of an upload that may go on is there.
    pub fn is_complete(&self) -> bool {
        self.acknowledged.is_some() && self.bytes() == self.bytes_max
    }

    /// Waits until somebody else wants to write to it; what is said to who does no longer.
    pub async fn gives_way(&self) -> Refusal {
        self.give_way.notified().await;
        Refusal::busy(BUSY)
    }

    /// Takes the next piece, and returns when it has been written.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Refusal> {
        let bytes = self.bytes() + piece.len() as u64;
        if bytes > self.bytes_max {
            return Err(match self.acknowledged {
                Some(_) => Refusal::bad_request("more came than the upload was to have"),
                None => Refusal::file_too_large(names::FILE_BYTES),
            });
        }
        if bytes > self.promised {
            self.space.extend(bytes - self.promised).await?;
            self.files.table().promise(&self.tenant, bytes - self.promised, self.quota)?;
            self.promised = bytes;
        }
        let written = piece.len() as u64;
        self.with_disk(move |incoming, _| incoming.write(&piece)).await?;
        self.space.used(written);
        Ok(())
    }

    /// Acknowledges what has come of an upload that may go on, when that is much.
    pub async fn note_progress(&mut self) -> Result<(), Refusal> {
        match self.acknowledged {
            Some(acknowledged) if self.bytes() - acknowledged >= ACKNOWLEDGED_BYTES && !self.is_complete() => {
                self.acknowledge().await.map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Acknowledges what has come of an upload that may go on; how much that is. When it returns that is on disk. An upload
    /// that is complete is [finished](Upload::finish) and not acknowledged.
    pub async fn acknowledge(&mut self) -> Result<u64, Refusal> {
        let writing = self.writing.take().ok_or_else(Refusal::unavailable)?;
        let writing = to_the_end(Arc::clone(&self.files).acknowledge(self.id, writing)).await?;
        let offset = writing.incoming.bytes();
        self.writing = Some(writing);
        self.acknowledged = Some(offset);
        Ok(offset)
    }

    /// Notes when something of an upload that may go on came behind `begun`; when that was the last time.
    pub fn heard(&self, begun: u64, now: Timestamp) -> Timestamp {
        let mut table = self.files.table();
        let Some(upload) = table.unfinished.get_mut(&self.id) else { return now };
        if self.bytes() > begun {
            upload.at = now;
        }
        upload.at
    }

    /// Takes back what was not acknowledged.
    pub async fn rewind(&mut self) -> Result<(), Refusal> {
        let acknowledged = self.acknowledged.unwrap_or_default();
        self.with_disk(move |incoming, _| incoming.rewind(acknowledged)).await
    }

    /// Makes a file of it. When it returns that is on disk. `expected` is what its content has to be. Goes on when nobody
    /// waits for it any more.
    pub async fn finish(self, now: Timestamp, expected: Option<Hash>) -> Result<File, Refusal> {
        to_the_end(self.settle(now, expected)).await
    }

    async fn settle(mut self, now: Timestamp, expected: Option<Hash>) -> Result<File, Refusal> {
        let files = Arc::clone(&self.files);
        let found = self.with_disk(|incoming, _| incoming.complete()).await?;
        let refused = if found.size == 0 {
            Some(Refusal::bad_request("a file has at least one byte"))
        } else if expected.is_some_and(|expected| expected != found.hash) {
            Some(Refusal::digest_mismatch())
        } else {
            (!self.purpose.takes(&found.media)).then(|| Rejection::NotAPicture.into())
        };
        if let Some(refusal) = refused {
            if self.acknowledged.is_some() {
                files.drop_unfinished(self.id).await?;
            }
            return Err(refusal);
        }
        let file = File {
            id: self.id,
            tenant: self.tenant.clone(),
            owner: self.owner.clone(),
            purpose: self.purpose,
            hash: found.hash,
            size: found.size,
            media: found.media,
            name: self.name.clone(),
            at: now,
        };
        let _shelf = files.shelf(&file.hash).await;
        self.file(&file).await?;
        // From here on it is a file: whatever fails, the next start puts it in its place.
        let (id, hash, size) = (file.id, file.hash, file.size);
        files.on_disk(move |disk| disk.keep(id, &hash, size)).await?;
        Ok(file)
    }

    /// Commits the rows of a complete upload.
    async fn file(&mut self, file: &File) -> Result<(), Refusal> {
        let filed = Filed { file: file.clone(), loose_since: Some(file.at) };
        let committed = {
            let mut table = self.files.table();
            let amount = table.amounts.entry(self.tenant.clone()).or_default();
            amount.used += file.size;
            let mut puts = vec![
                (rows::file(file.id), Some(filed.encode())),
                (rows::content(&file.hash, file.id), Some(Bytes::new())),
                (rows::usage(&self.tenant), Some(Usage(amount.used).encode())),
            ];
            puts.extend(self.acknowledged.map(|_| (rows::upload(file.id), None)));
            // Until it is known that it is not.
            self.kept = true;
            self.files.commit(puts)
        };
        let committed = committed.await;
        let mut table = self.files.table();
        if committed.is_err() {
            let amount = table.amounts.entry(self.tenant.clone()).or_default();
            amount.used = amount.used.saturating_sub(file.size);
        } else if self.acknowledged.is_some() {
            table.give_up(file.id);
        } else {
            table.take_back(&self.tenant, self.promised);
            self.promised = 0;
        }
        drop(table);
        self.kept = matches!(committed, Ok(()) | Err(CommitError::Unknown));
        committed.map_err(commit_failed)
    }

    async fn with_disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Incoming, &FileStore) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let mut writing = self.writing.take().ok_or_else(Refusal::unavailable)?;
        let work = move |disk: &FileStore| {
            let done = work(&mut writing.incoming, disk)?;
            Ok((done, writing))
        };
        let (done, writing) = self.files.on_disk(work).await?;
        self.writing = Some(writing);
        Ok(done)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.acknowledged.is_some() {
            return;
        }
        self.files.table().take_back(&self.tenant, self.promised);
        if !self.kept {
            let (files, id) = (Arc::clone(&self.files), self.id);
            // The next start throws away what is not thrown away here.
            tokio::task::spawn_blocking(move || files.disk.abandon(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::actors::files::Table;

    #[test]
    fn no_tenant_has_all_the_uploads_that_are_unfinished_where_there_are_others() {
        let mut table = Table::default();
        let (acme, other) = (TenantId::new("acme").unwrap(), TenantId::new("other").unwrap());
        let mut id = 0;
        let mut take_up = |table: &mut Table, tenant: &TenantId| {
            id += 1;
            table.take_up(Unfinished {
                id: FileId(Uuid::from_u128(id)),
                tenant: tenant.clone(),
                owner: UserId::new("ann").unwrap(),
                purpose: Purpose::Avatar,
                name: FileName::unnamed(),
                size: 1,
                offset: 0,
                at: Timestamp(0),
            });
        };
        for _ in 0..UNFINISHED_MAX / 4 {
            take_up(&mut table, &acme);
        }
        assert!(table.has_room_for_another(&acme).is_ok(), "it is alone");
        take_up(&mut table, &other);
        assert!(table.has_room_for_another(&acme).is_err());
        assert!(table.has_room_for_another(&other).is_ok());
        for _ in 0..UNFINISHED_MAX * 3 / 4 {
            take_up(&mut table, &acme);
        }
        assert!(table.has_room_for_another(&other).is_err(), "there is no place at all");
    }
}
