//! Refusals: summed by all that they have in common, within a bound, and treated as all that names a user.

use std::sync::{Arc, Mutex};

use accounting::{Day, UserId};
use serde_json::Value;
use storage::admin::{forget, prune};
use storage::refusals::{Reason, Refusal, Times, add, refused};
use storage::reports::person::person;
use storage::reports::usage::{By, Question};
use storage::{Database, Error};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

fn refusal(day: &str, user: &str, model: &str) -> Refusal {
    Refusal {
        day: day.parse().unwrap(),
        user: UserId::new(user).unwrap(),
        provider: "openai".into(),
        model: model.into(),
        reason: Reason::Limit,
        limited_by: "user-day",
        sponsored: None,
    }
}

fn times(count: i64, second: i64) -> Times {
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    Times { count, first: at(second), last: at(second + 1) }
}

/// The keys of each row, and how often.
async fn found(database: &Database, question: Question) -> Vec<(String, i64)> {
    let rows = refused(database, &question).await.unwrap().into_iter();
    rows.map(|row| {
        let keys = row.keys.iter().map(|key| key.id.clone().unwrap_or_default());
        (keys.collect::<Vec<_>>().join(" "), row.times.count)
    })
    .collect()
}

fn by(sides: &[By]) -> Question {
    Question { by: sides.to_vec(), ..Question::default() }
}

each_database!(refusals_are_summed_for_each_day, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let (first, second) = ("2026-03-01", "2026-03-02");
    let busy = Refusal { reason: Reason::Busy, limited_by: "", ..refusal(second, "ann", "m") };
    add(&database, &[(refusal(first, "ann", "m"), times(2, 10)), (refusal(first, "bob", "m"), times(1, 20))])
        .await
        .unwrap();
    add(&database, &[(refusal(first, "ann", "m"), times(3, 30)), (busy, times(1, 40))]).await.unwrap();
    let row = |text: &str, count| (text.to_owned(), count);
    assert_eq!(found(&database, by(&[By::User])).await, [row("ann", 5), row("ann", 1), row("bob", 1)]);
    assert_eq!(
        found(&database, by(&[By::Day, By::Model])).await,
        [row("2026-03-01 m", 6), row("2026-03-02 m", 1)]
    );
    let question = Question { user: Some("ann".into()), to: Some(first.parse().unwrap()), ..by(&[By::User]) };
    let rows = refused(&database, &question).await.unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.reason.as_str(), row.limited_by.as_str(), row.times.count), ("limit", "user-day", 5));
    assert_eq!((row.times.first.as_second(), row.times.last.as_second()), (10, 31));
    let wrong = refused(&database, &by(&[By::Task])).await;
    assert!(matches!(wrong, Err(Error::Invalid { .. })), "{wrong:?}");
});

each_database!(made_up_models_leave_room_for_the_others, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let unknown = |model: &str| Refusal {
        provider: String::new(),
        reason: Reason::UnknownModel,
        limited_by: "",
        ..refusal("2026-03-01", "ann", model)
    };
    let made_up: Vec<_> = (0..100).map(|model| (unknown(&format!("u{model}")), times(1, 1))).collect();
    for _ in 0..2 {
        add(&database, &made_up).await.unwrap();
    }
    add(&database, &[(refusal("2026-03-01", "ann", "m"), times(1, 1))]).await.unwrap();
    let found = found(&database, by(&[By::Model])).await;
    assert_eq!(found.len(), 18, "16 with their names, the rest in one row, and the limit: {found:?}");
    assert_eq!(found[0], (String::new(), 168));
    assert!(found.contains(&("m".to_owned(), 1)));
});

each_database!(a_user_takes_a_bounded_number_of_rows_a_day, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    for portion in 0..4 {
        let made_up: Vec<_> = (0..100)
            .map(|model| (refusal("2026-03-01", "ann", &format!("m{portion}-{model}")), times(1, 1)))
            .collect();
        add(&database, &made_up).await.unwrap();
    }
    let rows = found(&database, by(&[By::Model])).await;
    assert_eq!((rows.len(), rows.iter().map(|(_, count)| count).sum::<i64>()), (65, 400));
    assert_eq!(rows[0], (String::new(), 336), "the rest is counted together");
});

each_database!(they_go_with_their_user_and_their_time, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let rows = [("2026-03-01", "ann"), ("2026-03-09", "ann"), ("2026-03-09", "bob")];
    let rows: Vec<_> = rows.iter().map(|(day, user)| (refusal(day, user, "m"), times(1, 1))).collect();
    add(&database, &rows).await.unwrap();
    let users = database.table("token_tracking_user");
    database.run(format!("INSERT INTO {users} VALUES ('ann', 'Ann', 'ann@example.org', 1)")).await.unwrap();
    let ann = forget::find(&database, "ann").await.unwrap();
    let text = Arc::new(Mutex::new(String::new()));
    let filled = Arc::clone(&text);
    let write = move |piece: &str| -> Result<(), Error> {
        filled.lock().unwrap().push_str(piece);
        Ok(())
    };
    person(&database, &ann, write).await.unwrap();
    let given: Value = serde_json::from_str(&text.lock().unwrap()).unwrap();
    assert_eq!(given["refusals"].as_array().unwrap().len(), 2);
    assert_eq!(given["refusals"][0]["reason"], "limit");
    let pseudonym = forget::forget(&database, &ann).await.unwrap().pseudonym;
    assert_eq!(found(&database, by(&[By::User])).await, [(pseudonym, 2), ("bob".to_owned(), 1)]);
    let clock = SettableClock::at("2026-03-20T12:00:00Z".parse().unwrap());
    let before: Day = "2026-03-05".parse().unwrap();
    let what = prune::find(&database, &clock, before).await.unwrap();
    assert_eq!((what.entries, what.refusals), (0, 1));
    prune::prune(&database, &clock, what, |_| {}).await.unwrap();
    assert_eq!(found(&database, by(&[By::Day])).await, [("2026-03-09".to_owned(), 2)]);
});
