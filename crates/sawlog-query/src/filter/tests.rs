//! Tests of the filter language: what is read, what is refused and where, and which events pass.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder, new_null_array,
};
use proptest::prelude::*;
use sawlog_core::schema::Table;

use super::*;

#[track_caller]
fn check(text: &str, printed: &str) {
    let filter = parse(text).unwrap_or_else(|error| panic!("{}", error.pointed(text)));
    assert_eq!(filter.to_string(), printed);
    assert_eq!(parse(printed).as_ref(), Ok(&filter), "{printed}");
}

#[track_caller]
fn check_mistake(text: &str, start: usize, message: &str) {
    let error = parse(text).expect_err(text);
    assert!(error.message.contains(message), "{text}: {}", error.message);
    assert_eq!(error.span.start, start, "{}", error.pointed(text));
    assert!(!error.hint.is_empty());
}

#[test]
fn everything_that_the_language_knows_is_read() {
    check("", "");
    check(
        r#"service:checkout severity>=error "timeout" status:5* -path:/health (a OR b) NOT c"#,
        "service:checkout severity>=error timeout status:5* NOT path:/health (a OR b) NOT c",
    );
    check(
        r#"duration>500ms user_id:"x y" http.status:[500 TO 599] attributes.foo:bar _exists_:field"#,
        r#"duration>500ms user_id:"x y" http.status:[500 TO 599] attributes.foo:bar _exists_:field"#,
    );
    check("a AND b OR c d", "(a b) OR (c d)");
    check("a b OR c", "(a b) OR c");
    check("service:(a OR b) x", "(service:a OR service:b) x");
    check("status:(>=500 -503)", "status>=500 NOT status:503");
    check("status!=200 level=warn", "NOT status:200 level:warn");
    check("x:{1 TO *] y:[* TO \"b c\"}", "x:{1 TO *] y:[* TO \"b c\"}");
    check("path:/a:b?c=d 12:30 hello! foo!bar", "path:\"/a:b?c=d\" \"12:30\" \"hello!\" \"foo!bar\"");
    check(
        r#"field:* "with : and \" inside" wild\*card* "AND""#,
        r#"_exists_:field "with : and \" inside" wild\*card* "AND""#,
    );
    check("--a NOT NOT b", "NOT NOT a NOT NOT b");
    check("duration:>5ms", "duration>5ms");
    check("\"a b\":c android ORACLE NOTE", "\"a b\":c android ORACLE NOTE");
}

#[test]
fn mistakes_are_told_with_their_place() {
    check_mistake("service: checkout", 8, "value is missing");
    check_mistake("service:", 8, "value is missing");
    check_mistake("(a OR b", 0, "not closed");
    check_mistake("a OR b)", 6, "closes nothing");
    check_mistake("say \"hello", 4, "not closed");
    check_mistake("a OR", 4, "nothing follows OR");
    check_mistake("OR a", 0, "nothing stands before OR");
    check_mistake("a AND OR b", 6, "nothing follows AND");
    check_mistake("x ()", 2, "nothing in the parentheses");
    check_mistake("status:[500 599]", 12, "TO is missing");
    check_mistake("status:[500 TO 599", 7, "not closed");
    check_mistake("status:[ TO 599]", 9, "bound of the range is missing");
    check_mistake("[1 TO 2]", 0, "no field is before it");
    check_mistake("\"\":5", 0, "no name of a field");
    check_mistake("x:[", 3, "bound of the range is missing");
    check_mistake("status>[1 TO 2]", 7, "can stand here");
    check_mistake(&"(".repeat(1000), 33, "nests deeper");
    check_mistake(&"-".repeat(1000), 33, "nests deeper");
    check_mistake(&"a ".repeat(201), 400, "more than 200 tests");
    check_mistake(&"a".repeat(5000), 4000, "characters");
}

#[test]
fn a_mistake_is_pointed_at() {
    let error = parse("a (b").expect_err("a mistake");
    assert_eq!(error.pointed("a (b"), "this parenthesis is not closed\n  a (b\n    ^\n  hint: write ) at its end");
}

