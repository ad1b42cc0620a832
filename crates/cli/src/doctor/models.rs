//! Prices: whether each provider has any, and each model in use has one; and whether Functions are called as providers are.

use std::collections::BTreeSet;

use providers::{Kind, ProviderConfig};
use serde_json::Value;
use storage::nearest::nearest;
use storage::reports::health::Pipe;

use super::{Finding, Known, named};

/// What makes a Function one of ours.
const PACKAGE: &str = "openwebui_token_tracking";

/// The tracked pipes that come with the package: class, kind of server, valve of the key, valve of the address.
const CLASSES: [(&str, Kind, &str, &str); 5] = [
    ("OpenAITrackedPipe", Kind::OPENAI, "API_KEY", "API_BASE_URL"),
    ("AnthropicTrackedPipe", Kind::ANTHROPIC, "ANTHROPIC_API_KEY", "ANTHROPIC_API_BASE_URL"),
    ("GoogleTrackedPipe", Kind::GOOGLE, "GOOGLE_API_KEY", "GOOGLE_API_BASE_URL"),
    ("MistralTrackedPipe", Kind::MISTRAL, "MISTRAL_API_KEY", "MISTRAL_API_BASE_URL"),
    ("OllamaTrackedPipe", Kind::OLLAMA, "OLLAMA_API_KEY", "OLLAMA_BASE_URL"),
];

/// A Function that uses this package.
pub(super) struct Tracked<'a> {
    pub id: &'a str,
    /// Its provider in the price table, in lower case: as its valve says, else as its class has it, else as it is called.
    pub provider: String,
    /// What sends its requests, if the package does: the kind of server, its key and its address, where valves have them.
    pub server: Option<(Kind, Option<String>, Option<String>)>,
}

/// The Functions that use this package.
pub(super) fn tracked(pipes: &[Pipe]) -> impl Iterator<Item = Tracked<'_>> {
    pipes.iter().filter(|pipe| is_tracked(pipe)).map(|pipe| {
        let valves: Value = serde_json::from_str(&pipe.valves).unwrap_or_default();
        let valve = |name: &str| {
            let text = valves.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let class = CLASSES.iter().find(|(class, ..)| pipe.code.contains(class));
        let of_class = class.map(|(_, kind, ..)| kind.entry().provider.to_owned());
        let provider = valve("PROVIDER").or(of_class).unwrap_or_else(|| pipe.id.clone());
        let server = class.map(|(_, kind, key, address)| (*kind, valve(key), valve(address)));
        Tracked { id: &pipe.id, provider: provider.to_lowercase(), server }
    })
}

pub(super) fn is_tracked(pipe: &Pipe) -> bool {
    pipe.code.contains(PACKAGE)
}

pub(super) fn check(known: &Known, configured: &[ProviderConfig], findings: &mut Vec<Finding>) {
    let priced: BTreeSet<String> = known.snapshot.models().map(|model| model.provider.to_string()).collect();
    let names: Vec<String> = priced.iter().cloned().collect();
    let pipes: Vec<Tracked<'_>> = tracked(&known.pipes).collect();
    let used: BTreeSet<String> = configured
        .iter()
        .map(|provider| provider.name.to_string())
        .chain(pipes.iter().map(|pipe| pipe.provider.clone()))
        .collect();
    if used.is_empty() {
        let found = format!("{} model(s); no provider is configured here", known.snapshot.models().count());
        findings.push(Finding::ok("prices", found));
    }
    for provider in used {
        let check = format!("prices of {provider}");
        let add = format!("`owui-token-tracking pricing add --provider {provider} …`");
        let count = known.snapshot.models().filter(|model| model.provider.as_str() == provider).count();
        findings.push(match count {
            0 => Finding::problem(
                check,
                "none, so that nothing is offered",
                match nearest(&provider, names.iter().map(String::as_str)) {
                    Some(name) => {
                        format!("call it `{name}`, as the prices do, if that is meant; or else {add}")
                    }
                    None => format!("{add}, or name the provider as the prices do"),
                },
            ),
            _ => Finding::ok(check, format!("{count} model(s)")),
        });
    }
    for pipe in &pipes {
        let (check, id) = (format!("function {}", pipe.id), pipe.id.to_lowercase());
        if priced.contains(&id) {
            findings.push(Finding::ok(check, "is called as a provider"));
        } else if id != pipe.provider {
            findings.push(Finding::warning(
                check,
                format!("no provider in the price table is called so; there are {}", named(&names)),
                "give it the provider's name as its id: the original finds its prices by it",
            ));
        }
        findings.extend(not_offered(known, pipe));
    }
}

