//! Contract of [`Lake`]: one function per sentence of the trait's documentation.
//!
//! For: every implementation, through [`lake_contract!`](crate::lake_contract). Not for: power loss and disk faults.

use std::sync::Arc;

use bytes::Bytes;

use crate::lake::{Lake, LakeError, Put};

/// One storage, on which a lake can be opened again and again.
pub trait Fixture: Send + Sync {
    /// Opens a lake on the storage.
    fn open(&self) -> Arc<dyn Lake>;
}

/// Makes one test per function of the contract; the expression gives a [`Fixture`] with fresh storage. The caller's
/// crate needs Tokio with macros.
#[macro_export]
macro_rules! lake_contract {
    ($fixture:expr) => {
        $crate::lake_contract! { @tests $fixture;
            an_object_is_read_back_as_it_was_put
            a_key_that_is_taken_never_changes
            a_put_of_equal_bytes_succeeds
            objects_survive_reopening
            a_missing_object_is_not_found
            keys_below_a_folder_are_listed_in_order
            a_prefix_is_made_of_whole_path_parts
            a_deleted_object_is_gone_and_may_be_deleted_again
        }
    };
    (@tests $fixture:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::contract::lake::$name(&$fixture).await;
            }
        )*
    };
}

const KEY: &str = "raw/receive_date=2026-11-24/receive_hour=03/a.parquet";

async fn put(lake: &dyn Lake, key: &str, bytes: &'static [u8]) -> Put {
    lake.put(key, Bytes::from_static(bytes)).await.expect("a healthy lake takes an object")
}

/// "Content of an object."
pub async fn an_object_is_read_back_as_it_was_put(fixture: &dyn Fixture) {
    let lake = fixture.open();
    for (key, bytes) in [(KEY, &b"one"[..]), ("raw/empty", b""), ("top", b"at the top")] {
        assert_eq!(put(lake.as_ref(), key, bytes).await, Put::Stored);
        assert_eq!(lake.get(key).await.expect("content"), bytes, "{key}");
    }
}

/// "A put to a key that is taken never changes it."
pub async fn a_key_that_is_taken_never_changes(fixture: &dyn Fixture) {
    let lake = fixture.open();
    put(lake.as_ref(), KEY, b"one").await;
    let refused = lake.put(KEY, Bytes::from_static(b"two")).await;
    assert!(matches!(&refused, Err(LakeError::Conflict { key }) if key == KEY), "{refused:?}");
    assert_eq!(lake.get(KEY).await.expect("content"), "one");
}

/// "With equal bytes it succeeds, so that a retry recognises its own success."
pub async fn a_put_of_equal_bytes_succeeds(fixture: &dyn Fixture) {
    let lake = fixture.open();
    put(lake.as_ref(), KEY, b"one").await;
    assert_eq!(put(lake.as_ref(), KEY, b"one").await, Put::AlreadyThere);
    assert_eq!(lake.list("raw").await.expect("keys"), [KEY]);
}

/// "An object survives a crash once `put` returns": reopening is the part of it that all can test.
pub async fn objects_survive_reopening(fixture: &dyn Fixture) {
    put(fixture.open().as_ref(), KEY, b"one").await;
    assert_eq!(fixture.open().get(KEY).await.expect("content"), "one");
}

/// "No object has the key."
pub async fn a_missing_object_is_not_found(fixture: &dyn Fixture) {
    let lake = fixture.open();
    put(lake.as_ref(), KEY, b"one").await;
    for key in ["raw/none", "none"] {
        let found = lake.get(key).await;
        assert!(matches!(&found, Err(LakeError::NotFound { key: named }) if named == key), "{found:?}");
    }
}

/// "Keys below the folder `prefix` …, sorted. A folder that is not there has none."
pub async fn keys_below_a_folder_are_listed_in_order(fixture: &dyn Fixture) {
    let lake = fixture.open();
    for key in ["raw/b/2", "raw/a/1", "other/x", "raw/b/1"] {
        put(lake.as_ref(), key, b"x").await;
    }
    assert_eq!(lake.list("raw").await.expect("keys"), ["raw/a/1", "raw/b/1", "raw/b/2"]);
    assert_eq!(lake.list("raw/b/").await.expect("keys"), ["raw/b/1", "raw/b/2"]);
    assert_eq!(lake.list("").await.expect("keys").len(), 4);
    assert!(lake.list("raw/none").await.expect("no keys").is_empty());
}

/// "Whole path parts."
pub async fn a_prefix_is_made_of_whole_path_parts(fixture: &dyn Fixture) {
    let lake = fixture.open();
    put(lake.as_ref(), "raw/date=1/a", b"x").await;
    put(lake.as_ref(), "raw/date=11/a", b"x").await;
    assert_eq!(lake.list("raw/date=1").await.expect("keys"), ["raw/date=1/a"]);
}

/// "Removes an object; one that is not there is no error."
pub async fn a_deleted_object_is_gone_and_may_be_deleted_again(fixture: &dyn Fixture) {
    let lake = fixture.open();
    put(lake.as_ref(), KEY, b"one").await;
    put(lake.as_ref(), "raw/other", b"two").await;
    for _ in 0..2 {
        lake.delete(KEY).await.expect("deleted");
    }
    assert_eq!(fixture.open().list("raw").await.expect("keys"), ["raw/other"]);
    assert_eq!(put(lake.as_ref(), KEY, b"new").await, Put::Stored);
}
