//! Google's Gemini API ("Generating content", "Embeddings", "Models", "Thought signatures").

mod check;

use accounting::Usage;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::asked::{Asked, Choice, Incoming, Refused};
use super::directive::{all_text, last_text};
use super::job::{self, Format, Texts};
use super::openai::stop;
use super::plan::{Call, End, Made, Piece, Plan, words};
use super::signature;

const MODELS: [&str; 3] = ["gemini-2.5-test", "gemini-3-test", "gemini-embedding-001"];

/// One answer in this format.
#[derive(Debug, Default)]
pub(super) struct Google {
    model: String,
    streams: bool,
    shows_thinking: bool,
    with_logprobs: bool,
    /// Whether a call was written.
    called: bool,
}

/// `models/{model}:{method}`.
pub(super) async fn call(Path(call): Path<String>, incoming: Incoming) -> Response {
    let (model, method) = call.rsplit_once(':').unwrap_or((&call, ""));
    let google = Google { model: model.to_owned(), ..Google::default() };
    match method {
        "generateContent" => job::chat(incoming, google).await,
        "streamGenerateContent" => job::chat(incoming, Google { streams: true, ..google }).await,
        "embedContent" | "batchEmbedContents" => embed(incoming, method == "embedContent").await,
        _ => (StatusCode::NOT_FOUND, axum::Json(error(&Refused::new(404, "Not found.")))).into_response(),
    }
}

pub(super) async fn models(incoming: Incoming) -> Response {
    let refused = check::key(&incoming).err();
    let models = MODELS.iter().map(|name| {
        let embeds = name.contains("embedding");
        let methods = if embeds { json!(["embedContent"]) } else { json!(["generateContent", "countTokens"]) };
        json!({
            "name": format!("models/{name}"), "version": "001", "displayName": name, "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536, "supportedGenerationMethods": methods
        })
    });
    job::models(incoming, refused, error, &json!({"models": models.collect::<Value>()}))
}

fn error(refused: &Refused) -> Value {
    let status = match refused.status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    let mut error = json!({"code": refused.status, "message": refused.message, "status": status});
    if let Some(seconds) = refused.retry_after {
        let kind = "type.googleapis.com/google.rpc.RetryInfo";
        error["details"] = json!([{"@type": kind, "retryDelay": format!("{seconds}s")}]);
    }
    json!({"error": error})
}

impl Format for Google {
    const REQUEST_ID: Option<&'static str> = None;
    const HALF: &'static str = "data: {\"candidates\": [{\"con";
    const MALFORMED: &'static str = "data: {oops\r\n\r\n";

    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused> {
        check::key(incoming)?;
        if self.streams && !incoming.path.contains("alt=sse") {
            return Err(Refused::new(400, "The simulated server streams with alt=sse only."));
        }
        let body = &check::spelled(&incoming.body);
        check::body(body, &self.model)?;
        let config = |field: &str| body.pointer(&format!("/generationConfig/{field}"));
        let number = |field: &str| config(field).and_then(Value::as_u64);
        self.shows_thinking = config("thinkingConfig/includeThoughts") == Some(&Value::Bool(true));
        self.with_logprobs = config("responseLogprobs") == Some(&Value::Bool(true));
        let tools = check::declarations(body);
        let mut tools: Vec<String> =
            tools.filter_map(|tool| tool.get("name")?.as_str()).map(str::to_owned).collect();
        let calling = |field: &str| body.pointer(&format!("/toolConfig/functionCallingConfig/{field}"));
        let choice = match calling("mode").and_then(Value::as_str) {
            Some("ANY") => Choice::Must,
            Some("NONE") => Choice::Never,
            _ => Choice::Free,
        };
        let allowed = stop(calling("allowedFunctionNames"));
        if !allowed.is_empty() {
            tools = allowed;
        }
        let input = json!([body.get("systemInstruction"), body.get("contents"), body.get("tools")]);
        Ok(Asked {
            model: self.model.clone(),
            text: last_text(incoming.list("contents")),
            words: words(&input.to_string()),
            stream: self.streams,
            limit: number("maxOutputTokens"),
            choices: number("candidateCount"),
            tools,
            choice,
            stop: stop(config("stopSequences")),
            json: config("responseMimeType").and_then(Value::as_str) == Some("application/json"),
        })
    }

    fn error(&self, refused: &Refused) -> Value {
        error(refused)
    }

    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String {
        let parts = match piece {
            Piece::Thinking(text) if self.shows_thinking => json!([{"text": text, "thought": true}]),
            Piece::Text(text) => json!([{"text": text}]),
            Piece::Arguments { index, last: true, .. } => {
                plan.calls.get(*index).map(|call| self.call(call)).into_iter().collect()
            }
            _ => return String::new(),
        };
        let logprobs = match piece {
            Piece::Text(text) if self.with_logprobs => Some(logprobs(text)),
            _ => None,
        };
        let usage = plan.usage_so_far();
        event(&self.answer(plan, usage.as_ref(), &|index| {
            let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": index});
            if let Some(logprobs) = &logprobs {
                candidate["logprobsResult"] = logprobs.clone();
            }
            candidate
        }))
    }

