//! What it costs to save the progress of a thousand moving streams: processor time of this process and of PostgreSQL, and the
//! latency of holds beside it. Beside it: a row for each stream, written as often.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints, and stops when something is wrong"
)]
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "ratios of measurements, no money")]

use std::path::Path;
use std::time::{Duration, Instant};

use accounting::{AccountKey, AccountLimit, Bid, Credits, Day, Quote, RequestId, Usage, UserId};
use benches::{Measured, machine, short, table, wanted};
use futures_util::future::join_all;
use storage::ledger::{Hold, HoldOutcome, HoldRequest, Ledger, Progress};
use storage::{Database, Kind, Pool, new_id};
use testing::databases::TestDatabase;
use testing::records;

const STREAMS: usize = 1000;
/// As the heartbeat does it.
const SAVE: Duration = Duration::from_millis(250);
const BEAT: u32 = 8;
const WINDOW: Duration = Duration::from_secs(5);
/// Each way has so many windows, in turns.
const ROUNDS: usize = 4;
/// Pause between two holds.
const PACE: Duration = Duration::from_millis(5);
/// A tick of the kernel's clock for processor time.
const TICK: f64 = 0.01;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    LeaseAlone,
    OneText,
    RowEach,
}

const WAYS: [(Way, &str); 3] = [
    (Way::LeaseAlone, "the lease alone"),
    (Way::OneText, "one text, and holds every 2 s"),
    (Way::RowEach, "each hold every 0.25 s"),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("Machine: {}\n\n{STREAMS} moving streams, saved every {SAVE:?}.\n", machine());
    let mut rows = table(&[
        "database, way",
        "processor time, % of a core",
        "hold p50 ms",
        "p99 ms",
        "saving ms, median",
    ]);
    runtime.block_on(async {
        for (kind, name) in [("sqlite", "SQLite"), ("postgres", "PostgreSQL")] {
            if !wanted(kind) {
                continue;
            }
            let test =
                if kind == "sqlite" { TestDatabase::sqlite().await } else { TestDatabase::postgres().await };
            // Its files are there as long as it is.
            let test = test.unwrap();
            let database = test.migrated().await.unwrap();
            let ledger = Ledger::open(&database).await.unwrap();
            let streams: Vec<Hold> = join_all((0..STREAMS).map(|number| held(&ledger, number))).await;
            let server = server(&database).await;
            let mut results: Vec<(f64, Measured, Measured)> =
                WAYS.iter().map(|_| Default::default()).collect();
            for _ in 0..ROUNDS {
                for ((way, _), (cpu, holds, saves)) in WAYS.iter().zip(&mut results) {
                    // First alone, for its processor time, then with holds beside it, for their latency.
                    let before = cpu_time(server.as_deref());
                    let (saved, ()) = futures_util::join!(save(&ledger, &streams, *way), async {});
                    *cpu += cpu_time(server.as_deref()) - before;
                    saves.latencies.extend(saved);
                    let (_, latencies) = futures_util::join!(save(&ledger, &streams, *way), hold(&ledger));
                    holds.latencies.extend(latencies);
                }
            }
            for ((_, way), (cpu, mut holds, mut saves)) in WAYS.iter().zip(results) {
                let percent = 100.0 * cpu / (WINDOW.as_secs_f64() * ROUNDS as f64);
                rows.add_row([
                    format!("{name}, {way}"),
                    short(percent),
                    short(holds.percentile(50)),
                    short(holds.percentile(99)),
                    short(saves.percentile(50)),
                ]);
            }
            join_all(streams.into_iter().map(Hold::release)).await;
        }
    });
    println!("{rows}");
}

/// Saves for a window; how long each took.
async fn save(ledger: &Ledger, streams: &[Hold], way: Way) -> Vec<Duration> {
    let (began, mut took, mut beats) = (Instant::now(), Vec::new(), 0_u32);
    let mut ticks = tokio::time::interval(SAVE);
    ticks.tick().await;
    while began.elapsed() < WINDOW {
        ticks.tick().await;
        let progress: Vec<(RequestId, Progress)> =
            streams.iter().enumerate().map(|(number, hold)| (hold.id(), at(number, beats))).collect();
        let start = Instant::now();
        let renews = beats.is_multiple_of(BEAT);
        match way {
            Way::LeaseAlone if renews => drop(ledger.renew(Vec::new()).await.unwrap()),
            Way::LeaseAlone => {}
            Way::OneText => {
                if renews {
                    ledger.renew(progress.clone()).await.unwrap();
                }
                ledger.save(&progress).await.unwrap();
            }
            Way::RowEach => drop(ledger.renew(progress).await.unwrap()),
        }
        took.push(start.elapsed());
        beats += 1;
    }
    took
}

/// Half of the providers tell the input at the beginning.
fn at(number: usize, beats: u32) -> Progress {
    let usage = number.is_multiple_of(2).then(|| Usage::tokens(1234, 1));
    let output_tokens = u64::from(beats) * 12 + number as u64;
    Progress { output_tokens, usage, growing: usage.is_some(), first_byte_at: Some(1_795_000_000_000_000) }
}

/// Holds and settles for a window; the latencies of the holds.
async fn hold(ledger: &Ledger) -> Vec<Duration> {
    let (began, mut latencies, mut number) = (Instant::now(), Vec::new(), 0);
    let mut ticks = tokio::time::interval(PACE);
    while began.elapsed() < WINDOW {
        ticks.tick().await;
        number += 1;
        let start = Instant::now();
        let hold = held(ledger, number).await;
        latencies.push(start.elapsed());
        hold.release().await.unwrap();
    }
    latencies
}

async fn held(ledger: &Ledger, number: usize) -> Hold {
    let day: Day = "2026-11-24".parse().unwrap();
    let user = format!("user-{}", number % 1000);
    let account = AccountKey::User { day, user: UserId::new(&user).unwrap() };
    let accounts = vec![AccountLimit { account, limit: Some(Credits::MAX) }];
    let mut record = records::record(&user, day).unwrap();
    record.chat_id = Some("478f63cd-dc9e-4814-bbdc-6b2e8ad81f5f".into());
    record.message_id = Some("3ceb8588-9983-4f1f-b815-970e1cd40482".into());
    let bid = Bid { accounts, quote: Quote::Estimate(Credits::from_micro(5000)) };
    let request = HoldRequest { id: RequestId::new(new_id()), bid, record, wait: Duration::from_secs(20) };
    let HoldOutcome::Held(hold) = ledger.hold(request).await.unwrap() else { panic!("refused") };
    hold
}

/// The id of PostgreSQL's first process.
async fn server(database: &Database) -> Option<String> {
    let Pool::Postgres(pool) = database.pool() else {
        assert_eq!(database.kind(), Kind::Sqlite);
        return None;
    };
    let folder: String =
        sqlx::query_scalar("SELECT current_setting('data_directory')").fetch_one(pool).await.unwrap();
    let text = std::fs::read_to_string(Path::new(&folder).join("postmaster.pid")).unwrap();
    text.lines().next().map(str::to_owned)
}

/// Seconds of processor time of this process, and of the server's processes.
fn cpu_time(server: Option<&str>) -> f64 {
    let folders =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let this = std::process::id().to_string();
    let ticks = folders.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let is_server = server.is_some_and(|server| pid == server || fields.get(1) == Some(&server));
        let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
        (pid == this || is_server).then_some(number(11)? + number(12)?)
    });
    ticks.sum::<u64>() as f64 * TICK
}
