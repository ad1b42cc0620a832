//! `doctor`: it finds nothing where all is well, and each thing that can be wrong, with what to do.

use serde_json::Value;
use storage::Database;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{Place, run};

const KEY: &str = "sk-that-nobody-may-see";

/// What doctor says: its exit code, and its findings.
struct Said(Option<i32>, Vec<Value>);

impl Place {
    fn doctor(&self, more: &[&str]) -> Said {
        self.doctor_with(more, &[])
    }

    fn doctor_with(&self, more: &[&str], environment: &[(&'static str, &str)]) -> Said {
        let arguments = [&["doctor", "--config", "config.toml", "--format", "json"], more].concat();
        let own = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let environment: Vec<_> = self.environment.iter().cloned().chain(own).collect();
        let output = run(self.folder.path(), &environment, &arguments);
        let (said, errors) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains(KEY) && !errors.contains(KEY), "a key is shown: {said}{errors}");
        let findings =
            serde_json::from_str(&said).unwrap_or_else(|_| panic!("{arguments:?}: {said}{errors}"));
        Said(output.status.code(), findings)
    }

    async fn sql(&self, sql: &str) {
        self.database.run(self.qualified(sql)).await.unwrap();
    }
}

impl Said {
    /// There is a finding of that check with that result, which says this, and what to do if anything is wrong.
    fn finds(&self, check: &str, result: &str, says: &str) {
        let fits = |finding: &&Value| {
            finding["check"] == check
                && finding["result"] == result
                && finding["found"].as_str().unwrap().contains(says)
        };
        let Some(finding) = self.1.iter().find(fits) else {
            panic!("no {result} of {check} saying {says}: {:#?}", self.1)
        };
        assert!(result == "ok" || !finding["advice"].as_str().unwrap().is_empty(), "{finding}");
        if result == "problem" {
            assert_eq!(self.0, Some(1));
        }
    }

    fn results(&self) -> Vec<&str> {
        self.1.iter().map(|finding| finding["result"].as_str().unwrap()).collect()
    }
}

async fn open_webui_tables(database: &Database) {
    for sql in [
        "CREATE TABLE {function} (id TEXT, type TEXT, content TEXT, valves TEXT, is_active BOOLEAN)",
        "CREATE TABLE {model} (id TEXT, base_model_id TEXT, is_active BOOLEAN)",
        "CREATE TABLE {config} (key TEXT, value TEXT)",
        "CREATE TABLE {alembic_version} (version_num TEXT)",
        "CREATE TABLE {user} (id TEXT, name TEXT, email TEXT, role TEXT)",
        "INSERT INTO {alembic_version} VALUES ('0bd252b206fb')",
    ] {
        database.run(own(database, sql)).await.unwrap();
    }
}

/// `{name}` stands for Open WebUI's table of that name.
fn own(database: &Database, sql: &str) -> String {
    ["function", "model", "config", "alembic_version", "user"]
        .iter()
        .fold(sql.to_owned(), |sql, name| sql.replace(&format!("{{{name}}}"), &database.table(name)))
}

fn pipe(id: &str, class: &str, valves: &str) -> String {
    let code = if class.is_empty() {
        "class Pipe: pass".into()
    } else {
        format!("import openwebui_token_tracking; Pipe = {class}")
    };
    format!("INSERT INTO {{function}} VALUES ('{id}', 'pipe', '{code}', '{valves}', TRUE)")
}

each_database!(all_is_well, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("timezone", "Europe/Berlin")]).await;
    let said = place.doctor(&[]);
    assert_eq!(said.0, Some(0), "{:#?}", said.1);
    assert!(said.results().iter().all(|result| *result == "ok"), "{:#?}", said.1);
    said.finds("time zone", "ok", "Europe/Berlin by the setting");
    said.finds("server of openai", "ok", "answers, with");
    said.finds("accounts", "ok", "agree");
    let said = place.doctor(&["--offline"]);
    said.finds("model servers", "ok", "not asked");
    // For people: what is wrong is counted in the end.
    let table = place.ok(&["doctor", "--config", "config.toml", "--offline"]);
    assert!(table.ends_with("0 problem(s), 0 warning(s).\n"), "{table}");
});

