//! A model server that answers each request with the bytes that a test makes of it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::app::App;
use testing::databases::TestDatabase;
use testing::simulator::Simulator;

/// What it answers: a head without its line ends, and the pieces of the body.
pub struct Scripted {
    pub head: String,
    pub pieces: Vec<Bytes>,
}

/// A running server; ends when dropped.
pub struct ScriptedServer {
    pub base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// A piece of a body goes out for each permit.
    pub pieces: Arc<Semaphore>,
    _running: DropGuard,
}

impl Scripted {
    pub fn new(head: &str, body: impl Into<Bytes>) -> Self {
        Self { head: head.into(), pieces: vec![body.into()] }
    }

    pub fn json(body: &serde_json::Value) -> Self {
        Self::new("200 OK\r\ncontent-type: application/json", body.to_string())
    }

    pub fn stream(chunks: &[serde_json::Value]) -> Self {
        let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        Self::new("200 OK\r\ncontent-type: text/event-stream", events + "data: [DONE]\n\n")
    }
}

impl ScriptedServer {
    /// Starts one; `answer` gets each request as text, head and body.
    pub async fn start(answer: impl Fn(&str) -> Scripted + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (requests, pieces) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Semaphore::new(1_000_000)));
        let (end, answer) = (CancellationToken::new(), Arc::new(answer));
        let (heard, released, ended) = (Arc::clone(&requests), Arc::clone(&pieces), end.clone());
        TaskTracker::new().spawn(async move {
            loop {
                let (mut stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = ended.cancelled() => return,
                };
                let (heard, released, answer) =
                    (Arc::clone(&heard), Arc::clone(&released), Arc::clone(&answer));
                TaskTracker::new().spawn(async move {
                    let Some(request) = read(&mut stream).await else { return };
                    let Scripted { head, pieces } = answer(&request);
                    heard.lock().unwrap().push(request);
                    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
                    let _ = stream.write_all(head.as_bytes()).await;
                    for piece in pieces {
                        released.acquire().await.unwrap().forget();
                        if stream.write_all(&piece).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { base_url, requests, pieces, _running: end.drop_guard() }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// A gateway in front of it, with more in its table `[[provider]]` and in `[gateway]`.
    pub async fn gateway(&self, test: TestDatabase, provider: &str, gateway: &str) -> App {
        let file = format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\ndrain = 10\n{gateway}\n\
             [[provider]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"{}\"\napi_key = \"provider-key\"\n{provider}\n",
            self.base_url
        );
        App::start_with(test, Simulator::start().await.unwrap(), &file).await
    }
}

/// A whole request, if one comes.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text.into_owned());
        }
    }
}
