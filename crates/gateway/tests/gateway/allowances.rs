//! Whom and what sponsored allowances pay for: dates, members, providers, registered workspace models, tasks by their chat,
//! models of their own; and that their limits hold.

use std::sync::Arc;

use accounting::{Clock, Credits};
use futures_util::future::join_all;
use http::Method;
use providers::Kind;
use serde_json::{Value, json};
use storage::admin::prices::{self, Source, Write};
use storage::admin::sponsored::{self, Change, NamedMember, Terms, Which};
use storage::admin::{groups, settings};
use storage::{Database, MemberKind, SystemClock};
use testing::clock::SettableClock;
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{Answer, App, chat, read};

/// One credit in, one out.
const TWO: &str = "[[sim input=1000 output=500]]";

/// Open WebUI's tables: an administrator, ten users, a group in a group, workspace models.
async fn open_webui(database: &Database) {
    let table = |name: &str| database.table(name);
    let users: Vec<String> =
        (0..10).map(|user| format!("('u{user}', 'User {user}', 'u{user}@example.org', 'user')")).collect();
    let models = "('lab---one', 'boss', 'openai.gpt-test'), ('lab---mine', 'u1', 'openai.gpt-test'), \
        ('writer', 'u1', 'openai.gpt-test'), ('lab---azure', 'boss', 'azure.gpt-test'), ('own', 'u2', \
        'openai.sponsored/lab/gpt-test')";
    let sql = format!(
        "CREATE TABLE {user} (id VARCHAR(255) PRIMARY KEY, name VARCHAR(255), email VARCHAR(255), role VARCHAR(255)); \
         CREATE TABLE {model} (id VARCHAR(255) PRIMARY KEY, user_id VARCHAR(255), base_model_id VARCHAR(255)); \
         CREATE TABLE {group} (id TEXT PRIMARY KEY, name TEXT, parent_group_id TEXT); \
         CREATE TABLE {member} (id TEXT PRIMARY KEY, group_id TEXT, user_id TEXT); \
         INSERT INTO {user} VALUES ('boss', 'Boss', 'b@example.org', 'admin'), {users}; \
         INSERT INTO {model} VALUES {models}; \
         INSERT INTO {group} VALUES ('g-all', 'Everybody', NULL), ('g-lab', 'Students', 'g-all'); \
         INSERT INTO {member} VALUES ('1', 'g-lab', 'u3')",
        user = table("user"),
        model = table("model"),
        group = table("group"),
        member = table("group_member"),
        users = users.join(", "),
    );
    database.run(sql).await.unwrap();
}

async fn start(test: TestDatabase, changes: &[(&str, &str)]) -> App {
    open_webui(&test.open().await.unwrap()).await;
    App::start(test, changes).await
}

fn terms(total: i64, daily: Option<i64>) -> Terms {
    let models = vec!["gpt-test".into()];
    Terms { name: "Lab".into(), sponsor: "boss".into(), models, total, daily, ..Terms::default() }
}

async fn grant(app: &App, terms: Terms) {
    sponsored::create(&app.database, &terms).await.unwrap();
    app.meter.catalogue().changed();
}

async fn change(app: &App, change: Change) {
    sponsored::update(&app.database, &Which::Name("lab".into()), change).await.unwrap();
    app.meter.catalogue().changed();
}

/// A chat with headers as Open WebUI sends them; those without a value are left out.
async fn ask(app: &App, user: &str, model: &str, workspace: &str, chat_id: &str, task: &str) -> Answer {
    let named =
        [("x-tracking-model", workspace), ("x-openwebui-chat-id", chat_id), ("x-tracking-task", task)];
    let headers: Vec<_> = named.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    read(app.post("/v1/chat/completions", user, chat(model, TWO, false), &headers).await).await
}

async fn asked(app: &App, user: &str, workspace: &str) -> Answer {
    ask(app, user, "gpt-test", workspace, "", "").await
}

fn assert_refused(answer: &Answer, says: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (403, "not_sponsored"), "{}", answer.text);
    assert!(answer.text.contains(says), "{}", answer.text);
}

/// What the allowance and the user themselves have paid.
async fn paid(app: &App, user: &str) -> (String, String) {
    app.settled().await;
    let total = storage::reports::sponsored::sponsored(&app.database, &SystemClock, None).await.unwrap();
    let balance = storage::reports::balance::balances(&app.database, &SystemClock, Some(user)).await.unwrap();
    (total[0].account.spent.to_string(), balance[0].day.spent.to_string())
}