each_database!(the_database_is_not_as_it_should_be, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let version = place.database.table("token_tracking_schema_version");
    place.sql(&format!("INSERT INTO {version} (version) VALUES (99)")).await;
    place.doctor(&["--offline"]).finds("tables", "problem", "version 99");
    place.sql(&format!("DELETE FROM {version}")).await;
    place.doctor(&["--offline"]).finds("tables", "problem", "version 0");
    place.sql(&format!("INSERT INTO {version} (version) VALUES ({})", storage::migrate::CURRENT)).await;
    let original = place.database.table("token_tracking_alembic_version");
    place.sql(&format!("UPDATE {original} SET version_num = 'abcdef012345'")).await;
    place.doctor(&["--offline"]).finds("original's tables", "warning", "migration abcdef012345");
    // Money: no base allowance, an account that is no sum, a hold whose owner is gone.
    place.sql("DELETE FROM {base_settings}").await;
    place.sql("INSERT INTO {account} (key, kind, user_id, day, spent) VALUES ('user-day:2026-11-24:ann', 'user_day', 'ann', '2026-11-24', 5)").await;
    place.sql("INSERT INTO {hold} (id, owner, accounts, amount, request, held_at) VALUES ('0190a0a0a0a07000800000000000000a', 'gone', '[]', 2500000, '{}', 0)").await;
    let said = place.doctor(&["--offline"]);
    said.finds("base allowance", "problem", "not set");
    said.finds("accounts", "problem", "1 differ");
    said.finds("holds", "warning", "1 of processes that are gone, of 2.5 credits");
});

