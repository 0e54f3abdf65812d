//! The documents of a collection as somebody reads and writes them.
//!
//! Reads go to the store and wake no room: where documents lie is read from rows without a value, and then those that are
//! asked for, some at a time, up to a bound. What somebody may not read is passed over and not counted. A change is a
//! command of the collection, which begins with its first document.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::failure::read_failed;
use super::registry::Registry;
use super::room::{Answer, Done};
use crate::domain::account::{Account, Rank};
use crate::domain::document::{
    CHANGED_BYTES_MAX, CHANGED_MAX, Change, CollectionName, Document, Filter, INDEXES_MAX, Index, Level, Reader,
    Selection, Write, all_match, overlaps,
};
use crate::domain::{
    AccountId, Command, Num, Principal, RecordId, Rejection, RoomId, RoomKey, Seq, StreamId, TenantId, UserId,
};
use crate::store::StoreError;
use crate::store::rows::documents::{self as keys, DocumentCount, Indexed};
use crate::store::rows::{self, Row};
use crate::wire::Refusal;

/// How many documents are read at once, and how many rows without a value.
const DOCUMENTS_PER_READ: usize = 64;
const KEYS_PER_SCAN: usize = 4096;

/// The most documents that one request has read, and how large they may be together; the most places of documents.
pub const READ_MAX: usize = 20_000;
pub const READ_BYTES_MAX: usize = 64 * 1024 * 1024;
pub const PLACES_MAX: usize = 500_000;

/// The most documents of one answer, and how large they may be together.
pub const ANSWERED_MAX: usize = 500;
pub const ANSWERED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many documents an answer has where nothing is said.
pub const PAGE_SIZE: usize = 25;

/// A collection, and who asks for what is in it.
pub struct Collection {
    registry: Arc<Registry>,
    key: RoomKey,
    name: CollectionName,
    reader: Reader,
}

/// Which of the documents that are meant an answer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// The first is 1.
    pub page: u64,
    pub size: usize,
    /// The latest first.
    pub descending: bool,
}

/// Some of the documents that are meant, and how many these are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    pub total: u64,
    pub documents: Vec<Document>,
}

/// The indexes that are being built: each at most once at a time.
#[derive(Default)]
pub struct Builds(Mutex<BTreeSet<(RoomKey, Box<str>)>>);

/// An index that is being built, until this is dropped.
struct Build<'a> {
    builds: &'a Builds,
    what: (RoomKey, Box<str>),
}

impl Builds {
    /// `None` where it is being built already.
    fn begin(&self, room: &RoomKey, path: &str) -> Option<Build<'_>> {
        let what = (room.clone(), path.into());
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what.clone());
        is_new.then_some(Build { builds: self, what })
    }
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        self.builds.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.what);
    }
}

/// Where documents are looked for.
enum Places {
    All,
    Under(Bytes),
    Nowhere,
}

impl Paging {
    /// Which of those that are meant, in their order.
    fn range(self) -> Range<usize> {
        let before = usize::try_from(self.page.max(1) - 1).unwrap_or(usize::MAX);
        let start = before.saturating_mul(self.size);
        start..start.saturating_add(self.size)
    }
}

impl Collection {
    pub fn new(registry: &Arc<Registry>, tenant: &TenantId, name: CollectionName, reader: Reader) -> Self {
        let key = RoomKey { tenant: tenant.clone(), room: RoomId::collection(tenant, &name) };
        Self { registry: Arc::clone(registry), key, name, reader }
    }

    pub fn key(&self) -> &RoomKey {
        &self.key
    }

    /// The document of this id, provided that it may be read.
    pub async fn get(&self, id: RecordId) -> Result<Document, Refusal> {
        let found = self.get_all(&[id]).await?;
        found.into_iter().next().ok_or_else(|| Rejection::DocumentNotFound.into())
    }

    /// Those of these ids that there are and that may be read, in their order.
    pub async fn get_all(&self, ids: &[RecordId]) -> Result<Vec<Document>, Refusal> {
        if ids.len() > ANSWERED_MAX {
            return Err(Rejection::TooManyDocuments.into());
        }
        let mut answer = Answered::default();
        for ids in ids.chunks(DOCUMENTS_PER_READ) {
            let seqs: Vec<Seq> = ids.iter().map(|id| id.seq()).collect();
            for (id, document) in ids.iter().zip(self.documents_at(&seqs).await?) {
                if let Some(document) = document.filter(|document| document.id == *id) {
                    answer.add(document)?;
                }
            }
        }
        Ok(answer.documents)
    }

