//! Answers of real servers, to the byte (`dialects.toml`): each is charged as its server means it, and its client reads what
//! it would read there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
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
    none: Vec<NoCase>,
}

/// Why there is no case of a fault in some places.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoCase {
    fault: String,
    /// Words of places: a place that has all words of one of these.
    at: Vec<String>,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    fault: String,
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

fn file() -> File {
    toml::from_str(include_str!("dialects.toml")).unwrap()
}

/// Where a fault may occur: each route, whole and streamed, of each kind of provider that has it.
fn places() -> Vec<String> {
    let chats: &[&str] = &["openai", "anthropic", "google", "mistral", "ollama"];
    let routes: [(&str, &[&str], &[&str]); 5] = [
        ("chat", &["whole", "streamed"], chats),
        ("completions", &["whole", "streamed"], &["openai"]),
        ("responses", &["whole", "streamed"], &["openai"]),
        ("messages", &["whole", "streamed"], &["anthropic"]),
        ("embeddings", &["whole"], &["openai", "google", "mistral", "ollama"]),
    ];
    let mut places = Vec::new();
    for (route, ways, kinds) in routes {
        for way in ways {
            places.extend(kinds.iter().map(|kind| format!("{route} {way} {kind}")));
        }
    }
    places
}

impl Case {
    fn provider(&self) -> ProviderName {
        ProviderName::new(format!("some-{}", self.kind)).unwrap()
    }

    /// As [`places`] has it.
    fn place(&self) -> String {
        let route = self.path.strip_prefix("/v1/").unwrap().replace("chat/completions", "chat");
        let own = ["anthropic", "google", "mistral", "ollama"];
        // All others speak as OpenAI does.
        let kind = own.into_iter().find(|own| *own == self.kind).unwrap_or("openai");
        format!("{route} {} {kind}", if self.stream { "streamed" } else { "whole" })
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
            "/v1/completions" => json!({"model": self.model, "prompt": text, "stream": self.stream}),
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
    let cases = Arc::new(file().case);
    let server = serve(Arc::clone(&cases)).await;
    let app = start(test, &cases, &server.base_url).await;
    let mut wrong = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let user = format!("user-{number}");
        let answer = read(app.post(&case.path, &user, case.request(), &[]).await).await;
        let text = answer.text;
        let mut faults = case.faults(&text, &app.entries(&user).await);
        if let Some(id) = answer.headers.get("x-tracking-request").filter(|_| case.adjusted) {
            let path = format!("/local/requests/{}", id.to_str().unwrap());
            let request = app.call(Method::GET, &path, "k", Value::Null).await;
            if request.json()["adjusted"] != true {
                faults.push(format!("the local routes say: {}", request.text));
            }
        }
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

#[test]
fn each_fault_has_a_case_or_a_reason_on_each_route_of_each_provider() {
    let File { case: cases, none } = file();
    let mut faults: Vec<&str> = cases.iter().map(|case| case.fault.as_str()).collect();
    faults.sort_unstable();
    faults.dedup();
    let (mut table, mut holes, mut used) = (String::new(), Vec::new(), vec![false; none.len()]);
    for fault in faults {
        table.push_str(&format!("{fault}\n"));
        for place in places() {
            let covers = |case: &&Case| case.fault == fault && case.place() == place;
            let names: Vec<&str> = cases.iter().filter(covers).map(|case| case.name.as_str()).collect();
            let is_there = |at: &String| at.split(' ').all(|word| place.split(' ').any(|part| part == word));
            let reason = none.iter().position(|none| none.fault == fault && none.at.iter().any(is_there));
            let cell = match (names.is_empty(), reason) {
                (false, _) => names.join("; "),
                (true, Some(reason)) => {
                    used[reason] = true;
                    format!("({})", none[reason].why)
                }
                (true, None) => {
                    holes.push(format!("{fault}: {place}"));
                    String::new()
                }
            };
            table.push_str(&format!("  {place}: {cell}\n"));
        }
    }
    assert!(holes.is_empty(), "neither a case nor a reason: {holes:#?}");
    let idle: Vec<&NoCase> = none.iter().zip(used).filter(|(_, used)| !used).map(|(none, _)| none).collect();
    assert!(idle.is_empty(), "reasons for nothing: {idle:#?}");
    insta::assert_snapshot!("table", table);
}
