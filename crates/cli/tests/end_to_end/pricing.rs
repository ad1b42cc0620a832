//! `pricing`: every class and tier, dates, history, and the public list.

use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{Place, run};

async fn place(test: &TestDatabase) -> Place {
    let simulator = Simulator::start().await.unwrap();
    Place::new(test, &simulator, &[]).await
}

impl Place {
    fn shown(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

each_database!(a_price_of_a_newer_version_hides_no_other, async |test: TestDatabase| {
    let place = place(&test).await;
    for id in ["old", "new"] {
        place.ok(&[
            "pricing",
            "add",
            "--provider",
            "p",
            "--id",
            id,
            "--name",
            id,
            "--input-cost-credits",
            "2",
            "--output-cost-credits",
            "3",
        ]);
    }
    let rate = r#"{"credits":"1","per":1000}"#;
    let newer = format!(r#"{{"input":{rate},"output":{rate},"searches":{rate}}}"#);
    let sql = format!("UPDATE {{price}} SET price = '{newer}' WHERE model = 'new'");
    place.database.run(place.qualified(&sql)).await.unwrap();
    for command in [&["pricing", "list", "--provider", "p"][..], &["pricing", "history", "new"]] {
        let shown = place.run(&[command, &["--format", "json"]].concat());
        let said = String::from_utf8(shown.stderr).unwrap();
        assert!(shown.status.success() && said.contains("Not shown") && said.contains("p/new"), "{said}");
        let rows: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert!(rows.as_array().unwrap().iter().all(|row| row["id"] == "old"), "{rows}");
    }
    assert_eq!(place.shown(&["pricing", "list", "--provider", "p"]).as_array().unwrap().len(), 1);
    assert!(place.refused(&["pricing", "get", "new"]).contains("newer version"));
    place.ok(&["pricing", "diff"]);
});

each_database!(every_class_and_tier_by_options, async |test: TestDatabase| {
    let place = place(&test).await;
    let tier = r#"{"above_input_tokens": 200000, "input_cost_credits": 4, "output_cost_credits": 6}"#;
    let add = "pricing add --provider p --id m --name M --input-cost-credits 2 --per-input-tokens 1000 --output-cost-credits 3 \
        --per-output-tokens 1000 --cached-input-cost-credits 0.2 --cache-write-cost-credits 2500 --per-cache-write-tokens 1000000 \
        --cache-write-long-cost-credits 4 --input-audio-cost-credits 5 --reasoning-cost-credits 7 --output-audio-cost-credits 8 \
        --image-cost-credits 9 --request-cost-credits 10 --per-requests 1000 --max-output-tokens 4096 --context-tokens 128000";
    let add: Vec<&str> = add.split_whitespace().chain(["--tier", tier]).collect();
    place.ok(&add);
    let shown = place.shown(&["pricing", "get", "m"])[0].clone();
    let expected = json!({
        "provider": "p", "id": "m", "name": "M", "input_cost_credits": 2, "per_input_tokens": 1000, "output_cost_credits": 3,
        "per_output_tokens": 1000, "cached_input_cost_credits": 0.2, "cache_write_cost_credits": 2500,
        "per_cache_write_tokens": 1_000_000, "cache_write_long_cost_credits": 4, "input_audio_cost_credits": 5,
        "reasoning_cost_credits": 7, "output_audio_cost_credits": 8, "image_cost_credits": 9, "request_cost_credits": 10,
        "per_requests": 1000, "max_output_tokens": 4096, "context_tokens": 128_000,
        "tiers": [{"above_input_tokens": 200_000, "input_cost_credits": 4, "output_cost_credits": 6}],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(shown[key].to_string(), value.to_string(), "{key}");
    }
    assert_eq!(shown["source"], "administrator");
    let table = place.ok(&["pricing", "list", "--provider", "p"]);
    for part in ["cached 0.2/1k", "cache write 2500/1M", "image 9/1", "request 10/1k", ">200k: 4/1k, 6/1k"] {
        assert!(
            table.split_whitespace().collect::<Vec<_>>().join(" ").contains(part) || table.contains(part),
            "{part}: {table}"
        );
    }
    // What is shown can be read again, and what an update does not name stays.
    std::fs::write(place.file("again.json"), shown.to_string()).unwrap();
    assert!(place.ok(&["pricing", "upsert", "--json", "again.json"]).contains("Nothing has changed"));
    place.ok(&[
        "pricing",
        "update",
        "m",
        "--provider",
        "p",
        "--per-cached-input-tokens",
        "500",
        "--tier",
        "none",
    ]);
    let updated = place.shown(&["pricing", "get", "m"])[0].clone();
    assert_eq!((updated["per_cached_input_tokens"].as_i64(), updated.get("tiers")), (Some(500), None));
    assert_eq!(updated["cache_write_cost_credits"], shown["cache_write_cost_credits"]);
    let wrong = place.refused(&["pricing", "update", "m", "--provider", "p", "--tier", "{}"]);
    assert!(wrong.contains("above_input_tokens"), "{wrong}");
});

each_database!(prices_from_a_date_on_and_their_history, async |test: TestDatabase| {
    let place = place(&test).await;
    let update = |credits: &'static str, from: &'static str| {
        [
            "pricing",
            "update",
            "gpt-test",
            "--provider",
            "openai",
            "--input-cost-credits",
            credits,
            "--from",
            from,
        ]
    };
    place.ok(&["settings", "set", "timezone", "Europe/Berlin"]);
    place.ok(&update("5", "2999-01-01"));
    place.ok(&update("6", "2999-07-01T00:00:00Z"));
    let passed = place.refused(&update("7", "2001-01-01"));
    assert!(passed.contains("has passed"), "{passed}");
    let malformed = place.refused(&update("7", "soon"));
    assert!(malformed.contains("write a day such as"), "{malformed}");
    assert_eq!(place.shown(&["pricing", "get", "gpt-test"])[0]["input_cost_credits"], 1000);
    let history = place.shown(&["pricing", "history", "gpt-test", "--provider", "openai"]);
    let seen: Vec<(&str, i64)> = history.as_array().unwrap()[1..]
        .iter()
        .map(|version| {
            (version["valid_from"].as_str().unwrap(), version["input_cost_credits"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(seen, [("2998-12-31T23:00:00Z", 5), ("2999-07-01T00:00:00Z", 6)]);
    assert!(place.ok(&["pricing", "history", "gpt-test"]).contains("to come"));
    place.ok(&["pricing", "delete", "gpt-test", "--yes"]);
    let history = place.shown(&["pricing", "history", "gpt-test"]);
    let deleted = history.as_array().unwrap().iter().filter(|version| version["deleted"] == true).count();
    assert_eq!(deleted, 3, "now, and on each date");
    assert!(place.refused(&["pricing", "history", "gpt-tset"]).contains("there is no price of"));
});

each_database!(the_public_list_fills_the_table_and_never_takes_ones_own, async |test: TestDatabase| {
    let place = place(&test).await;
    let found = place.shown(&["pricing", "search", "GPT-4o", "openai/"]);
    let gpt = found
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == "gpt-4o" && row["provider"] == "openai")
        .unwrap();
    assert_eq!(
        (gpt["input_usd"].as_str(), gpt["output_usd"].as_str(), &gpt["in_table"]),
        (Some("2.5"), Some("10"), &json!(false))
    );
    assert!(place.ok(&["pricing", "search", "gemini-2.5-pro"]).contains("genai-prices 0.2"));

    let said = place.ok(&[
        "pricing",
        "import",
        "openai/gpt-4o",
        "google/gemini-2.5-pro",
        "anthropic/claude-sonnet-4-5-20250929",
    ]);
    for part in
        ["google_genai/gemini-2.5-pro", ">200k", "(in the list: claude-sonnet-4-5)", "3 price(s) taken"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    place.ok(&["pricing", "import", "openai/gpt-4o", "--as", "azure", "--rate", "500"]);
    let azure = place.shown(&["pricing", "get", "gpt-4o", "--provider", "azure"])[0].clone();
    assert_eq!(
        (azure["input_cost_credits"].to_string(), azure["source"].as_str()),
        ("1250".into(), Some("genai-prices"))
    );
    assert_eq!(azure["upstream"]["credits_per_usd"], "500");
    assert!(place.ok(&["pricing", "import", "openai/gpt-4o"]).contains("0 price(s) taken"));
    place.ok(&["settings", "set", "credits_per_usd", "2000"]);
    place.ok(&["pricing", "import", "mistral/mistral-large-2512"]);
    assert_eq!(
        place.shown(&["pricing", "get", "mistral-large-2512"])[0]["upstream"]["credits_per_usd"],
        "2000"
    );
    for (wrong, says) in [
        ("gpt-4o", "write PROVIDER/MODEL"),
        ("nobody/m", "has no provider nobody"),
        ("openai/no-such", "has no model no-such"),
        ("openai/whisper-1", "not by tokens"),
    ] {
        let error = place.refused(&["pricing", "import", wrong]);
        assert!(error.contains(says), "{error}");
    }

    // As if the list had had other prices when they were taken.
    assert!(place.ok(&["pricing", "diff"]).contains("All prices from the list are as in"));
    let table = place.database.table("token_tracking_price");
    let earlier = r#"{"input":{"credits":"1","per":1000000},"output":{"credits":"2","per":1000000}}"#;
    place
        .database
        .run(format!("UPDATE {table} SET price = '{earlier}' WHERE model LIKE 'g%' AND provider <> 'openai'"))
        .await
        .unwrap();
    place
        .database
        .run(format!("UPDATE {table} SET price = '{earlier}' WHERE model = 'gpt-4o'"))
        .await
        .unwrap();
    let mirror = place.database.table("token_tracking_model_pricing");
    let shown = "input_cost_credits = 1, per_input_tokens = 1000000, output_cost_credits = 2, per_output_tokens = 1000000";
    place
        .database
        .run(format!("UPDATE {mirror} SET {shown} WHERE id IN ('gpt-4o', 'gemini-2.5-pro')"))
        .await
        .unwrap();
    // One of them is somebody's own now.
    place.ok(&["pricing", "update", "gpt-4o", "--provider", "openai", "--input-cost-credits", "7"]);
    let differs = place.run(&["pricing", "diff", "--format", "json"]);
    assert_eq!(differs.status.code(), Some(1));
    let differs: Value = serde_json::from_slice(&differs.stdout).unwrap();
    let models: Vec<(&str, &str)> = differs
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["provider"].as_str().unwrap(), row["id"].as_str().unwrap()))
        .collect();
    assert_eq!(models, [("azure", "gpt-4o"), ("google_genai", "gemini-2.5-pro")]);
    assert_eq!(place.run(&["pricing", "diff", "--provider", "mistral"]).status.code(), Some(0));
    assert!(place.ok(&["pricing", "sync", "--dry-run"]).contains("2 price(s) would change"));
    assert!(place.refused(&["pricing", "sync"]).contains("--yes"));
    assert_eq!(place.shown(&["pricing", "get", "gpt-4o", "--provider", "azure"])[0]["input_cost_credits"], 1);
    assert!(place.ok(&["pricing", "sync", "--yes"]).contains("2 price(s) are as in genai-prices"));
    let azure = &place.shown(&["pricing", "get", "gpt-4o", "--provider", "azure"])[0];
    assert_eq!(azure["input_cost_credits"], 1250, "at the rate at which it was taken");
    assert_eq!(
        place.shown(&["pricing", "get", "gpt-4o", "--provider", "openai"])[0]["input_cost_credits"],
        7
    );
    assert!(place.ok(&["pricing", "sync", "--yes"]).contains("Nothing to do"));
    let noted = place.shown(&["audit", "--action", "pricing sync"]);
    let subjects: Vec<&str> =
        noted.as_array().unwrap().iter().map(|noted| noted["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["azure/gpt-4o", "google_genai/gemini-2.5-pro"]);
});

each_database!(a_new_installation_begins_with_prices_of_the_list, async |test: TestDatabase| {
    let folder = tempfile::tempdir().unwrap();
    let command = |arguments: &[&str]| {
        let output = run(folder.path(), test.environment(), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    command(&["init"]);
    let listed: Value = serde_json::from_str(&command(&["pricing", "list", "--format", "json"])).unwrap();
    let listed = listed.as_array().unwrap();
    for (provider, id) in [
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("anthropic", "claude-3-5-haiku-20241022"),
        ("anthropic", "claude-3-5-sonnet-20241022"),
        ("google_genai", "gemini-2.0-flash-001"),
        ("google_genai", "gemini-1.5-pro-002"),
        ("mistral", "pixtral-large-2411"),
        ("mistral", "mistral-small-2409"),
        ("meta", "llama-3-2-11b-vision-instruct"),
        ("openai", "text-embedding-3-small"),
    ] {
        assert!(
            listed.iter().any(|price| price["provider"] == provider && price["id"] == id),
            "{provider}/{id}"
        );
    }
    // What it begins with is as in the list.
    assert!(command(&["pricing", "diff"]).contains("All prices from the list"));
    let again = command(&["init"]);
    assert!(again.contains("0 added"), "{again}");
});
