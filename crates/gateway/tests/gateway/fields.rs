//! Which fields and values are allowed, under each policy and on each route: what is kept at a provider or runs there never,
//! what is unknown only where nothing must be bounded, and what real clients send always.

use accounting::{Clock as _, Credits, ModelId, Price, ProviderName, Rate};
use providers::Kind;
use serde_json::{Value, json};
use storage::SystemClock;
use storage::admin::prices::{self, NewPrice, Source, Write};
use testing::databases::TestDatabase;
use testing::each_database;

use crate::app::{Answer, App, read};
use crate::mutations::{OPEN_WEBUI, claude_code, codex};

const CLAUDE: &str = "claude-sonnet-4-5";
const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const EMBEDDINGS: &str = "/v1/embeddings";

async fn start(test: TestDatabase) -> App {
    let settings = [("base_credit_allowance", "100000"), ("hold_wait", "0")];
    let app = App::with(test, &settings, &[Kind::OPENAI, Kind::ANTHROPIC]).await;
    let rate = |micro: i64| Rate::new(Credits::from_micro(micro), 1);
    let claude = NewPrice {
        provider: ProviderName::new("anthropic").unwrap(),
        model: ModelId::new(CLAUDE).unwrap(),
        name: CLAUDE.into(),
        price: Price::new(rate(1), rate(2)),
        max_output_tokens: Some(16_000),
        context_tokens: None,
    };
    let now = SystemClock.now();
    prices::write(&app.database, &[claude], Write::Upsert, Source::Administrator, now).await.unwrap();
    app
}

async fn under(app: &App, policy: &str) {
    storage::admin::settings::set(&app.database, "admission_policy", policy).await.unwrap();
    app.fresh_catalogue().await;
}

async fn ask(app: &App, path: &str, body: &Value) -> Answer {
    read(app.post(path, "ann", body.clone(), &[]).await).await
}

fn responses(items: Value) -> Value {
    json!({"model": "gpt-test", "input": items, "max_output_tokens": 50})
}

fn chat(content: Value) -> Value {
    json!({"model": "gpt-test", "max_tokens": 50, "messages": [{"role": "user", "content": content}]})
}

fn messages(blocks: Value) -> Value {
    json!({"model": CLAUDE, "max_tokens": 50, "messages": [{"role": "user", "content": blocks}]})
}

/// A body with one more field.
fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

each_database!(what_is_kept_at_a_provider_or_runs_there_is_never_taken, async |test: TestDatabase| {
    let app = start(test).await;
    let text = json!([{"type": "text", "text": "a"}]);
    let mut never: Vec<(&str, Value)> = Vec::new();
    // Kept history, in every disguise.
    for item in [
        json!({"id": "msg_1"}),
        json!({"type": null, "id": "msg_1"}),
        json!({"type": "", "id": "msg_1"}),
        json!({"type": 7, "id": "msg_1"}),
        json!({"type": "item_reference", "id": "msg_1"}),
        json!({"type": "Item_Reference ", "id": "msg_1", "content": "a"}),
        json!({"type": "message", "id": "msg_1"}),
        json!({"type": "message", "role": "user", "id": "msg_1", "content": null}),
        json!({"type": "message", "role": "user", "id": "msg_1", "content": []}),
        json!({"role": "user", "id": "msg_1", "content": ""}),
        json!({"type": "reasoning", "id": "rs_1"}),
        json!({"type": "function_call", "id": "fc_1"}),
        json!({"type": "function_call_output", "id": "fc_1"}),
        json!({"type": "compaction", "id": "cmp_1"}),
        json!({"type": "something_new", "id": "x_1", "status": "completed"}),
        json!({"id": "msg_1", "other": "words"}),
    ] {
        never.push((RESPONSES, responses(json!([{"role": "user", "content": "a"}, item]))));
    }
    let file = |kind: &str| json!([{"type": kind, "file_id": "file-1"}]);
    never.extend([
        (RESPONSES, responses(json!([{"role": "user", "content": file("input_file")}]))),
        (RESPONSES, responses(json!([{"role": "user", "content": file("input_image")}]))),
        (
            RESPONSES,
            responses(
                json!([{"type": "function_call_output", "call_id": "c", "output": file("input_file")}]),
            ),
        ),
        (CHAT, chat(json!([{"type": "file", "file": {"file_id": "file-1"}}]))),
        (CHAT, chat(json!([{"type": "something_new", "File_ID": "file-1"}]))),
        (CHAT, with(chat(text.clone()), "cachedContent", json!("cachedContents/x"))),
        (MESSAGES, messages(json!([{"type": "document", "source": {"type": "file", "file_id": "f"}}]))),
        (MESSAGES, messages(json!([{"type": "container_upload", "file_id": "f"}]))),
        (MESSAGES, messages(json!([{"type": "something_new", "source": {"file_id": "f"}}]))),
    ]);
    // Tools that run at a provider, by whatever name and type.
    for kind in [
        json!("web_search_20250305"),
        json!("code_execution_20250825"),
        json!("bash_code_execution_20250825"),
        json!("text_editor_code_execution_20250825"),
        json!("bash_20990101"),
        json!("memory_"),
        json!("mcp_toolset"),
        json!(["bash_20250124"]),
        json!(7),
        json!(true),
        json!({}),
        json!(""),
    ] {
        never
            .push((MESSAGES, with(messages(text.clone()), "tools", json!([{"type": kind, "name": "bash"}]))));
    }
    for kind in
        [json!("web_search"), json!("mcp"), json!("file_search"), json!(["function"]), json!(null), json!("")]
    {
        let tools = json!([{"type": kind, "name": "f", "function": {"name": "f"}}]);
        never.push((CHAT, with(chat(text.clone()), "tools", tools.clone())));
        never.push((RESPONSES, with(responses(json!("a")), "tools", tools.clone())));
        let inside = json!([{"type": "namespace", "name": "n", "tools": tools}]);
        never.push((RESPONSES, with(responses(json!("a")), "tools", inside)));
    }
    for tool in [
        json!({"type": "shell", "environment": {"type": "container_auto"}}),
        json!({"type": "shell"}),
        json!({"type": "tool_search"}),
        json!({"type": "tool_search", "execution": "server"}),
    ] {
        never.push((RESPONSES, with(responses(json!("a")), "tools", json!([tool]))));
    }
    let found = json!([{"type": "tool_search_output", "call_id": "c", "tools": [{"type": "web_search"}]}]);
    never.push((RESPONSES, responses(found)));
    for policy in ["strict", "one_credit"] {
        under(&app, policy).await;
        for (path, body) in &never {
            let answer = ask(&app, path, body).await;
            assert_eq!(answer.status, 400, "{policy} {path} {body}: {}", answer.text);
            assert!(!answer.text.contains("one_credit"), "{policy} {path} {body}: {}", answer.text);
        }
    }
    assert!(app.simulator.received().is_empty() && app.entries("ann").await.is_empty());
    app.end().await;
});