each_database!(it_pays_from_its_first_day_to_its_last, async |test: TestDatabase| {
    open_webui(&test.open().await.unwrap()).await;
    // Berlin is one hour ahead.
    let clock = Arc::new(SettableClock::at("2031-01-09T22:59:59Z".parse().unwrap()));
    let app = App::with_clock(test, &[("timezone", "Europe/Berlin")], &[Kind::OPENAI], clock.clone()).await;
    let (starts_on, ends_on) = (Some("2031-01-10".parse().unwrap()), Some("2031-01-11".parse().unwrap()));
    grant(&app, Terms { starts_on, ends_on, ..terms(100, None) }).await;
    assert_refused(&asked(&app, "u1", "lab---one").await, "begins on 2031-01-10; today is 2031-01-09");
    for (moment, pays) in
        [("2031-01-09T23:00:00Z", true), ("2031-01-11T22:59:59Z", true), ("2031-01-11T23:00:00Z", false)]
    {
        clock.set(moment.parse().unwrap());
        let answer = asked(&app, "u1", "lab---one").await;
        assert_eq!(answer.status == 200, pays, "{moment}: {}", answer.text);
    }
    assert_refused(&asked(&app, "u1", "lab---one").await, "ended on 2031-01-11");
    // The setting decides where the day is: it is the eleventh in New York still.
    settings::set(&app.database, "timezone", "America/New_York").await.unwrap();
    app.meter.catalogue().changed();
    assert_eq!(asked(&app, "u1", "lab---one").await.status, 200);
    change(&app, Change { ends_on: Some(None), ..Change::default() }).await;
    clock.set("2040-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(asked(&app, "u1", "lab---one").await.status, 200);
    app.end().await;
});

each_database!(it_is_for_its_members, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    groups::create(&app.database, "staff", 0, "").await.unwrap();
    groups::add_user(&app.database, "staff", &accounting::UserId::new("u2").unwrap()).await.unwrap();
    let member = |kind, name: &str| NamedMember { kind, name: name.into() };
    let members = vec![
        member(MemberKind::User, "u1@example.org"),
        member(MemberKind::CreditGroup, "Staff"),
        member(MemberKind::OpenWebUiGroup, "Everybody"),
    ];
    grant(&app, Terms { members, ..terms(100, None) }).await;
    for user in ["u1", "u2", "u3"] {
        assert_eq!(asked(&app, user, "lab---one").await.status, 200, "{user}");
    }
    assert_refused(&asked(&app, "u4", "lab---one").await, "for its members");
    // Open WebUI's groups are followed, and so are credit groups.
    let member = app.database.table("group_member");
    app.database.run(format!("INSERT INTO {member} VALUES ('2', 'g-lab', 'u4')")).await.unwrap();
    groups::remove_user(&app.database, "staff", &accounting::UserId::new("u2").unwrap()).await.unwrap();
    app.meter.catalogue().changed();
    assert_eq!(asked(&app, "u4", "lab---one").await.status, 200);
    assert_refused(&asked(&app, "u2", "lab---one").await, "for its members");
    // A balance names only what its user may use.
    let balance = async |user: &str| {
        let path = format!("/local/balance?user={user}");
        app.call(Method::GET, &path, "k", Value::Null).await.json()["sponsored"].as_array().unwrap().len()
    };
    assert_eq!((balance("u1").await, balance("u2").await), (1, 0));
    change(&app, Change { members: Some(vec![]), ..Change::default() }).await;
    assert_eq!(asked(&app, "u2", "lab---one").await.status, 200);
    app.end().await;
});

each_database!(a_group_that_is_gone_has_no_members, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    groups::create(&app.database, "staff", 0, "").await.unwrap();
    groups::add_user(&app.database, "staff", &accounting::UserId::new("u2").unwrap()).await.unwrap();
    let members = vec![NamedMember { kind: MemberKind::CreditGroup, name: "staff".into() }];
    grant(&app, Terms { members, ..terms(100, None) }).await;
    assert_eq!(asked(&app, "u2", "lab---one").await.status, 200);
    groups::delete(&app.database, "staff", true).await.unwrap();
    app.meter.catalogue().changed();
    // Not everybody's, because its members are gone.
    for user in ["u1", "u2"] {
        assert_refused(&asked(&app, user, "lab---one").await, "for its members");
    }
    app.end().await;
});

