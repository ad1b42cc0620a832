//! Whatever happens to a gateway or its database: nothing produced is free, nothing is charged twice, the books are right.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::postgres::Server;
use testing::simulator::{Fate, Simulator};
use tokio::sync::watch;

use crate::process::{HttpClient, Place, chat_of, pause, text};

const KILLS: u64 = 50;
const CLIENTS: usize = 8;

/// Spread over the life of a request without being random: the same moments in each run.
fn moment(round: u64) -> Duration {
    Duration::from_millis(15 + (round * 37) % 180)
}

each_database!(killed_fifty_times_under_load, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "1000000")]).await;
    let (gateway_at, url) = watch::channel(String::new());
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = HttpClient::new();
    let load = join_all((0..CLIENTS).map(|client_number| {
        let (mut url, over, count, client) = (url.clone(), &over, &count, &client);
        async move {
            let mut answered = 0_u64;
            while !over.load(Ordering::Relaxed) {
                let chat = format!("chat-{}", count.fetch_add(1, Ordering::Relaxed));
                let at = url.borrow_and_update().clone();
                let (status, text) = client
                    .ask(
                        &at,
                        &format!("user{client_number}"),
                        &chat,
                        "[[sim input=50 output=24 chunk=2 delay=3]]",
                    )
                    .await;
                answered += u64::from(status == 200 && text.ends_with("data: [DONE]\n\n"));
                if status == 0 {
                    // Between two gateways there is nobody to ask.
                    url.changed().await.unwrap();
                }
            }
            answered
        }
    }));
    let kills = async {
        for round in 0..KILLS {
            let gateway = place.serve();
            gateway_at.send_replace(gateway.url.clone());
            pause(moment(round)).await;
            gateway.kill();
        }
        let last = place.serve();
        gateway_at.send_replace(last.url.clone());
        over.store(true, Ordering::Relaxed);
        last
    };
    let (answered, last) = futures_util::join!(load, kills);
    assert!(answered.iter().sum::<u64>() > 0, "some requests got through between two kills");
    place.assert_clean().await;
    let charged: HashSet<String> = place
        .texts("SELECT chat_id FROM {ledger} WHERE kind = 'request' AND charge > 0")
        .await
        .into_iter()
        .collect();
    let received = simulator.received();
    let produced: Vec<String> =
        received.iter().filter(|one| one.produced > 0).map(|one| chat_of(&one.body)).collect();
    assert!(produced.len() > 50, "the load was real: {} requests produced something", produced.len());
    for chat in &produced {
        assert!(charged.contains(chat), "{chat} produced output and was free");
    }
    let twice =
        place.number("SELECT COUNT(*) - COUNT(DISTINCT chat_id) FROM {ledger} WHERE kind = 'request'").await;
    assert_eq!(twice, 0, "requests that were charged twice");
    let recovered = place.number("SELECT COUNT(*) FROM {ledger} WHERE outcome = 'recovered'").await;
    assert!(recovered > 0, "kills hit requests under way");
    let delivered =
        place.number("SELECT COUNT(*) FROM {ledger} WHERE outcome = 'complete' AND charge <> 98000").await;
    assert_eq!(delivered, 0, "complete answers cost what their usage costs");
    last.terminate();
    place.assert_clean().await;
});