/// A search that runs at the provider.
fn search(kind: &str) -> Value {
    json!({"type": kind, "name": "web_search"})
}

each_database!(a_search_that_is_only_offered_is_left_out_and_named, async |test: TestDatabase| {
    let app = start(test).await;
    let function =
        json!({"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}});
    let of_chat = json!({"type": "function", "function": {"name": "f"}});
    let of_messages = json!({"name": "f", "input_schema": {"type": "object"}});
    let cached = json!({"type": "web_search", "external_web_access": false});
    let mut agent = codex();
    agent["tools"].as_array_mut().unwrap().push(cached.clone());
    for policy in ["strict", "one_credit"] {
        under(&app, policy).await;
        for (path, body, tools, name) in [
            (RESPONSES, agent.clone(), codex()["tools"].clone(), "tools.web_search"),
            (
                RESPONSES,
                with(responses(json!("a")), "tools", json!([cached, function])),
                json!([function]),
                "tools.web_search",
            ),
            (
                CHAT,
                with(chat(json!("a")), "tools", json!([search("web_search"), of_chat])),
                json!([of_chat]),
                "tools.web_search",
            ),
            (
                MESSAGES,
                with(messages(json!("a")), "tools", json!([of_messages, search("web_search_20250305")])),
                json!([of_messages]),
                "tools.web_search_20250305",
            ),
        ] {
            let answer = ask(&app, path, &body).await;
            assert_eq!(answer.status, 200, "{policy} {path}: {}", answer.text);
            assert_eq!(answer.headers["x-tracking-omitted"], name, "{policy} {path}");
            assert_eq!(app.simulator.received().last().unwrap().body["tools"], tools, "{policy} {path}");
        }
    }
    let before = app.simulator.received().len();
    let forced = |body: Value, choice: Value| with(body, "tool_choice", choice);
    let alone = with(messages(json!("a")), "tools", json!([search("web_search_20250305")]));
    let offered = with(responses(json!("a")), "tools", json!([function, cached]));
    for (path, body, words) in [
        (RESPONSES, with(responses(json!("a")), "tools", json!([cached])), ["tools.0", "`web_search`"]),
        (RESPONSES, forced(offered.clone(), json!({"type": "web_search"})), ["tools.1", "config.toml"]),
        (RESPONSES, forced(offered.clone(), json!("required")), ["index alone", "web_search = "]),
        (MESSAGES, alone.clone(), ["tools.0", "web_search_20250305` named `web_search`"]),
        (MESSAGES, forced(alone, json!({"type": "tool", "name": "web_search"})), ["disallowedTools", "deny"]),
    ] {
        let refused = ask(&app, path, &body).await;
        assert_eq!(refused.status, 400, "{path} {body}: {}", refused.text);
        let error = &refused.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_eq!(error["param"], "tools");
    }
    assert_eq!(app.simulator.received().len(), before);
    app.end().await;
});

each_database!(what_is_kept_at_a_provider_is_not_counted_either, async |test: TestDatabase| {
    let app = start(test).await;
    for (body, param) in [
        (with(responses(json!("a")), "previous_response_id", json!("resp_1")), "previous_response_id"),
        (responses(json!([{"type": "item_reference", "id": "msg_1"}])), "input"),
        (responses(json!([{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}])), "input"),
        (
            with(responses(json!("a")), "tools", json!([{"type": "file_search", "vector_store_ids": ["v"]}])),
            "tools",
        ),
    ] {
        let refused = ask(&app, "/v1/responses/input_tokens", &body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!(param)),
            "{}",
            refused.text
        );
    }
    assert!(app.simulator.received().is_empty());
    assert_eq!(ask(&app, "/v1/responses/input_tokens", &codex()).await.status, 200);
    app.end().await;
});

each_database!(a_refusal_says_what_a_vendors_client_goes_on_by, async |test: TestDatabase| {
    let app = start(test).await;
    let refused = ask(&app, MESSAGES, &with(messages(json!("a")), "thread", json!({"type": "create"}))).await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.json()["error"]["details"],
        json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]})
    );
    let other = ask(&app, MESSAGES, &with(messages(json!("a")), "speed", json!("fast"))).await;
    let error = &other.json()["error"];
    assert!(error.get("details").is_none() && other.status == 400, "{}", other.text);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`speed`") && message.contains("`fast`"), "{message}");
    app.end().await;
});

