//! Open WebUI's groups as its versions keep them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers included")]

use storage::{Database, open_webui_groups};
use testing::databases::TestDatabase;
use testing::each_database;

async fn members(database: &Database, id: &str) -> (String, Vec<String>) {
    let group = open_webui_groups(database).await.unwrap().remove(id).unwrap();
    (group.name, group.members.into_iter().collect())
}

each_database!(members_are_in_the_groups_around_theirs_too, async |test: TestDatabase| {
    let database = test.open().await.unwrap();
    assert!(open_webui_groups(&database).await.unwrap().is_empty());
    let (group, member) = (database.table("group"), database.table("group_member"));
    let sql = format!(
        "CREATE TABLE {group} (id TEXT PRIMARY KEY, name TEXT, parent_group_id TEXT); \
         CREATE TABLE {member} (id TEXT PRIMARY KEY, group_id TEXT, user_id TEXT); \
         INSERT INTO {group} VALUES ('all', 'Everybody', NULL), ('lab', 'Lab', 'all'), ('a', 'A', 'b'), ('b', 'B', 'a'); \
         INSERT INTO {member} VALUES ('1', 'lab', 'ann'), ('2', 'all', 'bob'), ('3', 'a', 'eve'), ('4', 'gone', 'eve')"
    );
    database.run(sql).await.unwrap();
    let named = |name: &str, users: &[&str]| (name.into(), users.iter().map(ToString::to_string).collect());
    assert_eq!(members(&database, "all").await, named("Everybody", &["ann", "bob"]));
    assert_eq!(members(&database, "lab").await, named("Lab", &["ann"]));
    // A circle, which Open WebUI itself does not make, is no endless way.
    assert_eq!(members(&database, "b").await, named("B", &["eve"]));
});

each_database!(older_versions_keep_a_list_with_the_group, async |test: TestDatabase| {
    let database = test.open().await.unwrap();
    let group = database.table("group");
    let sql = format!(
        "CREATE TABLE {group} (id TEXT PRIMARY KEY, name TEXT, user_ids JSON); \
         INSERT INTO {group} VALUES ('lab', 'Lab', '[\"bob\", \"ann\"]'), ('old', 'Old', 'null'), ('new', 'New', NULL)"
    );
    database.run(sql).await.unwrap();
    assert_eq!(members(&database, "lab").await, ("Lab".into(), vec!["ann".into(), "bob".into()]));
    assert_eq!(members(&database, "old").await.1, Vec::<String>::new());
    assert_eq!(members(&database, "new").await.1, Vec::<String>::new());
});