each_database!(a_model_is_covered_at_its_provider, async |test: TestDatabase| {
    open_webui(&test.open().await.unwrap()).await;
    let app = App::with(test, &[], &[Kind::OPENAI]).await;
    // The same model at another provider, which is not covered.
    let now = SystemClock.now();
    let model = accounting::ModelId::new("gpt-test").unwrap();
    let priced = prices::get(&app.database, &model, None, now).await.unwrap().remove(0);
    let mut other = prices::NewPrice::from(priced);
    other.provider = accounting::ProviderName::new("azure").unwrap();
    prices::write(&app.database, &[other], Write::Add, Source::Administrator, now).await.unwrap();
    grant(&app, Terms { models: vec!["azure/gpt-test".into()], ..terms(100, None) }).await;
    assert_refused(
        &asked(&app, "u1", "lab---one").await,
        "does not cover the model `gpt-test` of openai; it covers: azure/gpt-test",
    );
    change(
        &app,
        Change { models: Some(vec!["azure/gpt-test".into(), "openai/gpt-test".into()]), ..Change::default() },
    )
    .await;
    assert_eq!(asked(&app, "u1", "lab---one").await.status, 200);
    change(&app, Change { models: Some(vec!["gpt-test".into()]), ..Change::default() }).await;
    assert_eq!(asked(&app, "u1", "lab---one").await.status, 200);
    app.end().await;
});

each_database!(a_users_workspace_model_opens_it_once_registered, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, terms(100, None)).await;
    assert_refused(&asked(&app, "u1", "lab---mine").await, "sponsored register lab---mine");
    assert_eq!(asked(&app, "u1", "writer").await.status, 200, "as the user's own");
    assert_eq!(paid(&app, "u1").await, ("0".into(), "2".into()));
    let which = Which::Name("LAB".into());
    for model in ["lab---mine", "writer", "not-there"] {
        sponsored::register(&app.database, model, &which).await.unwrap();
    }
    app.meter.catalogue().changed();
    for model in ["lab---mine", "writer"] {
        assert_eq!(asked(&app, "u1", model).await.status, 200);
    }
    assert_refused(&asked(&app, "u1", "not-there").await, "no workspace model `not-there`");
    assert_refused(&ask(&app, "u1", "dear", "writer", "", "").await, "is not made of the model");
    assert_eq!(paid(&app, "u1").await, ("4".into(), "2".into()));
    // It stays registered under another name of the allowance.
    change(&app, Change { name: Some("Laboratory".into()), ..Change::default() }).await;
    assert_eq!(asked(&app, "u1", "writer").await.status, 200);
    sponsored::unregister(&app.database, "writer").await.unwrap();
    app.meter.catalogue().changed();
    assert_eq!(asked(&app, "u1", "writer").await.status, 200);
    assert_eq!(paid(&app, "u1").await, ("6".into(), "4".into()));
    app.end().await;
});

each_database!(tasks_are_paid_as_their_chats_last_request, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, terms(100, None)).await;
    // Open WebUI names the chat of a task, and no workspace model.
    let task = async |user: &str, model: &str, chat: &str| {
        assert_eq!(ask(&app, user, model, "", chat, "title_generation").await.status, 200);
    };
    assert_eq!(ask(&app, "u1", "gpt-test", "lab---one", "c1", "").await.status, 200);
    task("u1", "gpt-test", "c1").await;
    assert_eq!(paid(&app, "u1").await, ("4".into(), "0".into()));
    // A model that is not covered, another chat, another user's chat of that name: their users pay.
    task("u1", "dear", "c1").await;
    task("u1", "gpt-test", "c2").await;
    task("u2", "gpt-test", "c1").await;
    assert_eq!(paid(&app, "u1").await, ("4".into(), "22".into()));
    assert_eq!(paid(&app, "u2").await, ("4".into(), "2".into()));
    // The chat goes on with another model.
    assert_eq!(ask(&app, "u1", "gpt-test", "", "c1", "").await.status, 200);
    task("u1", "gpt-test", "c1").await;
    assert_eq!(paid(&app, "u1").await, ("4".into(), "26".into()));
    // A chat without a task is never paid by its chat.
    assert_eq!(ask(&app, "u2", "gpt-test", "lab---one", "c3", "").await.status, 200);
    assert_eq!(ask(&app, "u2", "gpt-test", "", "c3", "").await.status, 200);
    assert_eq!(paid(&app, "u2").await, ("6".into(), "4".into()));
    // Who may not use it any more pays for the title themselves.
    assert_eq!(ask(&app, "u2", "gpt-test", "lab---one", "c4", "").await.status, 200);
    let members = Some(vec![NamedMember { kind: MemberKind::User, name: "u1".into() }]);
    change(&app, Change { members, ..Change::default() }).await;
    task("u2", "gpt-test", "c4").await;
    assert_eq!(paid(&app, "u2").await, ("8".into(), "6".into()));
    app.end().await;
});

