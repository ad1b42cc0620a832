//! Migrations, catalogue and administration on both databases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers included")]

use std::sync::Arc;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate, UserId};
use futures_util::future::join_all;
use jiff::SignedDuration;
use storage::admin::directory::Directory;
use storage::admin::prices::{NewPrice, Source, Write};
use storage::admin::{audit, groups, keys, prices, settings, users};
use storage::migrate::{self, Migrated};
use storage::{Catalogue, Database, Error, KnownUser, Snapshot, SystemClock};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

fn price(model: &str, input: i64) -> NewPrice {
    let rate = |credits| Rate::new(Credits::from_micro(credits), 1000);
    NewPrice {
        provider: ProviderName::new("OpenAI").unwrap(),
        model: ModelId::new(model).unwrap(),
        name: format!("The {model}"),
        price: Price::new(rate(input), rate(2 * input)),
        max_output_tokens: Some(4096),
        context_tokens: None,
    }
}

fn now() -> jiff::Timestamp {
    SystemClock.now()
}

async fn open_webui(database: &Database) {
    let user = database.table("user");
    let sql = format!(
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name VARCHAR(255), email VARCHAR(255)); \
         INSERT INTO {user} VALUES ('u1', 'Ann', 'Ann@example.org')"
    );
    database.run(sql).await.unwrap();
}

async fn write(database: &Database, new: &NewPrice, how: Write) -> Result<usize, Error> {
    prices::write(database, std::slice::from_ref(new), how, Source::Administrator, now()).await
}

each_database!(of_four_starts_at_once_one_migrates_and_three_wait, async |test: TestDatabase| {
    let databases = join_all((0..4).map(|_| test.open())).await;
    let databases: Vec<Database> = databases.into_iter().map(Result::unwrap).collect();
    let mut from: Vec<i64> = join_all(databases.iter().map(migrate::migrate))
        .await
        .into_iter()
        .map(|done| done.unwrap().from)
        .collect();
    from.sort_unstable();
    assert_eq!(from, [0, migrate::CURRENT, migrate::CURRENT, migrate::CURRENT]);
    migrate::require_current(&databases[0]).await.unwrap();
});

each_database!(an_empty_database_says_what_to_run, async |test: TestDatabase| {
    let database = test.open().await.unwrap();
    let error = migrate::require_current(&database).await.unwrap_err();
    assert!(error.to_string().contains("owui-token-tracking init"), "{error}");
});

each_database!(a_newer_schema_is_refused, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    database
        .run(format!("INSERT INTO {} (version) VALUES (99)", database.table("token_tracking_schema_version")))
        .await
        .unwrap();
    let newer = |result| matches!(result, Err(Error::NewerSchema { found: 99, .. }));
    assert!(newer(migrate::migrate(&database).await.map(drop)));
    assert!(newer(migrate::require_current(&database).await));
});

each_database!(beside_open_webui_only_its_users_are_users, async |test: TestDatabase| {
    let database = test.open().await.unwrap();
    open_webui(&database).await;
    let done = migrate::migrate(&database).await.unwrap();
    assert_eq!(done, Migrated { from: 0, to: migrate::CURRENT, original_found: false, user_table: true });
    let catalogue = Catalogue::open(&database, Arc::new(SystemClock)).await.unwrap();
    assert!(catalogue.has_user_table().await.unwrap());
    let ann = catalogue.user(&UserId::new("u1").unwrap()).await.unwrap().unwrap();
    assert_eq!((ann.name.as_str(), ann.email.as_str()), ("Ann", "Ann@example.org"));
    assert_eq!(catalogue.user(&UserId::new("u2").unwrap()).await.unwrap(), None);
    assert_eq!(users::one(&database, "ANN@EXAMPLE.ORG").await.unwrap().id.as_str(), "u1");
    assert!(matches!(users::one(&database, "bob").await, Err(Error::NotFound { .. })));
});

