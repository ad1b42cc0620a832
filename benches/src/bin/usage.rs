//! Reports over a large ledger: `usage [ROWS] [sqlite|postgres]`, by default a million rows on both databases.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops when something is wrong"
)]
#![expect(clippy::float_arithmetic, reason = "rates of measurements, no money")]
#![expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use benches::{machine, short, table};
use jiff::{SignedDuration, Timestamp};
use storage::reports::export::{self, Entries, Value};
use storage::reports::usage::{By, Question, usage};
use storage::reports::verify::verify;
use storage::{Database, Error, Kind, rollup};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;

/// A year of a university: three thousand people, of whom a third asks something on a day.
const DAYS: i64 = 365;
const USERS: i64 = 3000;
const BEGIN: &str = "2025-09-01T00:00:00Z";

fn main() {
    let rows: i64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let only = |kind: &str| {
        let named: Vec<String> =
            std::env::args().skip(1).filter(|argument| argument.parse::<i64>().is_err()).collect();
        named.is_empty() || named.iter().any(|name| name == kind)
    };
    println!("Machine: {}\n\n{rows} rows of the ledger over {DAYS} days, seconds:\n", machine());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut measured = table(&["what", "SQLite", "PostgreSQL"]);
    let (mut sqlite, mut postgres) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        if only("sqlite") {
            sqlite = run(TestDatabase::sqlite().await.unwrap(), rows).await;
        }
        if only("postgres") {
            postgres = run(TestDatabase::postgres().await.unwrap(), rows).await;
        }
    });
    let names = sqlite.iter().chain(&postgres).map(|(name, _)| *name).collect::<Vec<_>>();
    for (index, name) in names.iter().enumerate().take(sqlite.len().max(postgres.len())) {
        let cell = |of: &[(&str, String)]| of.get(index).map(|(_, value)| value.clone()).unwrap_or_default();
        measured.add_row([(*name).to_owned(), cell(&sqlite), cell(&postgres)]);
    }
    println!("{measured}");
}