each_database!(a_bound_key_says_nothing_of_chats, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, terms(100, None)).await;
    assert_eq!(ask(&app, "u1", "gpt-test", "lab---one", "c1", "").await.status, 200);
    let user = accounting::UserId::new("u1").unwrap();
    let (_, key) = storage::admin::keys::create(&app.database, "laptop", Some(user), None, SystemClock.now())
        .await
        .unwrap();
    let headers = [("x-openwebui-chat-id", "c1"), ("x-tracking-task", "title_generation")];
    assert_eq!(app.ask_with_key(&key, chat("gpt-test", TWO, false), &headers).await.status, 200);
    assert_eq!(paid(&app, "u1").await, ("2".into(), "2".into()));
    app.end().await;
});

/// The ids of the allowance's models of their own.
async fn listed(app: &App, key: &str) -> Vec<(String, String)> {
    let models = app.call(Method::GET, "/v1/models", key, Value::Null).await.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all =
        models["data"].as_array().unwrap().iter().map(|model| (text(&model["id"]), text(&model["name"])));
    all.filter(|(id, _)| id.starts_with("sponsored/")).collect()
}

each_database!(members_have_its_models_as_models_of_their_own, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, terms(100, Some(6))).await;
    let own = "sponsored/lab/gpt-test";
    let key_of = async |user: &str| {
        let id = Some(accounting::UserId::new(user).unwrap());
        storage::admin::keys::create(&app.database, user, id, None, SystemClock.now()).await.unwrap().1
    };
    let (first, second) = (key_of("u1").await, key_of("u2").await);
    // Nobody is named: it is for whoever may use its workspace models, and offers nothing.
    assert_eq!(listed(&app, "k").await, []);
    assert_refused(&ask(&app, "u1", own, "", "", "").await, "offers no models of its own");
    let members = Some(vec![NamedMember { kind: MemberKind::User, name: "u1".into() }]);
    change(&app, Change { members, ..Change::default() }).await;
    let offered = [("sponsored/Lab/gpt-test".to_owned(), "Lab - gpt-test".to_owned())];
    assert_eq!(listed(&app, "k").await, offered);
    assert_eq!(listed(&app, &first).await, offered);
    assert_eq!(listed(&app, &second).await, []);
    let local = app.call(Method::GET, "/local/models?provider=OpenAI", "k", Value::Null).await.json();
    assert_eq!(
        local["sponsored"],
        json!([{"provider": "openai", "id": "sponsored/Lab/gpt-test", "name": "Lab - gpt-test",
        "model": "gpt-test"}])
    );
    assert_eq!(local["models"].as_array().unwrap().len(), 3);
    // The provider is asked for its own model, and the workspace model does not matter.
    let answer = ask(&app, "u1", own, "own", "c1", "").await;
    assert_eq!(
        (answer.status, &answer.json()["usage"]["credits_remaining"]),
        (200, &json!(4)),
        "{}",
        answer.text
    );
    assert_eq!(app.entries("u1").await[0].answered_model.as_deref().unwrap_or("gpt-test"), "gpt-test");
    assert_refused(&ask(&app, "u2", own, "own", "", "").await, "for its members");
    assert_refused(&ask(&app, "u1", "sponsored/lab/dear", "", "", "").await, "does not cover");
    assert_refused(&ask(&app, "u1", "sponsored/none/gpt-test", "", "", "").await, "does not exist");
    assert_eq!(ask(&app, "u1", "sponsored/lab/nothing", "", "", "").await.status, 404);
    // By a key of their own too; and a title of such a chat is paid alike.
    assert_eq!(app.ask_with_key(&first, chat(own, TWO, false), &[]).await.status, 200);
    assert_eq!(app.ask_with_key(&second, chat(own, TWO, false), &[]).await.status, 403);
    assert_eq!(ask(&app, "u1", "gpt-test", "", "c1", "title_generation").await.status, 200);
    assert_eq!(paid(&app, "u1").await, ("6".into(), "0".into()));
    assert_eq!(ask(&app, "u1", own, "", "", "").await.status, 402, "the day's limit");
    // Public: for everybody. The id holds under another case, and by the allowance's id under another name.
    change(&app, Change { public: Some(true), name: Some("AI Department".into()), ..Change::default() })
        .await;
    assert_eq!(listed(&app, &second).await[0].0, "sponsored/AI-Department/gpt-test");
    assert_eq!(listed(&app, &second).await[0].1, "AI Department - gpt-test");
    let id = sponsored::list(&app.database).await.unwrap()[0].id;
    for model in ["sponsored/ai-department/gpt-test", &format!("sponsored/{id}/gpt-test")] {
        assert_eq!(ask(&app, "u2", model, "", "", "").await.status, 200, "{model}");
    }
    assert_eq!(paid(&app, "u2").await, ("10".into(), "0".into()));
    app.end().await;
});

