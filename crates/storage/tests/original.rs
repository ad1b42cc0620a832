//! The original on the same database: its states, its usage and its prices in ours, our usage in its log, and the way back.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

use std::time::Duration;

use accounting::{
    AccountKey, AccountLimit, Bid, Clock, Credits, ModelId, Price, ProviderName, Quote, Rate, RequestId,
    SponsoredId, Usage, UserId, Zone,
};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::admin::{audit, settings};
use storage::ledger::{HoldOutcome, HoldRequest, Ledger, RequestRecord, Settlement};
use storage::original::{self, Imported, Revision, Synced};
use storage::reports::{balance, verify};
use storage::{Database, Error, Kind, SystemClock, migrate, new_id, on_pool};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::{each_database, records};

const ZONE: &str = "Europe/Berlin";
const NOW: &str = "2026-11-24T12:00:00Z";
/// A sponsored allowance, as both databases show it.
const SPONSORED: &str = "0194f0a0b0c07d0e8f00112233445566";

fn clock() -> SettableClock {
    SettableClock::at(NOW.parse().unwrap())
}

fn credits(count: i64) -> Credits {
    Credits::from_whole(count).unwrap()
}

/// A database with the tables of both, a time zone, and prices: 1 credit for 1000 input tokens, 2 for output.
async fn database(test: &TestDatabase) -> Database {
    let database = test.migrated().await.unwrap();
    settings::set(&database, "timezone", ZONE).await.unwrap();
    settings::set(&database, "base_credit_allowance", "1000").await.unwrap();
    write(&database, &price("openai", "gpt-test", 1_000_000)).await;
    database
}

fn price(provider: &str, model: &str, micro: i64) -> NewPrice {
    let rate = |micro| Rate::new(Credits::from_micro(micro), 1000);
    NewPrice {
        provider: ProviderName::new(provider).unwrap(),
        model: ModelId::new(model).unwrap(),
        name: format!("The {model}"),
        price: Price::new(rate(micro), rate(2 * micro)),
        max_output_tokens: None,
        context_tokens: None,
    }
}

async fn write(database: &Database, new: &NewPrice) {
    let (new, now) = (std::slice::from_ref(new), clock().now());
    prices::write(database, new, Write::Upsert, Source::Administrator, now).await.unwrap();
}

/// A row of the usage log: date (local time), user, provider, model, input, output, sponsored allowance.
type Logged<'a> = (&'a str, &'a str, &'a str, &'a str, i64, i64, Option<&'a str>);

/// Rows of the usage log as the original writes them.
async fn log(database: &Database, rows: &[Logged<'_>]) {
    let table = database.table("token_tracking_usage_log");
    for (date, user, provider, model, input, output, sponsored) in rows {
        let date = match database.kind() {
            Kind::Sqlite => format!("'{date}'"),
            Kind::Postgres => format!("TIMESTAMP '{date}' AT TIME ZONE '{ZONE}'"),
        };
        let sponsored = sponsored.map_or("NULL".into(), |id| format!("'{id}'"));
        let sql = format!(
            "INSERT INTO {table} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens, \
             sponsored_allowance_id) VALUES ({date}, '{user}', '{provider}', '{model}', {input}, {output}, {sponsored})"
        );
        database.run(sql).await.unwrap();
    }
}

async fn sponsor(database: &Database) {
    let table = database.table("token_tracking_sponsored_allowance");
    let sql = format!(
        "INSERT INTO {table} (id, name, sponsor_id, total_credit_limit, daily_credit_limit) \
         VALUES ('{SPONSORED}', 'course', 'dean', 1000, 20)"
    );
    database.run(sql).await.unwrap();
}

async fn sync(database: &Database) -> Synced {
    original::sync(database, &clock(), &mut |_| {}).await.unwrap()
}

async fn texts(database: &Database, sql: &str, table: &str) -> Vec<Option<String>> {
    let sql = sql.replace("{table}", &database.table(table));
    on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap())
}

async fn number(database: &Database, sql: &str, table: &str) -> i64 {
    let sql = sql.replace("{table}", &database.table(table));
    on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap())
}

async fn spent(database: &Database, key: &str) -> Credits {
    balance::account(database, &key.parse().unwrap()).await.unwrap().spent
}

