//! Which price a request is charged at: that of its admission, whatever happens to it, and the default price for models that
//! have none.

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate};
use http_body_util::BodyExt;
use metering::Audience;
use providers::Kind;
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::admin::settings;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{App, chat, read};

/// `credits` for a thousand tokens of input, twice that for output.
async fn write(app: &App, model: &str, credits: i64) {
    let rate = |credits| Rate::new(Credits::from_whole(credits).unwrap(), 1000);
    let new = NewPrice {
        provider: ProviderName::new("openai").unwrap(),
        model: ModelId::new(model).unwrap(),
        name: model.into(),
        price: Price::new(rate(credits), rate(2 * credits)),
        max_output_tokens: None,
        context_tokens: None,
    };
    let source = Source::Administrator;
    prices::write(&app.database, &[new], Write::Upsert, source, SystemClock.now()).await.unwrap();
    app.meter.catalogue().changed();
}

each_database!(what_runs_is_charged_at_the_price_of_its_admission, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let model = ModelId::new("gpt-test").unwrap();
    let begin = async |user: &str| {
        let mut running = app.send(user, chat("gpt-test", "[[sim input=100 output=50 delay=2]]", true)).await;
        running.body_mut().frame().await.unwrap().unwrap();
        running
    };
    // One runs while the price rises, one while it is deleted.
    let first = begin("ann").await;
    write(&app, "gpt-test", 10).await;
    let second = begin("bob").await;
    prices::delete(&app.database, &model, None, SystemClock.now()).await.unwrap();
    app.meter.catalogue().changed();
    read(first).await;
    read(second).await;
    let refused = read(app.send("cora", chat("gpt-test", "", false)).await).await;
    assert_eq!((refused.status, refused.code()), (403, "model_not_priced".into()));
    let (ann, bob) = (app.entries("ann").await, app.entries("bob").await);
    assert_eq!((ann[0].charge, bob[0].charge), (200_000, 2_000_000));
    assert!(bob[0].price_version > ann[0].price_version);
    app.end().await;
});

each_database!(models_without_a_price_are_charged_at_the_default_price, async |test: TestDatabase| {
    let changes =
        [("default_input_price", "5000"), ("default_output_price", "7000"), ("unpriced_models", "default")];
    let app = App::start(test, &changes).await;
    let ask = async || {
        let answer =
            read(app.send("ann", chat("unpriced-test", "[[sim input=1000 output=100]]", false)).await).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    ask().await;
    settings::set(&app.database, "default_output_price", "70000").await.unwrap();
    app.meter.catalogue().changed();
    ask().await;
    let entries = app.entries("ann").await;
    let charges: Vec<i64> = entries.iter().map(|entry| entry.charge).collect();
    assert_eq!(charges, [5_700_000, 12_000_000]);
    // The ledger names the version that was charged.
    assert!(entries[0].price_version.is_some() && entries[1].price_version > entries[0].price_version);
    // It is no model that anybody could ask for.
    assert_eq!(read(app.send("ann", chat("*", "", false)).await).await.status, 404);
    let offered = app.meter.models(Audience::Anybody).await.unwrap();
    assert!(offered.iter().all(|offer| offer.id != "*" && offer.provider != "*"), "{offered:?}");
    app.end().await;
});

each_database!(without_a_default_price_they_are_refused, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    // Written by hand, past the check of the command.
    let table = app.database.table("token_tracking_base_settings");
    let sql = format!("INSERT INTO {table} VALUES ('unpriced_models', 'default', '')");
    app.database.run(sql).await.unwrap();
    app.meter.catalogue().changed();
    let refused = read(app.send("ann", chat("unpriced-test", "", false)).await).await;
    assert_eq!((refused.status, refused.code()), (403, "model_not_priced".into()));
    app.end().await;
});

each_database!(a_price_whose_time_has_come_is_shown_in_the_originals_table, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let (ours, mirror) =
        (app.database.table("token_tracking_price"), app.database.table("token_tracking_model_pricing"));
    let later = SystemClock.now().checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    let rate = Rate::new(Credits::from_whole(7).unwrap(), 1000);
    let new = NewPrice {
        provider: ProviderName::new("openai").unwrap(),
        model: ModelId::new("gpt-test").unwrap(),
        name: "gpt-test".into(),
        price: Price::new(rate, rate),
        max_output_tokens: None,
        context_tokens: None,
    };
    let source = Source::Administrator;
    prices::write_from(&app.database, &[new], Write::Update, source, SystemClock.now(), later).await.unwrap();
    let shown = async || -> i64 {
        let sql = format!("SELECT CAST(input_cost_credits AS BIGINT) FROM {mirror} WHERE id = 'gpt-test'");
        storage::on_pool!(app.database, pool => {
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
        })
    };
    assert_eq!(shown().await, 1);
    // The hour passes.
    let now = SystemClock.now().as_microsecond();
    app.database.run(format!("UPDATE {ours} SET valid_from = {now} WHERE mirrored = 0")).await.unwrap();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    let waiting = async {
        while shown().await != 7 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.unwrap();
    app.end().await;
});

each_database!(who_names_a_provider_means_it, async |test: TestDatabase| {
    let app = App::with(test, &[], &[Kind::ANTHROPIC, "openrouter".parse().unwrap()]).await;
    let price = |provider: &str, model: &str, credits: i64| {
        let rate = Rate::new(Credits::from_whole(credits).unwrap(), 1000);
        NewPrice {
            provider: ProviderName::new(provider).unwrap(),
            model: ModelId::new(model).unwrap(),
            name: model.into(),
            price: Price::new(rate, rate),
            max_output_tokens: Some(1000),
            context_tokens: None,
        }
    };
    let (own, qualified) = ("claude-sonnet-4-5-test", "anthropic/claude-sonnet-4-5-test");
    let models = [
        price("anthropic", own, 1),
        price("openrouter", qualified, 10),
        price("openrouter", "meta/llama-test", 5),
    ];
    let now = SystemClock.now();
    prices::write(&app.database, &models, Write::Add, Source::Administrator, now).await.unwrap();
    app.meter.catalogue().changed();
    let offered = app.meter.models(Audience::Anybody).await.unwrap();
    let offered: Vec<(&str, &str)> =
        offered.iter().map(|model| (model.id.as_str(), model.provider.as_str())).collect();
    let expected = [(own, "anthropic"), ("meta/llama-test", "openrouter")];
    assert_eq!(offered, [&expected[..], &[(&format!("openrouter/{qualified}"), "openrouter")]].concat());
    for (user, asked, charge) in [
        ("ann", own, 1_000_000),
        ("bob", qualified, 1_000_000),
        ("cora", &*format!("openrouter/{qualified}"), 10_000_000),
        ("dan", "meta/llama-test", 5_000_000),
        ("eve", "openrouter/meta/llama-test", 5_000_000),
    ] {
        let answer = read(app.send(user, chat(asked, "[[sim input=900 output=100]]", false)).await).await;
        assert_eq!(answer.status, 200, "{asked}: {}", answer.text);
        assert_eq!(app.entries(user).await[0].charge, charge, "{asked}");
    }
    app.end().await;
});
