//! Limits for days, weeks and months: when they start afresh, and what happens when they change under running chats.

use std::sync::Arc;

use accounting::{Credits, UserId};
use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use jiff::Timestamp;
use providers::Kind;
use serde_json::{Value, json};
use storage::admin::{groups, settings};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{App, chat, read};

/// Two credits.
const TWO: &str = "[[sim input=1000 output=500]]";

/// What was written counts for the next request.
async fn set(app: &App, changes: &[(&str, &str)]) {
    for (key, value) in changes {
        settings::set(&app.database, key, value).await.unwrap();
    }
    app.meter.catalogue().changed();
}

async fn balance(app: &App, user: &str) -> Value {
    app.call(Method::GET, &format!("/local/balance?user={user}"), "k", Value::Null).await.json()
}

/// (zone, a period, its first moment, the first moment after it, as the zone's people write that)
const PERIODS: [(&str, &str, &str, &str, &str); 11] = [
    // 23 hours, 25 hours, a week of 167 and a month of 745.
    ("Europe/Berlin", "day", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30 00:00:00 CEST"),
    ("Europe/Berlin", "day", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26 00:00:00 CET"),
    ("Europe/Berlin", "week", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30 00:00:00 CEST"),
    ("Europe/Berlin", "month", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", "2026-11-01 00:00:00 CET"),
    ("America/New_York", "day", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "2026-03-09 00:00:00 EDT"),
    ("America/New_York", "day", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", "2026-11-02 00:00:00 EST"),
    ("America/New_York", "week", "2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z", "2026-11-02 00:00:00 EST"),
    ("America/New_York", "month", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z", "2026-12-01 00:00:00 EST"),
    ("Asia/Kathmandu", "day", "2026-03-28T18:15:00Z", "2026-03-29T18:15:00Z", "2026-03-30 00:00:00 +0545"),
    ("Asia/Kathmandu", "week", "2026-12-27T18:15:00Z", "2027-01-03T18:15:00Z", "2027-01-04 00:00:00 +0545"),
    ("Asia/Kathmandu", "month", "2026-12-31T18:15:00Z", "2027-01-31T18:15:00Z", "2027-02-01 00:00:00 +0545"),
];

each_database!(limits_start_afresh_with_the_clocks_of_the_zone, async |test: TestDatabase| {
    let clock = Arc::new(SettableClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let app = App::with_clock(test, &[], &[Kind::OPENAI], clock.clone()).await;
    for (number, (zone, period, start, end, shown)) in PERIODS.into_iter().enumerate() {
        let user = &format!("user{number}");
        let limit = |of: &str, else_limit: &'static str| if period == of { "2" } else { else_limit };
        let limits = [
            ("timezone", zone),
            ("base_credit_allowance", limit("day", "1000")),
            ("base_weekly_allowance", limit("week", "none")),
            ("base_monthly_allowance", limit("month", "none")),
        ];
        set(&app, &limits).await;
        let [start, end]: [Timestamp; 2] = [start, end].map(|moment| moment.parse().unwrap());
        clock.set(start);
        assert_eq!(app.ask(user, TWO, false).await.status, 200, "{zone} {period}");
        let last = end.checked_sub(std::time::Duration::from_secs(1)).unwrap();
        for now in [start, last] {
            clock.set(now);
            let refused = app.ask(user, TWO, false).await;
            let length = end.as_second() - now.as_second();
            let told = refused.json()["error"].clone();
            assert_eq!(
                (refused.status, &told["resets_at"], &told["resets_in"]),
                (402, &json!(end.to_string()), &json!(length)),
                "{zone} {period}"
            );
            let adjective = match period {
                "day" => "daily",
                "week" => "weekly",
                _ => "monthly",
            };
            let says = format!(
                "Your {adjective} credit limit is reached: 2 of 2 credits are spent. It resets at {shown}."
            );
            assert!(refused.text.contains(&says), "{}", refused.text);
        }
        let tightest = balance(&app, user).await["tightest"].clone();
        assert_eq!(
            (&tightest["period"], &tightest["resets_text"], &tightest["resets_in"]),
            (&json!(period), &json!(shown), &json!(1))
        );
        clock.set(end);
        assert_eq!(app.ask(user, TWO, false).await.status, 200, "{zone} {period}");
    }
    app.end().await;
});

each_database!(the_tightest_limit_is_what_is_left, async |test: TestDatabase| {
    let clock = Arc::new(SettableClock::at("2026-11-25T12:00:00Z".parse().unwrap()));
    let changes = [("timezone", "UTC"), ("base_credit_allowance", "5"), ("base_weekly_allowance", "9")];
    let app = App::with_clock(test, &changes, &[Kind::OPENAI], clock.clone()).await;
    let remaining = async || app.ask("ann", TWO, false).await.json()["usage"]["credits_remaining"].clone();
    assert_eq!((remaining().await, remaining().await), (json!(3), json!(1)));
    assert_eq!(balance(&app, "ann").await["tightest"]["period"], "day");
    clock.set("2026-11-26T12:00:00Z".parse().unwrap());
    // Five of the day, and five of the week: the one that lasts longer is named.
    assert_eq!(balance(&app, "ann").await["tightest"]["period"], "week");
    assert_eq!(remaining().await, json!(3));
    let now = balance(&app, "ann").await;
    assert_eq!((&now["base"]["remaining"], &now["week"]["remaining"]), (&json!(3), &json!(3)));
    assert_eq!((&now["week"]["spent"], &now["month"]), (&json!(6), &Value::Null));
    app.end().await;
});

each_database!(a_limit_lowered_below_what_is_spent_refuses, async |test: TestDatabase| {
    let app = App::start(test, &[("base_credit_allowance", "10")]).await;
    assert_eq!(app.ask("ann", TWO, false).await.status, 200);
    assert_eq!(app.ask("ann", TWO, false).await.status, 200);
    for (changes, says) in [
        ([("base_credit_allowance", "1")], "Your daily credit limit is reached: 4 of 1 credits are spent."),
        (
            [("base_weekly_allowance", "1.5")],
            "Your weekly credit limit is reached: 4 of 1.5 credits are spent.",
        ),
    ] {
        set(&app, &changes).await;
        let refused = app.ask("ann", TWO, false).await;
        assert_eq!((refused.status, refused.code().as_str()), (402, "insufficient_quota"));
        assert!(refused.text.contains(says), "{}", refused.text);
    }
    let now = balance(&app, "ann").await;
    assert_eq!((&now["base"]["remaining"], &now["week"]["remaining"]), (&json!(-3), &json!(-2.5)));
    set(&app, &[("base_credit_allowance", "10"), ("base_weekly_allowance", "none")]).await;
    assert_eq!(app.ask("ann", TWO, false).await.status, 200);
    app.end().await;
});

each_database!(a_group_deleted_while_its_members_chat, async |test: TestDatabase| {
    let app = App::start(test, &[("base_credit_allowance", "1")]).await;
    groups::create_with(
        &app.database,
        "crew",
        groups::Change {
            allowance: Some(10),
            weekly: Some(Some(Credits::from_whole(50).unwrap())),
            ..Default::default()
        },
    )
    .await
    .unwrap();
    groups::add_user(&app.database, "crew", &UserId::new("ann").unwrap()).await.unwrap();
    app.meter.catalogue().changed();
    let directive = "[[sim input=1000 output=500 chunk=10 delay=20]]";
    let mut running = app.send("ann", chat("gpt-test", directive, true)).await;
    assert_eq!(running.status(), 200);
    running.body_mut().frame().await.unwrap().unwrap();
    groups::delete(&app.database, "crew", true).await.unwrap();
    app.meter.catalogue().changed();
    assert_eq!(app.meter.under_way(), 1);
    // What is under way ends as it was admitted, on the day and on the week.
    let ended = read(running).await;
    assert!(ended.text.ends_with("data: [DONE]\n\n"), "{}", ended.text);
    let entry = app.entries("ann").await.remove(0);
    assert_eq!((entry.outcome.as_str(), entry.charge), ("complete", 2_000_000));
    let refused = app.ask("ann", TWO, false).await;
    assert!(refused.text.contains("2 of 1 credits are spent"), "{}", refused.text);
    assert_eq!(balance(&app, "ann").await["week"], Value::Null);
    app.end().await;
});

each_database!(a_week_is_never_overspent_under_the_strict_policy, async |test: TestDatabase| {
    let changes = [
        ("admission_policy", "strict"),
        ("strict_min_output", "50"),
        ("base_weekly_allowance", "8"),
        ("base_monthly_allowance", "100"),
    ];
    let app = App::start(test, &changes).await;
    let ask = || app.ask("ann", "[[sim input=20 output=380 chunk=20]]", true);
    let served = join_all((0..64).map(|_| ask())).await.iter().filter(|answer| answer.status == 200).count();
    let spent: i64 = app.entries("ann").await.iter().map(|entry| entry.charge).sum();
    assert!(served >= 1 && spent <= 8_000_000, "{served} served, {spent} spent");
    let now = balance(&app, "ann").await;
    assert_eq!(
        (&now["base"]["spent"], &now["base"]["spent"]),
        (&now["week"]["spent"], &now["month"]["spent"])
    );
    app.end().await;
});
