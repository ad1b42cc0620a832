//! Limits over weeks and months, what groups add to them, and adjustments, on both databases.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

use std::time::Duration;

use accounting::{
    Account, AccountKey, AccountLimit, Bid, Clock, Credits, Day, Period, Quote, RequestId, SponsoredId,
    UserId,
};
use futures_util::future::join_all;
use storage::admin::credits::{self, Direction, Whose};
use storage::admin::groups::{self, Change};
use storage::admin::{audit, settings};
use storage::ledger::{Hold, HoldOutcome, HoldRequest, Ledger, RequestRecord};
use storage::reports::balance::{Balance, account, balances};
use storage::reports::verify::verify;
use storage::{Database, Error, Kind, Membership, Snapshot, new_id};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::{each_database, records};

/// A Tuesday; the clocks of Berlin show 13:00.
const NOON: &str = "2026-11-24T12:00:00Z";

fn credits(whole: i64) -> Credits {
    Credits::from_whole(whole).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn key(period: Period, day: &str, id: &str) -> AccountKey {
    AccountKey::of_user(period, day.parse().unwrap(), user(id))
}

fn record(id: &str, day: &str) -> RequestRecord {
    records::record(id, day.parse().unwrap()).unwrap()
}

/// A request that holds a credit on the accounts of these periods, with their limits.
fn request(id: &str, day: &str, limits: &[(Period, i64)]) -> HoldRequest {
    let limit = |(period, limit): &(Period, i64)| AccountLimit {
        account: key(*period, day, id),
        limit: Some(credits(*limit)),
    };
    let accounts = limits.iter().map(limit).collect();
    HoldRequest {
        id: RequestId::new(new_id()),
        bid: Bid { accounts, quote: Quote::Estimate(Credits::ONE) },
        record: record(id, day),
        wait: Duration::from_secs(30),
    }
}

async fn held(ledger: &Ledger, request: HoldRequest) -> Hold {
    match ledger.hold(request).await.unwrap() {
        HoldOutcome::Held(hold) => hold,
        other => panic!("{other:?}"),
    }
}

async fn settle(hold: Hold, id: &str, day: &str, charge: Credits) {
    let (record, accounts) = (record(id, day), hold.accounts().to_vec());
    let settlement = records::settlement(hold.id(), record, accounts, charge, NOON.parse().unwrap());
    hold.settle(settlement).await.unwrap();
}

/// A request of so many credits, from its hold to its charge.
async fn spend(ledger: &Ledger, id: &str, day: &str, limits: &[(Period, i64)], charge: i64) {
    let hold = held(ledger, request(id, day, limits)).await;
    settle(hold, id, day, credits(charge)).await;
}

async fn spent(database: &Database, period: Period, day: &str, id: &str) -> i64 {
    account(database, &key(period, day, id)).await.unwrap().spent.micro() / 1_000_000
}

async fn clean(database: &Database) {
    assert_eq!(verify(database).await.unwrap().differences, [], "the books are wrong");
}

async fn set(database: &Database, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        settings::set(database, key, value).await.unwrap();
    }
}

fn clock() -> SettableClock {
    SettableClock::at(NOON.parse().unwrap())
}

async fn balance(database: &Database, clock: &dyn Clock, id: &str) -> Balance {
    balances(database, clock, Some(id)).await.unwrap().remove(0)
}

async fn known(database: &Database, id: &str) {
    let table = database.table("token_tracking_user");
    database
        .run(format!("INSERT INTO {table} VALUES ('{id}', '{id}', '{id}@example.org', 0)"))
        .await
        .unwrap();
}

const DAY: (Period, i64) = (Period::Day, 100);
const WEEK: (Period, i64) = (Period::Week, 30);
const MONTH: (Period, i64) = (Period::Month, 100);

