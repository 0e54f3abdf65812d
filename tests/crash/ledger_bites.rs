//! The ledger against logs that break a promise on purpose: a check that cannot fail proves nothing.

use uuid::Uuid;

use crate::support::ledger::{Fault, Key, Ledger, Seen, Verdict, What};

#[test]
fn a_log_that_keeps_every_promise_is_clean() {
    let (ledger, log) = five_acknowledged();
    assert_eq!(ledger.verdict(&[log]), Verdict::default());
}

#[test]
fn what_was_sent_and_not_acknowledged_may_be_there_or_not() {
    let (mut ledger, mut log) = five_acknowledged();
    let key = ledger.sending(0, 0);
    assert!(ledger.verdict(&[log.clone()]).is_clean());
    log.push(message(6, key));
    assert!(ledger.verdict(&[log]).is_clean());
}

#[test]
fn an_acknowledged_message_at_the_end_that_is_gone_is_lost() {
    let (ledger, mut log) = five_acknowledged();
    log.pop();
    let verdict = ledger.verdict(&[log]);
    assert_eq!((verdict.count(Fault::Lost), verdict.count(Fault::Vanished)), (1, 1));
}

#[test]
fn an_acknowledged_message_in_the_middle_that_is_gone_is_lost_and_leaves_a_gap() {
    let (ledger, mut log) = five_acknowledged();
    log.remove(2);
    let verdict = ledger.verdict(&[log]);
    assert_eq!((verdict.count(Fault::Lost), verdict.count(Fault::Gap)), (1, 1));
}

#[test]
fn an_empty_log_has_lost_everything() {
    let (ledger, _) = five_acknowledged();
    assert_eq!(ledger.verdict(&[Vec::new()]).count(Fault::Lost), 5);
}

#[test]
fn a_message_that_stands_twice_is_doubled() {
    let (ledger, mut log) = five_acknowledged();
    let again = Key { publisher: 0, number: 1 };
    log.push(message(6, again));
    assert_eq!(ledger.verdict(&[log]).count(Fault::Doubled), 1);
}

#[test]
fn a_message_that_was_never_acknowledged_is_doubled_all_the_same() {
    let (mut ledger, mut log) = five_acknowledged();
    let key = ledger.sending(0, 0);
    log.push(message(6, key));
    log.push(Seen { id: Uuid::from_u128(77), ..message(7, key) });
    assert_eq!(ledger.verdict(&[log]).count(Fault::Doubled), 1);
}

#[test]
fn a_retry_that_is_acknowledged_as_something_else_is_doubled() {
    let (mut ledger, mut log) = five_acknowledged();
    ledger.acked(Key { publisher: 0, number: 0 }, 6, Uuid::from_u128(6), true);
    log.push(Seen { seq: 6, id: Uuid::from_u128(6), what: What::Other });
    assert_eq!(ledger.verdict(&[log]).count(Fault::Doubled), 1);
}

#[test]
fn a_seq_with_nothing_there_is_a_gap() {
    let (mut ledger, mut log) = five_acknowledged();
    let key = ledger.sending(0, 0);
    log.push(message(7, key));
    assert_eq!(ledger.verdict(&[log]).count(Fault::Gap), 1);
}

#[test]
fn two_records_that_changed_places_are_reordered() {
    let (ledger, mut log) = five_acknowledged();
    log.swap(1, 2);
    assert!(ledger.verdict(&[log]).count(Fault::Reordered) > 0);
}

#[test]
fn two_messages_that_changed_places_under_the_same_seqs_are_reordered_and_the_seqs_reused() {
    let (ledger, mut log) = five_acknowledged();
    let (second, third) = (log[1].seq, log[2].seq);
    log.swap(1, 2);
    (log[1].seq, log[2].seq) = (second, third);
    let verdict = ledger.verdict(&[log]);
    assert!(verdict.count(Fault::Reordered) > 0);
    assert_eq!(verdict.count(Fault::Reused), 2);
}

#[test]
fn a_message_in_another_room_than_acknowledged_is_reordered() {
    let mut ledger = Ledger::new(2, 1, 0);
    let key = ledger.sending(0, 0);
    ledger.acked(key, 1, id(1), false);
    let verdict = ledger.verdict(&[Vec::new(), vec![message(1, key)]]);
    assert!(verdict.count(Fault::Reordered) > 0);
}

#[test]
fn a_seq_that_was_acknowledged_for_one_record_and_holds_another_is_reused() {
    let (mut ledger, mut log) = five_acknowledged();
    let key = ledger.sending(0, 0);
    log[4] = Seen { id: Uuid::from_u128(99), ..message(5, key) };
    let verdict = ledger.verdict(&[log]);
    assert_eq!((verdict.count(Fault::Reused), verdict.count(Fault::Lost)), (1, 1));
}