async fn assert_clean(database: &Database) {
    let report = verify::verify(database).await.unwrap();
    assert_eq!(report.differences, []);
}

each_database!(rows_of_the_original_become_entries_once, async |test: TestDatabase| {
    let database = database(&test).await;
    sponsor(&database).await;
    let sponsored = Some(SPONSORED);
    log(
        &database,
        &[
            ("2025-02-19 23:59:59.999999", "ann", "OpenAI", "gpt-test", 1000, 500, None),
            ("2025-02-20 00:00:00.000000", "ann", "openai", "gpt-test", 1, 0, None),
            ("2025-02-20 00:00:01.000000", "ann", "openai", "gpt-test", 2000, 0, sponsored),
            ("2025-02-20 00:00:02.000000", "bob", "openai", "gpt-test", 0, 1000, sponsored),
            ("2025-02-20 00:00:03.000000", "bob", "elsewhere", "unknown", 7, 7, None),
            ("2025-02-20 00:00:04.000000", "", "openai", "gpt-test", 7, 7, None),
        ],
    )
    .await;
    let imported = sync(&database).await.usage;
    let unpriced = [(("elsewhere".to_owned(), "unknown".to_owned()), 1)].into();
    let charge = credits(6).plus(Credits::from_micro(1000)).unwrap();
    let sponsored = [(SPONSORED.parse().unwrap(), credits(4))].into();
    // As the zone of the server has it, where there is one: whatever the machine's is.
    let moved = imported.moved;
    assert_eq!(imported, Imported { rows: 5, charge, unpriced, unusable: 1, moved, sponsored });
    for (key, expected) in [
        ("user-day:2025-02-19:ann".to_owned(), credits(2)),
        ("user-day:2025-02-20:ann".to_owned(), Credits::from_micro(1000)),
        (format!("sponsored-user-day:2025-02-20:{SPONSORED}:ann"), credits(2)),
        (format!("sponsored-user-day:2025-02-20:{SPONSORED}:bob"), credits(2)),
        (format!("sponsored-total:{SPONSORED}"), credits(4)),
        ("user-day:2025-02-20:bob".to_owned(), Credits::ZERO),
    ] {
        assert_eq!(spent(&database, &key).await, expected, "{key}");
    }
    let kinds = texts(
        &database,
        "SELECT DISTINCT kind || ' ' || way_in || ' ' || outcome FROM {table}",
        "token_tracking_ledger",
    );
    assert_eq!(kinds.await, [Some("import original complete".to_owned())]);
    // In the order of time by id as well, and each marked in the log.
    let days = texts(&database, "SELECT day FROM {table} ORDER BY id LIMIT 2", "token_tracking_ledger").await;
    assert_eq!(days, [Some("2025-02-19".to_owned()), Some("2025-02-20".to_owned())]);
    let marks =
        texts(&database, "SELECT tracking_id FROM {table} ORDER BY log_date", "token_tracking_usage_log");
    let ids = texts(&database, "SELECT id FROM {table} ORDER BY id", "token_tracking_ledger").await;
    let marks = marks.await;
    assert_eq!((&marks[..5], marks[5].as_deref()), (&ids[..], Some("unusable")));
    assert_eq!(sync(&database).await, Synced::default(), "a second time there is nothing to do");
    assert_clean(&database).await;
});

each_database!(several_processes_enter_many_rows_once, async |test: TestDatabase| {
    let database = database(&test).await;
    let table = database.table("token_tracking_usage_log");
    let date = match database.kind() {
        Kind::Sqlite => "'2025-02-19 12:00:00.000000'",
        Kind::Postgres => "TIMESTAMPTZ '2025-02-19 12:00:00Z'",
    };
    let sql = format!(
        "INSERT INTO {table} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) \
         SELECT {date}, 'user' || (i % 7), 'openai', 'gpt-test', 1000, 0 FROM n"
    );
    database.run(sql).await.unwrap();
    let syncs = (0..3).map(|_| sync(&database));
    let rows: Vec<u64> =
        futures_util::future::join_all(syncs).await.into_iter().map(|synced| synced.usage.rows).collect();
    assert_eq!(rows.iter().sum::<u64>(), 9000, "{rows:?}");
    let entries =
        number(&database, "SELECT COUNT(*) FROM {table} WHERE charge = 1000000", "token_tracking_ledger");
    assert_eq!(entries.await, 9000);
    assert_clean(&database).await;
});

