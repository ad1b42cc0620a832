//! Sponsored allowances as administrators make, change, delete and report them, on both databases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers included")]

use std::sync::Arc;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate, SponsoredId};
use futures_util::future::join_all;
use serde_json::json;
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::admin::sponsored::{self, Change, NamedMember, Terms, Which};
use storage::admin::{audit, groups};
use storage::reports::sponsored::{By, Lasts, sponsored as report, sponsored_use};
use storage::{Catalogue, Database, Error, MemberKind, Snapshot, SystemClock};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

async fn prepared(test: &TestDatabase) -> Database {
    let user = test.open().await.unwrap().table("user");
    let sql = format!(
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name VARCHAR(255), email VARCHAR(255)); \
         INSERT INTO {user} VALUES ('ann', 'Ann', 'ann@example.org'), ('bob', 'Bob', 'bob@example.org')"
    );
    test.open().await.unwrap().run(sql).await.unwrap();
    let database = test.migrated().await.unwrap();
    let price = |provider: &str, model: &str| NewPrice {
        provider: ProviderName::new(provider).unwrap(),
        model: ModelId::new(model).unwrap(),
        name: model.into(),
        price: Price::new(Rate::new(Credits::from_micro(1), 1), Rate::new(Credits::from_micro(2), 1)),
        max_output_tokens: None,
        context_tokens: None,
    };
    let all = [price("openai", "gpt-4o"), price("azure", "gpt-4o"), price("openai", "o3")];
    prices::write(&database, &all, Write::Add, Source::Administrator, SystemClock.now()).await.unwrap();
    database
}

fn terms(name: &str) -> Terms {
    let models = vec!["gpt-4o".into()];
    Terms {
        name: name.into(),
        sponsor: "Dean".into(),
        models,
        total: 100,
        daily: Some(5),
        ..Terms::default()
    }
}

fn named(name: &str) -> Which {
    Which::Name(name.into())
}

/// A request as the ledger and the accounts have it, for the original's usage log too if asked.
async fn spend(database: &Database, id: SponsoredId, user: &str, day: &str, micro: i64) {
    let (account, ledger) =
        (database.table("token_tracking_account"), database.table("token_tracking_ledger"));
    let entry = storage::new_id().simple();
    let daily = format!("sponsored-user-day:{day}:{id}:{user}");
    let columns = "id, kind, user_id, sponsored_id, accounts, day, provider, model, input_tokens, cached_input_tokens, \
        cache_write_tokens, cache_write_long_tokens, input_audio_tokens, output_tokens, reasoning_tokens, \
        output_audio_tokens, images, calls, charge, outcome, policy, over_hold, way_in, started_at, ended_at";
    let spent = "DO UPDATE SET spent = kept.spent + excluded.spent";
    let sql = format!(
        "INSERT INTO {ledger} ({columns}) VALUES ('{entry}', 'request', '{user}', '{id}', '[\"{daily}\", \
           \"sponsored-total:{id}\"]', '{day}', 'openai', 'gpt-4o', 10, 0, 0, 0, 0, 5, 0, 0, 0, 0, {micro}, 'complete', \
           'strict', 0, 'gateway', 0, 0); \
         INSERT INTO {account} AS kept (key, kind, sponsored_id, spent) VALUES ('sponsored-total:{id}', 'sponsored-total', \
           '{id}', {micro}) ON CONFLICT (key) {spent}; \
         INSERT INTO {account} AS kept (key, kind, user_id, sponsored_id, day, spent) VALUES ('{daily}', \
           'sponsored-user-day', '{user}', '{id}', '{day}', {micro}) ON CONFLICT (key) {spent}"
    );
    database.run(sql).await.unwrap();
}

async fn count(database: &Database, table: &str, condition: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {} WHERE {condition}", database.table(table));
    storage::on_pool!(database, pool => {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
    })
}