    /// Those that are as `filters` say, in the order in which they were created.
    pub async fn query(&self, filters: &[Filter], paging: Paging) -> Result<Found, Refusal> {
        if filters.is_empty() { self.list(paging).await } else { self.search(filters, paging).await }
    }

    /// How many there are of them.
    pub async fn count(&self, filters: &[Filter]) -> Result<u64, Refusal> {
        let paging = Paging { page: 1, size: 0, descending: false };
        Ok(self.query(filters, paging).await?.total)
    }

    /// Those of them that may be written, for a command about them.
    pub async fn select(&self, filters: Vec<Filter>) -> Result<Selection, Refusal> {
        let (mut documents, mut bytes) = (Vec::new(), 0);
        self.each(self.places(&filters).await?, |document| {
            if all_match(&filters, &document) && self.name.may_write(&self.reader, &document) {
                documents.push(document.id);
                bytes += document.fields.bytes();
            }
            let too_many = documents.len() > CHANGED_MAX || bytes > CHANGED_BYTES_MAX;
            if too_many { Err(Rejection::TooManyDocuments.into()) } else { Ok(()) }
        })
        .await?;
        Ok(Selection { documents, filters })
    }

    /// Has the collection change documents. It begins where there is none yet.
    pub async fn write(&self, by: Principal, change: Change) -> Answer {
        let begin = match &change {
            Change::Create(documents) if !documents.is_empty() => self.num_to_begin(&by).await?,
            Change::Create(_) | Change::Update(..) | Change::Increment(..) | Change::Delete(_) | Change::Index(_) => {
                None
            }
        };
        let write = Write { collection: self.name.clone(), begin, by: self.reader.clone(), change };
        let answer = self.registry.submit(&self.key, by, Command::Write(Arc::new(write)), None).await;
        let missing = |refusal: &Refusal| refusal.code() == Rejection::RoomNotFound.code();
        // Where there is no collection, there is no document.
        if answer.as_ref().is_err_and(missing) { Err(Rejection::DocumentNotFound.into()) } else { answer }
    }

    /// A document that has been changed, as far as it may be read: of one that may only be written no more than whose it is.
    pub fn shown(&self, document: Document) -> Document {
        if self.name.may_read(&self.reader, &document) {
            document
        } else {
            Document { fields: Arc::default(), ..document }
        }
    }

    /// What a change that is on disk has made of documents, the first as it leaves them.
    pub async fn written(&self, done: &Done) -> Result<Option<Document>, Refusal> {
        let first = done.receipt.position.seq;
        // The first record may be that by which the collection began.
        let seqs: Vec<Seq> = [first, first.next()].into_iter().take(done.records).collect();
        let page = self.registry.store().records_at(&self.stream(), &seqs).await;
        let page = page.map_err(|error| read_failed(&error))?;
        Ok(page.records.iter().find_map(Document::of))
    }

    /// The num of a collection that is to begin; `None` where it has begun.
    async fn num_to_begin(&self, by: &Principal) -> Result<Option<Num>, Refusal> {
        let head = self.registry.store().head(&self.stream()).await.map_err(|error| read_failed(&error))?;
        match head {
            Some(_) => Ok(None),
            None => Ok(Some(self.registry.reserve(by, None, Some(self.key.room)).await?.num)),
        }
    }

    /// Some of those that may be read.
    async fn list(&self, paging: Paging) -> Result<Found, Refusal> {
        let wanted = paging.range();
        let places = match self.sources() {
            Places::All if !paging.descending => {
                let total = self.document_count().await?;
                let end = wanted.end.min(usize::try_from(total).unwrap_or(usize::MAX));
                if wanted.start >= end {
                    return Ok(Found { total, documents: Vec::new() });
                }
                if end > PLACES_MAX {
                    return Err(Refusal::query_too_broad());
                }
                // Behind what is asked for nothing is looked at.
                let places = self.places_under(keys::LISTED, end).await?.0;
                return Ok(Found { total, documents: self.page(places, wanted).await? });
            }
            Places::All => self.all_under(keys::LISTED).await?,
            Places::Under(prefix) => self.all_under(&prefix).await?,
            Places::Nowhere => Vec::new(),
        };
        let total = places.len() as u64;
        let places = if paging.descending { places.into_iter().rev().collect() } else { places };
        Ok(Found { total, documents: self.page(places, wanted).await? })
    }

