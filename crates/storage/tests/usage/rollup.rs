//! Reports from the roll-up say what the ledger says.

use std::collections::BTreeMap;

use accounting::{Credits, Day, SponsoredId};
use storage::admin::audit;
use storage::admin::repair::repair;
use storage::ledger::Ledger;
use storage::reports::usage::{By, Question, Sums, usage};
use storage::reports::verify::verify;
use storage::{Database, rollup};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::books::{self, COURSE, Row};

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

/// Questions, and which of the rows they are about, by what.
type Pick = fn(&Row) -> bool;
type Side = fn(&Row) -> String;

fn questions() -> Vec<(Question, Pick, Side)> {
    let by = |by: By| Question { by: vec![by], ..Question::default() };
    let some = |text: &str| Some(text.to_owned());
    vec![
        (by(By::User), |_| true, |row| row.user.into()),
        (by(By::Model), |_| true, |row| row.model.into()),
        (by(By::Provider), |_| true, |row| row.provider.into()),
        (by(By::Sponsor), |_| true, |row| row.sponsored.unwrap_or_default().into()),
        (by(By::Task), |_| true, |row| row.task.unwrap_or_default().into()),
        (by(By::Day), |_| true, |row| row.day.to_string()),
        (by(By::Month), |_| true, |row| row.day.to_string()[..7].into()),
        (
            by(By::Week),
            |_| true,
            |row| {
                let week = row.day.date().iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            },
        ),
        (Question::default(), |_| true, |_| String::new()),
        (
            Question { from: Some(day("2026-03-05")), to: Some(day("2026-03-09")), ..by(By::Model) },
            |row| (day("2026-03-05")..=day("2026-03-09")).contains(&row.day),
            |row| row.model.into(),
        ),
        (
            Question { user: some("ann"), ..by(By::Task) },
            |row| row.user == "ann",
            |row| row.task.unwrap_or_default().into(),
        ),
        (
            Question {
                provider: some("OpenAI"),
                model: some("gpt"),
                task: some(""),
                sponsored: Some(COURSE.parse::<SponsoredId>().unwrap()),
                ..by(By::User)
            },
            |row| (row.provider, row.model, row.task, row.sponsored) == ("openai", "gpt", None, Some(COURSE)),
            |row| row.user.into(),
        ),
    ]
}

/// All answers, computed the plain way, against those of the database.
async fn compare(database: &Database, rows: &[Row], when: &str) {
    for (question, pick, side) in questions() {
        let mut expected: BTreeMap<String, Sums> = BTreeMap::new();
        let mut total = Sums::default();
        for row in rows.iter().filter(|row| pick(row)) {
            if let Some(sums) = row.sums() {
                expected.entry(side(row)).or_default().add(&sums).unwrap();
                total.add(&sums).unwrap();
            }
        }
        let report = usage(database, &question).await.unwrap();
        assert_eq!(report.total, total, "{when}: {question:?}");
        let found: BTreeMap<String, Sums> =
            report.rows.iter().map(|row| (row.key().to_owned(), row.sums)).collect();
        assert_eq!(found, expected, "{when}: {question:?}");
        assert_eq!(found.len(), report.rows.len());
    }
}

async fn rolled(database: &Database, clock: &SettableClock) -> usize {
    rollup::roll_up(database, clock, None, |_, _| {}).await.unwrap()
}

async fn assert_clean(database: &Database, days: usize) {
    let verification = verify(database).await.unwrap();
    assert!(verification.is_clean(), "{verification:?}");
    assert_eq!(verification.days, days);
}

each_database!(the_roll_up_says_what_the_ledger_says, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let mut rows = books::rows(7, 20_000);
    books::write(&database, &rows).await;
    compare(&database, &rows, "nothing summed").await;
    // Half of the days are over; then all of them.
    let clock = SettableClock::at("2026-03-11T13:00:00Z".parse().unwrap());
    assert_eq!(rolled(&database, &clock).await, 11, "the last of February in New York, to the 10th of March");
    assert_eq!(rolled(&database, &clock).await, 0);
    compare(&database, &rows, "half summed").await;
    clock.set(books::end());
    rolled(&database, &clock).await;
    assert!(rollup::due(&database, &clock).await.unwrap().is_empty());
    compare(&database, &rows, "all summed").await;
    assert_clean(&database, 24).await;
    // What comes late is not in the roll-up yet, and counts all the same.
    let late = books::rows(8, 100);
    books::write(&database, &late).await;
    let days: std::collections::BTreeSet<Day> = late.iter().map(|row| row.day).collect();
    let table = database.table("token_tracking_rollup_day");
    let list: Vec<String> = days.iter().map(|day| format!("'{day}'")).collect();
    let wrong = verify(&database).await.unwrap();
    let usage_days = late.iter().filter(|row| row.sums().is_some()).map(|row| row.day);
    let found: Vec<Day> = wrong.wrong_days.iter().map(|wrong| wrong.day).collect();
    assert_eq!(found, usage_days.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>());
    database
        .run(format!("UPDATE {table} SET rolled_at = NULL WHERE day IN ({})", list.join(", ")))
        .await
        .unwrap();
    rows.extend(late);
    compare(&database, &rows, "some opened again").await;
    assert_eq!(rolled(&database, &clock).await, days.len());
    compare(&database, &rows, "all summed again").await;
    assert_clean(&database, 24).await;
});

