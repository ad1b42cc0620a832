//! HTTP/2: what HTTP/1 promises holds for each request of a connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use serde_json::Value;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::app::{App, chat};

const SOON: Duration = Duration::from_secs(30);
const LONG: &str = "[[sim input=1000 output=20000 chunk=1]]";

fn address(app: &App) -> SocketAddr {
    app.address.strip_prefix("http://").unwrap().parse().unwrap()
}

/// A connection whose client may be sent so many bytes of each answer before it takes any.
async fn connect(app: &App, window: u32) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address(app)).await.unwrap();
    let mut builder = Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(16 * 1024 * 1024);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

async fn get(
    client: &SendRequest<Bytes>,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<Response<RecvStream>, h2::Error> {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut client = client.clone().ready().await?;
    client.send_request(request.body(()).unwrap(), true)?.0.await
}

async fn post(client: &SendRequest<Bytes>, app: &App, user: &str, body: Value) -> Response<RecvStream> {
    let request = Request::post(format!("{}/v1/chat/completions", app.address))
        .header("authorization", "Bearer k")
        .header("x-openwebui-user-id", user)
        .body(())
        .unwrap();
    let mut client = client.clone().ready().await.unwrap();
    let (answer, mut sent) = client.send_request(request, false).unwrap();
    sent.send_data(body.to_string().into(), true).unwrap();
    answer.await.unwrap()
}

/// The rest of an answer, taken as it comes.
async fn rest(body: &mut RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        text.extend_from_slice(&piece);
    }
    Ok(String::from_utf8(text).unwrap())
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let of_http1 = ["transfer-encoding", "connection"];
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.retain(|name| !of_http1.contains(name));
    names.sort_unstable();
    names
}

each_database!(chats_are_as_over_http1, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let client = connect(&app, 65_535).await;
    for stream in [false, true] {
        let directive = "[[sim input=1000 output=50]]";
        let first = app.ask("ann", directive, stream).await;
        let second = post(&client, &app, "bob", chat("gpt-test", directive, stream)).await;
        assert_eq!(second.status(), 200);
        assert_eq!(names(second.headers()), names(&first.headers), "{stream}");
        let text = rest(&mut second.into_body()).await.unwrap();
        assert_eq!(text.len(), first.text.len(), "{text}\n{}", first.text);
    }
    let (ann, bob) = (app.entries("ann").await, app.entries("bob").await);
    assert_eq!((ann.len(), &ann), (2, &bob));
    app.end().await;
});

