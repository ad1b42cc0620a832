//! Bodies that nobody would write, over real sockets and on all routes: no panic, no error of ours, no broken connection, and
//! right books afterwards.
//!
//! The same seed gives the same bodies. `MUTATED_BODIES` says how many there are (2,000 without it), `MUTATED_SEED` which.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use accounting::{Clock as _, Credits, ModelId, Price, ProviderName, Rate};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use providers::Kind;
use serde_json::{Map, Value, json};
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::App;

/// A server of each protocol, with a model of it.
const MODELS: [(Kind, &str); 5] = [
    (Kind::OPENAI, "gpt-test"),
    (Kind::ANTHROPIC, "claude-sonnet-4-5"),
    (Kind::GOOGLE, "gemini-2.5-flash"),
    (Kind::MISTRAL, "mistral-large-latest"),
    (Kind::OLLAMA, "llama3.2"),
];

/// What Open WebUI hands to a pipe; the pipe sends its body.
pub const OPEN_WEBUI: [&str; 4] = [
    include_str!("../../../../python/tests/pipes/calls/pipe_base_api_stream.json"),
    include_str!("../../../../python/tests/pipes/calls/pipe_base_browser.json"),
    include_str!("../../../../python/tests/pipes/calls/pipe_thin_browser.json"),
    include_str!("../../../../python/tests/pipes/calls/pipe_task_title_generation_thin.json"),
];

/// Fields and texts that mean something somewhere.
const NAMES: [&str; 44] = [
    "model",
    "Model",
    "messages",
    "input",
    "type",
    "Type",
    "role",
    "content",
    "id",
    "name",
    "tools",
    "tool_calls",
    "function",
    "arguments",
    "n",
    "N",
    "stream",
    "stream_options",
    "max_tokens",
    "Max_Tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "service_tier",
    "\u{17f}ervice_tier",
    "reasoning",
    "reasoning_effort",
    "thinking",
    "budget_tokens",
    "response_format",
    "options",
    "generationConfig",
    "cachedContent",
    "file_id",
    "source",
    "data",
    "image_url",
    "system",
    "user",
    "metadata",
    "usage",
    "$serde_json::private::RawValue",
    "$serde_json::private::Number",
    "",
    "\u{0}",
];
const TEXTS: [&str; 26] = [
    "",
    "a",
    "\u{0}",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{1F600}",
    "function",
    "custom",
    "web_search_20250305",
    "item_reference",
    "message",
    "reasoning",
    "tool",
    "assistant",
    "text",
    "input_text",
    "image_url",
    "document",
    "data:image/png;base64,AAAA",
    "data:;base64,",
    "files/abc",
    "NaN",
    "-1",
    "1e999",
    "{\"a\":",
    "openai/gpt-test",
];
const NUMBERS: [&str; 12] = [
    "0",
    "-0",
    "-1",
    "1.5",
    "1e3",
    "1e400",
    "-1e-400",
    "128",
    "129",
    "9223372036854775807",
    "18446744073709551616",
    "123456789012345678901234567890",
];

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A request before anything is wrong with it.
#[derive(Debug, Clone)]
struct Seed {
    method: Method,
    path: &'static str,
    body: Value,
}

fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |method: Method, path, body: Value| seeds.push(Seed { method, path, body });
    let open_webui = OPEN_WEBUI.map(|call| serde_json::from_str::<Value>(call).unwrap()["body"].clone());
    for (index, (_, model)) in MODELS.iter().enumerate() {
        let mut body = open_webui[index % open_webui.len()].clone();
        body["model"] = json!(model);
        add(Method::POST, "/v1/chat/completions", body);
        add(Method::POST, "/v1/chat/completions", conversation(model));
    }
    add(Method::POST, "/v1/responses", codex());
    add(
        Method::POST,
        "/v1/responses",
        json!({"model": "gpt-test", "input": "one two three", "stream": false}),
    );
    add(Method::POST, "/v1/messages", claude_code());
    for model in ["gpt-test", "gemini-2.5-flash", "mistral-large-latest", "llama3.2"] {
        add(
            Method::POST,
            "/v1/embeddings",
            json!({"model": model, "input": ["one", "two"], "dimensions": 3}),
        );
    }
    add(Method::POST, "/v1/embeddings", json!({"model": "gpt-test", "input": [[1, 2], [3]]}));
    let asking = json!({"user": "ann", "user_name": "Ann", "user_email": "a@example.org", "provider": "openai",
        "model": "gpt-test", "task": "title", "chat_id": "c", "message_id": "m", "sponsored": null, "limit": 7.5});
    let with = |more: Value| {
        let mut body = asking.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let usage =
        json!({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}});
    add(Method::POST, "/local/holds", with(json!({"input_text": "one two", "max_tokens": 9, "n": 1})));
    add(Method::POST, "/local/holds", with(json!({"request": conversation("gpt-test")})));
    let id = "00000000000000000000000000000001";
    add(Method::POST, "/local/holds/{id}/progress", json!({"id": id, "text": "one", "usage": usage}));
    add(
        Method::POST,
        "/local/holds/{id}/settle",
        json!({"id": id, "outcome": "complete", "text": "", "usage": usage}),
    );
    add(Method::DELETE, "/local/holds/{id}", json!({"id": id}));
    add(Method::GET, "/local/requests/{id}", json!({"id": id, "wait": 0}));
    add(Method::POST, "/local/usage", with(json!({"usage": usage})));
    add(Method::GET, "/local/models", json!({"provider": "openai", "user": "ann"}));
    add(Method::GET, "/local/balance", json!({"user": "ann"}));
    add(Method::GET, "/local/users", json!({"id": "ann", "email": "a@example.org"}));
    let price = json!({"provider": "openai", "id": "new", "name": "New", "input_cost_credits": 1.25,
        "per_input_tokens": 1000, "output_cost_credits": 2, "per_output_tokens": 1000});
    add(Method::GET, "/local/prices", json!({"provider": "openai", "model": "new"}));
    add(Method::PUT, "/local/prices", json!({"prices": [price], "how": "upsert"}));
    add(Method::DELETE, "/local/prices", json!({"provider": "openai", "model": "new"}));
    let group = json!({"name": "Staff", "credit_allowance": 500, "description": "All"});
    add(Method::GET, "/local/credit-groups", json!({"name": "Staff", "user": "ann"}));
    add(Method::POST, "/local/credit-groups", group.clone());
    add(
        Method::PATCH,
        "/local/credit-groups",
        json!({"name": "Staff", "new_name": "Crew", "credit_allowance": 7}),
    );
    add(Method::DELETE, "/local/credit-groups", json!({"name": "Staff", "force": true}));
    add(Method::GET, "/local/credit-groups/members", json!({"name": "Staff"}));
    add(Method::POST, "/local/credit-groups/members", json!({"name": "Staff", "user": "ann"}));
    add(Method::DELETE, "/local/credit-groups/members", json!({"name": "Staff", "user": "ann"}));
    add(Method::GET, "/local/settings", json!({"key": "hold_wait"}));
    let entry = json!({"key": "note", "value": "x", "description": "d"});
    add(Method::PUT, "/local/settings", json!({"settings": [entry], "only_new": false}));
    let terms = json!({"name": "Seminar", "sponsor_id": "ann", "models": ["gpt-test"], "total_credit_limit": 100,
        "daily_credit_limit": 5});
    add(Method::GET, "/local/sponsored", json!({"name": "Seminar"}));
    add(Method::POST, "/local/sponsored", terms.clone());
    add(Method::PATCH, "/local/sponsored", terms);
    add(Method::DELETE, "/local/sponsored", json!({"name": "Seminar"}));
    seeds
}

/// A chat with all that a chat may have.
fn conversation(model: &str) -> Value {
    json!({
        "model": model, "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 50, "temperature": 0.5,
        "seed": 7, "stop": ["END"], "user": "u", "metadata": {"a": "b"}, "parallel_tool_calls": true,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
            {"role": "user", "content": "so?"},
        ],
    })
}

/// As Codex asks.
pub fn codex() -> Value {
    json!({
        "model": "gpt-test", "instructions": "You are a coding agent.", "stream": true, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "tool_choice": "auto",
        "parallel_tool_calls": false, "reasoning": {"effort": "medium", "summary": "auto"},
        "text": {"verbosity": "low"}, "client_metadata": {"x-codex-installation-id": "i"},
        "tools": [
            {"type": "function", "name": "exec_command", "description": "d", "strict": false,
             "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}}},
            {"type": "custom", "name": "apply_patch", "description": "d",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: \"a\""}},
            {"type": "local_shell"},
            {"type": "namespace", "name": "agents", "description": "d", "tools": [
                {"type": "function", "name": "spawn", "parameters": {"type": "object", "properties": {}}}]},
            {"type": "tool_search", "execution": "client", "description": "d",
             "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}},
        ],
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one two three"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "AAAA"},
            {"type": "function_call", "name": "exec_command", "arguments": "{\"cmd\":\"ls\"}", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "a.txt"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": ""},
            {"type": "local_shell_call", "call_id": "c3", "status": "completed",
             "action": {"type": "exec", "command": ["ls"], "env": {}}},
            {"type": "local_shell_call_output", "call_id": "c3", "output": "a.txt"},
            {"type": "tool_search_call", "call_id": "c4", "execution": "client", "arguments": {"query": "q"}},
            {"type": "tool_search_output", "call_id": "c4", "execution": "client", "status": "completed", "tools": [
                {"type": "function", "name": "found", "defer_loading": true, "parameters": {"type": "object"}}]},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "done", "annotations": []}]},
            {"role": "user", "content": "and now?"},
        ],
    })
}