each_database!(a_week_that_begins_in_its_middle_has_what_its_days_have, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    // Sunday is of the week before, the 30th of October of the month before.
    for (day, charge) in [("2026-10-30", 50), ("2026-11-22", 7), ("2026-11-23", 8), ("2026-11-24", 9)] {
        spend(&ledger, "ann", day, &[DAY], charge).await;
    }
    spend(&ledger, "bob", "2026-11-24", &[DAY], 5).await;
    let under_way = held(&ledger, request("ann", "2026-11-24", &[DAY])).await;
    // From now on there are limits; eight requests at once find them.
    let all = [DAY, WEEK, MONTH];
    let one = || spend(&ledger, "ann", "2026-11-24", &all, 1);
    join_all((0..8).map(|_| one())).await;
    assert_eq!(spent(&database, Period::Week, "2026-11-24", "ann").await, 8 + 9 + 8);
    assert_eq!(spent(&database, Period::Month, "2026-11-24", "ann").await, 7 + 8 + 9 + 8);
    let sql =
        format!("SELECT COUNT(*) FROM {} WHERE kind = 'carried'", database.table("token_tracking_ledger"));
    let entries = storage::on_pool!(database, pool => {
        sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
    });
    assert_eq!(entries, 2, "one for the week, one for the month");
    // What was under way ends on its day; another process that meets the week finds it, and only once.
    settle(under_way, "ann", "2026-11-24", credits(3)).await;
    for _ in 0..2 {
        let elsewhere = Ledger::open(&database).await.unwrap();
        let hold = held(&elsewhere, request("ann", "2026-11-24", &all)).await;
        hold.release().await.unwrap();
    }
    assert_eq!(spent(&database, Period::Week, "2026-11-24", "ann").await, 28);
    assert_eq!(spent(&database, Period::Month, "2026-11-24", "ann").await, 35);
    let week = account(&database, &key(Period::Week, "2026-11-24", "ann")).await.unwrap();
    assert_eq!(week.held, Credits::ZERO);
    // Two credits are left of the week, though 100 of each day.
    let last = held(&ledger, request("ann", "2026-11-25", &all)).await;
    settle(last, "ann", "2026-11-25", credits(2)).await;
    match ledger.hold(request("ann", "2026-11-25", &all)).await.unwrap() {
        HoldOutcome::Refused(refusal) => {
            assert_eq!(refusal.account, key(Period::Week, "2026-11-25", "ann"));
            assert_eq!((refusal.limit, refusal.spent), (credits(30), credits(30)));
        }
        other => panic!("{other:?}"),
    }
    clean(&database).await;
});

each_database!(two_processes_carry_over_once, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ledger = Ledger::open(&database).await.unwrap();
    spend(&ledger, "ann", "2026-11-23", &[DAY], 9).await;
    let processes = join_all((0..4).map(|_| Ledger::open(&database))).await;
    let processes: Vec<Ledger> = processes.into_iter().map(Result::unwrap).collect();
    let all = [DAY, (Period::Week, 1000)];
    join_all((0..32).map(|turn| spend(&processes[turn % 4], "ann", "2026-11-24", &all, 1))).await;
    assert_eq!(spent(&database, Period::Week, "2026-11-24", "ann").await, 9 + 32);
    clean(&database).await;
});

each_database!(a_weeks_limit_holds_under_64_at_once, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let processes = join_all((0..4).map(|_| Ledger::open(&database))).await;
    let processes: Vec<Ledger> = processes.into_iter().map(Result::unwrap).collect();
    spend(&processes[0], "ann", "2026-11-23", &[DAY], 6).await;
    for (period, limit) in [(Period::Week, 30), (Period::Month, 38)] {
        // Each holds the credit that it costs: the limit is met to the last one.
        let one = async |turn: usize| {
            let mut request = request("ann", "2026-11-24", &[(Period::Day, 1000), (period, limit)]);
            request.wait = Duration::from_secs(30);
            match processes[turn % 4].hold(request).await.unwrap() {
                HoldOutcome::Held(hold) => {
                    settle(hold, "ann", "2026-11-24", Credits::ONE).await;
                    1
                }
                HoldOutcome::Refused(refusal) => {
                    assert_eq!(refusal.account, key(period, "2026-11-24", "ann"));
                    0
                }
                HoldOutcome::Busy => 0,
            }
        };
        let served: Vec<i64> = join_all((0..64).map(one)).await;
        let before = if period == Period::Week { 6 } else { 30 };
        assert_eq!(served.iter().sum::<i64>(), limit - before, "{period}");
        assert_eq!(spent(&database, period, "2026-11-24", "ann").await, limit);
    }
    clean(&database).await;
});

