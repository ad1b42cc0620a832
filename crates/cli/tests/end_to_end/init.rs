//! `init`: what files name at each start, and what becomes of a list of prices that was there before.

use std::path::Path;

use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::process::{PROGRAM, run};

/// A database that nobody has initialised, and a folder with files.
pub struct Site {
    pub test: TestDatabase,
    folder: tempfile::TempDir,
}

impl Site {
    fn new(test: TestDatabase) -> Self {
        Self { test, folder: tempfile::tempdir().unwrap() }
    }

    /// A database of the original with these prices in its table: model, credits for a million tokens.
    pub async fn of_the_original(test: TestDatabase, prices: &[(&str, &str)]) -> Self {
        let database = test.open().await.unwrap();
        let (id, moment) = match database.kind() {
            storage::Kind::Sqlite => ("UUID", "DATETIME"),
            storage::Kind::Postgres => ("UUID", "TIMESTAMP WITH TIME ZONE"),
        };
        let name = |table: &str| database.table(&format!("token_tracking_{table}"));
        let mut sql = format!(
            "CREATE TABLE {} (setting_key VARCHAR(255) NOT NULL PRIMARY KEY, setting_value VARCHAR(255), \
               description VARCHAR(255)); \
             CREATE TABLE {} (id VARCHAR(255) NOT NULL PRIMARY KEY, provider VARCHAR(255), name VARCHAR(255), \
               input_cost_credits INTEGER, per_input_tokens INTEGER, output_cost_credits INTEGER, \
               per_output_tokens INTEGER); \
             CREATE TABLE {} (id {id} NOT NULL PRIMARY KEY, creation_date {moment} DEFAULT CURRENT_TIMESTAMP NOT NULL, \
               name VARCHAR(255), sponsor_id VARCHAR(255), total_credit_limit INTEGER NOT NULL, daily_credit_limit INTEGER); \
             CREATE TABLE {} (log_date {moment}, user_id VARCHAR(255), provider VARCHAR(255), model_id VARCHAR(255), \
               prompt_tokens INTEGER, response_tokens INTEGER, sponsored_allowance_id {id});",
            name("base_settings"),
            name("model_pricing"),
            name("sponsored_allowance"),
            name("usage_log"),
        );
        for (model, credits) in prices {
            sql.push_str(&format!(
                "INSERT INTO {} VALUES ('{model}', 'openai', '{model}', {credits}, 1000000, {credits}, 1000000);",
                name("model_pricing")
            ));
        }
        database.run(sql).await.unwrap();
        database.close().await;
        Self::new(test)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a command says, and whether it worked.
    pub fn said(&self, arguments: &[&str]) -> (bool, String) {
        let done = run(self.folder(), self.test.environment(), arguments);
        let said = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (done.status.success(), said)
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let (worked, said) = self.said(arguments);
        assert!(worked, "{arguments:?}: {said}");
        said
    }

    /// Runs a command that was told, as it was told.
    pub fn shell(&self, command: &str) {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(command.replace("owui-token-tracking ", "\"$0\" ")).arg(PROGRAM).env_clear();
        let done =
            shell.envs(self.test.environment().iter().map(|(name, value)| (*name, value))).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.ok(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("no JSON: {said}"))
    }

    fn models(&self, prices: &[(&str, i64)]) {
        let entry = |(id, credits): &(&str, i64)| {
            json!({"id": id, "provider": "openai", "name": id, "input_cost_credits": credits,
                "per_input_tokens": 1000, "output_cost_credits": credits, "per_output_tokens": 1000})
        };
        let list: Vec<Value> = prices.iter().map(entry).collect();
        std::fs::write(self.folder().join("models.json"), Value::from(list).to_string()).unwrap();
    }

    fn base(&self, credits: &str) {
        let entry = json!([{"setting_key": "base_credit_allowance", "setting_value": credits, "description": "Ours"},
            {"setting_key": "of_others", "setting_value": "blue", "description": "Theirs"}]);
        std::fs::write(self.folder().join("settings.json"), entry.to_string()).unwrap();
    }

    /// What a start script does.
    fn start(&self) -> String {
        self.ok(&FILES)
    }

    /// All prices: model, credits, source.
    fn prices(&self) -> Vec<(String, i64, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = self.json(&["pricing", "list"]);
        let one = |row: &Value| {
            (text(&row["id"]), row["input_cost_credits"].as_i64().unwrap(), text(&row["source"]))
        };
        list.as_array().unwrap().iter().map(one).collect()
    }

    fn setting(&self, key: &str) -> String {
        let listed = self.json(&["settings", "list"]);
        let found = listed.as_array().unwrap().iter().find(|row| row["setting_key"] == key);
        found.and_then(|row| row["setting_value"].as_str()).unwrap_or_default().to_owned()
    }

    /// Versions of prices, and notes of the audit.
    async fn rows(&self) -> (i64, i64) {
        let database = self.test.open().await.unwrap();
        let mut counts = Vec::new();
        for table in ["price", "audit"] {
            let sql = format!("SELECT COUNT(*) FROM {}", database.table(&format!("token_tracking_{table}")));
            let count: i64 = storage::on_pool!(database, pool => {
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
            });
            counts.push(count);
        }
        database.close().await;
        (counts[0], counts[1])
    }

    pub async fn run_sql(&self, sql: &str, table: &str) {
        let database = self.test.open().await.unwrap();
        database.run(sql.replace("{table}", &database.table(table))).await.unwrap();
        database.close().await;
    }
}

const FILES: [&str; 5] = ["init", "--model-json", "models.json", "--settings-json", "settings.json"];

fn update(model: &'static str, credits: &'static str) -> [&'static str; 9] {
    [
        "pricing",
        "update",
        model,
        "--provider",
        "openai",
        "--input-cost-credits",
        credits,
        "--output-cost-credits",
        credits,
    ]
}

fn listed(prices: &[(&str, i64, &str)]) -> Vec<(String, i64, String)> {
    prices.iter().map(|(model, credits, source)| ((*model).into(), *credits, (*source).into())).collect()
}

each_database!(a_new_site_begins_with_its_files_or_with_the_built_in_list, async |test: TestDatabase| {
    let site = Site::new(test);
    site.models(&[("a", 1), ("b", 2), ("b", 3)]);
    site.base("500");
    let (worked, preview) = site.said(&[&FILES[..], &["--dry-run"]].concat());
    assert!(worked && preview.contains("models.json: 2 added, 0 changed, 0 as they were"), "{preview}");
    let said = site.start();
    assert!(said.contains("models.json: 2 added, 0 changed, 0 as they were"), "{said}");
    // Of two entries the last one counts, and no built-in price comes beside them, with the file or without it.
    let expected = listed(&[("a", 1, "file"), ("b", 3, "file")]);
    assert_eq!(site.prices(), expected);
    let said = site.ok(&["init"]);
    assert!(said.contains("a list of your own") && said.contains("Nothing has changed"), "{said}");
    assert_eq!(site.prices(), expected);
    assert_eq!(
        (site.setting("base_credit_allowance"), site.setting("of_others")),
        ("500".into(), "blue".into())
    );
    // It is noted where they are from.
    let audit = site.ok(&["audit", "--action", "init"]);
    assert!(audit.contains("models.json") && audit.contains("settings.json"), "{audit}");
});

each_database!(a_new_site_without_files_has_the_built_in_list, async |test: TestDatabase| {
    let site = Site::new(test);
    assert!(site.ok(&["init"]).contains("0 there already"));
    let prices = site.prices();
    assert!(prices.len() > 50 && prices.iter().all(|(.., source)| source == "built-in"), "{prices:?}");
    assert_eq!(site.setting("base_credit_allowance"), "1000");
    // A file that comes later sets what it names, and adds nothing else.
    site.models(&[("gpt-4o", 7)]);
    assert!(site.ok(&FILES[..3]).contains("0 added, 1 changed"));
    let after = site.prices();
    assert_eq!(after.len(), prices.len());
    assert!(after.contains(&("gpt-4o".into(), 7, "file".into())), "{after:?}");
});

each_database!(an_empty_file_is_a_list_too, async |test: TestDatabase| {
    let site = Site::new(test);
    site.models(&[]);
    site.ok(&FILES[..3]);
    site.ok(&["init"]);
    assert_eq!(site.prices(), []);
});

each_database!(twenty_starts_in_a_row_write_nothing, async |test: TestDatabase| {
    let site = Site::new(test);
    site.models(&[("a", 1), ("b", 2)]);
    site.base("500");
    site.start();
    let rows = site.rows().await;
    for _ in 0..20 {
        let said = site.start();
        assert!(
            said.contains("0 added, 0 changed, 2 as they were") && said.contains("Nothing has changed"),
            "{said}"
        );
    }
    assert_eq!(site.rows().await, rows);
});

each_database!(a_changed_file_is_set_and_what_was_changed_by_hand_since_stays, async |test: TestDatabase| {
    let site = Site::new(test);
    site.models(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    site.base("500");
    site.start();
    // By hand: a price, a deletion, a setting; and a model that the file does not name.
    site.ok(&update("a", "10"));
    site.ok(&["pricing", "delete", "b", "--yes"]);
    site.ok(&["settings", "set", "base_credit_allowance", "700"]);
    let other = ["--input-cost-credits", "9", "--output-cost-credits", "9"];
    site.ok(
        &[&["pricing", "add", "--provider", "openai", "--id", "mine", "--name", "mine"], &other[..]].concat()
    );
    // The file changes elsewhere.
    site.models(&[("a", 1), ("b", 2), ("c", 30), ("d", 4)]);
    let expected = |said: &str| {
        assert!(said.contains("0 added, 1 changed, 1 as they were, 2 kept"), "{said}");
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("Kept")).collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(
            lines[0].contains("openai/a: 10 for 1000 input tokens")
                && lines[0].contains("command line at 20")
                && lines[0].contains("the file has 1 for 1000 input tokens")
                && lines[0].contains(
                    "`owui-token-tracking pricing upsert a --provider openai --name a --input-cost-credits 1 \
                     --per-input-tokens 1000 --output-cost-credits 1 --per-output-tokens 1000`"
                ),
            "{said}"
        );
        assert!(lines[1].contains("openai/b: deleted, by ") && lines[1].contains("the file has 2"), "{said}");
        assert!(
            lines[2].contains("base_credit_allowance: 700, by ") && lines[2].contains("the file has 500"),
            "{said}"
        );
    };
    expected(&site.ok(&[&FILES[..], &["--dry-run"]].concat()));
    expected(&site.start());
    let prices =
        [("a", 10, "administrator"), ("c", 30, "file"), ("d", 4, "file"), ("mine", 9, "administrator")];
    assert_eq!(site.prices(), listed(&prices));
    assert_eq!(site.setting("base_credit_allowance"), "700");
    // The file changes there too: then it is what was said last.
    site.models(&[("a", 2), ("b", 5), ("c", 30), ("d", 4)]);
    site.base("800");
    assert!(site.start().contains("1 added, 1 changed, 2 as they were"));
    let prices = [
        ("a", 2, "file"),
        ("b", 5, "file"),
        ("c", 30, "file"),
        ("d", 4, "file"),
        ("mine", 9, "administrator"),
    ];
    assert_eq!(site.prices(), listed(&prices));
    assert_eq!(site.setting("base_credit_allowance"), "800");
    // What is changed in the original's table is somebody's change too. The file wins where that is asked for.
    site.run_sql("UPDATE {table} SET input_cost_credits = 77 WHERE id = 'd'", "token_tracking_model_pricing")
        .await;
    site.run_sql(
        "UPDATE {table} SET setting_value = '9' WHERE setting_key = 'of_others'",
        "token_tracking_base_settings",
    )
    .await;
    let said = site.start();
    assert!(
        said.contains("openai/d: 77 for 1000 input tokens") && said.contains("by the original's price table"),
        "{said}"
    );
    assert!(said.contains("of_others: 9, by somebody, in the table itself"), "{said}");
    let said = site.ok(&[&FILES[..], &["--overwrite"]].concat());
    assert!(said.contains("0 added, 1 changed, 3 as they were") && !said.contains("Kept"), "{said}");
    assert_eq!(site.prices()[3], ("d".into(), 4, "file".into()));
    assert_eq!(site.setting("of_others"), "blue");
    // As the file has it now, there is nothing to tell.
    site.ok(&update("a", "20"));
    site.models(&[("a", 20), ("b", 5), ("c", 30), ("d", 4)]);
    assert!(site.start().contains("0 added, 0 changed, 4 as they were"));
    site.ok(&update("a", "21"));
    assert!(site.start().contains("the file has 20"));
});

each_database!(
    what_a_file_set_before_that_was_remembered_is_known_from_the_audit,
    async |test: TestDatabase| {
        let site = Site::new(test);
        site.models(&[("a", 1), ("b", 2)]);
        site.base("500");
        site.start();
        site.ok(&update("a", "10"));
        site.ok(&update("b", "20"));
        site.ok(&["settings", "set", "base_credit_allowance", "700"]);
        // As version 0.2.0 left it: it kept what was there, and had no such table.
        site.run_sql("DELETE FROM {table}", "token_tracking_file_entry").await;
        let noted = "UPDATE {table} SET after = replace(after, '\"source\":\"file\"', '\"source\":\"administrator\"') WHERE action = 'init'";
        site.run_sql(noted, "token_tracking_audit").await;
        site.run_sql(
        "UPDATE {table} SET action = 'settings set' WHERE action = 'init' AND subject = 'base_credit_allowance'",
        "token_tracking_audit",
    )
    .await;
        site.models(&[("a", 1), ("b", 3)]);
        for more in [&["--dry-run"][..], &[], &[]] {
            let said = site.ok(&[&FILES[..], more].concat());
            assert!(
                said.contains("openai/a: 10 for") && said.contains("base_credit_allowance: 700, by "),
                "{said}"
            );
        }
        assert_eq!(site.prices(), listed(&[("a", 10, "administrator"), ("b", 3, "file")]));
    }
);

each_database!(the_command_that_is_told_takes_what_the_file_has, async |test: TestDatabase| {
    let site = Site::new(test);
    site.models(&[("it's", 1), ("gone", 2)]);
    site.base("500");
    site.start();
    site.ok(&update("it's", "10"));
    site.ok(&["pricing", "delete", "gone", "--yes"]);
    site.ok(&["settings", "set", "base_credit_allowance", "700"]);
    site.ok(&["settings", "init", "--setting", "of_others", "light green", ""]);
    let said = site.start();
    let kept = said.lines().filter_map(|line| line.split_once("To take the file's: `")?.1.split_once("`;"));
    let commands: Vec<&str> = kept.map(|(command, _)| command).collect();
    assert_eq!(commands.len(), 4, "{said}");
    for command in commands {
        site.shell(command);
    }
    let said = site.start();
    assert!(!said.contains("Kept") && said.contains("Nothing has changed"), "{said}");
});

each_database!(a_setting_by_option_counts_more_than_the_file, async |test: TestDatabase| {
    let site = Site::new(test);
    site.base("500");
    site.models(&[]);
    let with = |value: &'static str| {
        [
            &FILES[..],
            &["--setting", "base_credit_allowance", value, "Mine", "--setting", "hold_wait", "5", ""],
        ]
        .concat()
    };
    let said = site.ok(&with("600"));
    assert!(said.contains("settings.json, --setting: 3 added"), "{said}");
    assert_eq!(
        (site.setting("base_credit_allowance"), site.setting("hold_wait")),
        ("600".into(), "5".into())
    );
    assert!(site.ok(&with("600")).contains("Nothing has changed"));
    site.ok(&with("601"));
    assert_eq!(site.setting("base_credit_allowance"), "601");
});

