//! How much a model of Google's is to think, and how it is told ("Gemini thinking", "OpenAI compatibility").
//!
//! Models of the generation 2.5 take a budget in tokens, later ones a level. Thoughts are always asked for, unless thinking
//! is off: they cost nothing beside the tokens that are thought anyway, and Open WebUI shows them.

use serde_json::{Map, Value};

use super::routes::bare_name;
use crate::conversation::Reasoning;

/// How a model is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It does not think, or can't be told.
    None,
    /// By a budget in tokens, from `least` to `most`; 0 turns it off where `off` is true.
    Budget { least: u64, most: u64, off: bool },
    /// By a level, of which it has these; it can't be turned off.
    Levels { minimal: bool, medium: bool },
}

/// What a model takes, by its name.
pub(super) fn of_model(model: &str) -> Thinking {
    let name = bare_name(model);
    let Some(rest) = name.strip_prefix("gemini-") else { return Thinking::None };
    let other = ["-image", "-tts", "-audio", "-live", "-embedding", "embedding-", "-computer-use"];
    if other.iter().any(|kind| name.contains(kind)) {
        return Thinking::None;
    }
    if let Some(kind) = rest.strip_prefix("2.5-") {
        return match kind {
            kind if kind.starts_with("pro") => Thinking::Budget { least: 128, most: 32_768, off: false },
            kind if kind.starts_with("flash-lite") => {
                Thinking::Budget { least: 512, most: 24_576, off: true }
            }
            kind if kind.starts_with("flash") => Thinking::Budget { least: 1, most: 24_576, off: true },
            _ => Thinking::None,
        };
    }
    if has_levels(name) {
        let pro = name.contains("-pro");
        return Thinking::Levels { minimal: !pro, medium: !rest.starts_with("3-pro") };
    }
    Thinking::None
}

/// Whether it is of the generation 3 or later, which also wants its signatures back. Names such as `gemini-flash-latest`
/// stand for the newest generation.
pub(super) fn has_levels(model: &str) -> bool {
    let Some(rest) = bare_name(model).strip_prefix("gemini-") else { return false };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().map_or_else(|_| rest.ends_with("-latest"), |generation| generation >= 3)
}

/// What the request wants of a model, in Google's `thinkingConfig`; and whether it could be had.
///
/// The budgets of the efforts are those that Google's own routes for OpenAI's shape use.
pub(super) fn config(thinking: Thinking, wanted: Option<Reasoning<'_>>) -> (Map<String, Value>, bool) {
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    let possible = match (thinking, wanted) {
        (Thinking::None, None | Some(Reasoning::Off | Reasoning::On)) => return (config, true),
        (Thinking::None, Some(_)) => return (config, false),
        (_, None | Some(Reasoning::On)) => true,
        (Thinking::Budget { off: true, .. }, Some(Reasoning::Off)) => {
            set("thinkingBudget", 0.into());
            true
        }
        (Thinking::Budget { least, .. }, Some(Reasoning::Off)) => {
            set("thinkingBudget", least.into());
            false
        }
        (Thinking::Budget { least, most, .. }, Some(Reasoning::Effort(effort))) => {
            let budget: u64 = match effort {
                "minimal" | "low" => 1_024,
                "medium" => 8_192,
                _ => 24_576,
            };
            set("thinkingBudget", budget.clamp(least, most).into());
            true
        }
        (Thinking::Budget { least, most, .. }, Some(Reasoning::Budget(tokens))) => {
            set("thinkingBudget", tokens.clamp(least, most).into());
            true
        }
        (Thinking::Levels { minimal, .. }, Some(Reasoning::Off)) => {
            set("thinkingLevel", if minimal { "minimal" } else { "low" }.into());
            false
        }
        (Thinking::Levels { minimal, medium }, Some(Reasoning::Effort(effort))) => {
            let level = match effort {
                "minimal" if minimal => "minimal",
                "minimal" | "low" => "low",
                "medium" if medium => "medium",
                _ => "high",
            };
            set("thinkingLevel", level.into());
            true
        }
        // Taken by these models too, for old clients.
        (Thinking::Levels { .. }, Some(Reasoning::Budget(tokens))) => {
            set("thinkingBudget", tokens.into());
            true
        }
    };
    set("includeThoughts", (wanted != Some(Reasoning::Off)).into());
    (config, possible)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_model_is_told_in_its_own_way() {
        let effort = |effort| Some(Reasoning::Effort(effort));
        let off = Some(Reasoning::Off);
        for (model, wanted, expected, possible) in [
            ("gemini-2.5-flash", None, json!({"includeThoughts": true}), true),
            ("gemini-2.5-flash", Some(Reasoning::On), json!({"includeThoughts": true}), true),
            ("gemini-2.5-flash", off, json!({"thinkingBudget": 0, "includeThoughts": false}), true),
            (
                "gemini-2.5-flash",
                effort("medium"),
                json!({"thinkingBudget": 8192, "includeThoughts": true}),
                true,
            ),
            (
                "gemini-2.5-flash-lite",
                Some(Reasoning::Budget(9)),
                json!({"thinkingBudget": 512, "includeThoughts": true}),
                true,
            ),
            ("models/gemini-2.5-pro", off, json!({"thinkingBudget": 128, "includeThoughts": false}), false),
            (
                "gemini-2.5-pro",
                Some(Reasoning::Budget(99_999)),
                json!({"thinkingBudget": 32768, "includeThoughts": true}),
                true,
            ),
            (
                "gemini-2.5-pro",
                effort("xhigh"),
                json!({"thinkingBudget": 24576, "includeThoughts": true}),
                true,
            ),
            (
                "gemini-3-pro-preview",
                effort("medium"),
                json!({"thinkingLevel": "high", "includeThoughts": true}),
                true,
            ),
            (
                "gemini-3.1-pro-preview",
                effort("medium"),
                json!({"thinkingLevel": "medium", "includeThoughts": true}),
                true,
            ),
            (
                "gemini-3.1-pro-preview",
                effort("minimal"),
                json!({"thinkingLevel": "low", "includeThoughts": true}),
                true,
            ),
            ("gemini-3.1-pro-preview", off, json!({"thinkingLevel": "low", "includeThoughts": false}), false),
            (
                "gemini-3-flash-preview",
                effort("minimal"),
                json!({"thinkingLevel": "minimal", "includeThoughts": true}),
                true,
            ),
            (
                "gemini-flash-latest",
                off,
                json!({"thinkingLevel": "minimal", "includeThoughts": false}),
                false,
            ),
            (
                "gemini-3.5-flash",
                Some(Reasoning::Budget(77)),
                json!({"thinkingBudget": 77, "includeThoughts": true}),
                true,
            ),
            ("gemini-2.0-flash", None, json!({}), true),
            ("gemini-2.0-flash", off, json!({}), true),
            ("gemini-2.0-flash", effort("low"), json!({}), false),
            ("gemini-2.5-flash-image", None, json!({}), true),
            ("gemma-3-27b-it", None, json!({}), true),
        ] {
            let (config, could) = config(of_model(model), wanted);
            assert_eq!((Value::Object(config), could), (expected, possible), "{model} {wanted:?}");
        }
    }

    #[test]
    fn generations() {
        for (model, later) in [
            ("gemini-3-pro-preview", true),
            ("models/gemini-3.5-flash", true),
            ("gemini-10-ultra", true),
            ("gemini-pro-latest", true),
            ("gemini-2.5-flash", false),
            ("gemini-1.5-flash-latest", false),
            ("gemma-3", false),
        ] {
            assert_eq!(has_levels(model), later, "{model}");
        }
    }
}