    async fn page(&self, places: Vec<Seq>, wanted: Range<usize>) -> Result<Vec<Document>, Refusal> {
        let mut answer = Answered::default();
        let places = places.into_iter().skip(wanted.start).take(wanted.len()).collect();
        self.each(places, |document| answer.add(document)).await?;
        Ok(answer.documents)
    }

    async fn search(&self, filters: &[Filter], paging: Paging) -> Result<Found, Refusal> {
        let mut places = self.places(filters).await?;
        if paging.descending {
            places.reverse();
        }
        let (wanted, mut total, mut answer) = (paging.range(), 0, Answered::default());
        self.each(places, |document| {
            if !all_match(filters, &document) {
                return Ok(());
            }
            if wanted.contains(&total) {
                answer.add(document)?;
            }
            total += 1;
            Ok(())
        })
        .await?;
        Ok(Found { total: total as u64, documents: answer.documents })
    }

    /// Where those that may be read are looked for.
    fn sources(&self) -> Places {
        if self.name.is_public() {
            return Places::All;
        }
        match (&self.reader, self.name.permissions().read()) {
            (Reader::Anonymous, _) => Places::Nowhere,
            (Reader::Root { .. }, _) | (Reader::User { .. }, Level::Everyone) => Places::All,
            (Reader::User { account, .. }, Level::Account) => Places::Under(keys::of_account(account)),
            (Reader::User { user, .. }, Level::Owner) => Places::Under(keys::owned_by(user)),
        }
    }

    /// Where all documents lie that may be as `filters` say and may be read, in their order; others may lie among them.
    async fn places(&self, filters: &[Filter]) -> Result<Vec<Seq>, Refusal> {
        match self.sources() {
            Places::All => self.fewest(keys::LISTED, self.found_by_index(filters).await?).await,
            Places::Under(prefix) => {
                // Where these are few, nothing tells how many others there are: those are not looked for at all.
                if let (own, false) = self.places_under(&prefix, DOCUMENTS_PER_READ).await? {
                    return Ok(own);
                }
                let found = match self.found_by_index(filters).await? {
                    Some(found) if found.len() <= KEYS_PER_SCAN => Some(self.own(&prefix, found).await?),
                    found => found,
                };
                self.fewest(&prefix, found).await
            }
            Places::Nowhere => Ok(Vec::new()),
        }
    }

    /// Those that are found, or all under a prefix, whichever are fewer.
    async fn fewest(&self, prefix: &[u8], found: Option<Vec<Seq>>) -> Result<Vec<Seq>, Refusal> {
        match found {
            Some(found) if found.len() <= DOCUMENTS_PER_READ => Ok(found),
            Some(found) => match self.places_under(prefix, found.len()).await? {
                (places, false) => Ok(places),
                (_, true) => Ok(found),
            },
            None => self.all_under(prefix).await,
        }
    }

