//! Owners that are taken for dead: what they say themselves counts, whoever else has charged their requests meanwhile.

use super::*;
use storage::ledger::{Abandoned, Estimated};
use storage::reports::{recovered, requests};

/// Lets the leases of all owners run out by the database's clock.
fn run_out(database: &Database) -> String {
    let owners = database.table("token_tracking_owner");
    format!("UPDATE {owners} SET renewed_at = renewed_at - 13000000 WHERE dead = 0")
}

fn limits() -> [(AccountKey, i64); 1] {
    [(user_account("ann"), 1_000_000)]
}

async fn holding(ledger: &Ledger) -> Hold {
    held(ledger, request("ann", &limits(), Quote::Estimate(credits(3)), PATIENCE)).await
}

/// What a recovery makes of an abandoned hold.
fn guess(hold: Abandoned, charge: Credits) -> Settlement {
    let mut guess = records::settlement(hold.id, hold.record, hold.accounts, charge, ended());
    guess.outcome = Outcome::Recovered;
    guess.usage = Usage::tokens(10, hold.progress.unwrap_or_default().output_tokens);
    guess.estimated = Some(Estimated::Length);
    guess
}

fn ended() -> jiff::Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

async fn request_of(database: &Database, id: RequestId) -> requests::Request {
    requests::request(database, id).await.unwrap().unwrap()
}

async fn spent(database: &Database) -> Account {
    account(database, &user_account("ann")).await.unwrap()
}

fn only_spent(whole: i64) -> Account {
    Account { spent: credits(whole), held: Credits::ZERO }
}

each_way!(a_recovery_that_comes_late_changes_nothing, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let (owner, other) = (Ledger::open(&database).await.unwrap(), Ledger::open(&database).await.unwrap());
    for released in [false, true] {
        let hold = holding(&owner).await;
        database.run(run_out(&database)).await.unwrap();
        // It has read what the owner left; now the owner wakes up and is quicker.
        let abandoned = other.abandoned().await.unwrap().remove(0);
        let before = spent(&database).await;
        if released {
            hold.release().await.unwrap();
        } else {
            let spend = settlement(&hold, "ann", credits(5), Policy::OneCredit);
            hold.settle(spend.clone()).await.unwrap();
            // Its answer was lost: the same again writes nothing.
            owner.settle(spend).await.unwrap();
        }
        let entries = verify(&database).await.unwrap().entries;
        for charge in [credits(1), credits(9)] {
            let guess = guess(abandoned.clone(), charge);
            assert_eq!(other.recover(guess).await.unwrap(), Recovery::Moot);
        }
        let due = if released { Credits::ZERO } else { credits(5) };
        let expected = Account { spent: before.spent.plus(due).unwrap(), held: Credits::ZERO };
        assert_eq!(spent(&database).await, expected, "released: {released}");
        assert_eq!(verify(&database).await.unwrap().entries, entries);
        owner.register_again().await.unwrap();
    }
    assert_clean(&database).await;
});

each_way!(
    an_owner_that_wakes_up_replaces_what_was_guessed,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let (owner, other, third) = (
            Ledger::open(&database).await.unwrap(),
            Ledger::open(&database).await.unwrap(),
            Ledger::open(&database).await.unwrap(),
        );
        let (cheaper, dearer, free, dropped) =
            (holding(&owner).await, holding(&owner).await, holding(&owner).await, holding(&owner).await);
        database.run(run_out(&database)).await.unwrap();
        let abandoned = other.abandoned().await.unwrap();
        assert_eq!(abandoned.len(), 4);
        for hold in &abandoned {
            // Two processes have the same list: the first stands.
            assert_eq!(other.recover(guess(hold.clone(), credits(4))).await.unwrap(), Recovery::Charged);
            assert_eq!(third.recover(guess(hold.clone(), credits(6))).await.unwrap(), Recovery::Moot);
        }
        assert_eq!(spent(&database).await, only_spent(16));
        for (hold, charge) in [(cheaper, credits(1)), (dearer, credits(7))] {
            let spend = settlement(&hold, "ann", charge, Policy::OneCredit);
            hold.settle(spend.clone()).await.unwrap();
            owner.settle(spend).await.unwrap();
        }
        let told = request_of(&database, abandoned[0].id).await;
        assert_eq!((told.charge, told.output, told.outcome.as_str()), (credits(1), 20, "complete"));
        assert!(!told.estimated);
        let sums = usage(&database, &Question::default()).await.unwrap().total;
        assert_eq!((sums.requests, sums.credits), (4, credits(16)));
        assert_eq!((sums.estimated, sums.estimated_credits), (2, credits(8)), "two are as their owner says");
        free.release().await.unwrap();
        drop(dropped);
        drained(&owner).await;
        assert_eq!(spent(&database).await, only_spent(8), "1 + 7, and nothing for what was released");
        // A list from before all that is of no use any more.
        for hold in abandoned {
            assert_eq!(third.recover(guess(hold, credits(9))).await.unwrap(), Recovery::Moot);
        }
        assert_eq!(spent(&database).await, only_spent(8));
        let used = usage(&database, &Question::default()).await.unwrap().total;
        assert_eq!((used.requests, used.output, used.credits), (4, 40, credits(8)));
        let verified = verify(&database).await.unwrap();
        let tally = |count, whole| recovered::Tally { count, credits: credits(whole) };
        assert_eq!(verified.entries, 8);
        assert_eq!(
            (verified.recovered.requests, verified.recovered.corrected_by_owner),
            (tally(4, 16), tally(4, -8))
        );
        assert_eq!(verified.recovered.changed_by_recovery, tally(0, 0));
        assert_clean(&database).await;
    }
);

