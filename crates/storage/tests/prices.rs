//! Prices on both databases: versions and the dates from which they hold, the mirror in the original's table, the default
//! price, and what is noted of changes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers included")]

use std::sync::Arc;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate};
use jiff::{SignedDuration, Timestamp};
use storage::admin::prices::{self, NewPrice, Source, Upstream, Write};
use storage::admin::{audit, price_list, settings};
use storage::{Database, Error, Snapshot};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

const NOON: &str = "2026-11-24T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn provider(name: &str) -> ProviderName {
    ProviderName::new(name).unwrap()
}

/// A price of so many credits for a million input tokens.
fn price(at_provider: &str, model: &str, credits: i64) -> NewPrice {
    let rate = |credits| Rate::new(Credits::from_whole(credits).unwrap(), 1_000_000);
    NewPrice {
        provider: provider(at_provider),
        model: ModelId::new(model).unwrap(),
        name: format!("The {model}"),
        price: Price::new(rate(credits), rate(2 * credits)),
        max_output_tokens: None,
        context_tokens: None,
    }
}

async fn write(database: &Database, new: NewPrice, how: Write, now: Timestamp) -> Result<usize, Error> {
    prices::write(database, &[new], how, Source::Administrator, now).await
}

/// What a million input tokens of the model cost at that time, as requests see it and as lists say it.
async fn costs(database: &Database, at_provider: &str, model: &str, now: Timestamp) -> Option<i64> {
    let model = ModelId::new(model).unwrap();
    let snapshot = Snapshot::of(database, &SettableClock::at(now)).await.unwrap();
    let served =
        snapshot.price(&provider(at_provider), &model).map(|priced| priced.price.input.credits.whole());
    let listed = prices::get(database, &model, Some(&provider(at_provider)), now).await.unwrap();
    assert_eq!(listed.first().map(|priced| priced.price.input.credits.whole()), served, "both read the same");
    served
}

async fn mirror(database: &Database) -> Vec<(String, String, i64)> {
    let sql = format!(
        "SELECT id, provider, CAST(input_cost_credits AS BIGINT) FROM {} ORDER BY id",
        database.table("token_tracking_model_pricing")
    );
    storage::on_pool!(database, pool => {
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
    })
}

fn row(id: &str, provider: &str, credits: i64) -> (String, String, i64) {
    (id.into(), provider.into(), credits)
}

each_database!(a_price_from_a_later_date_holds_from_then_on, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let clock = Arc::new(SettableClock::at(at(NOON)));
    let new_year = at("2027-01-01T00:00:00Z");
    write(&database, price("openai", "m", 10), Write::Add, clock.now()).await.unwrap();
    let later = [price("openai", "m", 30)];
    let source = Source::Administrator;
    prices::write_from(&database, &later, Write::Update, source, clock.now(), new_year).await.unwrap();
    assert_eq!(costs(&database, "openai", "m", clock.now()).await, Some(10), "its time has not come");
    // A present change is written after the later one, and does not outlive it.
    clock.advance(SignedDuration::from_hours(24));
    write(&database, price("openai", "m", 20), Write::Update, clock.now()).await.unwrap();
    assert_eq!(costs(&database, "openai", "m", clock.now()).await, Some(20));
    assert_eq!(mirror(&database).await, [row("m", "openai", 20)]);
    assert_eq!(prices::mirror_due(&database, clock.now()).await.unwrap(), 0);

    clock.set(new_year);
    assert_eq!(costs(&database, "openai", "m", clock.now()).await, Some(30));
    assert_eq!(mirror(&database).await, [row("m", "openai", 20)], "nobody has looked yet");
    assert_eq!(prices::mirror_due(&database, clock.now()).await.unwrap(), 1);
    assert_eq!(prices::mirror_due(&database, clock.now()).await.unwrap(), 0);
    assert_eq!(mirror(&database).await, [row("m", "openai", 30)]);
    let model = ModelId::new("m").unwrap();
    let history = prices::history(&database, &model, None).await.unwrap();
    let history: Vec<_> = history
        .readable
        .iter()
        .map(|version| (version.priced.version.0, version.valid_from, version.deleted))
        .collect();
    let next_day = at(NOON).checked_add(SignedDuration::from_hours(24)).unwrap();
    assert_eq!(history, [(1, at(NOON), false), (3, next_day, false), (2, new_year, false)]);
});