each_database!(a_file_with_a_mistake_sets_nothing_and_names_the_entry, async |test: TestDatabase| {
    let site = Site::new(test);
    site.models(&[("a", 1)]);
    site.base("500");
    site.start();
    let rows = site.rows().await;
    let setting = |key: &str, value: &str| json!([{"setting_key": "hold_wait", "setting_value": "5"}, {"setting_key": key, "setting_value": value}]);
    for (file, content, says) in [
        (
            "models.json",
            json!([{"id": "a", "provider": "openai", "name": "a", "input_cost_credits": 5,
            "output_cost_credits": 5}, {"id": "wrong", "provider": "openai", "name": "x", "input_cost_credits": "much",
            "output_cost_credits": 5}]),
            "model 2 (wrong)",
        ),
        (
            "models.json",
            json!([{"id": "a", "provider": "openai", "name": "x".repeat(1001), "input_cost_credits": 5,
            "output_cost_credits": 5}]),
            "model 1 (a)",
        ),
        ("settings.json", setting("base_credit_allowance", "lots"), "setting 2 (base_credit_allowance)"),
        // It needs two settings that are not there: what is set before it is not set either.
        ("settings.json", setting("unpriced_models", "default"), "no default price"),
    ] {
        site.models(&[("a", 8)]);
        site.base("800");
        std::fs::write(site.folder().join(file), content.to_string()).unwrap();
        let (worked, said) = site.said(&FILES);
        assert!(!worked && said.contains(says), "{says}: {said}");
        assert_eq!(site.rows().await, rows, "{says}");
        assert_eq!(site.setting("base_credit_allowance"), "500");
    }
});

