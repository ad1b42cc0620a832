//! The database away for longer than a lease, with several gateways on it: each takes the others for dead, and no charge
//! changes that an owner has made or makes.
//!
//! By default the outage is short, and the leases are made to run out meanwhile. `OWUI_TEST_OUTAGES` says how many there are,
//! and `OWUI_TEST_OUTAGE_SECONDS` how long they really take (`make nightly`: thirty of 18 s).

use std::time::Duration;

use futures_util::future::join_all;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::{Fate, Simulator};

use crate::process::{HttpClient, Place, pause, text};

/// Streams of each gateway, each of half a second.
const STREAMS: usize = 5;
const STREAM: &str = "[[sim input=50 output=40 chunk=2 delay=25]]";
const CHARGE: i64 = 50 * 1000 + 40 * 2000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "a long run says what it has seen")]
async fn outages(test: TestDatabase, processes: usize) {
    let rounds = number("OWUI_TEST_OUTAGES").unwrap_or(1);
    let seconds = number("OWUI_TEST_OUTAGE_SECONDS");
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "1000000")]).await;
    let gateways: Vec<_> = (0..processes).map(|_| place.serve()).collect();
    let client = HttpClient::new();
    let mut asked = 0;
    for round in 0..rounds {
        let streams = gateways.iter().enumerate().flat_map(|(gateway, process)| {
            let (client, url) = (&client, &process.url);
            (0..STREAMS).map(move |number| async move {
                let chat = format!("chat-{round}-{gateway}-{number}");
                client.send(url, "ann", &chat, STREAM).await.expect("it answers")
            })
        });
        let streams = join_all(streams).await;
        asked += streams.len();
        let outage = async {
            let mut away = Away::begin(&place).await;
            // Every request ends meanwhile, and its charge waits.
            simulator.until(|all| all.iter().filter(|one| one.fate == Fate::Answered).count() == asked).await;
            match seconds {
                Some(seconds) => pause(Duration::from_secs(seconds)).await,
                None => {
                    // Two beats: what other processes do about dead ones waits, too.
                    pause(Duration::from_secs(4)).await;
                    away.run(
                        &place.qualified(
                            "UPDATE {owner} SET renewed_at = renewed_at - 13000000 WHERE dead = 0",
                        ),
                    )
                    .await;
                }
            }
            away.end().await;
        };
        let answers = join_all(streams.into_iter().map(text));
        futures_util::join!(outage, answers);
        place.assert_clean().await;
        place
            .until("SELECT COUNT(*) FROM {ledger} WHERE kind = 'request'", |rows| {
                rows == i64::try_from(asked).unwrap()
            })
            .await;
        let sums = "SELECT COUNT(*) FROM (SELECT SUM(charge) AS charge FROM {ledger} GROUP BY chat_id) AS chats WHERE charge";
        place.until(&format!("{sums} <> {CHARGE}"), |wrong| wrong == 0).await;
        assert_eq!(place.number(&format!("{sums} = {CHARGE}")).await, i64::try_from(asked).unwrap());
    }
    let recovered = place.number("SELECT COUNT(*) FROM {ledger} WHERE outcome = 'recovered'").await;
    println!("{rounds} outages, {asked} requests, {recovered} recovered, every one at its charge in the end");
    gateways.into_iter().for_each(crate::process::GatewayProcess::terminate);
    place.assert_clean().await;
}

each_database!(two_gateways_and_a_database_that_is_away, async |test: TestDatabase| {
    outages(test, 2).await;
});

each_database!(four_gateways_and_a_database_that_is_away, async |test: TestDatabase| {
    outages(test, 4).await;
});

each_database!(a_gateway_that_can_write_nothing_is_not_ready, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let (gateway, client) = (place.serve(), HttpClient::new());
    let readyz = format!("{}/readyz", gateway.url);
    client.until(&readyz, 200).await;
    let away = Away::begin(&place).await;
    let said = client.until(&readyz, 503).await;
    assert!(said.contains("nothing could be written for"), "{said}");
    // It lives, and is not to be ended.
    assert_eq!(client.get(&format!("{}/healthz", gateway.url)).await.0, 200);
    away.end().await;
    client.until(&readyz, 200).await;
    gateway.terminate();
});

/// A transaction of somebody else that keeps all others out.
enum Away {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(storage::PgTransaction),
}

impl Away {
    async fn begin(place: &Place) -> Self {
        match place.database.pool() {
            storage::Pool::Sqlite(pool) => Self::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await.unwrap()),
            storage::Pool::Postgres(pool) => {
                let mut away = Self::Postgres(pool.begin().await.unwrap());
                let tables = "LOCK TABLE {account}, {hold}, {ledger}, {owner} IN ACCESS EXCLUSIVE MODE";
                away.run(&place.qualified(tables)).await;
                away
            }
        }
    }

    async fn run(&mut self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(away) => drop(sqlx::raw_sql(sql).execute(&mut **away).await.unwrap()),
            Self::Postgres(away) => drop(sqlx::raw_sql(sql).execute(&mut **away).await.unwrap()),
        }
    }

    async fn end(self) {
        match self {
            Self::Sqlite(away) => away.commit().await.unwrap(),
            Self::Postgres(away) => away.commit().await.unwrap(),
        }
    }
}