/// As Claude Code asks.
pub fn claude_code() -> Value {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    json!({
        "model": "claude-sonnet-4-5", "max_tokens": 8000, "stream": true, "temperature": 1,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "metadata": {"user_id": "user_1"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "system": [{"type": "text", "text": "You are Claude Code.", "cache_control": mark}],
        "tools": [
            {"name": "Bash", "description": "d", "input_schema": {"type": "object", "properties": {}}},
            {"type": "custom", "name": "Read", "input_schema": {"type": "object"}, "cache_control": mark},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        ],
        "messages": [
            {"role": "system", "content": "reminder"},
            {"role": "user", "content": [{"type": "text", "text": "one two three", "cache_control": mark}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "AAAA"},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"Type": "x", "file_id": "f", "n": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [
                    {"type": "text", "text": "a.txt"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "tool_reference", "tool_name": "Bash"}]}]},
        ],
    })
}

/// Any value.
fn anything(random: &mut Random) -> Value {
    match random.below(9) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 | 3 => serde_json::from_str(random.one(&NUMBERS)).unwrap(),
        4 => Value::String(random.one(&TEXTS).repeat(1 + random.below(40))),
        5 => json!([]),
        6 => json!({ random.one(&NAMES): random.one(&TEXTS) }),
        7 => {
            let depth = 1 + random.below(200);
            (0..depth).fold(json!(1), |inner, _| {
                if depth.is_multiple_of(2) { json!([inner]) } else { json!({"a": inner}) }
            })
        }
        _ => Value::String(random.one(&TEXTS).to_owned()),
    }
}

/// Changes one place of a value.
fn change(value: &mut Value, random: &mut Random) {
    let goes_in = random.below(4) > 0;
    match value {
        Value::Object(map) if !map.is_empty() && goes_in => {
            let at = random.below(map.len());
            match random.below(8) {
                0 => {
                    let name = map.keys().nth(at).unwrap().clone();
                    map.shift_remove(&name);
                }
                1 => {
                    map.insert(random.one(&NAMES).to_owned(), anything(random));
                }
                2 => {
                    // The same name in another case.
                    let (name, value) =
                        map.iter().nth(at).map(|(name, value)| (name.clone(), value.clone())).unwrap();
                    map.insert(name.to_uppercase(), value);
                }
                3 => {
                    let name = map.keys().nth(at).unwrap().clone();
                    let value = map.shift_remove(&name).unwrap();
                    map.insert(random.one(&NAMES).to_owned(), value);
                }
                _ => change(map.values_mut().nth(at).unwrap(), random),
            }
        }
        Value::Array(list) if !list.is_empty() && goes_in => {
            let at = random.below(list.len());
            match random.below(6) {
                0 => drop(list.remove(at)),
                1 => list.insert(at, anything(random)),
                2 => {
                    let one = list[at].clone();
                    list.extend(std::iter::repeat_n(one, random.below(60)));
                }
                _ => change(&mut list[at], random),
            }
        }
        value => *value = anything(random),
    }
}

/// Changes bytes: what comes may be no JSON, and no text.
fn scratch(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 => bytes.splice(at..at, *b"{\"model\":\"free\",").for_each(drop),
            4 => bytes.splice(at..at, std::iter::repeat_n(b'[', random.below(3000))).for_each(drop),
            _ => {
                let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece).for_each(drop);
            }
        }
    }
}