/// Models of a pipe that Open WebUI has entries for, and that are not offered: they have no price, or the sponsored allowance
/// whose own they are does not offer them any more.
fn not_offered(known: &Known, pipe: &Tracked<'_>) -> Vec<Finding> {
    let priced = |id: &str| {
        let mut models = known.snapshot.models();
        models.find(|model| model.provider.as_str() == pipe.provider && model.model.as_str() == id)
    };
    let (mut unpriced, mut withdrawn) = (Vec::new(), Vec::new());
    for id in &known.models_in_use {
        let Some(id) = id.strip_prefix(pipe.id).and_then(|id| id.strip_prefix('.')) else { continue };
        match id.strip_prefix("sponsored/").and_then(|own| own.split_once('/')) {
            None if priced(id).is_none() => unpriced.push(id.to_owned()),
            None => {}
            Some((allowance, model)) => {
                let allowance = known.snapshot.sponsored_named(allowance).filter(|one| one.offers_models());
                let is_offered = allowance.is_some_and(|allowance| {
                    priced(model).is_some_and(|model| allowance.pays_for(&model.provider, &model.model))
                });
                if !is_offered {
                    withdrawn.push(id.to_owned());
                }
            }
        }
    }
    let check = format!("models of {}", pipe.id);
    let without_price = (!unpriced.is_empty()).then(|| {
        Finding::warning(
            check.clone(),
            format!("without a price, and so not offered: {}", named(&unpriced)),
            format!(
                "`owui-token-tracking pricing add --provider {} …`, or remove them in Open WebUI",
                pipe.provider
            ),
        )
    });
    let without_allowance = (!withdrawn.is_empty()).then(|| {
        Finding::warning(
            check,
            format!("no sponsored allowance offers these any more: {}", named(&withdrawn)),
            "`owui-token-tracking sponsored publish NAME` removes those of an allowance; or remove them in Open WebUI",
        )
    });
    without_price.into_iter().chain(without_allowance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_of_a_pipe() {
        let pipe = |id: &str, code: &str, valves: &str| Pipe {
            id: id.into(),
            code: code.into(),
            valves: valves.into(),
        };
        let ours = "from openwebui_token_tracking.pipes";
        let pipes = [
            pipe(
                "OpenAI",
                &format!("{ours}.openai import OpenAITrackedPipe"),
                r#"{"API_KEY": "k", "PROVIDER": null}"#,
            ),
            pipe("x", &format!("{ours}.openai import OpenAITrackedPipe"), r#"{"PROVIDER": "OpenRouter"}"#),
            pipe("g", &format!("{ours}.google_genai import GoogleTrackedPipe"), "null"),
            pipe("Own", &format!("{ours}.base import BaseTrackedPipe"), ""),
            pipe("free", "print('nothing')", ""),
        ];
        let found: Vec<_> = tracked(&pipes).map(|pipe| (pipe.id.to_owned(), pipe.provider)).collect();
        let expected = [("OpenAI", "openai"), ("x", "openrouter"), ("g", "google_genai"), ("Own", "own")];
        assert_eq!(found, expected.map(|(id, provider)| (id.to_owned(), provider.to_owned())));
    }
}
