//! Fields that would change the model, the endpoint, the key or the tier of a request, or bill extra beside its price:
//! refused, because they would be free.

use serde_json::{Map, Value};

use crate::BadRequest;

/// Refused wherever they stand with a value. Those of gateways behind us (LiteLLM, OpenRouter) are among them.
const NEVER: [&str; 23] = [
    "models",
    "route",
    "plugins",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
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
    "previous_response_id",
    "conversation",
    "prediction",
    "audio",
];

/// The refusal of a field.
pub(crate) fn refuse_field(field: &str, why: &str) -> BadRequest {
    BadRequest { message: format!("`{field}` can't be used here: {why}"), param: Some(field.to_owned()) }
}

/// Refuses such fields.
pub(crate) fn check(body: &Map<String, Value>) -> Result<(), BadRequest> {
    let refuse = |field: &str, why: &str| Err(refuse_field(field, why));
    let said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    if let Some(field) = NEVER.iter().find(|field| body.get(**field).is_some_and(said)) {
        return refuse(field, "it would cost something that has no price");
    }
    match body.get("service_tier") {
        None | Some(Value::Null) => {}
        Some(Value::String(tier)) if tier == "auto" || tier == "default" => {}
        Some(_) => return refuse("service_tier", "only the default tier has a price"),
    }
    let modalities = body.get("modalities").and_then(Value::as_array).into_iter().flatten();
    if modalities.into_iter().any(|modality| modality != "text") {
        return refuse("modalities", "only text output has a price");
    }
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let hosted =
        |tool: &Value| !matches!(tool.get("type").and_then(Value::as_str), Some("function" | "custom"));
    if tools.into_iter().any(hosted) {
        return refuse(
            "tools",
            "only tools of type function or custom; the provider's own tools have no price",
        );
    }
    Ok(())
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
        for field in NEVER {
            assert_eq!(refused(json!({ field: "x" })).as_deref(), Some(field));
            assert_eq!(refused(json!({ field: null })), None);
        }
        assert_eq!(refused(json!({"service_tier": "priority"})).as_deref(), Some("service_tier"));
        assert_eq!(refused(json!({"service_tier": "auto"})), None);
        assert_eq!(refused(json!({"modalities": ["text", "audio"]})).as_deref(), Some("modalities"));
        assert_eq!(refused(json!({"tools": [{"type": "web_search"}]})).as_deref(), Some("tools"));
        assert_eq!(
            refused(json!({"tools": [{"type": "function"}], "seed": 7, "anything": {"else": 1}})),
            None
        );
    }
}