/// Settles a request of a user, or of a sponsored allowance, at that moment.
async fn settle(ledger: &Ledger, user: &str, sponsored: Option<&str>, at: &str, usage: Usage) -> RequestId {
    let zone = Zone::named(ZONE).unwrap();
    let started: Timestamp = at.parse().unwrap();
    let (day, user) = (zone.day(started), UserId::new(user).unwrap());
    let sponsored: Option<SponsoredId> = sponsored.map(|id| id.parse().unwrap());
    let account = match sponsored {
        Some(sponsored) => AccountKey::SponsoredUser { day, sponsored, user: user.clone() },
        None => AccountKey::User { day, user: user.clone() },
    };
    let record = RequestRecord {
        sponsored,
        model: ModelId::new("gpt-test").unwrap(),
        started_at: started.as_microsecond(),
        ..records::record(user.as_str(), day).unwrap()
    };
    let id = RequestId::new(new_id());
    let bid = Bid {
        accounts: vec![AccountLimit { account: account.clone(), limit: Some(credits(1_000_000)) }],
        quote: Quote::Estimate(credits(1)),
    };
    let request = HoldRequest { id, bid, record: record.clone(), wait: Duration::from_secs(10) };
    let HoldOutcome::Held(hold) = ledger.hold(request).await.unwrap() else { panic!("not held") };
    let settlement =
        Settlement { usage, ..records::settlement(id, record, vec![account], credits(1), started) };
    hold.settle(settlement.clone()).await.unwrap();
    // As an owner does that wakes up late and knows of more; and of less.
    let more = Usage::tokens(usage.input.saturating_add(5), usage.output.saturating_add(1));
    ledger.settle(Settlement { usage: more, charge: credits(2), ..settlement.clone() }).await.unwrap();
    ledger.settle(settlement).await.unwrap();
    id
}

each_database!(the_original_is_told_of_what_we_serve, async |test: TestDatabase| {
    let database = database(&test).await;
    sponsor(&database).await;
    let ledger = Ledger::open(&database).await.unwrap();
    let huge = Usage::tokens(3_000_000_000, 7);
    settle(&ledger, "ann", None, "2026-11-24T22:59:59.000001Z", Usage::tokens(1000, 500)).await;
    settle(&ledger, "bob", Some(SPONSORED), "2026-11-24T23:00:00Z", huge).await;
    // An allowance whose row is gone.
    settle(&ledger, "cid", Some("0194f0a0b0c07d0e8f00112233445599"), "2026-11-24T23:00:01Z", huge).await;
    let date = match database.kind() {
        Kind::Sqlite => "log_date".to_owned(),
        Kind::Postgres => format!("to_char(log_date AT TIME ZONE '{ZONE}', 'YYYY-MM-DD HH24:MI:SS.US')"),
    };
    let sql = format!(
        "SELECT {date} || ' ' || user_id || ' ' || provider || ' ' || model_id || ' ' || prompt_tokens || ' ' || \
           response_tokens || ' ' || COALESCE(REPLACE(CAST(sponsored_allowance_id AS TEXT), '-', ''), '-') \
         FROM {{table}} ORDER BY log_date, prompt_tokens DESC"
    );
    let rows: Vec<String> =
        texts(&database, &sql, "token_tracking_usage_log").await.into_iter().flatten().collect();
    assert_eq!(
        rows,
        [
            "2026-11-24 23:59:59.000001 ann openai gpt-test 1000 500 -".to_owned(),
            "2026-11-24 23:59:59.000001 ann openai gpt-test 5 1 -".into(),
            format!("2026-11-25 00:00:00.000000 bob openai gpt-test 2147483647 7 {SPONSORED}"),
            format!("2026-11-25 00:00:00.000000 bob openai gpt-test 5 1 {SPONSORED}"),
            "2026-11-25 00:00:01.000000 cid openai gpt-test 2147483647 7 -".into(),
            "2026-11-25 00:00:01.000000 cid openai gpt-test 5 1 -".into(),
        ],
        "what was more by a correction is told, what was less is not"
    );
    // Each is marked with its entry, so it does not come back as somebody else's.
    assert_eq!(sync(&database).await, Synced::default());
    let unknown = format!(
        "SELECT COUNT(*) FROM {{table}} WHERE tracking_id IS NULL OR tracking_id NOT IN (SELECT id FROM {})",
        database.table("token_tracking_ledger")
    );
    assert_eq!(number(&database, &unknown, "token_tracking_usage_log").await, 0);
    assert_clean(&database).await;
});

