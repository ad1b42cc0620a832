//! Fields that would change the model, the endpoint, the key or the tier of a request, or bill extra beside its price:
//! refused, because they would be free. And what is kept at the provider: everybody's is kept under one key, so whoever
//! knows a name could read what others have stored.

use serde_json::{Map, Value, json};

use crate::hosted::{Tools, tool_or_function};
use crate::names::{folded, refuse_lookalikes};
use crate::request::{NOT_READ, printable};
use crate::{BadRequest, Details};

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
const READ: [&str; 45] = [
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
    "echo",
    "n_predict",
    "n_cmpl",
    "prompt_embeds",
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

/// The refusal of a field.
pub(crate) fn refuse_field(field: &str, why: &str) -> BadRequest {
    BadRequest::new(format!("`{field}` can't be used here: {why}"), Some(field.to_owned()))
}

/// The refusal of a value of a field that may have others.
pub(crate) fn refuse_value(field: &str, value: &Value, why: &str) -> BadRequest {
    let value = match value {
        Value::String(text) => printable(text),
        value => printable(&value.to_string()),
    };
    BadRequest::new(format!("`{field}` can't be `{value}` here: {why}"), Some(field.to_owned()))
}

/// The refusal of a file that is kept at the provider, in that field.
pub(crate) fn refuse_stored(field: &str) -> BadRequest {
    let message =
        "stored files can't be used here: all are kept under one key; send the file itself in the request";
    BadRequest::new(message, Some(field.to_owned()))
}

/// Whether a value asks for something.
pub(crate) fn said(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// Refuses such fields, and tools that run at the provider.
pub(crate) fn check(body: &Map<String, Value>, tools: Tools<'_>) -> Result<(), BadRequest> {
    fields(body)?;
    for (index, tool) in list(body, "tools")?.iter().enumerate() {
        tool_or_function(tool, tools, &format!("tools.{index}"))?;
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
            let refused = refuse_field(field, "it would cost something that has no price");
            return Err(BadRequest {
                details: (field == "thread").then_some(Details::WithoutThreads),
                ..refused
            });
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
    let one_of = |field: &str, taken: &[&str], why: &str| match body.get(field) {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_str().is_some_and(|value| taken.contains(&value)) => Ok(()),
        Some(value) => Err(refuse_value(field, value, why)),
    };
    // `on_demand`: Groq's name of its default ("Service Tiers").
    let tiers = ["auto", "default", "standard_only", "on_demand"];
    one_of("service_tier", &tiers, "only the default tier has a price")?;
    one_of("speed", &["standard"], "only the standard speed has a price")?;
    match list(body, "modalities")?.iter().find(|modality| *modality != "text") {
        Some(modality) => Err(refuse_value("modalities", modality, "only text output has a price")),
        None => Ok(()),
    }
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
        let tools = Tools { client: &["function", "custom"], switches: &[] };
        check(body.as_object().unwrap(), tools).err().and_then(|error| error.param)
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
}
