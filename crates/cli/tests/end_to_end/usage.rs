//! Who used what, one request explained, exports, and forgetting, as an administrator types it.

use serde_json::Value;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{HttpClient, Place};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

async fn used(test: &TestDatabase) -> Place {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(test, &simulator, &[]).await;
    let gateway = place.serve();
    let client = HttpClient::new();
    for (user, chat) in [("ann", "c1"), ("ann", "c2"), ("=cmd|bob", "c3")] {
        assert_eq!(client.ask(&gateway.url, user, chat, "[[sim input=1000 output=500]]").await.0, 200);
    }
    gateway.terminate();
    place
}

each_database!(usage_is_summed_by_every_side, async |test: TestDatabase| {
    let place = used(&test).await;
    place.ok(&["credit-group", "create", "staff", "5", "They work here"]);
    place.ok(&["credit-group", "add-user", "ann", "staff"]);
    for (side, key, expected, requests) in [
        ("user", "user_id", Some("ann"), 2),
        ("group", "group_name", Some("staff"), 2),
        ("owui-group", "owui_group_id", None, 3),
        ("model", "model", Some("gpt-test"), 3),
        ("provider", "provider", Some("openai"), 3),
        ("sponsor", "sponsored_id", None, 3),
        ("task", "task", None, 3),
    ] {
        let rows = json(&place.ok(&["usage", "--by", side, "--format", "json"]));
        assert_eq!(
            (rows[0][key].as_str(), rows[0]["requests"].as_i64()),
            (expected, Some(requests)),
            "{side}"
        );
    }
    for side in ["day", "week", "month"] {
        assert_eq!(
            json(&place.ok(&["usage", "--by", side, "--format", "json"]))[0]["credits"].to_string(),
            "6"
        );
    }
    let two = json(&place.ok(&["usage", "--by", "model,user", "--top", "1", "--format", "json"]));
    assert_eq!((two.as_array().unwrap().len(), two[0]["user_id"].as_str()), (1, Some("ann")));
    assert_eq!(two[0]["estimated_percent"].to_string(), "0");
    let members = json(&place.ok(&["usage", "--by", "user", "--group", "STAFF", "--format", "json"]));
    assert_eq!(members.as_array().unwrap().len(), 1);
    let table = place.ok(&["usage", "--user", "ann"]);
    assert!(table.contains("Total") && !table.contains("bob"), "{table}");
    assert_eq!(json(&place.ok(&["usage", "--from", "2999-01-01", "--format", "json"])), json("[]"));
    let unknown = place.run(&["usage", "--group", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("credit-group list"));
    // Yesterday, on which nothing happened, is summed or not yet: that depends on the hour. The day of these requests is not over.
    place.ok(&["usage", "rollup"]);
    let theirs = place.texts("SELECT DISTINCT day FROM {ledger}").await;
    let summed = place.texts("SELECT day FROM {rollup_day} WHERE rolled_at IS NOT NULL").await;
    assert!(!theirs.is_empty() && theirs.iter().all(|day| !summed.contains(day)), "{theirs:?}: {summed:?}");
});

each_database!(exports_hold_every_row_and_compute_nothing, async |test: TestDatabase| {
    let place = used(&test).await;
    let csv = place.ok(&["usage", "export"]);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let at = |rows: &mut csv::Reader<&[u8]>, name: &str| {
        rows.headers().unwrap().iter().position(|head| head == name).unwrap()
    };
    let (user, charge) = (at(&mut rows, "user_id"), at(&mut rows, "charge"));
    let found: Vec<(String, String)> = rows
        .records()
        .map(|row| row.unwrap())
        .map(|row| (row[user].to_owned(), row[charge].to_owned()))
        .collect();
    let expected = ["ann", "ann", "'=cmd|bob"].map(|user| (user.to_owned(), "2".to_owned()));
    assert_eq!(found, expected);
    let file = place.file("ann.jsonl");
    let said = place.ok(&[
        "usage",
        "export",
        "--format",
        "jsonl",
        "--user",
        "ann",
        "--output",
        file.to_str().unwrap(),
    ]);
    assert!(said.contains("2 rows"), "{said}");
    let lines = std::fs::read_to_string(file).unwrap();
    let lines: Vec<Value> = lines.lines().map(json).collect();
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line["user_id"] == "ann" && line["charge"] == json("2"))
    );
});

each_database!(the_charges_of_an_export_add_up_to_usage, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let chat = async |name: &str| {
        let gateway = place.serve();
        let asked = HttpClient::new().ask(&gateway.url, "ann", name, "[[sim input=1000 output=500]]").await;
        assert_eq!(asked.0, 200, "{}", asked.1);
        gateway.terminate();
    };
    chat("c1").await;
    // With a weekly limit that begins now, what was spent before is carried to the account of the week.
    place.ok(&["settings", "set", "base_weekly_allowance", "5000"]);
    place.ok(&["credits", "grant", "ann", "25", "--reason", "a prize"]);
    chat("c2").await;
    let exported = |more: &[&str]| {
        let lines = place.ok(&[&["usage", "export", "--format", "jsonl"][..], more].concat());
        let rows: Vec<Value> = lines.lines().map(json).collect();
        let kinds: std::collections::BTreeSet<String> =
            rows.iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect();
        let sum: i64 = rows.iter().map(|row| row["charge"].to_string().parse::<i64>().unwrap()).sum();
        (kinds.into_iter().collect::<Vec<_>>(), sum)
    };
    let used = json(&place.ok(&["usage", "--by", "model", "--format", "json"]));
    let (kinds, sum) = exported(&[]);
    assert_eq!(kinds, ["request"]);
    assert_eq!(sum.to_string(), used[0]["credits"].to_string());
    let (all, _) = exported(&["--all"]);
    assert_eq!(all, ["adjustment", "carried", "request"]);
});

