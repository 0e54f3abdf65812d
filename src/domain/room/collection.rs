//! The documents of a collection: what becomes of them, decided one after the other, each as the one before left it.
//!
//! A room knows those that a command is about while it is decided, and from then on until what has been decided is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Asked, Room};
use crate::domain::document::{
    CHANGED_BYTES_MAX, CHANGED_MAX, Change, CollectionName, Document, Fields, INDEXES_MAX, Index, PATH_BYTES_MAX,
    Reader, Selection, Whose, Write,
};
use crate::domain::{Event, Name, Record, RecordId, Rejection, RoomEvent, RoomKind};

/// What a collection knows of its documents.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Documents {
    /// How many there are.
    count: u64,
    /// Those that commands are about; `None` where there is none of that id.
    known: BTreeMap<RecordId, Option<Document>>,
    /// What the last record has replaced.
    replaced: Option<Document>,
    /// The paths by which documents are found, and whether all of them are by now.
    indexes: BTreeMap<Box<str>, bool>,
}

impl Documents {
    pub(super) fn restored(count: u64, indexes: BTreeMap<Box<str>, bool>) -> Self {
        Self { count, indexes, ..Self::default() }
    }
}

impl Room {
    /// How many documents there are.
    pub fn document_count(&self) -> u64 {
        self.documents.count
    }

    /// The paths by which documents are found, and whether all of them are by now.
    pub fn indexes(&self) -> &BTreeMap<Box<str>, bool> {
        &self.documents.indexes
    }

    /// From now on documents are found by what they have at a path. Not told by the log: a row says so.
    pub fn index(&mut self, by: &Reader, index: &Index) -> Result<bool, Rejection> {
        match (&self.header, by) {
            (None, _) => return Err(Rejection::RoomNotFound),
            (Some(header), _) if header.kind != RoomKind::Collection => return Err(Rejection::KindForbids),
            (Some(_), Reader::Anonymous | Reader::User { .. }) => return Err(Rejection::Forbidden),
            (Some(_), Reader::Root { .. }) => {}
        }
        let indexes = &mut self.documents.indexes;
        let is_new = !indexes.contains_key(&index.path);
        if is_new && (indexes.len() >= INDEXES_MAX || !(1..=PATH_BYTES_MAX).contains(&index.path.len())) {
            return Err(Rejection::TooManyIndexes);
        }
        let built = indexes.entry(index.path.clone()).or_insert(false);
        *built |= index.built;
        Ok(*built)
    }

    /// The documents that `write` is about and that are not known.
    pub fn unknown_documents(&self, write: &Write) -> Vec<RecordId> {
        let ids = if self.header.is_some() { write.documents() } else { &[] };
        ids.iter().filter(|id| !self.documents.known.contains_key(*id)).copied().collect()
    }

    /// Lets the room know a document that the next command is about, or that there is none of this id. From then on
    /// `apply` keeps what is known of it up to date.
    pub fn know_document(&mut self, id: RecordId, document: Option<Document>) {
        self.documents.known.entry(id).or_insert(document);
    }

    /// The document of this id, if it is known.
    pub fn document(&self, id: RecordId) -> Option<&Document> {
        self.documents.known.get(&id)?.as_ref()
    }

    /// What the document that the last record has changed was before.
    pub fn replaced(&self) -> Option<&Document> {
        self.documents.replaced.as_ref()
    }

    /// Forgets the known documents but those in `changed`: every document that a record has changed which is applied and
    /// not committed.
    pub fn forget_documents(&mut self, changed: &BTreeSet<RecordId>) {
        self.documents.known.retain(|id, _| changed.contains(id));
    }

    /// Whether any document is known.
    pub fn knows_documents(&self) -> bool {
        !self.documents.known.is_empty()
    }

    pub(super) fn written(&self, asked: &Asked, write: &Write) -> Result<Vec<RoomEvent>, Rejection> {
        if asked.header.kind != RoomKind::Collection {
            return Err(self.existence(asked, Rejection::KindForbids));
        }
        let events = match &write.change {
            Change::Create(documents) => return created(write, documents),
            Change::Update(selection, update) => {
                let updated = |document: &Document| document.fields.updated(update).checked();
                self.updated(write, selection, updated)?
            }
            Change::Increment(selection, path, by) => {
                let updated = |document: &Document| document.fields.incremented(path, *by)?.checked();
                self.updated(write, selection, updated)?
            }
            // Its host does it: nothing is recorded.
            Change::Index(_) => Vec::new(),
            Change::Delete(selection) => {
                let gone = self.selected(write, selection)?;
                let deleted = |document: &Document| RoomEvent::DocumentDeleted {
                    whose: document.whose(&write.collection),
                    document: document.id,
                };
                gone.map(deleted).collect()
            }
        };
        Ok(events)
    }