each_database!(terms_are_kept_changed_and_cleared, async |test: TestDatabase| {
    let database = prepared(&test).await;
    groups::create(&database, "staff", 0, "").await.unwrap();
    let member = |kind, name: &str| NamedMember { kind, name: name.into() };
    let made = Terms {
        starts_on: Some("2031-01-01".parse().unwrap()),
        ends_on: Some("2031-03-31".parse().unwrap()),
        members: vec![
            member(MemberKind::CreditGroup, "STAFF"),
            member(MemberKind::User, "ann@example.org"),
            member(MemberKind::User, "Ann"),
        ],
        models: vec!["azure/gpt-4o".into(), "o3".into()],
        public: true,
        ..terms("Research")
    };
    let allowance = sponsored::create(&database, &made).await.unwrap();
    assert_eq!(allowance.starts_on, made.starts_on);
    assert_eq!(allowance.ends_on, made.ends_on);
    assert_eq!(allowance.members.len(), 2, "one user named twice is one member");
    assert!(allowance.public);
    let models: Vec<String> = allowance.models.iter().map(ToString::to_string).collect();
    assert_eq!(models, ["o3", "azure/gpt-4o"]);
    let names = sponsored::member_names(&database, std::slice::from_ref(&allowance)).await.unwrap();
    let mut names: Vec<&str> = names.values().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["group:staff", "user:Ann"]);
    // What is not named stays.
    let change = Change { total: Some(7), ..Change::default() };
    let changed = sponsored::update(&database, &named("research"), change).await.unwrap();
    let expected =
        storage::SponsoredAllowance { total: Credits::from_whole(7).unwrap(), ..allowance.clone() };
    assert_eq!(changed, expected);
    let cleared = Change {
        name: Some("RESEARCH".into()),
        daily: Some(None),
        starts_on: Some(None),
        ends_on: Some(None),
        members: Some(vec![]),
        public: Some(false),
        models: Some(vec!["gpt-4o".into()]),
        ..Change::default()
    };
    let changed = sponsored::update(&database, &Which::Id(allowance.id), cleared).await.unwrap();
    assert_eq!(
        (changed.daily, changed.starts_on, changed.ends_on, changed.public),
        (None, None, None, false)
    );
    assert!(changed.members.is_empty());
    assert_eq!(
        (changed.id, changed.name.as_str(), changed.models[0].to_string().as_str()),
        (allowance.id, "RESEARCH", "gpt-4o")
    );
    // Who did what.
    let wanted = audit::Wanted { action: Some("sponsored".into()), ..audit::Wanted::default() };
    let noted = audit::list(&database, &wanted).await.unwrap();
    let actions: Vec<&str> = noted.iter().map(|change| change.action.as_str()).collect();
    assert_eq!(actions, ["sponsored create", "sponsored update", "sponsored update"]);
    assert_eq!(noted[1].before.as_ref().unwrap()["total"], json!(100));
    assert_eq!(noted[1].after.as_ref().unwrap()["total"], json!(7));
    assert_eq!(noted[2].after.as_ref().unwrap()["ends_on"], json!(null));
});

each_database!(terms_that_cannot_be_are_refused, async |test: TestDatabase| {
    let database = prepared(&test).await;
    sponsored::create(&database, &terms("Straße 1")).await.unwrap();
    let refused = async |terms: Terms| {
        let error = sponsored::create(&database, &terms).await.unwrap_err();
        (matches!(error, Error::Conflict { .. }), error.to_string())
    };
    for name in ["straße 1", "STRASSE-1".replace("SS", "ß").as_str(), "Straße/1"] {
        let (conflict, error) = refused(terms(name)).await;
        assert!(conflict && error.contains("`Straße 1` already"), "{name}: {error}");
    }
    for name in ["", " ", "a---b", "a - - -- -b", "a\nb"] {
        assert!(refused(terms(name)).await.1.contains("the name"), "{name:?}");
    }
    let days = Terms {
        starts_on: Some("2031-01-02".parse().unwrap()),
        ends_on: Some("2031-01-01".parse().unwrap()),
        ..terms("x")
    };
    assert!(refused(days).await.1.contains("after the last"));
    let model = |model: &str| Terms { models: vec![model.into()], ..terms("x") };
    assert!(refused(model("gpt4o")).await.1.contains("did you mean"));
    assert!(refused(model("mistral/gpt-4o")).await.1.contains("gpt-4o"));
    let member = |kind| Terms { members: vec![NamedMember { kind, name: "nobody".into() }], ..terms("x") };
    for kind in [MemberKind::User, MemberKind::CreditGroup, MemberKind::OpenWebUiGroup] {
        assert!(refused(member(kind)).await.1.contains("`nobody`"));
    }
    // Nothing of it stays.
    assert_eq!(sponsored::list(&database).await.unwrap().len(), 1);
    assert_eq!(count(&database, "token_tracking_audit", "action LIKE 'sponsored%'").await, 1);
});

