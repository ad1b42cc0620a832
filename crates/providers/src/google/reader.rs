//! Reads answers of Google's, whole or in chunks, both in the same way: every part becomes a piece of a choice in OpenAI's
//! shape.
//!
//! * Thoughts are `reasoning_content`; a signature is handed out as a `reasoning_details` entry in front of its call.
//! * A call comes whole, with an id that is unique in the answer: Google's own where there is one, else one of ours. One that
//!   Vertex AI sends in pieces is put together first.
//! * Pictures and sounds stand in the content, as a chat shows them.
//! * A choice ends where its candidate has a `finishReason`, and all end where the prompt was blocked. What was blocked is
//!   explained in Google's words, else in ours, which are no output that is billed.

use std::borrow::Cow;
use std::collections::HashSet;

use accounting::Usage;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::made;
use super::pieces::OpenCall;
use super::request::FORMAT;
use super::usage;
use super::wire::{
    Answer, Candidate, CitationMetadata, CitationSource, LogprobsResult, SaidCall, SaidMedia, SaidPart,
    TokenProbability,
};
use crate::error::safe_words;
use crate::report::Report;

/// What a picture takes ("Image generation"), where its server tells nothing.
const TOKENS_OF_PICTURE: u64 = 1290;

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
    /// The same by itself, if what was blocked is explained.
    pub refusal: Option<String>,
}

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Reader {
    /// What the ids of calls begin with.
    calls_of: String,
    /// How many choices were asked for.
    wanted: u64,
    choices: Vec<Choice>,
    /// Why the prompt was blocked, in words for the user.
    blocked: Option<String>,
    /// What was told of the usage.
    told: Report,
    /// Whether anything came that the candidates' tokens are for.
    said: bool,
    /// How many pictures came.
    pictures: u64,
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
    /// A call of which more comes.
    open: Option<OpenCall>,
    cited: Vec<CitationSource>,
    grounded: HashSet<String>,
    finish: Option<String>,
    /// What Google says to that.
    finish_message: Option<String>,
}

impl Reader {
    pub(super) fn new(calls_of: String, wanted: u64) -> Self {
        Self {
            calls_of,
            wanted,
            choices: Vec::new(),
            blocked: None,
            told: Report::EMPTY,
            said: false,
            pictures: 0,
        }
    }

