//! The ledger on both databases: limits hold under concurrency, every hold ends once, and the books stay right.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

use std::time::Duration;

use accounting::{
    Account, AccountKey, AccountLimit, Bid, Credits, Day, Policy, Quote, Rate, RequestId, SponsoredId, Usage,
    UserId, Worst,
};
use futures_util::future::join_all;
use storage::ledger::{
    Hold, HoldOutcome, HoldRequest, Lease, Ledger, Outcome, Progress, Recovery, RequestRecord, Settlement,
};
use storage::reports::balance::account;
use storage::reports::usage::{Question, usage};
use storage::reports::verify::verify;
use storage::{Database, Error, new_id};
use testing::{each_database, each_way, records};

mod processes;
mod recovery;
mod refusals;
mod round_trips;

const PATIENCE: Duration = Duration::from_secs(30);
const NO_WAIT: Duration = Duration::ZERO;

fn credits(whole: i64) -> Credits {
    Credits::from_whole(whole).unwrap()
}

fn day() -> Day {
    "2026-11-24".parse().unwrap()
}

fn user_account(user: &str) -> AccountKey {
    AccountKey::User { day: day(), user: UserId::new(user).unwrap() }
}

fn record(user: &str, policy: Policy) -> RequestRecord {
    let chat_id = Some("chat".into());
    RequestRecord { policy, chat_id, ..records::record(user, day()).unwrap() }
}

fn request(user: &str, limits: &[(AccountKey, i64)], quote: Quote, wait: Duration) -> HoldRequest {
    let policy = if matches!(quote, Quote::Worst(_)) { Policy::Strict } else { Policy::OneCredit };
    let accounts = limits
        .iter()
        .map(|(account, limit)| AccountLimit { account: account.clone(), limit: Some(credits(*limit)) });
    HoldRequest {
        id: RequestId::new(new_id()),
        bid: Bid { accounts: accounts.collect(), quote },
        record: record(user, policy),
        wait,
    }
}

/// One output token costs a hundredth of a credit.
fn worst(tokens: u64) -> Quote {
    Quote::Worst(Worst {
        input: Credits::ZERO,
        output: Rate::new(Credits::ONE, 100),
        output_tokens: tokens,
        choices: 1,
        least_output_tokens: tokens,
    })
}

fn settlement(hold: &Hold, user: &str, charge: Credits, policy: Policy) -> Settlement {
    let (record, accounts) = (record(user, policy), hold.accounts().to_vec());
    records::settlement(hold.id(), record, accounts, charge, "2026-11-24T12:00:00Z".parse().unwrap())
}

async fn held(ledger: &Ledger, request: HoldRequest) -> Hold {
    match ledger.hold(request).await.unwrap() {
        HoldOutcome::Held(hold) => hold,
        other => panic!("{other:?}"),
    }
}

async fn assert_clean(database: &Database) {
    let verification = verify(database).await.unwrap();
    assert_eq!(verification.differences, [], "the books are wrong");
}

/// Waits until everything that was queued before has been applied.
async fn drained(ledger: &Ledger) {
    ledger.renew(Vec::new()).await.unwrap();
}

each_way!(
    one_credit_waits_for_holds_instead_of_refusing_falsely,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let ledger = Ledger::open(&database).await.unwrap();
        let limits = [(user_account("ann"), 10)];
        let estimate = |whole| Quote::Estimate(credits(whole));
        let first = held(&ledger, request("ann", &limits, estimate(10), PATIENCE)).await;
        // Fifteen wait behind the first; all of them cost little, so all of them are served in the end.
        let waiting = (0..15).map(|_| ledger.hold(request("ann", &limits, estimate(1), PATIENCE)));
        let settle_first = async {
            drained(&ledger).await;
            let spend = settlement(&first, "ann", Credits::from_micro(10), Policy::OneCredit);
            first.settle(spend).await.unwrap();
        };
        let (served, ()) = futures_util::join!(
            async {
                let mut served = 0;
                for outcome in join_all(waiting.map(|outcome| async {
                    match outcome.await.unwrap() {
                        HoldOutcome::Held(hold) => {
                            let spend = settlement(&hold, "ann", Credits::from_micro(1), Policy::OneCredit);
                            hold.settle(spend).await.unwrap();
                            1
                        }
                        other => panic!("{other:?}"),
                    }
                }))
                .await
                {
                    served += outcome;
                }
                served
            },
            settle_first
        );
        assert_eq!(served, 15);
        let state = account(&database, &user_account("ann")).await.unwrap();
        assert_eq!(state, Account { spent: Credits::from_micro(25), held: Credits::ZERO });
        assert_clean(&database).await;
    }
);

