//! What a request costs in round trips to PostgreSQL, directly and behind a pooler by transaction: installation.md says it.

use super::*;
use storage::DatabaseUrl;
use testing::databases::TestDatabase;
use testing::pgbouncer::Mode;
use testing::round_trips::RoundTrips;

const REQUESTS: u64 = 100;

/// The round trips of a hold and its settlement, once everything that can be prepared is.
async fn of_a_request(test: TestDatabase) -> u64 {
    test.migrated().await.unwrap().close().await;
    let [(_, address), (_, schema)] = test.environment() else { panic!("{test:?}") };
    let mut address = url::Url::parse(address).unwrap();
    let server = format!("{}:{}", address.host_str().unwrap(), address.port().unwrap());
    let counted = RoundTrips::to(server.parse().unwrap()).await.unwrap();
    address.set_port(Some(counted.port())).unwrap();
    let through = DatabaseUrl::parse(address.as_str()).unwrap().with_schema(Some(schema.clone()));
    let database = Database::open(&through).await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let limits = [(user_account("ann"), 1_000_000)];
    let ask = async || {
        let hold = held(&ledger, request("ann", &limits, Quote::Estimate(credits(3)), PATIENCE)).await;
        let spend = settlement(&hold, "ann", credits(1), Policy::OneCredit);
        hold.settle(spend).await.unwrap();
    };
    for _ in 0..10 {
        ask().await;
    }
    let before = counted.count();
    for _ in 0..REQUESTS {
        ask().await;
    }
    (counted.count() - before) / REQUESTS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_by_transaction_costs_round_trips() {
    let direct = of_a_request(TestDatabase::postgres().await.unwrap()).await;
    let pooled = of_a_request(TestDatabase::behind_pgbouncer(Mode::Transaction).await.unwrap()).await;
    assert_eq!((direct, pooled), (2, 12), "as docs/source/installation.md says");
}
