//! What of a collection is read, counted and handed to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::actors::reading::open;
use crate::actors::worker::Follower;
use crate::actors::{Cut, Limits, Link, Worker};
use crate::clock::SystemClock;
use crate::domain::document::{Entry, Fields, Number, Op, Value};
use crate::domain::revocation::Subject;
use crate::domain::{Event, Revocation, RoomEvent, Timestamp};
use crate::store::memory::{Fault, MemoryStore};
use crate::store::{Commit, CommitError, Put, Store};
use crate::wire::{Dialect, From as Since};

#[test]
fn of_a_collection_each_is_handed_what_it_may_read_live_and_from_pages_and_stands_behind_the_rest() {
    let system = actix::System::new();
    // Of the records 2 to 5, which are ann's, bob's, ann's and eve's.
    let told: [(&str, [&[u64]; 4]); 3] = [
        ("a_700_", [&[2, 4], &[3], &[5], &[2, 3, 4, 5]]),
        ("a_740_", [&[2, 3, 4], &[2, 3, 4], &[5], &[2, 3, 4, 5]]),
        ("a_704_", [&[2, 3, 4, 5], &[2, 3, 4, 5], &[2, 3, 4, 5], &[2, 3, 4, 5]]),
    ];
    for (name, told) in told {
        system.block_on(async {
            let worker = worker();
            let of = |reader: &Reader| collection(worker.registry(), name, reader.clone());
            let readers = [user("ann", "acme"), user("bob", "acme"), user("eve", "evil"), root()];
            let mut live = Vec::new();
            for reader in &readers {
                // Before there is any such collection.
                live.push(follow(&worker, &of(reader), Since::Now).await);
            }
            for reader in [&readers[0], &readers[1], &readers[0], &readers[2]] {
                of(reader).write(principal(reader), Change::Create(vec![Fields::default()])).await.unwrap();
            }
            for (((follower, link), reader), told) in live.iter().zip(&readers).zip(told) {
                while follower.follow().borrow().at().unwrap().seq < Seq(5) {
                    tokio::task::yield_now().await;
                }
                // That the collection begins everybody is told.
                let expected: Vec<u64> = [1].into_iter().chain(told.iter().copied()).collect();
                assert_eq!(seqs(&taken(link)), expected, "{name} live, {reader:?}");
                let (late, _) = follow(&worker, &of(reader), Since::Start).await;
                let page = Rc::clone(worker.pages()).after(late.room().clone(), JSON, Seq(0)).await.unwrap();
                let (frames, count) = page.frames(Seq(0), Seq(5), late.reader());
                assert_eq!((seqs(&frames), count), (expected.clone(), expected.len() as u64), "{name}, {reader:?}");
            }
        });
    }
}

#[test]
fn without_a_token_and_in_another_room_nobody_follows_as_a_reader() {
    actix::System::new().block_on(async {
        let worker = worker();
        let anonymous = collection(worker.registry(), "pub_a", Reader::Anonymous);
        let registration = worker.register_reader(anonymous.key.clone(), id("x"), &link(), Reader::Anonymous);
        let refused = open(worker.registry(), registration.follower(), Since::Now).await;
        assert_eq!(refused.unwrap_err().code(), "unauthenticated");
        let ann = user("ann", "acme");
        let tenant = TenantId::default_tenant();
        let group = RoomKey { room: RoomId::audit(&tenant, RoomId::collection(&tenant, &named("x"))), tenant };
        let create = crate::domain::Create {
            kind: crate::domain::RoomKind::Group,
            num: Num(1),
            alias: None,
            name: None,
            members: Vec::new(),
        };
        worker.registry().submit(&group, principal(&ann), Command::Create(create), None).await.unwrap();
        let registration = worker.register_reader(group, id("ann"), &link(), ann);
        let refused = open(worker.registry(), registration.follower(), Since::Now).await;
        assert_eq!(refused.unwrap_err().code(), "room_not_found");
    });
}

