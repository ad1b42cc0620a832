//! Answers of real servers, to the byte (`dialects.toml`): each is charged as its server means it, and its client reads what
//! it would read there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use providers::{Kind, Network, Provider, ProviderConfig, ProviderOptions, Secret, TimeLimits};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{App, Entry, read};
use crate::scripted::{Scripted, ScriptedServer};

/// Cases that are not right yet.
const NOT_YET: &[&str] = &[];

#[derive(Debug, Deserialize)]
struct File {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[expect(dead_code, reason = "for who reads the file")]
    what: String,
    kind: String,
    #[serde(default = "chat_completions")]
    path: String,
    /// Its own, so that the model server knows what to answer.
    model: String,
    #[serde(default)]
    stream: bool,
    price: BTreeMap<String, i64>,
    content_encoding: Option<String>,
    refuses: Option<String>,
    #[serde(default)]
    breaks_off: bool,
    charge: Option<String>,
    /// Whether its report contradicts itself.
    #[serde(default)]
    adjusted: bool,
    reads: Option<String>,
    never_reads: Option<String>,
    #[serde(default)]
    body: String,
    base64: Option<String>,
}

fn chat_completions() -> String {
    "/v1/chat/completions".into()
}

fn cases() -> Vec<Case> {
    toml::from_str::<File>(include_str!("dialects.toml")).unwrap().case
}

impl Case {
    fn provider(&self) -> ProviderName {
        ProviderName::new(format!("some-{}", self.kind)).unwrap()
    }

    fn new_price(&self) -> NewPrice {
        let rate = |name: &str| {
            let credits = Credits::from_whole(*self.price.get(name)?).unwrap();
            Some(Rate::new(credits, 1_000_000))
        };
        let price = Price {
            cached_input: rate("cached_input"),
            cache_write: rate("cache_write"),
            input_audio: rate("input_audio"),
            images: rate("images"),
            ..Price::new(rate("input").unwrap(), rate("output").unwrap())
        };
        NewPrice {
            provider: self.provider(),
            model: ModelId::new(self.model.as_str()).unwrap(),
            name: self.model.clone(),
            price,
            max_output_tokens: Some(16_000),
            context_tokens: None,
        }
    }

    fn request(&self) -> Value {
        let text = "Say hello.";
        match self.path.as_str() {
            "/v1/embeddings" => json!({"model": self.model, "input": text}),
            "/v1/responses" => json!({"model": self.model, "input": text, "stream": self.stream}),
            "/v1/messages" => json!({"model": self.model, "max_tokens": 8000, "stream": self.stream,
                "messages": [{"role": "user", "content": text}]}),
            _ => json!({"model": self.model, "stream": self.stream,
                "messages": [{"role": "user", "content": text}]}),
        }
    }

    /// What the model server says to that request.
    fn answer(&self, request: &str) -> Scripted {
        if let Some(field) = self.refuses.as_ref().filter(|field| request.contains(field.as_str())) {
            let error = json!({"error": {"message": format!("Extra inputs are not permitted: {field}")}});
            let error = error.to_string();
            let head = "400 Bad Request\r\ncontent-type: application/json";
            return Scripted::new(&format!("{head}\r\ncontent-length: {}", error.len()), error);
        }
        let kind = if self.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        let mut head = format!("200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked");
        if let Some(coding) = &self.content_encoding {
            head.push_str(&format!("\r\ncontent-encoding: {coding}"));
        }
        let body = match &self.base64 {
            Some(base64) => STANDARD.decode(base64).unwrap(),
            None => self.body.clone().into_bytes(),
        };
        let begin = format!("{:x}\r\n", body.len());
        let end: &[u8] = if self.breaks_off { b"\r\n" } else { b"\r\n0\r\n\r\n" };
        Scripted::new(&head, [begin.as_bytes(), &body, end].concat())
    }

    /// What is wrong with how it went, if anything.
    fn faults(&self, text: &str, entries: &[Entry]) -> Vec<String> {
        let mut faults = Vec::new();
        let charged: i64 = entries.iter().map(|entry| entry.charge).sum();
        let is_adjusted = entries.iter().any(|entry| entry.adjusted == 1);
        if (is_adjusted, text.contains("\"adjusted\":true")) != (self.adjusted, self.adjusted) {
            faults.push(format!("adjusted: {is_adjusted}"));
        }
        if let Some(right) = &self.charge {
            let right = right.parse::<Credits>().unwrap().micro();
            if (charged - right).abs() * 1000 > right * 6 {
                faults.push(format!("charged {charged} microcredits instead of {right}"));
            }
        }
        if let Some(words) = self.reads.as_ref().filter(|words| !text.contains(words.as_str())) {
            faults.push(format!("the client does not read `{words}`"));
        }
        if let Some(words) = self.never_reads.as_ref().filter(|words| text.contains(words.as_str())) {
            faults.push(format!("the client reads `{words}`"));
        }
        faults
    }
}

/// A model server that knows each case by its model.
async fn serve(cases: Arc<Vec<Case>>) -> ScriptedServer {
    ScriptedServer::start(move |request| {
        let names = |case: &&Case| {
            let (in_body, in_path) = (format!("\"{}\"", case.model), format!("/{}:", case.model));
            request.contains(&in_body) || request.contains(&in_path)
        };
        match cases.iter().find(names) {
            Some(case) => case.answer(request),
            None => Scripted::new("404 Not Found\r\ncontent-length: 0", ""),
        }
    })
    .await
}

async fn start(test: TestDatabase, cases: &[Case], base_url: &str) -> App {
    let limit = Duration::from_secs(30);
    let mut kinds: Vec<(ProviderName, &str)> =
        cases.iter().map(|case| (case.provider(), case.kind.as_str())).collect();
    kinds.sort();
    kinds.dedup();
    let provider = |(name, kind): (ProviderName, &str)| {
        Provider::new(ProviderConfig {
            name,
            kind: kind.parse::<Kind>().unwrap(),
            base_url: base_url.parse().unwrap(),
            api_key: Some(Secret::new("provider-key")),
            limits: TimeLimits { connect: limit, first_byte: limit, idle: limit },
            options: ProviderOptions::default(),
            network: Network::default(),
        })
        .unwrap()
    };
    let providers: Vec<Provider> = kinds.into_iter().map(provider).collect();
    let settings = [("base_credit_allowance", "1000000"), ("hold_wait", "0")];
    let app = App::with_more(test, &settings, "", &providers).await;
    let models: Vec<NewPrice> = cases.iter().map(Case::new_price).collect();
    let now = SystemClock.now();
    prices::write(&app.database, &models, Write::Upsert, Source::Administrator, now).await.unwrap();
    app.fresh_catalogue().await;
    app
}

each_database!(each_answer_is_charged_and_read_as_its_server_means_it, async |test: TestDatabase| {
    let cases = Arc::new(cases());
    let server = serve(Arc::clone(&cases)).await;
    let app = start(test, &cases, &server.base_url).await;
    let mut wrong = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let user = format!("user-{number}");
        let text = read(app.post(&case.path, &user, case.request(), &[]).await).await.text;
        let faults = case.faults(&text, &app.entries(&user).await);
        if !faults.is_empty() {
            wrong.insert(case.name.as_str(), format!("{}: {text}", faults.join(", ")));
        }
    }
    for (name, faults) in &wrong {
        println!("{name}: {faults}");
    }
    let wrong: Vec<&str> = wrong.into_keys().collect();
    assert_eq!(wrong, NOT_YET, "cases that are not right, and those that are not expected to be");
    app.end().await;
});
