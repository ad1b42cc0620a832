//! What `init` says before it takes a database of the original over, and what it does not take over.

use serde_json::Value;
use storage::Kind;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::init::Site;

/// Sponsored allowances, as both databases take their ids.
const IDS: [&str; 3] = [
    "0194f0a0b0c07d0e8f00112233445501",
    "0194f0a0b0c07d0e8f00112233445502",
    "0194f0a0b0c07d0e8f00112233445503",
];

impl Site {
    /// Statements; `{name}` stands for the table of that name.
    async fn sql(&self, statements: &[String]) {
        let database = self.test.open().await.unwrap();
        let all = ["usage_log", "model_pricing", "credit_group", "base_settings", "sponsored_allowance"];
        for sql in statements {
            let mut sql = sql.clone();
            for name in all.into_iter().chain(["sponsored_allowance_base_models"]) {
                sql = sql.replace(&format!("{{{name}}}"), &database.table(&format!("token_tracking_{name}")));
            }
            for name in ["model", "user"] {
                sql = sql.replace(&format!("{{{name}}}"), &database.table(name));
            }
            database.run(sql).await.unwrap();
        }
        database.close().await;
    }

    /// Whether any table of ours is there.
    async fn is_ours(&self) -> bool {
        let database = self.test.open().await.unwrap();
        let mut found = false;
        for table in ["token_tracking_ledger", "token_tracking_price", "token_tracking_schema_version"] {
            found |= database.has_table(table).await.unwrap();
        }
        database.close().await;
        found
    }

    /// Neither a preview, nor `init`, nor a tracked pipe takes it over, and nothing is left of the trial.
    async fn is_refused(&self, says: &[&str]) {
        for command in [&["init", "--dry-run"][..], &["init"], &["database", "migrate"]] {
            let (worked, said) = self.said(command);
            assert!(!worked && says.iter().all(|says| said.contains(says)), "{command:?}: {said}");
            assert!(said.contains("Nothing was changed"), "{said}");
            assert!(!self.is_ours().await, "{command:?}");
        }
    }
}

/// The lines that speak of sponsored allowances, with the command of each.
fn sponsored(said: &str) -> Vec<(String, String)> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("Sponsored "));
    lines
        .map(|line| {
            let (what, command) = line.split_once(" To change it: `").unwrap();
            (what.to_owned(), command.trim_end_matches('`').to_owned())
        })
        .collect()
}