#[test]
fn changes_of_one_document_that_come_together_all_count() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let registry = Registry::new(Arc::new(store.clone()), Arc::new(SystemClock), Limits::default());
        let ann = user("ann", "acme");
        let tasks = Rc::new(collection(&registry, "tasks_760_", ann.clone()));
        let done = tasks.write(principal(&ann), Change::Create(vec![numbered(0)])).await.unwrap();
        assert_eq!(done.records, 2);
        let document = tasks.written(&done).await.unwrap().unwrap();
        let faults = store.faults();
        faults.hold();
        let before = faults.commits();
        let increment = |by| {
            let (tasks, ann) = (Rc::clone(&tasks), principal(&ann));
            let increment = Change::Increment(Selection::one(document.id), "n".into(), Number::whole(by));
            actix::spawn(async move { tasks.write(ann, increment).await })
        };
        let first = increment(1);
        faults.until_called(before + 1).await;
        // What is on the disk is as it was: these are decided by what the first leaves, and wait for it.
        let others = (increment(10), increment(100));
        while registry.commands_in_flight() < 3 {
            tokio::task::yield_now().await;
        }
        faults.release();
        let (one, two, three) = (first.await.unwrap(), others.0.await.unwrap(), others.1.await.unwrap());
        assert!([one, two, three].iter().all(|done| done.as_ref().is_ok_and(|done| done.records == 1)));
        assert_eq!(tasks.get(document.id).await.unwrap().fields.value("n"), Some(&number(111)));
        let gone = Change::Delete(Selection::one(document.id));
        let (first, second) =
            tokio::join!(tasks.write(principal(&ann), gone.clone()), tasks.write(principal(&ann), gone));
        assert_eq!((first.unwrap().records, second.unwrap().records), (1, 0));
        assert_eq!(tasks.get(document.id).await.unwrap_err().code(), "document_not_found");
        assert_eq!(tasks.count(&[]).await.unwrap(), 0);
    });
}

#[test]
fn a_list_has_what_may_be_read_page_by_page_in_the_order_of_creation() {
    actix::System::new().block_on(async {
        let registry = registry();
        let (ann, bob, eve) = (user("ann", "acme"), user("bob", "acme"), user("eve", "evil"));
        for name in ["tasks_700_", "tasks_740_", "tasks_744_", "pub_tasks_700_"] {
            let of = |reader: &Reader| collection(&registry, name, reader.clone());
            assert_eq!(of(&ann).query(&[], paging(1, 25, true)).await.unwrap(), Found::default());
            for (n, reader) in (0..).zip([&ann, &bob, &eve, &ann, &bob, &ann]) {
                of(reader).write(principal(reader), Change::Create(vec![numbered(n)])).await.unwrap();
            }
            let readable = |reader: &Reader| -> Vec<i64> {
                match (name, reader) {
                    ("pub_tasks_700_", _) | (_, Reader::Root { .. }) => vec![0, 1, 2, 3, 4, 5],
                    (_, Reader::Anonymous) => vec![],
                    ("tasks_744_", _) => vec![0, 1, 2, 3, 4, 5],
                    ("tasks_740_", Reader::User { account, .. }) if account.as_str() == "acme" => vec![0, 1, 3, 4, 5],
                    (_, Reader::User { user, .. }) if user.as_str() == "ann" => vec![0, 3, 5],
                    (_, Reader::User { user, .. }) if user.as_str() == "bob" => vec![1, 4],
                    (_, Reader::User { .. }) => vec![2],
                }
            };
            for reader in [&ann, &bob, &eve, &root(), &Reader::Anonymous] {
                let tasks = of(reader);
                let mut all = readable(reader);
                for descending in [false, true] {
                    for (page, size) in [(1, 2), (2, 2), (3, 2), (1, 4), (2, 4), (9, 9), (u64::MAX, 500)] {
                        let start = usize::try_from(page - 1).unwrap().saturating_mul(size);
                        let expected: Vec<i64> = all.iter().copied().skip(start).take(size).collect();
                        let filter = Filter::new("n", Op::AtLeast, number(0)).unwrap();
                        for filters in [&[][..], &[filter]] {
                            let found = tasks.query(filters, paging(page, size, descending)).await.unwrap();
                            assert_eq!(
                                (numbers(&found), found.total),
                                (expected.clone(), all.len() as u64),
                                "{name} {reader:?}"
                            );
                        }
                    }
                    all.reverse();
                }
                let few = Filter::new("n", Op::Less, number(4)).unwrap();
                assert_eq!(tasks.count(&[few]).await.unwrap(), all.iter().filter(|n| **n < 4).count() as u64);
            }
        }
    });
}

