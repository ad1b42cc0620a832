//! What all commands have in common: the forms of their output, what they ask, how they end.

use serde_json::Value;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{Place, program, run};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

each_database!(every_form_of_output, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    place.ok(&["credit-group", "create", "Students, \"new\"", "500", "two\nlines"]);
    // Keys as in JSON, numbers with all their digits, quotes where they are needed.
    let groups = place.ok(&["credit-group", "list", "--format", "csv"]);
    let (head, rest) = groups.split_once('\n').unwrap();
    assert_eq!(head, "id,name,max_credit,description,weekly,monthly,owui_group");
    assert!(rest.ends_with(",\"Students, \"\"new\"\"\",500,\"two\nlines\",,,\n"), "{rest}");
    place.ok(&[
        "pricing",
        "update",
        "gpt-test",
        "--provider",
        "openai",
        "--input-cost-credits",
        "9007199254740.993",
    ]);
    let prices = place.ok(&["pricing", "list", "--format", "csv"]);
    assert!(prices.starts_with("provider,id,name,input_cost_credits,per_input_tokens,"), "{prices}");
    assert!(prices.contains("openai,gpt-test,Test,9007199254740.993,1000000,"), "{prices}");
    assert!(
        place.ok(&["database", "status", "--format", "csv"]).starts_with("found,needed,current,original,")
    );
    assert_eq!(place.ok(&["verify", "--format", "csv"]), "account,what,recorded,computed\n");
    // Nothing found is still a table.
    assert_eq!(
        place.ok(&["sponsored", "list", "--format", "csv"]),
        "id,name,sponsor_id,base_models,total_credit_limit,daily_credit_limit,starts_on,ends_on,members,public,creation_date\n"
    );
    // Whatever reads a table from a pipe finds no colours in it.
    assert!(!place.ok(&["credit-group", "list"]).contains('\u{1b}'));
});

each_database!(a_slip_of_the_finger, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let users = place.database.table("token_tracking_user");
    let ann = format!("INSERT INTO {users} VALUES ('u-1', 'Ann Miller', 'ann@example.org', 0)");
    place.database.run(ann).await.unwrap();
    place.ok(&["credit-group", "create", "Students", "500", ""]);
    place.ok(&["key", "create", "laptop"]);
    place.ok(&[
        "sponsored",
        "create",
        "--sponsor-id",
        "x",
        "--name",
        "research",
        "-m",
        "gpt-test",
        "-t",
        "9",
    ]);
    for (typed, says) in [
        (
            vec!["credit-group", "get", "Studnts"],
            "there is no credit group `Studnts`; did you mean `Students`?",
        ),
        (vec!["credit-group", "add-user", "ann@exmple.org", "Students"], "did you mean `ann@example.org`?"),
        (vec!["balance", "Ann Miler"], "did you mean `Ann Miller`?"),
        (vec!["sponsored", "get", "--name", "reserch"], "did you mean `research`?"),
        (vec!["pricing", "get", "gpttest"], "did you mean `gpt-test`?"),
        (
            vec!["pricing", "update", "gpt-test", "--provider", "opnai", "--output-cost-credits", "6"],
            "`opnai/gpt-test`; gpt-test has one at openai",
        ),
        (vec!["pricing", "delete", "gtp-test", "--yes"], "did you mean `gpt-test`?"),
        (vec!["settings", "get", "time_zone"], "did you mean `timezone`?"),
        (vec!["key", "revoke", "labtop"], "did you mean `laptop`?"),
        (vec!["credit-grup", "list"], "credit-group"),
    ] {
        let output = place.run(&typed);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{typed:?}: {said}");
    }
    // Nothing is proposed that is not alike, and what to do is said all the same.
    let said = String::from_utf8(place.run(&["credit-group", "get", "Professors"]).stderr).unwrap();
    assert!(!said.contains("did you mean") && said.contains("credit-group list"), "{said}");
});

each_database!(who_changed_what, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let mut place = Place::new(&test, &simulator, &[]).await;
    place.environment.push(("USER", "carla".into()));
    place.ok(&["settings", "set", "hold_wait", "7"]);
    place.ok(&["settings", "set", "hold_wait", "8"]);
    let changes = json(&place.ok(&["audit", "--subject", "hold_wait", "--format", "json"]));
    let [first, second] = changes.as_array().unwrap().as_slice() else { panic!("{changes}") };
    assert_eq!((&first["before"], &first["after"]), (&Value::Null, &"7".into()));
    assert_eq!((&second["before"], &second["after"]), (&"7".into(), &"8".into()));
    assert_eq!((&second["action"], &second["who"]), (&"settings set".into(), &"carla, command line".into()));
    let count = |more: &[&str]| {
        let arguments = [&["audit", "--format", "json"], more].concat();
        json(&place.ok(&arguments)).as_array().unwrap().len()
    };
    assert_eq!(count(&["--last", "1", "--subject", "hold_wait"]), 1);
    assert_eq!(count(&["--action", "settings", "--subject", "hold_wait", "--since", "2026-01-01"]), 2);
    assert_eq!(count(&["--action", "pric", "--subject", "hold_wait"]), 0);
    assert_eq!(count(&["--since", "2999-01-01"]), 0);
    assert_eq!(count(&["--subject", "hold_wait", "--since", second["at"].as_str().unwrap()]), 1);
});

#[test]
fn exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let code = |arguments: &[&str]| run(folder.path(), &[], arguments).status.code();
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["balance"]), Some(1), "no database is named");
    for wrong in [
        &["balance", "--form", "json"][..],
        &["no-such-command"],
        &[],
        &["audit", "--since", "yesterday"],
        &["credit-group", "create", "x"],
    ] {
        assert_eq!(code(wrong), Some(2), "{wrong:?}");
    }
    let help = run(folder.path(), &[], &["--help"]).stdout;
    assert!(String::from_utf8_lossy(&help).contains("Exit codes:"));
}

#[test]
fn completion_for_each_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(folder.path(), &[], &["completion", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("credit-group"), "{shell}: {script}");
    }
}

#[test]
fn manual_pages_for_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    let page = String::from_utf8(run(folder.path(), &[], &["man"]).stdout).unwrap();
    assert!(page.contains(".TH owui-token-tracking 1"), "{page}");
    assert!(run(folder.path(), &[], &["man", "--output", "pages/man1"]).status.success());
    for name in ["", "-init", "-credit-group", "-credit-group-add-user", "-settings-set"] {
        let path = folder.path().join(format!("pages/man1/owui-token-tracking{name}.1"));
        assert!(path.exists(), "{}", path.display());
    }
}

#[test]
fn whoever_reads_may_have_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = program(folder.path(), &[]).args(["completion", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
