//! Two versions on one database: one that the previous release has left, and one that a made-up later version has taken over.
//!
//! The databases in `tests/fixtures/previous` were made by the previous release itself (`scripts/record-previous-database`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use storage::migrate::{self, MIGRATIONS, Migration};
use storage::reports::verify::verify;
use storage::{Database, Error, Kind};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{HttpClient, Place};

/// A folder with a configuration, on a database as the previous release leaves it: with history, and with two holds of a
/// gateway that was killed.
async fn left_by_the_previous_release(test: &TestDatabase, simulator: &Simulator) -> Place {
    let database = test.open().await.unwrap();
    let sql = match database.kind() {
        Kind::Sqlite => include_str!("../fixtures/previous/sqlite.sql").to_owned(),
        Kind::Postgres => {
            include_str!("../fixtures/previous/postgres.sql").replace("{schema}", database.schema())
        }
    };
    database.run(sql).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\ndrain = 10\n\n\
         [[provider]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"{}\"\napi_key = \"provider-key\"\n",
        simulator.base_url()
    );
    std::fs::write(folder.path().join("config.toml"), config).unwrap();
    std::fs::write(folder.path().join("models.json"), "[]").unwrap();
    Place { folder, environment: test.environment().to_vec(), database }
}

const HISTORY: &str = "SELECT id || ' ' || kind || ' ' || user_id || ' ' || day || ' ' || model || ' ' || charge || ' ' || accounts \
    FROM {ledger} WHERE outcome <> 'recovered' ORDER BY id";

each_database!(
    from_the_previous_release_it_takes_one_command_and_nothing_is_lost,
    async |test: TestDatabase| {
        let simulator = Simulator::start().await.unwrap();
        let place = left_by_the_previous_release(&test, &simulator).await;
        let history = place.texts(HISTORY).await;
        assert!(history.len() >= 7, "{history:?}");
        assert_eq!(place.number("SELECT COUNT(*) FROM {hold}").await, 2);

        // Nothing migrates it unasked; everything says what to do.
        for command in [&["serve", "--config", "config.toml"][..], &["balance"], &["verify"]] {
            let refused = place.run(command);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(
                !refused.status.success() && said.contains("owui-token-tracking init"),
                "{command:?}: {said}"
            );
        }
        #[cfg(unix)]
        {
            let said = crate::worker::refusal(
                &place,
                &serde_json::json!({"listen": "127.0.0.1:0", "key": "0123456789abcdef"}),
            );
            assert!(said.contains("owui-token-tracking init"), "{said}");
        }
        assert_eq!(migrate::status(&place.database).await.unwrap().found, 2);

        let preview = place.ok(&["init", "--dry-run", "--model-json", "models.json"]);
        assert!(preview.contains("would be brought from version 2 to"), "{preview}");
        let done = place.ok(&["init", "--model-json", "models.json"]);
        assert!(done.contains(&format!("version {}", migrate::CURRENT)), "{done}");

        // What was under way is settled, at the prices and on the accounts of its admission.
        let gateway = place.serve();
        place.assert_clean().await;
        let recovered = "SELECT COUNT(*) FROM {ledger} WHERE outcome = 'recovered' AND charge > 0";
        assert_eq!(place.number(recovered).await, 2);
        let (status, answer) =
            HttpClient::new().ask(&gateway.url, "ann", "c", "[[sim input=1000 output=500]]").await;
        assert_eq!(status, 200, "{answer}");
        gateway.terminate();
        place.assert_clean().await;
        let after = place.texts(HISTORY).await;
        assert_eq!(after.iter().filter(|row| history.contains(row)).count(), history.len());
        assert!(place.ok(&["settings", "get", "timezone"]).contains("Europe/Berlin"));
        assert!(place.ok(&["credit-group", "list-users", "staff"]).contains("ann"));
        assert!(place.ok(&["sponsored", "list"]).contains("Course"));
    }
);

/// Our migrations and a made-up later one.
fn later(usable_from: i64) -> Vec<Migration> {
    let sql = "ALTER TABLE token_tracking_ledger ADD COLUMN searches BIGINT NOT NULL DEFAULT 0; \
               ALTER TABLE token_tracking_hold ADD COLUMN made_up TEXT; \
               CREATE TABLE token_tracking_made_up (id TEXT NOT NULL PRIMARY KEY);";
    MIGRATIONS.into_iter().chain([Migration { sql, usable_from, optional: false }]).collect()
}

async fn assert_books(database: &Database) {
    let found = verify(database).await.unwrap();
    assert_eq!((found.differences, found.holds), (vec![], 0));
}

each_database!(a_later_version_leaves_this_one_serving_or_stops_it_in_order, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "100000")]).await;
    let gateway = place.serve();
    let url = gateway.url.clone();
    let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking = |user: &'static str| {
        let (url, ended, answered) = (url.clone(), Arc::clone(&ended), Arc::clone(&answered));
        async move {
            let client = HttpClient::new();
            while !ended.load(Ordering::SeqCst) {
                let (status, text) = client.ask(&url, user, "c", "[[sim input=10 output=20]]").await;
                assert_eq!(status, 200, "{text}");
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let more = async |count: u64| {
        let from = answered.load(Ordering::SeqCst);
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(5));
        while answered.load(Ordering::SeqCst) < from + count {
            looks.tick().await;
        }
    };
    let client = HttpClient::new();
    let migrating = async {
        more(20).await;
        // One that this program could not bear does nothing while it serves.
        let refused = migrate::migrate_by(&place.database, &later(migrate::CURRENT + 1)).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
        more(20).await;
        migrate::migrate_by(&place.database, &later(migrate::CURRENT)).await.unwrap();
        assert_eq!(client.get(&format!("{url}/readyz")).await.0, 200);
        more(50).await;
        ended.store(true, Ordering::SeqCst);
    };
    tokio::join!(asking("ann"), asking("bob"), asking("cora"), migrating);
    let status = place.ok(&["verify"]);
    assert!(status.contains("Clean"), "{status}");

    // Somebody has taken the database over all the same: it says so, serves nothing more, and what it owes is settled.
    let stream = client.send(&url, "ann", "last", "[[sim output=1000 delay=10]]").await.unwrap();
    let versions = place.database.table("token_tracking_schema_version");
    let newer = migrate::CURRENT + 2;
    place
        .database
        .run(format!("INSERT INTO {versions} (version, usable_from) VALUES ({newer}, {newer})"))
        .await
        .unwrap();
    let (status, said) = client.get(&format!("{url}/readyz")).await;
    assert!(status == 503 && said.contains("install the newer version"), "{status}: {said}");
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        let (status, text) = client.ask(&url, "bob", "c", "[[sim input=10 output=20]]").await;
        if status != 200 {
            assert_eq!(status, 503, "{text}");
            break;
        }
        looks.tick().await;
    }
    drop(stream);
    place.until("SELECT COUNT(*) FROM {hold}", |holds| holds == 0).await;
    gateway.terminate();
    assert_books(&place.database).await;
    let refused = place.run(&["serve", "--config", "config.toml"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("install the newer version"));
});
