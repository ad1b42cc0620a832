//! `sponsored`, as administrators type it: terms, registrations, reports, and what is published in Open WebUI.

use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::open_webui::{OpenWebUi, TOKEN};
use crate::process::{HttpClient, Place, run};

fn rows(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// A place where Open WebUI's own tables are beside ours.
async fn place(test: &TestDatabase) -> (Place, Simulator) {
    let database = test.open().await.unwrap();
    let table = |name: &str| database.table(name);
    let sql = format!(
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name VARCHAR(255), email VARCHAR(255), role VARCHAR(255)); \
         CREATE TABLE {model} (id VARCHAR(255) PRIMARY KEY, user_id VARCHAR(255), base_model_id VARCHAR(255)); \
         CREATE TABLE {group} (id TEXT PRIMARY KEY, name TEXT); \
         CREATE TABLE {member} (id TEXT PRIMARY KEY, group_id TEXT, user_id TEXT); \
         INSERT INTO {user} VALUES ('boss', 'Boss', 'b@example.org', 'admin'), ('ann', 'Ann', 'ann@example.org', 'user'), \
           ('bob', 'Bob', 'bob@example.org', 'user'); \
         INSERT INTO {group} VALUES ('g1', 'Students'), ('g2', 'students'), ('g3', 'Staff')",
        user = table("user"),
        model = table("model"),
        group = table("group"),
        member = table("group_member"),
    );
    database.run(sql).await.unwrap();
    let simulator = Simulator::start().await.unwrap();
    (Place::new(test, &simulator, &[]).await, simulator)
}