each_database!(a_request_is_explained, async |test: TestDatabase| {
    let place = used(&test).await;
    let id = place.texts("SELECT id FROM {ledger} ORDER BY id").await.swap_remove(0);
    let shown = place.ok(&["ledger", "show", &id]);
    for part in ["1000 × 1000 / 1000000 + 500 × 2000 / 1000000 = 2 credits", "the same", "user-day:", "c1"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = json(&place.ok(&["ledger", "show", &id, "--format", "json"]));
    assert_eq!((shown["charge"].to_string(), shown["computed"].to_string()), ("2".into(), "2".into()));
    assert_eq!(shown["request"]["user_id"], "ann");
    let none = place.run(&["ledger", "show", "019ac2f0d1e27c3b8a5f60718293a4b5"]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("usage export"));
});

each_database!(verify_repairs_only_when_told, async |test: TestDatabase| {
    let place = used(&test).await;
    place.database.run(place.qualified("UPDATE {account} SET spent = spent + 1")).await.unwrap();
    assert_eq!(place.run(&["verify"]).status.code(), Some(1));
    let unsure = place.run(&["verify", "--repair"]);
    assert!(!unsure.status.success(), "nobody can be asked");
    assert!(String::from_utf8_lossy(&unsure.stdout).contains("spent"), "it says first what is wrong");
    assert_eq!(place.run(&["verify"]).status.code(), Some(1), "and changes nothing");
    assert!(place.ok(&["verify", "--repair", "--yes"]).contains("2 amount(s) set"));
    place.ok(&["verify"]);
});

each_database!(a_user_is_given_out_and_forgotten, async |test: TestDatabase| {
    let place = used(&test).await;
    let found = json(&place.ok(&["user", "export", "ann"]));
    assert_eq!((found["id"].as_str(), found["ledger"].as_array().unwrap().len()), (Some("ann"), 2));
    let unsure = place.run(&["user", "forget", "ann"]);
    assert!(!unsure.status.success() && String::from_utf8_lossy(&unsure.stderr).contains("--yes"));
    place.ok(&["user", "forget", "ann", "--yes"]);
    assert!(!place.run(&["user", "export", "ann"]).status.success());
    let rows = json(&place.ok(&["usage", "--format", "json"]));
    assert!(rows[0]["user_id"].as_str().unwrap().starts_with("forgotten-"), "{rows}");
    assert_eq!(rows[0]["requests"], 2);
    place.ok(&["verify"]);
    let early = place.run(&["usage", "prune", "--before", "2999-01-01", "--yes"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("too late"));
    assert!(place.ok(&["usage", "prune", "--before", "2020-01-01"]).contains("nothing"));
});

each_database!(who_was_refused_is_shown, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "1")]).await;
    let gateway = place.serve();
    let client = HttpClient::new();
    let dear = "[[sim input=1000 output=500]]";
    assert_eq!(client.ask(&gateway.url, "ann", "c1", dear).await.0, 200);
    for _ in 0..3 {
        assert_eq!(client.ask(&gateway.url, "ann", "c1", dear).await.0, 402);
    }
    let sponsored = serde_json::json!({"model": "sponsored/none/gpt-test", "messages": []});
    assert_eq!(client.chat(&gateway.url, "bob", &sponsored).await.0, 403);
    // Written off the request's way, while it serves.
    place
        .until("SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT) FROM {refusal}", |refused| refused == 4)
        .await;
    assert_eq!(client.ask(&gateway.url, "ann", "c1", dear).await.0, 402);
    // And what is not written yet, at its end.
    gateway.terminate();
    let refused =
        |more: &[&str]| json(&place.ok(&[&["usage", "--refused", "--format", "json"], more].concat()));
    let rows = refused(&["--by", "user,model"]);
    let row = |index: usize, key: &str| rows[index][key].clone();
    assert_eq!(
        (row(0, "user_id"), row(0, "model"), row(0, "refused")),
        ("ann".into(), "gpt-test".into(), 4.into())
    );
    assert_eq!((row(0, "reason"), row(0, "limited_by")), ("limit".into(), "user-day".into()));
    assert_eq!((row(1, "user_id"), row(1, "reason")), ("bob".into(), "not_sponsored".into()));
    assert_eq!(refused(&["--user", "bob"]).as_array().unwrap().len(), 1);
    assert_eq!(refused(&["--to", "2020-01-01"]).as_array().unwrap().len(), 0);
    let csv = place.ok(&["usage", "--refused", "--by", "day", "--format", "csv"]);
    assert!(csv.starts_with("day,reason,limited_by,refused,first_at,last_at"), "{csv}");
    assert!(place.ok(&["usage", "--refused"]).contains("limit reached"));
    assert!(
        place
            .ok(&["balance", "ann", "--explain"])
            .contains("Refused today: 4 time(s), limit reached (daily)")
    );
    assert!(!place.run(&["usage", "--refused", "--by", "task"]).status.success());
    place.assert_clean().await;
});