each_database!(many_chats_of_a_connection_are_each_charged, async |test: TestDatabase| {
    let app = App::start(test, &[("base_credit_allowance", "100000")]).await;
    let client = connect(&app, 65_535).await;
    // From then on it knows how many may be at once.
    get(&client, &format!("{}/healthz", app.address), &[]).await.unwrap();
    let asks = (0..100).map(|number| {
        let (client, app) = (&client, &app);
        async move {
            let body = chat("gpt-test", "[[sim input=1000 output=100]]", number % 2 == 0);
            let mut answer = post(client, app, "ann", body).await;
            assert_eq!(answer.status(), 200);
            // Some leave in the middle.
            if number % 5 > 0 {
                rest(answer.body_mut()).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(asks).await;
    let entries = app.entries("ann").await;
    assert_eq!(entries.len(), 100);
    let complete: Vec<_> = entries.iter().filter(|entry| entry.outcome == "complete").collect();
    assert!(complete.len() >= 80 && complete.iter().all(|entry| entry.charge == 1_200_000), "{entries:?}");
    assert!(entries.iter().all(|entry| entry.charge > 0), "{entries:?}");
    app.end().await;
});

each_database!(who_takes_nothing_of_one_answer_loses_that_one_alone, async |test: TestDatabase| {
    let app = App::with_more(test, &[], "client_idle = 1\n", &[]).await;
    let client = connect(&app, 32 * 1024).await;
    let untaken = post(&client, &app, "ann", chat("gpt-test", LONG, true)).await;
    // While it stands, and after its end, others of the same connection pass.
    let mut body = untaken.into_body();
    let mut came = 0;
    let reset = timeout(SOON, async {
        loop {
            let mut other =
                post(&client, &app, "bob", chat("gpt-test", "[[sim input=10 output=2]]", true)).await;
            assert!(rest(other.body_mut()).await.unwrap().contains("[DONE]"));
            tokio::select! {
                piece = body.data() => match piece.unwrap() {
                    Ok(piece) => came += piece.len(),
                    Err(error) => break error,
                },
                () = std::future::ready(()) => {}
            }
        }
    });
    assert_eq!(reset.await.unwrap().reason(), Some(Reason::CANCEL));
    assert_eq!(came, 32 * 1024);
    let entries = app.entries("ann").await;
    assert_eq!((entries.len(), entries[0].outcome.as_str()), (1, "client_gone"), "{entries:?}");
    assert!(entries[0].output_tokens > 0 && entries[0].charge > 0);
    assert!(app.entries("bob").await.iter().all(|entry| entry.outcome == "complete"));
    app.end().await;
});

each_database!(who_is_not_known_and_takes_nothing_keeps_nobody_out, async |test: TestDatabase| {
    let app = App::with_more(test, &[], "connections = 20\nconnections_per_address = 20\n", &[]).await;
    let mut kept = Vec::new();
    for _ in 0..20 {
        let client = connect(&app, 0).await;
        for path in ["/v1/models", "/healthz", "/nothing"] {
            let answer = get(&client, &format!("{}{path}", app.address), &[]).await.unwrap();
            kept.push((client.clone(), answer));
        }
    }
    let answer = timeout(SOON, app.ask("ann", "", false)).await.unwrap();
    assert_eq!(answer.status, 200);
    app.end().await;
});

each_database!(half_a_request_without_a_key_keeps_nobody_out, async |test: TestDatabase| {
    let app = App::with_more(test, &[], "connections = 20\nconnections_per_address = 20\n", &[]).await;
    let (mut over_http1, mut over_http2) = (Vec::new(), Vec::new());
    for number in 0..40 {
        if number % 2 == 0 {
            let mut stream = TcpStream::connect(address(&app)).await.unwrap();
            let head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{";
            stream.write_all(head.as_bytes()).await.unwrap();
            over_http1.push(stream);
        } else {
            let request = Request::post(format!("{}/v1/messages", app.address)).body(()).unwrap();
            let mut client = connect(&app, 0).await.ready().await.unwrap();
            over_http2.push((client.send_request(request, false).unwrap(), client));
        }
    }
    assert_eq!(app.ask("ann", "", false).await.status, 200);
    app.end().await;
});

each_database!(heads_and_requests_at_once_are_bounded, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let client = connect(&app, 65_535).await;
    let (long, url) = ("x".repeat(20_000), format!("{}/healthz", app.address));
    let refused = get(&client, &url, &[("x-long", &long)]).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);
    let client = connect(&app, 65_535).await;
    assert_eq!(get(&client, &url, &[]).await.unwrap().status(), 200);
    // More than may be at once wait for each other; none is lost.
    let all = (0..60).map(|_| get(&client, &url, &[]));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|answer| answer.as_ref().unwrap().status() == 200));
    assert_eq!(client.current_max_send_streams(), 16);
    app.end().await;
});

#[tokio::test]
async fn without_a_key_the_address_of_a_request_is_looked_at() {
    let file = "[gateway]\nlisten = \"127.0.0.1:0\"\n";
    let (test, simulator) = (TestDatabase::sqlite().await.unwrap(), Simulator::start().await.unwrap());
    let app = App::start_with(test, simulator, file).await;
    let client = connect(&app, 65_535).await;
    let ours = format!("http://localhost:{}/v1/models", address(&app).port());
    let asked = BTreeMap::from([
        (ours.as_str(), 200),
        ("http://evil.example/v1/models", 403),
        ("http://ann@localhost/v1/models", 403),
    ]);
    for (url, status) in asked {
        assert_eq!(get(&client, url, &[]).await.unwrap().status(), status, "{url}");
    }
    let foreign = get(&client, &ours, &[("host", "evil.example")]).await;
    assert!(foreign.is_err() || foreign.unwrap().status() == 403);
    app.end().await;
}

each_database!(a_stream_comes_to_its_end_while_the_gateway_ends, async |test: TestDatabase| {
    let app = App::start(test, &[]).await;
    let client = connect(&app, 65_535).await;
    let mut answer = post(&client, &app, "ann", chat("gpt-test", LONG, true)).await;
    let (meter, ended) = (app.meter.clone(), app.end());
    let text = tokio::join!(ended, rest(answer.body_mut())).1.unwrap();
    assert!(text.contains("[DONE]"), "{}", text.len());
    assert_eq!(meter.under_way(), 0);
});

/// The first bytes say how a client speaks, however they come.
#[tokio::test]
async fn the_first_bytes_may_come_one_by_one() {
    let app = App::start(TestDatabase::sqlite().await.unwrap(), &[]).await;
    let mut stream = TcpStream::connect(address(&app)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"POST /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let mut stream = TcpStream::connect(address(&app)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (ours, mut theirs) = tokio::io::duplex(1);
    TaskTracker::new().spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut theirs).await });
    let (client, connection) = h2::client::handshake(ours).await.unwrap();
    TaskTracker::new().spawn(connection);
    let answer = get(&client, &format!("{}/healthz", app.address), &[]).await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(client);
    app.end().await;
}