#[test]
fn a_list_says_where_it_goes_on_beyond_what_is_looked_at() {
    actix::System::new().block_on(async {
        let registry = registry();
        let tasks = collection(&registry, "tasks_744_", user("ann", "acme"));
        let many = u64::try_from(PLACES_MAX).unwrap() + 10;
        let value = Some(DocumentCount(many).encode());
        let put = Put { under: tasks.stream(), key: Bytes::from_static(keys::DOCUMENT_COUNT), value };
        let (stream, puts) = (tasks.stream(), vec![put]);
        let commit = Commit { stream, expected: None, records: vec![], puts, erase: vec![], trim: None };
        registry.store().commit(commit).await.unwrap();
        let page = async |page: u64| tasks.query(&[], paging(page, 25, false)).await;
        let (last, beyond) = (many.div_ceil(25), many.div_ceil(25) + 1);
        assert_eq!(page(last - 1).await.unwrap().total, many);
        assert_eq!(page(last).await.unwrap_err().code(), "query_too_broad");
        assert_eq!(page(beyond).await, Ok(Found { total: many, documents: vec![] }));
    });
}

#[test]
fn what_may_not_be_read_is_neither_got_nor_changed_by_a_condition_on_it() {
    actix::System::new().block_on(async {
        let registry = registry();
        // Ann's account may write, and may not read.
        let (ann, bob) = (user("ann", "acme"), user("bob", "acme"));
        let (of_ann, of_bob) =
            (collection(&registry, "tasks_720_", ann.clone()), collection(&registry, "tasks_720_", bob.clone()));
        let done = of_ann.write(principal(&ann), Change::Create(vec![numbered(7)])).await.unwrap();
        let document = of_ann.written(&done).await.unwrap().unwrap();
        assert_eq!(of_bob.get_all(&[document.id]).await.unwrap(), []);
        let seven = Filter::new("n", Op::Equal, number(7)).unwrap();
        assert_eq!(of_bob.select(vec![seven.clone()]).await.unwrap().documents, []);
        assert_eq!(of_ann.select(vec![seven]).await.unwrap().documents, [document.id]);
        // What may only be read is not selected either.
        let of_both = |reader: &Reader| collection(&registry, "tasks_740_", reader.clone());
        of_both(&ann).write(principal(&ann), Change::Create(vec![numbered(7)])).await.unwrap();
        assert_eq!(of_both(&bob).count(&[]).await.unwrap(), 1);
        assert_eq!(of_both(&bob).select(Vec::new()).await.unwrap().documents, []);
        let update = Change::Update(Selection::one(document.id), numbered(8));
        assert_eq!(of_bob.write(principal(&bob), update).await.unwrap().records, 1);
        assert_eq!(of_ann.get(document.id).await.unwrap().fields.value("n"), Some(&number(8)));
    });
}