each_database!(what_open_webui_has_is_compared, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    open_webui_tables(&place.database).await;
    place.doctor(&["--offline"]).finds("Open WebUI", "ok", "0.12.4");
    place.ok(&[
        "sponsored",
        "create",
        "--sponsor-id",
        "x",
        "--name",
        "AI Lab",
        "-m",
        "gpt-test",
        "-t",
        "9",
        "--public",
    ]);
    let valves = |key: &str, url: &str| format!(r#"{{"API_KEY": "{key}", "API_BASE_URL": "{url}"}}"#);
    for sql in [
        // Called in another case than its provider: that is fine.
        pipe("OpenAI", "OpenAITrackedPipe", &valves(KEY, &simulator.base_url())),
        pipe("my_gpt", "OpenAITrackedPipe", &valves(KEY, "nonsense")),
        pipe("anthropic", "AnthropicTrackedPipe", "null"),
        pipe("free", "", ""),
        // Of version 0.1, with a method that the package refuses.
        "INSERT INTO {function} VALUES ('copied', 'pipe', 'from openwebui_token_tracking.pipes import AnthropicTrackedPipe\n\n\
         class Pipe(AnthropicTrackedPipe):\n\tdef _process_image(self, image):\n\t\treturn image', 'null', TRUE)"
            .into(),
        "INSERT INTO {model} VALUES ('OpenAI.gpt-test', NULL, TRUE)".into(),
        "INSERT INTO {model} VALUES ('OpenAI.gone', NULL, TRUE)".into(),
        "INSERT INTO {model} VALUES ('OpenAI.switched-off', NULL, FALSE)".into(),
        // As `sponsored publish` shows them.
        "INSERT INTO {model} VALUES ('OpenAI.sponsored/AI-Lab/gpt-test', NULL, TRUE)".into(),
        "INSERT INTO {model} VALUES ('OpenAI.sponsored/AI-Lab/gone', NULL, TRUE)".into(),
        "INSERT INTO {model} VALUES ('OpenAI.sponsored/ended/gpt-test', NULL, TRUE)".into(),
        "INSERT INTO {model} VALUES ('tutor---x', 'unpriced-test', TRUE)".into(),
        r#"INSERT INTO {config} VALUES ('openai.enable', 'true')"#.into(),
        r#"INSERT INTO {config} VALUES ('openai.api_base_urls', '["http://localhost:8787/v1", "https://api.openai.com/v1"]')"#.into(),
        format!(r#"INSERT INTO {{config}} VALUES ('openai.api_keys', '["k", "{KEY}"]')"#),
        "UPDATE {alembic_version} SET version_num = 'other'".into(),
    ] {
        place.database.run(own(&place.database, &sql)).await.unwrap();
    }
    let said = place.doctor(&[]);
    said.finds("function OpenAI", "ok", "called as a provider");
    said.finds("function my_gpt", "warning", "no provider in the price table is called so");
    said.finds("function my_gpt", "problem", "address can't be read");
    said.finds("code of copied", "problem", "is not loaded, because of `_process_image`");
    said.finds("prices of anthropic", "problem", "none");
    said.finds("key of anthropic", "warning", "none in the valves");
    said.finds("models of OpenAI", "warning", "not offered: gone");
    let withdrawn = "offers these any more: sponsored/AI-Lab/gone, sponsored/ended/gpt-test";
    said.finds("models of OpenAI", "warning", withdrawn);
    assert!(!format!("{:?}", said.1).contains("sponsored/AI-Lab/gpt-test"));
    said.finds("models of openai", "problem", "without a price: unpriced-test");
    said.finds("other pipes", "warning", "free");
    said.finds("connections", "warning", "api.openai.com");
    said.finds("Open WebUI", "ok", "migration other");
    assert!(!format!("{:?}", said.1).contains("switched-off"));
    // An older Open WebUI keeps its configuration in another form.
    place.database.run(own(&place.database, "DROP TABLE {config}")).await.unwrap();
    place.database.run(own(&place.database, "CREATE TABLE {config} (id BIGINT, data TEXT)")).await.unwrap();
    assert!(!format!("{:?}", place.doctor(&["--offline"]).1).contains("connections"));
});

each_database!(model_servers_and_settings_of_the_gateway, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    place.ok(&[
        "pricing",
        "add",
        "--provider",
        "openai",
        "--id",
        "misspelt",
        "--name",
        "x",
        "--input-cost-credits",
        "1",
        "--output-cost-credits",
        "1",
    ]);
    place.doctor(&[]).finds("models of openai", "warning", "not among those that it lists: misspelt");
    place.ok(&["pricing", "delete", "misspelt", "--yes"]);
    place.ok(&["pricing", "delete", "gpt-test", "--yes"]);
    place.doctor(&["--offline"]).finds("prices of openai", "problem", "none");
    let configure = |lines: &str| {
        let text = format!("[[provider]]\nname = \"openai\"\nkind = \"openai\"\n{lines}\n");
        std::fs::write(place.file("config.toml"), text).unwrap();
    };
    configure(&format!("base_url = \"http://127.0.0.1:1/{KEY}\"\napi_key = \"{KEY}\""));
    place.doctor(&[]).finds("server of openai", "problem", "127.0.0.1:1: no connection");
    configure("base_url = \"http://127.0.0.1:1/v1\"");
    place.doctor(&[]).finds("key of openai", "problem", "the gateway has none");
    // A server that needs no key, so that this one is asked without.
    let text =
        format!("[[provider]]\nname = \"own\"\nkind = \"vllm\"\nbase_url = \"{}\"\n", simulator.base_url());
    std::fs::write(place.file("config.toml"), text).unwrap();
    place.doctor(&[]).finds("server of own", "problem", "refused with status 401");
    for (variable, value, check, says) in [
        ("ENABLE_FORWARD_USER_INFO_HEADERS", "False", "user headers", "is False"),
        ("FORWARD_USER_INFO_HEADER_JWT_SECRET", KEY, "signed users", "the gateway has no secret"),
    ] {
        place.doctor_with(&["--offline"], &[(variable, value)]).finds(check, "problem", says);
    }
    let secrets = [("FORWARD_USER_INFO_HEADER_JWT_SECRET", KEY), ("OWUI_TRACKING_JWT_SECRET", "other")];
    place.doctor_with(&["--offline"], &secrets).finds("signed users", "problem", "different secrets");
    let secrets = [("FORWARD_USER_INFO_HEADER_JWT_SECRET", KEY), ("OWUI_TRACKING_JWT_SECRET", KEY)];
    place.doctor_with(&["--offline"], &secrets).finds("signed users", "ok", "the same secret");
    std::fs::write(place.file("config.toml"), "[gateway]\nlissten = 1\n").unwrap();
    place.doctor(&["--offline"]).finds("configuration", "problem", "lissten");
});

