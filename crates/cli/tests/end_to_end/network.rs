//! A gateway that the environment sends through a proxy.

use testing::databases::TestDatabase;
use testing::proxy::Proxy;
use testing::simulator::Simulator;
use testing::tls::{TlsFront, authority};

use crate::process::{GatewayProcess, HttpClient, Place, program, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_names_the_proxy_and_doctor_says_so() {
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let front = TlsFront::start(simulator.address()).await.unwrap();
    // "ann:s3cret", as the proxy is told.
    let proxy =
        Proxy::start(front.address(), simulator.address(), Some("Basic YW5uOnMzY3JldA==")).await.unwrap();
    let place = Place::new(&test, &simulator, &[]).await;
    let config = std::fs::read_to_string(place.file("config.toml")).unwrap();
    let config = config.replace(&simulator.base_url(), "https://models.example/v1");
    std::fs::write(place.file("config.toml"), config).unwrap();
    let with = |proxy: &str| {
        let own = [
            ("https_proxy", proxy.to_owned()),
            ("NO_PROXY", "other.example".to_owned()),
            ("SSL_CERT_FILE", authority().display().to_string()),
        ];
        place.environment.iter().cloned().chain(own).collect::<Vec<_>>()
    };
    let environment = with(&proxy.url(Some("ann:s3cret")));
    let mut command = program(place.folder.path(), &environment);
    command.args(["serve", "--config", "config.toml"]);
    let gateway = GatewayProcess::start(command);
    let client = HttpClient::new();
    for chat in ["one", "two"] {
        let (status, text) = client.ask(&gateway.url, "ann", chat, "[[sim input=10 output=5]]").await;
        assert_eq!(status, 200, "{text}");
    }
    assert_eq!(place.number("SELECT COUNT(*) FROM {ledger}").await, 2);
    assert!(proxy.seen().iter().all(|line| line == "CONNECT models.example:443"), "{:?}", proxy.seen());
    gateway.terminate();
    let doctor = |environment: &[(&'static str, String)]| {
        let output =
            run(place.folder.path(), environment, &["doctor", "--config", "config.toml", "--format", "json"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("s3cret") && !said.contains("wrong"), "{said}");
        said
    };
    let named = format!("models.example, through the proxy {},", proxy.url(None));
    let said = doctor(&environment);
    assert!(said.contains(&named) && said.contains("answers"), "{said}");
    let said = doctor(&with(&proxy.url(Some("ann:wrong"))));
    assert!(said.contains(&named) && said.contains("check the proxy"), "{said}");
    place.assert_clean().await;
}