each_database!(what_comes_late_opens_its_day, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let rows = books::rows(3, 500);
    books::write(&database, &rows).await;
    let clock = SettableClock::at(books::end());
    rolled(&database, &clock).await;
    let one = rows.iter().find(|row| row.kind == "request" && row.user == "ann").unwrap();
    let mut late = one.clone();
    // A request that took days, and ended when its day was summed.
    late.started_at += 1;
    late.id = books::id_at(late.started_at, 77);
    let ledger = Ledger::open(&database).await.unwrap();
    ledger.settle(late.settlement(books::end())).await.unwrap();
    // The same again, later and dearer: a correction.
    let mut dearer = late.settlement(books::end());
    dearer.charge = dearer.charge.plus(Credits::ONE).unwrap();
    ledger.settle(dearer.clone()).await.unwrap();
    assert_eq!(rollup::due(&database, &clock).await.unwrap(), [late.day]);
    let ann = Question {
        user: Some("ann".into()),
        from: Some(late.day),
        to: Some(late.day),
        ..Question::default()
    };
    let before = usage(&database, &ann).await.unwrap();
    assert_eq!(rolled(&database, &clock).await, 1);
    assert_eq!(usage(&database, &ann).await.unwrap(), before);
    assert_clean(&database, 24).await;
    dearer.charge = dearer.charge.plus(Credits::ONE).unwrap();
    ledger.settle(dearer).await.unwrap();
    assert_eq!(rollup::due(&database, &clock).await.unwrap(), [late.day], "a correction alone opens it too");
});

each_database!(who_used_something_keeps_a_name_after_open_webui_deletes_them, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let user = database.table("user");
    let made = format!(
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name VARCHAR(255), email VARCHAR(255)); \
         INSERT INTO {user} VALUES ('ann', 'Ann', 'ann@example.org'), ('idle', 'Never asked', 'idle@example.org')"
    );
    database.run(made).await.unwrap();
    books::write(&database, &books::rows(5, 100)).await;
    rolled(&database, &SettableClock::at(books::end())).await;
    database.run(format!("DELETE FROM {user}")).await.unwrap();
    let by_user = Question { by: vec![By::User], ..Question::default() };
    let report = format!("{:?}", usage(&database, &by_user).await.unwrap());
    assert!(report.contains("Some(\"Ann\")"), "{report}");
    let kept = database.table("token_tracking_name");
    // Of someone who used nothing, nothing is kept.
    let check = format!("INSERT INTO {kept} (kind, id, name, kept_at) VALUES ('user', 'idle', 'free', 0)");
    database.run(check).await.unwrap();
});

each_database!(wrong_books_are_repaired_when_asked, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let rows = books::rows(4, 300);
    books::write(&database, &rows).await;
    let clock = SettableClock::at(books::end());
    rolled(&database, &clock).await;
    let (account, summed) =
        (database.table("token_tracking_account"), database.table("token_tracking_rollup"));
    let key = rows[0].account();
    for sql in [
        format!("UPDATE {account} SET spent = spent + 1, held = 5 WHERE key = '{key}'"),
        format!("DELETE FROM {account} WHERE key = '{}'", rows[1].account()),
        format!("UPDATE {summed} SET charge = charge + 1 WHERE day = '2026-03-07' AND grain = 0"),
        format!("UPDATE {summed} SET requests = requests + 1 WHERE day = '2026-03-09' AND grain = 2"),
        format!("DELETE FROM {summed} WHERE day = '2026-03-10' AND grain = 1"),
    ] {
        database.run(sql).await.unwrap();
    }
    let found = verify(&database).await.unwrap();
    let wrong: Vec<_> = found.wrong_days.iter().map(|wrong| wrong.day).collect();
    assert_eq!(
        (found.differences.len(), wrong),
        (3, ["2026-03-07", "2026-03-09", "2026-03-10"].map(day).into())
    );
    assert_eq!(repair(&database, &found).await.unwrap(), found.differences);
    assert_clean(&database, 21).await;
    rolled(&database, &clock).await;
    assert_clean(&database, 24).await;
    let noted = audit::list(&database, &audit::Wanted::default()).await.unwrap();
    assert_eq!(noted.len(), 1, "{noted:?}");
    assert_eq!(noted[0].action, "verify --repair");
});