each_way!(what_a_dead_owner_is_charged_for_stands_still, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let (owner, other) = (Ledger::open(&database).await.unwrap(), Ledger::open(&database).await.unwrap());
    let hold = holding(&owner).await;
    let at = |output_tokens| Progress { output_tokens, ..Progress::default() };
    assert_eq!(owner.renew(vec![(hold.id(), at(7))]).await.unwrap(), Lease::Held);
    database.run(run_out(&database)).await.unwrap();
    // Renewed late, but before anybody looked: it lives on.
    assert_eq!(owner.renew(vec![(hold.id(), at(8))]).await.unwrap(), Lease::Held);
    other.renew(Vec::new()).await.unwrap();
    assert_eq!(other.abandoned().await.unwrap(), []);
    database.run(run_out(&database)).await.unwrap();
    other.renew(Vec::new()).await.unwrap();
    let abandoned = other.abandoned().await.unwrap().remove(0);
    // Once it is declared dead, nothing that it saves makes that list an old one.
    assert_eq!(owner.renew(vec![(hold.id(), at(9))]).await.unwrap(), Lease::Lost);
    let again = other.abandoned().await.unwrap().remove(0);
    assert_eq!(again, abandoned);
    assert_eq!(abandoned.progress, Some(at(8)));
    other.recover(guess(abandoned, credits(2))).await.unwrap();
    assert_eq!(spent(&database).await, only_spent(2));
    hold.keep();
    assert_clean(&database).await;
});

each_database!(
    what_was_saved_of_all_requests_is_known_of_each,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let (owner, other) = (Ledger::open(&database).await.unwrap(), Ledger::open(&database).await.unwrap());
        let holds = [holding(&owner).await, holding(&owner).await, holding(&owner).await];
        let at = |output_tokens| Progress { output_tokens, ..Progress::default() };
        let told = Progress { usage: Some(Usage::tokens(100, 1)), growing: true, ..at(20) };
        // Noted in the hold, then saved with the others; the third has not begun.
        assert_eq!(
            owner.renew(vec![(holds[0].id(), at(3)), (holds[1].id(), at(4))]).await.unwrap(),
            Lease::Held
        );
        assert_eq!(owner.save(&[(holds[0].id(), told.clone())]).await.unwrap(), Lease::Held);
        database.run(run_out(&database)).await.unwrap();
        other.renew(Vec::new()).await.unwrap();
        let before = other.abandoned().await.unwrap();
        assert_eq!(
            owner.save(&[(holds[0].id(), at(99)), (holds[2].id(), at(99))]).await.unwrap(),
            Lease::Lost
        );
        let abandoned = other.abandoned().await.unwrap();
        assert_eq!(abandoned, before, "a dead owner saves nothing any more");
        let known = |number: usize| {
            abandoned.iter().find(|one| one.id == holds[number].id()).unwrap().progress.clone()
        };
        assert_eq!([known(0), known(1), known(2)], [Some(told), Some(at(4)), None]);
        holds.into_iter().for_each(Hold::keep);
    }
);

/// Holds the database as an outage does, for a short time in which all leases run out by its clock.
async fn outage(database: &Database, meanwhile: impl Future<Output = ()>) {
    let tables = ["account", "hold", "ledger", "owner"];
    let tables: Vec<String> =
        tables.iter().map(|name| database.table(&format!("token_tracking_{name}"))).collect();
    match database.pool() {
        storage::Pool::Sqlite(pool) => {
            let mut away = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(run_out(database))).execute(&mut *away).await.unwrap();
            meanwhile.await;
            away.commit().await.unwrap();
        }
        storage::Pool::Postgres(pool) => {
            let mut away = pool.begin().await.unwrap();
            let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "));
            sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *away).await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(run_out(database))).execute(&mut *away).await.unwrap();
            meanwhile.await;
            away.commit().await.unwrap();
        }
    }
}