    /// The documents of a selection that there are and that may be written.
    fn selected<'a>(
        &'a self,
        write: &'a Write,
        selection: &'a Selection,
    ) -> Result<impl Iterator<Item = &'a Document>, Rejection> {
        if selection.documents.len() > CHANGED_MAX {
            return Err(Rejection::TooManyDocuments);
        }
        let known = selection.documents.iter().filter_map(|id| self.document(*id));
        let may = |document: &&Document| write.collection.may_write(&write.by, document);
        Ok(known.filter(may).filter(|document| selection.includes(document)))
    }

    fn updated(
        &self,
        write: &Write,
        selection: &Selection,
        update: impl Fn(&Document) -> Result<Arc<Fields>, Rejection>,
    ) -> Result<Vec<RoomEvent>, Rejection> {
        let mut size = Size::default();
        let updated = self.selected(write, selection)?.map(|document| {
            let fields = update(document)?;
            size.add(&fields)?;
            let (whose, created) = (document.whose(&write.collection), document.created);
            Ok(RoomEvent::DocumentUpdated { whose, document: document.id, created, fields })
        });
        updated.collect()
    }

    /// Takes note of what a record has made of a document.
    pub(super) fn note_document(&mut self, record: &Record) {
        let documents = &mut self.documents;
        match &record.event {
            Event::Room(RoomEvent::DocumentCreated { .. }) => {
                documents.count += 1;
                documents.known.remove(&record.id);
            }
            Event::Room(RoomEvent::DocumentUpdated { document, .. }) => {
                let known = documents.known.insert(*document, Document::of(record));
                documents.replaced = known.flatten();
            }
            Event::Room(RoomEvent::DocumentDeleted { document, .. }) => {
                documents.count = documents.count.saturating_sub(1);
                documents.replaced = documents.known.insert(*document, None).flatten();
            }
            Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => {}
        }
    }
}

/// The first events of a collection.
pub(super) fn begun(write: &Write) -> Result<Vec<RoomEvent>, Rejection> {
    let Change::Create(documents) = &write.change else { return Err(Rejection::RoomNotFound) };
    let num = write.begin.ok_or(Rejection::RoomNotFound)?;
    let name = Name::new(write.collection.as_str()).expect("what a collection is called is shorter than a name");
    let begins =
        RoomEvent::RoomCreated { kind: RoomKind::Collection, alias: None, num, name: Some(name), audits: None };
    let documents = created(write, documents)?;
    Ok(if documents.is_empty() { documents } else { std::iter::once(begins).chain(documents).collect() })
}

fn created(write: &Write, documents: &[Fields]) -> Result<Vec<RoomEvent>, Rejection> {
    let (owner, account) = write.by.identity().ok_or(Rejection::Forbidden)?;
    if documents.len() > CHANGED_MAX {
        return Err(Rejection::TooManyDocuments);
    }
    let whose = |collection: &CollectionName| {
        let (collection, owner, account) = (collection.clone(), owner.clone(), account.clone());
        Box::new(Whose { collection, owner, account })
    };
    let mut size = Size::default();
    let created = documents.iter().map(|fields| {
        let fields = fields.clone().checked()?;
        size.add(&fields)?;
        Ok(RoomEvent::DocumentCreated { whose: whose(&write.collection), fields })
    });
    created.collect()
}

/// How large the documents of one change are together.
#[derive(Default)]
struct Size(usize);

