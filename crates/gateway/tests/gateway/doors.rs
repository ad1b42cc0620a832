//! Who gets in where no key keeps others out.

use accounting::Clock as _;
use http::header::{HOST, ORIGIN};
use storage::SystemClock;
use storage::admin::keys;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::app::{App, chat, read};

const WITHOUT_KEY: &str = "[gateway]\nlisten = \"127.0.0.1:0\"\nallowed_hosts = [\"tracking.example.org\"]\n";

/// A foreign name that a page's author has made to mean this machine: the browser sends the page's requests here.
#[tokio::test]
async fn without_a_key_no_foreign_page_reaches_the_gateway() {
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let app = App::start_with(test, simulator, WITHOUT_KEY).await;
    let ask = async |headers: &[(&str, &str)]| {
        read(app.post("/v1/chat/completions", "ann", chat("gpt-test", "", false), headers).await).await
    };
    let rebound = ask(&[(HOST.as_str(), "evil.example:8787")]).await;
    assert_eq!((rebound.status, rebound.code().as_str()), (403, "host_not_allowed"), "{}", rebound.text);
    assert!(rebound.text.contains("allowed_hosts"), "{}", rebound.text);
    let foreign = ask(&[(ORIGIN.as_str(), "https://evil.example")]).await;
    assert_eq!((foreign.status, foreign.code().as_str()), (403, "origin_not_allowed"));
    assert_eq!(app.entries("ann").await, []);
    for ours in
        [&[][..], &[(HOST.as_str(), "tracking.example.org")], &[(ORIGIN.as_str(), "http://localhost:3000")]]
    {
        assert_eq!(ask(ours).await.status, 200);
    }
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/v1/models", 403), ("/metrics", 403), ("/nothing", 403)]
    {
        let answer = app.look(path, &[(HOST.as_str(), "monitor.example")]).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers.contains_key("request-id"), status == 403, "{path}");
    }
    app.end().await;
}

#[tokio::test]
async fn with_a_key_any_host_may_be_named() {
    let app = App::start(TestDatabase::sqlite().await.unwrap(), &[]).await;
    let headers = [(HOST.as_str(), "gateway.example"), (ORIGIN.as_str(), "https://chat.example")];
    let answer =
        read(app.post("/v1/chat/completions", "ann", chat("gpt-test", "", false), &headers).await).await;
    assert_eq!(answer.status, 200);
    app.end().await;
}

each_database!(a_key_that_was_revoked_opens_nothing_without_a_key_either, async |test: TestDatabase| {
    let simulator = Simulator::start().await.unwrap();
    let app = App::start_with(test, simulator, WITHOUT_KEY).await;
    let now = SystemClock.now();
    let (_, key) = keys::create(&app.database, "laptop", None, None, now).await.unwrap();
    keys::revoke(&app.database, "laptop", now).await.unwrap();
    let ask = async |key: &str| {
        let headers = [("x-openwebui-user-id", "ann")];
        app.ask_with_key(key, chat("gpt-test", "", false), &headers).await
    };
    let revoked = ask(&key).await;
    assert_eq!((revoked.status, revoked.code().as_str()), (401, "invalid_api_key"), "{}", revoked.text);
    // One of another server is nobody's business here.
    assert_eq!(ask("sk-of-another-server").await.status, 200);
    app.end().await;
});
