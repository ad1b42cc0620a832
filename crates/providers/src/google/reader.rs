//! Reads answers of Google's, whole or in chunks, both in the same way: every part becomes a piece of a choice in OpenAI's
//! shape.
//!
//! * Thoughts are `reasoning_content`; a signature is handed out as a `reasoning_details` entry in front of its call.
//! * A call comes whole, with an id that is unique in the answer: Google's own where there is one, else one of ours.
//! * A choice ends where its candidate has a `finishReason`, and all end where the prompt was blocked. What was blocked is
//!   explained in words of ours, which are no output that is billed.

use std::borrow::Cow;
use std::collections::HashSet;

use accounting::Usage;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::request::FORMAT;
use super::usage::{self, Counted};
use super::wire::{
    Answer, Candidate, CitationMetadata, CitationSource, LogprobsResult, SaidPart, TokenProbability,
};

/// A piece of a choice.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub index: u64,
    pub delta: Delta<'a>,
    pub logprobs: Option<Value>,
    /// What of it is billed output.
    pub produced: String,
}

/// What a piece adds to the message of its choice.
#[derive(Debug, Default, Serialize)]
pub(super) struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasoning_details: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Value>,
    /// What has no form in OpenAI's shape, under Google's own names.
    #[serde(rename = "groundingMetadata", skip_serializing_if = "Option::is_none")]
    pub grounding: Option<&'a RawValue>,
    #[serde(rename = "citationMetadata", skip_serializing_if = "Option::is_none")]
    pub citations: Option<&'a RawValue>,
}

/// How a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub index: u64,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    pub reason: &'static str,
    /// What the user is told, to be added to the content.
    pub explanation: Option<String>,
}

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Reader {
    /// What the ids of calls begin with.
    calls_of: String,
    /// How many choices were asked for.
    wanted: u64,
    choices: Vec<Choice>,
    /// Why the prompt was blocked.
    blocked: Option<String>,
    usage: Option<Counted>,
    /// Whether anything came that the candidates' tokens are for.
    said: bool,
}

#[derive(Debug, Default)]
struct Choice {
    index: u64,
    begun: bool,
    /// Whether there is content.
    spoke: bool,
    calls: u64,
    /// The ids of its calls.
    ids: HashSet<String>,
    details: u64,
    cited: Vec<CitationSource>,
    grounded: HashSet<String>,
    finish: Option<String>,
}

impl Reader {
    pub(super) fn new(calls_of: String, wanted: u64) -> Self {
        Self { calls_of, wanted, choices: Vec::new(), blocked: None, usage: None, said: false }
    }