    fn end(&mut self, plan: &Plan) -> Vec<String> {
        let usage = plan.usage();
        if is_blocked(plan) {
            return vec![event(&self.blocked(plan))];
        }
        let mut part = json!({"text": ""});
        if plan.thought > 0 && plan.calls.is_empty() {
            part["thoughtSignature"] = signature::of_text("text").into();
        }
        vec![event(&self.answer(plan, usage.as_ref(), &|index| {
            json!({"content": {"parts": [part], "role": "model"}, "finishReason": reason(&plan.end), "index": index})
        }))]
    }

    fn broken(&mut self, message: &str) -> String {
        event(&error(&Refused::new(503, message)))
    }

    fn whole(&mut self, plan: &Plan, made: &Made) -> Value {
        if is_blocked(plan) {
            return self.blocked(plan);
        }
        let mut parts = Vec::new();
        if self.shows_thinking && !made.thinking.is_empty() {
            parts.push(json!({"text": made.thinking, "thought": true}));
        }
        if !made.text.is_empty() {
            let mut part = json!({"text": made.text});
            if plan.thought > 0 && made.calls.is_empty() {
                part["thoughtSignature"] = signature::of_text("text").into();
            }
            parts.push(part);
        }
        parts.extend(made.calls.iter().map(|call| self.call(call)));
        let usage = plan.usage();
        self.answer(plan, usage.as_ref(), &|index| {
            let mut candidate = json!({
                "content": {"parts": parts, "role": "model"}, "finishReason": reason(&plan.end), "index": index
            });
            if self.with_logprobs {
                candidate["logprobsResult"] = logprobs(&made.text);
            }
            candidate
        })
    }
}

impl Google {
    fn answer(&self, plan: &Plan, usage: Option<&Usage>, candidate: &dyn Fn(u64) -> Value) -> Value {
        let candidates = (0..plan.choices).map(candidate);
        let mut answer = json!({"candidates": candidates.collect::<Value>()});
        if let Some(usage) = usage {
            answer["usageMetadata"] = usage_json(plan, usage);
        }
        answer["modelVersion"] = plan.model.as_str().into();
        answer["responseId"] = "simulated".into();
        answer
    }

    /// A prompt that gets no answer.
    fn blocked(&self, plan: &Plan) -> Value {
        let mut answer = self.answer(plan, plan.usage().as_ref(), &|_| Value::Null);
        if let Some(answer) = answer.as_object_mut() {
            answer.shift_remove("candidates");
        }
        answer["promptFeedback"] = json!({"blockReason": "PROHIBITED_CONTENT"});
        answer
    }

    /// A call, whole; the first of an answer carries the signature.
    fn call(&mut self, call: &Call) -> Value {
        let args: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
        let mut part = json!({"functionCall": {"name": call.name, "args": args}});
        if check::signs(&self.model) {
            part["functionCall"]["id"] = call.id.as_str().into();
        }
        if !std::mem::replace(&mut self.called, true) {
            part["thoughtSignature"] = signature::of_text(&call.name).into();
        }
        part
    }
}

fn is_blocked(plan: &Plan) -> bool {
    plan.end == End::Blocked && plan.made == 0
}

fn event(data: &Value) -> String {
    format!("data: {data}\r\n\r\n")
}

fn reason(end: &End) -> &'static str {
    match end {
        End::Stop | End::At(_) | End::Calls => "STOP",
        End::Length => "MAX_TOKENS",
        End::Blocked => "SAFETY",
    }
}

fn logprobs(text: &str) -> Value {
    let chosen: Value = text
        .split_inclusive(' ')
        .map(|token| json!({"token": token, "tokenId": 7, "logProbability": -0.25}))
        .collect();
    let top = chosen.as_array().into_iter().flatten().map(|token| json!({"candidates": [token]}));
    json!({"topCandidates": top.collect::<Value>(), "chosenCandidates": chosen})
}

/// Its `candidatesTokenCount` is without thoughts.
fn usage_json(plan: &Plan, usage: &Usage) -> Value {
    let mut told = json!({
        "promptTokenCount": plan.count(usage.input),
        "candidatesTokenCount": usage.output.saturating_sub(usage.reasoning),
        "totalTokenCount": usage.input + usage.output,
        "promptTokensDetails": modalities(usage.input, usage.input_audio),
    });
    if usage.cached_input > 0 {
        told["cachedContentTokenCount"] = usage.cached_input.into();
        told["cacheTokensDetails"] = modalities(usage.cached_input, 0);
    }
    if usage.reasoning > 0 {
        told["thoughtsTokenCount"] = usage.reasoning.into();
    }
    told
}

fn modalities(all: u64, audio: u64) -> Value {
    let mut list = vec![json!({"modality": "TEXT", "tokenCount": all.saturating_sub(audio)})];
    if audio > 0 {
        list.push(json!({"modality": "AUDIO", "tokenCount": audio}));
    }
    list.into()
}

async fn embed(incoming: Incoming, single: bool) -> Response {
    let texts = check::key(&incoming)
        .and_then(|()| check::texts(&check::spelled(&incoming.body), single))
        .map(|count| Texts { text: all_text(&incoming.body), count });
    job::embeddings(incoming, texts, error, |embedded| {
        let one = json!({"values": [0.5, 0.25]});
        let mut answer =
            if single { json!({"embedding": one}) } else { json!({"embeddings": vec![one; embedded.count]}) };
        if let Some(input) = embedded.input {
            answer["usageMetadata"] = json!({"promptTokenCount": input});
        }
        answer
    })
    .await
}