    /// Takes an answer, or a chunk of one.
    pub(super) fn read<'a>(&mut self, answer: Answer<'a>) -> Vec<Piece<'a>> {
        if let Some(raw) = answer.usage_metadata {
            self.told.grow(&usage::read(raw.get()));
        }
        if let Some(feedback) = answer.prompt_feedback
            && let Some(reason) = feedback.block_reason
        {
            let words = feedback.block_reason_message.and_then(words);
            self.blocked = Some(words.unwrap_or_else(|| why_no_prompt(&reason).to_owned()));
        }
        let mut pieces = Vec::new();
        for candidate in answer.candidates.into_iter().flatten() {
            self.candidate(candidate, &mut pieces);
        }
        pieces
    }

    /// What is reported as used so far.
    pub(super) fn usage_so_far(&self) -> Option<Usage> {
        let told = usage::counted(&self.told).map(|counted| counted.usage);
        // A picture is no text that could be counted.
        let untold = || (self.pictures > 0).then(|| Usage::tokens(0, self.pictures * TOKENS_OF_PICTURE));
        told.or_else(untold).map(|usage| self.with_pictures(usage))
    }

    /// What is reported as used by all of it. A usage that does not tell of an output that came is none.
    pub(super) fn usage(&self) -> Option<Usage> {
        let counted = usage::counted(&self.told);
        let counted = counted.filter(|counted| counted.candidates || !self.said);
        counted.map(|counted| self.with_pictures(counted.usage))
    }

    const fn with_pictures(&self, usage: Usage) -> Usage {
        Usage { images: self.pictures, ..usage }
    }

    /// Whether all choices that were asked for have ended.
    pub(super) fn all_ended(&self) -> bool {
        let ended = self.choices.iter().filter(|choice| choice.finish.is_some()).count() as u64;
        self.blocked.is_some() || ended >= self.wanted.max(self.choices.len() as u64)
    }

    /// How each choice ended; `None` if one has not.
    pub(super) fn ends(&self) -> Option<Vec<End>> {
        if let Some(words) = &self.blocked {
            let first = Choice::default();
            let choices =
                if self.choices.is_empty() { std::slice::from_ref(&first) } else { &self.choices[..] };
            return Some(choices.iter().map(|choice| choice.filtered(words)).collect());
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
        if candidate.finish_reason.is_some() {
            choice.close(&self.calls_of, pieces);
        }
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
            choice.finish_message = candidate.finish_message.and_then(words);
        }
    }

    /// A call, or a piece of one.
    fn call<'a>(
        &mut self,
        place: usize,
        call: SaidCall<'a>,
        signature: Option<Cow<'a, str>>,
        pieces: &mut Vec<Piece<'a>>,
    ) {
        self.said = true;
        let choice = &mut self.choices[place];
        let goes_on = call.will_continue.is_some_and(|raw| raw.get() == "true");
        let name = call.name.unwrap_or_default();
        let args = match call.args {
            Some(Value::Object(args)) => Some(args),
            _ => None,
        };
        let is_piece = goes_on || call.partial_args.is_some();
        if !name.is_empty() {
            // Another one begins.
            choice.close(&self.calls_of, pieces);
        }
        if choice.open.is_none() && !is_piece && name.is_empty() && args.is_none() {
            // The end of one that has ended already.
            return;
        }
        let open = choice.open.get_or_insert_default();
        open.id = call.id.filter(|id| !id.is_empty()).map(Cow::into_owned).or(open.id.take());
        open.signature = signature.map(Cow::into_owned).or(open.signature.take());
        if !name.is_empty() {
            open.name = name.into_owned();
        }
        open.arguments.extend(args.into_iter().flatten());
        if let Some(produced) = call.partial_args.map(|raw| open.add(raw)) {
            // Nothing to be shown yet, but billed.
            open.counted = true;
            pieces.push(Piece { index: choice.index, delta: Delta::default(), logprobs: None, produced });
        }
        if !goes_on {
            choice.close(&self.calls_of, pieces);
        }
    }

    fn part<'a>(&mut self, place: usize, part: SaidPart<'a>, pieces: &mut Vec<Piece<'a>>) {
        let index = self.choices[place].index;
        let signature = part.thought_signature.filter(|signature| !signature.is_empty());
        if let Some(call) = part.function_call {
            return self.call(place, call, signature, pieces);
        }
        let mut push = |delta: Delta<'a>, produced: String| {
            pieces.push(Piece { index, delta, logprobs: None, produced });
        };
        let choice = &mut self.choices[place];
        if part.thought == Some(true) {
            if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                let produced = text.clone().into_owned();
                push(Delta { reasoning_content: Some(text), ..Delta::default() }, produced);
            }
        } else {
            let made = part.inline_data.as_ref().and_then(made);
            let other = if let Some(media) = &made {
                let content = choice.apart(&format!("{media}\n\n"));
                choice.spoke = true;
                self.said = true;
                self.pictures += u64::from(media.starts_with(made::PICTURE));
                // What is made is no text that could be counted.
                push(Delta { content: Some(content.into()), ..Delta::default() }, String::new());
                None
            } else if let Some(code) = part.executable_code {
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
    fn id_of(&mut self, own: Option<String>, calls_of: &str) -> String {
        let id = own.filter(|id| !self.ids.contains(id));
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

    /// Hands out the call that has gone on until here, if there is one.
    fn close<'a>(&mut self, calls_of: &str, pieces: &mut Vec<Piece<'a>>) {
        let Some(OpenCall { id, name, arguments, signature, counted }) = self.open.take() else { return };
        let id = self.id_of(id, calls_of);
        let arguments = Value::Object(arguments).to_string();
        let reasoning_details =
            signature.map(|signature| self.detail(Some(&id), &signature)).into_iter().collect();
        let produced = if counted { name.clone() } else { format!("{name}{arguments}") };
        let tool_call = json!({
            "index": self.calls, "id": id, "type": "function",
            "function": {"name": name, "arguments": arguments},
        });
        self.calls += 1;
        let delta = Delta { reasoning_details, tool_calls: vec![tool_call], ..Delta::default() };
        pieces.push(Piece { index: self.index, delta, logprobs: None, produced });
    }

    /// The end of what was blocked.
    fn filtered(&self, words: &str) -> End {
        End {
            index: self.index,
            reason: "content_filter",
            explanation: Some(self.apart(&format!("({words})"))),
            refusal: Some(words.to_owned()),
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
        let words = explanation.map(|ours| self.finish_message.as_deref().unwrap_or(ours));
        Some(match (reason, words) {
            ("content_filter", Some(words)) => self.filtered(words),
            (_, words) => {
                let explanation = words.map(|words| self.apart(&format!("({words})")));
                End { index: self.index, reason, explanation, refusal: None }
            }
        })
    }

    /// A remark of ours behind what the model said.
    fn apart(&self, text: &str) -> String {
        if self.spoke { format!("\n\n{text}") } else { text.to_owned() }
    }
}

/// Google's own words, as a user may read them.
fn words(raw: &RawValue) -> Option<String> {
    let text: Cow<'_, str> = serde_json::from_str(raw.get()).ok()?;
    Some(safe_words(&text)).filter(|words| !words.is_empty())
}

/// A picture or a sound, as a chat shows it.
fn made(media: &SaidMedia<'_>) -> Option<String> {
    let data: Cow<'_, str> = serde_json::from_str(media.data?.get()).ok()?;
    made::shown(media.mime_type.as_deref()?, &data)
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
