//! Forgetting, giving out and pruning: the books stay right, reports stay, and nothing names who was forgotten.

use std::sync::{Arc, Mutex};

use accounting::{AccountLimit, Bid, Credits, Day, Quote, RequestId, UserId};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};
use storage::admin::{audit, forget, groups, keys, prune};
use storage::ledger::{HoldOutcome, HoldRequest, Ledger};
use storage::reports::person::person;
use storage::reports::usage::{By, Question, usage};
use storage::reports::verify::verify;
use storage::{Database, Error, new_id, rollup};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::books;

/// An id as Open WebUI makes them, beside the user whose rows `books` makes.
const NAME: &str = "Ann Example";
const EMAIL: &str = "ann@example.org";

async fn known(database: &Database) {
    let users = database.table("token_tracking_user");
    let members = database.table("token_tracking_sponsored_member");
    let chats = database.table("token_tracking_sponsored_chat");
    let names = database.table("token_tracking_name");
    let log = database.table("token_tracking_usage_log");
    database
        .run(format!(
            "INSERT INTO {users} VALUES ('ann', '{NAME}', '{EMAIL}', 1), ('bob', 'Bob', 'bob@example.org', 1); \
             INSERT INTO {members} VALUES ('x', 'user', 'ann'); \
             INSERT INTO {chats} VALUES ('ann', 'c', 'x', 1); \
             INSERT INTO {names} VALUES ('user', 'ann', '{NAME}', 1); \
             INSERT INTO {log} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens) \
               VALUES ('2026-03-01 00:00:00', 'ann', 'openai', 'gpt', 1, 2)"
        ))
        .await
        .unwrap();
    groups::create(database, "staff", 5, "").await.unwrap();
    groups::add_user(database, "staff", &UserId::new("ann").unwrap()).await.unwrap();
    keys::create(database, "Ann's laptop", Some(UserId::new("ann").unwrap()), None, books::begin())
        .await
        .unwrap();
}

/// Every text in every table of ours.
async fn everything(database: &Database) -> String {
    let mut all = String::new();
    for (table, columns) in [
        ("ledger", "id, user_id, accounts, chat_id, message_id, reason"),
        ("account", "key, user_id"),
        ("rollup", "user_id"),
        ("user", "id, name, email"),
        ("name", "id, name"),
        ("key", "name, user_id"),
        ("audit", "who, subject, before, after"),
        ("sponsored_member", "member"),
        ("sponsored_chat", "user_id"),
        ("credit_group_user", "user_id"),
        ("usage_log", "user_id"),
    ] {
        let sql = format!("SELECT {columns} FROM {}", database.table(&format!("token_tracking_{table}")));
        storage::on_pool!(database, pool => {
            for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap() {
                for column in 0..row.len() {
                    all.push_str(row.get::<Option<String>, _>(column).as_deref().unwrap_or_default());
                    all.push('\n');
                }
            }
        });
    }
    all
}

async fn totals(database: &Database) -> Vec<(Credits, i64)> {
    let question = Question { by: vec![By::User], ..Question::default() };
    let rows = usage(database, &question).await.unwrap().rows;
    rows.iter().map(|row| (row.sums.credits, row.sums.requests)).collect()
}

