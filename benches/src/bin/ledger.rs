//! The ledger: hold and settle over two accounts each, beside a loop that commits one row at a time.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints, and stops when something is wrong"
)]
#![expect(clippy::float_arithmetic, reason = "ratios of measurements, no money")]

use std::time::{Duration, Instant};

use accounting::{
    AccountKey, AccountLimit, Bid, Credits, Day, ModelId, Policy, PriceVersion, ProviderName, Quote,
    RequestId, SponsoredId, Usage, UserId,
};
use benches::{Measured, machine, short, table, wanted};
use futures_util::future::join_all;
use storage::ledger::{HoldOutcome, HoldRequest, Ledger, Outcome, RequestRecord, Settlement, WayIn};
use storage::{Database, Kind, Pool, new_id};
use testing::databases::TestDatabase;

const RUN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);
const USERS: usize = 1000;
const ROWS: [i64; 2] = [1_000, 1_000_000];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("Machine: {}\n", machine());
    println!(
        "Operations a second (a hold and its settlement are two), two accounts each, all indexes in place.\n"
    );
    let mut rates = table(&[
        "database, users",
        "1 task",
        "8 tasks",
        "64 tasks",
        "hold p50/p99 ms, 1 task",
        "hold p50/p99 ms, 64 tasks",
        "hold + settle ms, median, 1 task",
        "64 tasks / one-row commits",
    ]);
    let mut growth = table(&["database", "1 thousand rows", "1 million rows", "ratio"]);
    runtime.block_on(async {
        for test in databases().await {
            let database = test.migrated().await.unwrap();
            let name =
                if database.kind() == Kind::Sqlite { "SQLite (synchronous=NORMAL)" } else { "PostgreSQL" };
            let one_row = one_row_commits(&database).await;
            rates.add_row([
                format!("{name}, one-row commits"),
                short(one_row[0]),
                short(one_row[1]),
                short(one_row[2]),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ]);
            let limit = one_row.iter().copied().fold(0.0, f64::max);
            for (users, hot) in [("many users", false), ("one hot user", true)] {
                let mut row = vec![format!("{name}, {users}")];
                let (mut holds, mut pairs, mut last) = (Vec::new(), 0.0, 0.0);
                for tasks in [1, 8, 64] {
                    let (mut hold, mut pair) = run(&database, tasks, hot, RUN).await;
                    last = pair.rate(2);
                    row.push(short(last));
                    if tasks != 8 {
                        holds.push(format!("{}/{}", short(hold.percentile(50)), short(hold.percentile(99))));
                    }
                    if tasks == 1 {
                        pairs = pair.percentile(50);
                    }
                }
                row.extend(holds);
                row.push(short(pairs));
                row.push(short(last / limit));
                rates.add_row(row);
            }
            let mut by_rows = Vec::new();
            for rows in ROWS {
                fill(&database, rows).await;
                by_rows.push(run(&database, 64, false, RUN).await.1.rate(2));
            }
            growth.add_row([
                name.to_owned(),
                short(by_rows[0]),
                short(by_rows[1]),
                short(by_rows[1] / by_rows[0]),
            ]);
            let verification = storage::reports::verify::verify(&database).await.unwrap();
            assert!(verification.holds == 0, "holds are left");
            println!(
                "{name}: verify over {} rows: {} differences",
                verification.entries,
                verification.differences.len()
            );
        }
    });
    println!("\n{rates}\n\nOperations a second at 64 tasks, by rows in the ledger:\n\n{growth}");
}

/// Both databases, or those that arguments name.
async fn databases() -> Vec<TestDatabase> {
    let mut databases = Vec::new();
    if wanted("sqlite") {
        databases.push(TestDatabase::sqlite().await.unwrap());
    }
    if wanted("postgres") {
        databases.push(TestDatabase::postgres().await.unwrap());
    }
    databases
}