    /// Those of `found` that lie under a prefix. Of the others no document is read.
    async fn own(&self, prefix: &[u8], found: Vec<Seq>) -> Result<Vec<Seq>, Refusal> {
        let keys: Vec<Bytes> = found.iter().map(|seq| keys::under(prefix, *seq)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let rows = self.registry.store().get_all(&self.stream(), &keys).await;
        let rows = rows.map_err(|error| read_failed(&error))?;
        Ok(found.into_iter().zip(rows).filter(|(_, row)| row.is_some()).map(|(seq, _)| seq).collect())
    }

    /// Where the fewest documents lie that are found by one of `filters`; `None` where none of them helps.
    async fn found_by_index(&self, filters: &[Filter]) -> Result<Option<Vec<Seq>>, Refusal> {
        let failed = |error: StoreError| read_failed(&error);
        if filters.is_empty() {
            return Ok(None);
        }
        let rows = self.registry.store().scan(&self.stream(), keys::INDEXES, None, INDEXES_MAX).await;
        let mut best = None::<Vec<Seq>>;
        for (key, row) in rows.map_err(failed)? {
            let (path, indexed) = (keys::path_of(&key).map_err(failed)?, Indexed::decode(&row).map_err(failed)?);
            let about = filters.iter().filter(|filter| indexed.built && filter.path() == path);
            let Some(ranges) = about.filter_map(Filter::ranges).reduce(overlaps) else { continue };
            let limit = best.as_ref().map_or(PLACES_MAX, Vec::len);
            best = self.places_between(path, &ranges, limit).await?.or(best);
        }
        if let Some(places) = &mut best {
            places.sort_unstable();
            places.dedup();
        }
        Ok(best)
    }

    /// The places of documents whose entries of a path lie within `ranges`; `None` where they are more than `limit`.
    async fn places_between(
        &self,
        path: &str,
        ranges: &[Range<Vec<u8>>],
        limit: usize,
    ) -> Result<Option<Vec<Seq>>, Refusal> {
        let failed = |error: StoreError| read_failed(&error);
        let (prefix, mut places) = (keys::entries(path), Vec::new());
        for range in ranges {
            let end = [&prefix, &range.end[..]].concat();
            let mut after = Bytes::from([&prefix, &range.start[..]].concat());
            // Few are looked at in vain where few are found.
            let mut step = DOCUMENTS_PER_READ;
            loop {
                let scan = (limit + 1 - places.len()).min(step);
                let found =
                    self.registry.store().scan(&self.stream(), &prefix, Some(&after), scan).await.map_err(failed)?;
                let within = found.iter().take_while(|(key, _)| key[..] < end[..]).count();
                for (key, _) in &found[..within] {
                    places.push(keys::seq_of(key).map_err(failed)?);
                }
                if places.len() > limit {
                    return Ok(None);
                }
                match found.into_iter().last() {
                    Some((last, _)) if within == scan => {
                        after = last;
                        step = (step * 4).min(KEYS_PER_SCAN);
                    }
                    Some(_) | None => break,
                }
            }
        }
        Ok(Some(places))
    }

    /// Has the documents of the collection found by what they have at `path`, those that are there and those to come.
    /// It helps from when all are put in, which is when it returns, unless somebody else has that done already. It ends
    /// where whoever has it done is let in no more. For root alone.
    pub async fn index(&self, by: &Principal, path: &str) -> Result<(), Refusal> {
        let Some(_build) = self.registry.builds().begin(&self.key, path) else { return Ok(()) };
        let index = |documents, built| Change::Index(Index { path: path.into(), documents, built });
        let step = async |change| match self.registry.denied(by) {
            Some(refusal) => Err(refusal),
            None => self.write(by.clone(), change).await,
        };
        step(index(Vec::new(), false)).await?;
        // Whatever comes from now on is found by it.
        let mut after = None::<Bytes>;
        loop {
            let (store, stream) = (self.registry.store(), self.stream());
            let found = store.scan(&stream, keys::LISTED, after.as_deref(), DOCUMENTS_PER_READ).await;
            let found = found.map_err(|error| read_failed(&error))?;
            let Some((last, _)) = found.last() else { break };
            after = Some(last.clone());
            let places = found.iter().map(|(key, _)| keys::seq_of(key)).collect::<Result<Vec<_>, _>>();
            let places = places.map_err(|error| read_failed(&error))?;
            let documents = self.documents_at(&places).await?.into_iter().flatten();
            step(index(documents.map(|document| document.id).collect(), false)).await?;
        }
        step(index(Vec::new(), true)).await.map(drop)
    }

    async fn all_under(&self, prefix: &[u8]) -> Result<Vec<Seq>, Refusal> {
        match self.places_under(prefix, PLACES_MAX).await? {
            (places, false) => Ok(places),
            (_, true) => Err(Refusal::query_too_broad()),
        }
    }

    /// The first `limit` places under a prefix, and whether there are more.
    async fn places_under(&self, prefix: &[u8], limit: usize) -> Result<(Vec<Seq>, bool), Refusal> {
        let (store, stream) = (self.registry.store(), self.stream());
        let (mut places, mut after) = (Vec::new(), None::<Bytes>);
        while places.len() <= limit {
            let scan = (limit + 1 - places.len()).min(KEYS_PER_SCAN);
            let found = store.scan(&stream, prefix, after.as_deref(), scan).await;
            let found = found.map_err(|error| read_failed(&error))?;
            for (key, _) in &found {
                places.push(keys::seq_of(key).map_err(|error| read_failed(&error))?);
            }
            match found.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok((places, false)),
            }
        }
        places.truncate(limit);
        Ok((places, true))
    }