each_database!(limits_of_base_and_groups_add_up_for_each_period, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let limits = async |id: &str| {
        let limits = Snapshot::of(&database, &clock()).await.unwrap().limits(&user(id));
        (limits.daily.whole(), limits.weekly.map(Credits::whole), limits.monthly.map(Credits::whole))
    };
    set(&database, &[("base_credit_allowance", "10")]).await;
    groups::create(&database, "plain", 1, "").await.unwrap();
    let weekly = Change { weekly: Some(Some(credits(200))), ..Change::default() };
    groups::create_with(&database, "weekly", weekly).await.unwrap();
    groups::add_user(&database, "plain", &user("ann")).await.unwrap();
    assert_eq!(limits("ann").await, (11, None, None));
    groups::add_user(&database, "weekly", &user("ann")).await.unwrap();
    assert_eq!(limits("ann").await, (11, Some(200), None));
    set(&database, &[("base_weekly_allowance", "50"), ("base_monthly_allowance", "170.5")]).await;
    let monthly = Change { monthly: Some(Some(credits(30))), ..Change::default() };
    groups::update(&database, "plain", monthly).await.unwrap();
    assert_eq!(limits("ann").await, (11, Some(250), Some(200)));
    assert_eq!(limits("bob").await, (10, Some(50), Some(170)));
    set(&database, &[("base_weekly_allowance", "none"), ("base_monthly_allowance", "none")]).await;
    let none = Change { monthly: Some(None), ..Change::default() };
    groups::update(&database, "plain", none).await.unwrap();
    assert_eq!(limits("ann").await, (11, Some(200), None));
    let negative = Change { weekly: Some(Some(Credits::from_micro(-1))), ..Change::default() };
    assert!(matches!(groups::update(&database, "plain", negative).await, Err(Error::Invalid { .. })));
});

each_database!(an_amount_that_is_too_large_takes_nobody_down, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    set(&database, &[("base_credit_allowance", "10")]).await;
    groups::create(&database, "all", 1, "").await.unwrap();
    groups::add_user(&database, "all", &user("ann")).await.unwrap();
    // The original and scripts write into its table what they like.
    let table = database.table("token_tracking_credit_group");
    let largest = match database.kind() {
        Kind::Sqlite => i64::MAX,
        Kind::Postgres => i64::from(i32::MAX),
    };
    database.run(format!("UPDATE {table} SET max_credit = {largest}")).await.unwrap();
    let snapshot = Snapshot::of(&database, &clock()).await.unwrap();
    assert_eq!(snapshot.limits(&user("bob")).daily, credits(10));
    let expected = match database.kind() {
        Kind::Sqlite => Credits::MAX,
        Kind::Postgres => credits(largest + 10),
    };
    assert_eq!(snapshot.limits(&user("ann")).daily, expected);
});

/// Open WebUI's groups, as version 0.12 keeps them: Course lies in School.
async fn open_webui(database: &Database) {
    let (group, member) = (database.table("group"), database.table("group_member"));
    let sql = format!(
        "CREATE TABLE {group} (id TEXT PRIMARY KEY, name TEXT, parent_group_id TEXT); \
         CREATE TABLE {member} (id TEXT PRIMARY KEY, group_id TEXT, user_id TEXT); \
         INSERT INTO {group} VALUES ('g1', 'School', NULL), ('g2', 'Course', 'g1'), ('g3', 'Twin', NULL), ('g4', 'twin', NULL); \
         INSERT INTO {member} VALUES ('m1', 'g1', 'ann'), ('m2', 'g2', 'bob')"
    );
    database.run(sql).await.unwrap();
}

each_database!(a_group_follows_one_of_open_webui, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    open_webui(&database).await;
    set(&database, &[("base_credit_allowance", "10")]).await;
    let follow = |which: &str| Change { open_webui_group: Some(Some(which.into())), ..Change::default() };
    let made =
        groups::create_with(&database, "school", Change { allowance: Some(5), ..follow("SCHOOL") }).await;
    assert_eq!(made.unwrap().open_webui_group.as_deref(), Some("g1"));
    groups::add_user(&database, "school", &user("carl")).await.unwrap();
    groups::add_user(&database, "school", &user("ann")).await.unwrap();
    let members = async || {
        let members = groups::memberships_of(&database, "school").await.unwrap();
        members.into_iter().map(|(user, how)| (user.id.to_string(), how)).collect::<Vec<_>>()
    };
    let (named, followed) = (Membership::Named, Membership::Followed);
    assert_eq!(members().await, [("ann".into(), named), ("bob".into(), followed), ("carl".into(), named)]);
    let daily =
        async |id: &str| Snapshot::of(&database, &clock()).await.unwrap().limits(&user(id)).daily.whole();
    for (id, credits) in [("ann", 15), ("bob", 15), ("carl", 15), ("dora", 10)] {
        assert_eq!(daily(id).await, credits, "{id}");
    }
    assert_eq!(groups::memberships(&database).await.unwrap()["bob"][0].name, "school");
    // Live: who leaves there leaves here; who was named stays.
    database.run(format!("DELETE FROM {}", database.table("group_member"))).await.unwrap();
    assert_eq!(members().await, [("ann".into(), named), ("carl".into(), named)]);
    let error = groups::remove_user(&database, "school", &user("bob")).await.unwrap_err().to_string();
    assert!(error.contains("Open WebUI group that it follows"), "{error}");
    for (which, says) in [("Schol", "did you mean `School`?"), ("TWIN", "name one by id: g3, g4")] {
        let error = groups::update(&database, "school", follow(which)).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let unfollow = Change { open_webui_group: Some(None), ..Change::default() };
    assert_eq!(groups::update(&database, "school", unfollow).await.unwrap().open_webui_group, None);
});