each_way!(
    a_seventeenth_waiter_is_sent_away_and_a_late_one_too,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let ledger = Ledger::open(&database).await.unwrap();
        let limits = [(user_account("ann"), 10)];
        let ask = |wait| ledger.hold(request("ann", &limits, Quote::Estimate(credits(10)), wait));
        let first = held(&ledger, request("ann", &limits, Quote::Estimate(credits(10)), PATIENCE)).await;
        assert!(
            matches!(ask(NO_WAIT).await.unwrap(), HoldOutcome::Busy),
            "no patience, no place in the queue"
        );
        let mut waiting: Vec<_> = (0..16).map(|_| Box::pin(ask(PATIENCE))).collect();
        // Polling each once puts it into the queue.
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        drained(&ledger).await;
        assert!(matches!(ask(PATIENCE).await.unwrap(), HoldOutcome::Busy));
        // Those who went away hold nothing once the first is done.
        drop(waiting);
        first.release().await.unwrap();
        drained(&ledger).await;
        let state = account(&database, &user_account("ann")).await.unwrap();
        assert_eq!(state, Account::default());
        assert_clean(&database).await;
    }
);

each_way!(one_poisoned_item_fails_alone, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let limits = |user: &str| vec![(user_account(user), 100)];
    // An account that can take no more, and a row that the database refuses.
    let mut overflowing = request("bob", &[], Quote::Estimate(credits(5)), NO_WAIT);
    overflowing.bid.accounts = vec![AccountLimit { account: user_account("bob"), limit: None }];
    let mut full = request("bob", &[], Quote::Estimate(Credits::MAX), NO_WAIT);
    full.bid.accounts = overflowing.bid.accounts.clone();
    let _full = held(&ledger, full).await;
    let twice = request("eve", &limits("eve"), Quote::Estimate(credits(1)), NO_WAIT);
    let hold = held(&ledger, twice.clone()).await;
    let spend = settlement(&hold, "eve", credits(1), Policy::OneCredit);
    hold.settle(spend.clone()).await.unwrap();
    let mut poisoned = spend;
    poisoned.id = RequestId::new(new_id());
    poisoned.provider_request_id = Some("a\0b".into());
    let good =
        |user: &'static str| ledger.hold(request(user, &limits(user), Quote::Estimate(credits(1)), NO_WAIT));
    let (first, bad, poison, second) =
        futures_util::join!(good("ann"), ledger.hold(overflowing), ledger.settle(poisoned), good("cal"));
    assert!(matches!(first.unwrap(), HoldOutcome::Held(_)));
    assert!(matches!(bad, Err(Error::Accounting(accounting::Error::Overflow))), "{bad:?}");
    // What PostgreSQL would refuse is no part of a label, however it was made.
    poison.unwrap();
    assert!(matches!(second.unwrap(), HoldOutcome::Held(_)));
    drained(&ledger).await;
    assert_clean(&database).await;
});

each_way!(a_hold_whose_caller_went_away_is_released, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let limits = [(user_account("ann"), 10)];
    drop(held(&ledger, request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT)).await);
    let mut gone = Box::pin(ledger.hold(request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT)));
    // Begun; on a quick machine it may be held already, and goes unused all the same.
    drop(futures_util::poll!(&mut gone));
    drop(gone);
    drained(&ledger).await;
    drained(&ledger).await;
    assert_eq!(account(&database, &user_account("ann")).await.unwrap(), Account::default());
    assert_clean(&database).await;
});

each_way!(settling_twice_charges_once, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let limits = [(user_account("ann"), 10)];
    let hold = held(&ledger, request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT)).await;
    let spend = settlement(&hold, "ann", credits(4), Policy::OneCredit);
    hold.settle(spend.clone()).await.unwrap();
    // The same again, as after an answer that was lost; also twice in one batch.
    let (again, and_again) = futures_util::join!(ledger.settle(spend.clone()), ledger.settle(spend));
    again.unwrap();
    and_again.unwrap();
    let state = account(&database, &user_account("ann")).await.unwrap();
    assert_eq!(state, Account { spent: credits(4), held: Credits::ZERO });
    assert_eq!(verify(&database).await.unwrap().entries, 1);
});

