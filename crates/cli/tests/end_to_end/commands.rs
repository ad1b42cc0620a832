//! The commands, as their users type them: what they do, and what they say when something is wrong.

use serde_json::Value;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{GatewayProcess, HttpClient, Place, program, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

each_database!(an_administrators_session, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let again = place.ok(&["init"]);
    assert!(again.contains("a list of your own") && again.contains("Nothing has changed"), "{again}");
    assert_eq!(json(&place.ok(&["database", "status", "--format", "json"]))["current"], true);
    // Prices.
    let add = [
        "pricing",
        "add",
        "--provider",
        "OpenAI",
        "--id",
        "new",
        "--name",
        "New",
        "--input-cost-credits",
        "0.000001",
        "--output-cost-credits",
        "2.5",
        "--cached-input-cost-credits",
        "0",
    ];
    place.ok(&add);
    assert!(!place.run(&add).status.success(), "adding twice");
    place.ok(&["pricing", "update", "new", "--provider", "openai", "--output-cost-credits", "3"]);
    let shown = json(&place.ok(&["pricing", "get", "new", "--format", "json"]));
    assert_eq!(shown[0]["input_cost_credits"].to_string(), "0.000001");
    assert_eq!(shown[0]["output_cost_credits"].to_string(), "3");
    assert_eq!(shown[0]["cached_input_cost_credits"].to_string(), "0");
    std::fs::write(place.file("more.json"), shown[0].to_string().replace("\"new\"", "\"newer\"")).unwrap();
    place.ok(&["pricing", "upsert", "--json", "more.json"]);
    assert!(place.ok(&["pricing", "list", "--provider", "openai"]).contains("newer"));
    let unsure = place.run(&["pricing", "delete", "new"]);
    assert!(!unsure.status.success() && String::from_utf8_lossy(&unsure.stderr).contains("--yes"));
    place.ok(&["pricing", "delete", "new", "--yes"]);
    assert!(!place.run(&["pricing", "get", "new"]).status.success());
    // Somebody chats.
    let gateway = place.serve();
    let client = HttpClient::new();
    assert_eq!(client.ask(&gateway.url, "ann", "c", "[[sim input=1000 output=500]]").await.0, 200);
    gateway.terminate();
    // Groups and balances.
    place.ok(&["credit-group", "create", "power", "500", "They get more"]);
    place.ok(&["credit-group", "add-user", "ann", "power"]);
    assert_eq!(json(&place.ok(&["credit-group", "list-users", "power", "--format", "json"]))[0]["id"], "ann");
    let balance = json(&place.ok(&["balance", "ann", "--format", "json"]));
    assert_eq!(
        (balance[0]["limit"].to_string(), balance[0]["spent"].to_string()),
        ("1500".into(), "2".into())
    );
    place.ok(&["credit-group", "update", "power", "1"]);
    assert!(!place.run(&["credit-group", "delete", "power"]).status.success());
    place.ok(&["credit-group", "delete", "power", "--force"]);
    for (by, key, expected) in [("user", "user_id", "ann"), ("model", "model", "gpt-test")] {
        let row = &json(&place.ok(&["usage", "--by", by, "--format", "json"]))[0];
        assert_eq!(row[key], expected);
        assert_eq!(
            (row["requests"].as_i64(), row["credits"].to_string(), row["estimated"].as_i64()),
            (Some(1), "2".into(), Some(0))
        );
    }
    // Settings, users, keys.
    place.ok(&["settings", "init", "--setting", "base_credit_allowance", "7", "Less"]);
    assert_eq!(
        json(&place.ok(&["settings", "get", "base_credit_allowance", "--format", "json"]))[0]["setting_value"],
        "7"
    );
    let unknown = place.run(&["settings", "set", "base_credit_allowence", "1"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean `base_credit_allowance`?"));
    assert!(place.ok(&["user", "find", "--id", "ann", "--format", "json"]).contains("ann"));
    assert!(!place.run(&["user", "find", "--id", "nobody"]).status.success());
    let key = json(&place.ok(&["key", "create", "laptop", "--user", "ann", "--format", "json"]));
    let kept = place.texts("SELECT setting_value FROM {base_settings}").await;
    assert!(!kept.contains(&key["key"].to_string()));
    place.ok(&["key", "revoke", "laptop"]);
    assert!(!place.ok(&["key", "list"]).contains(key["key"].as_str().unwrap()), "a key is shown once");
    // The books, and what verify says when they are wrong.
    assert!(place.ok(&["verify"]).contains("Clean"));
    place.database.run(place.qualified("UPDATE {account} SET spent = spent + 1")).await.unwrap();
    let wrong = place.run(&["verify", "--format", "json"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(json(&String::from_utf8_lossy(&wrong.stdout))["differences"][0]["what"], "spent");
});

#[test]
fn mistakes_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let nothing: Vec<(&'static str, String)> = Vec::new();
    let with = |name: &'static str, value: &str| vec![(name, value.to_owned())];
    std::fs::write(folder.path().join("bad.toml"), "[gateway]\nlisten = \"0.0.0.0:1\"\n").unwrap();
    std::fs::write(folder.path().join("worse.toml"), "[gateway]\nlissten = 1\n").unwrap();
    std::fs::write(folder.path().join("noise.db"), "this is no database, however long it may be").unwrap();
    for (environment, arguments, says) in [
        (nothing.clone(), vec!["balance"], "DATABASE_URL"),
        (with("DATABASE_URL", "mysql://a:hunter2@b/c"), vec!["balance"], "supported are"),
        (with("DATABASE_URL", "sqlite:///nowhere.db"), vec!["balance"], "owui-token-tracking init"),
        (with("DATABASE_URL", "sqlite:///noise.db"), vec!["init"], "not a database"),
        (with("DATABASE_URL", "postgresql://a:hunter2@127.0.0.1:1/c"), vec!["verify"], "127.0.0.1:1"),
        (with("DATABASE_URL", "sqlite:///mistyped/webui.db"), vec!["init"], "pass --create"),
        (with("DATABASE_URL", "sqlite:///mistyped.db"), vec!["database", "migrate"], "pass --create"),
        (with("OPENAI_API_KEY", "sk-x"), vec!["serve"], "no database is named"),
        (nothing.clone(), vec!["serve"], "no model server is configured"),
        (nothing.clone(), vec!["serve", "--config", "bad.toml"], "without a key"),
        (nothing.clone(), vec!["serve", "--config", "worse.toml"], "lissten"),
        (nothing.clone(), vec!["serve", "--config", "missing.toml"], "missing.toml"),
        (nothing, vec!["prcing"], "pricing"),
    ] {
        let output = run(folder.path(), &environment, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["bad.toml", "noise.db", "worse.toml"], "nothing was made");
    let checked = run(folder.path(), &with("OPENAI_API_KEY", "sk-x"), &["serve", "--check"]);
    assert!(checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stdout).contains("openai"));
}

#[test]
fn a_database_is_made_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DATABASE_URL", "sqlite:///data/own.db".to_owned())];
    let output = run(folder.path(), &environment, &["init", "--create"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(folder.path().join("data/own.db").exists());
    // One command begins with a database of its own; from then on it is used.
    let environment = [
        ("OPENAI_API_KEY", "sk-x".to_owned()),
        ("OPENAI_API_BASE_URL", "http://127.0.0.1:1/v1".to_owned()),
        ("OWUI_TRACKING_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    for more in [&["--create"][..], &[]] {
        let mut command = program(folder.path(), &environment);
        command.arg("serve").args(more);
        GatewayProcess::start(command).terminate();
    }
    assert!(folder.path().join("owui-token-tracking.db").exists());
}

#[test]
fn a_list_of_ones_own_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("models.json"),
        r#"[{"id": "m", "provider": "p", "name": "M", "input_cost_credits": 1, "output_cost_credits": 1}]"#,
    )
    .unwrap();
    let environment = [("DATABASE_URL", "sqlite:///own.db".to_owned())];
    let init = |more: &[&str]| {
        let output = run(folder.path(), &environment, &[&["init"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(init(&["--create", "--model-json", "models.json"]).contains("1 added"));
    for again in [init(&["--dry-run"]), init(&[])] {
        assert!(again.contains("a list of your own"), "{again}");
    }
    let listed = run(folder.path(), &environment, &["pricing", "list", "--format", "json"]).stdout;
    assert_eq!(json(&String::from_utf8_lossy(&listed)).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_user_without_rights() {
    let test = TestDatabase::postgres().await.unwrap();
    let database = test.open().await.unwrap();
    let role = format!("reader_{}", storage::new_id().simple());
    database.run(format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    database.run(format!("GRANT USAGE ON SCHEMA {} TO {role}", database.schema())).await.unwrap();
    let mut environment = test.environment().to_vec();
    environment[0].1 = environment[0].1.replace("tracking@", &format!("{role}@"));
    let folder = tempfile::tempdir().unwrap();
    for command in [&["init", "--dry-run"][..], &["init"]] {
        let output = run(folder.path(), &environment, command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("lacks a right"), "{command:?}: {said}");
    }
}

#[test]
fn the_demonstration_ends_by_itself_and_its_books_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[], &["demo"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = ["Clean", "researcher-1", "gpt-4o", "claude-haiku", "gemini-2.5-pro", "mistral-large"];
    assert!(shown.iter().all(|what| said.contains(what)), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateways_log_names_the_provider_that_fails_and_the_one_without_prices() {
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let place = Place::new(&test, &simulator, &[]).await;
    // Nobody listens on the first; the second is a slip of the finger.
    let config = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\n\n\
         [[provider]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\n\
         [[provider]]\nname = \"opnai\"\nkind = \"openai\"\nbase_url = \"{}\"\napi_key = \"a\"\n",
        simulator.base_url()
    );
    std::fs::write(place.file("config.toml"), config).unwrap();
    let log = std::fs::File::create(place.file("log.txt")).unwrap();
    let mut command = program(place.folder.path(), &place.environment);
    command.args(["serve", "--config", "config.toml"]);
    let gateway = GatewayProcess::logging(command, log);
    let (status, said) = HttpClient::new().ask(&gateway.url, "ann", "c", "[[sim input=1 output=1]]").await;
    assert_ne!(status, 200, "{said}");
    gateway.terminate();
    let log = std::fs::read_to_string(place.file("log.txt")).unwrap();
    let line = |what: &str| log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{log}"));
    let failed = line("a model server failed in a request");
    for part in ["provider=openai", "model=gpt-test", "request=01"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    assert!(line("no connection to a model server").contains("127.0.0.1:1"));
    let keyless = line("this provider has no key");
    let advice = "api_key = \"env:OPENAI_API_KEY\"";
    assert!(keyless.contains("provider=openai") && keyless.contains(advice), "{keyless}");
    let unpriced = line("no model of this provider has a price");
    assert!(unpriced.contains("provider=opnai") && unpriced.contains("if `openai` is meant"), "{unpriced}");
    assert!(!log.contains("provider=openai}: no model"), "{log}");
    let found = place.run(&["doctor", "--offline", "--config", "config.toml"]);
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.contains("call it `openai`") && found.contains(advice), "{found}");
}

each_database!(mistyped_filters_are_answered_with_the_nearest_name, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let gateway = place.serve();
    assert_eq!(HttpClient::new().ask(&gateway.url, "ann", "c", "[[sim input=1 output=1]]").await.0, 200);
    gateway.terminate();
    place.ok(&["credit-group", "create", "Students", "5", "They learn"]);
    place.ok(&[
        "sponsored",
        "create",
        "--sponsor-id",
        "dean",
        "--name",
        "Course",
        "-m",
        "gpt-test",
        "-t",
        "9",
        "-d",
        "5",
    ]);
    for (command, says) in [
        (&["usage", "--user", "anna"][..], "no user `anna`; did you mean `ann`?"),
        (&["usage", "--model", "gpt-tset"], "no model `gpt-tset`; did you mean `gpt-test`?"),
        (&["usage", "--provider", "opnai"], "no provider `opnai`; did you mean `openai`?"),
        (&["usage", "--group", "Studnts"], "no credit group `Studnts`; did you mean `Students`?"),
        (&["usage", "--owui-group", "Nobody"], "no Open WebUI group `Nobody`"),
        (&["usage", "--sponsor", "Corse"], "no sponsored allowance `Corse`; did you mean `Course`?"),
        (&["usage", "--task", "titel_generation"], "did you mean `title_generation`?"),
        (&["usage", "--refused", "--model", "gpt-tset"], "did you mean `gpt-test`?"),
        (&["usage", "export", "--model", "gpt-tset"], "did you mean `gpt-test`?"),
        (&["pricing", "list", "--provider", "opnai"], "did you mean `openai`?"),
        (&["pricing", "diff", "--provider", "opnai"], "did you mean `openai`?"),
        (&["pricing", "sync", "--provider", "opnai"], "did you mean `openai`?"),
        (&["audit", "--subject", "Studnts"], "did you mean `Students`?"),
        (&["audit", "--action", "pricng"], "nothing is noted of the action `pricng`"),
        (&["balance", "anna"], "did you mean `ann`?"),
        (&["sponsored", "report", "Corse"], "did you mean `Course`?"),
    ] {
        let output = place.run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(said.contains(says), "{command:?}: {said}");
        assert!(output.stdout.is_empty(), "{command:?}");
    }
    // What there is and has nothing stays an empty table, with a word.
    for command in [
        &["usage", "--user", "ann", "--from", "2999-01-01"][..],
        &["usage", "--provider", "mistral"],
        &["usage", "--task", "title_generation"],
        &["usage", "--sponsor", "Course"],
        &["usage", "--group", "Students"],
        &["pricing", "list", "--provider", "mistral"],
        &["audit", "--action", "user forget"],
        &["usage", "--refused"],
        &["key", "list"],
    ] {
        assert!(place.ok(command).contains("There is nothing to show."), "{command:?}");
    }
    assert_eq!(place.ok(&["usage", "--task", "title_generation", "--format", "json"]).trim(), "[]");
});