each_database!(a_deleted_groups_name_is_kept_and_its_changes_are_noted, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap().acting_as("eve");
    let group = groups::create(&database, "crew", 5, "All").await.unwrap();
    let two = [user("ann"), user("bob")];
    assert_eq!(groups::add_users(&database, "crew", &two).await.unwrap(), 2);
    assert_eq!(groups::add_users(&database, "crew", &two).await.unwrap(), 0);
    let three = [user("ann"), user("nobody")];
    assert!(matches!(groups::remove_users(&database, "crew", &three).await, Err(Error::NotFound { .. })));
    assert_eq!(groups::members(&database, "crew").await.unwrap().len(), 2, "all or none");
    groups::remove_users(&database, "crew", &two[..1]).await.unwrap();
    let same = Change { allowance: Some(5), ..Change::default() };
    groups::update(&database, "crew", same).await.unwrap();
    groups::update(&database, "crew", Change { name: Some("team".into()), ..Change::default() })
        .await
        .unwrap();
    groups::delete(&database, "team", true).await.unwrap();
    let noted = audit::list(&database, &audit::Wanted::default()).await.unwrap();
    let actions: Vec<_> = noted.iter().map(|noted| (noted.who.as_str(), noted.action.as_str())).collect();
    let expected =
        ["create", "add-user", "remove-user", "update", "delete"].map(|what| format!("credit-group {what}"));
    assert_eq!(actions, expected.each_ref().map(|action| ("eve", action.as_str())));
    assert_eq!(noted[3].after.as_ref().unwrap()["name"], "team");
    let sql = format!("SELECT kind, id, name FROM {}", database.table("token_tracking_name"));
    let names: Vec<(String, String, String)> = storage::on_pool!(database, pool => {
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
    });
    assert_eq!(names, [("credit_group".into(), group.id.simple().to_string(), "team".into())]);
});

each_database!(adjustments_are_entries_and_the_books_stay_right, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    set(&database, &[("base_credit_allowance", "10"), ("timezone", "Europe/Berlin")]).await;
    known(&database, "ann").await;
    let (clock, ledger) = (clock(), Ledger::open(&database).await.unwrap());
    let today = [(Period::Day, 10)];
    spend(&ledger, "ann", "2026-11-24", &today, 10).await;
    assert!(matches!(
        ledger.hold(request("ann", "2026-11-24", &today)).await.unwrap(),
        HoldOutcome::Refused(_)
    ));
    let of_day = Whose::User(user("ann"), Period::Day);
    let adjust = async |whose: &Whose, direction, amount: i64| {
        credits::adjust(&database, &clock, whose, direction, credits(amount), "because").await
    };
    let granted = adjust(&of_day, Direction::Grant, 25).await.unwrap();
    assert_eq!((granted.charge, granted.now.spent), (credits(-25), credits(-15)));
    // The writer, which remembers accounts, sees it.
    spend(&ledger, "ann", "2026-11-24", &today, 1).await;
    assert_eq!(adjust(&of_day, Direction::Revoke, 4).await.unwrap().now.spent, credits(-10));
    // Nothing for a period without a limit, nothing that is no amount, nothing without a reason.
    let of_week = Whose::User(user("ann"), Period::Week);
    let error = adjust(&of_week, Direction::Grant, 1).await.unwrap_err().to_string();
    assert!(error.contains("no weekly limit") && error.contains("base_weekly_allowance"), "{error}");
    for amount in [0, -1, i64::MAX / 1_000_000] {
        assert!(matches!(adjust(&of_day, Direction::Grant, amount).await, Err(Error::Invalid { .. })));
    }
    let silent = credits::adjust(&database, &clock, &of_day, Direction::Grant, Credits::ONE, " ").await;
    assert!(silent.unwrap_err().to_string().contains("--reason"));
    // A limit for the week counts what was spent, not what was granted for the day; and has grants of its own.
    set(&database, &[("base_weekly_allowance", "30")]).await;
    let seen = balance(&database, &clock, "ann").await;
    assert_eq!((seen.day.spent, seen.week.unwrap().spent), (credits(-10), credits(11)));
    assert_eq!(adjust(&of_week, Direction::Grant, 5).await.unwrap().now.spent, credits(-5));
    spend(&ledger, "ann", "2026-11-24", &[(Period::Day, 10), (Period::Week, 30)], 1).await;
    assert_eq!(spent(&database, Period::Week, "2026-11-24", "ann").await, 12 - 5);
    let seen = balance(&database, &clock, "ann").await;
    assert_eq!((seen.week.unwrap().spent, seen.week.unwrap().free), (credits(7), credits(23)));
    assert_eq!(seen.tightest().period, Period::Day);
    // A day that begins anew; again, there is nothing to do.
    spend(&ledger, "ann", "2026-11-24", &[(Period::Day, 100), (Period::Week, 100)], 12).await;
    let reset = credits::reset(&database, &clock, &user("ann"), "sorry").await.unwrap();
    assert_eq!((reset.charge, reset.now), (credits(-3), Account::default()));
    assert_eq!(credits::reset(&database, &clock, &user("ann"), "sorry").await.unwrap().charge, Credits::ZERO);
    assert_eq!(balance(&database, &clock, "ann").await.week.unwrap().spent, credits(19));
    let wanted = audit::Wanted { action: Some("credits".into()), ..audit::Wanted::default() };
    let noted = audit::list(&database, &wanted).await.unwrap();
    let seen: Vec<_> = noted.iter().map(|one| (one.action.as_str(), one.subject.as_str())).collect();
    let (grant, revoke, reset) = ("credits grant", "credits revoke", "credits reset");
    assert_eq!(seen, [(grant, "ann"), (revoke, "ann"), (grant, "ann"), (reset, "ann")]);
    assert_eq!(noted[1].after.as_ref().unwrap()["reason"], "because");
    clean(&database).await;
});