each_database!(standalone_users_are_remembered, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    assert!(!database.has_table("user").await.unwrap(), "Open WebUI's table is never created");
    let catalogue = Catalogue::open(&database, Arc::new(SystemClock)).await.unwrap();
    let user = |name: &str, email: &str| KnownUser {
        id: UserId::new("x").unwrap(),
        name: name.into(),
        email: email.into(),
    };
    catalogue.remember_user(user("Xaver", "x@example.org")).await.unwrap();
    // A request that names only the id takes nothing away.
    catalogue.remember_user(user("", "")).await.unwrap();
    assert_eq!(users::one(&database, "xaver").await.unwrap(), user("Xaver", "x@example.org"));
});

each_database!(on_top_of_the_originals_tables_nothing_is_lost, async |test: TestDatabase| {
    let database = test.open().await.unwrap();
    open_webui(&database).await;
    let table = |name: &str| database.table(&format!("token_tracking_{name}"));
    // As an early version of the original left it: the price table and the settings, and rows in them.
    let sql = format!(
        "CREATE TABLE {prices} (id VARCHAR(255) PRIMARY KEY, provider VARCHAR(255), name VARCHAR(255), \
           input_cost_credits INTEGER, per_input_tokens INTEGER, output_cost_credits INTEGER, per_output_tokens INTEGER); \
         INSERT INTO {prices} VALUES ('old-model', 'openai', 'Old', 7, 1000, 9, 1000); \
         CREATE TABLE {settings} (setting_key VARCHAR(255) PRIMARY KEY, setting_value VARCHAR(255), description VARCHAR(255)); \
         INSERT INTO {settings} VALUES ('base_credit_allowance', '77', 'ours')",
        prices = table("model_pricing"),
        settings = table("base_settings"),
    );
    database.run(sql).await.unwrap();
    migrate::migrate(&database).await.unwrap();
    assert_eq!(prices::adopt(&database, now()).await.unwrap(), 1);
    settings::init(&database, &settings::initial(), false).await.unwrap();
    let snapshot = Snapshot::of(&database, &SystemClock).await.unwrap();
    assert_eq!(snapshot.settings().base_credit_allowance, Some(Credits::from_whole(77).unwrap()));
    let old =
        snapshot.price(&ProviderName::new("openai").unwrap(), &ModelId::new("old-model").unwrap()).unwrap();
    assert_eq!(old.price.input, Rate::new(Credits::from_whole(7).unwrap(), 1000));
    assert_eq!(prices::adopt(&database, now()).await.unwrap(), 0, "adopting twice changes nothing");
});

each_database!(prices_have_versions_and_history_stays, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let catalogue = Catalogue::open(&database, Arc::new(SystemClock)).await.unwrap();
    assert_eq!(write(&database, &price("m", 1), Write::Add).await.unwrap(), 1);
    assert!(matches!(write(&database, &price("m", 2), Write::Add).await, Err(Error::Conflict { .. })));
    assert_eq!(write(&database, &price("m", 1), Write::Upsert).await.unwrap(), 0, "no change, no version");
    assert_eq!(write(&database, &price("m", 2), Write::Upsert).await.unwrap(), 1);
    let model = ModelId::new("m").unwrap();
    let found = prices::get(&database, &model, None, now()).await.unwrap();
    assert_eq!((found.len(), found[0].version.0), (1, 2));
    assert_eq!(prices::delete(&database, &model, None, now()).await.unwrap(), 1);
    assert!(matches!(prices::delete(&database, &model, None, now()).await, Err(Error::NotFound { .. })));
    assert_eq!(
        write(&database, &price("m", 9), Write::OnlyNew).await.unwrap(),
        0,
        "deleted by an administrator"
    );
    let first = catalogue.price_version(accounting::PriceVersion(1)).await.unwrap().unwrap();
    assert_eq!(first.price, price("m", 1).price);
});

each_database!(the_originals_price_table_is_a_mirror, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    write(&database, &price("m", 2_500_000), Write::Add).await.unwrap();
    let mut elsewhere = price("m", 9_000_000);
    elsewhere.provider = ProviderName::new("azure").unwrap();
    write(&database, &elsewhere, Write::Add).await.unwrap();
    let mirrored = mirror(&database).await;
    assert_eq!(
        mirrored,
        [("m".to_owned(), "openai".to_owned(), 2500, 1_000_000)],
        "the first provider keeps the row"
    );
    prices::delete(&database, &ModelId::new("m").unwrap(), None, now()).await.unwrap();
    assert_eq!(mirror(&database).await, []);
});

