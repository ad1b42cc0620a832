//! What all commands have in common: the forms of their output, what they ask, how they end.

use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::process::Place;

each_database!(every_form_of_output, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    place.ok(&["credit-group", "create", "Students, \"new\"", "500", "two\nlines"]);
    // Keys as in JSON, numbers with all their digits, quotes where they are needed.
    let groups = place.ok(&["credit-group", "list", "--format", "csv"]);
    let (head, rest) = groups.split_once('\n').unwrap();
    assert_eq!(head, "id,name,max_credit,description");
    assert!(rest.ends_with(",\"Students, \"\"new\"\"\",500,\"two\nlines\"\n"), "{rest}");
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
    assert_eq!(
        place.ok(&["database", "status", "--format", "csv"]).lines().next(),
        Some("found,needed,current")
    );
    assert_eq!(place.ok(&["verify", "--format", "csv"]), "account,what,recorded,computed\n");
    // Nothing found is still a table.
    assert_eq!(
        place.ok(&["sponsored", "list", "--format", "csv"]),
        "id,name,sponsor_id,base_models,total_credit_limit,daily_credit_limit,creation_date\n"
    );
    // Whatever reads a table from a pipe finds no colours in it.
    assert!(!place.ok(&["credit-group", "list"]).contains('\u{1b}'));
});
