//! Programs of two versions on one database: a made-up later migration, from both sides.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

use std::sync::Arc;
use std::time::Duration;

use accounting::{AccountKey, AccountLimit, Bid, Credits, Quote, RequestId};
use storage::ledger::{Hold, HoldOutcome, HoldRequest, Ledger, Settlement};
use storage::migrate::{self, MIGRATIONS, Migration, SchemaStatus};
use storage::reports::verify::verify;
use storage::{Catalogue, Database, Error, Snapshot, SystemClock, new_id};
use testing::databases::TestDatabase;
use testing::{each_database, records};

const LATER: i64 = migrate::CURRENT + 1;

/// Our migrations and one more, which older programs can bear from that schema on.
fn later(usable_from: i64) -> Vec<Migration> {
    let sql = "ALTER TABLE token_tracking_ledger ADD COLUMN request BIGINT; \
               ALTER TABLE token_tracking_ledger ADD COLUMN searches BIGINT NOT NULL DEFAULT 0; \
               ALTER TABLE token_tracking_hold ADD COLUMN made_up TEXT; \
               ALTER TABLE token_tracking_account ADD COLUMN made_up BIGINT NOT NULL DEFAULT 7; \
               ALTER TABLE token_tracking_price ADD COLUMN made_up TEXT; \
               CREATE TABLE token_tracking_made_up (id TEXT NOT NULL PRIMARY KEY);";
    MIGRATIONS.into_iter().chain([Migration { sql, usable_from, optional: false }]).collect()
}

fn day() -> accounting::Day {
    "2026-11-24".parse().unwrap()
}

/// A hold of one credit.
async fn hold(ledger: &Ledger) -> Result<Hold, Error> {
    let record = records::record("ann", day()).unwrap();
    let account = AccountKey::User { day: day(), user: record.user.clone() };
    let accounts = vec![AccountLimit { account, limit: Some(Credits::from_whole(1000).unwrap()) }];
    let bid = Bid { accounts, quote: Quote::Estimate(Credits::ONE) };
    let request = HoldRequest { id: RequestId::new(new_id()), bid, record, wait: Duration::from_secs(5) };
    match ledger.hold(request).await? {
        HoldOutcome::Held(hold) => Ok(hold),
        other => panic!("{other:?}"),
    }
}

fn settlement(hold: &Hold, charge: Credits) -> Settlement {
    let record = records::record("ann", day()).unwrap();
    let ended_at = "2026-11-24T12:00:00Z".parse().unwrap();
    records::settlement(hold.id(), record, hold.accounts().to_vec(), charge, ended_at)
}

async fn assert_books(database: &Database, entries: i64) {
    let found = verify(database).await.unwrap();
    assert_eq!((found.differences, found.entries, found.holds), (vec![], entries, 0));
}

each_database!(an_older_program_goes_on_after_a_migration_that_only_adds, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let catalogue = Catalogue::open(&database, Arc::new(SystemClock)).await.unwrap();
    let before = hold(&ledger).await.unwrap();

    // A newer program migrates beside it.
    let newer = test.open().await.unwrap();
    let done = migrate::migrate_by(&newer, &later(migrate::CURRENT)).await.unwrap();
    assert_eq!((done.from, done.to), (migrate::CURRENT, LATER));

    ledger.ping().await.unwrap();
    catalogue.changed();
    catalogue.snapshot().await.unwrap();
    // What was held before is settled, and once more by somebody who knew it otherwise; new ones are held and settled.
    let (first, late) =
        (settlement(&before, Credits::ONE), settlement(&before, Credits::from_whole(3).unwrap()));
    before.settle(first).await.unwrap();
    ledger.settle(late).await.unwrap();
    let after = hold(&ledger).await.unwrap();
    let end = settlement(&after, Credits::ONE);
    after.settle(end).await.unwrap();
    hold(&ledger).await.unwrap().release().await.unwrap();
    assert_books(&database, 3).await;

    // It may start there too, `init` included. What must know every table refuses.
    let done = migrate::migrate(&database).await.unwrap();
    assert_eq!((done.from, done.to), (LATER, LATER));
    migrate::require_usable(&database).await.unwrap();
    Ledger::open(&database).await.unwrap();
    let status = migrate::status(&database).await.unwrap();
    assert_eq!((status.found, status.usable_from, status.known), (LATER, migrate::CURRENT, migrate::CURRENT));
    let mut out = Vec::new();
    let refused = storage::original::downgrade(&database, &mut out, || Ok(())).await;
    assert!(matches!(refused, Err(Error::NewerSchema { found: LATER, .. })), "{refused:?}");
});

