//! Collects what nothing refers to: files, uploads that do not go on, and bytes that are in no row.
//!
//! A file goes in two steps. Its row is removed, and with it the file is gone for everybody; then its content is, unless
//! another file has the same. What a kill leaves between these is content in no row, which is looked for as well.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Files;
use crate::actors::failure::{commit_failed, read_failed};
use crate::actors::limits::Files as Limits;
use crate::domain::file::{Fate, Hash, fate};
use crate::domain::{FileId, StreamId, Timestamp};
use crate::store::files::SHARDS;
use crate::store::rows::{self, Filed, Row, Usage};
use crate::wire::Refusal;

/// How many pages of rows a round looks at.
const PAGES_PER_ROUND: usize = 4;

/// How many folders of content a round looks through.
const SHARDS_PER_ROUND: usize = SHARDS / 16;

/// What a round has done away with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    pub files: usize,
    pub uploads: usize,
    /// Contents that were in no row.
    pub leftovers: usize,
    /// Not all files have been looked at: the next round goes on with them.
    pub more: bool,
}

/// A file that nobody can hold any more, until this is dropped.
struct Going<'a> {
    files: &'a Files,
    id: FileId,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.files.table().going.remove(&self.id);
    }
}

impl Files {
    /// A round: looks at all unfinished uploads, at some pages of files, and behind the last of them at some of the folders
    /// of content. What fails does not keep it from the rest; the first failure is told at the end.
    pub async fn collect(self: &Arc<Self>, limits: Limits, now: Timestamp) -> Result<Collected, Refusal> {
        let (mut collected, mut failed) = (Collected::default(), None);
        let uploads = self.collect_uploads(limits, now).await;
        collected.uploads = uploads.unwrap_or_else(|refusal| noted(&mut failed, refusal));
        let mut after = self.looked_at().clone();
        let pages = self.collect_pages(&mut after, &mut collected, now, millis(limits.keep_unreferenced)).await;
        pages.unwrap_or_else(|refusal| noted(&mut failed, refusal));
        *self.looked_at() = after.filter(|_| collected.more);
        if !collected.more {
            let leftovers = self.collect_leftovers().await;
            collected.leftovers = leftovers.unwrap_or_else(|refusal| noted(&mut failed, refusal));
        }
        failed.map_or(Ok(collected), Err)
    }

    /// Looks at some pages of files behind `after`. One that cannot be collected does not keep the others.
    async fn collect_pages(
        &self,
        after: &mut Option<Bytes>,
        collected: &mut Collected,
        now: Timestamp,
        keep_ms: i64,
    ) -> Result<(), Refusal> {
        let mut failed = None;
        for _ in 0..PAGES_PER_ROUND {
            let page = self.page(rows::FILES, after).await.map_err(|error| read_failed(&error))?;
            collected.more = page.is_some();
            for (_, row) in page.into_iter().flatten() {
                let looked = match Filed::decode(&row) {
                    Ok(filed) => self.look_at(filed, now, keep_ms).await,
                    Err(error) => Err(read_failed(&error)),
                };
                collected.files += usize::from(looked.unwrap_or_else(|refusal| noted(&mut failed, refusal)));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn looked_at(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file has been collected.
    async fn look_at(&self, filed: Filed, now: Timestamp, keep_ms: i64) -> Result<bool, Refusal> {
        let id = filed.file.id;
        let referred = self.reference(&rows::references(id), None).await?.is_some();
        match fate(referred, filed.loose_since, now, keep_ms) {
            Fate::Stay => Ok(false),
            Fate::Note(loose_since) => {
                let noted = self.commit(vec![(rows::file(id), Some(Filed { loose_since, ..filed }.encode()))]);
                noted.await.map_err(commit_failed).map(|()| false)
            }
            Fate::Collect => self.collect_file(filed).await,
        }
    }

    /// Collects a file, unless somebody is about to refer to it, or has just done so.
    async fn collect_file(&self, filed: Filed) -> Result<bool, Refusal> {
        let (id, hash) = (filed.file.id, filed.file.hash);
        let _going = {
            let mut table = self.table();
            if table.held.contains_key(&id) || !table.going.insert(id) {
                return Ok(false);
            }
            Going { files: self, id }
        };
        if self.reference(&rows::references(id), None).await?.is_some() {
            return Ok(false);
        }
        let _shelf = self.shelf(&hash).await;
        let (tenant, size) = (filed.file.tenant, filed.file.size);
        let committed = {
            let mut table = self.table();
            let amount = table.amounts.entry(tenant.clone()).or_default();
            amount.used = amount.used.saturating_sub(size);
            self.commit(vec![
                (rows::file(id), None),
                (rows::content(&hash, id), None),
                (rows::usage(&tenant), Some(Usage(amount.used).encode())),
            ])
        };
        if let Err(error) = committed.await {
            self.table().amounts.entry(tenant).or_default().used += size;
            return Err(commit_failed(error));
        }
        self.remove_unless_kept(hash).await?;
        Ok(true)
    }

    /// Throws content away that no file has. Whoever calls has its shelf.
    async fn remove_unless_kept(&self, hash: Hash) -> Result<bool, Refusal> {
        let kept = self.store.scan(&StreamId::Files, &rows::contents(&hash), None, 1).await;
        if !kept.map_err(|error| read_failed(&error))?.is_empty() {
            return Ok(false);
        }
        self.on_disk(move |disk| disk.remove(&hash)).await?;
        Ok(true)
    }

    /// Gives up the uploads that nothing has come of for too long.
    async fn collect_uploads(self: &Arc<Self>, limits: Limits, now: Timestamp) -> Result<usize, Refusal> {
        let keep_ms = millis(limits.keep_unfinished);
        let old: Vec<FileId> = {
            let mut table = self.table();
            let idle = table.unfinished.values().filter(|upload| !table.busy.contains_key(&upload.id));
            let old = idle.filter(|upload| upload.at.0.saturating_add(keep_ms) <= now.0);
            let old: Vec<_> = old.map(|upload| upload.id).collect();
            table.busy.extend(old.iter().map(|id| (*id, Arc::default())));
            old
        };
        let (mut given_up, mut failed) = (0, None);
        for id in &old {
            match self.drop_unfinished(*id).await {
                Ok(()) => given_up += 1,
                Err(refusal) => failed = Some(refusal),
            }
        }
        for id in &old {
            self.table().busy.remove(id);
        }
        self.let_go.notify_waiters();
        failed.map_or(Ok(given_up), Err)
    }

    /// Looks through the next folders of content for what is in no row.
    async fn collect_leftovers(&self) -> Result<usize, Refusal> {
        let first = self.next_shard.fetch_add(SHARDS_PER_ROUND, Ordering::Relaxed);
        let mut removed = 0;
        for shard in first..first + SHARDS_PER_ROUND {
            for (hash, _) in self.on_disk(move |disk| disk.contents(shard % SHARDS)).await? {
                let _shelf = self.shelf(&hash).await;
                removed += usize::from(self.remove_unless_kept(hash).await?);
            }
        }
        Ok(removed)
    }
}

/// Keeps the first failure of a round, which goes on.
fn noted<T: Default>(failed: &mut Option<Refusal>, refusal: Refusal) -> T {
    tracing::warn!(%refusal, "something could not be collected");
    failed.get_or_insert(refusal);
    T::default()
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