/// Three events: a failed checkout, a health check, and one with nothing but a message.
fn rows() -> RecordBatch {
    let schema = Table::Logs.schema();
    let mut attributes = MapBuilder::new(
        Some(arrow::array::MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() }),
        StringBuilder::new(),
        StringBuilder::new(),
    );
    for pairs in [&[("foo", "bar"), ("retries", "12"), ("wait_ms", "250")][..], &[("retries", "9")], &[]] {
        for (key, value) in pairs {
            attributes.keys().append_value(key);
            attributes.values().append_value(value);
        }
        attributes.append(true).expect("a row");
    }
    let attributes: ArrayRef = Arc::new(attributes.finish());
    let texts = |values: [Option<&str>; 3]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "message" => texts([Some("Request TIMED out 100%"), Some("ok"), Some("a_b")]),
        "service" => texts([Some("checkout"), Some("web"), None]),
        "http_path" => texts([Some("/pay/1"), Some("/health"), None]),
        "user_id" => texts([Some("x y"), None, None]),
        "severity_class" => texts([Some("error"), Some("info"), Some("info")]),
        "severity_number" => Arc::new(Int32Array::from(vec![Some(18), Some(9), None])),
        "http_status" => Arc::new(Int32Array::from(vec![Some(503), Some(200), None])),
        "duration_us" => Arc::new(Int64Array::from(vec![Some(600_000), Some(1_000), None])),
        "attributes" => arrow::compute::cast(&attributes, field.data_type()).expect("attributes"),
        _ => new_null_array(field.data_type(), 3),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let nullable: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(nullable)), columns).expect("rows")
}