each_database!(a_takeover_adds_no_prices, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[("gpt-4o", "7"), ("own", "8")]).await;
    let preview = site.ok(&["init", "--dry-run"]);
    let said = site.ok(&["init"]);
    for said in [&preview, &said] {
        assert!(
            said.contains("2 taken over, a list of your own") && said.contains("pricing import"),
            "{said}"
        );
    }
    // Nor later, also after the site has deleted some, here or in the original's table.
    site.ok(&["pricing", "delete", "gpt-4o", "--yes"]);
    site.ok(&["init"]);
    assert_eq!(site.prices(), listed(&[("own", 8, "original")]));
    site.run_sql("DELETE FROM {table}", "token_tracking_model_pricing").await;
    assert!(site.ok(&["init"]).contains("a list of your own"));
    assert_eq!(site.prices(), []);
});

each_database!(a_takeover_with_a_file_is_as_the_file_says, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[("gpt-4o", "7"), ("own", "8")]).await;
    site.models(&[("own", 1)]);
    assert!(site.ok(&FILES[..3]).contains("2 taken over, models.json: 0 added, 1 changed"));
    assert_eq!(site.prices(), listed(&[("gpt-4o", 7, "original"), ("own", 1, "file")]));
});

each_database!(an_empty_list_of_the_original_is_filled_by_init_alone, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[]).await;
    #[cfg(unix)]
    {
        // Whoever replaces the package asks for no models.
        let started = crate::worker::once(site.folder(), site.test.environment());
        assert!(started.contains("listening on"), "{started}");
        assert_eq!(site.prices(), []);
    }
    site.ok(&["init"]);
    assert!(site.prices().len() > 50);
});

#[cfg(unix)]
each_database!(replacing_the_package_alone_adds_no_prices, async |test: TestDatabase| {
    let site = Site::of_the_original(test, &[("own", "8")]).await;
    crate::worker::once(site.folder(), site.test.environment());
    assert_eq!(site.prices(), listed(&[("own", 8, "original")]));
    site.ok(&["init"]);
    assert_eq!(site.prices(), listed(&[("own", 8, "original")]));
});
