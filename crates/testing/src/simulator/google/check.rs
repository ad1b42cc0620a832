//! What Google's Gemini API refuses, as far as a converter could get it wrong.

use serde_json::{Map, Value};

use crate::simulator::asked::{Incoming, Refused};
use crate::simulator::signature;

const FIELDS: [&str; 9] = [
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "store",
];
const CONFIG_FIELDS: [&str; 25] = [
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "responseLogprobs",
    "logprobs",
    "presencePenalty",
    "frequencyPenalty",
    "seed",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseFormat",
    "responseModalities",
    "thinkingConfig",
    "mediaResolution",
    "speechConfig",
    "imageConfig",
    "enableEnhancedCivicAnswers",
    "routingConfig",
    "audioTimestamp",
    "translationConfig",
    "modelConfig",
];
const SCHEMA_FIELDS: [&str; 22] = [
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];
const PART_FIELDS: [&str; 12] = [
    "text",
    "thought",
    "thoughtSignature",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "videoMetadata",
    "partMetadata",
    "mediaResolution",
];
/// Stand for a signature that a client does not have ("Thought signatures").
const DUMMIES: [&str; 2] = ["context_engineering_is_the_way_to_go", "skip_thought_signature_validator"];
const MOST_STOPS: usize = 5;
const MOST_CANDIDATES: u64 = 8;

fn no<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::new(400, message))
}

pub(super) fn key(incoming: &Incoming) -> Result<(), Refused> {
    if incoming.has("x-goog-api-key") || incoming.path.contains("key=") {
        return Ok(());
    }
    Err(Refused::new(
        403,
        "Method doesn't allow unregistered callers (callers without established identity).",
    ))
}

/// Whether calls of such models must come back with their signatures.
pub(super) fn signs(model: &str) -> bool {
    model.starts_with("gemini-3")
}

/// The functions that a request declares.
pub(super) fn declarations(body: &Value) -> impl Iterator<Item = &Value> {
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    tools.filter_map(|tool| tool.get("functionDeclarations")?.as_array()).flatten()
}

/// How many texts are to be embedded.
pub(super) fn texts(body: &Value, single: bool) -> Result<usize, Refused> {
    let requests = if single {
        vec![body]
    } else {
        body.get("requests").and_then(Value::as_array).into_iter().flatten().collect()
    };
    if requests.is_empty() {
        return no("* BatchEmbedContentsRequest.requests: must not be empty");
    }
    for request in &requests {
        let fields = ["model", "content", "taskType", "title", "outputDimensionality", "embedContentConfig"];
        known(request, &fields, "requests")?;
        if !single
            && !request.get("model").and_then(Value::as_str).is_some_and(|name| name.starts_with("models/"))
        {
            return no("* BatchEmbedContentsRequest.requests[0].model: unexpected model name format");
        }
        if request.pointer("/content/parts/0/text").is_none_or(|text| text == "") {
            return no("* EmbedContentRequest.content: contents is not specified");
        }
    }
    Ok(requests.len())
}

pub(super) fn body(body: &Value, model: &str) -> Result<(), Refused> {
    if !body.is_object() {
        return no("Invalid JSON payload received.");
    }
    known(body, &FIELDS, "")?;
    if let Some(config) = body.get("generationConfig") {
        generation(config)?;
    }
    for declaration in declarations(body) {
        let fields = [
            "name",
            "description",
            "parameters",
            "parametersJsonSchema",
            "response",
            "responseJsonSchema",
            "behavior",
        ];
        known(declaration, &fields, "tools[0].function_declarations[0]")?;
        let name = declaration.get("name").and_then(Value::as_str).unwrap_or_default();
        let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if name.len() > 64 || !name.bytes().next().is_some_and(first) || !name.bytes().all(rest) {
            return no(
                "* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid function name. Must start with a letter or an underscore.",
            );
        }
        if let Some(parameters) = declaration.get("parameters") {
            schema(parameters, "tools[0].function_declarations[0].parameters")?;
        }
    }
    contents(body, model)
}