each_database!(what_the_original_writes_while_we_run_counts_for_us, async |test: TestDatabase| {
    let database = database(&test).await;
    let ledger = Ledger::open(&database).await.unwrap();
    settle(&ledger, "ann", None, NOW, Usage::tokens(1000, 0)).await;
    log(&database, &[("2026-11-24 13:00:00.000000", "ann", "openai", "gpt-test", 5000, 0, None)]).await;
    let synced = original::follow(&ledger, &clock()).await.unwrap();
    assert_eq!((synced.usage.rows, synced.usage.charge), (1, credits(5)));
    assert_eq!(spent(&database, "user-day:2026-11-24:ann").await, credits(6));
    // The writer remembers the account: what was imported is in its memory too, or read again.
    settle(&ledger, "ann", None, NOW, Usage::tokens(1000, 0)).await;
    assert_eq!(spent(&database, "user-day:2026-11-24:ann").await, credits(7));
    assert_eq!(original::follow(&ledger, &clock()).await.unwrap(), Synced::default());
    assert_clean(&database).await;
});

/// Runs a statement on the original's price table.
async fn by_hand(database: &Database, sql: &str) {
    database.run(sql.replace("{table}", &database.table("token_tracking_model_pricing"))).await.unwrap();
}

/// The price that holds, as `input per output per`, in microcredits and tokens.
async fn holds(database: &Database, provider: &str, model: &str) -> Option<Price> {
    let (provider, model) = (ProviderName::new(provider).unwrap(), ModelId::new(model).unwrap());
    let later = SystemClock.now().saturating_add(jiff::SignedDuration::from_hours(24)).unwrap();
    let found = prices::get(database, &model, Some(&provider), later).await.unwrap();
    found.into_iter().next().map(|priced| priced.price)
}

each_database!(prices_that_others_edit_become_ours, async |test: TestDatabase| {
    let database = database(&test).await;
    // A third of a microcredit can't be shown in whole credits; a cached rate not at all.
    let mut fine = price("openai", "fine", 333_334);
    fine.price.input = Rate::new(Credits::from_micro(1), 3_000_000_000);
    fine.price.cached_input = Some(Rate::new(Credits::from_micro(1), 1000));
    write(&database, &fine).await;
    assert_eq!(sync(&database).await, Synced::default(), "a rounded price is no edit");
    // The output is edited: the input keeps its digits, the cached rate stays.
    by_hand(
        &database,
        "UPDATE {table} SET output_cost_credits = 7, per_output_tokens = 10 WHERE id = 'fine'",
    )
    .await;
    assert_eq!(sync(&database).await.prices.changed, 1);
    let edited = holds(&database, "openai", "fine").await.unwrap();
    assert_eq!(edited, Price { output: Rate::new(credits(7), 10), ..fine.price.clone() });
    let sql = "INSERT INTO {table} VALUES ('new', 'OpenAI', NULL, 3, 1000, 6, 1000)";
    by_hand(&database, sql).await;
    assert_eq!(sync(&database).await.prices.adopted, 1);
    let of_three = Rate::new(credits(3), 1000);
    assert_eq!(holds(&database, "openai", "new").await.unwrap().input, of_three);
    let spelt =
        texts(&database, "SELECT provider FROM {table} WHERE id = 'new'", "token_tracking_model_pricing");
    assert_eq!(spelt.await, [Some("OpenAI".to_owned())], "the row stays as it was written");
    // Deleted there; and nothing else happens, however often it is looked at.
    by_hand(&database, "DELETE FROM {table} WHERE id = 'new'").await;
    assert_eq!(sync(&database).await.prices.ended, 1);
    assert_eq!(holds(&database, "openai", "new").await, None);
    assert_eq!(sync(&database).await, Synced::default());
    // And added again.
    by_hand(&database, sql).await;
    assert_eq!(sync(&database).await.prices.adopted, 1);
    assert_eq!(holds(&database, "openai", "new").await.unwrap().input, of_three);
    // What can't be a price is put back, or left alone.
    by_hand(&database, "UPDATE {table} SET per_input_tokens = 0 WHERE id = 'gpt-test'").await;
    by_hand(&database, "INSERT INTO {table} (id, provider) VALUES ('half', 'openai')").await;
    assert_eq!(sync(&database).await.prices.restored, 1);
    assert_eq!(sync(&database).await, Synced::default());
    let kept =
        "SELECT COUNT(*) FROM {table} WHERE (id = 'gpt-test' AND per_input_tokens = 1000) OR id = 'half'";
    assert_eq!(number(&database, kept, "token_tracking_model_pricing").await, 2);
    let wanted = audit::Wanted { action: Some("database sync".into()), ..audit::Wanted::default() };
    let noted = audit::list(&database, &wanted).await.unwrap();
    let subjects: Vec<&str> = noted.iter().map(|change| change.subject.as_str()).collect();
    assert_eq!(subjects, ["openai/fine", "openai/new", "openai/new", "openai/new"]);
});

