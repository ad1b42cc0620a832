//! Several gateways on one database.

use futures_util::future::join_all;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{HttpClient, Place};

each_database!(four_gateways_strict_never_spend_more_than_the_limit, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let settings =
        [("admission_policy", "strict"), ("base_credit_allowance", "4"), ("strict_min_output", "100")];
    let place = Place::new(&test, &simulator, &settings).await;
    let gateways: Vec<_> = (0..4).map(|_| place.serve()).collect();
    let client = HttpClient::new();
    let asking = (0..64).map(|number| {
        let (url, client) = (&gateways[number % 4].url, &client);
        async move {
            client.ask(url, "ann", &format!("chat-{number}"), "[[sim input=20 output=900 chunk=30]]").await.0
        }
    });
    let statuses = join_all(asking).await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| matches!(status, 402 | 429)).count();
    assert_eq!(served + refused, 64, "{statuses:?}");
    let spent = place.number("SELECT CAST(SUM(charge) AS BIGINT) FROM {ledger}").await;
    // Two cost 1.82 credits each; a third finds less than its input and a hundred tokens.
    assert!(served >= 2 && spent <= 4_000_000, "{served} served, {spent} microcredits spent");
    gateways.into_iter().for_each(crate::process::GatewayProcess::terminate);
    place.assert_clean().await;
});

each_database!(four_gateways_one_credit_admit_by_their_rule, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let settings = [("base_credit_allowance", "10"), ("hold_wait", "60")];
    let place = Place::new(&test, &simulator, &settings).await;
    let gateways: Vec<_> = (0..4).map(|_| place.serve()).collect();
    let client = HttpClient::new();
    let asking = (0..64).map(|number| {
        let (url, client) = (&gateways[number % 4].url, &client);
        async move {
            client.ask(url, "ann", &format!("chat-{number}"), "[[sim input=100 output=2000 chunk=200]]").await
        }
    });
    let answers = join_all(asking).await;
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    // Each costs 4.1 credits. Two at a time can hold (8.2 and what is left), so at most three pass: the last of them starts
    // while a credit is free.
    assert!((3..=4).contains(&served), "{served} served");
    assert!(
        answers.iter().all(|(status, text)| *status == 200 || text.contains("insufficient_quota")),
        "{answers:?}"
    );
    let spent = place.number("SELECT CAST(SUM(charge) AS BIGINT) FROM {ledger}").await;
    assert_eq!(spent, i64::try_from(served).unwrap() * 4_100_000);
    gateways.into_iter().for_each(crate::process::GatewayProcess::terminate);
    place.assert_clean().await;
});