each_database!(what_becomes_stricter_is_told_with_the_command_that_changes_it, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[("own", "1000000"), ("other", "1"), ("third", "1")]).await;
    let [first, second, third] = IDS;
    let kind = if site.test.url().path().is_some() { Kind::Sqlite } else { Kind::Postgres };
    let date = match kind {
        Kind::Sqlite => "'2025-02-19 12:00:00.000000'",
        Kind::Postgres => "TIMESTAMPTZ '2025-02-19 12:00:00Z'",
    };
    let covers = |id: &str, model: &str| {
        format!("INSERT INTO {{sponsored_allowance_base_models}} VALUES ('{id}', '{model}')")
    };
    site.sql(&[
        "CREATE TABLE {sponsored_allowance_base_models} (sponsored_allowance_id UUID, base_model_id VARCHAR(255))".into(),
        format!(
            "INSERT INTO {{sponsored_allowance}} (id, name, sponsor_id, total_credit_limit, daily_credit_limit) VALUES \
             ('{first}', 'Course', 'dean', 200, 10), ('{second}', 'course', 'dean', 1000, 10), \
             ('{third}', 'Free one', 'dean', 1000, NULL)"
        ),
        covers(first, "own"),
        covers(second, "own"),
        covers(third, "own"),
        // 199.5 credits: what is left is no whole one.
        format!(
            "INSERT INTO {{usage_log}} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens, \
               sponsored_allowance_id) VALUES ({date}, 'ann', 'openai', 'own', 199, 0, '{first}'), \
               ({date}, 'ann', 'openai', 'third', 500000, 0, '{first}')"
        ),
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name TEXT, email TEXT, role TEXT)".into(),
        "CREATE TABLE {model} (id TEXT, base_model_id TEXT, is_active BOOLEAN)".into(),
        "INSERT INTO {model} VALUES ('Free-one---tutor', 'openai.other', TRUE), ('free one---coach', 'openai.own', TRUE), \
           ('Free one---guide', 'third', TRUE), ('plain', 'openai.third', TRUE)"
            .into(),
    ])
    .await;
    let preview = site.ok(&["init", "--dry-run"]);
    let said = site.ok(&["init"]);
    assert!(said.contains("a balance may be one credit lower"), "{said}");
    let told = sponsored(&said);
    assert_eq!(sponsored(&preview), told, "{preview}{said}");
    let says = [
        "course: another one",
        "Course: 199.5 of its 200 credits in total are used",
        "Free one: it has no daily limit",
        "Free one: it does not cover other (of Free-one---tutor), third (of Free one---guide)",
    ];
    assert_eq!(told.len(), says.len(), "{said}");
    for ((what, _), says) in told.iter().zip(says) {
        assert!(what.starts_with(says), "{what}");
    }
    let doctor = site.said(&["doctor", "--offline", "--format", "json"]).1;
    let findings: Vec<Value> = serde_json::from_str(doctor.lines().collect::<String>().as_str()).unwrap();
    let found =
        findings.iter().filter(|finding| finding["check"].as_str().unwrap().starts_with("sponsored "));
    let found: Vec<&str> = found.map(|finding| finding["advice"].as_str().unwrap()).collect();
    assert_eq!(found, told.iter().map(|(_, command)| format!("`{command}`")).collect::<Vec<_>>());
    // The commands do it: then there is nothing more to tell.
    for (_, command) in &told {
        site.shell(&command.replace("CREDITS", "20"));
    }
    let again = site.ok(&["init"]);
    assert_eq!(sponsored(&again), [], "{again}");
});