each_database!(ids_that_collide_between_providers, async |test: TestDatabase| {
    let database = database(&test).await;
    // Both have `gpt-test`; the row is of the first.
    write(&database, &price("azure", "gpt-test", 5_000_000)).await;
    assert_eq!(sync(&database).await, Synced::default());
    by_hand(&database, "UPDATE {table} SET input_cost_credits = 9 WHERE id = 'gpt-test'").await;
    assert_eq!(sync(&database).await.prices.changed, 1);
    let input =
        async |provider: &str| holds(&database, provider, "gpt-test").await.map(|price| price.input.credits);
    assert_eq!((input("openai").await, input("azure").await), (Some(credits(9)), Some(credits(5))));
    // The row is given to the other: its price is edited, the first one's stays.
    by_hand(&database, "UPDATE {table} SET provider = 'azure' WHERE id = 'gpt-test'").await;
    assert_eq!(sync(&database).await.prices.changed, 1);
    assert_eq!((input("openai").await, input("azure").await), (Some(credits(9)), Some(credits(9))));
    // Deleted: nobody knows whose was meant, so it comes back.
    by_hand(&database, "DELETE FROM {table} WHERE id = 'gpt-test'").await;
    assert_eq!(sync(&database).await.prices.restored, 1);
    assert_eq!(sync(&database).await, Synced::default());
    assert_eq!((input("openai").await, input("azure").await), (Some(credits(9)), Some(credits(9))));
});

each_database!(the_way_back_leaves_what_is_the_originals, async |test: TestDatabase| {
    let database = database(&test).await;
    log(&database, &[("2025-02-19 12:00:00.000000", "ann", "openai", "gpt-test", 1000, 0, None)]).await;
    sync(&database).await;
    settings::set(&database, "hold_wait", "3").await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    settle(&ledger, "ann", None, NOW, Usage::tokens(1000, 0)).await;
    let mut out = Vec::new();
    let refused = original::downgrade(&database, &mut out, || Ok(())).await.unwrap_err();
    let process = format!("process {}", std::process::id());
    assert!(refused.to_string().contains(&process) && out.is_empty(), "{refused}");
    ledger.resign().await.unwrap();
    let failing = original::downgrade(&database, &mut out, || Err(std::io::Error::other("full"))).await;
    assert!(failing.unwrap_err().to_string().contains("nothing was removed"));
    migrate::require_current(&database).await.unwrap();
    out.clear();
    let removed = original::downgrade(&database, &mut out, || Ok(())).await.unwrap();
    assert!(removed.tables.contains(&("token_tracking_ledger".to_owned(), 4)), "{removed:?}");
    assert_eq!(removed.settings, ["hold_wait", "timezone"]);
    let lines: Vec<serde_json::Value> = out
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let of = |table: &str| lines.iter().filter(|line| line["table"] == table).count();
    assert_eq!(
        (of("token_tracking_ledger"), of("token_tracking_usage_log"), of("token_tracking_base_settings")),
        (4, 3, 2)
    );
    let status = original::status(&database).await.unwrap();
    assert_eq!((status.schema.found, status.original), (0, Revision::Head));
    let left: Vec<&str> = status.tables.iter().map(|(table, _)| table.as_str()).collect();
    assert_eq!(left.len(), 7, "{left:?}");
    // And forward again: what we had served is imported as the original's.
    migrate::migrate(&database).await.unwrap();
    settings::set(&database, "timezone", ZONE).await.unwrap();
    let again = sync(&database).await;
    assert_eq!((again.prices.adopted, again.usage.rows), (1, 3));
    assert_clean(&database).await;
});

