//! What converting one chunk of a streamed answer costs: from the bytes of each kind of server to the event that goes to the
//! client, with what is noted of usage and output. One thread that waits for nothing: its fastest round is CPU time alone.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark prints, and stops when something is wrong"
)]
#![expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "microseconds of measurements, no money"
)]

use std::time::Instant;

use benches::{machine, short, table};
use providers::{Kind, Shape, fuzzing};
use serde_json::{Value, json};

/// Chunks of one answer.
const CHUNKS: usize = 2_000;
/// The fastest of so many rounds counts: more is what the machine did beside.
const ROUNDS: usize = 50;
/// No chunk should take more than this.
const TARGET: f64 = 10.0;

/// A streamed answer, in the pieces in which it comes.
struct Answer {
    name: &'static str,
    kind: Kind,
    shape: Shape,
    pieces: Vec<String>,
}

fn main() {
    println!("Machine: {}\n", machine());
    println!(
        "## Converting one chunk ({CHUNKS} chunks of a word, the fastest of {ROUNDS} rounds; target below {TARGET} µs)\n"
    );
    let mut table = table(&["stream", "µs for a chunk", "below the target"]);
    for answer in answers() {
        let each = measure(&answer);
        let within = if each < TARGET { "yes" } else { "NO" };
        table.add_row([answer.name.to_owned(), short(each), within.to_owned()]);
    }
    println!("{table}\n");
}

/// Microseconds for a chunk.
fn measure(answer: &Answer) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let before = Instant::now();
        let pieces = answer.pieces.iter().map(String::as_bytes);
        let events = fuzzing::convert(answer.kind, answer.shape, pieces);
        let took = before.elapsed();
        if events.is_none_or(|events| events < CHUNKS) {
            panic!("{}: of {CHUNKS} chunks came {events:?}", answer.name);
        }
        least = least.min(took.as_secs_f64() * 1e6 / CHUNKS as f64);
    }
    least
}

fn answers() -> Vec<Answer> {
    let openai = kind("openai");
    let chat = |name, kind, pieces| Answer { name, kind, shape: Shape::Chat, pieces };
    vec![
        chat("openai", openai, openai_chunks(&json!("word "))),
        Answer { name: "openai, responses", kind: openai, shape: Shape::Responses, pieces: responses() },
        chat("anthropic", Kind::ANTHROPIC, anthropic()),
        Answer {
            name: "anthropic, messages",
            kind: Kind::ANTHROPIC,
            shape: Shape::Messages,
            pieces: anthropic(),
        },
        chat("google", Kind::GOOGLE, google()),
        chat("mistral", Kind::MISTRAL, openai_chunks(&json!("word "))),
        chat("mistral, thinking", Kind::MISTRAL, openai_chunks(&thinking())),
        chat("ollama", Kind::OLLAMA, ollama()),
    ]
}

fn kind(name: &str) -> Kind {
    name.parse().expect("a kind that is known")
}

fn thinking() -> Value {
    json!([{"type": "thinking", "thinking": [{"type": "text", "text": "word "}]}])
}

fn stream(
    first: Vec<Value>,
    each: &Value,
    last: Vec<Value>,
    write: impl Fn(&Value) -> String,
) -> Vec<String> {
    let middle = std::iter::repeat_n(each, CHUNKS).map(&write);
    first.iter().map(&write).chain(middle).chain(last.iter().map(&write)).collect()
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn named(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
}

fn openai_chunks(content: &Value) -> Vec<String> {
    let chunk = |delta: Value, reason: Value| {
        json!({
            "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx", "object": "chat.completion.chunk", "created": 1_764_100_000,
            "model": "gpt-4o-2024-08-06", "service_tier": "default", "system_fingerprint": "fp_0123456789",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}], "usage": null,
        })
    };
    let usage =
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}});
    let first = chunk(json!({"role": "assistant", "content": ""}), Value::Null);
    let last = vec![chunk(json!({}), json!("stop")), usage];
    let mut pieces = stream(vec![first], &chunk(json!({"content": content}), Value::Null), last, data);
    pieces.push("data: [DONE]\n\n".into());
    pieces
}

fn responses() -> Vec<String> {
    let created = json!({"type": "response.created", "response": {"id": "r", "model": "m", "output": []}});
    let delta = json!({
        "type": "response.output_text.delta", "sequence_number": 7, "item_id": "msg_0123456789abcdef0123456789abcdef",
        "output_index": 0, "content_index": 0, "delta": "word ", "logprobs": [], "obfuscation": "abcdefgh",
    });
    let usage = json!({"input_tokens": 9, "output_tokens": 9, "total_tokens": 18});
    let end = json!({"type": "response.completed", "response": {"id": "r", "model": "m", "output": [], "usage": usage}});
    stream(vec![created], &delta, vec![end], named)
}

fn anthropic() -> Vec<String> {
    let message = json!({"id": "msg_1", "model": "claude", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}});
    let first = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ];
    let delta =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}});
    let last = vec![
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    stream(first, &delta, last, named)
}

fn google() -> Vec<String> {
    let chunk = |reason: Option<&str>| {
        let mut candidate = json!({"content": {"parts": [{"text": "word "}], "role": "model"}, "index": 0});
        if let Some(reason) = reason {
            candidate["finishReason"] = reason.into();
        }
        json!({
            "candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "AbCdEfGhIjKl",
            "usageMetadata": {
                "promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
            },
        })
    };
    stream(Vec::new(), &chunk(None), vec![chunk(Some("STOP"))], data)
}

fn ollama() -> Vec<String> {
    let line = |text: &str, done: bool| {
        json!({
            "model": "llama3.2", "created_at": "2026-11-25T03:00:00.123456789Z",
            "message": {"role": "assistant", "content": text}, "done": done,
        })
    };
    let mut end = line("", true);
    end["done_reason"] = "stop".into();
    end["prompt_eval_count"] = 9.into();
    end["eval_count"] = 9.into();
    stream(Vec::new(), &line("word ", false), vec![end], |value| format!("{value}\n"))
}
