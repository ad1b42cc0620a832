//! Functions that were written for version 0.1 and that the Python package refuses to load, by their text.
//!
//! The rule it protects: whoever looks here finds what Open WebUI's log says at its start. The package itself knows best
//! (`pipes/compatible.py`, `tracking.py`): this reads no Python, only lines that begin a class or a method.

use storage::reports::health::Pipe;

use super::Finding;
use super::models::is_tracked;

/// What sends requests, with what it may hand them on to: `super()` of either, or the method that sends.
const SENDING: [[&str; 2]; 2] =
    [["stream_response", "_make_stream_request"], ["non_stream_response", "_make_non_stream_request"]];
/// Methods whose work the gateway does, by the class that had them.
const GONE: [(&str, &str); 3] = [
    ("AnthropicTrackedPipe", "_process_messages"),
    ("AnthropicTrackedPipe", "_process_image"),
    ("MistralTrackedPipe", "_handle_response"),
];
/// Classes whose requests were in the provider's own form, and are in OpenAI's now.
const OTHER_FORMS: [&str; 2] = ["AnthropicTrackedPipe", "GoogleTrackedPipe"];

const INSTEAD: &str = "override `_payload`, which has the request in OpenAI's form; see \"Functions of version 0.1\" in the guide";

pub(super) fn check(pipes: &[Pipe], findings: &mut Vec<Finding>) {
    for pipe in pipes.iter().filter(|pipe| is_tracked(pipe)) {
        let refused = refused(&pipe.code);
        let check = format!("code of {}", pipe.id);
        if !refused.is_empty() {
            let found = format!("is not loaded, because of {}", refused.join(", "));
            findings.push(Finding::problem(check, found, INSTEAD));
        } else if waits_for_nothing(&pipe.code) {
            findings.push(Finding::problem(
                check,
                "calls a tracked pipe without waiting for its answer",
                "derive `class Pipe` from the tracked pipe and call `super()`, or write `async def` and `await`",
            ));
        }
    }
}

/// The methods because of which the package does not make the class.
fn refused(code: &str) -> Vec<String> {
    let has = |method: &str| {
        code.lines().any(|line| {
            let line = line.trim_start().trim_start_matches("async ");
            line.strip_prefix("def ")
                .and_then(|rest| rest.strip_prefix(method))
                .is_some_and(|rest| rest.starts_with('('))
        })
    };
    let derives = |class: &str| bases(code).any(|bases| bases.contains(class));
    let has_payload = has("_payload") && !code.contains("super()._payload(");
    let mut refused: Vec<String> = Vec::new();
    if !has_payload {
        let gone = GONE.iter().filter(|(class, method)| derives(class) && has(method));
        refused.extend(gone.map(|(_, method)| format!("`{method}`")));
        if OTHER_FORMS.iter().any(|class| derives(class)) {
            let hands_on = |method: &str, pair: &[&str; 2]| {
                code.contains(&format!("super().{method}("))
                    || (method == pair[0] && code.contains(&format!(".{}(", pair[1])))
            };
            for pair in &SENDING {
                let alone = pair.iter().filter(|method| has(method) && !hands_on(method, pair));
                refused.extend(alone.map(|method| format!("`{method}`")));
            }
        }
    }
    if derives("TokenTracker") && has("_calc_credits_from_tokens") {
        refused.push("`_calc_credits_from_tokens`".into());
    }
    refused
}

/// What stands in the brackets of each class.
fn bases(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let (_, bases) = line.trim_start().strip_prefix("class ")?.split_once('(')?;
        bases.split_once(')').map(|(bases, _)| bases)
    })
}

/// Whether a `Pipe` of its own asks a tracked one and does not wait for what comes: the answer would be empty.
fn waits_for_nothing(code: &str) -> bool {
    let own = code.lines().any(|line| {
        let rest = line.strip_prefix("class Pipe");
        rest.is_some_and(|rest| rest.starts_with([':', '(']) && !rest.contains("TrackedPipe"))
    });
    own && !bases(code).any(|bases| bases.contains("TrackedPipe"))
        && code.contains("TrackedPipe(")
        && code.contains(".pipe(")
        && !code.contains("await ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(class: &str, base: &str, methods: &str) -> String {
        format!(
            "from openwebui_token_tracking.pipes import X\n\nclass {class}({base}):\n    KEY = 1\n{methods}\n"
        )
    }

    const SENDS: &str =
        "    def _make_stream_request(self, headers, payload):\n        return requests.post(self.url)";

    #[test]
    fn what_the_package_refuses() {
        let image = "    def _process_image(self, image):\n        return image";
        let payload = "\n    def _payload(self, model_id, body):\n        return {}";
        let super_payload =
            "\n    def _payload(self, model_id, body):\n        return super()._payload(model_id, body)";
        let cost = "    def _calc_credits_from_tokens(self, records, models):\n        return 0";
        for (base, methods, expected) in [
            ("AnthropicTrackedPipe", image.to_owned(), vec!["`_process_image`"]),
            ("AnthropicTrackedPipe", format!("{image}{payload}"), vec![]),
            ("AnthropicTrackedPipe", SENDS.to_owned(), vec!["`_make_stream_request`"]),
            ("GoogleTrackedPipe", format!("{SENDS}{super_payload}"), vec!["`_make_stream_request`"]),
            ("GoogleTrackedPipe", format!("{SENDS}{payload}"), vec![]),
            ("OpenAITrackedPipe", SENDS.to_owned(), vec![]),
            ("BaseTrackedPipe", format!("{SENDS}\n{image}"), vec![]),
            ("TokenTracker", cost.to_owned(), vec!["`_calc_credits_from_tokens`"]),
        ] {
            assert_eq!(refused(&function("Pipe", base, &methods)), expected, "{base} {methods}");
        }
        let around =
            "    def stream_response(self, *args):\n        yield from super().stream_response(*args)";
        assert!(refused(&function("Pipe", "AnthropicTrackedPipe", around)).is_empty());
        assert!(refused("print('nothing')").is_empty());
    }

    #[test]
    fn a_pipe_around_a_pipe() {
        let asks = "class Pipe:\n    inner = OpenAITrackedPipe()\n    def pipe(self, body):\n        return ";
        assert!(waits_for_nothing(&format!("{asks}self.inner.pipe(body)")));
        assert!(!waits_for_nothing(&format!("{asks}await self.inner.pipe(body)")));
        assert!(!waits_for_nothing(&function("Pipe", "OpenAITrackedPipe", SENDS)));
    }
}
