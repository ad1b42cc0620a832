//! A model server that sends what a test says, to the byte, and when the test says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// What it does next.
#[derive(Debug, Clone)]
pub enum Step {
    Send(String),
    /// Waits for the test's word.
    Wait,
    /// Closes the connection without the end of the body.
    Break,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Script {
    pub content_type: &'static str,
    pub steps: Vec<Step>,
}

impl Script {
    /// JSON.
    pub fn whole(body: &str) -> Self {
        Self { content_type: "application/json", steps: vec![Step::Send(body.into())] }
    }

    /// Events, all at once.
    pub fn streamed(body: &str) -> Self {
        Self { content_type: "text/event-stream", steps: vec![Step::Send(body.into())] }
    }

    /// Events, and then the connection is gone.
    pub fn broken(body: &str) -> Self {
        Self { content_type: "text/event-stream", steps: vec![Step::Send(body.into()), Step::Break] }
    }

    /// Events, each of them at the test's word.
    pub fn at_word(events: &[&str]) -> Self {
        let steps = events.iter().flat_map(|event| [Step::Wait, Step::Send((*event).to_owned())]).collect();
        Self { content_type: "text/event-stream", steps }
    }
}

/// The server: it knows each answer by the model that is asked.
pub struct Staged {
    pub address: String,
    scripts: Arc<Mutex<HashMap<String, Script>>>,
    words: Arc<Semaphore>,
    _end: DropGuard,
}

impl Staged {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (scripts, words) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (known, said, ended) = (Arc::clone(&scripts), Arc::clone(&words), end.clone());
        let connections = tasks.clone();
        tasks.spawn(async move {
            let serving = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.spawn(answer(stream, Arc::clone(&known), Arc::clone(&said)));
                }
            };
            ended.run_until_cancelled(serving).await;
        });
        Self { address, scripts, words, _end: end.drop_guard() }
    }

    /// What it answers to requests for that model.
    pub fn set(&self, model: &str, script: Script) {
        self.scripts.lock().unwrap().insert(model.into(), script);
    }

    /// Says the word.
    pub fn go_on(&self) {
        self.words.add_permits(1);
    }

    /// The configuration of providers of those kinds, all of them this server, each named as its kind.
    pub fn providers(&self, kinds: &[&str]) -> String {
        let table = |kind: &&str| {
            let path = if *kind == "openai" || *kind == "groq" || *kind == "mistral" { "/v1" } else { "" };
            format!(
                "[[provider]]\nname = \"{kind}\"\nkind = \"{kind}\"\nbase_url = \"http://{}{path}\"\napi_key = \"k\"\n",
                self.address
            )
        };
        kinds.iter().map(table).collect()
    }
}

async fn answer(mut stream: TcpStream, scripts: Arc<Mutex<HashMap<String, Script>>>, words: Arc<Semaphore>) {
    let Some(request) = request(&mut stream).await else { return };
    let script = {
        let scripts = scripts.lock().unwrap();
        // Google's models stand in the path.
        let names = |model: &str| {
            request.contains(&format!("\"model\":\"{model}\""))
                || request.contains(&format!("/models/{model}:"))
        };
        scripts.iter().find(|(model, _)| names(model)).map(|(_, script)| script.clone())
    };
    let Some(script) = script else { return };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        script.content_type
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for step in script.steps {
        match step {
            Step::Wait => words.acquire().await.unwrap().forget(),
            Step::Break => return,
            Step::Send(text) if text.is_empty() => {}
            Step::Send(text) => {
                let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                // The gateway may have gone.
                if stream.write_all(chunk.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
}

/// A request with its body, as text.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or_default() {
            return Some(text);
        }
    }
}
