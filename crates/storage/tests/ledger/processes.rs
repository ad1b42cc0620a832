//! Several processes on one database: what one has written counts for the others at once, whatever they remember.

use super::*;

/// Two processes, as far as the database can tell.
async fn two(database: &Database) -> (Ledger, Ledger) {
    (Ledger::open(database).await.unwrap(), Ledger::open(database).await.unwrap())
}

each_way!(strict_never_spends_more_than_the_limit, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    // Four processes, as far as the database can tell: each ledger has its own writer and connection.
    let ledgers = join_all((0..4).map(|_| Ledger::open(&database))).await;
    let ledgers: Vec<Ledger> = ledgers.into_iter().map(Result::unwrap).collect();
    let asking = (0..64).map(|number| {
        let ledger = &ledgers[number % 4];
        async move {
            let limits = [(user_account("ann"), 10)];
            match ledger.hold(request("ann", &limits, worst(500), NO_WAIT)).await.unwrap() {
                HoldOutcome::Held(hold) => {
                    let spend = settlement(&hold, "ann", credits(5), Policy::Strict);
                    hold.settle(spend).await.unwrap();
                    1
                }
                HoldOutcome::Busy | HoldOutcome::Refused(_) => 0,
            }
        }
    });
    let admitted: i64 = join_all(asking).await.into_iter().sum();
    assert_eq!(admitted, 2, "balance for two");
    let state = account(&database, &user_account("ann")).await.unwrap();
    assert_eq!(state, Account { spent: credits(10), held: Credits::ZERO });
    assert_clean(&database).await;
});

each_way!(
    holds_on_several_accounts_in_opposed_order_never_deadlock,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let ledgers = join_all((0..4).map(|_| Ledger::open(&database))).await;
        let ledgers: Vec<Ledger> = ledgers.into_iter().map(Result::unwrap).collect();
        let sponsored = SponsoredId::new(new_id());
        let total = AccountKey::SponsoredTotal { sponsored };
        let mine = |user: &str| AccountKey::SponsoredUser {
            day: day(),
            sponsored,
            user: UserId::new(user).unwrap(),
        };
        let asking = (0..200_usize).map(|number| {
            let ledger = &ledgers[number % 4];
            let user = format!("user{}", number % 7);
            let mut limits =
                vec![(total.clone(), 1_000_000), (mine(&user), 1_000_000), (user_account(&user), 1_000_000)];
            if number % 2 == 0 {
                limits.reverse();
            }
            async move {
                let hold = held(ledger, request(&user, &limits, Quote::Estimate(credits(1)), PATIENCE)).await;
                if number % 3 == 0 {
                    hold.release().await.unwrap();
                    0
                } else {
                    let spend = settlement(&hold, &user, credits(2), Policy::OneCredit);
                    hold.settle(spend).await.unwrap();
                    2
                }
            }
        });
        let spent: i64 =
            tokio::time::timeout(PATIENCE, join_all(asking)).await.expect("no deadlock").into_iter().sum();
        let state = account(&database, &total).await.unwrap();
        assert_eq!(state, Account { spent: credits(spent), held: Credits::ZERO });
        assert_clean(&database).await;
    }
);

each_way!(
    what_another_process_spent_or_gave_back_counts_at_once,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let (one, other) = two(&database).await;
        let limits = [(user_account("ann"), 10)];
        // They take turns, one credit each, until nothing is left: both remember the account as they left it.
        let mut admitted = 0;
        for turn in 0..14 {
            let ledger = if turn % 2 == 0 { &one } else { &other };
            if let HoldOutcome::Held(hold) =
                ledger.hold(request("ann", &limits, worst(100), NO_WAIT)).await.unwrap()
            {
                let spend = settlement(&hold, "ann", credits(1), Policy::Strict);
                let settled = hold.settle(spend).await.unwrap();
                admitted += 1;
                assert_eq!(settled.accounts[0].1.spent, credits(admitted));
            }
        }
        assert_eq!(admitted, 10);
        // What one holds stands in the other's way, until it is given back.
        let limits = [(user_account("bob"), 10)];
        let ask = |ledger: &Ledger| {
            let ledger = ledger.clone();
            async move { ledger.hold(request("bob", &limits, worst(1000), NO_WAIT)).await.unwrap() }
        };
        for _ in 0..3 {
            for (first, second) in [(&one, &other), (&other, &one)] {
                let HoldOutcome::Held(hold) = ask.clone()(first).await else { panic!("all is free") };
                assert!(matches!(ask.clone()(second).await, HoldOutcome::Busy));
                hold.release().await.unwrap();
                let HoldOutcome::Held(hold) = ask.clone()(second).await else { panic!("it was given back") };
                hold.release().await.unwrap();
            }
        }
        assert_clean(&database).await;
    }
);

each_way!(
    a_remembered_hold_that_others_settled_is_not_given_back_twice,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let (sleeper, other) = two(&database).await;
        let limits = [(user_account("ann"), 100)];
        let ask = || request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT);
        for late_settlement in [false, true] {
            let hold = held(&sleeper, ask()).await;
            let before = account(&database, &user_account("ann")).await.unwrap();
            // Settled for nothing by somebody else, who then holds as much: the account looks as the sleeper left it.
            other.settle(settlement(&hold, "ann", Credits::ZERO, Policy::OneCredit)).await.unwrap();
            let others = held(&other, ask()).await;
            assert_eq!(account(&database, &user_account("ann")).await.unwrap(), before);
            let spent = if late_settlement {
                let spend = settlement(&hold, "ann", credits(5), Policy::OneCredit);
                hold.settle(spend).await.unwrap();
                credits(5)
            } else {
                hold.release().await.unwrap();
                Credits::ZERO
            };
            let after = account(&database, &user_account("ann")).await.unwrap();
            assert_eq!(after, Account { spent, held: credits(3) });
            assert_clean(&database).await;
            others.release().await.unwrap();
        }
    }
);

testing::each_database!(
    another_writers_turn_is_no_reason_to_refuse_a_request,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let ledger = Ledger::open(&database).await.unwrap();
        let limits = [(user_account("ann"), 10)];
        // Another program, such as Open WebUI, writes for longer than an attempt of ours takes.
        let asking = ledger.hold(request("ann", &limits, Quote::Estimate(credits(1)), NO_WAIT));
        tokio::pin!(asking);
        let first_half_second = async {
            let asked = tokio::time::timeout(Duration::from_millis(500), &mut asking).await;
            assert!(asked.is_err(), "{asked:?}");
        };
        while_another_writes(&database, first_half_second).await;
        let HoldOutcome::Held(hold) = asking.await.unwrap() else { panic!("refused") };
        hold.release().await.unwrap();
        assert_clean(&database).await;
    }
);

async fn while_another_writes(database: &Database, meanwhile: impl Future<Output = ()>) {
    let holds = database.table("token_tracking_hold");
    match database.pool() {
        storage::Pool::Sqlite(pool) => {
            let writes = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            meanwhile.await;
            writes.commit().await.unwrap();
        }
        storage::Pool::Postgres(pool) => {
            let mut writes = pool.begin().await.unwrap();
            let lock = format!("LOCK TABLE {holds} IN ACCESS EXCLUSIVE MODE");
            sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *writes).await.unwrap();
            meanwhile.await;
            writes.commit().await.unwrap();
        }
    }
}
