//! OpenAI's older Completions (API reference, "Completions"): prompts that the model goes on with. `best_of` makes more than are
//! shown, and `echo` shows the prompt before the answer.

use axum::response::Response;
use serde_json::{Value, json};

use super::asked::{Asked, Choice, Incoming, Refused};
use super::directive::all_text;
use super::job::{self, Format};
use super::openai::{broken, ending, error, event, need_key, reason, stop, usage_json};
use super::plan::{Made, Piece, Plan, words};

/// The most tokens where nothing is said.
const USUAL: u64 = 16;

/// One answer in this format.
#[derive(Debug, Default)]
struct Completions {
    with_usage: bool,
    /// The prompt that each answer shown belongs to, or nothing where it is not to be repeated.
    echoes: Vec<String>,
}

pub(super) async fn create(incoming: Incoming) -> Response {
    job::chat(incoming, Completions::default()).await
}

impl Format for Completions {
    const HALF: &'static str = "data: {\"choices\":[{\"te";
    const MALFORMED: &'static str = "data: {oops\n\n";

    fn read(&mut self, incoming: &Incoming) -> Result<Asked, Refused> {
        need_key(incoming, false)?;
        let prompt = incoming.body.get("prompt").cloned().unwrap_or_default();
        let prompts = match &prompt {
            Value::Array(list) if !list.iter().all(Value::is_number) => list.clone(),
            Value::Null => {
                let refused = Refused::new(400, "you must provide a prompt");
                return Err(Refused { param: Some("prompt".into()), ..refused });
            }
            one => vec![one.clone()],
        };
        let (n, best_of) = (incoming.number("n").unwrap_or(1), incoming.number("best_of").unwrap_or(1));
        let echo = incoming.is_true("echo");
        let shown = |prompt: &Value| {
            let text = prompt.as_str().filter(|_| echo).unwrap_or_default().to_owned();
            (0..n).map(move |_| text.clone())
        };
        self.echoes = prompts.iter().flat_map(shown).collect();
        self.with_usage = incoming.body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
        let text = all_text(&prompt);
        Ok(Asked {
            model: incoming.text("model").unwrap_or_default().to_owned(),
            words: words(&text),
            text,
            stream: incoming.is_true("stream"),
            limit: Some(incoming.number("max_tokens").unwrap_or(USUAL)),
            choices: Some(prompts.len() as u64 * n.max(best_of)),
            tools: Vec::new(),
            choice: Choice::Never,
            stop: stop(incoming.body.get("stop")),
            json: false,
        })
    }

    fn error(&self, refused: &Refused) -> Value {
        error(refused)
    }

    fn begin(&mut self, plan: &Plan) -> String {
        if self.echoes.iter().all(String::is_empty) {
            return String::new();
        }
        let echoes = self.echoes.clone();
        self.chunk(plan, &|index| json!(echoes[index]), &Value::Null)
    }

    fn piece(&mut self, plan: &Plan, piece: &Piece) -> String {
        match piece {
            Piece::Text(text) => self.chunk(plan, &|_| json!(text), &Value::Null),
            _ => String::new(),
        }
    }

    fn end(&mut self, plan: &Plan) -> Vec<String> {
        let last = self.chunk(plan, &|_| json!(""), &json!(reason(&plan.end)));
        ending(plan, last, head(plan), self.with_usage)
    }

    fn broken(&mut self, message: &str) -> String {
        broken(message)
    }

    fn whole(&mut self, plan: &Plan, made: &Made) -> Value {
        let choices = self.echoes.iter().enumerate().map(|(index, echo)| {
            let text = format!("{echo}{}", made.text);
            json!({"index": index, "text": text, "logprobs": null, "finish_reason": reason(&plan.end)})
        });
        let mut answer = head(plan);
        answer["choices"] = choices.collect();
        if let Some(usage) = plan.usage() {
            answer["usage"] = usage_json(plan, &usage);
        }
        answer
    }
}

impl Completions {
    /// A chunk for all answers that are shown; its usage is there and empty if one was asked for.
    fn chunk(&self, plan: &Plan, text: &dyn Fn(usize) -> Value, finish_reason: &Value) -> String {
        let mut chunk = head(plan);
        let choice = |index| json!({"index": index, "text": text(index), "logprobs": null, "finish_reason": finish_reason});
        chunk["choices"] = (0..self.echoes.len()).map(choice).collect();
        if self.with_usage && plan.usage().is_some() {
            chunk["usage"] = Value::Null;
        }
        event(&chunk)
    }
}

fn head(plan: &Plan) -> Value {
    json!({"id": "cmpl-simulated", "object": "text_completion", "created": 1, "model": plan.model})
}