each_database!(a_deleted_price_does_not_come_back_on_a_later_date, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let (now, later) = (at(NOON), at("2027-01-01T00:00:00Z"));
    let source = Source::Administrator;
    write(&database, price("openai", "m", 10), Write::Add, now).await.unwrap();
    prices::write_from(&database, &[price("openai", "m", 30)], Write::Upsert, source, now, later)
        .await
        .unwrap();
    prices::write_from(&database, &[price("openai", "to-come", 30)], Write::Add, source, now, later)
        .await
        .unwrap();
    for model in ["m", "to-come"] {
        let model = ModelId::new(model).unwrap();
        assert_eq!(prices::delete(&database, &model, None, now).await.unwrap(), 1);
        assert!(matches!(prices::delete(&database, &model, None, now).await, Err(Error::NotFound { .. })));
    }
    for when in [now, later] {
        prices::mirror_due(&database, when).await.unwrap();
        assert_eq!(costs(&database, "openai", "m", when).await, None);
        assert_eq!(costs(&database, "openai", "to-come", when).await, None);
        assert_eq!(mirror(&database).await, []);
    }
});

each_database!(a_change_counts_although_another_hosts_clock_was_ahead, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let ahead = at(NOON).checked_add(SignedDuration::from_secs(20)).unwrap();
    write(&database, price("openai", "m", 10), Write::Add, ahead).await.unwrap();
    write(&database, price("openai", "m", 20), Write::Update, at(NOON)).await.unwrap();
    assert_eq!(costs(&database, "openai", "m", ahead).await, Some(20));
    assert_eq!(mirror(&database).await, [row("m", "openai", 20)]);
});

each_database!(a_row_of_the_mirror_belongs_to_one_provider_at_a_time, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let now = at(NOON);
    let model = ModelId::new("m").unwrap();
    for (name, credits) in [("openai", 1), ("zeta", 2), ("azure", 3)] {
        write(&database, price(name, "m", credits), Write::Add, now).await.unwrap();
    }
    assert_eq!(mirror(&database).await, [row("m", "openai", 1)], "the first provider has it");
    write(&database, price("azure", "m", 4), Write::Update, now).await.unwrap();
    assert_eq!(mirror(&database).await, [row("m", "openai", 1)], "as long as it has a price");
    prices::delete(&database, &model, Some(&provider("openai")), now).await.unwrap();
    assert_eq!(mirror(&database).await, [row("m", "zeta", 2)], "then the next that came");
    write(&database, price("openai", "m", 5), Write::Add, now).await.unwrap();
    assert_eq!(mirror(&database).await, [row("m", "zeta", 2)], "who comes back waits");
    prices::delete(&database, &model, None, now).await.unwrap();
    assert_eq!(mirror(&database).await, []);
});

each_database!(what_others_wrote_into_the_mirror_is_not_overwritten, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let table = database.table("token_tracking_model_pricing");
    database
        .run(format!("INSERT INTO {table} VALUES ('m', 'Elsewhere', 'M', 7, 1000, 9, 1000)"))
        .await
        .unwrap();
    write(&database, price("openai", "m", 1), Write::Add, at(NOON)).await.unwrap();
    assert_eq!(mirror(&database).await, [row("m", "Elsewhere", 7)]);
    // It was taken over before anything else was written.
    let (model, elsewhere) = (ModelId::new("m").unwrap(), provider("elsewhere"));
    let taken = prices::get(&database, &model, Some(&elsewhere), at(NOON)).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(prices::adopt(&database, at(NOON)).await.unwrap(), 0);
    assert_eq!(mirror(&database).await, [row("m", "Elsewhere", 7)], "nothing of it is rewritten");
    write(&database, price("elsewhere", "m", 8), Write::Update, at(NOON)).await.unwrap();
    assert_eq!(mirror(&database).await, [row("m", "Elsewhere", 8)]);
    prices::delete(&database, &ModelId::new("m").unwrap(), Some(&provider("elsewhere")), at(NOON))
        .await
        .unwrap();
    assert_eq!(mirror(&database).await, [row("m", "openai", 1)]);
});