/// The request of that number: where to, and with which bytes.
fn mutated(seeds: &[Seed], seed: u64, number: usize) -> (Method, String, Vec<u8>) {
    let mut random = Random(seed ^ (number as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let Seed { method, path, mut body } = seeds[number % seeds.len()].clone();
    for _ in 0..random.below(4) {
        change(&mut body, &mut random);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let encoded = |text: &str| percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string();
    let mut path = path.to_owned();
    if path.contains("{id}") {
        let id = body.as_object_mut().and_then(|body| body.shift_remove("id")).unwrap_or_default();
        let id: String = text(&id).chars().take(100).collect();
        path = path.replace("{id}", &encoded(if id.is_empty() { "x" } else { &id }));
    }
    if matches!(method, Method::GET | Method::DELETE) {
        let none = Map::new();
        let pairs = body.as_object().unwrap_or(&none).iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| {
                let value: String = text(value).chars().take(300).collect();
                format!("{}={}", encoded(name), encoded(&value))
            })
            .collect();
        return (method, format!("{path}?{}", pairs.join("&")), Vec::new());
    }
    let mut bytes = body.to_string().into_bytes();
    if random.below(3) == 0 {
        scratch(&mut bytes, &mut random);
    }
    (method, path, bytes)
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// What came of all of them.
#[derive(Debug, Default)]
struct Outcome {
    served: usize,
    refused: usize,
    faults: Vec<String>,
}

async fn send_all(app: &App, count: usize, seed: u64) -> Outcome {
    let seeds = seeds();
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let sent = stream::iter(0..count).map(|number| {
        let (method, path, bytes) = mutated(&seeds, seed, number);
        let told =
            format!("body {number} of seed {seed}: {method} {path} {}", String::from_utf8_lossy(&bytes));
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", app.address))
            .header("authorization", "Bearer k")
            .header("x-openwebui-user-id", ["ann", "bob", "eve"][number % 3])
            .header("x-openwebui-user-email", "user@example.org")
            .body(Full::new(Bytes::from(bytes)))
            .unwrap();
        let answered = client.request(request);
        async move {
            let response = answered.await.map_err(|error| format!("{error:?}: {told}"))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| format!("{error}: {told}"))?;
            let body = body.to_bytes();
            if status.is_server_error() {
                return Err(format!("{status} {}: {told}", String::from_utf8_lossy(&body)));
            }
            Ok((status, body, path.starts_with("/local/holds") && status == 201))
        }
    });
    let mut outcome = Outcome::default();
    let mut sent = sent.buffer_unordered(12);
    let mut held = Vec::new();
    while let Some(answer) = sent.next().await {
        match answer {
            Ok((status, body, hold)) => {
                if status.is_success() {
                    outcome.served += 1;
                } else {
                    outcome.refused += 1;
                }
                if hold {
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    held.push(body["id"].as_str().unwrap().to_owned());
                }
            }
            Err(fault) => outcome.faults.push(fault),
        }
    }
    for id in held {
        app.call(Method::DELETE, &format!("/local/holds/{id}"), "k", Value::Null).await;
    }
    outcome
}

/// All models of all servers have a price.
async fn price_all(app: &App) {
    let rate = |micro: i64| Rate::new(Credits::from_micro(micro), 1);
    let new = |(kind, model): &(Kind, &str)| NewPrice {
        provider: ProviderName::new(kind.entry().provider).unwrap(),
        model: ModelId::new(*model).unwrap(),
        name: (*model).into(),
        price: Price::new(rate(1), rate(2)),
        max_output_tokens: Some(16_000),
        context_tokens: None,
    };
    let models: Vec<NewPrice> = MODELS.iter().map(new).collect();
    prices::write(&app.database, &models, Write::Upsert, Source::Administrator, SystemClock.now())
        .await
        .unwrap();
}

each_database!(no_body_breaks_anything, async |test: TestDatabase| {
    let panics = Arc::new(AtomicUsize::new(0));
    let before = std::panic::take_hook();
    let counted = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        before(info);
    }));
    // Both databases, and both policies on each.
    let count = usize::try_from(from_environment("MUTATED_BODIES", 2000)).unwrap().div_ceil(4);
    let seed = from_environment("MUTATED_SEED", 20_261_130);
    let kinds = MODELS.map(|(kind, _)| kind);
    let settings = [("base_credit_allowance", "100000000"), ("hold_wait", "0")];
    let app = App::patient(test, &settings, &kinds, Duration::from_secs(60)).await;
    price_all(&app).await;
    for (policy, seed) in [("one_credit", seed), ("strict", seed.wrapping_add(1))] {
        storage::admin::settings::set(&app.database, "admission_policy", policy).await.unwrap();
        app.fresh_catalogue().await;
        let Outcome { served, refused, faults } = send_all(&app, count, seed).await;
        println!("{policy}, seed {seed}: {served} served, {refused} refused, {} faults", faults.len());
        assert!(faults.is_empty(), "{} faults, the first: {:.2000}", faults.len(), faults[0]);
        assert!(served > count / 20 && refused > count / 20, "{served} {refused}");
    }
    app.settled().await;
    assert_eq!(panics.load(Ordering::Relaxed), 0);
    app.end().await;
});