/// The original's tables as each of its migrations leaves them.
fn states(kind: Kind) -> Vec<(&'static str, String)> {
    let time = if kind == Kind::Sqlite { "DATETIME" } else { "TIMESTAMP WITH TIME ZONE" };
    let steps = [
        ("99fb3ad5e0e7", format!("CREATE TABLE {{}}usage_log (log_date {time}, user_id VARCHAR(255), provider VARCHAR(255), model_id VARCHAR(255), prompt_tokens INTEGER, response_tokens INTEGER);")),
        ("6099739cae0b", "CREATE TABLE {}model_pricing (id VARCHAR(255) NOT NULL PRIMARY KEY, provider VARCHAR(255), name VARCHAR(255), input_cost_credits INTEGER, per_input_tokens INTEGER, output_cost_credits INTEGER, per_output_tokens INTEGER);".into()),
        ("c46ceb8649c3", "CREATE TABLE {}credit_group (id UUID NOT NULL PRIMARY KEY, name VARCHAR(255), max_credit INTEGER, description VARCHAR(255)); CREATE TABLE {}credit_group_user (credit_group_id UUID, user_id VARCHAR(255));".into()),
        ("036cd1c4af2d", "CREATE TABLE {}base_settings (setting_key VARCHAR(255) NOT NULL PRIMARY KEY, setting_value VARCHAR(255), description VARCHAR(255));".into()),
        ("10d29ec2fd0a", format!("CREATE TABLE {{}}sponsored_allowance (id UUID NOT NULL PRIMARY KEY, creation_date {time} NOT NULL, name VARCHAR(255), sponsor_id VARCHAR(255), total_credit_limit INTEGER NOT NULL, daily_credit_limit INTEGER); CREATE TABLE {{}}sponsored_allowance_base_models (sponsored_allowance_id UUID, base_model_id VARCHAR(255));")),
    ];
    let mut all = String::new();
    steps
        .into_iter()
        .map(|(revision, step)| {
            all.push_str(&step);
            (revision, all.clone())
        })
        .collect()
}

async fn from_each_state(make: impl AsyncFn() -> TestDatabase, kind: Kind) {
    for (revision, sql) in states(kind) {
        for noted in [true, false] {
            let test = make().await;
            let database = test.open().await.unwrap();
            let prefix = match kind {
                Kind::Sqlite => "token_tracking_".to_owned(),
                Kind::Postgres => format!("\"{}\".token_tracking_", database.schema()),
            };
            database.run(sql.replace("{}", &prefix)).await.unwrap();
            if noted {
                let note = format!(
                    "CREATE TABLE {prefix}alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY); \
                     INSERT INTO {prefix}alembic_version VALUES ('{revision}')"
                );
                database.run(note).await.unwrap();
            }
            let row =
                format!("INSERT INTO {prefix}usage_log VALUES (NULL, 'ann', 'openai', 'gpt-test', 1, 2)");
            database.run(row).await.unwrap();
            let before = original::status(&database).await.unwrap();
            assert_eq!(before.original, Revision::Older(revision.into()));
            assert_eq!(before.not_imported, 1);
            migrate::migrate(&database).await.unwrap();
            let after = original::status(&database).await.unwrap();
            assert_eq!((&after.original, after.missing.len()), (&Revision::Head, 0), "{revision}: {after:?}");
            let version =
                texts(&database, "SELECT version_num FROM {table}", "token_tracking_alembic_version").await;
            assert_eq!(version, [Some("a118dd7f6b7f".to_owned())]);
            assert_eq!(sync(&database).await.usage.unusable, 1);
        }
    }
}

#[tokio::test]
async fn every_state_of_the_original_on_sqlite() {
    from_each_state(async || TestDatabase::sqlite().await.unwrap(), Kind::Sqlite).await;
}