each_database!(the_unknown_passes_where_nothing_is_bounded, async |test: TestDatabase| {
    let app = start(test).await;
    let unknown = [
        (RESPONSES, responses(json!([{"type": "something_new", "words": "one two"}])), "something_new"),
        (RESPONSES, responses(json!([{"type": "message", "role": "oracle", "content": "a"}])), "oracle"),
        (
            RESPONSES,
            responses(json!([{"role": "user", "content": [{"type": "input_smell"}]}])),
            "input_smell",
        ),
        (RESPONSES, responses(json!([{"content": "a"}])), "without a type"),
        (RESPONSES, responses(json!(["a"])), "without a type"),
        (CHAT, chat(json!([{"type": "something_new", "words": "one two"}])), "something_new"),
        (CHAT, chat(json!([{"type": null, "text": "a"}])), "without a type"),
        (CHAT, chat(json!([{"type": ["text"], "text": "a"}])), "no text"),
        (CHAT, with(chat(json!("a")), "messages", json!([{"role": "oracle", "content": "a"}])), "oracle"),
        (
            CHAT,
            with(
                chat(json!("a")),
                "messages",
                json!([{"role": "assistant", "tool_calls": [{"type": "psychic"}]}]),
            ),
            "psychic",
        ),
        (MESSAGES, messages(json!([{"type": "something_new", "words": "one two"}])), "something_new"),
        (MESSAGES, messages(json!([{"type": "document", "source": {"type": "moon"}}])), "moon"),
        (
            MESSAGES,
            with(messages(json!("a")), "messages", json!([{"role": "oracle", "content": "a"}])),
            "oracle",
        ),
        (
            MESSAGES,
            with(
                messages(json!("a")),
                "context_management",
                json!({"edits": [{"type": "clear_sky_20990101"}]}),
            ),
            "clear_sky",
        ),
        (
            EMBEDDINGS,
            json!({"model": "gpt-test", "input": "a", "messages": [{"text": "one two"}]}),
            "messages",
        ),
    ];
    under(&app, "strict").await;
    for (path, body, word) in &unknown {
        let answer = ask(&app, path, body).await;
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text);
        for word in [*word, "known are", "one_credit would take it"] {
            assert!(answer.text.contains(word), "{path} {body}: {}", answer.text);
        }
    }
    assert!(app.simulator.received().is_empty() && app.entries("ann").await.is_empty());
    under(&app, "one_credit").await;
    for (path, body, _) in &unknown {
        let before = app.simulator.received().len();
        let answer = ask(&app, path, body).await;
        // The simulated servers may know as little of it.
        assert!(app.simulator.received().len() > before, "{path} {body}: {}", answer.text);
    }
    app.end().await;
});

