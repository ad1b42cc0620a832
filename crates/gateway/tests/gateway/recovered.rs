//! What dead processes left is charged by the same rules as what ends.

use std::sync::Arc;
use std::time::Duration;

use accounting::{
    AccountKey, AccountLimit, Bid, Clock, Credits, ModelId, Price, ProviderName, Quote, Rate, RequestId,
    Usage, UserId,
};
use storage::admin::prices::{self, NewPrice, Source, Write};
use storage::ledger::{HoldOutcome, HoldRequest, Ledger, Outcome, Progress};
use storage::{SystemClock, new_id};
use testing::databases::TestDatabase;
use testing::{each_database, records};

use crate::app::prepare;

each_database!(
    pictures_without_a_rate_are_charged_as_the_dearest_output_after_a_crash_too,
    async |test: TestDatabase| {
        let database = test.migrated().await.unwrap();
        prepare(&database, &[], &SystemClock).await;
        let rate = |credits: i64| Rate::new(Credits::from_whole(credits).unwrap(), 1000);
        let model = ModelId::new("pictures").unwrap();
        let price = NewPrice {
            provider: ProviderName::new("openai").unwrap(),
            model: model.clone(),
            name: "Pictures".into(),
            price: Price { reasoning: Some(rate(30)), ..Price::new(rate(1), rate(2)) },
            max_output_tokens: None,
            context_tokens: None,
        };
        let now = SystemClock.now();
        prices::write(&database, &[price], Write::Add, Source::Administrator, now).await.unwrap();
        let snapshot = storage::Catalogue::open(&database, Arc::new(SystemClock))
            .await
            .unwrap()
            .snapshot()
            .await
            .unwrap();
        let version = snapshot.price(&ProviderName::new("openai").unwrap(), &model).unwrap().version;
        let dead = Ledger::open(&database).await.unwrap();
        let day = "2026-11-24".parse().unwrap();
        let account = AccountKey::User { day, user: UserId::new("ann").unwrap() };
        let bid = Bid {
            accounts: vec![AccountLimit { account, limit: None }],
            quote: Quote::Estimate(Credits::ONE),
        };
        let plain = records::record("ann", day).unwrap();
        let record = storage::ledger::RequestRecord { model, price_version: Some(version), ..plain };
        let id = RequestId::new(new_id());
        let request = HoldRequest { id, bid, record, wait: Duration::ZERO };
        let HoldOutcome::Held(hold) = dead.hold(request).await.unwrap() else {
            panic!("nothing is in the way")
        };
        let usage = Some(Usage { images: 1, ..Usage::tokens(10, 1290) });
        let progress = Progress { output_tokens: 1290, usage, growing: false, first_byte_at: None };
        dead.save(&[(id, progress)]).await.unwrap();
        hold.keep();
        dead.resign().await.unwrap();
        let options = metering::MeterOptions {
            providers: Vec::new(),
            clock: Arc::new(SystemClock),
            instance: None,
            settle_wait: Duration::from_secs(5),
            head_wait: Duration::from_secs(15),
        };
        let meter = metering::Meter::open(&database, options).await.unwrap();
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while storage::reports::verify::verify(&database).await.unwrap().holds > 0 {
            looks.tick().await;
        }
        let request = storage::reports::requests::request(&database, id).await.unwrap().unwrap();
        assert_eq!(request.outcome.as_str(), Outcome::Recovered.as_str());
        // 10 of input at 1, 1290 of output at 30 for a thousand.
        assert_eq!(request.charge, Credits::from_micro(10_000 + 38_700_000));
        assert_eq!(storage::reports::verify::verify(&database).await.unwrap().differences, []);
        meter.shutdown(Duration::ZERO).await;
    }
);
