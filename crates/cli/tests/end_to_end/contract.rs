//! What others rely on: commands and options, exit codes, configuration keys, environment variables, settings, JSON fields, metrics,
//! tables and columns. All of it is taken from the program and compared with the texts in `tests/contract`.
//!
//! The rule it protects: none of it changes unannounced. To change it on purpose, run these tests with `UPDATE_CONTRACT=1`, look at
//! what `git diff` says, and write it into CHANGELOG.md. What goes away, or gets another name or meaning, breaks somebody's script.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use storage::{DatabaseUrl, KNOWN_SETTINGS, Kind};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::open_webui::{OpenWebUi, TOKEN};
use crate::process::{HttpClient, Place, run};

const HELP: &str = "If that is on purpose, run `UPDATE_CONTRACT=1 scripts/run-rust-tests -E 'test(contract::)'`, commit what it \
    writes into crates/cli/tests/contract, and say in CHANGELOG.md what changes for whom";

/// Compares with the text that is checked in, or writes it.
fn assert_contract(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let (kept, found): (BTreeSet<&str>, BTreeSet<&str>) = (kept.lines().collect(), found.lines().collect());
    let gone: Vec<_> = kept.difference(&found).collect();
    let new: Vec<_> = found.difference(&kept).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "what others rely on has changed ({name}).\nGone: {gone:#?}\nNew: {new:#?}\n{HELP}."
    );
}

fn help(command: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
    let output = run(folder.path(), &[("NO_COLOR", "1".into())], &arguments);
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands below one, as its help lists them.
fn below(help: &str) -> Vec<String> {
    let section = |line: &&str| line.ends_with(':') && !line.starts_with(' ');
    let mut names = Vec::new();
    let mut listing = false;
    for line in help.lines() {
        if section(&line) {
            listing = line == "Commands:";
        } else if listing && line.starts_with("  ") && !line.starts_with("   ") {
            let name = line.trim().split(' ').next().unwrap_or_default();
            if name.starts_with(|first: char| first.is_ascii_lowercase()) && name != "help" {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// Each command with its options and arguments, one a line.
fn commands(command: &[&str], found: &mut BTreeSet<String>) {
    let text = help(command);
    let name = command.join(" ");
    found.insert(name.clone());
    for line in text.lines() {
        let line = line.trim();
        let option =
            line.starts_with('-') && line[1..].starts_with(|next: char| next == '-' || next.is_alphabetic());
        if option {
            // What it means stands two spaces behind it, or on the next line.
            let spelled = line.split("  ").next().unwrap_or_default();
            found.insert(format!("{name} {spelled}"));
        }
        if let Some(named) = line.split("[env: ").nth(1).and_then(|rest| rest.split(['=', ']']).next()) {
            found.insert(format!("{name} reads {named}"));
        }
        if let Some(usage) = line.strip_prefix("Usage: ") {
            found.insert(format!("{name}: {usage}"));
        }
    }
    for sub in below(&text) {
        let deeper: Vec<&str> = command.iter().copied().chain([sub.as_str()]).collect();
        commands(&deeper, found);
    }
}

#[test]
fn commands_and_options() {
    let mut found = BTreeSet::new();
    for name in below(&help(&[])) {
        commands(&[&name], &mut found);
    }
    commands(&["worker"], &mut found);
    assert!(found.len() > 150, "{found:#?}");
    assert_contract("commands", &lines(&found));
}

fn lines(found: &BTreeSet<String>) -> String {
    found.iter().fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn configuration() {
    let mut found = BTreeSet::new();
    // An unknown key is answered with those that there are.
    for table in ["", "[gateway]", "[gateway.headers]", "[database]", "[[provider]]"] {
        let file = format!("{table}\nno_such_key = 1\n");
        let problem = gateway::Config::read(&file, |_| None).unwrap_err().to_string();
        let expected = problem.split("expected ").nth(1).unwrap_or_else(|| panic!("{problem}"));
        let keys = expected.split('`').skip(1).step_by(2);
        found.extend(keys.map(|key| format!("file {table} {key}")));
    }
    // Whatever is asked of the environment, with nothing set and with something.
    let asked = RefCell::new(BTreeSet::new());
    let nothing = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None
    };
    drop(gateway::Config::read("", nothing));
    drop(DatabaseUrl::from_environment(nothing));
    drop(gateway::GatewayConfig::private(providers::Secret::new("k"), nothing));
    for kind in ["postgresql", "sqlite"] {
        drop(DatabaseUrl::from_environment(|name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            match name {
                "DATABASE_TYPE" => Some(kind.to_owned()),
                "DATABASE_URL" => None,
                _ => Some("1".to_owned()),
            }
        }));
    }
    found.extend(asked.into_inner().into_iter().map(|name| format!("environment {name}")));
    found.extend(KNOWN_SETTINGS.iter().map(|known| format!("setting {} = {}", known.key, known.default)));
    assert_contract("configuration", &lines(&found));
}

/// Metrics are named where they are counted, some of them only when something happens: so the source is read.
#[test]
fn metrics() {
    let mut found = BTreeSet::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> = vec![crates.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && path.iter().any(|part| part == "src")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                for kind in ["counter", "gauge", "histogram"] {
                    for rest in text.split(&format!("{kind}!(")).skip(1) {
                        let call = &rest[..rest.find(';').unwrap_or(rest.len()).min(300)];
                        let mut names = call.split('"').skip(1).step_by(2);
                        if let Some(name) = names.next().filter(|name| name.starts_with("tracking_")) {
                            let labels: Vec<&str> = call
                                .match_indices("\" =>")
                                .filter_map(|(end, _)| call[..end].rsplit('"').next())
                                .collect();
                            found.insert(format!("{kind} {name} {}", labels.join(" ")).trim_end().to_owned());
                        }
                    }
                }
            }
        }
    }
    assert!(!found.is_empty());
    assert_contract("metrics", &lines(&found));
}

each_database!(tables_and_columns, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    let sql = match database.kind() {
        Kind::Sqlite => {
            "SELECT made.name || '.' || columns.name FROM sqlite_master AS made, pragma_table_info(made.name) AS columns \
             WHERE made.type = 'table' AND made.name LIKE 'token_tracking%'"
                .to_owned()
        }
        Kind::Postgres => format!(
            "SELECT CAST(table_name || '.' || column_name AS TEXT) FROM information_schema.columns \
             WHERE table_schema = '{}' AND table_name LIKE 'token_tracking%'",
            database.schema()
        ),
    };
    let found: Vec<String> = storage::on_pool!(database, pool => {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap()
    });
    // The same on both.
    assert_contract("tables", &lines(&found.into_iter().collect()));
});

/// The names in a JSON value with the kinds of what they name: `.rows[].credits number`.
fn shape(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                shape(&format!("{path}.{key}"), value, found);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| shape(&format!("{path}[]"), value, found)),
        Value::Null => drop(found.insert(format!("{path} null"))),
        Value::Bool(_) => drop(found.insert(format!("{path} bool"))),
        Value::Number(_) => drop(found.insert(format!("{path} number"))),
        Value::String(_) => drop(found.insert(format!("{path} string"))),
    }
}

