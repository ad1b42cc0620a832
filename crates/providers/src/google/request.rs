//! From a chat in OpenAI's shape to Google's. Pure.
//!
//! * All system messages go into `systemInstruction`; a chat of nothing else becomes a turn of the user, and so do they for
//!   models that take no instructions.
//! * Neighbouring messages of one role become one turn; results of tools are the user's.
//! * Each call keeps the signature that came with it. Models of the generation 3 refuse a turn whose first call has none
//!   ("Thought signatures"), so where the client kept none, the value stands there that Google documents for it.

use std::borrow::Cow;
use std::collections::HashMap;

use http::Uri;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::media::{self, LARGEST_REQUEST, MOST_IMAGES};
use super::routes::bare_name;
use super::settings::{self, Settings};
use super::thinking;
use super::wire::{
    Content as Turn, Data, FunctionCall, FunctionDeclaration, FunctionResponse, Json, Part, Request, Tools,
};
use crate::conversation::{self, Assistant, Call, Content, Conversation, Message, Tool, ToolChoice, bad};
use crate::protocol::Outgoing;
use crate::{BadRequest, ChatRequest};

/// What the `format` of our reasoning details is.
pub(super) const FORMAT: &str = "google-gemini-v1";

/// Stands for a signature that nobody kept ("Thought signatures", frequently asked questions).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

const USER: &str = "user";
const MODEL: &str = "model";

/// The request to send to `uri`.
///
/// # Errors
/// Names the part that Google can't take.
pub(super) fn convert(request: &ChatRequest, uri: Uri, permissive: bool) -> Result<Outgoing, BadRequest> {
    let conversation = Conversation::read(request.body())?;
    let Settings { generation, safety, mut omitted } = settings::read(request, permissive)?;
    name_what_is_lost(&conversation, &mut omitted);
    let mut turns = Turns::new(request.model(), &conversation);
    for (index, message) in conversation.messages.iter().enumerate() {
        turns.add(message, index)?;
    }
    let Turns { mut system, mut contents, images, .. } = turns;
    if images > MOST_IMAGES {
        return Err(bad("messages", format!("Google takes at most {MOST_IMAGES} pictures in one request")));
    }
    if contents.is_empty() || !takes_system(request.model()) {
        let first = std::mem::take(&mut system);
        match contents.first_mut() {
            Some(Turn { role: Some(USER), parts }) => drop(parts.splice(..0, first)),
            _ if first.is_empty() => {}
            _ => contents.insert(0, Turn { role: Some(USER), parts: first }),
        }
    }
    if contents.is_empty() {
        return Err(bad("messages", "there must be a message that is not empty"));
    }
    let body = Request {
        contents,
        system_instruction: (!system.is_empty()).then_some(Turn { role: None, parts: system }),
        tools: tools(&conversation.tools),
        tool_config: tool_config(&conversation)?,
        safety_settings: safety,
        generation_config: generation,
    };
    let outgoing = Outgoing::json(uri, &body)?;
    if outgoing.body.len() > LARGEST_REQUEST {
        let most = LARGEST_REQUEST / 1_000_000;
        return Err(bad("messages", format!("Google takes requests of at most {most} MB, with all files")));
    }
    Ok(outgoing.omitting(omitted))
}

/// The turns of a chat as they come together.
struct Turns<'a> {
    system: Vec<Part<'a>>,
    contents: Vec<Turn<'a>>,
    /// The names of the calls so far, by their ids: ids may come again.
    names: HashMap<&'a str, &'a str>,
    /// The signatures of all calls, by their ids, wherever a client kept them.
    signatures: HashMap<&'a str, &'a str>,
    /// Whether a call without a signature would be refused.
    needs_signatures: bool,
    images: usize,
}

impl<'a> Turns<'a> {
    fn new(model: &str, conversation: &Conversation<'a>) -> Self {
        let mut signatures = HashMap::new();
        for message in &conversation.messages {
            let Message::Assistant(assistant) = message else { continue };
            for (id, signature) in assistant.reasoning_details.iter().filter_map(signature) {
                if let Some(id) = id {
                    signatures.insert(id, signature);
                }
            }
        }
        Self {
            system: Vec::new(),
            contents: Vec::new(),
            names: HashMap::new(),
            signatures,
            needs_signatures: thinking::has_levels(model),
            images: 0,
        }
    }