async fn mirror(database: &Database) -> Vec<(String, String, i64, i64)> {
    let sql = format!(
        "SELECT id, provider, CAST(input_cost_credits AS BIGINT), CAST(per_input_tokens AS BIGINT) FROM {}",
        database.table("token_tracking_model_pricing")
    );
    storage::on_pool!(database, pool => {
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
    })
}

each_database!(one_bad_price_does_not_take_the_others_down, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    for model in ["good", "bad"] {
        write(&database, &price(model, 1), Write::Add).await.unwrap();
    }
    database
        .run(format!("UPDATE {} SET price = 'x' WHERE model = 'bad'", database.table("token_tracking_price")))
        .await
        .unwrap();
    let snapshot = Snapshot::of(&database, &SystemClock).await.unwrap();
    let models: Vec<_> = snapshot.models().map(|model| model.model.as_str()).collect();
    assert_eq!(models, ["good"]);
});

each_database!(groups_add_to_the_allowance, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    settings::init(&database, &settings::initial(), true).await.unwrap();
    groups::create(&database, "Power Users", 500, "more").await.unwrap();
    assert!(matches!(groups::create(&database, "power users", 1, "").await, Err(Error::Conflict { .. })));
    groups::create(&database, "others", 7, "").await.unwrap();
    let ann = UserId::new("ann").unwrap();
    let allowance = async || {
        let snapshot = Snapshot::of(&database, &SystemClock).await.unwrap();
        snapshot.limits(&ann).daily.whole()
    };
    assert_eq!(allowance().await, 1000);
    groups::add_user(&database, "POWER USERS", &ann).await.unwrap();
    groups::add_user(&database, "power users", &ann).await.unwrap();
    groups::add_user(&database, "others", &ann).await.unwrap();
    assert_eq!(allowance().await, 1507);
    let change = groups::Change { allowance: Some(100), ..groups::Change::default() };
    groups::update(&database, "power users", change).await.unwrap();
    assert_eq!(allowance().await, 1107);
    assert_eq!(groups::members(&database, "power users").await.unwrap().len(), 1);
    assert!(matches!(groups::delete(&database, "power users", false).await, Err(Error::Conflict { .. })));
    groups::delete(&database, "power users", true).await.unwrap();
    assert_eq!(allowance().await, 1007);
    groups::remove_user(&database, "others", &ann).await.unwrap();
    assert!(matches!(groups::remove_user(&database, "others", &ann).await, Err(Error::NotFound { .. })));
    assert!(matches!(groups::get(&database, "none").await, Err(Error::NotFound { .. })));
    assert!(matches!(groups::create(&database, "x", -1, "").await, Err(Error::Invalid { .. })));
});

each_database!(settings_are_checked_and_kept, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    settings::set(&database, "base_credit_allowance", "12.5").await.unwrap();
    settings::init(&database, &settings::initial(), false).await.unwrap();
    let base = settings::get(&database, "base_credit_allowance").await.unwrap();
    assert_eq!(base.value.as_deref(), Some("12.5"), "what an administrator set stays");
    assert!(matches!(settings::set(&database, "nonsense", "1").await, Err(Error::NotFound { .. })));
    assert!(matches!(settings::set(&database, "hold_wait", "soon").await, Err(Error::Invalid { .. })));
    // Written by hand.
    let table = database.table("token_tracking_base_settings");
    database.run(format!("UPDATE {table} SET setting_value = 'lots'")).await.unwrap();
    let snapshot = Snapshot::of(&database, &SystemClock).await.unwrap();
    let error = snapshot.settings().require(&["hold_wait", "base_credit_allowance"]).unwrap_err().to_string();
    assert!(error.contains("settings set base_credit_allowance"), "{error}");
    assert_eq!(snapshot.problems().map(ToString::to_string).collect::<Vec<_>>(), [error]);
    snapshot.settings().require(&["hold_wait", "timezone"]).unwrap();
});