each_database!(of_several_who_take_a_name_at_once_one_gets_it, async |test: TestDatabase| {
    let database = prepared(&test).await;
    let all = [terms("Lab"), terms("LAB"), terms("lab"), terms("Lab")];
    let done = join_all(all.iter().map(|terms| sponsored::create(&database, terms))).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    assert_eq!(sponsored::list(&database).await.unwrap().len(), 1);
});

each_database!(what_the_original_takes_out_is_not_covered_any_more, async |test: TestDatabase| {
    let database = prepared(&test).await;
    let models = vec!["azure/gpt-4o".into(), "o3".into()];
    let made = sponsored::create(&database, &Terms { models, ..terms("Lab") }).await.unwrap();
    let table = database.table("token_tracking_sponsored_allowance_base_models");
    database.run(format!("DELETE FROM {table} WHERE base_model_id = 'gpt-4o'")).await.unwrap();
    let read = sponsored::get(&database, &Which::Id(made.id)).await.unwrap();
    assert_eq!(read.models.iter().map(ToString::to_string).collect::<Vec<_>>(), ["o3"]);
});

each_database!(what_is_deleted_keeps_its_name_and_history, async |test: TestDatabase| {
    let database = prepared(&test).await;
    let clock = SettableClock::at("2031-02-03T12:00:00Z".parse().unwrap());
    let mut ids = Vec::new();
    for _ in 0..3 {
        let made = sponsored::create(&database, &terms("Lab")).await.unwrap();
        spend(&database, made.id, "ann", "2031-02-01", 1_500_000).await;
        sponsored::register(&database, "writer", &named("lab")).await.unwrap();
        sponsored::delete(&database, &named("LAB"), &clock).await.unwrap();
        ids.push(made.id);
    }
    // One that nobody ever used leaves nothing but its name.
    sponsored::create(&database, &terms("Unused")).await.unwrap();
    sponsored::delete(&database, &named("unused"), &clock).await.unwrap();
    assert!(sponsored::list(&database).await.unwrap().is_empty());
    assert!(sponsored::registered(&database).await.unwrap().is_empty());
    assert!(matches!(sponsored::get(&database, &Which::Id(ids[0])).await, Err(Error::NotFound { .. })));
    let original = database.table("token_tracking_sponsored_allowance");
    let names: Vec<(String, i64)> = {
        let sql = format!("SELECT name, CAST(total_credit_limit AS BIGINT) FROM {original} ORDER BY 1");
        storage::on_pool!(database, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
        })
    };
    let names: Vec<(&str, i64)> = names.iter().map(|(name, total)| (name.as_str(), *total)).collect();
    let expected = ["Lab (deleted 2031-02-03)", "Lab (deleted 2031-02-03, 2)", "Lab (deleted 2031-02-03, 3)"];
    let mut sorted = names.clone();
    sorted.sort_by_key(|(name, _)| name.len());
    assert_eq!(sorted.iter().map(|(name, _)| *name).collect::<Vec<_>>(), expected);
    assert!(names.iter().all(|(_, total)| *total == 0), "the original refuses it too");
    assert_eq!(count(&database, "token_tracking_sponsored_allowance_base_models", "1 = 1").await, 0);
    // Its models can lose their prices now.
    prices::delete(&database, &ModelId::new("gpt-4o").unwrap(), None, SystemClock.now()).await.unwrap();
    let reports = report(&database, &clock, None).await.unwrap();
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(|report| report.name == "Lab" && report.lasts == Lasts::Deleted));
    assert_eq!(reports[0].account.spent, Credits::from_micro(1_500_000));
    let used = sponsored_use(&database, ids[0], By::User).await.unwrap();
    assert_eq!((used[0].key.as_str(), used[0].requests, used[0].credits.micro()), ("ann", 1, 1_500_000));
});