each_database!(no_other_case_of_our_fields_on_any_route, async |test: TestDatabase| {
    let app = start(test).await;
    let routes = [
        (CHAT, chat(json!("a"))),
        (RESPONSES, responses(json!("a"))),
        (MESSAGES, messages(json!("a"))),
        (EMBEDDINGS, json!({"model": "gpt-test", "input": "a"})),
    ];
    for policy in ["strict", "one_credit"] {
        under(&app, policy).await;
        for (path, body) in &routes {
            for field in [
                "Model",
                "Max_Tokens",
                "N",
                "SERVICE_TIER",
                "\u{17f}ervice_tier",
                "max_to\u{212a}ens",
                "Stream",
            ] {
                let answer = ask(&app, path, &with(body.clone(), field, json!(1))).await;
                assert_eq!(answer.status, 400, "{policy} {path} {field}: {}", answer.text);
                assert!(answer.text.contains("write `"), "{}", answer.text);
            }
        }
        let nested = [
            (CHAT, with(chat(json!("a")), "stream_options", json!({"Include_Usage": false}))),
            (CHAT, with(chat(json!("a")), "reasoning", json!({"EFFORT": "high"}))),
            (
                CHAT,
                with(chat(json!("a")), "messages", json!([{"role": "user", "content": "a", "Content": "b"}])),
            ),
            (CHAT, chat(json!([{"type": "text", "text": "a", "Type": "file"}]))),
            (
                RESPONSES,
                responses(
                    json!([{"type": "message", "role": "user", "content": "a", "Type": "item_reference"}]),
                ),
            ),
            (
                MESSAGES,
                with(messages(json!("a")), "thinking", json!({"type": "enabled", "Budget_Tokens": 9})),
            ),
            (
                MESSAGES,
                with(messages(json!("a")), "tools", json!([{"name": "a", "Type": "web_search_20250305"}])),
            ),
        ];
        for (path, body) in &nested {
            let answer = ask(&app, path, body).await;
            assert_eq!(answer.status, 400, "{policy} {path} {body}: {}", answer.text);
        }
        let schema = json!({"type": "object", "properties": {"Model": {"Type": "x"}}, "N": 1});
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
        let mut own = with(chat(json!("a")), "metadata", json!({"Model": "m", "N": "1"}));
        own["tools"] = tools;
        assert_eq!(ask(&app, CHAT, &own).await.status, 200, "{policy}");
    }
    app.end().await;
});

each_database!(what_real_clients_send_passes_under_both_policies, async |test: TestDatabase| {
    let app = start(test).await;
    let mut plain = chat(json!("one two three"));
    plain.as_object_mut().unwrap().extend(
        json!({
            "metadata": {"team": "a"}, "user": "u", "store": true, "parallel_tool_calls": false, "seed": 7,
            "logprobs": true, "top_logprobs": 2, "prompt_cache_key": "k", "safety_identifier": "s",
            "reasoning_effort": "low", "verbosity": "low", "service_tier": "auto", "logit_bias": {"1": 2},
            "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            "chat_template_kwargs": {"enable_thinking": false}, "top_k": 4, "repetition_penalty": 1.1,
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    let mut bodies = vec![(CHAT, plain), (RESPONSES, codex()), (MESSAGES, claude_code())];
    for call in OPEN_WEBUI {
        let mut body = serde_json::from_str::<Value>(call).unwrap()["body"].clone();
        body["model"] = json!("gpt-test");
        // The recording has a note instead of most tools.
        if let Some(tools) = body.get_mut("tools").and_then(Value::as_array_mut) {
            tools.retain(|tool| tool.get("type").is_some());
            assert!(!tools.is_empty());
        }
        bodies.push((CHAT, body));
    }
    for policy in ["strict", "one_credit"] {
        under(&app, policy).await;
        for (path, body) in &bodies {
            let before = app.simulator.received().len();
            let answer = ask(&app, path, body).await;
            let received = app.simulator.received();
            // The simulated Anthropic knows neither tools of its own nor made-up signatures.
            let refused_there = *path == MESSAGES && answer.text.contains("provider_rejected");
            assert!(answer.status == 200 || refused_there, "{policy} {path} {body}: {}", answer.text);
            assert!(
                !answer.headers.contains_key("x-tracking-omitted"),
                "{policy} {path}: {:?}",
                answer.headers
            );
            assert_eq!(received.len(), before + 1, "{policy} {path}");
            for (field, value) in
                body.as_object().unwrap().iter().filter(|(field, _)| *field != "stream_options")
            {
                assert_eq!(&received[before].body[field], value, "{policy} {path} {field}");
            }
        }
    }
    app.end().await;
});
