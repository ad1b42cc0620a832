//! What a model server says in the place of an answer, with status 200, or in the middle of one: which status, code and words
//! its user gets, and what is charged.

use std::fmt::Write as _;

use accounting::{Clock, Credits, ModelId, Price, ProviderName, Rate};
use serde_json::{Value, json};
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;

use crate::app::{Answer, App, Entry, read};
use crate::staged::{Script, Staged};

const KINDS: [&str; 5] = ["openai", "anthropic", "google", "mistral", "ollama"];

/// A gateway with that server behind it as a provider of each kind.
pub async fn start(test: TestDatabase, server: &Staged, keys: &str) -> App {
    let file = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"k\"\nrequests_per_user = 1000\n{keys}\n{}",
        server.providers(&KINDS)
    );
    let app = App::start_with(test, Simulator::start().await.unwrap(), &file).await;
    storage::admin::settings::set(&app.database, "base_credit_allowance", "1000000").await.unwrap();
    app
}

/// Prices those models: a token costs 1 credit in and 2 out.
pub async fn price(app: &App, models: &[(&str, String)]) {
    let rate = |credits: i64| Rate::new(Credits::from_whole(credits).unwrap(), 1);
    let new = |(provider, model): &(&str, String)| NewPrice {
        provider: ProviderName::new(*provider).unwrap(),
        model: ModelId::new(model.as_str()).unwrap(),
        name: model.clone(),
        price: Price::new(rate(1), rate(2)),
        max_output_tokens: Some(16_000),
        context_tokens: None,
    };
    let new: Vec<NewPrice> = models.iter().map(new).collect();
    prices::write(&app.database, &new, Write::Upsert, Source::Administrator, SystemClock.now())
        .await
        .unwrap();
    app.fresh_catalogue().await;
}

/// A request for a model, in the shape of a route.
pub async fn ask(app: &App, path: &str, model: &str, stream: bool) -> Answer {
    read(app.post(path, model, asked(path, model, stream), &[]).await).await
}

pub fn asked(path: &str, model: &str, stream: bool) -> Value {
    match path {
        "/v1/responses" => json!({"model": model, "input": "Say hello.", "stream": stream}),
        "/v1/embeddings" => json!({"model": model, "input": "Say hello."}),
        _ => json!({"model": model, "max_tokens": 100, "stream": stream,
            "messages": [{"role": "user", "content": "Say hello."}]}),
    }
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const EMBEDDINGS: &str = "/v1/embeddings";

/// Errors in OpenAI's shape, and in those of servers that are compatible with it.
const OPENAI: [(&str, &str); 22] = [
    ("code 400", r#"{"error":{"message":"invalid request","type":"invalid_request","code":400}}"#),
    (
        "code 429",
        r#"{"error":{"message":"Provider returned error","code":429,"metadata":{"provider_name":"x"}}}"#,
    ),
    (
        "too long",
        r#"{"error":{"message":"The context holds 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
    ),
    (
        "no model",
        r#"{"error":{"message":"No such model.","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#,
    ),
    (
        "no quota",
        r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
    ),
    (
        "xAI's key",
        r#"{"code":"invalid-argument","error":"Incorrect API key provided: xa***ey. See https://console.example.org."}"#,
    ),
    (
        "a wrong key",
        r#"{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error","code":"invalid_api_key"}}"#,
    ),
    (
        "no balance",
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
    ),
    (
        "a fault",
        r#"{"error":{"message":"The server had an error at 10.1.2.3:8000.","type":"server_error","param":null,"code":null}}"#,
    ),
    (
        "a rate",
        r#"{"error":{"message":"Rate limit reached. Please try again in 7.66s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
    ),
    ("TGI", r#"{"error":"Model is overloaded","error_type":"overloaded"}"#),
    (
        "vLLM 400",
        r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#,
    ),
    (
        "vLLM 500",
        r#"{"error":{"message":"EngineCore encountered an issue","type":"InternalServerError","param":null,"code":500}}"#,
    ),
    (
        "Mistral",
        r#"{"object":"error","message":{"detail":[{"loc":["body","n"],"msg":"wrong"}]},"type":"invalid_request_error","param":null,"code":null}"#,
    ),
    (
        "Groq",
        r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"x","status_code":400}}"#,
    ),
    (
        "OpenRouter",
        r#"{"error":{"message":"Provider returned error","code":502,"metadata":{"raw":"{\"error\":{\"message\":\"bad tool\"}}"}}}"#,
    ),
    (
        "LiteLLM",
        r#"{"error":{"message":"litellm.BadRequestError: no","type":null,"param":null,"code":"400"}}"#,
    ),
    ("FastAPI", r#"{"detail":[{"type":"missing","loc":["body","messages",0],"msg":"Field required"}]}"#),
    ("MiniMax", r#"{"base_resp":{"status_code":1026,"status_msg":"input new_sensitive"},"choices":null}"#),
    (
        "Azure",
        r#"{"error":{"message":"The response was filtered.","type":null,"param":"prompt","code":"content_filter","status":400}}"#,
    ),
    ("Cloudflare", r#"{"success":false,"errors":[{"code":7003,"message":"no route"}],"result":null}"#),
    (
        "with usage",
        r#"{"error":{"message":"Token limit reached","code":"token_limit"},"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}"#,
    ),
];

const EMPTY: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const TEXT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Rivers\"},\"finish_reason\":null}]}\n\n";

const ANTHROPIC: [(&str, &str); 7] = [
    ("overloaded", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
    (
        "invalid",
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too many"}}"#,
    ),
    (
        "a rate",
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"Too many tokens."},"request_id":"r"}"#,
    ),
    (
        "a wrong key",
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
    ),
    (
        "no money",
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
    ),
    ("a fault", r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#),
    ("another's shape", r#"{"error":{"message":"No such model.","code":404}}"#),
];
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Rivers\"}}\n\n";

const GOOGLE: [(&str, &str); 3] = [
    ("overloaded", r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#),
    (
        "exhausted",
        r#"{"error":{"code":429,"message":"Resource exhausted.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}"#,
    ),
    (
        "a wrong key",
        r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
    ),
];
const PIECE: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Rivers\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":9}}\n\n";

const FAILED: &str = r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"rate_limit_exceeded","message":"Too many. Please try again in 3s."},"output":[],"usage":null}}"#;
const FAILED_LATE: &str = r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"server_error","message":"Lost it."},"output":[],"usage":{"input_tokens":30,"output_tokens":20,"total_tokens":50}}}"#;
const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"output\":[]}}\n\n";
const SAID: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Rivers\"}\n\n";