#[tokio::test]
async fn every_state_of_the_original_on_postgres() {
    from_each_state(async || TestDatabase::postgres().await.unwrap(), Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_on_one_schema_are_enough_and_a_missing_one_is_named() {
    let test = TestDatabase::postgres().await.unwrap();
    let owner = test.open().await.unwrap();
    let (schema, role) = (owner.schema().to_owned(), format!("role_{}", new_id().simple()));
    owner.run(format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}")).await.unwrap();
    let log = owner.table("token_tracking_usage_log");
    owner.run(format!("CREATE TABLE {log} (log_date TIMESTAMPTZ, user_id VARCHAR(255))")).await.unwrap();
    let url = test.environment()[0].1.replace("tracking@", &format!("{role}@"));
    let url = storage::DatabaseUrl::parse(&url).unwrap().with_schema(Some(schema.clone()));
    let limited = Database::open(&url).await.unwrap();
    let Err(Error::NoRights { what }) = migrate::migrate(&limited).await else { panic!("it has no rights") };
    assert!(what.contains(&format!("CREATE on the schema {schema}")), "{what}");
    assert!(what.contains(&format!("ownership of the table {schema}.token_tracking_usage_log")), "{what}");
    owner.run(format!("DROP TABLE {log}; GRANT CREATE ON SCHEMA {schema} TO {role}")).await.unwrap();
    migrate::migrate(&limited).await.unwrap();
    let ledger = Ledger::open(&limited).await.unwrap();
    settings::set(&limited, "timezone", ZONE).await.unwrap();
    settle(&ledger, "ann", None, NOW, Usage::tokens(1, 1)).await;
    assert_eq!(original::follow(&ledger, &clock()).await.unwrap(), Synced::default());
    ledger.resign().await.unwrap();
    original::downgrade(&limited, &mut Vec::new(), || Ok(())).await.unwrap();
}

each_database!(strange_rows_hold_up_no_others, async |test: TestDatabase| {
    let database = database(&test).await;
    let log = database.table("token_tracking_usage_log");
    let mut users = vec!["a\u{1}b", "\u{1b}[31m", "", "ann\u{7f}", "\u{9b}"];
    let mut dates = vec!["2026-11-24 10:00:00"];
    match database.kind() {
        Kind::Sqlite => dates.extend(["yesterday", "99999-01-01 00:00:00", ""]),
        Kind::Postgres => {
            dates.extend(["infinity", "-infinity", "294276-12-31 00:00:00", "4713-01-01 00:00:00 BC"])
        }
    }
    let good = "ann";
    users.push(good);
    for date in &dates {
        for user in &users {
            let row = format!(
                "INSERT INTO {log} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens) \
                 VALUES ('{date}', '{user}', 'openai', 'gpt-test', -5, 1000)"
            );
            database.run(row).await.unwrap();
        }
    }
    // As Python writes it, where SQLite takes it.
    if database.kind() == Kind::Sqlite {
        let long = "x".repeat(300);
        for user in ["'a' || char(0) || 'b'", &format!("'{long}'")] {
            database
                .run(format!("INSERT INTO {log} VALUES ('2026-11-24 10:00:00', {user}, 'openai', 'gpt-test', 1, 1, NULL, NULL)"))
                .await
                .unwrap();
        }
    }
    let done = sync(&database).await.usage;
    assert_eq!((done.rows, done.charge), (1, credits(2)), "{done:?}");
    assert_eq!(sync(&database).await, Synced::default(), "each is looked at once");
    // A name in its price table that does not show is cleaned once, and is no edit ever after.
    by_hand(&database, "UPDATE {table} SET name = 'GPT \u{1b}[31m' WHERE id = 'gpt-test'").await;
    assert_eq!(sync(&database).await.prices.changed, 1);
    let model = (ProviderName::new("openai").unwrap(), ModelId::new("gpt-test").unwrap());
    let later = SystemClock.now().saturating_add(jiff::SignedDuration::from_hours(24)).unwrap();
    let found = prices::get(&database, &model.1, Some(&model.0), later).await.unwrap();
    assert_eq!(found[0].name, "GPT \u{fffd}[31m");
    assert_eq!(sync(&database).await, Synced::default());
});