#[tokio::test]
async fn a_database_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("noise.db"), "this is no database, however long it may be").unwrap();
    for (url, says) in [
        ("", "DATABASE_URL"),
        ("sqlite:///nowhere.db", "no SQLite file"),
        ("postgresql://a:sk-hidden@127.0.0.1:1/c", "127.0.0.1:1"),
        ("sqlite:///noise.db", "not a database"),
    ] {
        let environment = [("DATABASE_URL", url.to_owned())];
        let output = run(folder.path(), &environment, &["doctor", "--offline", "--format", "csv"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{url}");
        assert!(said.contains("problem") && said.contains(says) && !said.contains("hidden"), "{url}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sqlite_file_that_somebody_holds() {
    let simulator = Simulator::start().await.unwrap();
    let test = TestDatabase::sqlite().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let storage::Pool::Sqlite(pool) = place.database.pool() else { panic!("not SQLite") };
    let holding = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    place.doctor(&["--offline"]).finds("rights", "problem", "nothing can be written");
    holding.rollback().await.unwrap();
    place.doctor(&["--offline"]).finds("rights", "ok", "all that are needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_and_time_zone_on_postgres() {
    let simulator = Simulator::start().await.unwrap();
    let test = TestDatabase::postgres().await.unwrap();
    let mut place = Place::new(&test, &simulator, &[]).await;
    place.sql("DELETE FROM {base_settings} WHERE setting_key = 'timezone'").await;
    let far = [("TZ", "Asia/Kathmandu")];
    place.doctor_with(&["--offline"], &far).finds("time zone", "warning", "Asia/Kathmandu, PostgreSQL's");
    let role = format!("reader_{}", storage::new_id().simple());
    let schema = place.database.schema().to_owned();
    place
        .sql(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}; \
        GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
        ))
        .await;
    place.environment[0].1 = place.environment[0].1.replace("tracking@", &format!("{role}@"));
    place.doctor(&["--offline"]).finds("rights", "problem", "DELETE on token_tracking_account");
    place.sql(&format!("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")).await;
    place.doctor(&["--offline"]).finds("rights", "warning", "CREATE in the schema");
    place.sql(&format!("REVOKE SELECT ON {}.token_tracking_schema_version FROM {role}", schema)).await;
    place.doctor(&["--offline"]).finds("tables", "problem", "lacks a right");
}

each_database!(numbers_in_usage_that_nobody_knows_are_named_for_each_provider, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let numbers = [("openai", "pixels"), ("openai", "details.pages"), ("google", "pixels")];
    let numbers = numbers.map(|(provider, field)| (provider.to_owned(), field.to_owned()));
    storage::unknown_usage::add(&place.database, &numbers, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    let said = place.doctor(&["--offline"]);
    said.finds(
        "unknown usage",
        "warning",
        "openai reports numbers that are not known and not charged: details.pages, pixels",
    );
    said.finds("unknown usage", "warning", "google reports");
    assert_eq!(said.0, Some(0));
});
