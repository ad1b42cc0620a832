use accounting::Usage;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::framing::Framing;
use crate::protocol::Setup;
use crate::registry::Entry;
use crate::samples::{asked, gathered, pieces, request, stream};
use crate::{Kind, ProviderOptions};

mod requests;

fn of(entry: &Entry, base_url: &str, api_version: Option<&str>) -> Box<dyn Protocol> {
    let options =
        ProviderOptions { api_version: api_version.map(str::to_owned), ..ProviderOptions::default() };
    (entry.open)(&Setup { base_url: url::Url::parse(base_url).unwrap(), options }).unwrap()
}

fn named_entry(kind: &str) -> &'static Entry {
    kind.parse::<Kind>().unwrap().entry()
}

fn named(kind: &str) -> Box<dyn Protocol> {
    let entry = named_entry(kind);
    of(entry, if entry.base_url.is_empty() { "https://x.openai.azure.com" } else { entry.base_url }, None)
}

macro_rules! fixture {
    ($name:literal) => {
        &include_bytes!(concat!("../../fixtures/compatible/", $name, ".sse"))[..]
    };
}

/// The stream of each server, what it says, what it used, and the model that it names.
fn streams() -> Vec<(&'static str, &'static [u8], &'static str, Usage, &'static str)> {
    vec![
        ("azure", fixture!("azure"), "Hello", Usage::tokens(19, 9), "gpt-4o-2024-08-06"),
        (
            "openrouter",
            fixture!("openrouter"),
            "Hm.Hi",
            Usage { cached_input: 100, cache_write: 1000, reasoning: 5, ..Usage::tokens(1200, 20) },
            "anthropic/claude-sonnet-4",
        ),
        (
            "deepseek",
            fixture!("deepseek"),
            "WellYes",
            Usage { cached_input: 64, reasoning: 10, ..Usage::tokens(70, 12) },
            "deepseek-reasoner",
        ),
        (
            "groq",
            fixture!("groq"),
            "SoHey",
            Usage { cached_input: 16, ..Usage::tokens(18, 5) },
            "openai/gpt-oss-20b",
        ),
        ("vllm", fixture!("vllm"), "AhOh", Usage::tokens(15, 3), "qwen"),
        ("tgi", fixture!("tgi"), "Wellf{}", Usage::tokens(40, 4), "hf/model"),
        (
            "litellm",
            fixture!("litellm"),
            "Salut",
            Usage { cached_input: 200, cache_write: 600, cache_write_long: 400, ..Usage::tokens(1250, 6) },
            "claude-sonnet-4",
        ),
    ]
}

fn run(kind: &str, pieces: &[&[u8]]) -> (Vec<StreamEvent>, Result<(), ProviderError>) {
    let asks = request(&json!({"model": "m", "messages": []}));
    stream(Framing::Sse, named(kind).conversion(&asks, asked()), pieces)
}

#[test]
fn every_stream_passes_unchanged_and_is_understood() {
    for (kind, bytes, said, usage, model) in streams() {
        let (events, ended) = run(kind, &[bytes]);
        assert_eq!(ended, Ok(()), "{kind}");
        let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        assert_eq!(raw, bytes, "{kind}");
        let produced: String = events
            .iter()
            .filter_map(|event| match &event.what {
                What::Chunk(chunk) => Some(chunk.produced.as_str()),
                _ => None,
            })
            .collect();
        let reported = events.iter().rev().find_map(|event| match &event.what {
            What::Chunk(chunk) => chunk.usage,
            _ => None,
        });
        assert_eq!((produced.as_str(), reported), (said, Some(Reported::Final(usage))), "{kind}");
        assert_eq!(gathered(&events).model.as_deref(), Some(model), "{kind}");
        // The chunk with the last usage is held back until the charge is in it.
        let last = events.iter().rev().find_map(|event| match &event.what {
            What::Chunk(chunk) => Some(chunk.finish || chunk.no_choices),
            _ => None,
        });
        assert_eq!(last, Some(true), "{kind}");
    }
}