each_database!(a_base_allowance_counts_as_the_original_read_it_or_is_told, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[]).await;
    site.sql(&[
        "INSERT INTO {base_settings} VALUES ('base_credit_allowance', 'lots', '')".into(),
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name TEXT, email TEXT, role TEXT)".into(),
        "INSERT INTO {user} VALUES ('ann', 'Ann', 'ann@example.org', 'user')".into(),
    ])
    .await;
    for command in [&["init", "--dry-run"][..], &["init"], &["init"]] {
        let (worked, said) = site.said(command);
        assert!(!worked && said.contains("Problem") && said.contains("`lots`"), "{command:?}: {said}");
        assert!(said.contains("settings set base_credit_allowance"), "{said}");
    }
    for (value, limit, noted) in [("1_500", 1500, false), ("-5", -5, true)] {
        site.sql(&[format!("UPDATE {{base_settings}} SET setting_value = '{value}'")]).await;
        for command in [&["init", "--dry-run"][..], &["init"]] {
            let said = site.ok(command);
            assert_eq!(said.contains("users have what their groups add, less that"), noted, "{said}");
        }
        let balance = site.json(&["balance", "ann"]);
        assert_eq!(balance[0]["limit"], limit, "{balance}");
    }
    // A file can correct it in the same step.
    site.sql(&["UPDATE {base_settings} SET setting_value = 'lots'".into()]).await;
    for more in [&["--dry-run"][..], &[]] {
        site.ok(&[&["init", "--setting", "base_credit_allowance", "7", ""][..], more].concat());
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_move_to_another_day_are_told_and_can_be_kept() {
    let site = Site::of_the_original(TestDatabase::postgres().await.unwrap(), &[("own", "1")]).await;
    site.sql(&[
        "INSERT INTO {base_settings} VALUES ('timezone', 'Pacific/Auckland', '')".into(),
        // With the server in whichever zone: one of these is not on the day there that it is on in Auckland.
        "INSERT INTO {usage_log} (log_date, user_id, provider, model_id, prompt_tokens, response_tokens) \
           SELECT TIMESTAMPTZ '2025-02-19 00:30:00Z' + hour * INTERVAL '1 hour', 'ann', 'openai', 'own', 1, 0 \
           FROM generate_series(0, 23) AS hour"
            .into(),
    ])
    .await;
    let said = site.ok(&["init", "--dry-run"]);
    assert!(
        said.contains("of these rows count on another day") && said.contains("Pacific/Auckland"),
        "{said}"
    );
    let (_, command) = said.split_once("`owui-token-tracking init --setting timezone ").unwrap();
    let zone = command.split_whitespace().next().unwrap();
    let kept = site.ok(&["init", "--setting", "timezone", zone, ""]);
    assert!(kept.contains("24 rows") && !kept.contains("another day"), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_with_fractions_that_were_written_by_hand_are_kept() {
    let prices = [("half", "0.5"), ("more", "1.25"), ("tiny", "0.00001"), ("whole", "2"), ("word", "'dear'")];
    let site = Site::of_the_original(TestDatabase::sqlite().await.unwrap(), &prices).await;
    let preview = site.ok(&["init", "--dry-run"]);
    assert!(preview.contains("4 taken over"), "{preview}");
    assert!(site.ok(&["init"]).contains("4 taken over"));
    let costs: Vec<String> = ["half", "more", "tiny", "whole"]
        .iter()
        .map(|model| site.json(&["pricing", "get", model])[0]["input_cost_credits"].to_string())
        .collect();
    assert_eq!(costs, ["0.5", "1.25", "0.00001", "2"]);
    assert!(site.ok(&["init"]).contains("Nothing has changed"));
    let database = site.test.open().await.unwrap();
    let sql = "SELECT typeof(input_cost_credits) || ' ' || input_cost_credits FROM token_tracking_model_pricing WHERE id = 'more'";
    let there: String = storage::on_pool!(database, pool => {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
    });
    assert_eq!(there, "real 1.25");
    database.close().await;
    site.run_sql(
        "UPDATE {table} SET input_cost_credits = 0.75 WHERE id = 'half'",
        "token_tracking_model_pricing",
    )
    .await;
    site.ok(&["database", "sync"]);
    assert_eq!(site.json(&["pricing", "get", "half"])[0]["input_cost_credits"].to_string(), "0.75");
}

each_database!(a_variant_with_other_columns_is_left_as_it_is, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[("own", "8")]).await;
    let rename = |from: &str, to: &str| {
        vec![format!("ALTER TABLE {{sponsored_allowance}} RENAME COLUMN {from} TO {to}")]
    };
    site.sql(&rename("daily_credit_limit", "monthly_credit_limit")).await;
    site.is_refused(&[
        "token_tracking_sponsored_allowance has no column daily_credit_limit",
        "monthly_credit_limit",
    ])
    .await;
    #[cfg(unix)]
    assert_eq!(crate::worker::refused(site.folder(), site.test.environment()), "");
    assert!(!site.is_ours().await);
    site.sql(&rename("monthly_credit_limit", "daily_credit_limit")).await;
    site.ok(&["init"]);
});

each_database!(groups_that_differ_in_case_only_are_named, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[("own", "8")]).await;
    let [first, second, _] = IDS;
    site.sql(&[
        "CREATE TABLE {credit_group} (id UUID NOT NULL PRIMARY KEY, name VARCHAR(255), max_credit INTEGER, \
           description VARCHAR(255))"
            .into(),
        format!(
            "INSERT INTO {{credit_group}} VALUES ('{first}', 'Staff', 1, ''), ('{second}', 'STAFF', 2, '')"
        ),
    ])
    .await;
    site.is_refused(&[
        "`Staff` (id 0194f0a0",
        "`STAFF` (id 0194f0a0",
        "UPDATE token_tracking_credit_group SET name",
    ])
    .await;
    site.sql(&[format!("UPDATE {{credit_group}} SET name = 'Staff 2' WHERE id = '{second}'")]).await;
    site.ok(&["init"]);
});
