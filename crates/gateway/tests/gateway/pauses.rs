//! The whole process stands still for longer than a model server may be silent: stopped by its host, or by a suspended machine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use accounting::ProviderName;
use http_body_util::BodyExt;
use providers::{Kind, Network, Provider, ProviderConfig, ProviderOptions, TimeLimits};
use serde_json::json;
use testing::databases::TestDatabase;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::app::{App, SILENCE, chat, read};
use crate::errors::price;

const HEAD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: ";

/// A model server on a thread of its own, which goes on while this process stands still.
struct Apart {
    url: String,
    /// It has sent the first part of an answer.
    begun: UnboundedReceiver<()>,
    go_on: mpsc::Sender<()>,
    /// It has sent the rest.
    sent: mpsc::Receiver<()>,
}

impl Apart {
    /// It answers each request with these two parts.
    fn start(first: String, rest: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (has_begun, begun) = unbounded_channel();
        let (go_on, goes_on) = mpsc::channel();
        let (has_sent, sent) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream);
            stream.write_all(first.as_bytes()).unwrap();
            has_begun.send(()).unwrap();
            goes_on.recv().unwrap();
            stream.write_all(rest.as_bytes()).unwrap();
            drop(stream);
            has_sent.send(()).unwrap();
        });
        Self { url, begun, go_on, sent }
    }

    /// This process stands still while the rest comes, and for longer than a server may be silent.
    fn stand_still(&self) {
        self.go_on.send(()).unwrap();
        self.sent.recv().unwrap();
        std::thread::park_timeout(2 * SILENCE);
    }

    /// A gateway in front of it, which bears its silence for [`SILENCE`].
    async fn gateway(&self) -> App {
        let provider = Provider::new(ProviderConfig {
            name: ProviderName::new("apart").unwrap(),
            kind: Kind::OPENAI,
            base_url: self.url.parse().unwrap(),
            api_key: None,
            limits: TimeLimits { connect: SILENCE, first_byte: SILENCE, idle: SILENCE },
            options: ProviderOptions::default(),
            network: Network::default(),
        });
        let test = TestDatabase::sqlite().await.unwrap();
        let app = App::with_more(test, &[], "", &[provider.unwrap()]).await;
        price(&app, &[("apart", "m".into())]).await;
        app
    }
}

fn read_request(stream: &mut TcpStream) {
    let (mut request, mut piece) = (String::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece).unwrap();
        request.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse().unwrap() {
            return;
        }
    }
}

/// The two parts of a whole answer: its head, or its head and a half of its body, and the rest.
fn whole(half: bool) -> (String, String) {
    let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "All is well."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}});
    let mut whole = format!("{HEAD}application/json\r\n\r\n{answer}");
    let rest = whole.split_off(if half { whole.len() - 40 } else { 0 });
    (whole, rest)
}

/// What a charge of 7 tokens in and 5 out looks like.
async fn assert_charged(app: &App) {
    let entries = app.entries("ann").await;
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!((entry.outcome.as_str(), entry.input_tokens, entry.output_tokens), ("complete", 7, 5));
}

#[tokio::test]
async fn what_came_while_the_process_stood_still_counts_before_its_patience_in_streams() {
    let chunk = |rest: &str| format!("data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[{rest}\n\n");
    let first = chunk(r#"{"index":0,"delta":{"content":"All is"}}]}"#);
    let second = chunk(r#"{"index":0,"delta":{"content":" well."},"finish_reason":"stop"}]}"#);
    let usage = chunk(r#"],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#);
    let mut server = Apart::start(
        format!("{HEAD}text/event-stream\r\n\r\n{first}"),
        format!("{second}{usage}data: [DONE]\n\n"),
    );
    let app = server.gateway().await;
    let mut response = app.send("ann", chat("m", "", true)).await;
    let begun = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(begun.ends_with(first.as_bytes()));
    server.begun.recv().await.unwrap();
    server.stand_still();
    let rest = read(response).await.text;
    assert!(
        rest.contains(" well.") && rest.contains("\"credits\"") && rest.ends_with("[DONE]\n\n"),
        "{rest}"
    );
    assert_charged(&app).await;
    app.end().await;
}

#[tokio::test]
async fn what_came_while_the_process_stood_still_counts_before_its_patience_in_whole_answers() {
    for half in [false, true] {
        let (first, rest) = whole(half);
        let mut server = Apart::start(first, rest);
        let app = server.gateway().await;
        let asking = app.send("ann", chat("m", "", false));
        let standing = async {
            server.begun.recv().await.unwrap();
            server.stand_still();
        };
        let (response, ()) = futures_util::join!(asking, standing);
        let answer = read(response).await;
        assert_eq!(answer.status, 200, "{half}: {}", answer.text);
        assert!(answer.text.contains("All is well."), "{half}: {}", answer.text);
        assert_charged(&app).await;
        app.end().await;
    }
}