each_way!(
    a_dead_owners_holds_are_settled_once_and_a_late_owner_corrects,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let (sleeper, other) =
            (Ledger::open(&database).await.unwrap(), Ledger::open(&database).await.unwrap());
        let limits = [(user_account("ann"), 100)];
        let hold = held(&sleeper, request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT)).await;
        let progress = Progress { output_tokens: 7, first_byte_at: Some(5), ..Progress::default() };
        assert_eq!(sleeper.renew(vec![(hold.id(), progress.clone())]).await.unwrap(), Lease::Held);
        assert_eq!(other.abandoned().await.unwrap(), [], "a living owner's holds are its own");
        // Its lease runs out by the database's clock.
        let owners = database.table("token_tracking_owner");
        database
            .run(format!(
                "UPDATE {owners} SET renewed_at = renewed_at - 13000000 WHERE id = '{}'",
                sleeper.owner()
            ))
            .await
            .unwrap();
        let abandoned = other.abandoned().await.unwrap();
        assert_eq!(abandoned.len(), 1);
        assert_eq!(abandoned[0].progress, Some(progress));
        assert_eq!(abandoned[0].record, record("ann", Policy::OneCredit));
        let mut guess = settlement(&hold, "ann", credits(2), Policy::OneCredit);
        guess.usage = Usage::tokens(10, 7);
        guess.outcome = Outcome::Recovered;
        // Two processes settle it at the same time.
        let third = Ledger::open(&database).await.unwrap();
        let (one, two) = futures_util::join!(other.recover(guess.clone()), third.recover(guess));
        let charged = [one.unwrap(), two.unwrap()].iter().filter(|one| **one == Recovery::Charged).count();
        assert_eq!(charged, 1);
        assert_eq!(account(&database, &user_account("ann")).await.unwrap().spent, credits(2));
        // The owner wakes up: its lease is lost, and its settlement is the difference.
        assert_eq!(sleeper.renew(Vec::new()).await.unwrap(), Lease::Lost);
        let spend = settlement(&hold, "ann", credits(5), Policy::OneCredit);
        hold.settle(spend).await.unwrap();
        let state = account(&database, &user_account("ann")).await.unwrap();
        assert_eq!(state, Account { spent: credits(5), held: Credits::ZERO });
        sleeper.register_again().await.unwrap();
        assert_eq!(sleeper.renew(Vec::new()).await.unwrap(), Lease::Held);
        let used = usage(&database, &Question::default()).await.unwrap().total;
        assert_eq!((used.requests, used.output, used.credits), (1, 20, credits(5)));
        assert_eq!(verify(&database).await.unwrap().entries, 2);
        assert_clean(&database).await;
    }
);

each_way!(an_owner_that_signed_off_leaves_nothing_behind, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let (leaving, staying) = (Ledger::open(&database).await.unwrap(), Ledger::open(&database).await.unwrap());
    let limits = [(user_account("ann"), 100)];
    held(&leaving, request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT)).await.keep();
    leaving.resign().await.unwrap();
    assert_eq!(staying.abandoned().await.unwrap().len(), 1);
});

each_way!(
    a_hold_of_a_task_that_panics_stands_until_it_is_recovered,
    async |test: testing::databases::TestDatabase| {
        let database = test.migrated().await.unwrap();
        let (failing, other) =
            (Ledger::open(&database).await.unwrap(), Ledger::open(&database).await.unwrap());
        let limits = [(user_account("ann"), 100)];
        let hold = held(&failing, request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT)).await;
        let charging = std::thread::spawn(move || {
            let _hold = hold;
            panic!("a fault while it is charged");
        });
        charging.join().unwrap_err();
        failing.resign().await.unwrap();
        assert_eq!(other.abandoned().await.unwrap().len(), 1);
    }
);

each_way!(more_than_a_strict_hold_is_charged_and_marked, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let hold = held(&ledger, request("ann", &[(user_account("ann"), 10)], worst(500), NO_WAIT)).await;
    assert_eq!((hold.amount(), hold.output_tokens()), (credits(5), Some(500)));
    let spend = settlement(&hold, "ann", credits(6), Policy::Strict);
    assert!(hold.settle(spend).await.unwrap().over_hold);
    let verification = verify(&database).await.unwrap();
    assert_eq!((verification.over_hold, verification.differences), (1, vec![]));
});

each_way!(verify_finds_what_was_changed_by_hand, async |test: testing::databases::TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    let limits = [(user_account("ann"), 100)];
    let hold = held(&ledger, request("ann", &limits, Quote::Estimate(credits(3)), NO_WAIT)).await;
    let accounts = database.table("token_tracking_account");
    database.run(format!("UPDATE {accounts} SET spent = spent + 1, held = held - 2")).await.unwrap();
    let differences = verify(&database).await.unwrap().differences;
    let found: Vec<_> = differences.iter().map(|one| (one.what, one.recorded, one.computed)).collect();
    let micro = Credits::from_micro;
    assert_eq!(found, [("spent", micro(1), micro(0)), ("held", micro(2_999_998), micro(3_000_000))]);
    drop(hold);
});
