//! Fields that would change the model, the endpoint, the key or the tier of a request, or bill extra beside its price:
//! refused, because they would be free. And what is kept at the provider: everybody's is kept under one key, so whoever
//! knows a name could read what others have stored.

use serde_json::{Map, Value, json};

use crate::BadRequest;
use crate::names::{folded, refuse_lookalikes};
use crate::request::{NOT_READ, printable};

/// Refused wherever they stand with a value, in every shape. Those of gateways behind us (LiteLLM, OpenRouter) and of
/// servers with tools of their own (Anthropic, xAI, DashScope) are among them.
const NEVER: [&str; 35] = [
    "models",
    "route",
    "plugins",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "fallback_credit_token",
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "custom_llm_provider",
    "model_list",
    "litellm_params",
    "extra_headers",
    "extra_body",
    "extra_query",
    "provider",
    "background",
    "web_search_options",
    "search_parameters",
    "enable_search",
    "previous_response_id",
    "conversation",
    "prediction",
    "audio",
    "container",
    "mcp_servers",
    "inference_geo",
    "billing_policy",
    "compaction",
    "thread",
    "user_profile_id",
    "workspace_id",
    "betas",
];

/// Refused because what they make of the input can't be counted (vLLM, "Chat Completions API", "Extra parameters").
const UNCOUNTED: [&str; 3] = ["chat_template", "mm_processor_kwargs", "media_io_kwargs"];

/// Content that is kept at the provider (Google, "Context caching").
const KEPT: [&str; 2] = ["cachedContent", "cached_content"];

/// What else is read at the top of a body: no other case of these names may stand there. [`NOT_READ`] are the rest.
const READ: [&str; 41] = [
    "messages",
    "input",
    "instructions",
    "system",
    "prompt",
    "tools",
    "functions",
    "stream",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tool_calls",
    "num_predict",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
    "response_format",
    "format",
    "text",
    "output_config",
    "store",
    "generationConfig",
    "generation_config",
    "responseModalities",
    "response_modalities",
    "serviceTier",
    "dimensions",
    "chat_template_kwargs",
    "documents",
    "best_of",
    "template",
    "raw",
    "suffix",
];

/// Objects at the top that are read, or that buy something, with the names in them.
const NESTED: [(&str, &[&str]); 11] = [
    ("stream_options", &["include_usage", "include_obfuscation"]),
    ("reasoning", &["effort", "max_tokens", "enabled", "exclude", "summary", "generate_summary"]),
    ("thinking", &["type", "budget_tokens", "display"]),
    ("response_format", &["type", "json_schema", "schema"]),
    ("text", &["format", "verbosity"]),
    ("output_config", &["effort", "format", "task_budget"]),
    ("context_management", &["edits"]),
    ("tool_choice", &["type", "name", "function", "custom", "mode", "tools", "disable_parallel_tool_use"]),
    ("usage", &["include"]),
    (
        "options",
        &["num_predict", "num_ctx", "num_keep", "stop", "temperature", "top_k", "top_p", "min_p", "seed"],
    ),
    ("chat_template_kwargs", &["enable_thinking", "thinking", "reasoning_effort"]),
];

/// The names in a tool.
const OF_TOOL: [&str; 15] = [
    "type",
    "function",
    "custom",
    "name",
    "description",
    "parameters",
    "strict",
    "format",
    "input_schema",
    "cache_control",
    "environment",
    "tools",
    "defer_loading",
    "allowed_callers",
    "input_examples",
];

/// Google's own tools: gateways take them by their names, whatever the type of the tool says (LiteLLM, "Gemini").
const HOSTED: [&str; 12] = [
    "googlesearch",
    "googlesearchretrieval",
    "googlemaps",
    "enterprisewebsearch",
    "websearch",
    "codeexecution",
    "codeinterpreter",
    "urlcontext",
    "filesearch",
    "retrieval",
    "computeruse",
    "mcp",
];