#[test]
fn a_collection_wakes_as_it_was_and_a_change_of_many_is_all_or_nothing() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let registry =
            |store: &MemoryStore| Registry::new(Arc::new(store.clone()), Arc::new(SystemClock), Limits::default());
        let ann = user("ann", "acme");
        let before = collection(&registry(&store), "tasks", ann.clone());
        before.write(principal(&ann), Change::Create((0..30).map(numbered).collect())).await.unwrap();
        let after = collection(&registry(&store), "tasks", ann.clone());
        let small = Filter::new("n", Op::Less, number(10)).unwrap();
        let selection = after.select(vec![small]).await.unwrap();
        let text = Value::Text("a".repeat(59 * 1024).into());
        let large = Fields([("text".into(), text.clone()), ("more".into(), text)].into());
        let refused = after.write(principal(&ann), Change::Update(selection.clone(), large)).await;
        assert_eq!(refused.unwrap_err().code(), "document_size");
        store.faults().next(Fault::Fail(CommitError::Failed));
        let failed = after.write(principal(&ann), Change::Delete(selection.clone())).await;
        assert_eq!(failed.unwrap_err().code(), "unavailable");
        assert_eq!(after.count(&[]).await.unwrap(), 30);
        assert_eq!(after.write(principal(&ann), Change::Delete(selection)).await.unwrap().records, 10);
        let left = after.query(&[], paging(1, 25, false)).await.unwrap();
        assert_eq!((numbers(&left), left.total), ((10..30).collect(), 20));
    });
}

#[test]
fn what_is_found_by_an_index_is_found_without_looking_at_the_rest() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let open = || Registry::new(Arc::new(store.clone()), Arc::new(SystemClock), Limits::default());
        let registry = open();
        let (ann, tenth) = (user("ann", "acme"), |n: i64| Filter::new("n", Op::Equal, number(n)).unwrap());
        let of = |reader: &Reader| collection(&registry, "tasks_760_", reader.clone());
        let created = |from: i64| Change::Create((from..from + 500).map(numbered).collect());
        of(&ann).write(principal(&ann), created(0)).await.unwrap();
        let read = async |tasks: &Collection, filters: &[Filter]| {
            let before = store.faults().rows_read();
            let found = tasks.query(filters, paging(1, 25, false)).await.unwrap();
            (numbers(&found), found.total, store.faults().rows_read() - before)
        };
        let (found, total, rows) = read(&of(&ann), &[tenth(7)]).await;
        assert_eq!((found, total), (vec![7], 1));
        assert!(rows >= 1000, "{rows}: a place and a document for each");
        let root = root();
        assert_eq!(of(&ann).index(&principal(&ann), "n").await.unwrap_err().code(), "forbidden");
        of(&root).index(&principal(&root), "n").await.unwrap();
        // Also by one that has woken since.
        let registry = open();
        let of = |reader: &Reader| collection(&registry, "tasks_760_", reader.clone());
        of(&ann).write(principal(&ann), created(500)).await.unwrap();
        let change = |n| Change::Update(n, numbered(2000));
        let selection = of(&ann).select(vec![tenth(8)]).await.unwrap();
        of(&ann).write(principal(&ann), change(selection)).await.unwrap();
        let selection = of(&ann).select(vec![tenth(9)]).await.unwrap();
        of(&ann).write(principal(&ann), Change::Delete(selection)).await.unwrap();
        let between = |op, n| Filter::new("n", op, number(n)).unwrap();
        let one_of = Filter::new("n", Op::In, Value::List(vec![number(3), number(600), number(-1)])).unwrap();
        let text = Filter::new("n", Op::Equal, Value::Text("7".into())).unwrap();
        let cases: [(Vec<Filter>, Vec<i64>); 8] = [
            (vec![tenth(7)], vec![7]),
            (vec![tenth(8)], vec![]),
            (vec![tenth(9)], vec![]),
            (vec![tenth(700)], vec![700]),
            (vec![between(Op::Greater, 997)], vec![2000, 998, 999]),
            (vec![between(Op::AtLeast, 5), between(Op::Less, 11)], vec![5, 6, 7, 10]),
            (vec![one_of], vec![3, 600]),
            (vec![text], vec![]),
        ];
        for (filters, expected) in cases {
            let (mut found, total, rows) = read(&of(&ann), &filters).await;
            // The one that was changed has its place still.
            assert_eq!((found.len() as u64, total), (expected.len() as u64, expected.len() as u64));
            found.sort_unstable();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(found, expected, "{filters:?}");
            // Some of them are the first places of her account.
            assert!(rows < 300, "{rows} rows for {filters:?}");
        }
        // Of what a document was no entry is left.
        let prefix = keys::entries("n");
        let entries = store.scan(&of(&ann).stream(), &prefix, None, 5000).await.unwrap();
        assert_eq!(entries.len(), 999);
        // Of another account there are none, and nothing is looked at for that.
        let (found, total, rows) = read(&of(&user("eve", "evil")), &[between(Op::AtLeast, 0)]).await;
        assert_eq!((found, total), (vec![], 0));
        assert!(rows < 1100, "{rows}");
    });
}