each_database!(a_row_of_the_originals_usage_log_keeps_its_allowance, async |test: TestDatabase| {
    let database = prepared(&test).await;
    let made = sponsored::create(&database, &terms("Lab")).await.unwrap();
    let log = database.table("token_tracking_usage_log");
    let id = made.id.to_string();
    let sql = format!(
        "INSERT INTO {log} (user_id, model_id, sponsored_allowance_id) VALUES ('ann', 'gpt-4o', '{id}')"
    );
    database.run(sql).await.unwrap();
    sponsored::delete(&database, &named("Lab"), &SystemClock).await.unwrap();
    assert_eq!(count(&database, "token_tracking_sponsored_allowance", "name LIKE 'Lab (deleted %'").await, 1);
    assert_eq!(count(&database, "token_tracking_usage_log", "sponsored_allowance_id IS NOT NULL").await, 1);
    // The name is free again.
    sponsored::create(&database, &terms("Lab")).await.unwrap();
});

each_database!(another_name_keeps_what_is_spent, async |test: TestDatabase| {
    let database = prepared(&test).await;
    let made = sponsored::create(&database, &terms("Lab")).await.unwrap();
    let today = "2031-02-03";
    let clock = SettableClock::at(format!("{today}T12:00:00Z").parse().unwrap());
    storage::admin::settings::set(&database, "timezone", "UTC").await.unwrap();
    // Seven days, of which the last but one is outside.
    for (user, day, credits) in
        [("ann", "2031-01-27", 50), ("ann", "2031-01-28", 10), ("bob", today, 3), ("ann", today, 1)]
    {
        spend(&database, made.id, user, day, credits * 1_000_000).await;
    }
    let change = Change { name: Some("Laboratory".into()), ..Change::default() };
    sponsored::update(&database, &named("Lab"), change).await.unwrap();
    let one = report(&database, &clock, Some("laboratory")).await.unwrap().remove(0);
    assert_eq!(one.account.spent, Credits::from_whole(64).unwrap());
    assert_eq!(one.left, Some(Credits::from_whole(36).unwrap()));
    assert_eq!(one.last_week, Credits::from_whole(14).unwrap());
    // 36 ÷ 2 a day.
    let until = Some("2031-02-21".parse().unwrap());
    assert_eq!(one.lasts, Lasts::Days { days: 18, until, ends_before: false });
    let parts = async |by: By| {
        let parts = sponsored_use(&database, made.id, by).await.unwrap();
        parts.into_iter().map(|part| (part.key, part.credits.micro() / 1_000_000)).collect::<Vec<_>>()
    };
    assert_eq!(parts(By::User).await, [("ann".to_owned(), 61), ("bob".to_owned(), 3)]);
    assert_eq!(parts(By::Model).await, [("openai/gpt-4o".to_owned(), 64)]);
    let days: Vec<i64> = parts(By::Day).await.into_iter().map(|(_, credits)| credits).collect();
    assert_eq!(days, [50, 10, 4]);
    assert!(matches!(report(&database, &clock, Some("Lab")).await, Err(Error::NotFound { .. })));
});

