//! Groups in bulk, limits over longer periods, adjustments and explained balances, as administrators type them.

use serde_json::{Value, json};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::{HttpClient, Place};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// What a command that must fail says.
fn refused(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

async fn place(test: &TestDatabase, simulator: &Simulator) -> Place {
    let place = Place::new(test, simulator, &[("base_credit_allowance", "1000")]).await;
    let user = place.database.table("token_tracking_user");
    let values =
        ["ann", "bob", "carl"].map(|id| format!("('{id}', '{id}', '{id}@example.org', 0)")).join(", ");
    place.database.run(format!("INSERT INTO {user} VALUES {values}")).await.unwrap();
    place
}

each_database!(groups_are_filled_and_emptied_in_bulk, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = place(&test, &simulator).await;
    place.ok(&["credit-group", "create", "staff", "50", "All"]);
    let members = || {
        let listed = parsed(&place.ok(&["credit-group", "list-users", "staff", "--format", "json"]));
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let file = |text: &str| std::fs::write(place.file("users.txt"), text).unwrap();
    file("\u{feff}ann@example.org\n\n  BOB@example.org \nnobody@example.org\nann\n");
    let add = ["credit-group", "add-user", "--file", "users.txt", "staff"];
    let said = refused(&place, &add);
    assert!(
        said.contains("line 4: there is no user `nobody@example.org`") && said.contains("--partial"),
        "{said}"
    );
    assert_eq!(members(), [""; 0], "all or none");
    let said = refused(&place, &["credit-group", "add-user", "--file", "users.txt", "staff", "--partial"]);
    assert!(said.contains("left out") && said.contains("line 4"), "{said}");
    assert_eq!(members(), ["ann", "bob"]);
    // The database may come last, as with one user.
    let url = &place.environment[0].1;
    file("carl\nann\n");
    if test.url().path().is_some() {
        place.ok(&["credit-group", "add-user", "--file", "users.txt", "staff", url]);
    } else {
        place.ok(&add);
    }
    assert_eq!(members(), ["ann", "bob", "carl"]);
    let remove = ["credit-group", "remove-user", "--file", "users.txt", "staff"];
    place.ok(&remove);
    assert_eq!(members(), ["bob"]);
    let said = refused(&place, &remove);
    assert!(said.contains("line 1: carl is not in the group"), "{said}");
    for (arguments, says) in [
        (vec!["credit-group", "add-user", "ann"], "name the credit group too"),
        (vec!["credit-group", "add-user", "--file", "none.txt", "staff"], "none.txt"),
        (vec!["credit-group", "add-user", "--file", "users.txt", "staf"], "did you mean `staff`?"),
        (vec!["credit-group", "update", "staff"], "what is to change"),
    ] {
        let said = refused(&place, &arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
});

each_database!(limits_over_longer_periods_are_set_explained_and_lifted, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = place(&test, &simulator).await;
    let gateway = place.serve();
    let client = HttpClient::new();
    let ask = async || client.ask(&gateway.url, "ann", "c", "[[sim input=1000 output=500]]").await.0;
    assert_eq!(ask().await, 200);
    let plain = parsed(&place.ok(&["balance", "ann", "--format", "json"]));
    assert!(plain[0].get("week_limit").is_none());
    let error = refused(&place, &["credits", "grant", "ann", "5", "--period", "week", "--reason", "x"]);
    assert!(error.contains("no weekly limit"), "{error}");
    place.ok(&["settings", "set", "base_weekly_allowance", "2.5"]);
    let made = place.ok(&["credit-group", "create", "crew", "7", "All", "--monthly", "500.5"]);
    assert!(made.contains("7 credits a day, 500.5 a month"), "{made}");
    place.ok(&["credit-group", "add-user", "ann@example.org", "crew"]);
    let shown = parsed(&place.ok(&["credit-group", "get", "crew", "--format", "json"]));
    assert_eq!((&shown[0]["weekly"], shown[0]["monthly"].to_string()), (&Value::Null, "500.5".into()));
    // Spent before there was a limit, and counted all the same: half a credit is left of the week.
    let balance = parsed(&place.ok(&["balance", "ann", "--format", "json"]));
    assert_eq!(
        (balance[0]["week_spent"].to_string(), balance[0]["week_free"].to_string()),
        ("2".into(), "0.5".into())
    );
    assert_eq!(balance[0]["month_limit"].to_string(), "500.5");
    let met = async || {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(200));
        loop {
            looks.tick().await;
            let (status, text) = client.ask(&gateway.url, "ann", "c", "[[sim input=1000 output=500]]").await;
            if status == 402 {
                break text;
            }
        }
    };
    let text = met().await;
    assert!(text.contains("Your weekly credit limit is reached"), "{text}");
    let granted = place.ok(&["credits", "grant", "ann", "500", "--period", "week", "--reason", "a talk"]);
    assert!(granted.contains("500 credits are granted to ann for this week."), "{granted}");
    assert_eq!(ask().await, 200);
    place.ok(&["credits", "revoke", "ann@example.org", "1.5", "--reason", "granted twice"]);
    gateway.terminate();
    let explained = parsed(&place.ok(&["balance", "ann", "--explain", "--format", "json"]));
    let granted: Vec<_> = explained["granted"].as_array().unwrap().iter().collect();
    assert_eq!(granted[1], &json!({"source": "the group crew", "day": 7, "week": null, "month": 500.5}));
    assert_eq!(granted[2]["day"], 1007);
    let [day, week, month] = &explained["periods"].as_array().unwrap()[..] else { panic!("{explained}") };
    assert_eq!((day["adjusted"].to_string(), week["adjusted"].to_string()), ("1.5".into(), "-500".into()));
    assert_eq!(month["adjusted"], 0);
    assert_eq!((&day["used"], &day["used"]), (&week["used"], &month["used"]));
    let table = place.ok(&["balance", "ann", "--explain"]);
    assert!(table.contains("the group crew") && table.contains("all together"), "{table}");
    // A day anew; then the books.
    place.ok(&["credits", "reset", "ann"]);
    assert!(place.ok(&["credits", "reset", "ann"]).contains("has spent nothing today"));
    assert!(place.ok(&["verify"]).contains("Clean"));
    let reasons = place.texts("SELECT reason FROM {ledger} WHERE kind = 'adjustment' ORDER BY id").await;
    assert_eq!(reasons, ["a talk", "granted twice", "reset"]);
    let changed = place.ok(&["credit-group", "update", "crew", "--monthly", "none", "--new-name", "team"]);
    assert!(changed.contains("team now adds 7 credits a day to each member"), "{changed}");
    for (arguments, says) in [
        (vec!["credits", "grant", "ann", "0", "--reason", "x"], "above zero"),
        (vec!["credits", "grant", "an", "1", "--reason", "x"], "no user or sponsored allowance"),
        (vec!["credits", "grant", "ann", "1"], "--reason"),
        (vec!["credits", "grant", "ann", "1", "--period", "year", "--reason", "x"], "day, week or month"),
        (vec!["credit-group", "update", "team", "--owui-group", "x"], "no Open WebUI group"),
        (vec!["balance", "--explain"], "<USER>"),
    ] {
        let said = refused(&place, &arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
});
