//! Whether a pooler in front of PostgreSQL is found out.

use testing::databases::TestDatabase;
use testing::pgbouncer::Mode;

#[tokio::test]
async fn a_pooler_is_found_out_at_the_start() {
    for (test, by_transaction) in [
        (TestDatabase::postgres().await, false),
        (TestDatabase::behind_pgbouncer(Mode::Session).await, false),
        (TestDatabase::behind_pgbouncer(Mode::Transaction).await, true),
    ] {
        let test = test.unwrap();
        assert_eq!(test.open().await.unwrap().is_pooled_by_transaction(), by_transaction, "{:?}", test.url());
        // Said so, it is not looked for.
        for (word, said) in [("session", false), ("transaction", true)] {
            let url = test.url().clone().with_pooling(word).unwrap();
            let database = storage::Database::open(&url).await.unwrap();
            assert_eq!(database.is_pooled_by_transaction(), said);
        }
    }
}
