//! A kind of server that nobody has, to show all that adding one takes: its conversions, and an entry.

use accounting::Usage;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::answer::{Reported, StreamEvent, What};
use crate::chunk::{self, Choice, ChunkWriter};
use crate::conversation::{Content, Conversation, Message};
use crate::error::{self, safe_words};
use crate::failure::Failure;
use crate::framing::Event;
use crate::protocol::{Conversion, ended_too_soon};
use crate::registry::Entry;
use crate::room::Uncounted;

/// Parrots say back what they hear, in lines of JSON.
static PARROT: Entry = Entry {
    name: "parrot",
    provider: "parrot",
    base_url: "",
    key_variable: "PARROT_KEY",
    needs_key: false,
    by_environment: None,
    key_header: KeyHeader::Named("x-seed"),
    headers: &[("x-cage", "open")],
    open: |setup| Ok(Box::new(Parrot { say: setup.route("say")?, names: setup.route("names")? })),
};

#[derive(Debug)]
struct Parrot {
    say: http::Uri,
    names: http::Uri,
}

#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    word: String,
    #[serde(default)]
    heard: Option<u64>,
}

impl Protocol for Parrot {
    fn chat(&self, request: &ChatRequest) -> Result<Outgoing, BadRequest> {
        let chat = Conversation::read(request.body())?;
        let texts = chat.messages.iter().flat_map(|message| match message {
            Message::User(parts) => parts.as_slice(),
            _ => &[],
        });
        let texts: Vec<&str> = texts
            .filter_map(|part| match part.what {
                Content::Text(text) => Some(text),
                _ => None,
            })
            .collect();
        let omitted = if request.body().contains_key("seed") { vec!["seed".to_owned()] } else { Vec::new() };
        Ok(Outgoing::json(self.say.clone(), &json!({"texts": texts, "lines": request.stream()}))?
            .omitting(omitted))
    }

    fn answer(&self, _: &ChatRequest, asked: &Asked, body: Bytes) -> Result<Complete, ProviderError> {
        let said: Said = serde_json::from_slice(&body)
            .map_err(|_| ProviderError::BadAnswer { what: "not a parrot's JSON" })?;
        let message = json!({"role": "assistant", "content": said.word});
        let choice = Choice { message, reason: "stop".into(), logprobs: None };
        let usage = said.heard.map(|heard| Usage::tokens(heard, 1));
        Ok(chunk::complete("parrot-1", asked, None, vec![choice], usage, said.word))
    }

    fn framing(&self) -> Framing {
        Framing::Ndjson
    }

    fn conversion(&self, _: &ChatRequest, asked: Asked) -> Box<dyn Conversion> {
        Box::new(Chatter { writer: ChunkWriter::new("parrot-1", asked.created, &asked.model), ended: false })
    }

    fn error(&self, body: &[u8]) -> Failure {
        Failure { message: Some(safe_words(&String::from_utf8_lossy(body))), ..Failure::default() }
    }

    fn embeddings(&self, _: &EmbeddingsRequest) -> Result<Outgoing, BadRequest> {
        Err(BadRequest::new("parrots embed nothing", Some("model".into())))
    }

    fn embeddings_answer(
        &self,
        _: &EmbeddingsRequest,
        _: &Asked,
        _: Bytes,
    ) -> Result<Complete, ProviderError> {
        Err(ProviderError::BadAnswer { what: "parrots embed nothing" })
    }

    fn models(&self) -> Outgoing {
        Outgoing::get(self.names.clone())
    }

    fn models_answer(&self, body: &[u8]) -> Result<Vec<ModelId>, ProviderError> {
        let names: Vec<String> =
            serde_json::from_slice(body).map_err(|_| ProviderError::BadAnswer { what: "no names" })?;
        Ok(names.into_iter().filter_map(|name| ModelId::new(name).ok()).collect())
    }
}

struct Chatter {
    writer: ChunkWriter,
    ended: bool,
}