impl Size {
    fn add(&mut self, fields: &Fields) -> Result<(), Rejection> {
        self.0 += fields.bytes();
        if self.0 > CHANGED_BYTES_MAX { Err(Rejection::TooManyDocuments) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::document::{Filter, Number, Op, Reader, Value};
    use crate::domain::{AccountId, Command, Epoch, Event, Num, Position, Principal, Seq, TenantId, Timestamp, UserId};

    #[test]
    fn a_collection_begins_with_its_first_document() {
        let (mut room, mut log) = (Room::default(), Vec::new());
        assert_eq!(room.decide(&by(), update("ann", id(1), "a", 1), NOW), Err(Rejection::RoomNotFound));
        assert_eq!(room.decide(&by(), create("ann", &[], Some(Num(7))), NOW), Ok(Vec::new()));
        carry_out(&mut room, &mut log, create("ann", &[1, 2], Some(Num(7)))).unwrap();
        let RoomEvent::RoomCreated { kind, name, num, .. } = event(&log[0]) else { panic!("{:?}", log[0]) };
        assert_eq!((*kind, name.as_ref().map(Name::as_str), *num), (RoomKind::Collection, Some("tasks"), Num(7)));
        carry_out(&mut room, &mut log, create("bob", &[3], None)).unwrap();
        let owners = log.iter().filter_map(Document::of).map(|document| document.owner.as_str().to_owned());
        assert_eq!(owners.collect::<Vec<_>>(), ["ann", "ann", "bob"]);
        assert_eq!(room.document_count(), 3);
    }

    #[test]
    fn two_changes_of_a_document_that_are_under_way_both_count() {
        let (mut room, mut log) = (Room::default(), Vec::new());
        carry_out(&mut room, &mut log, create("ann", &[1], Some(Num(7)))).unwrap();
        let document = Document::of(&log[1]).unwrap();
        let increment = write("ann", Change::Increment(Selection::one(document.id), "n".into(), Number::whole(5)));
        assert_eq!(room.unknown_documents(written_of(&increment)), [document.id]);
        room.know_document(document.id, Some(document.clone()));
        assert_eq!(room.unknown_documents(written_of(&increment)), []);
        carry_out(&mut room, &mut log, increment.clone()).unwrap();
        assert_eq!(room.replaced(), Some(&document));
        // It was read before the first had come to the disk.
        room.know_document(document.id, Some(document.clone()));
        carry_out(&mut room, &mut log, increment.clone()).unwrap();
        assert_eq!(log.last().and_then(Document::of), Some(Document { fields: fields(11), ..document.clone() }));
        carry_out(&mut room, &mut log, update("ann", document.id, "n", 2)).unwrap();
        carry_out(&mut room, &mut log, write("ann", Change::Delete(Selection::one(document.id)))).unwrap();
        assert_eq!((room.document(document.id), room.document_count()), (None, 0));
        let late = carry_out(&mut room, &mut log, increment);
        assert_eq!(late, Ok(0));
        room.forget_documents(&BTreeSet::from([document.id]));
        assert!(room.knows_documents());
        room.forget_documents(&BTreeSet::new());
        assert!(!room.knows_documents());
    }

    #[test]
    fn of_a_selection_those_are_changed_that_are_still_as_it_says_and_may_be_written() {
        let (mut room, mut log) = (Room::default(), Vec::new());
        carry_out(&mut room, &mut log, create("ann", &[1, 2, 3], Some(Num(7)))).unwrap();
        carry_out(&mut room, &mut log, create("bob", &[3], None)).unwrap();
        let all: Vec<_> = log.iter().filter_map(Document::of).collect();
        for document in &all {
            room.know_document(document.id, Some(document.clone()));
        }
        carry_out(&mut room, &mut log, update("ann", all[0].id, "n", 9)).unwrap();
        let few = Filter::new("n", Op::AtMost, number(3)).unwrap();
        let documents = all.iter().map(|document| document.id).chain([id(99)]).collect();
        let selection = Selection { documents, filters: vec![few] };
        let deleted = room.decide(&by(), write("ann", Change::Delete(selection.clone())), NOW).unwrap();
        let gone = deleted.iter().map(|event| match event {
            RoomEvent::DocumentDeleted { document, .. } => *document,
            other => panic!("{other:?}"),
        });
        assert_eq!(gone.collect::<Vec<_>>(), [all[1].id, all[2].id]);
        let Command::Write(by_root) = write("root", Change::Delete(selection)) else { unreachable!("it is a write") };
        let (user, account) = (UserId::new("root").unwrap(), AccountId::new("host").unwrap());
        let by_root = Write { by: Reader::Root { user, account }, ..(*by_root).clone() };
        assert_eq!(room.decide(&by(), Command::Write(Arc::new(by_root)), NOW).unwrap().len(), 3);
    }

    #[test]
    fn a_change_that_is_too_large_leads_to_nothing() {
        let (mut room, mut log) = (Room::default(), Vec::new());
        let many = vec![0; CHANGED_MAX + 1];
        assert_eq!(
            carry_out(&mut room, &mut log, create("ann", &many, Some(Num(7)))),
            Err(Rejection::TooManyDocuments)
        );
        let text = Value::Text("a".repeat(50 * 1024).into());
        let large = Fields([("text".into(), text)].into());
        let create = |count| {
            Command::Write(Arc::new(Write {
                begin: Some(Num(7)),
                ..write_by("ann", Change::Create(vec![large.clone(); count]))
            }))
        };
        assert_eq!(carry_out(&mut room, &mut log, create(41)), Err(Rejection::TooManyDocuments));
        assert_eq!(carry_out(&mut room, &mut log, create(40)), Ok(41));
        let documents: Vec<_> = (0..=CHANGED_MAX as u64).map(id).collect();
        let delete = write("ann", Change::Delete(Selection { documents, filters: Vec::new() }));
        assert_eq!(carry_out(&mut room, &mut log, delete), Err(Rejection::TooManyDocuments));
    }

    #[test]
    fn without_a_name_nobody_writes_and_in_other_rooms_there_are_no_documents() {
        let anonymous = Write { by: Reader::Anonymous, begin: Some(Num(7)), ..write_by("ann", Change::Create(vec![])) };
        let anonymous = Command::Write(Arc::new(anonymous));
        assert_eq!(Room::default().decide(&by(), anonymous, NOW), Err(Rejection::Forbidden));
        let (mut room, mut log) = (Room::default(), Vec::new());
        let group =
            crate::domain::Create { kind: RoomKind::Group, num: Num(1), alias: None, name: None, members: Vec::new() };
        carry_out(&mut room, &mut log, Command::Create(group)).unwrap();
        assert_eq!(room.decide(&by(), create("ann", &[1], None), NOW), Err(Rejection::KindForbids));
    }

    #[test]
    fn nobody_does_anything_else_in_a_collection_or_makes_one() {
        let (mut room, mut log) = (Room::default(), Vec::new());
        carry_out(&mut room, &mut log, create("ann", &[1], Some(Num(7)))).unwrap();
        for command in [
            Command::Join,
            Command::Leave,
            Command::Archive,
            Command::Invite { user: by().user, role: crate::domain::Role::Owner },
            Command::post(crate::domain::Content::text("hi")),
        ] {
            let user = Principal { user: UserId::new("ann").unwrap(), ..by() };
            assert_eq!(room.decide(&user, command.clone(), NOW), Err(Rejection::RoomNotFound), "{command:?}");
        }
        let made = crate::domain::Create {
            kind: RoomKind::Collection,
            num: Num(1),
            alias: None,
            name: None,
            members: Vec::new(),
        };
        assert_eq!(Room::default().decide(&by(), Command::Create(made), NOW), Err(Rejection::KindForbids));
    }

    const NOW: Timestamp = Timestamp(1000);

    fn by() -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            user: UserId::new("ann").unwrap(),
            token: None,
            login: None,
            issued_at: NOW,
            expires_at: NOW,
        }
    }

