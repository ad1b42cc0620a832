//! Tools: those that the client runs, and what becomes of those that run at the provider.
//!
//! The rule it protects: what runs at a provider costs something beside the tokens, which has no price here. So no request
//! gets it, and whoever loses it is told so.

use serde_json::{Map, Value};

use crate::BadRequest;
use crate::names::{folded, refuse_lookalikes};
use crate::request::printable;

/// The tools of one API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tools<'a> {
    /// Types of those that the client runs.
    pub client: &'a [&'a str],
    /// How known clients stop offering others: what their types begin with, and what to write where.
    pub switches: &'a [(&'a str, &'a str)],
}

/// The names in a tool.
const OF_TOOL: [&str; 16] = [
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
    "execution",
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

/// The refusal of a tool, with why.
pub(crate) fn refuse_tool(at: &str, why: &str) -> BadRequest {
    BadRequest::new(format!("`{at}` can't be used here: {why}"), Some("tools".into()))
}

/// Refuses a tool that doesn't run at the client.
///
/// # Errors
/// Names its place, its type and its name, the types that there are, and how a known client leaves it out.
pub(crate) fn tool(tool: &Value, tools: Tools<'_>, at: &str) -> Result<(), BadRequest> {
    let Some(object) = tool.as_object() else { return Err(wrong("what is no object", "", tools, at)) };
    match object.get("type").and_then(Value::as_str) {
        Some(kind) if tools.client.contains(&kind) => tool_names(object, at),
        Some(kind) => {
            let mut what = format!("`{}`", printable(kind));
            let mut names =
                ["name", "server_label"].into_iter().filter_map(|field| object.get(field)?.as_str());
            if let Some(name) = names.find(|name| *name != kind) {
                what.push_str(&format!(" named `{}`", printable(name)));
            }
            if is_search(kind) && object.get("external_web_access") == Some(&Value::Bool(false)) {
                // It searches still, in what the provider has indexed (OpenAI, "Web search", "Live internet access").
                what.push_str(
                    " with `external_web_access` = false, by which it searches the provider's index alone,",
                );
            }
            let switches = tools.switches.iter().filter(|(begins, _)| kind.starts_with(begins));
            let switch = switches.map(|(_, switch)| *switch).next().unwrap_or_default();
            Err(wrong(&what, switch, tools, at))
        }
        None => Err(wrong("one without a type", "", tools, at)),
    }
}

/// The same for an API whose functions may come without a type.
///
/// # Errors
/// See [`tool`].
pub(crate) fn tool_or_function(tool: &Value, tools: Tools<'_>, at: &str) -> Result<(), BadRequest> {
    match untyped_function(tool) {
        Some(function) => tool_names(function, at),
        None => self::tool(tool, tools, at),
    }
}

fn wrong(what: &str, switch: &str, tools: Tools<'_>, at: &str) -> BadRequest {
    let known = tools.client.join(", ");
    let switch = if switch.is_empty() { String::new() } else { format!(". {switch}") };
    let message = format!(
        "`{at}`: {what} is no tool that the client runs, and the provider's own tools have no price; there are {known}{switch}"
    );
    BadRequest::new(message, Some("tools".into()))
}

/// A tool that says what it is only by what is in it: a function, as Mistral's own clients send it ("Function calling").
fn untyped_function(tool: &Value) -> Option<&Map<String, Value>> {
    let tool = tool.as_object()?;
    let typed = tool.get("type").is_some_and(|kind| !kind.is_null());
    let known = tool.keys().all(|name| matches!(name.as_str(), "type" | "function" | "cache_control"));
    (!typed && known && tool.get("function").is_some_and(Value::is_object)).then_some(tool)
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
            return Err(refuse_tool(&format!("{at}.{name}"), "the provider's own tools have no price"));
        }
    }
    Ok(())
}

