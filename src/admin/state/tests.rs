//! What is kept, what is refused, and who may change the file.

use super::*;
use crate::admin::overlay::Difference;
use crate::admin::register::{Entry, Stamp};
use crate::admin::tests::TempDir;
use crate::config::types::ServerAddress;

fn load(text: &str) -> Result<Overlay, String> {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    fs::write(&path, text).unwrap();
    StateFile::load(&path).map_err(|error| error.to_string())
}

#[test]
fn a_missing_file_holds_nothing() {
    let dir = TempDir::new();
    let overlay = StateFile::load(&dir.path().join("state")).unwrap();
    assert_eq!(overlay, Overlay::default());
}

#[test]
fn a_damaged_file_is_refused_by_name_and_with_a_way_out() {
    for (text, why) in [
        ("", "EOF"),
        ("{\"version\": 1, \"upstreams\"", "EOF"),
        (
            r#"{"version": 2, "servers": []}"#,
            "version 2 is unknown, expected 1",
        ),
        (
            r#"{"version": 1, "upstreams": {"a": {"add": []}}}"#,
            "unknown field `add`",
        ),
        (
            r#"{"version": 1, "upstreams": {"a": {"removed": ["x"]}}}"#,
            "has no port",
        ),
        (
            r#"{"version": 1, "upstreams": {"a": {"added": [{"address": "x:1", "weight": 999}]}}}"#,
            "expected an integer from 0 to 256",
        ),
    ] {
        let error = load(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
        assert!(error.contains("/state\" is not valid"), "{error}");
        assert!(error.contains("move it away"), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let dir = TempDir::new();
    let error = StateFile::load(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::Read { .. }), "{error}");
}

#[tokio::test]
async fn what_was_recorded_is_loaded() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    fs::write(dir.path().join("state.tmp"), "left behind by a crash").unwrap();
    let file = StateFile::new(path.clone(), Overlay::default());
    let mut transaction = file.begin().await;
    for address in ["a:1", "b:1"] {
        let address = address.parse().unwrap();
        transaction
            .change("app", &address, |overlay| overlay.remove("app", &address))
            .await
            .unwrap();
    }
    let mut loaded = StateFile::load(&path).unwrap();
    assert_eq!(loaded.source.take().unwrap().path, path);
    assert_eq!(loaded, *transaction.overlay());
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["state", "state.lock"], "no temporary file stays");
}

/// What a load balancer that starts now has.
fn start(path: &Path) -> StateFile {
    StateFile::new(path.to_owned(), StateFile::load(path).unwrap())
}

/// Removes the server `address` of the upstream `app`.
async fn remove(file: &StateFile, address: &str) -> Result<(), StateError> {
    let address = address.parse().unwrap();
    let mut transaction = file.begin().await;
    transaction
        .change("app", &address, |overlay| overlay.remove("app", &address))
        .await
}

#[tokio::test]
async fn what_cannot_be_written_is_not_kept() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let file = start(&path);
    fs::create_dir(dir.path().join("state.tmp")).unwrap();
    let error = remove(&file, "a:1").await.unwrap_err();
    assert!(
        error.to_string().contains("state\": Is a directory"),
        "{error}"
    );
    assert_eq!(file.kept.lock().await.contents.overlay, Overlay::default());
}

#[tokio::test]
async fn only_one_load_balancer_at_a_time_changes_the_file() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let (first, second) = (start(&path), start(&path));
    remove(&first, "a:1").await.unwrap();
    let error = remove(&second, "b:1").await.unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    remove(&first, "c:1").await.unwrap();
    let kept = first.kept.lock().await.contents.overlay.clone();
    drop(first);

    // The lock is free, and the file holds what the second does not have.
    let error = remove(&second, "b:1").await.unwrap_err();
    assert!(matches!(error, StateError::Outdated { .. }), "{error}");
    let restarted = start(&path);
    assert_eq!(restarted.kept.lock().await.contents.overlay, kept);
    remove(&restarted, "b:1").await.unwrap();
}