each_database!(keys_work_until_they_expire_or_are_revoked, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let clock = SettableClock::at(now());
    let later = clock.now().checked_add(SignedDuration::from_hours(1)).unwrap();
    let (key, secret) = keys::create(&database, "k", None, Some(later), clock.now()).await.unwrap();
    let found = keys::find_by_hash(&database, &keys::hash(&secret)).await.unwrap().unwrap();
    assert_eq!(found.id, key.id);
    assert!(found.is_valid(clock.now()));
    clock.set(later);
    assert!(!found.is_valid(clock.now()));
    assert_eq!(keys::find_by_hash(&database, &keys::hash("another")).await.unwrap(), None);
    let revoked = keys::revoke(&database, "k", clock.now()).await.unwrap();
    assert_eq!(revoked, keys::list(&database).await.unwrap());
    assert!(matches!(keys::revoke(&database, "k", clock.now()).await, Err(Error::Conflict { .. })));
    let Err(Error::NotFound { hint, .. }) = keys::revoke(&database, "kk", clock.now()).await else {
        panic!()
    };
    assert!(!hint.contains("did you mean"), "no key that was revoked is proposed: {hint}");
    assert!(!keys::list(&database).await.unwrap()[0].is_valid(now()));
});

each_database!(a_key_that_was_revoked_says_whose_it_was_and_when, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let (ann, first) = (UserId::new("ann").unwrap(), "2026-11-24T12:00:00.25Z".parse().unwrap());
    let later = "2026-11-24T12:01:30.75Z".parse().unwrap();
    let (old, _) = keys::create(&database, "laptop", None, None, now()).await.unwrap();
    keys::create(&database, "laptop2", None, None, now()).await.unwrap();
    keys::revoke(&database, "laptop", first).await.unwrap();
    keys::create(&database, "laptop", Some(ann), None, now()).await.unwrap();
    let revoked = keys::revoke(&database, "laptop", later).await.unwrap();
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].whose(), "a key of the user `ann`");
    for (which, whose, when) in
        [("laptop", "a key of the user `ann`", "12:01:30"), (old.id.as_str(), "a forwarding key", "12:00:00")]
    {
        let Err(Error::Conflict { what }) = keys::revoke(&database, which, later).await else { panic!() };
        assert_eq!(what, format!("the key `laptop`, {whose}, was revoked already, on 2026-11-24T{when}Z"));
    }
});

each_database!(users_are_made_where_there_is_no_open_webui, async |test: TestDatabase| {
    let database = test.open().await.unwrap().acting_as("root");
    migrate::migrate(&database).await.unwrap();
    let (ann, bob) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
    let unknown = users::one(&database, "ann").await.unwrap_err().to_string();
    assert!(unknown.contains("user create NAME"), "{unknown}");
    let made = users::create(&database, &ann, "Ann", "Ann@example.org").await.unwrap();
    for which in ["ann", "ANN", "ann@example.org"] {
        assert_eq!(users::one(&database, which).await.unwrap(), made, "{which}");
    }
    for (id, name, email) in [(&ann, "x", ""), (&bob, "ANN", ""), (&bob, "Bob", "ann@EXAMPLE.org")] {
        let refused = users::create(&database, id, name, email).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    }
    users::create(&database, &bob, "Bob", "").await.unwrap();
    users::create(&database, &UserId::new("c").unwrap(), "Cora", "").await.unwrap();
    let mistyped = Directory::read(&database).await.unwrap().one("bobb").unwrap_err().to_string();
    assert!(mistyped.contains("did you mean `Bob`?") && mistyped.contains("user create"), "{mistyped}");
    for (name, email) in [("", ""), ("B\u{202e}b", ""), ("Dan", "a\nb")] {
        let refused = users::create(&database, &UserId::new("d").unwrap(), name, email).await;
        assert!(matches!(refused, Err(Error::Accounting(_))), "{refused:?}");
    }
    let noted = audit::list(&database, &audit::Wanted::default()).await.unwrap();
    let seen: Vec<_> = noted
        .iter()
        .map(|noted| (noted.who.as_str(), noted.action.as_str(), noted.subject.as_str()))
        .collect();
    assert_eq!(
        seen,
        [("root", "user create", "ann"), ("root", "user create", "bob"), ("root", "user create", "c")]
    );
    assert!(!format!("{noted:?}").contains("example.org"));

    // Beside Open WebUI, its users count.
    let user = database.table("user");
    database.run(format!("CREATE TABLE {user} (id TEXT PRIMARY KEY, name TEXT, email TEXT)")).await.unwrap();
    let refused = users::create(&database, &UserId::new("dan").unwrap(), "Dan", "").await;
    assert!(matches!(&refused, Err(Error::Invalid { what }) if what.contains("Open WebUI")), "{refused:?}");
    let unknown = users::one(&database, "dan").await.unwrap_err().to_string();
    assert!(unknown.contains("user list") && !unknown.contains("user create"), "{unknown}");
});