#[test]
fn an_index_is_built_once_at_a_time_and_for_whoever_is_let_in() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let registry = Registry::new(Arc::new(store.clone()), Arc::new(SystemClock), Limits::default());
        let (ann, root) = (user("ann", "acme"), root());
        let of_ann = collection(&registry, "tasks", ann.clone());
        of_ann.write(principal(&ann), Change::Create((0..1000).map(numbered).collect())).await.unwrap();
        let tasks = Rc::new(collection(&registry, "tasks", root.clone()));
        let entries = async || store.scan(&tasks.stream(), &keys::entries("n"), None, 5000).await.unwrap().len();
        let faults = store.faults();
        let before = faults.commits();
        faults.hold();
        let building = {
            let (tasks, by) = (Rc::clone(&tasks), principal(&root));
            actix::spawn(async move { tasks.index(&by, "n").await })
        };
        faults.until_called(before + 1).await;
        // Would wait for what is held.
        assert_eq!(tasks.index(&principal(&root), "n").await, Ok(()));
        let revocation = Revocation { since: Timestamp(1), until: Timestamp(i64::MAX) };
        let subject = Subject::User(TenantId::default_tenant(), id("root"));
        let revoking = {
            let registry = Arc::clone(&registry);
            actix::spawn(async move { registry.revoke(subject, revocation).await })
        };
        while registry.denied(&principal(&root)).is_none() {
            tokio::task::yield_now().await;
        }
        faults.release();
        assert_eq!(building.await.unwrap().unwrap_err().code(), "token_revoked");
        revoking.await.unwrap().unwrap();
        assert_eq!(entries().await, 0, "of 1,000");
        let another = Reader::Root { user: id("zoe"), account: AccountId::new("host").unwrap() };
        collection(&registry, "tasks", another.clone()).index(&principal(&another), "n").await.unwrap();
        assert_eq!(entries().await, 1000, "what has ended is no longer being built");
    });
}

#[test]
fn of_what_others_have_said_an_index_tells_nothing_by_how_much_is_read() {
    actix::System::new().block_on(async {
        let store = MemoryStore::new();
        let registry = Registry::new(Arc::new(store.clone()), Arc::new(SystemClock), Limits::default());
        let (ann, bob, eve) = (user("ann", "acme"), user("bob", "b"), user("eve", "evil"));
        let of = |reader: &Reader| collection(&registry, "tasks_700_", reader.clone());
        let seven = Filter::new("n", Op::Equal, number(7)).unwrap();
        let write = async |by: &Reader, count, n| {
            let documents = (0..count).map(|_| numbered(n)).collect();
            of(by).write(principal(by), Change::Create(documents)).await.unwrap();
        };
        write(&eve, 60, 3).await;
        write(&bob, 80, 3).await;
        of(&root()).index(&principal(&root()), "n").await.unwrap();
        let read = async |reader: &Reader| {
            let before = store.faults().rows_read();
            let count = of(reader).count(std::slice::from_ref(&seven)).await.unwrap();
            (count, store.faults().rows_read() - before)
        };
        let before = read(&eve).await;
        assert_eq!(read(&bob).await.0, 0);
        write(&ann, 500, 7).await;
        assert_eq!(read(&eve).await, before, "she has few, and those alone are looked at");
        assert_eq!(read(&bob).await.0, 0);
        assert_eq!(read(&ann).await.0, 500);
    });
}

