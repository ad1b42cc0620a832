//! Fields that would change the model, the endpoint, the key or the tier of a request, or bill extra beside its price:
//! refused, because they would be free.

use serde_json::{Map, Value};

use crate::BadRequest;

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
const UNCOUNTED: [&str; 2] = ["chat_template", "mm_processor_kwargs"];

/// The refusal of a field.
pub(crate) fn refuse_field(field: &str, why: &str) -> BadRequest {
    BadRequest { message: format!("`{field}` can't be used here: {why}"), param: Some(field.to_owned()) }
}

/// Whether a value asks for something.
fn said(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// Refuses such fields, and tools that run at the provider.
pub(crate) fn check(body: &Map<String, Value>) -> Result<(), BadRequest> {
    fields(body)?;
    let hosted =
        |tool: &Value| !matches!(tool.get("type").and_then(Value::as_str), Some("function" | "custom"));
    if list(body, "tools")?.iter().any(hosted) {
        return Err(refuse_field(
            "tools",
            "only tools of type function or custom; the provider's own tools have no price",
        ));
    }
    Ok(())
}

/// Refuses such fields in a body of any shape.
pub(crate) fn fields(body: &Map<String, Value>) -> Result<(), BadRequest> {
    let refuse = |field: &str, why: &str| Err(refuse_field(field, why));
    let asked = |field: &&&str| body.get(**field).is_some_and(said);
    if let Some(field) = NEVER.iter().find(asked) {
        return refuse(field, "it would cost something that has no price");
    }
    if let Some(field) = UNCOUNTED.iter().find(asked) {
        return refuse(field, "what it makes of the input can't be counted");
    }
    let one_of = |field: &str, taken: &[&str]| match body.get(field) {
        None | Some(Value::Null) => true,
        Some(value) => value.as_str().is_some_and(|value| taken.contains(&value)),
    };
    if !one_of("service_tier", &["auto", "default", "standard_only"]) {
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
    use serde_json::json;

    use super::*;

    fn refused(body: Value) -> Option<String> {
        check(body.as_object().unwrap()).err().and_then(|error| error.param)
    }

    #[test]
    fn what_buys_outside_the_price_is_refused() {
        for field in NEVER.into_iter().chain(UNCOUNTED) {
            assert_eq!(refused(json!({ field: "x" })).as_deref(), Some(field));
            assert_eq!(refused(json!({ field: null })), None);
        }
        assert_eq!(refused(json!({"service_tier": "priority"})).as_deref(), Some("service_tier"));
        assert_eq!(refused(json!({"service_tier": "auto"})), None);
        assert_eq!(refused(json!({"modalities": ["text", "audio"]})).as_deref(), Some("modalities"));
        assert_eq!(refused(json!({"modalities": "audio"})).as_deref(), Some("modalities"));
        assert_eq!(refused(json!({"speed": "fast"})).as_deref(), Some("speed"));
        assert_eq!(refused(json!({"tools": [{"type": "web_search"}]})).as_deref(), Some("tools"));
        assert_eq!(refused(json!({"tools": {"0": {"type": "web_search"}}})).as_deref(), Some("tools"));
        assert_eq!(
            refused(json!({"tools": [{"type": "function"}], "seed": 7, "anything": {"else": 1}})),
            None
        );
    }
}