each_database!(nothing_names_a_forgotten_user, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap().acting_as(EMAIL);
    let rows = books::rows(11, 2000);
    books::write(&database, &rows).await;
    known(&database).await;
    let clock = SettableClock::at("2026-03-12T00:00:00Z".parse().unwrap());
    rollup::roll_up(&database, &clock, None, |_, _| {}).await.unwrap();
    let before = totals(&database).await;
    let ann = forget::find(&database, EMAIL).await.unwrap();
    assert_eq!(
        (ann.id.as_str(), ann.names.as_slice(), ann.in_open_webui),
        ("ann", &[NAME.to_owned(), EMAIL.to_owned()][..], false)
    );
    let database = database.acting_as("admin");
    let done = forget::forget(&database, &ann).await.unwrap();
    assert_eq!(done.entries, rows.iter().filter(|row| row.user == "ann").count());
    assert_eq!((done.keys, done.notes > 0), (1, true));
    let all = everything(&database).await;
    for line in all.lines() {
        assert!(!["ann", NAME, EMAIL, "Ann's laptop", "chat-of-ann"].contains(&line), "{line}");
        assert!(!line.contains(EMAIL) && !line.contains(":ann\"") && !line.contains("\"ann\""), "{line}");
    }
    assert!(all.contains("chat-of-bob") && all.contains("bob@example.org"), "the others stay as they are");
    assert_eq!(totals(&database).await, before, "amounts stay");
    assert!(verify(&database).await.unwrap().is_clean());
    rollup::roll_up(&database, &SettableClock::at(books::end()), None, |_, _| {}).await.unwrap();
    assert_eq!(totals(&database).await, before);
    assert!(verify(&database).await.unwrap().is_clean());
    let noted = audit::list(&database, &audit::Wanted::default()).await.unwrap();
    let last = noted.last().unwrap();
    assert_eq!((last.action.as_str(), last.subject.as_str()), ("user forget", done.pseudonym.as_str()));
    assert!(matches!(forget::find(&database, "ann").await, Err(Error::NotFound { .. })));
});

each_database!(nobody_is_forgotten_while_requests_run, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let rows = books::rows(12, 50);
    books::write(&database, &rows).await;
    known(&database).await;
    let ledger = Ledger::open(&database).await.unwrap();
    let row = rows.iter().find(|row| row.user == "ann").unwrap();
    let limit = AccountLimit { account: row.account().parse().unwrap(), limit: None };
    let request = HoldRequest {
        id: RequestId::new(new_id()),
        bid: Bid { accounts: vec![limit], quote: Quote::Estimate(Credits::ONE) },
        record: row.settlement(books::end()).record,
        wait: std::time::Duration::ZERO,
    };
    let HoldOutcome::Held(hold) = ledger.hold(request).await.unwrap() else {
        unreachable!("nothing limits it")
    };
    let ann = forget::find(&database, "ann").await.unwrap();
    let refused = forget::forget(&database, &ann).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    assert!(everything(&database).await.contains(EMAIL), "nothing has changed");
    hold.release().await.unwrap();
    ledger.renew(Vec::new()).await.unwrap();
    forget::forget(&database, &ann).await.unwrap();
    // The writer finds the accounts by their new names, and goes on.
    ledger.settle(row.settlement(books::end())).await.unwrap();
    assert!(verify(&database).await.unwrap().is_clean());
});

each_database!(all_that_is_kept_about_someone_is_given_out, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let rows = books::rows(13, 1000);
    books::write(&database, &rows).await;
    known(&database).await;
    let ann = forget::find(&database, NAME).await.unwrap();
    let text = Arc::new(Mutex::new(String::new()));
    let filled = Arc::clone(&text);
    let write = move |piece: &str| -> Result<(), Error> {
        filled.lock().unwrap().push_str(piece);
        Ok(())
    };
    person(&database, &ann, write).await.unwrap();
    let found: Value = serde_json::from_str(&text.lock().unwrap()).unwrap();
    let entries = found["ledger"].as_array().unwrap();
    assert_eq!(entries.len(), rows.iter().filter(|row| row.user == "ann").count());
    assert!(entries.iter().all(|entry| entry["user_id"] == "ann"));
    for part in [
        "seen",
        "kept_name",
        "credit_groups",
        "sponsored_memberships",
        "sponsored_chats",
        "keys",
        "usage_log",
    ] {
        assert_eq!(found[part].as_array().unwrap().len(), 1, "{part}");
    }
    assert_eq!(found["seen"][0]["email"], EMAIL);
    assert!(
        !found["accounts"].as_array().unwrap().is_empty() && !found["audit"].as_array().unwrap().is_empty()
    );
});