#[test]
fn a_seq_acknowledged_twice_for_different_records_is_reused() {
    let (mut ledger, _) = five_acknowledged();
    let key = ledger.sending(0, 0);
    ledger.acked(key, 5, Uuid::from_u128(99), false);
    assert_eq!(ledger.found().count(Fault::Reused), 1);
}

#[test]
fn what_a_reader_was_shown_and_the_log_does_not_have_has_vanished_though_nobody_was_acknowledged() {
    let (mut ledger, log) = five_acknowledged();
    for seen in &log {
        ledger.shown(0, 0, seen);
    }
    let key = ledger.sending(0, 0);
    ledger.shown(0, 0, &message(6, key));
    let verdict = ledger.verdict(&[log]);
    assert_eq!((verdict.count(Fault::Vanished), verdict.count(Fault::Lost)), (1, 0));
}

#[test]
fn a_reader_that_is_shown_something_twice_or_not_at_all_is_noticed_at_once() {
    let (mut ledger, log) = five_acknowledged();
    ledger.shown(0, 0, &log[0]);
    ledger.shown(0, 0, &log[0]);
    assert_eq!(ledger.found().count(Fault::Reordered), 1);
    ledger.shown(0, 0, &log[2]);
    assert_eq!(ledger.found().count(Fault::Gap), 1);
}

#[test]
fn a_text_that_is_not_what_was_sent_is_altered() {
    let (ledger, mut log) = five_acknowledged();
    log[3].what = What::Altered;
    assert_eq!(ledger.verdict(&[log]).count(Fault::Altered), 1);
}

#[test]
fn a_message_nobody_sent_is_altered() {
    let (ledger, mut log) = five_acknowledged();
    log.push(message(6, Key { publisher: 0, number: 77 }));
    assert_eq!(ledger.verdict(&[log]).count(Fault::Altered), 1);
}

#[test]
fn a_message_acknowledged_before_another_was_sent_may_not_stand_behind_it() {
    let mut ledger = Ledger::new(1, 2, 0);
    let first = ledger.sending(0, 0);
    ledger.acked(first, 2, id(2), false);
    let second = ledger.sending(1, 0);
    ledger.acked(second, 1, id(1), false);
    let verdict = ledger.verdict(&[vec![message(1, second), message(2, first)]]);
    assert_eq!(verdict.count(Fault::Reordered), 1);
}

#[test]
fn a_publishers_messages_stand_in_the_order_it_sent_them_unless_it_was_told_to_wait() {
    let mut ledger = Ledger::new(1, 1, 0);
    let (first, second) = (ledger.sending(0, 0), ledger.sending(0, 0));
    ledger.acked(second, 1, id(1), false);
    ledger.acked(first, 2, id(2), false);
    let log = vec![message(1, second), message(2, first)];
    assert_eq!(ledger.verdict(std::slice::from_ref(&log)).count(Fault::Reordered), 1);
    ledger.deferred(first);
    assert!(ledger.verdict(&[log]).is_clean());
}

#[test]
fn an_epoch_that_changes_by_itself_counts_as_reuse() {
    let (mut ledger, log) = five_acknowledged();
    ledger.epoch("1");
    ledger.epoch("2");
    assert_eq!(ledger.verdict(&[log]).count(Fault::Reused), 1);
}

#[test]
fn a_refusal_that_no_retry_can_cure_is_a_fault() {
    let (mut ledger, log) = five_acknowledged();
    let key = ledger.sending(0, 0);
    ledger.refused_for_good(key, "client_id_reused");
    ledger.follow_refused(0, 0, "epoch_changed");
    assert_eq!(ledger.verdict(&[log]).count(Fault::Refused), 2);
}

/// One room, one publisher, one reader who has seen nothing; five messages, all acknowledged.
fn five_acknowledged() -> (Ledger, Vec<Seen>) {
    let mut ledger = Ledger::new(1, 1, 1);
    let mut log = Vec::new();
    for seq in 1..=5 {
        let key = ledger.sending(0, 0);
        ledger.acked(key, seq, id(seq), false);
        log.push(message(seq, key));
    }
    (ledger, log)
}

fn message(seq: u64, key: Key) -> Seen {
    Seen { seq, id: id(seq), what: What::Message(key) }
}

fn id(seq: u64) -> Uuid {
    Uuid::from_u128(u128::from(seq))
}