#[test]
fn what_is_no_json_passes_as_what_clients_can_read() {
    let piece = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"logprob\":NaN}],\"a\x1cb\":1}\n\n";
    let (events, _) = run("openai", &[piece]);
    let [event] = &events[..] else { panic!("{events:?}") };
    let raw = std::str::from_utf8(&event.raw).unwrap();
    let data: Value = serde_json::from_str(raw.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(data["choices"][0]["delta"]["content"], "hi");
    assert_eq!(data["choices"][0]["logprob"], Value::Null);
    assert!(matches!(&event.what, What::Chunk(chunk) if chunk.produced == "hi"), "{event:?}");
}

#[test]
fn a_list_that_is_no_json_passes_as_one_that_is() {
    let (events, _) = run("openai", &[b"data: [[{\"delta\":{\"content\":\"a\x01b\"}}]]\n\n"]);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.raw, "data: [[{\"delta\":{\"content\":\"a\\u0001b\"}}]]\n\n");
}

#[test]
fn running_usage_is_not_the_last_word() {
    let (events, _) = run("vllm", &[fixture!("vllm")]);
    let What::Chunk(second) = &events[1].what else { panic!("{:?}", events[1]) };
    assert_eq!(second.usage, Some(Reported::SoFar(Usage::tokens(15, 1))));
}

#[test]
fn errors_end_a_stream_with_what_was_used() {
    for (kind, bytes, what, usage) in [
        (
            "openrouter",
            fixture!("openrouter_error"),
            "failed with status 500: Provider disconnected unexpectedly",
            Some(Usage::tokens(5, 1)),
        ),
        ("groq", fixture!("groq_error"), "failed with status 502: over capacity", None),
        ("vllm", fixture!("vllm_error"), "failed with status 500: EngineCore encountered an issue", None),
        (
            "tgi",
            fixture!("tgi_error"),
            "failed with status 502: Request failed during generation: Server error: CUDA out of memory",
            None,
        ),
        (
            "litellm",
            fixture!("litellm_error"),
            "failed with status 500: litellm.APIConnectionError: broken pipe",
            None,
        ),
    ] {
        let (events, ended) = run(kind, &[bytes]);
        assert_eq!(ended.unwrap_err().plain().to_string(), what, "{kind}");
        let reported = events.iter().find_map(|event| match &event.what {
            What::Chunk(chunk) => chunk.usage,
            _ => None,
        });
        assert_eq!(reported, usage.map(Reported::Final), "{kind}");
        // Nothing of a server's error goes on as it came.
        assert!(
            events.iter().all(|event| !event.raw.windows(7).any(|window| window == b"\"error\"")),
            "{kind}"
        );
    }
}

#[test]
fn addresses() {
    let azure = |base: &str, version: Option<&str>| {
        let azure = of(&AZURE, base, version);
        let asks = request(&json!({"model": "my gpt", "messages": []}));
        let embeds = EmbeddingsRequest::parse(Bytes::from_static(br#"{"model":"e","input":"x"}"#)).unwrap();
        [azure.chat(&asks).unwrap().uri, azure.embeddings(&embeds).unwrap().uri, azure.models().uri]
            .map(|uri| uri.to_string())
    };
    for base in ["https://x.openai.azure.com", "https://x.openai.azure.com/openai/v1/"] {
        let v1 = ["chat/completions", "embeddings", "models"]
            .map(|route| format!("https://x.openai.azure.com/openai/v1/{route}"));
        assert_eq!(azure(base, None), v1);
        let dated = [
            "deployments/my%20gpt/chat/completions?api-version=2024-10-21",
            "deployments/e/embeddings?api-version=2024-10-21",
            "models?api-version=2024-10-21",
        ]
        .map(|route| format!("https://x.openai.azure.com/openai/{route}"));
        assert_eq!(azure(base, Some("2024-10-21")), dated);
    }
    assert_eq!(AZURE.key_header, crate::protocol::KeyHeader::Named("api-key"));
    for (kind, uri) in [
        ("openai", "https://api.openai.com/v1/chat/completions"),
        ("openrouter", "https://openrouter.ai/api/v1/chat/completions"),
        ("deepseek", "https://api.deepseek.com/chat/completions"),
        ("groq", "https://api.groq.com/openai/v1/chat/completions"),
        ("vllm", "http://localhost:8000/v1/chat/completions"),
        ("tgi", "http://localhost:8080/v1/chat/completions"),
        ("litellm", "http://localhost:4000/v1/chat/completions"),
        ("xai", "https://api.x.ai/v1/chat/completions"),
        ("perplexity", "https://api.perplexity.ai/chat/completions"),
        ("moonshot", "https://api.moonshot.ai/v1/chat/completions"),
        ("together", "https://api.together.ai/v1/chat/completions"),
        ("fireworks", "https://api.fireworks.ai/inference/v1/chat/completions"),
    ] {
        let sent = named(kind).chat(&request(&json!({"model": "m", "messages": []}))).unwrap();
        assert_eq!(sent.uri, uri);
    }
}

#[test]
fn a_server_named_by_its_address_alone() {
    let asks = request(&json!({"model": "m:online", "messages": [], "n": 2}));
    let of = |base_url| of(&OPENAI, base_url, None).chat(&asks).map_err(|bad| bad.param.unwrap());
    assert_eq!(of("https://openrouter.ai/api/v1").unwrap_err(), "model");
    assert_eq!(of("https://api.groq.com/openai/v1").unwrap_err(), "n");
    assert_eq!(of("https://api.deepseek.com").unwrap_err(), "n");
    assert!(of("https://example.org/v1").is_ok());
}

/// What is sent of a request with that field, or which field is refused.
fn sent(kind: &str, field: &str, value: &Value) -> Result<(Value, Vec<String>), Option<String>> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "name": "ann", "content": "hi"}]});
    body[field] = value.clone();
    let outgoing = named(kind).chat(&request(&body)).map_err(|bad| bad.param)?;
    Ok((serde_json::from_slice(&outgoing.body).unwrap(), outgoing.omitted))
}

