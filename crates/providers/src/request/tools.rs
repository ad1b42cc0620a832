//! The tools of a request as the models of a vendor read them, for counting.

use std::fmt::Write;

use serde_json::{Map, Value};

/// In which form a model gets its tools to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolForm {
    /// As JSON, as the client sent them.
    Json,
    /// As types of TypeScript: OpenAI's models (told by it in its developers' forum, "How to calculate the tokens when using
    /// function call", and found again in what its API counts).
    TypeScript,
}

/// All tools of a body, in that form; empty if there are none.
pub(super) fn text(body: &Map<String, Value>, form: ToolForm) -> String {
    let lists = super::text::TOOLS.into_iter().filter_map(|field| body.get(field));
    let mut text = String::new();
    for tools in lists.filter(|tools| tools.as_array().is_none_or(|list| !list.is_empty())) {
        match (form, tools) {
            (_, Value::Null) => {}
            (ToolForm::TypeScript, Value::Array(tools)) => types(tools, &mut text),
            (_, tools) => push(&mut text, tools),
        }
    }
    text
}

/// What is not a function stands there as JSON, so that nothing is left out.
fn types(tools: &[Value], text: &mut String) {
    let mut others = Vec::new();
    text.push_str("namespace functions {\n\n");
    for tool in tools {
        match function(tool) {
            Some(function) => declare(function, text),
            None => others.push(tool),
        }
    }
    text.push_str("} // namespace functions");
    others.into_iter().for_each(|tool| push(text, tool));
}

/// The function that a tool is: in Chat Completions it lies within, in Responses it is the tool itself, and in the older form
/// it has no type.
fn function(tool: &Value) -> Option<&Map<String, Value>> {
    let function = tool.get("function").unwrap_or(tool).as_object()?;
    let kind = function.get("type").and_then(Value::as_str);
    let parameters = function.get("parameters").is_none_or(|schema| schema.is_object() || schema.is_null());
    (kind.is_none_or(|kind| kind == "function") && function.contains_key("name") && parameters)
        .then_some(function)
}

fn declare(function: &Map<String, Value>, text: &mut String) {
    comment(function, text);
    let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
    let parameters = function.get("parameters").and_then(Value::as_object);
    let properties = parameters.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    match parameters.zip(properties.filter(|properties| !properties.is_empty())) {
        Some((schema, properties)) => {
            let _ = writeln!(text, "type {name} = (_: {{");
            members(schema, properties, text);
            text.push_str("}) => any;\n\n");
        }
        None => {
            let _ = writeln!(text, "type {name} = () => any;\n");
        }
    }
    // What members refer to.
    for field in ["$defs", "definitions"] {
        if let Some(shared) = parameters.and_then(|schema| schema.get(field)) {
            push(text, shared);
        }
    }
}

fn members(schema: &Map<String, Value>, properties: &Map<String, Value>, text: &mut String) {
    let required = schema.get("required").and_then(Value::as_array);
    for (name, member) in properties {
        if let Some(member) = member.as_object() {
            comment(member, text);
        }
        let needed = required.is_some_and(|list| list.iter().any(|one| one == name.as_str()));
        let _ = write!(text, "{name}{}: ", if needed { "" } else { "?" });
        kind(member, text);
        if let Some(default) = member.get("default") {
            let _ = write!(text, ", // default: {default}");
        } else {
            text.push(',');
        }
        text.push('\n');
    }
}

fn comment(described: &Map<String, Value>, text: &mut String) {
    if let Some(words) = described.get("description").and_then(Value::as_str).filter(|text| !text.is_empty())
    {
        let _ = writeln!(text, "// {words}");
    }
}

/// The type that a schema describes. What has no such form stands there as its JSON.
fn kind(schema: &Value, text: &mut String) {
    let Some(object) = schema.as_object() else { return push(text, schema) };
    if let Some(Value::Array(values)) = object.get("enum") {
        return either(values, text, push);
    }
    if let Some(value) = object.get("const") {
        return push(text, value);
    }
    if let Some(Value::Array(kinds)) = object.get("anyOf").or_else(|| object.get("oneOf")) {
        return either(kinds, text, |text, schema| kind(schema, text));
    }
    match object.get("type") {
        Some(Value::Array(kinds)) => either(kinds, text, |text, one| named(one, object, text)),
        Some(one) => named(one, object, text),
        None => push(text, schema),
    }
}

fn named(kind: &Value, schema: &Map<String, Value>, text: &mut String) {
    match (kind.as_str(), schema.get("properties"), schema.get("items")) {
        (Some("object"), Some(Value::Object(properties)), _) if !properties.is_empty() => {
            text.push_str("{\n");
            members(schema, properties, text);
            text.push('}');
        }
        (Some("array"), _, Some(items)) => {
            self::kind(items, text);
            text.push_str("[]");
        }
        (Some("array"), ..) => text.push_str("any[]"),
        (Some("integer" | "number"), ..) => text.push_str("number"),
        (Some(name), ..) => text.push_str(name),
        (None, ..) => push(text, kind),
    }
}

fn either(values: &[Value], text: &mut String, write: impl Fn(&mut String, &Value)) {
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push_str(" | ");
        }
        write(text, value);
    }
}

fn push(text: &mut String, value: &Value) {
    // Writing into a text can't fail.
    let _ = write!(text, "{value}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(tools: &Value) -> String {
        text(json!({"tools": tools}).as_object().unwrap(), ToolForm::TypeScript)
    }

    #[test]
    fn functions_become_types() {
        let tools = json!([
            {"type": "function", "function": {"name": "look_up", "description": "Look up words", "strict": true, "parameters": {
                "type": "object", "additionalProperties": false, "required": ["word"], "properties": {
                    "word": {"type": "string", "description": "The word"},
                    "most": {"type": "integer", "default": 5},
                    "kinds": {"type": "array", "items": {"enum": ["noun", "verb"]}},
                    "place": {"type": ["object", "null"], "properties": {"page": {"type": "number"}}},
                    "either": {"anyOf": [{"const": 1}, {"type": "boolean"}, {"$ref": "#/$defs/a"}]},
                    "any": {},
                },
                "$defs": {"a": {"type": "string"}},
            }}},
            {"type": "function", "name": "now"},
        ]);
        let expected = "namespace functions {

// Look up words
type look_up = (_: {
// The word
word: string,
most?: number, // default: 5
kinds?: \"noun\" | \"verb\"[],
place?: {
page?: number,
} | null,
either?: 1 | boolean | {\"$ref\":\"#/$defs/a\"},
any?: {},
}) => any;

{\"a\":{\"type\":\"string\"}}type now = () => any;

} // namespace functions";
        assert_eq!(of(&tools), expected);
    }

    #[test]
    fn what_is_no_function_is_not_left_out() {
        let custom = json!({"type": "custom", "custom": {"name": "c"}});
        assert!(of(&json!([custom])).ends_with(&custom.to_string()));
        for odd in [json!({"a": 1}), json!("x"), json!([7]), json!([{"name": "f", "parameters": 7}])] {
            assert!(of(&odd).contains(odd.to_string().trim_matches(['[', ']'])), "{odd}");
        }
        for none in [json!(null), json!([])] {
            assert_eq!(of(&none), "", "{none}");
        }
        let body = json!({"functions": [{"name": "f"}]});
        assert!(text(body.as_object().unwrap(), ToolForm::TypeScript).contains("type f = () => any;"));
        assert_eq!(text(body.as_object().unwrap(), ToolForm::Json), r#"[{"name":"f"}]"#);
    }
}
