//! Numbers in usage that nobody knows: kept once each, within a bound, and only where the table is.

use storage::unknown_usage::{add, all};
use testing::databases::TestDatabase;
use testing::each_database;

each_database!(unknown_numbers_are_kept_once_each_and_not_without_end, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let of = |provider: &str, field: &str| (provider.to_owned(), field.to_owned());
    for numbers in [vec![of("b", "pixels"), of("a", "pixels")], vec![of("b", "pixels")], vec![]] {
        add(&database, &numbers, now).await.unwrap();
    }
    assert_eq!(all(&database).await.unwrap(), [of("a", "pixels"), of("b", "pixels")]);
    let many: Vec<_> = (0..600).map(|number| of("c", &format!("field-{number}"))).collect();
    add(&database, &many, now).await.unwrap();
    assert_eq!(all(&database).await.unwrap().len(), 512);
    // A schema of before.
    database.run(format!("DROP TABLE {}", database.table("token_tracking_unknown_usage"))).await.unwrap();
    add(&database, &many, now).await.unwrap();
    assert_eq!(all(&database).await.unwrap(), []);
});