#[test]
fn what_is_refused_where() {
    for (kind, field, value) in [
        ("azure", "data_sources", json!([{"type": "azure_search"}])),
        ("openrouter", "preset", json!("p")),
        ("openrouter", "model", json!("openai/gpt-4o:online")),
        ("openrouter", "model", json!("openai/gpt-4o@preset/p")),
        ("groq", "n", json!(2)),
        ("groq", "logprobs", json!(true)),
        ("groq", "compound_custom", json!({"tools": {}})),
        ("deepseek", "n", json!(2)),
        ("tgi", "n", json!(2)),
        ("vllm", "kv_transfer_params", json!({"remote_host": "h"})),
        ("litellm", "aws_region_name", json!("us-east-1")),
        ("litellm", "mock_response", json!("x")),
        ("litellm", "mock_tool_calls", json!([])),
        ("litellm", "user_config", json!({"model_list": []})),
        ("litellm", "litellm_credential_name", json!("c")),
        ("litellm", "litellm_metadata", json!({})),
        ("litellm", "tags", json!(["paid"])),
        ("litellm", "Tags", json!(["paid"])),
        ("litellm", "specific_deployment", json!(true)),
        ("litellm", "vector_store_ids", json!(["v"])),
        ("litellm", "prompt_id", json!("p")),
        ("litellm", "prompt_variables", json!({})),
        ("litellm", "aws_profile_name", json!("p")),
        ("litellm", "aws_sts_endpoint", json!("https://x")),
        ("litellm", "azure_endpoint", json!("https://x")),
        ("litellm", "vertex_project", json!("p")),
        ("litellm", "headers", json!({"a": "b"})),
        ("litellm", "guardrails", json!(["g"])),
        ("litellm", "input_cost_per_second", json!(0.1)),
        ("litellm", "Input_Cost_Per_Token", json!(0)),
        ("litellm", "additional_drop_params", json!(["max_tokens"])),
        ("vllm", "best_of", json!(20)),
        ("vllm", "use_beam_search", json!(true)),
        ("vllm", "lora_request", json!({"lora_name": "l"})),
        ("tgi", "adapter_id", json!("a")),
        ("azure", "DataSources", json!([{}])),
        ("xai", "deferred", json!(true)),
        ("perplexity", "search_mode", json!("academic")),
        ("dashscope", "enable_code_interpreter", json!(true)),
        ("together", "safety_model", json!("m")),
    ] {
        assert_eq!(sent(kind, field, &value), Err(Some(field.to_owned())), "{kind} {field}");
        assert!(sent("openai", field, &value).is_ok(), "{field}");
    }
    assert!(sent("openrouter", "model", &json!("deepseek/deepseek-r1:free")).is_ok());
    // Only a server that may be vLLM takes these as vLLM does.
    for kind in ["xai", "perplexity", "moonshot", "dashscope", "together", "fireworks", "voyage"] {
        assert!(sent(kind, "best_of", &json!(2)).is_ok(), "{kind}");
    }
    let metadata = json!({"tags": ["paid"]});
    assert_eq!(sent("litellm", "metadata", &metadata), Err(Some("metadata.tags".into())));
    assert!(sent("litellm", "metadata", &json!({"Team": "a"})).is_ok());
    assert!(sent("litellm", "litellm_session_id", &json!("s")).is_ok());
    assert!(sent("openai", "metadata", &metadata).is_ok());
}