/// The refusal of a field.
pub(crate) fn refuse_field(field: &str, why: &str) -> BadRequest {
    BadRequest { message: format!("`{field}` can't be used here: {why}"), param: Some(field.to_owned()) }
}

/// The refusal of a file that is kept at the provider, in that field.
pub(crate) fn refuse_stored(field: &str) -> BadRequest {
    BadRequest {
        message:
            "stored files can't be used here: all are kept under one key; send the file itself in the request"
                .into(),
        param: Some(field.to_owned()),
    }
}

/// Whether a value asks for something.
pub(crate) fn said(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// Refuses such fields, and tools that run at the provider. `client`: the types of tools that the client runs.
pub(crate) fn check(body: &Map<String, Value>, client: &[&str]) -> Result<(), BadRequest> {
    fields(body)?;
    for (index, tool) in list(body, "tools")?.iter().enumerate() {
        let at = format!("tools.{index}");
        match untyped_function(tool) {
            Some(tool) => tool_names(tool, &at)?,
            None => self::tool(tool, client, &at)?,
        }
    }
    Ok(())
}

/// A tool that says what it is only by what is in it: a function, as Mistral's own clients send it ("Function calling").
fn untyped_function(tool: &Value) -> Option<&Map<String, Value>> {
    let tool = tool.as_object()?;
    let typed = tool.get("type").is_some_and(|kind| !kind.is_null());
    let known = tool.keys().all(|name| matches!(name.as_str(), "type" | "function" | "cache_control"));
    (!typed && known && tool.get("function").is_some_and(Value::is_object)).then_some(tool)
}

/// Refuses a tool that doesn't run at the client.
///
/// # Errors
/// Names it and the types that there are.
pub(crate) fn tool(tool: &Value, client: &[&str], at: &str) -> Result<(), BadRequest> {
    let kind = tool.get("type");
    let wrong = |name: &str| {
        let message = format!(
            "`{at}`: {name} is no tool that the client runs, and the provider's own tools have no price; there are {}",
            client.join(", ")
        );
        BadRequest { message, param: Some("tools".into()) }
    };
    let Some(object) = tool.as_object() else { return Err(wrong("what is no object")) };
    match kind.and_then(Value::as_str) {
        Some(kind) if client.contains(&kind) => {}
        Some(kind) => return Err(wrong(&format!("`{}`", printable(kind)))),
        None => return Err(wrong("one without a type")),
    }
    tool_names(object, at)
}

/// Refuses names in a tool that would make it another one for some servers.
///
/// # Errors
/// Names the field.
pub(crate) fn tool_names(tool: &Map<String, Value>, at: &str) -> Result<(), BadRequest> {
    refuse_lookalikes(tool, &[&OF_TOOL], at)?;
    for (name, _) in tool.iter().filter(|(name, _)| !OF_TOOL.contains(&name.as_str())) {
        let squeezed: String = folded(name).chars().filter(|letter| *letter != '_').collect();
        if HOSTED.contains(&squeezed.as_str()) {
            let message = format!("`{at}.{name}` can't be used here: the provider's own tools have no price");
            return Err(BadRequest { message, param: Some("tools".into()) });
        }
    }
    Ok(())
}

/// Refuses such fields in a body of any shape.
pub(crate) fn fields(body: &Map<String, Value>) -> Result<(), BadRequest> {
    let refuse = |field: &str, why: &str| Err(refuse_field(field, why));
    lookalikes(body)?;
    // A body has fewer fields than there are refused ones.
    for (field, value) in body.iter().filter(|(_, value)| said(value)) {
        let field = field.as_str();
        if NEVER.contains(&field) && !(field == "plugins" && reads_files_free(value)) {
            return refuse(field, "it would cost something that has no price");
        }
        if UNCOUNTED.contains(&field) {
            return refuse(field, "what it makes of the input can't be counted");
        }
        if KEPT.contains(&field) {
            return refuse(
                field,
                "what is kept at the provider is kept for all under one key; send it in the request",
            );
        }
    }
    let one_of = |field: &str, taken: &[&str]| match body.get(field) {
        None | Some(Value::Null) => true,
        Some(value) => value.as_str().is_some_and(|value| taken.contains(&value)),
    };
    // `on_demand`: Groq's name of its default ("Service Tiers").
    if !one_of("service_tier", &["auto", "default", "standard_only", "on_demand"]) {
        return refuse("service_tier", "only the default tier has a price");
    }
    if !one_of("speed", &["standard"]) {
        return refuse("speed", "only the standard speed has a price");
    }
    if list(body, "modalities")?.iter().any(|modality| modality != "text") {
        return refuse("modalities", "only text output has a price");
    }
    Ok(())
}

/// Engines by which OpenRouter reads files for nothing beside the tokens ("PDF Inputs", "Pricing").
const FREE_ENGINES: [&str; 3] = ["native", "cloudflare-ai", "pdf-text"];

/// Whether plugins do nothing but name such an engine.
fn reads_files_free(plugins: &Value) -> bool {
    let is_free = |plugin: &Value| {
        let engine = plugin.pointer("/pdf/engine").and_then(Value::as_str);
        let named = engine.filter(|engine| FREE_ENGINES.contains(engine));
        named.is_some_and(|engine| *plugin == json!({"id": "file-parser", "pdf": {"engine": engine}}))
    };
    plugins.as_array().is_some_and(|plugins| plugins.iter().all(is_free))
}

/// Refuses names that differ from ours in case only, at the top and in the objects that are read there. What is in
/// `metadata`, in schemas and in arguments is the client's own.
fn lookalikes(body: &Map<String, Value>) -> Result<(), BadRequest> {
    refuse_lookalikes(body, &[&NEVER, &UNCOUNTED, &KEPT, &READ, &NOT_READ], "")?;
    for (field, value) in body {
        if let Value::Object(object) = value
            && let Some((_, known)) = NESTED.iter().find(|(nested, _)| nested == field)
        {
            refuse_lookalikes(object, &[known], field)?;
        }
    }
    Ok(())
}

/// Whether an object names a file that is kept at the provider, itself or in one of its objects.
pub(crate) fn names_stored_file(part: &Value) -> bool {
    let own = |object: &Map<String, Value>| {
        object.iter().any(|(name, value)| {
            let named = match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                _ => true,
            };
            named && matches!(&*folded(name), "file_id" | "file_ids")
        })
    };
    part.as_object().is_some_and(|part| own(part) || part.values().filter_map(Value::as_object).any(own))
}

