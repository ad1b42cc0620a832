//! A conversation as Anthropic's system prompt and turns ("Create a Message", "Tool use", "Thinking: preserving thinking blocks").

use serde_json::{Map, Value, json};

use super::content::{self, says_something};
use crate::BadRequest;
use crate::conversation::{Assistant, Call, Conversation, Message, bad};

/// The format by which reasoning details say that they are Anthropic's.
pub(super) const FORMAT: &str = "anthropic-claude-v1";

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
}

/// What one side says until the other speaks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub role: Role,
    pub blocks: Vec<Value>,
}

/// A conversation in Anthropic's form.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Turns {
    pub system: Vec<Value>,
    pub turns: Vec<Turn>,
}

pub(super) fn is(block: &Value, kind: &str) -> bool {
    block.get("type").and_then(Value::as_str) == Some(kind)
}

/// Whether a block is of the model's thinking.
pub(super) fn is_thinking(block: &Value) -> bool {
    is(block, "thinking") || is(block, "redacted_thinking")
}

impl Turns {
    /// Reads a conversation. `raw`: its messages as they came, for what only Anthropic knows.
    ///
    /// # Errors
    /// Names what Anthropic can't take.
    pub(super) fn read(conversation: &Conversation<'_>, raw: &[Value]) -> Result<Self, BadRequest> {
        let mut read = Self::default();
        for (index, message) in conversation.messages.iter().enumerate() {
            let at = format!("messages.{index}");
            match message {
                Message::System(parts) => read.system.extend(content::texts(parts, &at, "system")?),
                Message::User(parts) => read.say(Role::User, content::blocks(parts, &at)?),
                Message::Assistant(assistant) => read.say(Role::Assistant, said(assistant, &at)?),
                Message::Tool { id, content } => {
                    let failed = raw.get(index).and_then(|message| message.get("is_error"));
                    let result =
                        result(id, content::blocks(content, &at)?, failed == Some(&Value::Bool(true)));
                    read.say(Role::User, vec![result]);
                }
            }
        }
        for turn in &mut read.turns {
            // Results must stand before anything else that the user says.
            turn.blocks.sort_by_key(|block| turn.role == Role::User && !is(block, "tool_result"));
        }
        if read.turns.is_empty() {
            // A system prompt alone is a question, as OpenAI's models take it.
            let blocks = std::mem::take(&mut read.system);
            read.say(Role::User, blocks);
        }
        if read.turns.is_empty() {
            return Err(bad("messages", "there must be a message that says something"));
        }
        read.trim_prefill();
        Ok(read)
    }