    /// Takes an answer, or a chunk of one.
    pub(super) fn read<'a>(&mut self, answer: Answer<'a>) -> Vec<Piece<'a>> {
        if let Some(raw) = answer.usage_metadata {
            self.usage = usage::read(raw.get());
        }
        if let Some(reason) = answer.prompt_feedback.and_then(|feedback| feedback.block_reason) {
            self.blocked = Some(reason.into_owned());
        }
        let mut pieces = Vec::new();
        for candidate in answer.candidates.into_iter().flatten() {
            self.candidate(candidate, &mut pieces);
        }
        pieces
    }

    /// What is reported as used so far.
    pub(super) fn usage_so_far(&self) -> Option<Usage> {
        self.usage.map(|counted| counted.usage)
    }

    /// What is reported as used by all of it. A usage that does not tell of an output that came is none.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage.filter(|counted| counted.candidates || !self.said).map(|counted| counted.usage)
    }

    /// Whether all choices that were asked for have ended.
    pub(super) fn all_ended(&self) -> bool {
        let ended = self.choices.iter().filter(|choice| choice.finish.is_some()).count() as u64;
        self.blocked.is_some() || ended >= self.wanted.max(self.choices.len() as u64)
    }

    /// How each choice ended; `None` if one has not.
    pub(super) fn ends(&self) -> Option<Vec<End>> {
        if let Some(reason) = &self.blocked {
            let explanation = format!("({})", why_no_prompt(reason));
            if self.choices.is_empty() {
                let explanation = Some(explanation);
                return Some(vec![End { index: 0, reason: "content_filter", explanation }]);
            }
            let end = |choice: &Choice| End {
                index: choice.index,
                reason: "content_filter",
                explanation: Some(choice.apart(&explanation)),
            };
            return Some(self.choices.iter().map(end).collect());
        }
        if self.choices.is_empty() {
            return None;
        }
        self.choices.iter().map(Choice::end).collect()
    }

    fn candidate<'a>(&mut self, candidate: Candidate<'a>, pieces: &mut Vec<Piece<'a>>) {
        let index = candidate.index.unwrap_or_default();
        let place = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        });
        let begin = pieces.len();
        for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
            self.part(place, part, pieces);
        }
        let mut more = Delta::default();
        let choice = &mut self.choices[place];
        if let Some(raw) = candidate.citation_metadata {
            choice.cite(raw, &mut more);
        }
        if let Some(raw) = candidate.grounding_metadata {
            choice.ground(raw, &mut more);
        }
        let logprobs = candidate.logprobs_result.and_then(logprobs);
        let aside = !more.annotations.is_empty() || more.citations.is_some() || more.grounding.is_some();
        if aside || (logprobs.is_some() && pieces.len() == begin) {
            pieces.push(Piece { index, delta: more, logprobs: None, produced: String::new() });
        }
        if let Some(piece) = pieces.get_mut(begin) {
            piece.logprobs = logprobs;
            if !std::mem::replace(&mut choice.begun, true) {
                piece.delta.role = Some("assistant");
            }
        }
        // A later chunk may say why it really ended.
        if let Some(reason) = candidate.finish_reason {
            choice.finish = Some(reason.into_owned());
        }
    }

    fn part<'a>(&mut self, place: usize, part: SaidPart<'a>, pieces: &mut Vec<Piece<'a>>) {
        let index = self.choices[place].index;
        let mut push = |delta: Delta<'a>, produced: String| {
            pieces.push(Piece { index, delta, logprobs: None, produced });
        };
        let signature = part.thought_signature.filter(|signature| !signature.is_empty());
        if let Some(call) = part.function_call {
            let choice = &mut self.choices[place];
            let id = choice.id_of(call.id, &self.calls_of);
            let name = call.name.unwrap_or_default();
            let arguments = call.args.filter(Value::is_object).unwrap_or_else(|| json!({})).to_string();
            let reasoning_details =
                signature.map(|signature| choice.detail(Some(&id), &signature)).into_iter().collect();
            let produced = format!("{name}{arguments}");
            let tool_call = json!({
                "index": choice.calls, "id": id, "type": "function",
                "function": {"name": name, "arguments": arguments},
            });
            choice.calls += 1;
            self.said = true;
            push(Delta { reasoning_details, tool_calls: vec![tool_call], ..Delta::default() }, produced);
            return;
        }
        let choice = &mut self.choices[place];
        if part.thought == Some(true) {
            if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                let produced = text.clone().into_owned();
                push(Delta { reasoning_content: Some(text), ..Delta::default() }, produced);
            }
        } else {
            let other = if let Some(code) = part.executable_code {
                let language = code.language.unwrap_or_default().to_lowercase();
                Some(Cow::Owned(format!(
                    "\n```{language}\n{}\n```\n",
                    code.code.unwrap_or_default().trim_end()
                )))
            } else if let Some(result) = part.code_execution_result {
                Some(Cow::Owned(format!("\n```\n{}\n```\n", result.output.unwrap_or_default().trim_end())))
            } else {
                part.inline_data.or(part.file_data).map(|media| {
                    let kind = media.mime_type.unwrap_or(Cow::Borrowed("an unknown type"));
                    Cow::Owned(format!("(A part of the type {kind}, which can't be shown here.)"))
                })
            };
            for text in [part.text, other].into_iter().flatten().filter(|text| !text.is_empty()) {
                choice.spoke = true;
                self.said = true;
                let produced = text.clone().into_owned();
                push(Delta { content: Some(text), ..Delta::default() }, produced);
            }
        }
        if let Some(signature) = signature {
            let reasoning_details = vec![choice.detail(None, &signature)];
            push(Delta { reasoning_details, ..Delta::default() }, String::new());
        }
    }
}

impl Choice {
    /// The id of the next call: the server's own, if no other call of this choice has it, else one of ours, which is the
    /// same however the answer is cut into chunks.
    fn id_of(&mut self, own: Option<Cow<'_, str>>, calls_of: &str) -> String {
        let id = own.filter(|id| !id.is_empty() && !self.ids.contains(&**id)).map(Cow::into_owned);
        let id = id.unwrap_or_else(|| {
            let of_choice = if self.index == 0 { String::new() } else { format!("{}_", self.index) };
            // Numbers after the next one are for where the server's own ids look like ours.
            let ours = (self.calls..).map(|number| format!("call_{calls_of}_{of_choice}{number}"));
            ours.into_iter().find(|id| !self.ids.contains(id)).unwrap_or_default()
        });
        self.ids.insert(id.clone());
        id
    }

    fn detail(&mut self, call: Option<&str>, signature: &str) -> Value {
        let mut detail = json!({
            "type": "reasoning.encrypted", "data": signature, "format": FORMAT, "index": self.details,
        });
        if let Some(id) = call {
            detail["id"] = id.into();
        }
        self.details += 1;
        detail
    }