each_database!(the_total_of_a_sponsored_allowance_is_adjusted, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let (clock, id) = (clock(), SponsoredId::new(new_id()));
    let table = database.table("token_tracking_sponsored_allowance");
    let sql = format!(
        "INSERT INTO {table} (id, creation_date, name, sponsor_id, total_credit_limit) \
         VALUES ('{id}', CURRENT_TIMESTAMP, 'Lab', 'boss', 100)"
    );
    database.run(sql).await.unwrap();
    known(&database, "ann").await;
    let whose = credits::find(&database, &clock, "LAB", Period::Day).await.unwrap();
    assert_eq!(whose, Whose::Sponsored(id));
    let granted =
        credits::adjust(&database, &clock, &whose, Direction::Grant, credits(50), "more money").await;
    let granted = granted.unwrap();
    assert_eq!((granted.limit, granted.now.spent), (credits(100), credits(-50)));
    let found = credits::find(&database, &clock, "ann@example.org", Period::Week).await.unwrap();
    assert_eq!(found, Whose::User(user("ann"), Period::Week));
    assert!(matches!(
        credits::find(&database, &clock, "none", Period::Day).await,
        Err(Error::NotFound { .. })
    ));
    known(&database, "lab").await;
    assert!(matches!(
        credits::find(&database, &clock, "lab", Period::Day).await,
        Err(Error::Conflict { .. })
    ));
    clean(&database).await;
});

each_database!(adjustments_beside_running_requests, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    set(&database, &[("base_credit_allowance", "1000"), ("base_weekly_allowance", "1000")]).await;
    set(&database, &[("timezone", "UTC")]).await;
    let (clock, ledger) = (clock(), Ledger::open(&database).await.unwrap());
    let limits = [(Period::Day, 1000), (Period::Week, 1000)];
    let requests = join_all((0..64).map(|_| spend(&ledger, "ann", "2026-11-24", &limits, 2)));
    let adjustments = async {
        for turn in 0..24 {
            let period = if turn % 2 == 0 { Period::Day } else { Period::Week };
            let whose = Whose::User(user("ann"), period);
            let done = credits::adjust(&database, &clock, &whose, Direction::Grant, Credits::ONE, "x").await;
            done.unwrap();
        }
    };
    futures_util::join!(requests, adjustments);
    for period in [Period::Day, Period::Week] {
        let day: Day = "2026-11-24".parse().unwrap();
        let account = account(&database, &AccountKey::of_user(period, day, user("ann"))).await.unwrap();
        assert_eq!(account, Account { spent: credits(128 - 12), held: Credits::ZERO }, "{period}");
    }
    clean(&database).await;
});