    /// Looks at the documents at `places` that may be read, in their order and some at a time.
    async fn each(
        &self,
        places: Vec<Seq>,
        mut look: impl FnMut(Document) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if places.len() > READ_MAX {
            return Err(Refusal::query_too_broad());
        }
        let mut bytes = 0;
        for places in places.chunks(DOCUMENTS_PER_READ) {
            for document in self.documents_at(places).await?.into_iter().flatten() {
                bytes += document.fields.bytes();
                look(document)?;
            }
            if bytes > READ_BYTES_MAX {
                return Err(Refusal::query_too_broad());
            }
        }
        Ok(())
    }

    /// The documents at these places, each `None` where there is none that may be read.
    async fn documents_at(&self, places: &[Seq]) -> Result<Vec<Option<Document>>, Refusal> {
        let failed = |error: StoreError| read_failed(&error);
        let keys: Vec<Bytes> = places.iter().map(|seq| keys::document(*seq)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let found = self.registry.store().get_all(&self.stream(), &keys).await.map_err(failed)?;
        let decoded = found.into_iter().map(|row| row.map(|row| Document::decode(&row)).transpose());
        let may = |document: &Document| self.name.may_read(&self.reader, document);
        decoded.map(|document| Ok(document.map_err(failed)?.filter(may))).collect()
    }

    async fn document_count(&self) -> Result<u64, Refusal> {
        let failed = |error: StoreError| read_failed(&error);
        let row = self.registry.store().get(&self.stream(), keys::DOCUMENT_COUNT).await.map_err(failed)?;
        let count = row.map(|row| DocumentCount::decode(&row)).transpose().map_err(failed)?;
        Ok(count.unwrap_or_default().0)
    }

    fn stream(&self) -> StreamId {
        self.key.stream()
    }
}

/// What an answer has.
#[derive(Default)]
struct Answered {
    documents: Vec<Document>,
    bytes: usize,
}

impl Answered {
    fn add(&mut self, document: Document) -> Result<(), Refusal> {
        self.bytes += document.fields.bytes();
        if self.bytes > ANSWERED_BYTES_MAX {
            return Err(Refusal::query_too_broad());
        }
        self.documents.push(document);
        Ok(())
    }
}

/// The names of the collections of a tenant, in no order that says anything: at most `limit`.
pub async fn collections(registry: &Registry, tenant: &TenantId, limit: usize) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let (rooms, more) = super::survey::rooms(registry, tenant, after, limit).await?;
        let Some(last) = rooms.last().map(|room| room.room) else { break };
        let collections = rooms.into_iter().filter(|room| room.header.kind == crate::domain::RoomKind::Collection);
        names.extend(collections.filter_map(|room| Some(room.header.settings.name?.as_str().to_owned())));
        if !more || names.len() >= limit {
            break;
        }
        after = Some(last);
    }
    names.truncate(limit);
    Ok(names)
}

/// A user, as whom it reads and writes documents.
pub async fn user(registry: &Registry, by: &Principal) -> Result<Reader, Refusal> {
    let account = account_of(registry, &by.tenant, &by.user).await?;
    Ok(Reader::User { user: by.user.clone(), account })
}

/// The same for who answers for the tenant; `None` where the user does not.
pub async fn root(registry: &Registry, by: &Principal) -> Result<Option<Reader>, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let stream = StreamId::Accounts(by.tenant.clone());
    let row = registry.store().get(&stream, &rows::accounts::account(&by.user)).await.map_err(failed)?;
    let account = row.map(|row| Account::decode(&row)).transpose().map_err(failed)?;
    if !account.is_some_and(|account| account.rank >= Rank::Admin && !account.disabled) {
        return Ok(None);
    }
    let account = account_of(registry, &by.tenant, &by.user).await?;
    Ok(Some(Reader::Root { user: by.user.clone(), account }))
}

/// The account of a user: as its row says, or one of its own.
pub async fn account_of(registry: &Registry, tenant: &TenantId, user: &UserId) -> Result<AccountId, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let stream = StreamId::User(tenant.clone(), user.clone());
    let row = registry.store().get(&stream, rows::documents::ACCOUNT).await.map_err(failed)?;
    let account = row.map(|row| AccountId::decode(&row)).transpose().map_err(failed)?;
    Ok(account.unwrap_or_else(|| AccountId::of(user)))
}

#[cfg(test)]
mod tests;