/// `OpenRouter` reads files for a fee where a model can't, unless it is told who reads them.
#[test]
fn files_are_read_by_the_model_itself() {
    let content = |part: Value| json!([{"type": "text", "text": "Read this."}, part]);
    let file = json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}});
    let chat = |content: Value| json!({"model": "m", "messages": [{"role": "user", "content": content}]});
    let plugins = |kind: &str, shape: Shape, body: &Value| {
        let request = ChatRequest::parse_as(shape, body.to_string().into()).unwrap();
        let body: Value = serde_json::from_slice(&named(kind).chat(&request).unwrap().body).unwrap();
        body.get("plugins").cloned()
    };
    let by = |engine: &str| json!([{"id": "file-parser", "pdf": {"engine": engine}}]);
    let with_file = chat(content(file));
    assert_eq!(plugins("openrouter", Shape::Chat, &with_file), Some(by("native")));
    let named_file = json!({"model": "m", "input": [{"role": "user", "content": [
        {"type": "input_file", "filename": "a.pdf", "file_data": "AA=="}]}]});
    assert_eq!(plugins("openrouter", Shape::Responses, &named_file), Some(by("native")));
    let picture = json!({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AA=="}});
    assert_eq!(plugins("openrouter", Shape::Chat, &chat(content(picture))), Some(by("native")));
    assert_eq!(plugins("openrouter", Shape::Chat, &chat(json!("hi"))), None);
    assert_eq!(plugins("openai", Shape::Chat, &with_file), None);
    // Whoever names one means it; what costs extra is refused before.
    let mut free = with_file.clone();
    free["plugins"] = by("cloudflare-ai");
    assert_eq!(plugins("openrouter", Shape::Chat, &free), Some(by("cloudflare-ai")));
    let mut none = with_file;
    none["plugins"] = json!([]);
    assert_eq!(plugins("openrouter", Shape::Chat, &none), Some(by("native")));
}

#[test]
fn a_field_that_a_server_refuses_is_left_out() {
    let asks = request(&json!({"model": "m", "messages": [], "stream": true}));
    assert!(asks.asks_for_usage_alone());
    let body = |outgoing: Outgoing| serde_json::from_slice::<Value>(&outgoing.body).unwrap();
    let with = body(named("openai").chat(&asks).unwrap());
    assert_eq!(with["stream_options"], json!({"include_usage": true}));
    let without = named("openai").chat_without(&asks, "stream_options").unwrap();
    assert_eq!(without.omitted, [""; 0]);
    assert_eq!(body(without), json!({"model": "m", "messages": [], "stream": true}));
    for other in [json!({"include_usage": true, "x": 1}), json!({"include_obfuscation": false})] {
        let asks = request(&json!({"model": "m", "messages": [], "stream": true, "stream_options": other}));
        assert!(!asks.asks_for_usage_alone(), "{other}");
    }
    assert!(!request(&json!({"model": "m", "messages": []})).asks_for_usage_alone());
}

#[test]
fn an_unknown_server_may_be_any_of_them() {
    let asks = |field: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": []});
        body[field] = value;
        of(&OPENAI, "https://example.org/v1", None).chat(&request(&body)).map_err(|bad| bad.param.unwrap())
    };
    for field in [
        "user_config",
        "mock_response",
        "aws_region_name",
        "best_of",
        "use_beam_search",
        "lora_request",
        "kv_transfer_params",
        "search_mode",
        "return_images",
        "connectors",
        "deferred",
        "Deferred",
    ] {
        assert_eq!(asks(field, json!("x")).unwrap_err(), field);
        assert!(asks(field, json!(false)).is_ok() && asks(field, Value::Null).is_ok(), "{field}");
    }
    for field in [
        "metadata",
        "user",
        "store",
        "parallel_tool_calls",
        "seed",
        "logprobs",
        "prompt_cache_key",
        "safety_identifier",
        "reasoning_effort",
        "verbosity",
        "chat_template_kwargs",
        "top_k",
        "tags",
    ] {
        let outgoing = asks(field, json!("x")).unwrap();
        let sent: Value = serde_json::from_slice(&outgoing.body).unwrap();
        assert_eq!((&sent[field], outgoing.omitted), (&json!("x"), vec![]), "{field}");
    }
    assert_eq!(asks("num_retries", json!(9)).unwrap().omitted, ["num_retries"]);
}

