//! Times are small numbers: entries settle in 5, lists overlap by 10, ids are known for 100, gaps are filled up to 1,000.

use super::*;

const LIMITS: Limits = Limits { settle: 5, overlap: 10, ids_known: 100, gap_max: 1_000 };

fn range(from: Nanos, until: Nanos) -> Range {
    Range { from, until }
}

fn place(time: Nanos) -> Place {
    Place { time, id: format!("id {time}") }
}

fn list(marks: &mut Marks, now: Nanos) -> Option<Range> {
    marks.take_due(now, &LIMITS).expect("something is due").list
}

#[test]
fn a_short_gap_is_listed_once_it_has_settled_with_what_may_have_come_late() {
    let mut marks = Marks::new(500);
    marks.open(550, &LIMITS);
    assert_eq!((marks.seen, marks.next_due()), (550, Some(555)));
    assert_eq!(marks.take_due(554, &LIMITS), None);
    assert_eq!(list(&mut marks, 555), Some(range(490, 555)));
    assert_eq!(marks.unsure(), [range(500, 555)], "what is early is not lacking");
    marks.listed(520);
    assert_eq!(marks.unsure(), [range(520, 555)]);
    marks.end_list();
    assert_eq!((marks.unsure(), marks.missing()), (vec![], &[][..]));
}

#[test]
fn what_ids_are_not_known_for_is_missing_without_an_overlap() {
    let mut marks = Marks::new(500);
    marks.open(900, &LIMITS);
    let due = marks.take_due(905, &LIMITS).expect("due");
    assert_eq!(due, Due { list: Some(range(805, 905)), is_missing: true, given_up: None });
    assert_eq!(marks.missing(), [range(500, 805)]);
    // It stays missing however long its fill takes and however many streams are opened.
    marks.end_list();
    marks.open(5_000, &LIMITS);
    let due = marks.take_due(5_005, &LIMITS).expect("due");
    assert_eq!(due.given_up, Some(range(900, 4_005)));
    assert_eq!(marks.missing(), [range(500, 805), range(4_005, 4_905)]);
    marks.fill(range(500, 805));
    assert_eq!(marks.missing(), [range(4_005, 4_905)]);
}

#[test]
fn a_list_that_fails_goes_on_where_it_was() {
    let mut marks = Marks::new(500);
    marks.open(550, &LIMITS);
    assert_eq!(list(&mut marks, 555), Some(range(490, 555)));
    marks.listed(530);
    marks.put_back(560, &LIMITS);
    assert_eq!(marks.next_due(), Some(565));
    assert_eq!(list(&mut marks, 565), Some(range(530, 555)));
    // What a list has given before ids are forgotten is not missing after it.
    marks.listed(540);
    marks.put_back(570, &LIMITS);
    let due = marks.take_due(900, &LIMITS).expect("due");
    assert_eq!((due.list, marks.missing()), (None, &[range(540, 555)][..]));
}

#[test]
fn what_is_left_out_while_a_list_runs_is_listed_after_it() {
    let mut marks = Marks::new(500);
    marks.open(550, &LIMITS);
    let _ = list(&mut marks, 555);
    marks.see([place(557)].into_iter(), 558);
    marks.doubt_last(560, &LIMITS);
    marks.end_list();
    assert_eq!(list(&mut marks, 565), Some(range(547, 565)));
}

#[test]
fn what_is_left_out_all_the_time_is_listed_part_by_part() {
    let mut marks = Marks::new(500);
    let mut listed = Vec::new();
    for now in 500..600 {
        marks.see([place(now)].into_iter(), now);
        marks.doubt_last(now, &LIMITS);
        if let Some(due) = marks.take_due(now, &LIMITS) {
            listed.extend(due.list);
            marks.end_list();
        }
    }
    assert!(listed.len() > 10, "{listed:?}");
    assert!(listed.windows(2).all(|pair| pair[1].from <= pair[0].until && pair[1].from > pair[0].from), "{listed:?}");
}

#[test]
fn entries_of_the_last_time_and_of_missing_ranges_are_noted() {
    let mut marks = Marks::new(400);
    marks.see([place(450), place(500), place(700)].into_iter(), 500);
    assert_eq!(marks.seen, 500);
    assert!(!marks.has(&place(450)) && marks.has(&place(500)) && marks.has(&place(700)));
    marks.open(900, &LIMITS);
    assert!(marks.has(&place(500)), "the gap begins there");
    let _ = marks.take_due(905, &LIMITS);
    marks.end_list();
    marks.see([place(600), place(895), place(900)].into_iter(), 905);
    assert!([500, 600, 900].iter().all(|time| marks.has(&place(*time))) && !marks.has(&place(895)));
    marks.fill(range(500, 805));
    assert!(!marks.has(&place(600)) && marks.has(&place(900)));
}

#[test]
fn ranges_and_notes_are_bounded() {
    let mut marks = Marks::new(0);
    for number in 0..3_000 {
        marks.doubt(number * 100, number * 100, &LIMITS);
    }
    assert_eq!(marks.unsure().len(), UNSURE_MAX);
    assert_eq!(marks.unsure()[0].from, 0);
    let mut marks = Marks::new(0);
    marks.see((1..20_000).map(place), 0);
    assert_eq!(marks.stored().count(), STORED_MAX);
    assert!(marks.has(&place(19_999)));
}