/// Hold and settle in a number of tasks for a while; latencies of the holds, and of holds with their settlements.
async fn run(database: &Database, tasks: usize, hot: bool, time: Duration) -> (Measured, Measured) {
    let ledger = Ledger::open(database).await.unwrap();
    work(&ledger, tasks, hot, WARM_UP).await;
    work(&ledger, tasks, hot, time).await
}

async fn work(ledger: &Ledger, tasks: usize, hot: bool, time: Duration) -> (Measured, Measured) {
    let began = Instant::now();
    let all = join_all((0..tasks).map(|task| {
        let ledger = ledger.clone();
        let tracker = tokio_util::task::TaskTracker::new();
        tracker.spawn(async move {
            let (mut holds, mut pairs) = (Vec::new(), Vec::new());
            let mut number = task * 7919;
            while began.elapsed() < time {
                number += 1;
                let user = if hot { 0 } else { number % USERS };
                let request = request(user);
                let (record, accounts) = (request.record.clone(), keys(user).to_vec());
                let start = Instant::now();
                let HoldOutcome::Held(hold) = ledger.hold(request).await.unwrap() else { panic!("refused") };
                holds.push(start.elapsed());
                let settlement = settlement(hold.id(), record, accounts);
                hold.settle(settlement).await.unwrap();
                pairs.push(start.elapsed());
            }
            (holds, pairs)
        })
    }))
    .await;
    let took = began.elapsed();
    let (mut holds, mut pairs) =
        (Measured { took, ..Measured::default() }, Measured { took, ..Measured::default() });
    for one in all {
        let (hold, pair) = one.unwrap();
        holds.latencies.extend(hold);
        pairs.latencies.extend(pair);
    }
    (holds, pairs)
}

fn keys(user: usize) -> [AccountKey; 2] {
    let day: Day = "2026-11-24".parse().unwrap();
    let user = UserId::new(format!("user-{user}")).unwrap();
    let sponsored =
        SponsoredId::new("0190a1b2c3d47e5f8a9b0c1d2e3f4a5b".parse::<SponsoredId>().unwrap().uuid());
    [AccountKey::User { day, user: user.clone() }, AccountKey::SponsoredUser { day, sponsored, user }]
}

fn request(user: usize) -> HoldRequest {
    let accounts = keys(user).map(|account| AccountLimit { account, limit: Some(Credits::MAX) });
    let record = RequestRecord {
        user: UserId::new(format!("user-{user}")).unwrap(),
        sponsored: None,
        day: "2026-11-24".parse().unwrap(),
        provider: ProviderName::new("openai").unwrap(),
        model: ModelId::new("gpt-4o").unwrap(),
        price_version: Some(PriceVersion(1)),
        policy: Policy::OneCredit,
        way_in: WayIn::Gateway,
        task: None,
        chat_id: Some("478f63cd-dc9e-4814-bbdc-6b2e8ad81f5f".into()),
        message_id: Some("3ceb8588-9983-4f1f-b815-970e1cd40482".into()),
        workspace_model: None,
        instance: None,
        started_at: 1_795_000_000_000_000,
        input_tokens: 100,
    };
    let quote = Quote::Estimate(Credits::from_micro(5000));
    let bid = Bid { accounts: accounts.to_vec(), quote };
    HoldRequest { id: RequestId::new(new_id()), bid, record, wait: Duration::from_secs(20) }
}

fn settlement(id: RequestId, record: RequestRecord, accounts: Vec<AccountKey>) -> Settlement {
    Settlement {
        id,
        record,
        accounts,
        answered_model: None,
        price_version: None,
        usage: Usage::tokens(100, 200),
        charge: Credits::from_micro(2),
        estimated: None,
        outcome: Outcome::Complete,
        provider_request_id: Some("req_0123456789".into()),
        first_byte_at: None,
        ended_at: jiff_now(),
    }
}

fn jiff_now() -> jiff::Timestamp {
    accounting::Clock::now(&storage::SystemClock)
}