/// Whether that is the type of a search of the web that runs at the provider, in any of its published versions (OpenAI, "Web
/// search"; Anthropic, "Web search tool").
fn is_search(kind: &str) -> bool {
    let Some(rest) = kind.strip_prefix("web_search") else { return false };
    let version = rest.strip_prefix("_preview").unwrap_or(rest);
    version.len() <= "_2025_03_11".len() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

fn kind(tool: &Value) -> Option<&str> {
    tool.get("type").and_then(Value::as_str)
}

/// Leaves out searches of the web that a request only offers: coding agents do so unasked in every request, and their tasks
/// end without. One that must be used, or beside which there is nothing that the client runs, is what its request is about:
/// it stays and is refused. `runs`: whether the client runs a tool. What was left out, by its names.
pub(crate) fn leave_out_searches(
    body: &mut Map<String, Value>,
    runs: impl Fn(&Value) -> bool,
) -> Vec<String> {
    let choice = body.get("tool_choice");
    let Some(Value::Array(tools)) = body.get("tools") else { return Vec::new() };
    let searches = || tools.iter().filter_map(|tool| kind(tool).filter(|kind| is_search(kind)));
    if searches().next().is_none() {
        return Vec::new();
    }
    let others = || tools.iter().filter(|tool| !kind(tool).is_some_and(is_search));
    let names: Vec<&str> = tools
        .iter()
        .filter(|tool| kind(tool).is_some_and(is_search))
        .filter_map(|tool| tool.get("name").and_then(Value::as_str))
        .collect();
    if others().next().is_none() || !others().all(runs) || !leaves_free(choice, &names) {
        return Vec::new();
    }
    let mut omitted: Vec<String> = searches().map(|kind| format!("tools.{kind}")).collect();
    omitted.dedup();
    if let Some(Value::Array(tools)) = body.get_mut("tools") {
        tools.retain(|tool| !kind(tool).is_some_and(is_search));
    }
    omitted
}

/// Whether a choice of tools lets the model do without a search. `names`: what the searches are called.
fn leaves_free(choice: Option<&Value>, names: &[&str]) -> bool {
    match choice {
        None | Some(Value::Null) => true,
        Some(Value::String(choice)) => matches!(choice.as_str(), "auto" | "none"),
        Some(choice) => match kind(choice) {
            Some("auto" | "none") => true,
            Some("any" | "required") => false,
            _ => !mentions(choice, names),
        },
    }
}

/// Whether a search is named anywhere in it.
fn mentions(value: &Value, names: &[&str]) -> bool {
    match value {
        Value::String(text) => is_search(text) || names.contains(&text.as_str()),
        Value::Array(list) => list.iter().any(|value| mentions(value, names)),
        Value::Object(object) => object.values().any(|value| mentions(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOOLS: Tools<'_> =
        Tools { client: &["function", "custom"], switches: &[("web_search", "Write `off`")] };

    #[test]
    fn tools_that_run_elsewhere_are_named() {
        for (tool, named) in [
            (json!({"type": "web_search"}), "`web_search`"),
            (json!({"type": "web_search"}), "Write `off`"),
            (json!({"type": "web_search", "external_web_access": false}), "index alone"),
            (json!({"type": "mcp", "server_label": "docs"}), "`mcp` named `docs`"),
            (json!({"type": "web_search_20250305", "name": "search"}), "named `search`"),
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
            let error = tool_or_function(&tool, TOOLS, "tools.1").unwrap_err();
            assert_eq!(error.param.as_deref(), Some("tools"), "{tool}");
            assert!(error.message.contains("tools.1") && error.message.contains(named), "{error}");
        }
        let mcp = tool_or_function(&json!({"type": "mcp"}), TOOLS, "tools.1").unwrap_err();
        assert!(!mcp.message.contains("Write"), "{mcp}");
    }

    fn left(tools: Value, choice: Value) -> (Vec<String>, usize) {
        let mut body = json!({"tools": tools, "tool_choice": choice});
        let body = body.as_object_mut().unwrap();
        let omitted = leave_out_searches(body, |tool| kind(tool) == Some("function"));
        (omitted, body["tools"].as_array().map_or(0, Vec::len))
    }

    #[test]
    fn a_search_that_is_only_offered_is_left_out() {
        let function = json!({"type": "function", "name": "f"});
        for search in [
            "web_search",
            "web_search_preview",
            "web_search_preview_2025_03_11",
            "web_search_2025_08_26",
            "web_search_20250305",
        ] {
            let tools = json!([function, {"type": search, "name": "web_search"}]);
            for choice in [
                json!(null),
                json!("auto"),
                json!("none"),
                json!({"type": "auto", "disable_parallel_tool_use": true}),
                json!({"type": "function", "name": "f"}),
                json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}),
            ] {
                let expected = (vec![format!("tools.{search}")], 1);
                assert_eq!(left(tools.clone(), choice.clone()), expected, "{search} {choice}");
            }
        }
    }

    #[test]
    fn one_that_the_request_is_about_stays() {
        let search = json!({"type": "web_search_20250305", "name": "look"});
        let function = json!({"type": "function", "name": "f"});
        for (tools, choice) in [
            (json!([search]), json!(null)),
            (json!([search, {"type": "web_search"}]), json!("auto")),
            (json!([function, search]), json!("required")),
            (json!([function, search]), json!({"type": "any"})),
            (json!([function, search]), json!({"type": "tool", "name": "look"})),
            (json!([function, search]), json!({"type": "web_search_20250305"})),
            (
                json!([function, search]),
                json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search_20250305"}]}),
            ),
            // Whatever else is refused is refused with its own place.
            (json!([function, {"type": "mcp"}, search]), json!(null)),
            (json!([function, {"type": "web_search_everywhere"}]), json!(null)),
            (json!([function, {"type": "Web_Search"}]), json!(null)),
            (json!([function]), json!(null)),
        ] {
            let count = tools.as_array().unwrap().len();
            assert_eq!(left(tools.clone(), choice.clone()), (Vec::new(), count), "{tools} {choice}");
        }
    }
}