    fn add(&mut self, message: &Message<'a>, index: usize) -> Result<(), BadRequest> {
        let at = format!("messages.{index}");
        match message {
            Message::System(content) => {
                for part in content {
                    let Content::Text(text) = part.what else {
                        return Err(bad(
                            format!("{at}.content"),
                            "a message of the system must be text for Google's models",
                        ));
                    };
                    self.system.push(plain(Data::Text(text)));
                }
            }
            Message::User(content) => {
                let parts = self.parts(content, &at)?;
                self.turn(USER, parts);
            }
            Message::Assistant(assistant) => {
                let parts = self.said(assistant, &at)?;
                self.turn(MODEL, parts);
            }
            Message::Tool { id, content } => self.result(id, content, &at)?,
        }
        Ok(())
    }

    fn parts(&mut self, content: &[conversation::Part<'a>], at: &str) -> Result<Vec<Part<'a>>, BadRequest> {
        let mut parts = Vec::with_capacity(content.len());
        for part in content {
            self.images += usize::from(matches!(part.what, Content::Image { .. }));
            parts.push(plain(media::part(&part.what, &format!("{at}.content"))?));
        }
        Ok(parts)
    }

    /// What the model said: its text, the signature of that, and its calls.
    fn said(&mut self, assistant: &Assistant<'a>, at: &str) -> Result<Vec<Part<'a>>, BadRequest> {
        let mut parts = Vec::new();
        for part in &assistant.content {
            match part.what {
                Content::Text(text) => parts.extend(media::said(text).into_iter().map(plain)),
                _ => parts.extend(self.parts(std::slice::from_ref(part), at)?),
            }
        }
        let mut signatures = assistant.reasoning_details.iter().filter_map(signature);
        let of_text = signatures.rfind(|(id, _)| id.is_none());
        if let Some((_, signature)) = of_text.filter(|_| !parts.is_empty()) {
            // Where a stream has it: on a part of its own behind the text.
            parts.push(Part { data: Data::Text(""), thought_signature: Some(signature) });
        }
        for (index, Call { id, name, arguments }) in assistant.calls.iter().enumerate() {
            self.names.insert(id, name);
            let known = self.signatures.get(id).copied();
            let missing = (index == 0 && self.needs_signatures).then_some(NO_SIGNATURE);
            let call = FunctionCall { id: filled(id), name, args: arguments_of(arguments) };
            parts.push(Part { data: Data::Call(call), thought_signature: known.or(missing) });
        }
        Ok(parts)
    }

    /// What a tool gave: its text as the response, what else there is beside it.
    fn result(
        &mut self,
        id: &'a str,
        content: &[conversation::Part<'a>],
        at: &str,
    ) -> Result<(), BadRequest> {
        let Some(name) = self.names.get(id).copied() else {
            return Err(bad(
                format!("{at}.tool_call_id"),
                "this result belongs to no call of the messages before it",
            ));
        };
        let texts: Vec<&'a str> = content
            .iter()
            .filter_map(|part| match part.what {
                Content::Text(text) => Some(text),
                _ => None,
            })
            .collect();
        let response = match texts[..] {
            [text] => response_of(Cow::Borrowed(text)),
            _ => response_of(Cow::Owned(texts.join("\n"))),
        };
        let others: Vec<_> =
            content.iter().filter(|part| !matches!(part.what, Content::Text(_))).cloned().collect();
        let beside = self.parts(&others, at)?;
        let response = FunctionResponse { id: filled(id), name, response };
        let response = plain(Data::Response(response));
        match self.contents.last_mut() {
            Some(Turn { role: Some(USER), parts }) => {
                // Google wants the responses together, in front of anything else.
                let of_tools = |part: &Part<'_>| matches!(part.data, Data::Response(_));
                let place = parts.iter().position(|part| !of_tools(part)).unwrap_or(parts.len());
                parts.insert(place, response);
                parts.extend(beside);
            }
            _ => {
                let mut parts = vec![response];
                parts.extend(beside);
                self.turn(USER, parts);
            }
        }
        Ok(())
    }

    fn turn(&mut self, role: &'static str, parts: Vec<Part<'a>>) {
        if parts.is_empty() {
            return;
        }
        match self.contents.last_mut() {
            Some(last) if last.role == Some(role) => last.parts.extend(parts),
            _ => self.contents.push(Turn { role: Some(role), parts }),
        }
    }
}

/// Whether a model takes instructions of the system; others get them at the beginning of the first turn ("Gemma formatting
/// and system instructions").
fn takes_system(model: &str) -> bool {
    let name = bare_name(model);
    !["gemma-2", "gemma-3"].iter().any(|generation| name.starts_with(generation))
}

fn plain(data: Data<'_>) -> Part<'_> {
    Part { data, thought_signature: None }
}

fn filled(id: &str) -> Option<&str> {
    (!id.is_empty()).then_some(id)
}

/// A signature that we handed out: the id of its call, if it is of one, and itself.
fn signature(detail: &Value) -> Option<(Option<&str>, &str)> {
    let text = |field: &str| detail.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let ours = text("type") == Some("reasoning.encrypted") && text("format") == Some(FORMAT);
    ours.then(|| text("data").map(|data| (text("id"), data))).flatten()
}

/// The arguments of a call, which must be an object here.
fn arguments_of(arguments: &str) -> Json<'_> {
    if arguments.trim().is_empty() {
        return Json::Made(json!({}));
    }
    match serde_json::from_str::<&RawValue>(arguments) {
        Ok(raw) if raw.get().starts_with('{') => Json::Raw(raw),
        _ => Json::Made(json!({"arguments": arguments})),
    }
}

/// The result of a tool, which must be an object here. Google reads `error` and `output` in it as what they say.
fn response_of(text: Cow<'_, str>) -> Json<'_> {
    let wrapped = |text: &str| Json::Made(json!({"result": text}));
    match text {
        Cow::Borrowed(text) => match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) if raw.get().starts_with('{') => Json::Raw(raw),
            _ => wrapped(text),
        },
        Cow::Owned(text) => match serde_json::from_str::<Box<RawValue>>(&text) {
            Ok(raw) if raw.get().starts_with('{') => Json::Owned(raw),
            _ => wrapped(&text),
        },
    }
}

fn tools<'a>(tools: &[Tool<'a>]) -> Vec<Tools<'a>> {
    if tools.is_empty() {
        return Vec::new();
    }
    let declared = tools.iter().map(|tool| FunctionDeclaration {
        name: tool.name,
        description: tool.description.filter(|text| !text.is_empty()),
        parameters_json_schema: tool.parameters,
    });
    vec![Tools { function_declarations: declared.collect() }]
}