async fn run(test: TestDatabase, rows: i64) -> Vec<(&'static str, String)> {
    let database = test.migrated().await.unwrap();
    let mut results: Vec<(&'static str, String)> = Vec::new();
    let mut note =
        |name: &'static str, began: Instant| results.push((name, short(began.elapsed().as_secs_f64())));
    let began = Instant::now();
    fill(&database, rows).await;
    note("making the rows", began);
    let begin: Timestamp = BEGIN.parse().unwrap();
    // The last two days are open, as they are in the morning.
    let clock = SettableClock::at(begin + SignedDuration::from_hours(24 * (DAYS - 1) + 8));
    let began = Instant::now();
    let days = rollup::roll_up(&database, &clock, None, |_, _| {}).await.unwrap();
    note("roll-up of all days", began);
    let memory_before = peak();
    let by = |by: Vec<By>| Question { by, ..Question::default() };
    let month = Question {
        from: Some("2026-05-01".parse().unwrap()),
        to: Some("2026-05-31".parse().unwrap()),
        ..by(vec![By::User])
    };
    for (name, question) in [
        ("by user", by(vec![By::User])),
        ("by model", by(vec![By::Model])),
        ("by provider", by(vec![By::Provider])),
        ("by sponsor", by(vec![By::Sponsor])),
        ("by task", by(vec![By::Task])),
        ("by day", by(vec![By::Day])),
        ("by month and model", by(vec![By::Month, By::Model])),
        ("one user by day", Question { user: Some("user-00000042".into()), ..by(vec![By::Day]) }),
        ("a month by user", month),
    ] {
        let began = Instant::now();
        let report = usage(&database, &question).await.unwrap();
        note(name, began);
        assert!(!report.rows.is_empty());
    }
    let began = Instant::now();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let mut line = String::new();
    let each = move |values: &[Value<'_>]| {
        use std::fmt::Write;
        counted.fetch_add(1, Ordering::Relaxed);
        line.clear();
        for value in values {
            let _ = match value {
                Value::Nothing => Ok(()),
                Value::Text(text) => write!(line, "{text},"),
                Value::Number(number) => write!(line, "{number},"),
                Value::Credits(credits) => write!(line, "{credits},"),
                Value::Time(time) => write!(line, "{time},"),
            };
        }
        Ok::<(), Error>(())
    };
    export::entries(&database, &Question::default(), Entries::Usage, each).await.unwrap();
    let took = began.elapsed().as_secs_f64();
    note("export of everything", began);
    let exported = count.load(Ordering::Relaxed);
    let memory_after = peak();
    let began = Instant::now();
    let verification = verify(&database).await.unwrap();
    note("verify", began);
    assert!(verification.is_clean(), "the books are wrong");
    let size = "SELECT CAST(COUNT(*) AS BIGINT) FROM ";
    let sql = format!("{size}{}", database.table("token_tracking_rollup"));
    let summed: i64 = storage::on_pool!(database, pool => {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
    });
    results.push(("export, rows a second", short(exported as f64 / took)));
    results.push(("rows of the roll-up", format!("{summed} for {days} days")));
    results.push((
        "peak memory before reports, and after the export, MiB",
        format!("{memory_before}, {memory_after}"),
    ));
    results
}

/// Rows made in the database itself. Each user has a favourite model, and works on every third day.
async fn fill(database: &Database, rows: i64) {
    let begin: Timestamp = BEGIN.parse().unwrap();
    let begin = begin.as_millisecond();
    let step = DAYS * 86_400_000 * 1000 / rows;
    let (ledger, account) =
        (database.table("token_tracking_ledger"), database.table("token_tracking_account"));
    let (hex, day, series) = match database.kind() {
        Kind::Sqlite => (
            "printf('%012x', ms) || printf('7%019x', n)",
            "date(ms / 1000, 'unixepoch')",
            "WITH RECURSIVE numbers (n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {to})",
        ),
        Kind::Postgres => (
            "lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(n), 19, '0')",
            "to_char(to_timestamp(ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
            "WITH numbers (n) AS (SELECT CAST(generate_series({from}, {to} - 1) AS BIGINT))",
        ),
    };
    // Models in the order of favour; a task has a model of its own.
    let model = "CASE WHEN task IS NOT NULL THEN 'task-model' WHEN n % 5 = 0 THEN 'model-' || ((n / 5) % 12) \
                 ELSE 'model-' || (u % 12) END";
    let portion = 500_000;
    let mut from = 0;
    while from < rows {
        let to = rows.min(from + portion);
        let series = series.replace("{from}", &from.to_string()).replace("{to}", &to.to_string());
        let sql = format!(
            "INSERT INTO {ledger} (id, kind, user_id, sponsored_id, accounts, day, provider, model, price_version, \
               input_tokens, cached_input_tokens, cache_write_tokens, cache_write_long_tokens, input_audio_tokens, \
               output_tokens, reasoning_tokens, output_audio_tokens, images, calls, charge, estimated, outcome, policy, \
               over_hold, way_in, task, chat_id, message_id, provider_request_id, started_at, first_byte_at, ended_at) \
             {series}, \
             moments AS (SELECT n, {begin} + n * {step} / 1000 AS ms FROM numbers), \
             days AS (SELECT n, ms, {day} AS day, (ms / 86400000) % 3 AS third FROM moments), \
             users AS (SELECT n, ms, day, ((n * 7919) % {USERS}) / 3 * 3 + third AS u, \
               CASE n % 4 WHEN 1 THEN 'title_generation' WHEN 2 THEN 'tags_generation' END AS task FROM days), \
             named AS (SELECT n, ms, day, u, task, 'user-' || substr('0000000' || u, -8) AS name, {model} AS model FROM users) \
             SELECT {hex}, 'request', name, \
               CASE WHEN u % 10 = 0 THEN '0198b3c4d5e6718293a4b5c6d7e8f90' || (u % 5) END, \
               '[\"user-day:' || day || ':' || name || '\"]', day, 'provider-' || substr(model, -1), model, 1, \
               n % 4000, n % 400, 0, 0, 0, n % 900, n % 90, 0, 0, 1, n % 1000000, \
               CASE WHEN n % 20 = 0 THEN 'counted' END, 'complete', 'one_credit', 0, 'gateway', task, \
               '3f2a8c64-1b7e-4d5a-9c0f-' || substr('00000000000' || n, -12), \
               '9b1d7e52-6c3f-4a8e-8d2b-' || substr('00000000000' || n, -12), \
               'chatcmpl-' || n, ms * 1000, ms * 1000 + 400000, ms * 1000 + 9000000 FROM named",
        );
        let sql = match database.kind() {
            Kind::Sqlite => sql,
            // There, `substr` does not count from the end.
            Kind::Postgres => sql
                .replace("substr('0000000' || u, -8)", "lpad(CAST(u AS TEXT), 8, '0')")
                .replace("substr('00000000000' || n, -12)", "lpad(CAST(n AS TEXT), 12, '0')")
                .replace("substr(model, -1)", "right(model, 1)"),
        };
        database.run(sql).await.unwrap();
        from = to;
    }
    database
        .run(format!(
            "INSERT INTO {account} (key, kind, user_id, day, spent) \
             SELECT 'user-day:' || day || ':' || user_id, 'user-day', user_id, day, SUM(charge) FROM {ledger} \
             GROUP BY day, user_id"
        ))
        .await
        .unwrap();
    if database.kind() == Kind::Postgres {
        database.run(format!("ANALYZE {ledger}")).await.unwrap();
    }
}

/// The most memory that this process has had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