    fn say(&mut self, role: Role, blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.blocks.extend(blocks),
            _ => self.turns.push(Turn { role, blocks }),
        }
    }

    /// The API refuses the beginning of an answer that ends in white space.
    fn trim_prefill(&mut self) {
        let Some(Turn { role: Role::Assistant, blocks }) = self.turns.last_mut() else { return };
        if let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text")) {
            text.truncate(text.trim_end().len());
        }
    }

    /// Whether the last turn is the beginning of the answer.
    pub(super) fn ends_in_prefill(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.role == Role::Assistant)
    }

    /// Whether the last call of tools came without the thinking that led to it: then the API takes no more thinking with a
    /// budget in this turn.
    pub(super) fn lost_thinking(&self) -> bool {
        let last = self.turns.iter().rev().find(|turn| turn.role == Role::Assistant);
        last.is_some_and(|turn| {
            turn.blocks.iter().any(|block| is(block, "tool_use"))
                && !turn.blocks.first().is_some_and(is_thinking)
        })
    }

    pub(super) fn has_thinking(&self) -> bool {
        self.turns.iter().flat_map(|turn| &turn.blocks).any(is_thinking)
    }

    pub(super) fn drop_thinking(&mut self) {
        for turn in &mut self.turns {
            turn.blocks.retain(|block| !is_thinking(block));
        }
        self.turns.retain(|turn| !turn.blocks.is_empty());
    }

    /// How many pictures there are, those in results of tools too.
    pub(super) fn images(&self) -> usize {
        fn of(blocks: &[Value]) -> usize {
            let inner =
                |block: &Value| block.get("content").and_then(Value::as_array).map_or(0, |list| of(list));
            blocks.iter().map(|block| usize::from(is(block, "image")) + inner(block)).sum()
        }
        self.turns.iter().map(|turn| of(&turn.blocks)).sum()
    }

    /// The names of all tools that were called.
    pub(super) fn called(&self) -> Vec<&str> {
        let blocks = self.turns.iter().flat_map(|turn| &turn.blocks);
        let calls = blocks.filter(|block| is(block, "tool_use"));
        let mut names: Vec<&str> = calls.filter_map(|call| call.get("name")?.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn into_messages(self) -> Vec<Value> {
        let role = |role| if role == Role::User { "user" } else { "assistant" };
        self.turns.into_iter().map(|turn| json!({"role": role(turn.role), "content": turn.blocks})).collect()
    }
}

/// An id as the API takes it (`^[a-zA-Z0-9_-]+$`): those of other providers may have other characters.
fn safe_id(id: &str) -> String {
    if id.is_empty() {
        return "call".into();
    }
    id.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
}

fn result(id: &str, mut blocks: Vec<Value>, failed: bool) -> Value {
    // A mark inside a result means the whole of it.
    let marks = blocks.iter_mut().filter_map(|block| block.as_object_mut()?.shift_remove("cache_control"));
    let mark = marks.last();
    let mut result = Map::new();
    result.insert("type".into(), "tool_result".into());
    result.insert("tool_use_id".into(), safe_id(id).into());
    if !blocks.is_empty() {
        result.insert("content".into(), blocks.into());
    }
    if failed {
        result.insert("is_error".into(), true.into());
    }
    if let Some(mark) = mark {
        result.insert("cache_control".into(), mark);
    }
    result.into()
}

/// Text and calls in the order in which a model gives them, and its thinking where its details say that it stood.
fn said(assistant: &Assistant<'_>, at: &str) -> Result<Vec<Value>, BadRequest> {
    let mut thoughts: Vec<(u64, Value)> = (0_u64..)
        .zip(assistant.reasoning_details)
        .filter_map(|(place, detail)| {
            Some((detail.get("index").and_then(Value::as_u64).unwrap_or(place), thought(detail)?))
        })
        .collect();
    thoughts.sort_by_key(|(place, _)| *place);
    let mut thoughts = thoughts.into_iter().peekable();
    let texts = content::texts(&assistant.content, at, "assistant")?;
    let mut blocks = Vec::with_capacity(texts.len() + assistant.calls.len());
    for block in texts.into_iter().chain(assistant.calls.iter().map(call)) {
        while let Some((_, thought)) = thoughts.next_if(|(place, _)| *place <= blocks.len() as u64) {
            blocks.push(thought);
        }
        blocks.push(block);
    }
    // Thinking behind everything else says nothing to the model any more, but belongs to what it said.
    if blocks.iter().any(|block| !is_thinking(block)) {
        let end = blocks.iter().rposition(is_thinking).map_or(0, |last| last + 1);
        let rest: Vec<Value> = thoughts.map(|(_, thought)| thought).collect();
        blocks.splice(end..end, rest);
    }
    Ok(blocks)
}

/// A block of thinking, if the API can prove that it is its own.
fn thought(detail: &Value) -> Option<Value> {
    let text = |field: &str| detail.get(field).and_then(Value::as_str);
    if text("format").is_some_and(|format| format != FORMAT) {
        return None;
    }
    match text("type")? {
        "reasoning.text" => {
            let signature = text("signature").filter(|signature| !signature.is_empty())?;
            Some(json!({
                "type": "thinking", "thinking": text("text").unwrap_or_default(), "signature": signature,
            }))
        }
        "reasoning.encrypted" => {
            text("format")?;
            Some(json!({"type": "redacted_thinking", "data": text("data")?}))
        }
        _ => None,
    }
}

fn call(call: &Call<'_>) -> Value {
    let input = match serde_json::from_str::<Value>(call.arguments) {
        Ok(input @ Value::Object(_)) => input,
        _ if !says_something(call.arguments) => json!({}),
        // A broken history must not break the chat: the model sees what it wrote.
        Ok(other) => json!({"arguments": other}),
        Err(_) => json!({"arguments": call.arguments}),
    };
    json!({"type": "tool_use", "id": safe_id(call.id), "name": call.name, "input": input})
}