impl Conversion for Chatter {
    fn event(&mut self, event: Event, out: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let Some(data) = event.data else { return Ok(()) };
        let said: Said = serde_json::from_slice(&data)
            .map_err(|_| ProviderError::Broken { what: "half a line".into() })?;
        match said.heard {
            None => out.push(self.writer.delta(0, &json!({"content": said.word}), said.word)),
            Some(heard) => {
                self.ended = true;
                out.push(self.writer.finish(0, "stop"));
                out.push(self.writer.usage(Reported::Final(Usage::tokens(heard, 2))));
                out.push(StreamEvent::done());
            }
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        if self.ended { Ok(()) } else { Err(ended_too_soon()) }
    }
}

/// A server that answers one connection with that head and body, and gives back what it was sent.
async fn server(head: &'static str, body: &'static str) -> (Url, tokio::sync::oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bird/", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        // The requests of this test end with the last brace of their body, or with the head of a GET.
        while !(heard.ends_with(b"}") || heard.starts_with(b"GET") && heard.ends_with(b"\r\n\r\n")) {
            let count = stream.read(&mut piece).await.unwrap();
            heard.extend_from_slice(&piece[..count]);
        }
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = sender.send(String::from_utf8(heard).unwrap());
    };
    tokio_util::task::TaskTracker::new().spawn(serve);
    (url, receiver)
}

fn parrot(base_url: Url) -> Provider {
    Provider::new(ProviderConfig {
        name: ProviderName::new("parrot").unwrap(),
        kind: Kind(&PARROT),
        base_url,
        api_key: Some(Secret::new("nuts")),
        limits: TimeLimits::default(),
        options: ProviderOptions::default(),
        network: Network::default(),
    })
    .unwrap()
}