/// Looks for what dead processes left, as the heartbeat of a process does, but without a pause.
async fn recover(ledger: &Ledger) {
    for _ in 0..4 {
        // While the database is away, it says so.
        for hold in ledger.abandoned().await.unwrap_or_default() {
            ledger.recover(guess(hold, Credits::from_micro(7))).await.unwrap();
        }
    }
}

/// What was charged by recoveries.
async fn recovered(database: &Database) -> i64 {
    let ledger = database.table("token_tracking_ledger");
    let sql = format!("SELECT COUNT(*) FROM {ledger} WHERE outcome = 'recovered'");
    storage::on_pool!(database, pool => {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
    })
}

/// Outages during which all requests end and all leases run out, with so many processes.
async fn outages(database: &Database, processes: usize, rounds: i64) {
    let ledgers = join_all((0..processes).map(|_| Ledger::open(database))).await;
    let ledgers: Vec<Ledger> = ledgers.into_iter().map(Result::unwrap).collect();
    let mut charged = Credits::ZERO;
    for round in 1..=rounds {
        let mut ends = Vec::new();
        for (number, ledger) in
            (0..10_i64).flat_map(|number| ledgers.iter().map(move |ledger| (number, ledger)))
        {
            let hold = holding(ledger).await;
            let charge = Credits::from_micro(1000 * round + 10 * number + 1);
            // Every fourth produced nothing.
            if number % 4 == 3 {
                ends.push((hold, None));
            } else {
                charged = charged.plus(charge).unwrap();
                ends.push((hold, Some(charge)));
            }
        }
        let ends = ends.into_iter().map(|(hold, charge)| async move {
            match charge {
                Some(charge) => {
                    let spend = settlement(&hold, "ann", charge, Policy::OneCredit);
                    drop(hold.settle(spend).await.unwrap());
                }
                None => hold.release().await.unwrap(),
            }
        });
        let mut awake = Box::pin(async {
            futures_util::join!(join_all(ends), join_all(ledgers.iter().map(recover)));
        });
        if round % 3 == 0 {
            // Some are recovered before their owners wake up.
            outage(database, async {}).await;
            for hold in ledgers[0].abandoned().await.unwrap().into_iter().take(5) {
                let guess = guess(hold, Credits::from_micro(9));
                assert_eq!(ledgers[0].recover(guess).await.unwrap(), Recovery::Charged);
            }
        } else {
            // While it lasts, everything that owners and recoveries want to do is queued.
            outage(database, async { assert!(futures_util::poll!(&mut awake).is_pending()) }).await;
        }
        awake.await;
        join_all(ledgers.iter().map(recover)).await;
        let state = spent(database).await;
        assert_eq!(state, Account { spent: charged, held: Credits::ZERO }, "round {round}");
        for ledger in &ledgers {
            if ledger.renew(Vec::new()).await.unwrap() == Lease::Lost {
                ledger.register_again().await.unwrap();
            }
        }
    }
    assert_clean(database).await;
    let recovered = recovered(database).await;
    assert!(recovered >= 5 * rounds / 3, "recoveries came before owners: {recovered}");
}

each_database!(
    outages_with_two_processes_change_no_charge,
    async |test: testing::databases::TestDatabase| {
        outages(&test.migrated().await.unwrap(), 2, 30).await;
    }
);

each_database!(
    outages_with_four_processes_change_no_charge,
    async |test: testing::databases::TestDatabase| {
        outages(&test.migrated().await.unwrap(), 4, 30).await;
    }
);

each_way!(
    a_hold_that_stands_is_not_given_back_when_it_is_dropped,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let ledger = Ledger::open(&database).await.unwrap();
        let (given_back, mut stands) = (holding(&ledger).await, holding(&ledger).await);
        let id = stands.id();
        stands.make_stand();
        drop((given_back, stands));
        drained(&ledger).await;
        assert_eq!(spent(&database).await.held, credits(3));
        ledger.resign().await.unwrap();
        let other = Ledger::open(&database).await.unwrap();
        let abandoned = other.abandoned().await.unwrap();
        let [hold] = &abandoned[..] else { panic!("{abandoned:?}") };
        assert_eq!(hold.id, id);
        assert_clean(&database).await;
    }
);