struct Case {
    name: String,
    kind: &'static str,
    path: &'static str,
    stream: bool,
    script: Script,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |kind, path, name: &str, way: &str, stream: bool, script: Script| {
        let name = format!("{kind} | {path} | {name} | {way}");
        cases.push(Case { name, kind, path, stream, script });
    };
    for (name, json) in OPENAI {
        add("openai", CHAT, name, "whole", false, Script::whole(json));
        let event = format!("event: error\ndata: {json}\n\n");
        add("openai", CHAT, name, "first event", true, Script::streamed(&event));
        add("openai", CHAT, name, "after output", true, Script::streamed(&format!("{EMPTY}{TEXT}{event}")));
    }
    for (index, way) in
        [(0, "after an empty chunk"), (9, "after an empty chunk"), (14, "after an empty chunk")]
    {
        let (name, json) = OPENAI[index];
        add("openai", CHAT, name, way, true, Script::streamed(&format!("{EMPTY}data: {json}\n\n")));
    }
    let (name, json) = OPENAI[1];
    add("openai", CHAT, name, "whole in the place of a stream", true, Script::whole(json));
    add("openai", CHAT, name, "plain in the place of events", true, Script::streamed(json));
    add("openai", EMBEDDINGS, name, "whole", false, Script::whole(json));
    add("mistral", CHAT, name, "first event", true, Script::streamed(&format!("data: {json}\n\n")));
    add("mistral", EMBEDDINGS, name, "whole", false, Script::whole(json));
    add(
        "openai",
        CHAT,
        "an error as a finish reason",
        "whole",
        false,
        Script::whole(
            r#"{"choices":[{"index":0,"finish_reason":"error","error":{"code":502,"message":"lost"},"message":{"role":"assistant","content":""}}]}"#,
        ),
    );
    add("openai", CHAT, "half an answer", "whole", false, Script::whole(r#"{"choices":[{"ind"#));
    add("openai", CHAT, "JSON of something else", "whole", false, Script::whole(r#"{"result":"Rivers"}"#));
    add("openai", CHAT, "nothing", "broken off", true, Script::broken(""));
    add("openai", CHAT, "a chunk", "broken off", true, Script::broken(TEXT));
    for (name, json) in [
        ("an error", r#"{"type":"error","code":"invalid_prompt","message":"Not that.","param":"input"}"#),
        (
            "an error in its object",
            r#"{"type":"error","error":{"type":"invalid_request_error","code":"insufficient_quota","message":"No."}}"#,
        ),
        ("failed", FAILED),
        ("failed with usage", FAILED_LATE),
    ] {
        let event = format!("event: x\ndata: {json}\n\n");
        add("openai", RESPONSES, name, "first event", true, Script::streamed(&event));
        add(
            "openai",
            RESPONSES,
            name,
            "after an empty event",
            true,
            Script::streamed(&format!("{CREATED}{event}")),
        );
        add(
            "openai",
            RESPONSES,
            name,
            "after output",
            true,
            Script::streamed(&format!("{CREATED}{SAID}{event}")),
        );
    }
    let failed: Value = serde_json::from_str(FAILED).unwrap();
    add("openai", RESPONSES, "failed", "whole", false, Script::whole(&failed["response"].to_string()));
    for path in [CHAT, MESSAGES] {
        for (name, json) in ANTHROPIC {
            let event = format!("event: error\ndata: {json}\n\n");
            add("anthropic", path, name, "whole", false, Script::whole(json));
            add("anthropic", path, name, "first event", true, Script::streamed(&event));
            add(
                "anthropic",
                path,
                name,
                "after its start",
                true,
                Script::streamed(&format!("{START}{event}")),
            );
            add(
                "anthropic",
                path,
                name,
                "after output",
                true,
                Script::streamed(&format!("{START}{DELTA}{event}")),
            );
        }
    }
    for (name, json) in GOOGLE {
        add("google", CHAT, name, "whole", false, Script::whole(json));
        add("google", CHAT, name, "first event", true, Script::streamed(&format!("data: {json}\n\n")));
        add("google", CHAT, name, "a list", true, Script::streamed(&format!("data: [{json}]\n\n")));
        add(
            "google",
            CHAT,
            name,
            "after output",
            true,
            Script::streamed(&format!("{PIECE}data: {json}\n\n")),
        );
        add("google", EMBEDDINGS, name, "whole", false, Script::whole(json));
    }
    let lines = |text: &str| Script { content_type: "application/x-ndjson", ..Script::streamed(text) };
    let error = r#"{"error":"model runner has stopped"}"#;
    add("ollama", CHAT, "an error", "whole", false, Script::whole(error));
    add("ollama", CHAT, "an error", "first line", true, lines(&format!("{error}\n")));
    let piece = r#"{"message":{"role":"assistant","content":"Rivers"},"done":false}"#;
    add("ollama", CHAT, "an error", "after output", true, lines(&format!("{piece}\n{error}\n")));
    add("ollama", EMBEDDINGS, "an error", "whole", false, Script::whole(error));
    cases
}

/// What a client reads of an error, in whichever shape.
fn error_of(answer: &Answer) -> Value {
    let events =
        answer.text.split("\n\n").filter_map(|event| event.rsplit_once("data: ").map(|(_, data)| data));
    let parts =
        events.chain([answer.text.as_str()]).filter_map(|data| serde_json::from_str::<Value>(data).ok());
    parts.map(|part| part["error"].clone()).find(Value::is_object).unwrap_or_default()
}

fn charge_of(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else { return "nothing".into() };
    let how = entry.estimated.as_deref().map(|how| format!(" ({how})")).unwrap_or_default();
    format!("{} {} in, {} out{how}", entry.outcome, entry.input_tokens, entry.output_tokens)
}

each_database!(what_a_server_says_instead_of_an_answer, async |test: TestDatabase| {
    let server = Staged::start().await;
    let app = start(test, &server, "").await;
    let cases = cases();
    let model = |index: usize| format!("model-{index:03}");
    let models: Vec<(&str, String)> =
        cases.iter().enumerate().map(|(index, case)| (case.kind, model(index))).collect();
    price(&app, &models).await;
    let mut table = String::new();
    for (index, case) in cases.iter().enumerate() {
        let model = model(index);
        server.set(&model, case.script.clone());
        let answer = ask(&app, case.path, &model, case.stream).await;
        let error = error_of(&answer);
        let word = |field: &str| error[field].as_str().unwrap_or("-").to_owned();
        let wait = answer.headers.get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        let wait = wait.or_else(|| error["retry_after"].as_u64().map(|wait| wait.to_string()));
        let wait = wait.map(|wait| format!(", after {wait} s")).unwrap_or_default();
        let entries = app.entries(&model).await;
        let charge = charge_of(entries.first());
        // An error of our key is none of the user's.
        for ours in ["API key", "quota.", "balance", "Balance", "x-api-key", "10.1.2.3"] {
            assert!(!answer.text.contains(ours), "{}: {}", case.name, answer.text);
        }
        let is_free = charge == "nothing";
        let had_output = case.name.ends_with("after output") || case.name.contains("with usage");
        let is_open =
            ["half an answer", "something else", "broken off"].iter().any(|end| case.name.contains(end));
        assert_eq!(is_free, !had_output && !is_open, "{}: {}", case.name, answer.text);
        writeln!(
            table,
            "{} | {}{wait} | {} | {} | {} | {charge}",
            case.name,
            answer.status,
            word("code"),
            word("param"),
            word("message")
        )
        .unwrap();
    }
    assert!(cases.len() >= 40, "{}", cases.len());
    insta::assert_snapshot!("errors", table);
    app.end().await;
});