#[test]
fn what_is_left_out_or_renamed_where() {
    for (kind, field, value, changed, omitted) in [
        ("groq", "logit_bias", json!({"1": 2}), None, vec!["logit_bias", "messages.name"]),
        ("groq", "logprobs", json!(false), None, vec!["messages.name"]),
        ("groq", "top_logprobs", json!(2), None, vec!["top_logprobs", "messages.name"]),
        ("deepseek", "max_completion_tokens", json!(9), Some(("max_tokens", json!(9))), vec![]),
        ("tgi", "max_completion_tokens", json!(9), Some(("max_tokens", json!(9))), vec![]),
        ("deepseek", "logit_bias", json!({"1": 2}), None, vec!["logit_bias"]),
        ("openrouter", "usage", json!({"include": false}), Some(("usage", json!({"include": true}))), vec![]),
    ] {
        let (body, named) = sent(kind, field, &value).unwrap();
        match changed {
            Some((name, value)) => assert_eq!(body[name], value, "{kind} {field}"),
            None => assert_eq!(body.get(field), None, "{kind} {field}"),
        }
        assert!(field == "usage" || body.get(field).is_none(), "{kind} {field}");
        assert_eq!(named, omitted, "{kind} {field}");
        assert_eq!(body["messages"][0].get("name").is_none(), kind == "groq");
    }
    let history = json!({"model": "m", "messages": [
        {"role": "assistant", "content": "a", "reasoning_content": "r", "reasoning_details": []}]});
    let outgoing = named("groq").chat(&request(&history)).unwrap();
    let body: Value = serde_json::from_slice(&outgoing.body).unwrap();
    assert_eq!(body["messages"], json!([{"role": "assistant", "content": "a"}]));
}

#[test]
fn what_needs_no_change_passes_byte_for_byte() {
    let body = r#"{"model":"m","zebra":1.50,"messages":[{"role":"user","content":"hi"}],"big":12345678901234567890123}"#;
    let asks = ChatRequest::parse(Bytes::from(body)).unwrap();
    for kind in ["openai", "azure", "deepseek", "groq", "vllm", "tgi", "litellm", "xai", "moonshot"] {
        let outgoing = named(kind).chat(&asks).unwrap();
        assert_eq!((outgoing.body, outgoing.omitted), (Bytes::from(body), Vec::<String>::new()), "{kind}");
    }
}