#[test]
fn rows_are_what_the_log_makes_of_documents_whatever_fails() {
    actix::System::new().block_on(async {
        for seed in 0..8_u64 {
            let store = MemoryStore::new();
            let registry = Registry::new(Arc::new(store.clone()), Arc::new(SystemClock), Limits::default());
            let (ann, root) = (user("ann", "acme"), root());
            let tasks = Rc::new(collection(&registry, "tasks_766_", ann.clone()));
            tasks.write(principal(&ann), Change::Create(vec![numbered(0)])).await.unwrap();
            let mut state = seed;
            let mut draw = |below: u64| {
                // Knuth's linear congruential generator, of whose lower bits nothing is used.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            for round in 0..40 {
                let fault = [Fault::Fail(CommitError::Failed), Fault::Tear, Fault::Forget];
                if let Some(fault) = fault.get(usize::try_from(draw(12)).unwrap()) {
                    store.faults().at(1 + draw(3), *fault);
                }
                if round == 20 {
                    let of_root = collection(&registry, "tasks_766_", root.clone());
                    // Where it fails it is declared again.
                    while of_root.index(&principal(&root), "n").await.is_err() {}
                }
                let all = tasks.query(&[], paging(1, 500, false)).await.unwrap().documents;
                let under_way: Vec<_> = (0..6)
                    .map(|_| {
                        let some = |documents: &[Document], draw: &mut dyn FnMut(u64) -> u64| {
                            let ids = documents.iter().filter(|_| draw(4) == 0).map(|document| document.id).collect();
                            Selection { documents: ids, filters: Vec::new() }
                        };
                        let n = i64::try_from(draw(5)).unwrap();
                        let change = match draw(6) {
                            0 => Change::Delete(some(&all, &mut draw)),
                            1 | 2 => Change::Increment(some(&all, &mut draw), "n".into(), Number::whole(n)),
                            3 => Change::Update(some(&all, &mut draw), numbered(n)),
                            _ => Change::Create((0..n).map(numbered).collect()),
                        };
                        let (tasks, by) =
                            (Rc::clone(&tasks), principal([&ann, &root][usize::try_from(draw(2)).unwrap()]));
                        actix::spawn(async move { tasks.write(by, change).await })
                    })
                    .collect();
                for answer in under_way {
                    // What fails is none of this test's business.
                    let _ = answer.await.unwrap();
                }
            }
            let stream = tasks.stream();
            let (mut documents, mut after) = (BTreeMap::new(), Seq::ZERO);
            loop {
                let page = store.read(&stream, after, 1000).await.unwrap();
                let Some(last) = page.records.last() else { break };
                after = last.position.seq;
                for record in &page.records {
                    if let Event::Room(RoomEvent::DocumentDeleted { document, .. }) = &record.event {
                        assert!(documents.remove(&document.seq()).is_some(), "{record:?}");
                    }
                    if let Some(document) = Document::of(record) {
                        documents.insert(document.id.seq(), document);
                    }
                }
            }
            let rows = async |prefix: &[u8]| store.scan(&stream, prefix, None, 10_000).await.unwrap();
            let kept = rows(keys::DOCUMENTS).await;
            let kept: Vec<_> = kept.iter().map(|(_, row)| Document::decode(row).unwrap()).collect();
            assert_eq!(kept, documents.values().cloned().collect::<Vec<_>>(), "seed {seed}");
            assert!(kept.len() > 3, "seed {seed} leaves hardly anything");
            let seqs: BTreeSet<Seq> = documents.keys().copied().collect();
            let account = AccountId::new("acme").unwrap();
            for prefix in [keys::LISTED, &keys::owned_by(&id("ann")), &keys::of_account(&account)] {
                let found = rows(prefix).await;
                let found: Vec<Seq> = found.iter().map(|(key, _)| keys::seq_of(key).unwrap()).collect();
                assert_eq!(found, seqs.iter().copied().collect::<Vec<_>>(), "seed {seed}");
            }
            let entries: BTreeSet<Bytes> = rows(&keys::entries("n")).await.into_iter().map(|(key, _)| key).collect();
            let entry = |document: &Document| keys::entry("n", &Entry::at(document, "n"), document.id.seq());
            assert_eq!(entries, kept.iter().map(entry).collect(), "seed {seed}");
            assert_eq!(tasks.document_count().await.unwrap(), kept.len() as u64, "seed {seed}");
        }
    });
}