    /// Carries a command out, and says how many records came of it.
    fn carry_out(room: &mut Room, log: &mut Vec<Record>, command: Command) -> Result<usize, Rejection> {
        let events = room.decide(&by(), command, NOW)?;
        let count = events.len();
        for event in events {
            let seq = Seq(log.len() as u64 + 1);
            let record = Record {
                position: Position { epoch: Epoch(1), seq },
                id: id(seq.0),
                num: Num(seq.0),
                at: NOW,
                author: by().user,
                client_id: None,
                event: Event::Room(event),
            };
            room.apply(&record);
            log.push(record);
        }
        Ok(count)
    }

    fn event(record: &Record) -> &RoomEvent {
        let Event::Room(event) = &record.event else { panic!("{record:?}") };
        event
    }

    fn id(seq: u64) -> RecordId {
        RecordId(Uuid::from_u128(u128::from(seq)))
    }

    fn create(user: &str, numbers: &[i64], begin: Option<Num>) -> Command {
        let documents = numbers.iter().map(|number| (*fields(*number)).clone()).collect();
        Command::Write(Arc::new(Write { begin, ..write_by(user, Change::Create(documents)) }))
    }

    fn update(user: &str, document: RecordId, name: &str, value: i64) -> Command {
        let fields = Fields([(name.into(), number(value))].into());
        write(user, Change::Update(Selection::one(document), fields))
    }

    fn write(user: &str, change: Change) -> Command {
        Command::Write(Arc::new(write_by(user, change)))
    }

    fn write_by(user: &str, change: Change) -> Write {
        let (user, account) = (UserId::new(user).unwrap(), AccountId::new("acme").unwrap());
        let collection = CollectionName::new("tasks").unwrap();
        Write { collection, begin: None, by: Reader::User { user, account }, change }
    }

    fn written_of(command: &Command) -> &Write {
        let Command::Write(write) = command else { panic!("{command:?}") };
        write
    }

    fn fields(value: i64) -> Arc<Fields> {
        Arc::new(Fields([("n".into(), number(value))].into()))
    }

    fn number(value: i64) -> Value {
        Value::Number(Number::whole(value))
    }
}