#[test]
fn whole_answers_of_every_server() {
    let asks = request(&json!({"model": "m", "messages": []}));
    let answer = |kind: &str, body: &'static str| {
        named(kind).answer(&asks, &asked(), Bytes::from_static(body.as_bytes()))
    };
    // DeepSeek sends empty lines while it waits; Text Generation Inference writes arguments as an object.
    for (kind, body, produced, usage) in [
        (
            "deepseek",
            "\n\n\n{\"choices\":[{\"message\":{\"content\":\"a\",\"reasoning_content\":\"r\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7,\"prompt_cache_hit_tokens\":2}}",
            "ar",
            Some(Usage { cached_input: 2, ..Usage::tokens(3, 4) }),
        ),
        (
            "tgi",
            r#"{"choices":[{"message":{"role":"assistant","tool_calls":[{"id":"0","type":"function","function":{"description":null,"name":"f","arguments":{"a":1}}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
            r#"f{"a":1}"#,
            Some(Usage::tokens(3, 4)),
        ),
        (
            "groq",
            r#"{"choices":[{"message":{"content":"a","reasoning":"r"}}],"usage":{"prompt_tokens":3,"completion_tokens":4,"queue_time":0.1},"x_groq":{"id":"r"}}"#,
            "ar",
            Some(Usage::tokens(3, 4)),
        ),
    ] {
        let complete = answer(kind, body).unwrap();
        assert_eq!(complete.body, body, "{kind}");
        assert_eq!((complete.produced.text.as_str(), complete.usage), (produced, usage), "{kind}");
    }
    assert!(answer("openrouter", r#"{"error":{"code":502,"message":"no"}}"#).is_err());
}

proptest! {
    #[test]
    fn however_a_stream_is_cut(which in 0_usize..7, cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let (kind, bytes, ..) = streams()[which];
        let whole = run(kind, &[bytes]).0;
        let cut = run(kind, &pieces(bytes, &cuts)).0;
        prop_assert_eq!(cut, whole);
    }
}

#[test]
fn azure_is_known_by_its_address() {
    use crate::Kind;
    for (address, azure) in [
        ("https://x.openai.azure.com", true),
        ("https://X.OpenAI.Azure.com/openai/v1", true),
        ("https://x.services.ai.azure.com/models", true),
        ("https://x.cognitiveservices.azure.com", true),
        ("https://api.openai.com/v1", false),
        ("https://openai.azure.com.example.org/v1", false),
        ("https://example.org/x.openai.azure.com", false),
    ] {
        let url = address.parse().unwrap();
        assert_eq!(Kind::OPENAI.at(&url).entry().name == "azure", azure, "{address}");
        assert_eq!(Kind::OLLAMA.at(&url), Kind::OLLAMA);
    }
    let asks = request(&json!({"model": "m", "messages": []}));
    let uri = |base: &str, version| of(&AZURE, base, version).chat(&asks).unwrap().uri.to_string();
    // However much of a route somebody pasted.
    let deployment =
        "https://x.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-10-21";
    assert_eq!(uri(deployment, None), deployment);
    assert_eq!(
        uri("https://x.openai.azure.com/?api-version=2024-10-21", None),
        "https://x.openai.azure.com/openai/deployments/m/chat/completions?api-version=2024-10-21"
    );
    assert_eq!(
        uri("https://x.services.ai.azure.com/models", None),
        "https://x.services.ai.azure.com/openai/v1/chat/completions"
    );
    let options = crate::ProviderOptions::default();
    let base_url = "https://x.openai.azure.com/openai/deployments/mine".parse().unwrap();
    assert!((AZURE.open)(&Setup { base_url, options }).is_err());
}

/// The usages that a stream of two choices tells, and which of them are final.
#[test]
fn a_usage_is_final_once_all_choices_have_ended() {
    let asks = request(&json!({"model": "m", "messages": [], "n": 2, "stream": true}));
    let chunk = |index: u8, reason: &str, output: u8| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":{reason}}}],\
             \"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{output}}}}}\n\n"
        )
    };
    let bytes =
        [chunk(0, "null", 1), chunk(0, "\"stop\"", 2), chunk(1, "null", 3), chunk(1, "\"stop\"", 4)].concat();
    let conversion = of(&OPENAI, "https://example.org/v1", None).conversion(&asks, crate::samples::asked());
    let (events, ended) =
        crate::samples::stream(crate::framing::Framing::Sse, conversion, &[bytes.as_bytes()]);
    ended.unwrap();
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.what {
            What::Chunk(chunk) => Some((chunk.finish, chunk.usage?)),
            _ => None,
        })
        .collect();
    let usage = |output| Usage::tokens(3, output);
    let expected = [
        (false, Reported::SoFar(usage(1))),
        (true, Reported::SoFar(usage(2))),
        (false, Reported::SoFar(usage(3))),
        (true, Reported::Final(usage(4))),
    ];
    assert_eq!(told, expected);
}

#[test]
fn vectors_have_no_output() {
    let request = EmbeddingsRequest::parse(Bytes::from_static(br#"{"model":"e","input":"x"}"#)).unwrap();
    let body = Bytes::from_static(br#"{"data":[],"usage":{"prompt_tokens":3,"total_tokens":9}}"#);
    let complete = of(&OPENAI, "https://example.org/v1", None)
        .embeddings_answer(&request, &crate::samples::asked(), body)
        .unwrap();
    assert_eq!(complete.usage, Some(Usage::tokens(9, 0)));
}
