//! PgBouncer in front of PostgreSQL, in both of its modes: everything from `init` to `verify`.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use testing::databases::TestDatabase;
use testing::pgbouncer::Mode;
use testing::simulator::Simulator;

use crate::process::{HttpClient, Place};

/// More than both gateways together have connections.
const CLIENTS: usize = 16;
const REQUESTS: usize = 1000;

async fn a_thousand_requests(mode: Mode) {
    let test = TestDatabase::behind_pgbouncer(mode).await.unwrap();
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "100000")]).await;
    place.ok(&["credit-group", "create", "staff", "1000", "all of them"]);
    let gateways = [place.serve(), place.serve()];
    let (client, next, served) = (HttpClient::new(), AtomicUsize::new(0), AtomicUsize::new(0));
    let asking = (0..CLIENTS).map(|_| async {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= REQUESTS {
                break;
            }
            let (url, user) = (&gateways[number % 2].url, format!("user-{}", number % 5));
            let answer = client.ask(url, &user, &format!("chat-{number}"), "[[sim input=10 output=5]]").await;
            assert_eq!(answer.0, 200, "{}", answer.1);
            served.fetch_add(1, Ordering::Relaxed);
        }
    });
    join_all(asking).await;
    assert_eq!(served.into_inner(), REQUESTS);
    assert_eq!(place.number("SELECT COUNT(*) FROM {ledger}").await, 1000);
    // Ten tokens in and five out, at 1000 and 2000 credits for a million of them.
    assert_eq!(place.number("SELECT CAST(SUM(charge) AS BIGINT) FROM {ledger}").await, 1000 * 20_000);
    let report = place.ok(&["usage", "--by", "user", "--format", "csv"]);
    assert!(report.lines().count() > 5, "{report}");
    // One that is killed leaves what another process settles.
    let [first, second] = gateways;
    let open =
        client.send(&second.url, "user-1", "last", "[[sim input=10 output=50000 chunk=1 delay=20]]").await;
    assert!(open.is_some());
    place.until("SELECT COUNT(*) FROM {hold}", |holds| holds == 1).await;
    second.kill();
    place.until("SELECT COUNT(*) FROM {ledger}", |rows| rows == 1001).await;
    first.terminate();
    place.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_with_pooling_by_session() {
    a_thousand_requests(Mode::Session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_with_pooling_by_transaction() {
    a_thousand_requests(Mode::Transaction).await;
}
