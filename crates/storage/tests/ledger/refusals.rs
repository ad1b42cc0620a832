//! What the database refuses for good: the charge is written without the texts that it does not need, and nobody else waits.

use storage::Kind;

use super::*;

/// Has the database refuse entries of which that holds.
async fn refuse(database: &Database, what: &str) {
    let ledger = database.table("token_tracking_ledger");
    let sql = match database.kind() {
        Kind::Sqlite => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON {ledger} WHEN NEW.{what} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ),
        Kind::Postgres => format!("ALTER TABLE {ledger} ADD CONSTRAINT refuse CHECK (({what}) IS NOT TRUE)"),
    };
    database.run(sql).await.unwrap();
}

each_database!(a_refused_label_does_not_keep_its_charge, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    refuse(&database, "task = 'forbidden'").await;
    let limits = |user: &str| vec![(user_account(user), 100)];
    let ask = |user: &'static str| request(user, &limits(user), Quote::Estimate(credits(3)), NO_WAIT);
    let (bad, good) = (held(&ledger, ask("ann")).await, held(&ledger, ask("bob")).await);
    let mut refused = settlement(&bad, "ann", credits(5), Policy::OneCredit);
    refused.record.task = Some("forbidden".into());
    let fine = settlement(&good, "bob", credits(7), Policy::OneCredit);
    let (one, other) = futures_util::join!(bad.settle(refused), good.settle(fine));
    assert_eq!(one.unwrap().accounts[0].1, Account { spent: credits(5), held: Credits::ZERO });
    other.unwrap();
    let verification = verify(&database).await.unwrap();
    assert_eq!((verification.holds, verification.texts_removed, verification.entries), (0, 1, 2));
    let used = usage(&database, &Question::default()).await.unwrap().total;
    assert_eq!((used.requests, used.input, used.output, used.credits), (2, 20, 40, credits(12)));
    assert_clean(&database).await;
});

each_database!(
    a_charge_that_can_not_be_written_keeps_its_hold_and_holds_nobody_up,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let ledger = Ledger::open(&database).await.unwrap();
        refuse(&database, "user_id = 'ann'").await;
        let limits = |user: &str| vec![(user_account(user), 100)];
        let ask = |user: &'static str| request(user, &limits(user), Quote::Estimate(credits(3)), NO_WAIT);
        let (bad, good) = (held(&ledger, ask("ann")).await, held(&ledger, ask("bob")).await);
        let (refused, fine) = (
            settlement(&bad, "ann", credits(5), Policy::OneCredit),
            settlement(&good, "bob", credits(7), Policy::OneCredit),
        );
        let (one, other) = futures_util::join!(bad.settle(refused), good.settle(fine));
        assert!(one.is_err() && other.is_ok(), "{one:?} {other:?}");
        let state = account(&database, &user_account("ann")).await.unwrap();
        assert_eq!(state, Account { spent: Credits::ZERO, held: credits(3) });
        assert_clean(&database).await;
    }
);

each_database!(
    a_hold_that_nobody_can_settle_is_shown_and_takes_nothing_from_others,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let (ledger, other) =
            (Ledger::open(&database).await.unwrap(), Ledger::open(&database).await.unwrap());
        refuse(&database, "user_id = 'ann'").await;
        let limits = |user: &str| vec![(user_account(user), 100)];
        let ask = |user: &'static str| request(user, &limits(user), Quote::Estimate(credits(3)), NO_WAIT);
        let (bad, broken, good) =
            (held(&ledger, ask("ann")).await, held(&other, ask("eve")).await, held(&other, ask("bob")).await);
        let id = bad.id();
        let refused = settlement(&bad, "ann", credits(5), Policy::OneCredit);
        bad.settle(refused.clone()).await.unwrap_err();
        ledger.leave(id).await.unwrap();
        // Nobody can read this one.
        let holds = database.table("token_tracking_hold");
        database
            .run(format!("UPDATE {holds} SET request = '{{' WHERE id = '{}'", broken.id()))
            .await
            .unwrap();
        broken.keep();
        let left = good.id();
        good.keep();
        other.resign().await.unwrap();
        let found: Vec<_> = ledger.abandoned().await.unwrap().into_iter().map(|hold| hold.id).collect();
        assert_eq!(found, [id, left]);
        assert!(ledger.recover(refused.clone()).await.is_err());
        assert!(ledger.postpone(id) && !ledger.postpone(id), "said once");
        let found: Vec<_> = ledger.abandoned().await.unwrap().into_iter().map(|hold| hold.id).collect();
        assert_eq!(found, [left]);
        // A process that has run for more than a minute could have settled what belongs to nobody.
        assert_eq!(verify(&database).await.unwrap().stuck, 0);
        let owners = database.table("token_tracking_owner");
        database.run(format!("UPDATE {owners} SET started_at = started_at - 61000000")).await.unwrap();
        let verification = verify(&database).await.unwrap();
        assert!(
            verification.stuck == 1 && !verification.is_clean() && verification.adds_up(),
            "{verification:?}"
        );
        let stuck = storage::reports::health::stuck(&database).await.unwrap();
        assert_eq!((stuck.holds, stuck.credits), (1, credits(3)));
        // The cause is gone: the next one that tries settles it.
        let ledgers = database.table("token_tracking_ledger");
        let sql = match database.kind() {
            Kind::Sqlite => "DROP TRIGGER refuse".to_owned(),
            Kind::Postgres => format!("ALTER TABLE {ledgers} DROP CONSTRAINT refuse"),
        };
        database.run(sql).await.unwrap();
        ledger.recover(refused).await.unwrap();
        let verification = verify(&database).await.unwrap();
        assert_eq!((verification.stuck, verification.holds), (0, 2));
        assert_clean(&database).await;
    }
);