each_database!(keys_are_noted_by_their_ids_and_without_their_secrets, async |test: TestDatabase| {
    let database = test.open().await.unwrap().acting_as("root");
    migrate::migrate(&database).await.unwrap();
    let user = UserId::new("ann").unwrap();
    let (key, secret) = keys::create(&database, "Ann's laptop", Some(user), None, now()).await.unwrap();
    assert!(keys::create(&database, "Ann's laptop", None, None, now()).await.is_err());
    keys::revoke(&database, "Ann's laptop", now()).await.unwrap();
    assert!(keys::revoke(&database, "Ann's laptop", now()).await.is_err());
    let noted = audit::list(&database, &audit::Wanted::default()).await.unwrap();
    let actions: Vec<_> = noted.iter().map(|change| (change.action.as_str(), &change.subject)).collect();
    assert_eq!(actions, [("key create", &key.id), ("key revoke", &key.id)]);
    let told = format!("{noted:?}");
    assert!(told.contains("root") && told.contains("ann"), "{told}");
    for hidden in [secret.as_str(), &keys::hash(&secret), "laptop"] {
        assert!(!told.contains(hidden), "{told}");
    }
});

each_database!(two_keys_that_work_have_two_names, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    keys::create(&database, "laptop", None, None, now()).await.unwrap();
    let Err(Error::Conflict { what }) = keys::create(&database, "laptop", None, None, now()).await else {
        panic!("two keys are called `laptop`");
    };
    assert!(what.contains("a forwarding key") && what.contains("choose another one"), "{what}");
    keys::create(&database, "desk", None, None, now()).await.unwrap();
    keys::revoke(&database, "laptop", now()).await.unwrap();
    keys::create(&database, "laptop", None, None, now()).await.unwrap();
    assert_eq!(keys::list(&database).await.unwrap().len(), 3);
});

each_database!(a_changed_setting_is_noted_with_who_and_what, async |test: TestDatabase| {
    let database = test.open().await.unwrap().acting_as("ann");
    migrate::migrate(&database).await.unwrap();
    settings::set(&database, "hold_wait", "5").await.unwrap();
    settings::set(&database, "hold_wait", "7").await.unwrap();
    settings::set(&database, "hold_wait", "7").await.unwrap();
    assert!(settings::set(&database, "hold_wait", "soon").await.is_err());
    let wanted = audit::Wanted { subject: Some("hold_wait".into()), ..audit::Wanted::default() };
    let noted = audit::list(&database, &wanted).await.unwrap();
    let seen: Vec<_> = noted
        .iter()
        .map(|noted| (noted.who.as_str(), noted.action.as_str(), noted.before.clone(), noted.after.clone()))
        .collect();
    let json = |text: &str| Some(serde_json::Value::from(text));
    assert_eq!(
        seen,
        [("ann", "settings set", None, json("5")), ("ann", "settings set", json("5"), json("7"))]
    );
    let newest = audit::Wanted { most: Some(1), action: Some("settings".into()), ..audit::Wanted::default() };
    assert_eq!(audit::list(&database, &newest).await.unwrap(), noted[1..]);
});