/// An installation in which there is something of everything.
async fn furnished(test: &TestDatabase, simulator: &Simulator, found: &mut BTreeSet<String>) -> Place {
    let place = Place::new(test, simulator, &[("timezone", "Etc/UTC"), ("credits_per_usd", "1000")]).await;
    let gateway = place.serve();
    let client = HttpClient::new();
    let body = |stream: bool| {
        json!({"model": "gpt-test", "stream": stream,
            "messages": [{"role": "user", "content": "one [[sim input=1000 output=500]]"}]})
    };
    let (status, whole) = client.chat(&gateway.url, "ann", &body(false)).await;
    assert_eq!(status, 200, "{whole}");
    shape("chat", &serde_json::from_str(&whole).unwrap(), found);
    let (_, streamed) = client.chat(&gateway.url, "ann", &body(true)).await;
    for event in streamed.split("\n\n").filter_map(|event| event.strip_prefix("data: {")) {
        shape("chat chunk", &serde_json::from_str(&format!("{{{event}")).unwrap(), found);
    }
    let unknown = json!({"model": "no-such-model", "messages": [{"role": "user", "content": "one"}]});
    let (status, refused) = client.chat(&gateway.url, "ann", &unknown).await;
    assert_eq!(status, 404);
    shape("error", &serde_json::from_str(&refused).unwrap(), found);
    for route in ["healthz", "readyz"] {
        let (_, text) = client.get(&format!("{}/{route}", gateway.url)).await;
        shape(route, &serde_json::from_str(&text).unwrap(), found);
    }
    gateway.terminate();
    for command in [
        &["credit-group", "create", "staff", "200", "Those who work here"][..],
        &["credit-group", "add-user", "ann", "staff"],
        &[
            "sponsored",
            "create",
            "--sponsor-id",
            "dean",
            "--name",
            "Course",
            "-m",
            "gpt-test",
            "-t",
            "1000",
            "-d",
            "50",
        ],
        &["credits", "grant", "ann", "25", "--reason", "a prize"],
        &["key", "create", "a-key"],
    ] {
        place.ok(command);
    }
    place
}