fn fails(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

each_database!(an_allowance_from_its_terms_to_its_report, async |test: TestDatabase| {
    let (place, _simulator) = place(&test).await;
    place.ok(&["credit-group", "create", "tutors", "0", ""]);
    let create = [
        "sponsored",
        "create",
        "--sponsor-id",
        "AI Department",
        "--name",
        "AI Lab",
        "-m",
        "openai/gpt-test",
        "-t",
        "100",
        "-d",
        "5",
        "--starts",
        "2020-01-01",
        "--ends",
        "2099-12-31",
        "--member-user",
        "ann@example.org",
        "--member-group",
        "tutors",
        "--member-owui-group",
        "staff",
    ];
    place.ok(&create);
    assert!(fails(&place, &create).contains("`AI Lab` already"));
    let get = || rows(&place.ok(&["sponsored", "get", "--name", "ai lab", "--format", "json"])).remove(0);
    let shown = get();
    let expected = json!({
        "id": shown["id"], "name": "AI Lab", "sponsor_id": "AI Department", "base_models": "openai/gpt-test",
        "total_credit_limit": 100, "daily_credit_limit": 5, "starts_on": "2020-01-01", "ends_on": "2099-12-31",
        "members": "group:tutors, owui-group:Staff, user:Ann", "public": false, "creation_date": shown["creation_date"],
    });
    assert_eq!(shown, expected);
    let update = |more: &[&str]| place.ok(&[&["sponsored", "update", "--name", "AI Lab"], more].concat());
    let ambiguous =
        fails(&place, &["sponsored", "update", "--name", "AI Lab", "--member-owui-group", "STUDENTS"]);
    assert!(ambiguous.contains("g1, g2"), "{ambiguous}");
    assert!(
        fails(&place, &["sponsored", "update", "--name", "AI Lab", "--starts", "soon"])
            .contains("YYYY-MM-DD")
    );
    update(&["--no-starts", "--no-ends", "--no-daily-limit", "--no-members", "--public", "-m", "gpt-test"]);
    let cleared = get();
    for (key, value) in [
        ("starts_on", json!(null)),
        ("ends_on", json!(null)),
        ("daily_credit_limit", json!(null)),
        ("members", json!("")),
        ("public", json!(true)),
        ("base_models", json!("gpt-test")),
        ("total_credit_limit", json!(100)),
    ] {
        assert_eq!(cleared[key], value, "{key}");
    }
    update(&["-d", "7", "--no-public", "--member-user", "ann"]);
    update(&["-d", "none"]);
    assert_eq!(get()["daily_credit_limit"], json!(null));
    assert_eq!((&get()["members"], &get()["public"]), (&json!("user:Ann"), &json!(false)));
    // Somebody's own workspace model.
    place.ok(&["sponsored", "register", "writer", "ai lab"]);
    assert!(place.ok(&["sponsored", "registered"]).contains("writer"));
    place.ok(&["sponsored", "unregister", "writer"]);
    assert!(fails(&place, &["sponsored", "unregister", "writer"]).contains("sponsored registered"));
    // A member asks a model of the allowance's own.
    let gateway = place.serve();
    let body = json!({"model": "sponsored/ai-lab/gpt-test", "messages": [{"role": "user", "content":
        "[[sim input=1000 output=500]]"}]});
    assert_eq!(HttpClient::new().chat(&gateway.url, "ann", &body).await.0, 200);
    assert_eq!(HttpClient::new().chat(&gateway.url, "bob", &body).await.0, 403);
    gateway.terminate();
    let report =
        |more: &[&str]| rows(&place.ok(&[&["sponsored", "report", "--format", "json"], more].concat()));
    let whole = report(&["AI LAB"]).remove(0);
    assert_eq!(
        (&whole["spent"], &whole["left"], &whole["lasts"]),
        (&json!(2), &json!(98), &json!("too early to say"))
    );
    assert_eq!((&whole["days_left"], &whole["used_up_on"]), (&json!(null), &json!(null)));
    for (by, key, value) in [("user", "user_id", "ann"), ("model", "model", "openai/gpt-test")] {
        let part = report(&["--by", by]).remove(0);
        assert_eq!(
            (&part["name"], &part[key], &part["credits"]),
            (&json!("AI Lab"), &json!(value), &json!(2))
        );
    }
    assert_eq!(report(&["--by", "day"])[0]["requests"], json!(1));
    assert!(fails(&place, &["sponsored", "report", "nothing"]).contains("sponsored report"));
    // Deleted, it is reported under its name, which is free again.
    place.ok(&["sponsored", "delete", "--name", "AI Lab", "--yes"]);
    assert_eq!(place.ok(&["sponsored", "list", "--format", "json"]).trim(), "[]");
    assert_eq!(report(&["AI Lab"])[0]["lasts"], json!("deleted"));
    assert_eq!(report(&["--by", "user"])[0]["credits"], json!(2));
    place.ok(&create);
    place.assert_clean().await;
});

each_database!(what_is_published_follows_the_allowance, async |test: TestDatabase| {
    let (place, _simulator) = place(&test).await;
    place.ok(&["credit-group", "create", "tutors", "0", ""]);
    place.ok(&["credit-group", "add-user", "bob", "tutors"]);
    place.ok(&[
        "pricing",
        "add",
        "--provider",
        "azure",
        "--id",
        "gpt-test",
        "--name",
        "Azure's",
        "--input-cost-credits",
        "1",
        "--output-cost-credits",
        "1",
    ]);
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
        "100",
    ]);
    let open_webui = OpenWebUi::start().await;
    let arguments = |command, more: &[&str]| {
        let all = ["sponsored", command, "AI Lab", "--url", &open_webui.url, "--token", TOKEN];
        [&all, more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |command, more: &[&str]| {
        let all = arguments(command, &[&["--format", "json"], more].concat());
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let steps = rows(&place.ok(&all)).into_iter();
        steps
            .map(|step| format!("{} {}", step["step"].as_str().unwrap(), step["model"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    let refused = |more: &[&str]| {
        let all = arguments("publish", more);
        fails(&place, &all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert!(refused(&[]).contains("lists no model gpt-test"));
    let plain = ["openai.gpt-test", "azure.gpt-test", "old-gpt-test"];
    open_webui.list(&plain);
    let several = refused(&[]);
    assert!(
        several.contains("azure.gpt-test, openai.gpt-test") && several.contains("--base-prefix"),
        "{several}"
    );
    assert!(refused(&["--base-prefix", "mistral"]).contains("of `mistral`"));
    let (name, own) = ("AI-Lab---gpt-test", "azure.sponsored/AI-Lab/gpt-test");
    let created = [format!("create {name}")];
    assert_eq!(run("publish", &["--base-prefix", "openai", "--dry-run"]), created);
    assert_eq!(open_webui.content().changes, 0);
    assert_eq!(run("publish", &["--base", "openai.gpt-test"]), created);
    assert_eq!(open_webui.readers(name), ["user:*"]);
    assert_eq!(open_webui.content().rows[name]["base_model_id"], "openai.gpt-test");
    // Listed as one of the allowance's own, it is shown so, and only so; a connection offers the same once more.
    let all_listed = [&plain[..], &[own, "sponsored/ai-lab/gpt-test"]].concat();
    open_webui.list(&all_listed);
    open_webui.content().listed.iter_mut().for_each(|model| model["name"] = "The same".into());
    let hidden = |id: &str| open_webui.content().rows[id]["meta"]["hidden"] == json!(true);
    assert_eq!(run("publish", &[]), [format!("hide {name}"), format!("show {own}")]);
    assert_eq!((hidden(name), hidden(own)), (true, false));
    assert_eq!(open_webui.readers(name), ["user:*"], "chats go on with it");
    assert_eq!(open_webui.content().rows[own]["base_model_id"], json!(null));
    // What an administrator shows again stays so.
    open_webui.content().rows.get_mut(name).unwrap()["meta"]["hidden"] = json!(false);
    assert_eq!(run("publish", &[]), [format!("keep {name}"), format!("keep {own}")]);
    open_webui.list(&all_listed[..all_listed.len() - 1]);
    // What an administrator writes there stays; again, nothing is to do.
    open_webui.content().rows.get_mut(name).unwrap()["params"] = json!({"system": "Be kind."});
    open_webui.content().rows.get_mut(name).unwrap()["access_grants"] = json!([
        {"id": "1", "principal_type": "user", "principal_id": "*", "permission": "read"},
        {"id": "2", "principal_type": "user", "principal_id": "ann", "permission": "write"},
    ]);
    let kept = [format!("keep {name}"), format!("keep {own}")];
    assert_eq!(run("publish", &["--base-prefix", "openai"]), kept);
    assert_eq!(open_webui.content().changes, 3);
    // Members; another provider; what somebody else made.
    place.ok(&[
        "sponsored",
        "update",
        "--name",
        "AI Lab",
        "-m",
        "azure/gpt-test",
        "--member-user",
        "ann",
        "--member-group",
        "tutors",
        "--member-owui-group",
        "g1",
    ]);
    let updated = [format!("update {name}"), format!("update {own}")];
    assert_eq!(run("publish", &[]), updated);
    assert_eq!(open_webui.readers(name), ["group:g1", "user:ann", "user:bob"]);
    assert_eq!(open_webui.readers(own), ["group:g1", "user:ann", "user:bob"]);
    {
        let content = open_webui.content();
        let row = &content.rows[name];
        assert_eq!(
            (&row["base_model_id"], &row["params"]["system"]),
            (&json!("azure.gpt-test"), &json!("Be kind."))
        );
        assert!(row["access_grants"].to_string().contains("write"));
    }
    // Another name: what was made under the old one goes.
    place.ok(&["sponsored", "update", "--name", "AI Lab", "--new-name", "Lab"]);
    place.ok(&["sponsored", "create", "--sponsor-id", "x", "--name", "AI Lab", "-m", "gpt-test", "-t", "1"]);
    open_webui.list(&["azure.gpt-test"]);
    open_webui
        .content()
        .rows
        .insert("Lab---gpt-test".into(), json!({"id": "Lab---gpt-test", "user_id": "ann", "meta": {}}));
    let all = ["sponsored", "publish", "Lab", "--url", &open_webui.url, "--token", TOKEN, "--format", "json"];
    let steps = rows(&place.ok(&all));
    let steps: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["keep", "delete", "delete"]);
    assert_eq!(open_webui.content().rows.keys().collect::<Vec<_>>(), ["Lab---gpt-test"]);
    // Out again: only what was made here.
    assert_eq!(run("publish", &[]), [format!("create {name}")]);
    assert_eq!(run("unpublish", &[]), [format!("delete {name}")]);
    assert_eq!(run("unpublish", &[]), Vec::<String>::new());
    assert_eq!(open_webui.content().rows.len(), 1);
    let wrong = ["sponsored", "unpublish", "Lab", "--url", &open_webui.url, "--token", "sk-user"];
    assert!(fails(&place, &wrong).contains("does not accept the token"));
});

each_database!(
    a_workspace_model_comes_back_where_its_model_is_not_listed_any_more,
    async |test: TestDatabase| {
        let (place, _simulator) = place(&test).await;
        place.ok(&[
            "sponsored",
            "create",
            "--sponsor-id",
            "x",
            "--name",
            "Lab",
            "-m",
            "gpt-test",
            "-t",
            "100",
            "--public",
        ]);
        let open_webui = OpenWebUi::start().await;
        let publish = || {
            let all = [
                "sponsored",
                "publish",
                "Lab",
                "--url",
                &open_webui.url,
                "--token",
                TOKEN,
                "--format",
                "json",
            ];
            let steps = rows(&place.ok(&all)).into_iter();
            steps
                .map(|step| format!("{} {}", step["step"].as_str().unwrap(), step["model"].as_str().unwrap()))
                .collect::<Vec<_>>()
        };
        let own = "openai.sponsored/Lab/gpt-test";
        open_webui.list(&["openai.gpt-test", own]);
        // There is nothing to hide: it is not made.
        assert_eq!(publish(), [format!("show {own}")]);
        open_webui.list(&["openai.gpt-test"]);
        assert_eq!(publish(), ["create Lab---gpt-test".to_owned(), format!("delete {own}")]);
        open_webui.list(&[own]);
        assert_eq!(publish(), ["hide Lab---gpt-test".to_owned(), format!("show {own}")]);
        assert_eq!(open_webui.content().rows["Lab---gpt-test"]["base_model_id"], "openai.gpt-test");
        open_webui.list(&["openai.gpt-test"]);
        assert_eq!(publish(), ["show Lab---gpt-test".to_owned(), format!("delete {own}")]);
        assert_eq!(open_webui.content().rows["Lab---gpt-test"]["meta"]["hidden"], json!(false));
    }
);

each_database!(pipes_without_models_are_no_success, async |test: TestDatabase| {
    test.open().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open_webui = OpenWebUi::start().await;
    let install = |environment: &[(&'static str, String)]| {
        let own = [("OPENAI_API_KEY", "sk-x".to_owned())];
        let environment = [environment, &own].concat();
        let output =
            run(folder.path(), &environment, &["install", "--url", &open_webui.url, "--token", TOKEN]);
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    // Where the database is named, it is refused before anything is done; elsewhere, Open WebUI's list tells.
    let (done, said) = install(test.environment());
    assert!(
        !done && said.contains("not initialised") && said.contains("`owui-token-tracking init`"),
        "{said}"
    );
    assert_eq!(open_webui.content().changes, 0);
    let (done, said) = install(&[]);
    assert!(!done && said.contains("lists no model of openai") && said.contains("init"), "{said}");
    assert!(run(folder.path(), test.environment(), &["init"]).status.success());
    open_webui.list(&["openai.gpt-4o"]);
    let (done, said) = install(test.environment());
    assert!(done, "{said}");
    assert_eq!(open_webui.readers("openai.gpt-4o"), ["user:*"]);
});