/// A field that must be a list, so that all of it is looked at.
pub(crate) fn list<'a>(body: &'a Map<String, Value>, field: &str) -> Result<&'a [Value], BadRequest> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(refuse_field(field, "it must be a list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: Value) -> Option<String> {
        check(body.as_object().unwrap(), &["function", "custom"]).err().and_then(|error| error.param)
    }

    #[test]
    fn what_buys_outside_the_price_is_refused() {
        for field in NEVER.into_iter().chain(UNCOUNTED).chain(KEPT) {
            assert_eq!(refused(json!({ field: "x" })).as_deref(), Some(field));
            assert_eq!(refused(json!({ field: null })), None);
            let upper = field.to_ascii_uppercase();
            assert_eq!(refused(json!({ upper.as_str(): null })), Some(upper));
        }
        assert_eq!(refused(json!({"service_tier": "priority"})).as_deref(), Some("service_tier"));
        for tier in ["auto", "on_demand"] {
            assert_eq!(refused(json!({"service_tier": tier})), None);
        }
        assert_eq!(refused(json!({"modalities": ["text", "audio"]})).as_deref(), Some("modalities"));
        assert_eq!(refused(json!({"modalities": "audio"})).as_deref(), Some("modalities"));
        assert_eq!(refused(json!({"speed": "fast"})).as_deref(), Some("speed"));
        assert_eq!(refused(json!({"tools": [{"type": "web_search"}]})).as_deref(), Some("tools"));
        assert_eq!(refused(json!({"tools": {"0": {"type": "web_search"}}})).as_deref(), Some("tools"));
        assert_eq!(
            refused(json!({"tools": [{"type": "function"}], "seed": 7, "anything": {"else": 1}})),
            None
        );
        for kind in [json!({"function": {"name": "f"}}), json!({"type": null, "function": {"name": "f"}})] {
            assert_eq!(refused(json!({"tools": [kind]})), None);
        }
    }

    #[test]
    fn a_plugin_may_only_name_an_engine_that_is_free() {
        let engine = |engine: &str| json!({"id": "file-parser", "pdf": {"engine": engine}});
        for free in FREE_ENGINES {
            assert_eq!(refused(json!({"plugins": [engine(free)]})), None);
        }
        for dear in [
            json!([engine("mistral-ocr")]),
            json!([engine("native"), engine("mistral-ocr")]),
            json!([engine("native"), {"id": "web"}]),
            json!([{"id": "file-parser"}]),
            json!([{"id": "web", "pdf": {"engine": "native"}}]),
            json!([{"id": "file-parser", "pdf": {"engine": "native"}, "max_files": 9}]),
            engine("native"),
            json!("native"),
        ] {
            assert_eq!(refused(json!({"plugins": dear.clone()})).as_deref(), Some("plugins"), "{dear}");
        }
    }

    #[test]
    fn no_other_case_of_our_names() {
        for (name, field) in [
            (json!({"Model": "m"}), "Model"),
            (json!({"Max_Tokens": 1}), "Max_Tokens"),
            (json!({"N": 50}), "N"),
            (json!({"SERVICE_TIER": "priority"}), "SERVICE_TIER"),
            (json!({"\u{17F}ervice_tier": "priority"}), "\u{17F}ervice_tier"),
            (json!({"max_to\u{212A}ens": 1}), "max_to\u{212A}ens"),
            (json!({"stream_options": {"Include_Usage": false}}), "stream_options.Include_Usage"),
            (json!({"reasoning": {"Effort": "high"}}), "reasoning.Effort"),
            (json!({"thinking": {"Budget_Tokens": 9}}), "thinking.Budget_Tokens"),
            (json!({"response_format": {"Type": "json_object"}}), "response_format.Type"),
            (json!({"options": {"Num_Predict": 9}}), "options.Num_Predict"),
            (json!({"tools": [{"type": "function", "Type": "web_search"}]}), "tools.0.Type"),
        ] {
            assert_eq!(refused(name.clone()).as_deref(), Some(field), "{name}");
        }
        for fine in [
            json!({"metadata": {"Model": "m", "N": 1}, "user": "U"}),
            json!({"tools": [{"type": "function", "function": {"name": "F", "parameters": {"Type": 1, "Model": 2}}}]}),
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"Model": {}}}}}),
            json!({"generationConfig": {}, "topK": 4, "chatId": "c"}),
        ] {
            assert_eq!(refused(fine.clone()), None, "{fine}");
        }
    }

    #[test]
    fn tools_that_run_elsewhere_are_named() {
        for (tool, named) in [
            (json!({"type": "web_search"}), "`web_search`"),
            (json!({"type": ["function"]}), "without a type"),
            (json!({"type": 7}), "without a type"),
            (json!({"function": {"name": "f"}, "web_search": {}}), "without a type"),
            (json!({"function": "f"}), "without a type"),
            (json!({"name": "f"}), "without a type"),
            (json!({"type": "Function"}), "`Function`"),
            (json!("function"), "no object"),
            (json!({"type": "function", "googleSearch": {}}), "googleSearch"),
            (json!({"type": "function", "url_context": {}}), "url_context"),
        ] {
            let body = json!({"tools": [{"type": "custom"}, tool]});
            let error = check(body.as_object().unwrap(), &["function", "custom"]).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("tools"), "{tool}");
            assert!(error.message.contains("tools.1") && error.message.contains(named), "{error}");
        }
    }
}