async fn follow(worker: &Rc<Worker>, collection: &Collection, since: Since) -> (Rc<Follower>, Rc<Link>) {
    let (link, reader) = (link(), &collection.reader);
    let (user, _) = reader.identity().unwrap();
    let registration = worker.register_reader(collection.key.clone(), user.clone(), &link, reader.clone());
    open(worker.registry(), registration.follower(), since).await.unwrap();
    (registration.keep(), link)
}

/// What waits for a connection.
fn taken(link: &Link) -> Bytes {
    let Poll::Ready(Some(taken)) = link.outbox.poll_take(&mut Context::from_waker(Waker::noop()), || {}) else {
        panic!("nothing waits")
    };
    taken
}

/// Of framed records.
fn seqs(frames: &Bytes) -> Vec<u64> {
    let text = String::from_utf8_lossy(frames);
    let seqs = text.split("\"seq\":").skip(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap());
    seqs.collect()
}

const JSON: Dialect = Dialect::NativeJson;

fn worker() -> Rc<Worker> {
    Worker::start(registry())
}

fn registry() -> Arc<Registry> {
    Registry::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock), Limits::default())
}

fn collection(registry: &Arc<Registry>, name: &str, reader: Reader) -> Collection {
    Collection::new(registry, &TenantId::default_tenant(), named(name), reader)
}

fn named(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn user(user: &str, account: &str) -> Reader {
    Reader::User { user: id(user), account: AccountId::new(account).unwrap() }
}

fn root() -> Reader {
    Reader::Root { user: id("root"), account: AccountId::new("host").unwrap() }
}

fn id(user: &str) -> UserId {
    UserId::new(user).unwrap()
}

fn principal(reader: &Reader) -> Principal {
    let (tenant, expires_at) = (TenantId::default_tenant(), Timestamp(i64::MAX));
    let user = reader.identity().unwrap().0.clone();
    Principal { tenant, user, token: None, login: None, issued_at: Timestamp(0), expires_at }
}

fn paging(page: u64, size: usize, descending: bool) -> Paging {
    Paging { page, size, descending }
}

fn numbered(n: i64) -> Fields {
    Fields([("n".into(), number(n))].into())
}

fn number(n: i64) -> Value {
    Value::Number(Number::whole(n))
}

fn numbers(found: &Found) -> Vec<i64> {
    let numbers = found.documents.iter().map(|document| match document.fields.value("n") {
        Some(Value::Number(number)) => i64::try_from(number.as_whole().unwrap()).unwrap(),
        other => panic!("{other:?}"),
    });
    numbers.collect()
}

fn link() -> Rc<Link> {
    Rc::new(Link::new(JSON, Box::new(Uncuttable)))
}

struct Uncuttable;

impl Cut for Uncuttable {
    fn cut(&self) {
        unreachable!("nothing is cut here");
    }
}