fn tool_config(conversation: &Conversation<'_>) -> Result<Option<Value>, BadRequest> {
    if conversation.tools.is_empty() {
        return Ok(None);
    }
    let calling = match conversation.tool_choice {
        None => return Ok(None),
        Some(ToolChoice::Auto) => json!({"mode": "AUTO"}),
        Some(ToolChoice::None) => json!({"mode": "NONE"}),
        Some(ToolChoice::Required) => json!({"mode": "ANY"}),
        Some(ToolChoice::Named(name)) => {
            if !conversation.tools.iter().any(|tool| tool.name == name) {
                return Err(bad("tool_choice", "tool_choice names a function that is not among the tools"));
            }
            json!({"mode": "ANY", "allowedFunctionNames": [name]})
        }
    };
    Ok(Some(json!({"functionCallingConfig": calling})))
}

/// What stands in messages and tools and has no place in Google's JSON.
fn name_what_is_lost(conversation: &Conversation<'_>, omitted: &mut Vec<String>) {
    let contents = conversation.messages.iter().flat_map(|message| match message {
        Message::System(content) | Message::User(content) | Message::Tool { content, .. } => content,
        Message::Assistant(assistant) => &assistant.content,
    });
    let (mut marked, mut detailed) =
        (conversation.tools.iter().any(|tool| tool.cache_control.is_some()), false);
    for part in contents {
        marked |= part.cache_control.is_some();
        detailed |= matches!(part.what, Content::Image { detail: Some(detail), .. } if detail != "auto");
    }
    let strict = conversation.tools.iter().any(|tool| tool.strict == Some(true));
    for (lost, name) in [(marked, "cache_control"), (detailed, "image_url.detail"), (strict, "strict")] {
        if lost {
            omitted.push(name.to_owned());
        }
    }
}
