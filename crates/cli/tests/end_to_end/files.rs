//! The files of an SQLite database: who may open them, and what happens when one is moved away.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use testing::databases::TestDatabase;
use testing::simulator::Simulator;

use crate::process::{HttpClient, PROGRAM, Place};

const ASKED: &str = "[[sim input=10 output=5]]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_we_alone_make_is_for_its_owner_alone_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "umask {umask} && \"$0\" init --create && \"$0\" usage export --output usage.csv && \
             \"$0\" key create k && touch old.csv && chmod 644 old.csv && \"$0\" usage export --output old.csv"
        );
        let output = Command::new("sh")
            .args(["-c", &script, PROGRAM])
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("DATABASE_URL", "sqlite:///data/sub/tracking.db")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mode = |name: &str| fs::metadata(folder.path().join(name)).map(|found| found.mode() & 0o777);
        assert_eq!(mode("data/sub/tracking.db").unwrap(), 0o600, "umask {umask}");
        for beside in ["-wal", "-shm", "-tracking-lock"] {
            let found = mode(&format!("data/sub/tracking.db{beside}"));
            assert!(found.is_err() || found.unwrap() == 0o600, "umask {umask}: {beside}");
        }
        assert_eq!((mode("data").unwrap(), mode("data/sub").unwrap()), (0o700, 0o700));
        assert_eq!((mode("usage.csv").unwrap(), mode("old.csv").unwrap()), (0o600, 0o644));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_moved_away_is_missed_until_it_is_back() {
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let place = Place::new(&test, &simulator, &[]).await;
    let (gateway, client) = (place.serve(), HttpClient::new());
    assert_eq!(client.ask(&gateway.url, "ann", "before", ASKED).await.0, 200);
    let path = test.url().path().unwrap().to_owned();
    let away = path.with_extension("away");
    let answer = async || client.ask(&gateway.url, "ann", "meanwhile", ASKED).await;
    let until = async |wanted: u16| {
        loop {
            let (status, text) = answer().await;
            assert!(matches!(status, 200 | 503), "{status} {text}");
            if status == wanted {
                return text;
            }
        }
    };
    for other in [None, Some("another file")] {
        fs::rename(&path, &away).unwrap();
        if let Some(text) = other {
            fs::write(&path, text).unwrap();
        }
        until(503).await;
        let (status, said) = client.look(&format!("{}/readyz", gateway.url)).await;
        assert_eq!(status, 503);
        let what = if other.is_some() { "was replaced" } else { "was moved away" };
        assert!(said.contains(what) && said.contains("back"), "{said}");
        fs::rename(&away, &path).unwrap();
        until(200).await;
        assert_eq!(client.look(&format!("{}/readyz", gateway.url)).await.0, 200);
    }
    gateway.terminate();
    place.assert_clean().await;
}

/// Whoever may read the database's folder may not stop its writers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_lock_on_the_lock_file_stops_nothing() {
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let place = Place::new(&test, &simulator, &[]).await;
    let path = test.url().path().unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let beside = path.with_file_name("tracking.db-tracking-lock");
    // As an earlier version left it.
    fs::set_permissions(&beside, Permissions::from_mode(0o644)).unwrap();
    let foreign = File::open(&beside).unwrap();
    foreign.lock().unwrap();
    let (gateway, client) = (place.serve(), HttpClient::new());
    for chat in 0..20 {
        assert_eq!(client.ask(&gateway.url, "ann", &format!("chat-{chat}"), ASKED).await.0, 200);
    }
    assert_eq!(fs::metadata(&beside).unwrap().mode() & 0o777, 0o600, "no reader opens it any more");
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o644);
    place.ok(&["credits", "grant", "ann", "5", "--reason", "a test"]);
    foreign.unlock().unwrap();
    gateway.terminate();
    place.assert_clean().await;
}

/// The files beside the database.
fn logs(place: &Place) -> Vec<String> {
    let path = place.database.url().path().unwrap();
    let names = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut logs: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.ends_with("-wal") || name.ends_with("-shm"))
        .collect();
    logs.sort();
    logs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_end_leaves_no_log_behind_and_takes_none_from_others() {
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let place = Place::new(&test, &simulator, &[]).await;
    let client = HttpClient::new();
    for other_runs in [true, false] {
        let (gateway, other) = (place.serve(), other_runs.then(|| place.serve()));
        assert_eq!(client.ask(&gateway.url, "ann", "chat", ASKED).await.0, 200);
        gateway.terminate();
        if let Some(other) = other {
            assert_eq!(logs(&place).len(), 2, "another gateway uses them");
            assert_eq!(client.ask(&other.url, "ann", "chat", ASKED).await.0, 200);
            other.terminate();
        }
        // The test itself has connections.
        assert!(place.run(&["verify"]).status.success());
    }
    place.database.close().await;
    assert!(logs(&place).is_empty(), "{:?}", logs(&place));
    let gateway = place.serve();
    assert_eq!(client.ask(&gateway.url, "ann", "chat", ASKED).await.0, 200);
    assert_eq!(logs(&place).len(), 2);
    gateway.terminate();
    assert!(logs(&place).is_empty(), "after `serve`: {:?}", logs(&place));
    for command in [
        &["settings", "set", "timezone", "Etc/UTC"][..],
        &["usage", "--by", "model"],
        &["usage", "export"],
        &["doctor", "--offline"],
        &["credit-group", "get", "nobody"],
        &["database", "status"],
        &["init", "--dry-run"],
    ] {
        place.run(command);
        assert!(logs(&place).is_empty(), "after {command:?}: {:?}", logs(&place));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_is_named_with_who_locks_it() {
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let place = Place::new(&test, &simulator, &[]).await;
    let storage::Pool::Sqlite(pool) = place.database.pool() else { unreachable!() };
    let lock = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for command in [&["settings", "set", "timezone", "Etc/UTC"][..], &["key", "create", "laptop"]] {
        let output = place.run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(said.contains("keeps it locked; let it finish, or end it, and try again"), "{said}");
        let who = format!("(process {})", std::process::id());
        assert!(!cfg!(target_os = "linux") || said.contains(&who), "{command:?}: {said}");
    }
    lock.rollback().await.unwrap();
    place.ok(&["key", "create", "laptop"]);
}