each_database!(chats_remember_their_sponsor_for_a_while, async |test: TestDatabase| {
    let database = prepared(&test).await;
    let made = sponsored::create(&database, &terms("Lab")).await.unwrap();
    let catalogue = Catalogue::open(&database, Arc::new(SystemClock)).await.unwrap();
    let (ann, bob) = (accounting::UserId::new("ann").unwrap(), accounting::UserId::new("bob").unwrap());
    assert_eq!(catalogue.sponsor_of_chat(&ann, "c").await.unwrap(), None);
    catalogue.note_sponsor_of_chat(&ann, "c", None).await.unwrap();
    catalogue.note_sponsor_of_chat(&ann, "c", Some(made.id)).await.unwrap();
    catalogue.note_sponsor_of_chat(&ann, "c", Some(made.id)).await.unwrap();
    assert_eq!(catalogue.sponsor_of_chat(&ann, "c").await.unwrap(), Some(made.id));
    assert_eq!(catalogue.sponsor_of_chat(&bob, "c").await.unwrap(), None);
    // One that nobody went on with is forgotten when the next is noted.
    let table = "token_tracking_sponsored_chat";
    database.run(format!("UPDATE {} SET noted_at = 0", database.table(table))).await.unwrap();
    catalogue.note_sponsor_of_chat(&bob, "d", Some(made.id)).await.unwrap();
    assert_eq!(count(&database, table, "1 = 1").await, 1);
    // One that goes on is noted anew.
    database.run(format!("UPDATE {} SET noted_at = 1", database.table(table))).await.unwrap();
    catalogue.note_sponsor_of_chat(&bob, "d", Some(made.id)).await.unwrap();
    assert_eq!(count(&database, table, "noted_at > 1").await, 1);
    catalogue.note_sponsor_of_chat(&bob, "d", None).await.unwrap();
    assert_eq!(count(&database, table, "1 = 1").await, 0);
});

each_database!(registered_workspace_models_are_listed, async |test: TestDatabase| {
    let database = prepared(&test).await;
    sponsored::create(&database, &terms("Lab")).await.unwrap();
    sponsored::create(&database, &terms("Other")).await.unwrap();
    assert!(matches!(sponsored::register(&database, "a b", &named("Lab")).await, Err(Error::Invalid { .. })));
    assert!(matches!(
        sponsored::register(&database, "ab", &named("None")).await,
        Err(Error::NotFound { .. })
    ));
    sponsored::register(&database, "ab", &named("Lab")).await.unwrap();
    sponsored::register(&database, "ab", &named("Other")).await.unwrap();
    let all = sponsored::registered(&database).await.unwrap();
    assert_eq!((all.len(), all[0].0.as_str(), all[0].1.name.as_str()), (1, "ab", "Other"));
    let snapshot = Snapshot::of(&database, &SystemClock).await.unwrap();
    assert_eq!(snapshot.sponsored_by_registration("ab").unwrap().name, "Other");
    sponsored::unregister(&database, "ab").await.unwrap();
    assert!(matches!(sponsored::unregister(&database, "ab").await, Err(Error::NotFound { .. })));
    let wanted = audit::Wanted { subject: Some("ab".into()), ..audit::Wanted::default() };
    assert_eq!(audit::list(&database, &wanted).await.unwrap().len(), 3);
});

each_database!(a_price_is_kept_only_where_an_allowance_needs_it, async |test: TestDatabase| {
    let database = prepared(&test).await;
    let models = vec!["openai/gpt-4o".into()];
    sponsored::create(&database, &Terms { models, ..terms("course") }).await.unwrap();
    let model = ModelId::new("gpt-4o").unwrap();
    let delete = async |provider: &str| {
        let provider = ProviderName::new(provider).unwrap();
        prices::delete(&database, &model, Some(&provider), SystemClock.now()).await
    };
    // What is wrong with the command itself is said first.
    let wrong = delete("opnai").await.unwrap_err();
    assert!(matches!(wrong, Error::NotFound { .. }), "{wrong}");
    assert!(wrong.to_string().contains("has one at azure, openai"), "{wrong}");
    assert!(matches!(delete("openai").await, Err(Error::Conflict { .. })));
    assert_eq!(delete("azure").await.unwrap(), 1, "the allowance pays for it at openai alone");
});