/// The local routes are described by `docs/local-api.json`, which the Python tests compare with a running gateway.
fn local_routes(found: &mut BTreeSet<String>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/local-api.json");
    let api: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for status in operation["responses"].as_object().into_iter().flat_map(|all| all.keys()) {
                found.insert(format!("{method} {path} {status}"));
            }
        }
    }
    for (name, schema) in api["components"]["schemas"].as_object().unwrap() {
        for property in schema["properties"].as_object().into_iter().flat_map(|all| all.keys()) {
            found.insert(format!("{name}.{property}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_fields_and_exit_codes() {
    let test = TestDatabase::sqlite().await.unwrap();
    let simulator = Simulator::start().await.unwrap();
    let (mut answers, mut codes) = (BTreeSet::new(), BTreeMap::new());
    local_routes(&mut answers);
    let place = furnished(&test, &simulator, &mut answers).await;
    assert_contract("http", &lines(&answers));

    let request =
        place.texts("SELECT id FROM {ledger} WHERE kind = 'request' ORDER BY id LIMIT 1").await.remove(0);
    let open_webui = OpenWebUi::start().await;
    // Every command that prints JSON is here: how to call it.
    open_webui.list(&["openai.gpt-test"]);
    let there = ["--url", open_webui.url.as_str(), "--token", TOKEN];
    let course = ["Course", "--url", open_webui.url.as_str(), "--token", TOKEN];
    let calls: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("ledger show", vec![request.as_str()]),
        ("balance", vec!["ann"]),
        ("pricing get", vec!["gpt-test"]),
        ("pricing history", vec!["gpt-test"]),
        ("pricing search", vec!["gpt-4o-mini"]),
        ("settings get", vec!["timezone"]),
        ("credit-group get", vec!["staff"]),
        ("credit-group list-users", vec!["staff"]),
        ("sponsored get", vec!["--name", "Course"]),
        ("sponsored report", vec![]),
        ("user create", vec!["carl"]),
        ("user find", vec!["--id", "ann"]),
        ("doctor", vec!["--offline", "--config", "config.toml"]),
        ("install", [&there[..], &["--pipe", "openai"]].concat()),
        ("key create", vec!["another-key"]),
        ("sponsored publish", course.to_vec()),
        ("sponsored unpublish", course.to_vec()),
    ]);
    let mut known = BTreeSet::new();
    for name in below(&help(&[])) {
        commands(&[&name], &mut known);
    }
    let mut found = BTreeSet::new();
    for line in known.iter().filter(|line| line.contains(" --format <")) {
        let name = line.split(" --format").next().unwrap();
        // An export is one object on each line.
        let format = if name == "usage export" { "jsonl" } else { "json" };
        let arguments: Vec<&str> = name
            .split(' ')
            .chain(calls.get(name).into_iter().flatten().copied())
            .chain(["--format", format])
            .collect();
        let output = place.run(&arguments);
        let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        let values: Vec<Value> =
            values.map(|value| value.unwrap_or_else(|error| panic!("{name}: {error}: {output:?}"))).collect();
        assert!(!values.is_empty(), "{name} needs more words to show JSON: {output:?}");
        values.iter().for_each(|value| shape(name, value, &mut found));
    }
    assert!(found.len() > 60, "{found:#?}");
    assert_contract("json", &lines(&found));

    for (what, arguments) in [
        ("done", &["verify"][..]),
        ("a problem is found", &["database", "status", "--database-url", "sqlite:////dev/null"]),
        ("it fails", &["credit-group", "get", "nobody"]),
        ("wrong arguments", &["verify", "--no-such-option"]),
        ("an unknown command", &["veryfi"]),
        ("help", &["--help"]),
        ("version", &["--version"]),
    ] {
        codes.insert(what, place.run(arguments).status.code());
    }
    place.database.run("UPDATE token_tracking_account SET spent = spent + 1".to_owned()).await.unwrap();
    codes.insert("the books are wrong", place.run(&["verify"]).status.code());
    let mut text = String::new();
    for (what, code) in codes {
        writeln!(text, "{what}: {code:?}").unwrap();
    }
    assert_contract("exit_codes", &text);
}