each_database!(an_owner_paused_past_its_lease, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let (sleeper, other) = (place.serve(), place.serve());
    let client = HttpClient::new();
    let mut response =
        client.send(&sleeper.url, "ann", "paused", "[[sim input=50 output=5000 delay=20]]").await.unwrap();
    for _ in 0..5 {
        response.body_mut().frame().await.unwrap().unwrap();
    }
    // Its progress has been saved once.
    place.until("SELECT COUNT(*) FROM {hold} WHERE progress IS NOT NULL", |holds| holds == 1).await;
    sleeper.signal("STOP");
    // The lease runs out by the database's clock.
    let age = place.qualified(
        "UPDATE {owner} SET renewed_at = renewed_at - 13000000 WHERE id = (SELECT owner FROM {hold})",
    );
    place.database.run(age).await.unwrap();
    place.until("SELECT COUNT(*) FROM {ledger} WHERE outcome = 'recovered'", |rows| rows == 1).await;
    place.assert_clean().await;
    let guessed = place.number("SELECT CAST(SUM(charge) AS BIGINT) FROM {ledger}").await;
    sleeper.signal("CONT");
    // It finds its lease lost, ends the stream, and books the difference.
    let rest = text(response).await;
    assert!(rest.contains("\"error\""), "{rest}");
    place.until("SELECT COUNT(*) FROM {ledger} WHERE kind = 'correction'", |rows| rows == 1).await;
    place.assert_clean().await;
    let charged = place.number("SELECT CAST(SUM(charge) AS BIGINT) FROM {ledger}").await;
    let tokens = place.number("SELECT CAST(SUM(output_tokens) AS BIGINT) FROM {ledger}").await;
    let produced = i64::try_from(simulator.received()[0].produced).unwrap();
    let input = place.number("SELECT CAST(SUM(input_tokens) AS BIGINT) FROM {ledger}").await;
    assert_ne!(charged, guessed, "the guess was corrected");
    assert_eq!(charged, 1000 * input + 2000 * tokens, "what its owner counted is what is charged in the end");
    assert!(tokens >= 5 && tokens <= produced, "{tokens} charged, {produced} produced");
    assert_eq!(place.number("SELECT COUNT(*) FROM {ledger} WHERE kind = 'request'").await, 1);
    let doctor = place.run(&["doctor", "--format", "json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let found = findings.iter().find(|finding| finding["check"] == "recovered charges").unwrap();
    let found = found["found"].as_str().unwrap();
    assert!(found.starts_with("1 requests") && found.ends_with("their owners corrected 1"), "{found}");
    // It serves on under a new name.
    let (status, answer) = client.ask(&sleeper.url, "ann", "after", "[[sim input=50 output=10]]").await;
    assert_eq!(status, 200, "{answer}");
    sleeper.terminate();
    other.terminate();
    place.assert_clean().await;
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_restarted_in_the_middle() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap().unwrap();
    let test = TestDatabase::on_server(&server.url()).await.unwrap();
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let gateway = place.serve();
    let client = HttpClient::new();
    let mut response =
        client.send(&gateway.url, "ann", "before", "[[sim input=50 output=40 delay=5]]").await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    let restart = tokio::task::spawn_blocking(move || {
        let mut server = server;
        server.restart().unwrap();
        server
    });
    let (rest, server) = futures_util::join!(text(response), restart);
    let _server = server.unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    place.until("SELECT COUNT(*) FROM {ledger} WHERE chat_id = 'before'", |rows| rows == 1).await;
    assert_eq!(place.number("SELECT charge FROM {ledger} WHERE chat_id = 'before'").await, 130_000);
    let (status, answer) = client.ask(&gateway.url, "ann", "after", "[[sim input=50 output=10]]").await;
    assert_eq!(status, 200, "{answer}");
    gateway.terminate();
    place.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_kept_busy_by_somebody_else() {
    let test = TestDatabase::sqlite().await.unwrap();
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("hold_wait", "1")]).await;
    let gateway = place.serve();
    let client = HttpClient::new();
    let mut running =
        client.send(&gateway.url, "ann", "running", "[[sim input=50 output=40 delay=5]]").await.unwrap();
    running.body_mut().frame().await.unwrap().unwrap();
    let storage::Pool::Sqlite(pool) = place.database.pool() else { panic!("SQLite") };
    let other_writer = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // Admissions are refused after their patience; the running request is settled when the other writer is done.
    let (status, answer) = client.ask(&gateway.url, "bob", "refused", "").await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("unavailable"), "{answer}");
    other_writer.rollback().await.unwrap();
    let rest = text(running).await;
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    place.until("SELECT COUNT(*) FROM {ledger}", |rows| rows == 1).await;
    gateway.terminate();
    place.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_can_not_grow_and_then_can() {
    let test = TestDatabase::sqlite().await.unwrap();
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("hold_wait", "1")]).await;
    // What was written so far goes into the file itself; after that, no file of the process may grow beyond 64 kB, which
    // the log of the next writes needs.
    place.database.run("PRAGMA wal_checkpoint(TRUNCATE)".into()).await.unwrap();
    let mut command = std::process::Command::new("bash");
    let script =
        format!("trap '' XFSZ; ulimit -S -f 64; exec {} serve --config config.toml", crate::process::PROGRAM);
    command.args(["-c", &script]).current_dir(place.folder.path()).env_clear();
    command.envs(place.environment.iter().map(|(name, value)| (*name, value))).env("PATH", "/usr/bin:/bin");
    let gateway = crate::process::GatewayProcess::start(command);
    let client = HttpClient::new();
    let mut refused = None;
    for number in 0..40 {
        let (status, answer) =
            client.ask(&gateway.url, "ann", &format!("chat-{number}"), "[[sim input=5 output=5]]").await;
        if status == 503 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the file can't grow for ever");
    assert!(refused.contains("database"), "{refused}");
    let more =
        std::process::Command::new("prlimit").args(["--pid", &gateway.id(), "--fsize=unlimited:"]).status();
    assert!(more.unwrap().success());
    let (status, answer) = client.ask(&gateway.url, "ann", "after", "[[sim input=5 output=5]]").await;
    assert_eq!(status, 200, "{answer}");
    gateway.terminate();
    place.assert_clean().await;
}

each_database!(a_graceful_end_lets_running_requests_finish, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let gateway = place.serve();
    let client = HttpClient::new();
    let mut running =
        client.send(&gateway.url, "ann", "running", "[[sim input=50 output=40 delay=5]]").await.unwrap();
    running.body_mut().frame().await.unwrap().unwrap();
    gateway.signal("TERM");
    let rest = text(running).await;
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    gateway.ended();
    assert_eq!(place.number("SELECT charge FROM {ledger}").await, 130_000);
    assert_eq!(simulator.received()[0].fate, Fate::Answered);
    place.assert_clean().await;
});