/// Commits of one row each, with 1, 8 and 64 writers: what the engine itself can do. SQLite has one writer at a time, so
/// its number is that of one connection on one thread.
async fn one_row_commits(database: &Database) -> [f64; 3] {
    match database.pool() {
        Pool::Sqlite(_) => {
            let path = database.url().path().unwrap().to_path_buf();
            let rate = tokio::task::spawn_blocking(move || {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.execute_batch("PRAGMA synchronous = NORMAL; CREATE TABLE one_row (id INTEGER PRIMARY KEY, text TEXT)").unwrap();
                let mut insert = connection.prepare("INSERT INTO one_row (text) VALUES (?1)").unwrap();
                let (began, mut count) = (Instant::now(), 0_u32);
                while began.elapsed() < RUN {
                    insert.execute(["a row of some length, as rows have"]).unwrap();
                    count += 1;
                }
                f64::from(count) / began.elapsed().as_secs_f64()
            })
            .await
            .unwrap();
            [rate; 3]
        }
        Pool::Postgres(_) => {
            let name = database.table("one_row");
            database.run(format!("CREATE TABLE {name} (id BIGSERIAL PRIMARY KEY, text TEXT)")).await.unwrap();
            let mut rates = [0.0; 3];
            for (rate, writers) in rates.iter_mut().zip([1_u32, 8, 64]) {
                let server = std::env::var("OWUI_TEST_POSTGRES").unwrap();
                let pool = sqlx::postgres::PgPoolOptions::new()
                    .max_connections(writers)
                    .connect(&server)
                    .await
                    .unwrap();
                let sql = format!("INSERT INTO {name} (text) VALUES ($1)");
                let began = Instant::now();
                let tracker = tokio_util::task::TaskTracker::new();
                let all = join_all((0..writers).map(|_| {
                    let (pool, sql) = (pool.clone(), sql.clone());
                    tracker.spawn(async move {
                        let mut connection = pool.acquire().await.unwrap();
                        let mut count = 0_u32;
                        while began.elapsed() < RUN {
                            let insert = sqlx::query(sqlx::AssertSqlSafe(sql.clone()))
                                .bind("a row of some length, as rows have");
                            insert.execute(&mut *connection).await.unwrap();
                            count += 1;
                        }
                        count
                    })
                }))
                .await;
                let count: u32 = all.into_iter().map(Result::unwrap).sum();
                *rate = f64::from(count) / began.elapsed().as_secs_f64();
                pool.close().await;
            }
            rates
        }
    }
}

/// Fills the ledger with rows of other days, and lets the database recover from that: what a bulk insert leaves to be
/// done later is no part of what requests cost.
async fn fill(database: &Database, rows: i64) {
    let ledger = database.table("token_tracking_ledger");
    let series = match database.kind() {
        Kind::Sqlite => format!(
            "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {rows}) "
        ),
        Kind::Postgres => format!("WITH series (n) AS (SELECT generate_series(1, {rows})) "),
    };
    let zeros = "0, ".repeat(10);
    let sql = format!(
        "{series} INSERT INTO {ledger} (id, kind, user_id, accounts, day, provider, model, input_tokens, cached_input_tokens, \
           cache_write_tokens, cache_write_long_tokens, input_audio_tokens, output_tokens, reasoning_tokens, \
           output_audio_tokens, images, calls, charge, outcome, policy, over_hold, way_in, started_at, ended_at) \
         SELECT 'filler-{rows}-' || n, 'request', 'user-' || (n % 5000), '[]', '2026-10-' || (n % 28), 'openai', 'gpt-4o', {zeros} 0, \
           'complete', 'one_credit', 0, 'gateway', n, n FROM series"
    );
    database.run(sql).await.unwrap();
    let afterwards = match database.kind() {
        Kind::Sqlite => ["PRAGMA wal_checkpoint(TRUNCATE)".to_owned()].to_vec(),
        Kind::Postgres => [format!("VACUUM ANALYZE {ledger}"), "CHECKPOINT".into()].to_vec(),
    };
    for sql in afterwards {
        database.run(sql).await.unwrap();
    }
}