each_database!(foreign_code_holds_for_a_model_of_its_own, async |test: TestDatabase| {
    let app = start(test, &[]).await;
    grant(&app, Terms { public: true, ..terms(100, None) }).await;
    let hold =
        json!({"user": "u1", "provider": "openai", "model": "sponsored/lab/gpt-test", "input_text": "hello"});
    let held = app.call(Method::POST, "/local/holds", "k", hold).await;
    assert_eq!(held.status, 201, "{}", held.text);
    let path = format!("/local/holds/{}/settle", held.json()["id"].as_str().unwrap());
    let end = json!({"outcome": "complete", "usage": {"prompt_tokens": 1000, "completion_tokens": 500}});
    assert_eq!(app.call(Method::POST, &path, "k", end).await.status, 200);
    assert_eq!(paid(&app, "u1").await, ("2".into(), "0".into()));
    // What has happened is charged, whoever may use it now.
    let members = Some(vec![NamedMember { kind: MemberKind::User, name: "u2".into() }]);
    let ends_on = Some(Some("2020-01-01".parse().unwrap()));
    change(&app, Change { members, public: Some(false), ends_on, ..Change::default() }).await;
    let usage = json!({"prompt_tokens": 1000, "completion_tokens": 500});
    let used =
        json!({"user": "u1", "provider": "openai", "model": "gpt-test", "sponsored": "lab", "usage": usage});
    assert_eq!(app.call(Method::POST, "/local/usage", "k", used.clone()).await.status, 201);
    let refused = app.call(Method::POST, "/local/holds", "k", used).await;
    assert_refused(&refused, "ended on 2020-01-01");
    assert_eq!(paid(&app, "u1").await, ("4".into(), "0".into()));
    app.end().await;
});

each_database!(sixty_four_at_once_by_ten_users_stay_within_its_limits, async |test: TestDatabase| {
    let strict = [("admission_policy", "strict"), ("hold_wait", "60"), ("strict_min_output", "485")];
    let app = start(test, &strict).await;
    grant(&app, terms(30, Some(4))).await;
    let mut body = chat("gpt-test", "[[sim input=5 output=485]]", false);
    body["max_tokens"] = json!(485);
    let headers = [("x-tracking-model", "lab---one")];
    let users: Vec<String> = (0..64).map(|request| format!("u{}", request % 10)).collect();
    let requests = users.iter().map(|user| app.post("/v1/chat/completions", user, body.clone(), &headers));
    let answers = join_all(requests).await;
    let served = answers.iter().filter(|answer| answer.status() == 200).count();
    let limited = answers.iter().filter(|answer| matches!(answer.status().as_u16(), 402 | 429)).count();
    // 0.975 credits each: four a user, thirty in all.
    assert_eq!((served, limited), (30, 34));
    app.settled().await;
    let sql = format!(
        "SELECT CAST(MAX(spent) AS BIGINT) FROM {} WHERE kind = 'sponsored-user-day'",
        app.database.table("token_tracking_account")
    );
    let most: i64 = storage::on_pool!(app.database, pool => {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
    });
    assert!(most <= 4_000_000, "{most}");
    assert_eq!(paid(&app, "u1").await, ("29.25".into(), "0".into()));
    app.end().await;
});