each_database!(the_longest_names_fit_into_the_mirror, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let longest = "é".repeat(255);
    let mut new = price("openai", &longest, 1);
    new.name = "ü".repeat(300);
    write(&database, new, Write::Add, at(NOON)).await.unwrap();
    assert_eq!(mirror(&database).await, [row(&longest, "openai", 1)]);
    let error = ModelId::new("é".repeat(256)).unwrap_err().to_string();
    assert!(error.contains("1 to 255 characters"), "{error}");
});

each_database!(each_change_is_noted_with_the_price_before_and_after, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap().acting_as("ann");
    let (now, later) = (at(NOON), at("2027-01-01T00:00:00Z"));
    write(&database, price("openai", "m", 1), Write::Add, now).await.unwrap();
    write(&database, price("openai", "m", 1), Write::Upsert, now).await.unwrap();
    write(&database, price("openai", "m", 2), Write::Update, now).await.unwrap();
    let source = Source::Administrator;
    prices::write_from(&database, &[price("openai", "m", 3)], Write::Upsert, source, now, later)
        .await
        .unwrap();
    prices::delete(&database, &ModelId::new("m").unwrap(), None, now).await.unwrap();
    let two = [price("openai", "a", 1), price("openai", "b", 1)];
    prices::write(&database, &two, Write::OnlyNew, Source::BuiltIn, now).await.unwrap();
    assert!(write(&database, price("openai", "a", 1), Write::Add, now).await.is_err());
    let noted = audit::list(&database, &audit::Wanted::default()).await.unwrap();
    let cost = |shown: &Option<serde_json::Value>| {
        shown.as_ref().map(|shown| shown["input_cost_credits"].to_string())
    };
    let seen: Vec<_> = noted
        .iter()
        .map(|noted| (noted.action.as_str(), noted.subject.as_str(), cost(&noted.before), cost(&noted.after)))
        .collect();
    let credits = |credits: i64| Some(credits.to_string());
    assert_eq!(
        seen,
        [
            ("pricing add", "openai/m", None, credits(1)),
            ("pricing update", "openai/m", credits(1), credits(2)),
            ("pricing upsert", "openai/m", credits(2), credits(3)),
            ("pricing delete", "openai/m", credits(2), None),
            ("init", "openai/a", None, credits(1)),
            ("init", "openai/b", None, credits(1)),
        ]
    );
    assert_eq!(noted[2].after.as_ref().unwrap()["valid_from"], "2027-01-01T00:00:00Z");
    assert_eq!(noted[4].after.as_ref().unwrap()["source"], "built-in");
});