    /// Sources of what was recited. Chunks may name the same ones again.
    fn cite<'a>(&mut self, raw: &'a RawValue, delta: &mut Delta<'a>) {
        let Ok(CitationMetadata { sources }) = serde_json::from_str(raw.get()) else {
            delta.citations = Some(raw);
            return;
        };
        for source in sources {
            if self.cited.contains(&source) {
                continue;
            }
            match &source.uri {
                Some(url) => {
                    let mut citation = json!({
                        "url": url, "title": source.title.as_ref().unwrap_or(url),
                        "start_index": source.start_index.unwrap_or_default(),
                        "end_index": source.end_index.unwrap_or_default(),
                    });
                    if let Some(license) = &source.license {
                        citation["license"] = license.as_str().into();
                    }
                    delta.annotations.push(json!({"type": "url_citation", "url_citation": citation}));
                }
                None => delta.citations = Some(raw),
            }
            self.cited.push(source);
        }
    }

    /// Pages that the answer rests on.
    fn ground<'a>(&mut self, raw: &'a RawValue, delta: &mut Delta<'a>) {
        if !self.grounded.insert(raw.get().to_owned()) {
            return;
        }
        delta.grounding = Some(raw);
        let metadata: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        let chunks = metadata.get("groundingChunks").and_then(Value::as_array).into_iter().flatten();
        for page in chunks.filter_map(|chunk| chunk.get("web")) {
            let text = |field: &str| page.get(field).and_then(Value::as_str);
            let Some(url) = text("uri").filter(|url| self.grounded.insert((*url).to_owned())) else {
                continue;
            };
            let citation = json!({
                "url": url, "title": text("title").unwrap_or(url), "start_index": 0, "end_index": 0,
            });
            delta.annotations.push(json!({"type": "url_citation", "url_citation": citation}));
        }
    }

    fn end(&self) -> Option<End> {
        let finish = self.finish.as_deref()?;
        let (reason, explanation) = match finish {
            "MAX_TOKENS" => ("length", None),
            "STOP" | "FINISH_REASON_UNSPECIFIED" => ("stop", None),
            "SAFETY" => ("content_filter", Some("Google's safety filter stopped this answer.")),
            "RECITATION" | "IMAGE_RECITATION" => (
                "content_filter",
                Some("Google stopped this answer because it came too close to a text that exists."),
            ),
            "LANGUAGE" => (
                "content_filter",
                Some("Google stopped this answer because it does not support its language."),
            ),
            "BLOCKLIST" => {
                ("content_filter", Some("Google stopped this answer because of a forbidden word."))
            }
            "PROHIBITED_CONTENT" | "IMAGE_PROHIBITED_CONTENT" | "MODEL_ARMOR" | "IMAGE_SAFETY" => {
                ("content_filter", Some("Google stopped this answer because of forbidden content."))
            }
            "SPII" => {
                ("content_filter", Some("Google stopped this answer because it may hold personal data."))
            }
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
                ("stop", Some("The model called a tool in a wrong way; please try again."))
            }
            _ => ("stop", Some("Google ended this answer for an unknown reason; please try again.")),
        };
        let reason = if reason == "stop" && self.calls > 0 { "tool_calls" } else { reason };
        // Where calls came all the same, the client goes on with them.
        let explanation = explanation.filter(|_| reason != "tool_calls");
        let explanation = explanation.map(|text| self.apart(&format!("({text})")));
        Some(End { index: self.index, reason, explanation })
    }

    /// A remark of ours behind what the model said.
    fn apart(&self, text: &str) -> String {
        if self.spoke { format!("\n\n{text}") } else { text.to_owned() }
    }
}

fn why_no_prompt(reason: &str) -> &'static str {
    match reason {
        "SAFETY" | "IMAGE_SAFETY" => "Google's safety filter blocked this request.",
        "BLOCKLIST" => "Google blocked this request because of a forbidden word.",
        "PROHIBITED_CONTENT" | "MODEL_ARMOR" | "JAILBREAK" => {
            "Google blocked this request because of forbidden content."
        }
        _ => "Google blocked this request and does not say why.",
    }
}

/// Probabilities in OpenAI's shape.
fn logprobs(result: LogprobsResult) -> Option<Value> {
    let entry = |one: TokenProbability| {
        let token = one.token.unwrap_or_default();
        json!({"token": token, "logprob": one.log_probability, "bytes": token.as_bytes()})
    };
    let mut tops = result.top_candidates.unwrap_or_default().into_iter();
    let content: Vec<Value> = result
        .chosen_candidates?
        .into_iter()
        .map(|chosen| {
            let tops = tops.next().and_then(|top| top.candidates).unwrap_or_default();
            let mut content = entry(chosen);
            content["top_logprobs"] = tops.into_iter().map(entry).collect();
            content
        })
        .collect();
    Some(json!({"content": content, "refusal": null}))
}
