//! People and groups are found by their names, however these are written, on both databases alike.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers included")]

use storage::admin::directory::Directory;
use storage::admin::groups::{self, Change};
use storage::admin::users::{self, Wanted};
use storage::reports::usage::user_named;
use storage::{Database, Error};
use testing::databases::TestDatabase;
use testing::each_database;

const NAMES: [&str; 15] = [
    "Émile Zola",
    "Łukasz Nowak",
    "Øystein Aas",
    "Иван Петров",
    "Γιώργος Σεφέρης",
    "Özlem Kaya",
    "Anna Österberg",
    "İpek Demir",
    "Ñandú Å",
    "Đorđe Žižek",
    "Straße Süd",
    "Ann O'Neill",
    "Chloe\u{301} Ünal",
    "Ωmega",
    "Ḥasan Āl",
];

async fn with_users(test: &TestDatabase) -> Database {
    let database = test.migrated().await.unwrap();
    let user = database.table("user");
    let mut sql = format!("CREATE TABLE {user} (id TEXT PRIMARY KEY, name TEXT, email TEXT); ");
    for (number, name) in NAMES.iter().enumerate() {
        let name = name.replace('\'', "''");
        sql += &format!("INSERT INTO {user} VALUES ('u{number}', '{name}', '{name}@example.org'); ");
    }
    sql += &format!(
        "INSERT INTO {user} VALUES ('j1', 'JOSÉ PÉREZ', 'j1@example.org'), ('j2', 'josé pérez', 'j2@example.org'), \
         ('twin1', 'Twin', 'twin1@example.org'), ('twin2', 'Twin', 'Émil@example.org')"
    );
    database.run(sql).await.unwrap();
    database
}

each_database!(users_are_found_in_any_case, async |test: TestDatabase| {
    let database = with_users(&test).await;
    let directory = Directory::read(&database).await.unwrap();
    for (number, name) in NAMES.iter().enumerate() {
        let id = format!("u{number}");
        for spelling in [(*name).to_owned(), name.to_uppercase(), name.to_lowercase()] {
            for which in [spelling.clone(), format!("{spelling}@EXAMPLE.org")] {
                assert_eq!(users::one(&database, &which).await.unwrap().id.as_str(), id, "{which}");
                assert_eq!(directory.one(&which).unwrap().id.as_str(), id, "{which}");
                assert_eq!(user_named(&database, &which).await.unwrap(), id, "{which}");
            }
            let wanted = Wanted { name: Some(spelling), ..Wanted::default() };
            let found = users::find(&database, &wanted).await.unwrap();
            assert_eq!(found.iter().map(|user| user.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
        }
    }
    // A sign of its own on a letter is the letter with its accent.
    assert_eq!(users::one(&database, "CHLOÉ ünal").await.unwrap().id.as_str(), "u12");
    assert_eq!(users::one(&database, "ÉMIL@example.org").await.unwrap().id.as_str(), "twin2");
});

each_database!(who_is_meant_is_never_guessed, async |test: TestDatabase| {
    let database = with_users(&test).await;
    assert_eq!(users::one(&database, "JOSÉ PÉREZ").await.unwrap().id.as_str(), "j1");
    assert_eq!(users::one(&database, "josé pérez").await.unwrap().id.as_str(), "j2");
    for (which, ids) in [("José Pérez", ["j1", "j2"]), ("Twin", ["twin1", "twin2"])] {
        let error = users::one(&database, which).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Conflict { .. }) && ids.iter().all(|id| said.contains(id)), "{said}");
        assert!(user_named(&database, which).await.is_err());
    }
});

each_database!(groups_are_found_in_any_case_and_made_once, async |test: TestDatabase| {
    let database = test.migrated().await.unwrap();
    groups::create(&database, "ÄRZTE", 10, "").await.unwrap();
    assert_eq!(groups::get(&database, "ärzte").await.unwrap().name, "ÄRZTE");
    let again = groups::create(&database, "Ärzte", 20, "").await.unwrap_err();
    assert!(again.to_string().contains("`ÄRZTE`"), "{again}");
    groups::create(&database, "Pflege", 10, "").await.unwrap();
    let named = |name: &str| Change { name: Some(name.into()), ..Change::default() };
    assert!(groups::update(&database, "Pflege", named("ärzte")).await.is_err());
    // Its own name it may write in another way.
    assert_eq!(groups::update(&database, "ärzte", named("Ärzte")).await.unwrap().name, "Ärzte");
    // Where somebody has dropped the original's index, both may be: each is found as it is written, and neither in a third way.
    let group = database.table("token_tracking_credit_group");
    let index = database.table("idx_token_tracking_credit_group_name_lower");
    let sql = format!(
        "DROP INDEX {index}; \
         INSERT INTO {group} (id, name, max_credit) VALUES ('01234567012371238123456789abcdef', 'ÄRZTE', 7)"
    );
    database.run(sql).await.unwrap();
    for (name, allowance) in [("Ärzte", 10), ("ÄRZTE", 7)] {
        assert_eq!(groups::get(&database, name).await.unwrap().allowance, allowance, "{name}");
    }
    let error = groups::get(&database, "ärzte").await.unwrap_err().to_string();
    assert!(error.contains("ÄRZTE") && error.contains("Ärzte"), "{error}");
});