#[track_caller]
fn check_rows(text: &str, expected: &[usize]) {
    let filter = parse(text).unwrap_or_else(|error| panic!("{}", error.pointed(text)));
    let matcher = Matcher::new(&filter, Table::Logs, 0).unwrap_or_else(|error| panic!("{text}: {error}"));
    let rows = rows();
    let found: Vec<usize> =
        (0..3).filter(|row| matcher.matching(&rows.slice(*row, 1)).expect(text).num_rows() == 1).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn filters_find_what_they_say() {
    check_rows("", &[0, 1, 2]);
    check_rows("timed", &[0]);
    check_rows("message:Timed", &[0]);
    check_rows("\"100%\"", &[0]);
    check_rows("t*d", &[0]);
    check_rows("a_b", &[2]);
    check_rows("_", &[2]);
    check_rows("service:checkout", &[0]);
    check_rows("service:Checkout", &[]);
    check_rows("service:ch*", &[0]);
    check_rows("-path:/health", &[0, 2]);
    check_rows("NOT (path:/health OR service:checkout)", &[2]);
    check_rows("status:5*", &[0]);
    check_rows("http.status:[500 TO 599]", &[0]);
    check_rows("status:[200 TO 503}", &[1]);
    check_rows("status<500", &[1]);
    check_rows("duration>500ms", &[0]);
    check_rows("duration<=1ms", &[1]);
    check_rows("user_id:\"x y\"", &[0]);
    check_rows("attributes.foo:bar", &[0]);
    check_rows("foo:b*", &[0]);
    check_rows("retries>9", &[0]);
    check_rows("retries>=9", &[0, 1]);
    check_rows("retries:[1 TO 9]", &[1]);
    check_rows("wait_ms>0.2s", &[0]);
    check_rows("_exists_:foo", &[0]);
    check_rows("-_exists_:service", &[2]);
    check_rows("nothing:here", &[]);
    check_rows("severity>=error", &[0]);
    check_rows("severity:error", &[0]);
    check_rows("severity:info", &[1, 2]);
    check_rows("severity>=info", &[0, 1, 2]);
    check_rows("severity<warn", &[1, 2]);
    check_rows("level:(error OR info)", &[0, 1, 2]);
    check_rows("severity:[warn TO fatal]", &[0]);
}

#[test]
fn values_that_do_not_fit_their_field_are_told_with_their_place() {
    for (text, start, message) in [
        ("status:abc", 7, "is no number"),
        ("x status>=5ms", 10, "is no number"),
        ("duration>5parsecs", 9, "is no number"),
        ("severity>=loud", 10, "is no severity"),
        ("time>soon", 5, "is no time"),
        ("event_date:x", 11, "is no date"),
        ("attributes:x", 0, "cannot be compared"),
        ("retries>5ms", 8, "is no number"),
    ] {
        let filter = parse(text).expect(text);
        match Matcher::new(&filter, Table::Logs, 0) {
            Err(crate::search::SearchError::Filter(error)) => {
                assert!(error.message.contains(message), "{text}: {error}");
                assert_eq!(error.span.start, start, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let text = prop_oneof!["[a-z0-9_.]{1,6}", "\\PC{1,6}", Just("AND".to_owned()), Just("*\\\" ".to_owned())];
    (proptest::collection::vec(text, 0..4), any::<bool>(), any::<bool>()).prop_map(|(texts, starts, ends)| {
        let mut pieces = Vec::new();
        if starts && !texts.is_empty() {
            pieces.push(Piece::Any);
        }
        let last = texts.len().saturating_sub(1);
        for (index, text) in texts.into_iter().enumerate() {
            pieces.push(Piece::Text(text));
            if index < last || ends {
                pieces.push(Piece::Any);
            }
        }
        Pattern { pieces, span: Span::default() }
    })
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof!["[a-z0-9]{1,6}", "\\PC{0,6}", Just("TO".to_owned()), Just("*".to_owned())]
        .prop_map(|text| Literal { text, span: Span::default() })
}

fn test() -> impl Strategy<Value = Test> {
    let comparison = prop::sample::select(
        &[Comparison::Less, Comparison::LessOrEqual, Comparison::More, Comparison::MoreOrEqual][..],
    );
    let bound = || proptest::option::of(literal());
    prop_oneof![
        Just(Test::Exists),
        pattern().prop_map(Test::Is),
        (comparison, literal()).prop_map(|(comparison, literal)| Test::Compare(comparison, literal)),
        (bound(), any::<bool>(), bound(), any::<bool>()).prop_map(|(low, low_included, high, high_included)| {
            Test::Range { low, low_included, high, high_included }
        }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let name = prop_oneof!["[a-z_]{1,8}", "\\PC{1,8}", Just("_exists_".to_owned()), Just("AND".to_owned())];
    let leaf = prop_oneof![
        pattern().prop_map(Filter::Text),
        (name, test()).prop_map(|(name, test)| Filter::Field { name, span: Span::default(), test }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Filter::Or),
            inner.prop_map(|inner| Filter::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_reads_back(text in "\\PC{0,80}") {
        if let Ok(filter) = parse(&text) {
            prop_assert_eq!(parse(&filter.to_string()), Ok(filter));
        }
    }

    #[test]
    fn words_of_the_language_in_any_order_do_too(
        words in proptest::collection::vec(prop::sample::select(&[
            "a", "AND", "OR", "NOT", "TO", "-", "(", ")", "[", "]", "{", "}", ":", ">", "<", "=", "!", "!=", "\"", "\\", "*",
            " ", " ", "service", "_exists_", "5", "ä", "\u{a0}", ":(", ":[", "/",
        ][..]), 0..40)
    ) {
        let text = words.concat();
        match parse(&text) {
            Ok(filter) => prop_assert_eq!(parse(&filter.to_string()), Ok(filter)),
            Err(error) => prop_assert!(error.span.start <= text.chars().count() && error.span.start < error.span.end),
        }
    }

    #[test]
    fn every_filter_is_printed_so_that_it_reads_back(filter in filter()) {
        let printed = filter.to_string();
        prop_assert_eq!(parse(&printed), Ok(filter), "{}", printed);
    }
}
