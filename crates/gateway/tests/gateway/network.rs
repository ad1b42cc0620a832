//! Model servers behind a proxy, behind TLS, and out of reach: what never left is not charged.

use std::time::{Duration, Instant};

use testing::databases::TestDatabase;
use testing::proxy::Proxy;
use testing::simulator::Simulator;
use testing::tls::{TlsFront, authority};
use tokio::net::TcpListener;

use crate::app::{Answer, App, chat, read};

/// "ann:secret", as `Proxy-Authorization` says it.
const ANN: &str = "Basic YW5uOnNlY3JldA==";
const OUT_OF_REACH: (u16, &str) = (502, "provider_unreachable");

fn file(base_url: &str, more: &str) -> String {
    format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\ndrain = 10\n[[provider]]\nname = \"openai\"\n\
         kind = \"openai\"\nbase_url = \"{base_url}\"\napi_key = \"provider-key\"\nconnect = 1\n{more}\n"
    )
}

struct Place {
    simulator: Simulator,
    _front: TlsFront,
    proxy: Proxy,
}

async fn place() -> Place {
    let simulator = Simulator::start().await.unwrap();
    let front = TlsFront::start(simulator.address()).await.unwrap();
    let proxy = Proxy::start(front.address(), simulator.address(), Some(ANN)).await.unwrap();
    Place { simulator, _front: front, proxy }
}

async fn app(simulator: Simulator, file: &str) -> App {
    App::start_with(TestDatabase::sqlite().await.unwrap(), simulator, file).await
}

async fn ask(app: &App, stream: bool) -> Answer {
    read(app.send("ann", chat("gpt-test", "[[sim input=100 output=50]]", stream)).await).await
}

/// That nothing is charged and nobody is told an address or a password.
async fn assert_out_of_reach(app: App) {
    let answer = ask(&app, false).await;
    assert_eq!((answer.status, answer.code().as_str()), OUT_OF_REACH, "{}", answer.text);
    assert!(!answer.text.contains("127.0.0.1") && !answer.text.contains("secret"), "{}", answer.text);
    assert_eq!(app.entries("ann").await, []);
    app.end().await;
}

#[tokio::test]
async fn chats_and_streams_go_through_a_tunnel() {
    let Place { simulator, _front, proxy } = place().await;
    let more =
        format!("proxy = \"{}\"\nca_file = \"{}\"", proxy.url(Some("ann:secret")), authority().display());
    let app = app(simulator, &file("https://models.example/v1", &more)).await;
    for stream in [false, true, false] {
        assert_eq!(ask(&app, stream).await.status, 200);
    }
    let entries = app.entries("ann").await;
    assert!(entries.iter().all(|entry| entry.charge == 200_000 && entry.estimated.is_none()), "{entries:?}");
    assert_eq!(entries.len(), 3);
    assert_eq!(proxy.seen(), ["CONNECT models.example:443"], "one tunnel for all");
    app.end().await;
}

#[tokio::test]
async fn plain_requests_are_forwarded() {
    let Place { simulator, _front, proxy } = place().await;
    let network = format!("[network]\nproxy = \"{}\"", proxy.url(Some("ann:secret")));
    let app = app(simulator, &file("http://models.example/v1", &network)).await;
    for stream in [false, true] {
        assert_eq!(ask(&app, stream).await.status, 200);
    }
    assert_eq!(app.entries("ann").await.len(), 2);
    assert_eq!(proxy.seen(), ["POST http://models.example/v1/chat/completions"]);
    app.end().await;
}

#[tokio::test]
async fn this_machine_is_asked_directly() {
    let Place { simulator, _front, proxy } = place().await;
    let network = format!("proxy = \"{}\"", proxy.url(None));
    let base_url = simulator.base_url();
    let app = app(simulator, &file(&base_url, &network)).await;
    assert_eq!(ask(&app, false).await.status, 200);
    assert_eq!(proxy.seen(), [""; 0]);
    app.end().await;
}

#[tokio::test]
async fn what_a_proxy_refuses_never_left() {
    for base_url in ["https://models.example/v1", "http://models.example/v1"] {
        let Place { simulator, _front, proxy } = place().await;
        let more =
            format!("proxy = \"{}\"\nca_file = \"{}\"", proxy.url(Some("ann:guess")), authority().display());
        assert_out_of_reach(app(simulator, &file(base_url, &more)).await).await;
        assert_eq!(proxy.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_proxy_that_is_down_charges_nobody() {
    let Place { simulator, .. } = place().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let more = format!("proxy = \"http://{gone}\"");
    assert_out_of_reach(app(simulator, &file("https://models.example/v1", &more)).await).await;
}

#[tokio::test]
async fn an_unknown_authority_is_not_believed() {
    let Place { simulator, _front, proxy } = place().await;
    // Some authorities, but not this one.
    let machines = "ca_file = \"/etc/ssl/certs/ca-certificates.crt\"";
    let own = format!("proxy = \"{}\"\n", proxy.url(Some("ann:secret")));
    let more = if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        own + machines
    } else {
        own
    };
    assert_out_of_reach(app(simulator, &file("https://models.example/v1", &more)).await).await;
}

/// A handshake that hangs ends with the limit for connecting, long before the one for the first byte.
#[tokio::test]
async fn the_limit_for_connecting_covers_tls() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}/v1", silent.local_addr().unwrap());
    let more = format!("ca_file = \"{}\"", authority().display());
    let app = app(Simulator::start().await.unwrap(), &file(&base_url, &more)).await;
    let began = Instant::now();
    assert_out_of_reach(app).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    drop(silent);
}

/// The same where the limit for the first byte is the shorter one: nothing has left, whichever of them ends it.
#[tokio::test]
async fn nothing_left_while_a_connection_was_made() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}/v1", silent.local_addr().unwrap());
    let more = format!("ca_file = \"{}\"\nfirst_byte = 1", authority().display());
    let file = file(&base_url, &more).replace("connect = 1", "connect = 60");
    assert_out_of_reach(app(Simulator::start().await.unwrap(), &file).await).await;
    drop(silent);
}
