//! Refusals, as whoever runs a gateway sees them: in its log and in `usage --refused`.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{GatewayProcess, HttpClient, Place, program};

each_database!(each_refusal_has_a_line_in_the_log_that_says_who_what_and_why, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "1")]).await;
    let (log, client) = (std::fs::File::create(place.file("log.txt")).unwrap(), HttpClient::new());
    let mut command = program(place.folder.path(), &place.environment);
    command.args(["serve", "--config", "config.toml"]);
    let gateway = GatewayProcess::logging(command, log);
    let body = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "x [[sim output=600]]"}]});
    let created: Value = serde_json::from_str(&place.ok(&[
        "key",
        "create",
        "ann's laptop",
        "--user",
        &user(&place),
        "--format",
        "json",
    ]))
    .unwrap();
    let (key, masked) = (created["key"].as_str().unwrap(), "sk-proj-abcdefghijklmnop1234567890");
    let ask = async |key: &str, model: &str| {
        client.with_key(&format!("{}/v1/chat/completions", gateway.url), key, &body(model)).await.0
    };
    let statuses = [
        ask(key, "gpt-test").await,
        ask(key, "gpt-test").await,
        ask(key, "gpt-tset").await,
        ask(key, masked).await,
        ask("owui-tt-wrong", "gpt-test").await,
        client.get(&format!("{}/chat/completions", gateway.url)).await.0,
        client.get(&format!("{}/{masked}", gateway.url)).await.0,
        client.chat(&gateway.url, "dora", &json!({"model": "gpt-test", "messages": 5})).await.0,
    ];
    assert_eq!(statuses, [200, 402, 404, 404, 401, 404, 404, 400]);
    assert!(bare_answer(&gateway.url, &"x".repeat(500_000)).starts_with("HTTP/1.1 431 "));
    assert!(bare_answer(&gateway.url, "\u{1}").starts_with("HTTP/1.1 400 "));
    for _ in 0..50 {
        assert_eq!(ask(key, "gpt-tset").await, 404);
    }
    gateway.terminate();
    let log = std::fs::read_to_string(place.file("log.txt")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a request was refused")).collect();
    let line = |what: &str| {
        *lines.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {log}"))
    };
    for (what, parts) in [
        (
            "insufficient_quota",
            &[
                " INFO ",
                "request=\"01",
                "user=\"ann\"",
                "key=\"ann's laptop\"",
                "model=\"gpt-test\"",
                "status=402",
            ][..],
        ),
        ("model_not_found", &["user=\"ann\"", "key=\"ann's laptop\"", "model=\"gpt-tset\"", "status=404"]),
        ("invalid_api_key", &["status=401", "times=1"]),
        ("code=\"head_too_large\"", &["times=1"]),
        ("code=\"head_not_readable\"", &["times=1"]),
        ("path=", &["/chat/completions", "status=404", "code=\"not_found\""]),
        (
            "user=\"dora\"",
            &["key=\"gateway.key\"", "status=400", "code=\"invalid_request\"", "model=\"gpt-test\""],
        ),
    ] {
        assert!(parts.iter().all(|part| line(what).contains(part)), "{what}: {}", line(what));
    }
    assert!(lines.len() < 40, "nobody floods it: {log}");
    for secret in [key, "owui-tt-wrong", masked] {
        assert!(!log.contains(secret), "{log}");
    }

    let refused = place.ok(&["usage", "--refused", "--by", "user,model", "--format", "json"]);
    let refused: Value = serde_json::from_str(&refused).unwrap();
    let counts = |reason: &str, model: &str| {
        let rows = refused.as_array().unwrap().iter();
        let is_it =
            |row: &&Value| row["reason"] == reason && row["model"] == model && row["user_id"] == "ann";
        rows.filter(is_it).map(|row| row["refused"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((counts("limit", "gpt-test"), counts("unknown_model", "gpt-tset")), (1, 51), "{refused}");
    assert!(!refused.to_string().contains(masked), "{refused}");
    let table = place.ok(&["usage", "--refused"]);
    assert!(table.contains("no such model"), "{table}");
});

/// What comes of a request with that in its head.
fn bare_answer(url: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    // The gateway may have answered before it has all.
    let _ = write!(stream, "GET /v1/models HTTP/1.1\r\nhost: x\r\nx-test: {header}\r\n\r\n");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap() + " "
}

/// A user of a standalone database.
fn user(place: &Place) -> String {
    let made =
        place.ok(&["user", "create", "Ann", "--id", "ann", "--email", "ann@example.org", "--format", "json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    made[0]["id"].as_str().unwrap().to_owned()
}

each_database!(from_nothing_to_a_key_of_a_user_without_open_webui, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let said = |arguments: &[&str]| {
        let output = place.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        said
    };
    let unknown = said(&["key", "create", "laptop", "--user", "ann"]);
    assert!(unknown.contains("owui-token-tracking user create NAME"), "{unknown}");
    place.ok(&["user", "create", "ann"]);
    assert!(said(&["user", "create", "Ann", "--id", "other"]).contains("already"));
    let created = place.ok(&["key", "create", "laptop", "--user", "ann", "--format", "json"]);
    let created: Value = serde_json::from_str(&created).unwrap();
    let key = created["key"].as_str().unwrap();
    let (gateway, client) = (place.serve(), HttpClient::new());
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body =
        json!({"model": "gpt-test", "messages": [{"role": "user", "content": "x [[sim input=1 output=1]]"}]});
    assert_eq!(client.with_key(&url, key, &body).await.0, 200);
    gateway.terminate();
    assert!(place.ok(&["audit", "--action", "user create"]).contains("ann"));

    let revoked = place.ok(&["key", "revoke", "laptop", "--yes"]);
    assert!(revoked.contains("`laptop`, a key of the user `ann`"), "{revoked}");
    let again = said(&["key", "revoke", "laptop", "--yes"]);
    assert!(again.contains("a key of the user `ann`, was revoked already, on 20"), "{again}");
    assert!(!again.contains("did you mean"), "{again}");
});

each_database!(
    a_price_is_written_with_its_model_behind_the_command_or_as_an_option,
    async |test: TestDatabase| {
        let simulator = Simulator::start().await.unwrap();
        let place = Place::new(&test, &simulator, &[]).await;
        let rest = [
            "--provider",
            "openai",
            "--name",
            "M",
            "--input-cost-credits",
            "1",
            "--output-cost-credits",
            "2",
        ];
        for (command, model) in [("add", "m1"), ("upsert", "m2"), ("upsert", "m1"), ("update", "m2")] {
            for form in [&[model][..], &["--id", model]] {
                if command == "add" && form.len() == 1 {
                    place.ok(&[&["pricing", command, "m0"][..], &rest].concat());
                    continue;
                }
                place.ok(&[&["pricing", command][..], form, &rest].concat());
            }
        }
        let listed: Value =
            serde_json::from_str(&place.ok(&["pricing", "list", "--format", "json"])).unwrap();
        let ids: Vec<&str> =
            listed.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert!(["m0", "m1", "m2"].iter().all(|id| ids.contains(id)), "{ids:?}");
        let both = place.run(&[&["pricing", "add", "m3", "--id", "m3"][..], &rest].concat());
        assert_eq!(both.status.code(), Some(2));
        let neither = place.run(&[&["pricing", "add"][..], &rest].concat());
        assert!(String::from_utf8_lossy(&neither.stderr).contains("missing: MODEL_ID"));
    }
);