fn request(stream: bool) -> ChatRequest {
    let body = json!({"model": "polly", "seed": 7, "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    ChatRequest::parse(body.to_string().into()).unwrap()
}

#[tokio::test]
async fn a_kind_of_its_own_answers_whole() {
    let date =
        "200 OK\r\ncontent-type: application/json\r\ndate: Wed, 25 Nov 2026 03:00:00 GMT\r\nx-request-id: r1";
    let (url, heard) = server(date, r#"{"word":"hello","heard":3}"#).await;
    let Answer::Complete(complete) = parrot(url).chat(&request(false), &mut Uncounted).await.unwrap() else {
        panic!("a stream")
    };
    assert_eq!(complete.usage, Some(Usage::tokens(3, 1)));
    assert_eq!((complete.omitted, complete.request_id.as_deref()), (vec!["seed".to_owned()], Some("r1")));
    let body: Value = serde_json::from_slice(&complete.body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "hello");
    assert_eq!((&body["created"], &body["model"]), (&json!(1_795_575_600), &json!("polly")));
    let heard = heard.await.unwrap();
    assert!(
        heard.starts_with("POST /bird/say HTTP/1.1\r\n") && heard.contains("\r\nx-seed: nuts\r\n"),
        "{heard}"
    );
    assert!(
        heard.contains("\r\nx-cage: open\r\n") && heard.ends_with(r#"{"texts":["hello"],"lines":false}"#),
        "{heard}"
    );
}

#[tokio::test]
async fn a_kind_of_its_own_streams() {
    let lines = "{\"word\":\"hel\"}\n{\"word\":\"lo\"}\n{\"heard\":3}\n";
    let (url, _heard) = server("200 OK\r\ncontent-type: application/x-ndjson", lines).await;
    let Answer::Stream(mut events) = parrot(url).chat(&request(true), &mut Uncounted).await.unwrap() else {
        panic!("not streamed")
    };
    let (mut text, mut usage) = (String::new(), None);
    while let Some(event) = events.next().await {
        if let What::Chunk(chunk) = event.unwrap().what {
            text.push_str(&chunk.produced);
            usage = usage.or(chunk.usage);
        }
    }
    assert_eq!((text.as_str(), usage), ("hello", Some(Reported::Final(Usage::tokens(3, 2)))));
    assert!(events.is_done());
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_answer() {
    let (url, _heard) = server("200 OK\r\ncontent-type: application/x-ndjson", "{\"word\":\"hel\"}\n").await;
    let Answer::Stream(events) = parrot(url).chat(&request(true), &mut Uncounted).await.unwrap() else {
        panic!("not streamed")
    };
    let ends: Vec<bool> = events.map(|event| event.is_ok()).collect().await;
    assert_eq!(ends, [true, false]);
}

#[tokio::test]
async fn its_errors_and_its_models() {
    let (url, _heard) = server("418 I'm a teapot", "no, sk-123 is my key").await;
    let refused = parrot(url).chat(&request(false), &mut Uncounted).await.unwrap_err();
    let said = error::Said { words: Some("no, *** is my key".into()), ..error::Said::default() };
    assert_eq!(refused, ProviderError::Rejected { status: 418, said });
    let (url, _heard) = server("200 OK\r\ncontent-type: application/json", r#"["polly"]"#).await;
    assert_eq!(parrot(url).models().await.unwrap(), [ModelId::new("polly").unwrap()]);
    let native =
        ChatRequest::parse_as(Shape::Responses, Bytes::from_static(b"{\"model\":\"m\",\"input\":\"x\"}"))
            .unwrap();
    let unsupported =
        parrot("http://localhost".parse().unwrap()).chat(&native, &mut Uncounted).await.unwrap_err();
    assert!(matches!(unsupported, ProviderError::Unsupported(_)), "{unsupported}");
}

#[tokio::test]
async fn vectors_that_went_wrong_were_made() {
    let asks = || EmbeddingsRequest::parse(Bytes::from_static(b"{\"model\":\"m\",\"input\":\"x\"}")).unwrap();
    let json = "200 OK\r\ncontent-type: application/json; charset=utf-8";
    for (kind, head, body, broken) in [
        (Kind::OPENAI, json, r#"{"object":"list"}"#, true),
        (Kind::OPENAI, "200 OK\r\ncontent-type: APPLICATION/JSON", r#"{"da"#, true),
        (Kind::GOOGLE, json, r#"{"embeddings":[]}"#, true),
        (Kind::MISTRAL, json, "{}", true),
        (Kind::OLLAMA, json, "{}", true),
        (Kind::OPENAI, "200 OK\r\ncontent-type: text/html", "<html>", false),
        (Kind::OPENAI, "200 OK\r\ncontent-type: text/plain", "hello", false),
    ] {
        let (base_url, _heard) = server(head, body).await;
        let provider = Provider::new(ProviderConfig {
            name: ProviderName::new("p").unwrap(),
            kind,
            base_url,
            api_key: Some(Secret::new("key")),
            limits: TimeLimits::default(),
            options: ProviderOptions::default(),
            network: Network::default(),
        });
        let error = provider.unwrap().embeddings(&asks(), &mut Uncounted).await.unwrap_err();
        assert_eq!(matches!(error, ProviderError::Unreadable { .. }), broken, "{kind:?} {body}: {error:?}");
    }
}

fn configured(options: ProviderOptions) -> Result<Provider, String> {
    let provider = Provider::new(ProviderConfig {
        name: ProviderName::new("p").unwrap(),
        kind: Kind::ANTHROPIC,
        base_url: "http://localhost".parse().unwrap(),
        api_key: Some(Secret::new("key")),
        limits: TimeLimits::default(),
        options,
        network: Network::default(),
    });
    provider.map_err(|error| error.what)
}

#[test]
fn no_configuration_sets_a_header_of_ours() {
    let with = |names: &[&str], value: &str| {
        let headers = names.iter().map(|name| ((*name).to_owned(), Secret::new(value))).collect();
        configured(ProviderOptions { headers, ..ProviderOptions::default() }).err().unwrap_or_default()
    };
    assert_eq!(with(&["X-Team", "anthropic-beta"], "a, b; c=\"d\""), "");
    let ours =
        ["Authorization", "HOST", "content-length", "transfer-encoding", "x-api-key", "anthropic-version"];
    for name in ours.into_iter().chain(OUR_HEADERS) {
        assert!(with(&[name], "secret").contains("sets it itself"), "{name}");
    }
    for (names, value) in
        [(&["X Team"][..], "secret"), (&["x-team"], "sec\nret"), (&["x-team", "X-Team"], "secret")]
    {
        let why = with(names, value);
        assert!(why.contains("headers") && !why.contains("sec"), "{why}");
    }
}