each_database!(where_a_price_comes_from_is_kept, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let now = at(NOON);
    let upstream = |list: &str, per_usd: i64| Upstream {
        list: list.into(),
        provider: "openai".into(),
        model: "m".into(),
        credits_per_usd: Credits::from_whole(per_usd).unwrap(),
    };
    let write_listed = async |entry: Upstream| {
        let listed = [(price("openai", "m", 1), entry)];
        prices::write_listed(&database, &listed, Write::Upsert, "pricing import", now).await.unwrap()
    };
    assert_eq!(write_listed(upstream("list 1", 1000)).await, 1);
    assert_eq!(write_listed(upstream("list 2", 1000)).await, 0, "the same entry, the same price");
    assert_eq!(write_listed(upstream("list 2", 500)).await, 1, "another rate is another origin");
    let present = prices::present(&database, None, now).await.unwrap().readable;
    assert_eq!(
        (present[0].source.as_str(), &present[0].upstream),
        ("genai-prices", &Some(upstream("list 2", 500)))
    );
    // Whoever writes the same price by hand makes it their own.
    assert_eq!(write(&database, price("openai", "m", 1), Write::Upsert, now).await.unwrap(), 1);
    assert_eq!(write(&database, price("openai", "m", 1), Write::Upsert, now).await.unwrap(), 0);
    let present = prices::present(&database, None, now).await.unwrap().readable;
    assert_eq!((present[0].source.as_str(), &present[0].upstream), ("administrator", &None));
});

each_database!(a_bad_row_can_be_replaced, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    write(&database, price("openai", "m", 1), Write::Add, at(NOON)).await.unwrap();
    database.run(format!("UPDATE {} SET price = 'x'", database.table("token_tracking_price"))).await.unwrap();
    let m = ModelId::new("m").unwrap();
    assert!(matches!(prices::get(&database, &m, None, at(NOON)).await, Err(Error::Inconsistency { .. })));
    assert_eq!(prices::list(&database, None, at(NOON)).await.unwrap(), [], "a bad row hides no other");
    write(&database, price("openai", "m", 2), Write::Upsert, at(NOON)).await.unwrap();
    assert_eq!(costs(&database, "openai", "m", at(NOON)).await, Some(2));
});

each_database!(the_default_price_has_versions_and_is_no_model, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let error = settings::set(&database, "unpriced_models", "default").await.unwrap_err().to_string();
    assert!(error.contains("set default_input_price and default_output_price first"), "{error}");
    settings::set(&database, "default_input_price", "5").await.unwrap();
    settings::set(&database, "default_output_price", "10").await.unwrap();
    settings::set(&database, "unpriced_models", "default").await.unwrap();
    settings::set(&database, "default_output_price", "10").await.unwrap();
    settings::set(&database, "default_output_price", "20.5").await.unwrap();
    assert!(matches!(
        settings::set(&database, "default_input_price", "-1").await,
        Err(Error::Invalid { .. })
    ));
    let now = storage::SystemClock.now();
    let snapshot = Snapshot::of(&database, &SettableClock::at(now)).await.unwrap();
    let default = snapshot.default_price().unwrap();
    assert_eq!(default.price.input, Rate::new(Credits::from_whole(5).unwrap(), 1_000_000));
    assert_eq!(default.price.output, Rate::new(Credits::from_micro(20_500_000), 1_000_000));
    assert_eq!(default.version.0, 2, "history keeps the first");
    assert_eq!(snapshot.models().count(), 0);
    assert_eq!(prices::list(&database, None, now).await.unwrap(), []);
    assert_eq!(mirror(&database).await, []);
});

each_database!(an_update_leaves_what_it_does_not_name, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let text = r#"{"provider":"p","id":"m","name":"M","input_cost_credits":1000,"output_cost_credits":2000,
        "cached_input_cost_credits":100,"tiers":[{"above_input_tokens":5,"input_cost_credits":3,"output_cost_credits":4}]}"#;
    let new = price_list::parse(text).unwrap();
    prices::write(&database, &new, Write::Add, Source::Administrator, at(NOON)).await.unwrap();
    let change = r#"{"provider":"p","id":"m","input_cost_credits":1,"per_input_tokens":1000}"#;
    let updated = price_list::updated(&database, change, at(NOON)).await.unwrap().remove(0);
    assert_eq!(updated.price.input, Rate::new(Credits::ONE, 1000));
    assert_eq!(updated.price.cached_input, new[0].price.cached_input, "still for a million");
    assert_eq!(updated.price.tiers, new[0].price.tiers);
    assert_eq!(price_list::parse(&price_list::describe(&updated).to_string()).unwrap(), [updated]);
});