#[tokio::test]
async fn the_lock_is_taken_late_if_the_file_is_as_it_was() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    remove(&start(&path), "a:1").await.unwrap();
    let first = start(&path);
    let mut overlay = StateFile::load(&path).unwrap();
    overlay.apply("app", Vec::new()); // what the file holds applies no more, and is the same still
    let second = StateFile::new(path.clone(), overlay);
    remove(&second, "b:1").await.unwrap_err();
    drop(first);
    remove(&second, "b:1").await.unwrap();
    let error = remove(&start(&path), "c:1").await.unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn what_was_written_between_loading_and_locking_is_not_lost() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let overlay = StateFile::load(&path).unwrap();
    remove(&start(&path), "a:1").await.unwrap();
    let late = StateFile::new(path, overlay);
    let error = remove(&late, "b:1").await.unwrap_err();
    assert!(matches!(error, StateError::Outdated { .. }), "{error}");
}

#[tokio::test]
async fn without_a_place_for_the_lock_changes_are_refused() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    fs::create_dir(dir.path().join("state.lock")).unwrap();
    let file = start(&path);
    let error = remove(&file, "a:1").await.unwrap_err();
    assert!(
        error.to_string().contains("state.lock\": Is a directory"),
        "{error}"
    );
    assert!(!path.exists());
    fs::remove_dir(dir.path().join("state.lock")).unwrap();
    remove(&file, "a:1").await.unwrap();
}

fn server(text: &str) -> ServerAddress {
    text.parse().unwrap()
}

/// What the fleet would be told: the servers and who changed them.
fn told(file: &StateFile) -> Option<Vec<(String, String)>> {
    let register = file.shared().load_full()?;
    let entries = register.entries();
    let told = entries.map(|it| (it.server.address.to_string(), it.stamp.node));
    Some(told.collect())
}

#[tokio::test]
async fn changes_are_told_to_the_fleet_and_known_after_a_restart() {
    let dir = TempDir::new();
    let path = dir.path().join("state");
    let file = StateFile::new(path.clone(), Overlay::default());
    remove(&file, "a:1").await.unwrap();
    assert_eq!(told(&file), None, "they are this node's alone");
    drop(file);
    let file = start(&path).sharing_as(Some("one"));
    remove(&file, "b:1").await.unwrap();
    let both = [("a:1", "one"), ("b:1", "one")];
    let both = both.map(|(address, node)| (address.to_owned(), node.to_owned()));
    assert_eq!(told(&file).unwrap(), both);
    drop(file);
    let file = start(&path).sharing_as(Some("two"));
    assert_eq!(
        told(&file).unwrap(),
        both,
        "it is still known who made them"
    );
    file.begin().await.share_as(None);
    assert_eq!(told(&file), None);
    remove(&file, "b:1").await.unwrap();
    file.begin().await.share_as(Some("two"));
    assert_eq!(
        told(&file).unwrap()[1].1,
        "two",
        "what was done meanwhile is as if it were old"
    );
}

#[tokio::test]
async fn the_later_change_is_merged_and_no_other() {
    let dir = TempDir::new();
    let file = StateFile::new(dir.path().join("state"), Overlay::default());
    let entry = |clock, difference| Entry {
        server: Server {
            upstream: "app".to_owned(),
            address: server("a:1"),
        },
        stamp: Stamp {
            clock,
            node: "other".to_owned(),
        },
        difference,
    };
    let removal = entry(5, Some(Difference::Removed));
    let merged = file.begin().await.merge(vec![removal.clone()]).await;
    assert_eq!(merged.unwrap(), [], "nothing is shared");
    let file = file.sharing_as(Some("one"));
    let merged = file
        .begin()
        .await
        .merge(vec![removal.clone(), entry(4, None)])
        .await;
    assert_eq!(merged.unwrap(), std::slice::from_ref(&removal));
    let mut transaction = file.begin().await;
    assert_eq!(
        transaction.merge(vec![removal]).await.unwrap(),
        [],
        "it is known"
    );
    assert_eq!(
        transaction.overlay().difference("app", &server("a:1")),
        Some(Difference::Removed)
    );
    assert_eq!(
        transaction.merge(vec![entry(6, None)]).await.unwrap().len(),
        1
    );
    assert_eq!(
        transaction.overlay().difference("app", &server("a:1")),
        None
    );
}