/// The body with its fields in one spelling: this API takes them with underscores as well. What clients name themselves
/// stays as it is.
pub(super) fn spelled(value: &Value) -> Value {
    const THEIR_OWN: [&str; 5] =
        ["args", "response", "properties", "parametersJsonSchema", "responseJsonSchema"];
    match value {
        Value::Array(list) => list.iter().map(spelled).collect(),
        Value::Object(map) => {
            let fields = map.iter().map(|(field, value)| {
                let mut words = field.split('_');
                let mut name = words.next().unwrap_or_default().to_owned();
                for word in words {
                    let (first, rest) = word.split_at_checked(1).unwrap_or_default();
                    name += &first.to_ascii_uppercase();
                    name += rest;
                }
                let value = if THEIR_OWN.contains(&name.as_str()) { value.clone() } else { spelled(value) };
                (name, value)
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// Refuses fields that this API does not have.
fn known(value: &Value, fields: &[&str], at: &str) -> Result<(), Refused> {
    match value.as_object().into_iter().flatten().find(|(field, _)| !fields.contains(&field.as_str())) {
        None => Ok(()),
        Some((field, _)) if at.is_empty() => {
            no(format!("Invalid JSON payload received. Unknown name \"{field}\": Cannot find field."))
        }
        Some((field, _)) => no(format!(
            "Invalid JSON payload received. Unknown name \"{field}\" at '{at}': Cannot find field."
        )),
    }
}

fn generation(config: &Value) -> Result<(), Refused> {
    known(config, &CONFIG_FIELDS, "generation_config")?;
    let has = |field: &str| config.get(field).is_some_and(|value| !value.is_null());
    if let Some(thinking) = config.get("thinkingConfig") {
        let fields = ["includeThoughts", "thinkingBudget", "thinkingLevel"];
        known(thinking, &fields, "generation_config.thinking_config")?;
        if thinking.get("thinkingBudget").is_some() && thinking.get("thinkingLevel").is_some() {
            return no("You can only set only one of thinking budget and thinking level.");
        }
        let level = thinking.get("thinkingLevel").and_then(Value::as_str).map(str::to_ascii_lowercase);
        if level.is_some_and(|level| !matches!(level.as_str(), "minimal" | "low" | "medium" | "high")) {
            return no("Invalid value at 'generation_config.thinking_config.thinking_level'");
        }
    }
    let json = config.get("responseMimeType").and_then(Value::as_str) == Some("application/json");
    if (has("responseSchema") || has("responseJsonSchema")) && !json {
        return no("Function calling config or response schema needs response_mime_type: application/json");
    }
    if has("responseSchema") && has("responseJsonSchema") {
        return no("only one of response_schema and response_json_schema can be set");
    }
    if let Some(given) = config.get("responseSchema") {
        schema(given, "generation_config.response_schema")?;
    }
    if has("logprobs") && config.get("responseLogprobs") != Some(&Value::Bool(true)) {
        return no("logprobs can only be set if response_logprobs is true");
    }
    if config.get("stopSequences").and_then(Value::as_array).is_some_and(|list| list.len() > MOST_STOPS) {
        return no(format!("Number of stop_sequences must be at most {MOST_STOPS}"));
    }
    let candidates = config.get("candidateCount").and_then(Value::as_u64).unwrap_or(1);
    if !(1..=MOST_CANDIDATES).contains(&candidates) {
        return no("candidate_count must be in the range [1, 8]");
    }
    Ok(())
}

fn schema(value: &Value, at: &str) -> Result<(), Refused> {
    let Some(object) = value.as_object() else { return no(format!("Invalid value at '{at}'")) };
    known(value, &SCHEMA_FIELDS, at)?;
    if object.get("type").is_some_and(|kind| !kind.is_string()) {
        return no(format!("Proto field is not repeating, cannot start list at '{at}.type'"));
    }
    let properties = object.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let items = object.get("items").into_iter();
    let any = object.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    properties.chain(items).chain(any).try_for_each(|inner| schema(inner, at))
}

fn parts(content: &Value) -> &[Value] {
    content.get("parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn names<'a>(content: &'a Value, field: &str) -> Vec<&'a str> {
    let named = parts(content).iter().filter_map(|part| part.get(field));
    named.map(|part| part.get("name").and_then(Value::as_str).unwrap_or_default()).collect()
}

fn is_user(content: &Value) -> bool {
    content.get("role").and_then(Value::as_str) != Some("model")
}

fn contents(body: &Value, model: &str) -> Result<(), Refused> {
    let contents = body.get("contents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if contents.is_empty() {
        return no("* GenerateContentRequest.contents: contents is not specified");
    }
    if body.get("systemInstruction").is_some_and(|system| parts(system).is_empty()) {
        return no("* GenerateContentRequest.system_instruction.parts: must not be empty");
    }
    let mut called: Vec<&str> = Vec::new();
    let mut after_user = false;
    for (index, content) in contents.iter().enumerate() {
        known(content, &["role", "parts"], &format!("contents[{index}]"))?;
        if !matches!(content.get("role").and_then(Value::as_str), None | Some("user" | "model" | "function"))
        {
            return no("Please use a valid role: user, model.");
        }
        if parts(content).is_empty() {
            return no(format!(
                "* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty."
            ));
        }
        parts(content).iter().try_for_each(|one| part(one, index))?;
        let (mut calls, mut answers) = (names(content, "functionCall"), names(content, "functionResponse"));
        if !called.is_empty() || !answers.is_empty() {
            called.sort_unstable();
            answers.sort_unstable();
            if called.len() != answers.len() {
                return no(
                    "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.",
                );
            }
            if called != answers {
                return no(
                    "Please ensure that function response names match those of the function call turn.",
                );
            }
        }
        if !calls.is_empty() && !after_user {
            return no(
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn.",
            );
        }
        called = std::mem::take(&mut calls);
        after_user = is_user(content);
    }
    if !called.is_empty() {
        return no("Please ensure that function response turn comes immediately after a function call turn.");
    }
    if signs(model) { signatures(contents) } else { Ok(()) }
}

fn part(part: &Value, index: usize) -> Result<(), Refused> {
    known(part, &PART_FIELDS, &format!("contents[{index}].parts[0]"))?;
    let data = ["text", "inlineData", "fileData", "functionCall", "functionResponse"];
    let held = data.iter().filter(|field| part.get(**field).is_some()).count();
    if held != 1 {
        return no(format!(
            "* GenerateContentRequest.contents[{index}].parts[0].data: required oneof field 'data' must have one initialized field"
        ));
    }
    for (at, type_is) in
        [("/inlineData/data", "/inlineData/mimeType"), ("/fileData/fileUri", "/fileData/mimeType")]
    {
        let text = |at: &str| part.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let inline = at.starts_with("/inline");
        let there = part.get(if inline { "inlineData" } else { "fileData" }).is_some();
        if there && (text(at).is_empty() || inline && text(type_is).is_empty()) {
            return no("Unable to process input image: data and mime_type must be set.");
        }
    }
    for at in ["/functionCall/args", "/functionResponse/response"] {
        if part.pointer(at).is_some_and(|value| !value.is_object()) {
            return no(format!(
                "Invalid value at 'contents[{index}].parts[0]{at}' (type.googleapis.com/google.protobuf.Struct)"
            ));
        }
    }
    if part.get("functionResponse").is_some() && part.pointer("/functionResponse/response").is_none() {
        return no("* GenerateContentRequest.contents.parts.function_response.response: required");
    }
    match part.get("thoughtSignature").and_then(Value::as_str) {
        Some(signature) if !signature::is_ours(signature) && !DUMMIES.contains(&signature) => {
            no("Corrupted thought signature.")
        }
        _ => Ok(()),
    }
}

/// The first call of each step of the turn that is going on must have its signature. A turn begins with what the user says.
fn signatures(contents: &[Value]) -> Result<(), Refused> {
    let says =
        |content: &&Value| is_user(content) && parts(content).iter().any(|part| part.get("text").is_some());
    let turn = contents.len() - contents.iter().rev().take_while(|content| !says(content)).count();
    for content in contents.iter().skip(turn) {
        let first = parts(content).iter().find(|part| part.get("functionCall").is_some());
        if first.is_some_and(|part| part.get("thoughtSignature").is_none()) {
            return no(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance.",
            );
        }
    }
    Ok(())
}