each_database!(the_total_holds_over_days_to_the_last_microcredit, async |test: TestDatabase| {
    open_webui(&test.open().await.unwrap()).await;
    let clock = Arc::new(SettableClock::at("2031-01-01T12:00:00Z".parse().unwrap()));
    let strict = [("admission_policy", "strict"), ("strict_min_output", "1"), ("timezone", "UTC")];
    let app = App::with_clock(test, &strict, &[Kind::OPENAI], clock.clone()).await;
    grant(&app, terms(10, Some(4))).await;
    let mut body = chat("gpt-test", "[[sim input=3 output=700]]", false);
    body["max_tokens"] = json!(700);
    let headers = [("x-tracking-model", "lab---one")];
    let (mut before, mut days) = (Credits::ZERO, 0);
    loop {
        days += 1;
        clock.set(format!("2031-01-{days:02}T12:00:00Z").parse().unwrap());
        let refused = loop {
            let answer = read(app.post("/v1/chat/completions", "u1", body.clone(), &headers).await).await;
            if answer.status != 200 {
                break answer;
            }
        };
        app.settled().await;
        let report =
            storage::reports::sponsored::sponsored(&app.database, &*clock, None).await.unwrap().remove(0);
        let spent = report.account.spent;
        let of_day = spent.minus(before).unwrap();
        assert!(of_day <= Credits::from_whole(4).unwrap() && spent <= Credits::from_whole(10).unwrap());
        before = spent;
        if refused.text.contains("total limit") {
            // Too little is left for one word, whatever the day.
            assert!(report.left.unwrap() < Credits::from_micro(140_000), "{report:?}");
            break;
        }
        assert!(refused.text.contains("daily limit"), "{}", refused.text);
    }
    assert_eq!(days, 3);
    app.end().await;
});

each_database!(
    what_has_happened_is_recorded_on_whom_it_names_whatever_the_rules_say,
    async |test: TestDatabase| {
        let app = start(test, &[]).await;
        let ends_on = Some("2020-01-31".parse().unwrap());
        let member = NamedMember { kind: MemberKind::User, name: "u1".into() };
        grant(&app, Terms { ends_on, members: vec![member], ..terms(100, None) }).await;
        let record = async |user: &str, model: &str, sponsored: &str| {
            let mut body = json!({"user": user, "provider": "openai", "model": model, "task": "title_generation",
            "usage": {"prompt_tokens": 1000, "completion_tokens": 500}});
            if !sponsored.is_empty() {
                body["sponsored"] = sponsored.into();
            }
            let answer = app.call(Method::POST, "/local/usage", "k", body).await;
            assert_eq!(answer.status, 201, "{}", answer.text);
            let bill = answer.json();
            let remarks = bill["remarks"].as_array().unwrap().iter();
            let codes: Vec<String> = remarks.map(|one| one["code"].as_str().unwrap().to_owned()).collect();
            (bill["credits"].to_string(), codes.join(" "))
        };
        let recorded = |credits: &str, codes: &str| (credits.to_owned(), codes.to_owned());
        for (user, model, sponsored, credits, codes, outcome) in [
            ("u1", "gpt-test", "", "2", "", "complete"),
            // On the allowance, although it covers another model, is over, or is for others.
            ("u2", "dear", "lab", "20", "sponsored_not_covered", "not_allowed"),
            ("u3", "gpt-test", "Lab", "2", "sponsored_ended", "not_allowed"),
            ("u4", "sponsored/lab/gpt-test", "", "2", "sponsored_ended", "not_allowed"),
            // On the user.
            ("u5", "gpt-test", "nothing", "2", "sponsored_not_found", "not_allowed"),
            ("u6", "sponsored/nothing/gpt-test", "", "2", "sponsored_not_found", "not_allowed"),
            ("stranger", "gpt-test", "", "2", "user_not_found", "not_allowed"),
            ("u7", "unheard-of", "", "0", "model_not_priced", "not_allowed"),
            (
                "u8",
                "sponsored/lab/unheard-of",
                "",
                "0",
                "model_not_priced sponsored_not_covered",
                "not_allowed",
            ),
        ] {
            assert_eq!(record(user, model, sponsored).await, recorded(credits, codes), "{user}");
            let entries = app.entries(user).await;
            let entry =
                entries.iter().map(|entry| (entry.outcome.as_str(), entry.input_tokens, entry.output_tokens));
            assert_eq!(entry.collect::<Vec<_>>(), [(outcome, 1000, 500)], "{user}");
        }
        change(&app, Change { ends_on: Some(None), ..Change::default() }).await;
        assert_eq!(record("u9", "gpt-test", "lab").await, recorded("2", "sponsored_not_member"));
        assert_eq!(paid(&app, "u5").await, ("26".to_owned(), "2".to_owned()));
        app.end().await;
    }
);