each_database!(pruned_books_are_right_and_reports_stay, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let rows = books::rows(14, 12_000);
    books::write(&database, &rows).await;
    // Of one allowance for ever, and of a month that goes on: both draw on several days.
    let total = format!("sponsored-total:{}", books::COURSE);
    let month = "user-month:2026-03-01:bob";
    let (ledger, account) =
        (database.table("token_tracking_ledger"), database.table("token_tracking_account"));
    for (key, kind, condition) in [
        (total.as_str(), "sponsored-total", format!("sponsored_id = '{}'", books::COURSE)),
        (month, "user-month", "user_id = 'bob' AND day >= '2026-03-01'".to_owned()),
    ] {
        let list = format!("replace(accounts, ']', ',\"{key}\"]')");
        let day = if kind == "user-month" { "'2026-03-01'" } else { "NULL" };
        database
            .run(format!(
                "INSERT INTO {account} (key, kind, user_id, day, spent) SELECT '{key}', '{kind}', NULL, {day}, SUM(charge) \
                 FROM {ledger} WHERE {condition}; UPDATE {ledger} SET accounts = {list} WHERE {condition}"
            ))
            .await
            .unwrap();
    }
    let log = database.table("token_tracking_usage_log");
    let mark = |kind: &str| {
        format!(
            "INSERT INTO {log} (user_id, tracking_id) SELECT '{kind}', id FROM {ledger} WHERE kind = '{kind}'"
        )
    };
    database.run(format!("{}; {}", mark("request"), mark("import"))).await.unwrap();
    assert!(verify(&database).await.unwrap().is_clean());
    let before = totals(&database).await;
    let number = async |sql: String| -> i64 {
        storage::on_pool!(database, pool => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap())
    };
    let spent = async |key: &str| number(format!("SELECT spent FROM {account} WHERE key = '{key}'")).await;
    let (of_total, of_month) = (spent(&total).await, spent(month).await);
    let clock = SettableClock::at("2026-03-20T13:00:00Z".parse().unwrap());
    let day = |text: &str| text.parse::<Day>().unwrap();
    assert!(matches!(prune::find(&database, &clock, day("2026-03-20")).await, Err(Error::Invalid { .. })));
    for date in ["2026-03-07", "2026-03-12"] {
        let found = prune::find(&database, &clock, day(date)).await.unwrap();
        let gone = prune::prune(&database, &clock, found, |_| {}).await.unwrap();
        assert_eq!(gone, found.entries);
        let verification = verify(&database).await.unwrap();
        assert!(verification.is_clean(), "{verification:?}");
        assert_eq!(totals(&database).await, before, "reports stay");
        assert_eq!((spent(&total).await, spent(month).await), (of_total, of_month));
    }
    // Adjustments stay while weeks and months are compared with their days.
    let left = format!(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM {ledger} WHERE day < '2026-03-12' AND kind NOT IN ('carried', 'adjustment')"
    );
    assert_eq!(number(left).await, 0);
    let carried = format!(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM {ledger} WHERE kind = 'carried' AND accounts LIKE '[\"sponsored-total%'"
    );
    assert_eq!(number(carried).await, 1, "one for each account");
    let days = format!(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM {account} WHERE kind = 'user-day' AND day < '2026-02-01'"
    );
    assert_eq!(number(days).await, 0);
    let logged = async |kind: &str| {
        number(format!(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM {log} WHERE user_id = '{kind}' AND tracking_id IS NOT NULL"
        ))
        .await
    };
    let of = |kind: &'static str| rows.iter().filter(move |row| row.kind == kind);
    assert_eq!(
        logged("import").await,
        i64::try_from(of("import").count()).unwrap(),
        "the original's own rows stay"
    );
    let kept = of("request").filter(|row| row.day >= day("2026-03-12")).count();
    assert_eq!(logged("request").await, i64::try_from(kept).unwrap());
    // A year later the month is over, and its account goes.
    let later = SettableClock::at("2027-03-20T13:00:00Z".parse().unwrap());
    let found = prune::find(&database, &later, day("2027-01-01")).await.unwrap();
    prune::prune(&database, &later, found, |_| {}).await.unwrap();
    assert!(verify(&database).await.unwrap().is_clean());
    assert_eq!(totals(&database).await, before);
    assert_eq!(spent(&total).await, of_total);
    let left = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {account}");
    assert_eq!(number(left).await, 1, "only the allowance's total");
});