each_database!(a_migration_that_others_can_t_bear_waits_for_their_end, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let catalogue = Catalogue::open(&database, Arc::new(SystemClock)).await.unwrap();
    let held = hold(&ledger).await.unwrap();

    let newer = test.open().await.unwrap();
    let refused = migrate::migrate_by(&newer, &later(LATER)).await;
    let Err(Error::Conflict { what }) = refused else { panic!("{refused:?}") };
    assert!(
        what.contains(&format!("process {}", std::process::id())) && what.contains("stop them"),
        "{what}"
    );
    // Nothing was changed: the older program goes on.
    ledger.ping().await.unwrap();
    let end = settlement(&held, Credits::ONE);
    held.settle(end).await.unwrap();
    ledger.resign().await.unwrap();

    let done = migrate::migrate_by(&newer, &later(LATER)).await.unwrap();
    assert_eq!((done.from, done.to), (migrate::CURRENT, LATER));
    // An older program that comes back, or was cut off, says so and serves nothing.
    let is_newer = |error: Error| {
        let said = error.to_string();
        assert!(matches!(error, Error::NewerSchema { found: LATER, known: migrate::CURRENT }), "{said}");
        assert!(said.contains("install the newer version"), "{said}");
    };
    is_newer(ledger.ping().await.unwrap_err());
    catalogue.changed();
    is_newer(catalogue.snapshot().await.unwrap_err());
    is_newer(Snapshot::of(&database, &SystemClock).await.unwrap_err());
    is_newer(migrate::require_usable(&database).await.unwrap_err());
    is_newer(migrate::migrate(&database).await.unwrap_err());
    assert_books(&database, 1).await;
});

each_database!(a_hold_with_words_of_a_newer_version_is_left_to_it, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let record = serde_json::to_value(records::record("ann", day()).unwrap()).unwrap();
    let with = |key: &str| {
        let mut record = record.clone();
        record[key] = "x".into();
        record.to_string()
    };
    let account = "[\"user-day:2026-11-24:ann\"]";
    let known = "0190a0a0a0a07000800000000000000f";
    let rows = [
        (known, account, record.to_string(), "NULL".to_owned()),
        ("0190a0a0a0a070008000000000000001", account, with("bounded_searches"), "NULL".into()),
        ("0190a0a0a0a070008000000000000002", account, with("way_in"), "NULL".into()),
        ("0190a0a0a0a070008000000000000003", "[\"department:physics\"]", record.to_string(), "NULL".into()),
        (
            "0190a0a0a0a070008000000000000004",
            account,
            record.to_string(),
            "'{\"output_tokens\":1,\"usage\":{\"input\":1,\"searches\":3},\"first_byte_at\":null}'".into(),
        ),
    ];
    let hold = database.table("token_tracking_hold");
    for (id, accounts, request, progress) in &rows {
        let sql = format!(
            "INSERT INTO {hold} (id, owner, accounts, amount, request, progress, held_at) \
             VALUES ('{id}', 'gone', '{accounts}', 1000000, '{request}', {progress}, 0)"
        );
        database.run(sql).await.unwrap();
    }
    // One that can't be read stops neither the others nor itself for ever.
    for _ in 0..2 {
        let abandoned = ledger.abandoned().await.unwrap();
        let ids: Vec<String> = abandoned.iter().map(|hold| hold.id.to_string()).collect();
        assert_eq!(ids, [known]);
    }
    let left = storage::reports::health::unreadable_holds(&database).await.unwrap();
    assert_eq!(left.len(), 4, "{left:?}");
    for (error, (id, ..)) in left.iter().zip(&rows[1..]) {
        let said = error.to_string();
        assert!(said.contains(id) && said.contains("install the newer version"), "{said}");
    }
});

#[test]
fn a_program_may_use_what_it_knows_enough_of() {
    let status = |found, usable_from| SchemaStatus { found, usable_from, needed: 4, known: 6 };
    for (found, usable_from, usable) in [
        (0, 0, false),
        (3, 1, false),
        (4, 4, true),
        (5, 4, true),
        (6, 6, true),
        (7, 6, true),
        (9, 2, true),
        (7, 7, false),
    ] {
        assert_eq!(status(found, usable_from).usable().is_ok(), usable, "{found}, from {usable_from}");
    }
    assert!(matches!(status(3, 1).usable(), Err(Error::NotMigrated { found: 3, known: 6 })));
    assert!(matches!(status(7, 7).usable(), Err(Error::NewerSchema { found: 7, known: 6 })));
}

#[test]
fn what_a_migration_declares_makes_sense() {
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        assert!((1..=version).contains(&migration.usable_from), "version {version}");
        // Programs before version 3 want exactly their own schema.
        assert!(version < 3 || migration.usable_from >= 3, "version {version}");
    }
    const { assert!(migrate::NEEDED <= migrate::CURRENT) };
}
