//! How much a request lets its model think ("Thinking", "Extended thinking", "Effort", "Preserved thinking").

use serde_json::{Map, Value, json};

use super::messages::Turns;
use super::model::{Forced, Model, Off, Thinking};
use crate::BadRequest;
use crate::conversation::{Reasoning, bad, reasoning};

/// The least budget ("Extended thinking").
const LEAST_BUDGET: u64 = 1024;

/// Of the tokens of an answer, thinking gets at most three in four: the rest is for what is said.
const fn share(most: u64) -> u64 {
    most / 4 * 3
}

/// What a request says of thinking.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Anthropic's `thinking`.
    pub object: Option<Value>,
    /// Anthropic's `output_config.effort`.
    pub effort: Option<&'static str>,
    /// Whether thinking of the history must be kept.
    pub keeps: bool,
    /// Whether blocks whose place in the conversation has changed are to be left out by the server.
    pub drops_misplaced: bool,
    /// The request's field that asks for thinking.
    field: &'static str,
}

impl Plan {
    /// Reads it. `most`: the limit of the answer in tokens, which thinking counts towards.
    ///
    /// # Errors
    /// Names a value that can't be one.
    pub(super) fn read(
        body: &Map<String, Value>,
        model: Model,
        most: u64,
        omitted: &mut Vec<String>,
    ) -> Result<Self, BadRequest> {
        let said = |field: &str| body.get(field).is_some_and(|value| !value.is_null());
        let field = ["thinking", "reasoning_effort", "reasoning"].into_iter().find(|field| said(field));
        let mut plan = Self {
            object: None,
            effort: None,
            keeps: model.off() != Off::Silence,
            drops_misplaced: false,
            field: field.unwrap_or("thinking"),
        };
        if plan.field == "thinking" && field.is_some() {
            plan.own(body.get("thinking"), most, omitted)?;
            omitted.extend(
                ["reasoning_effort", "reasoning"].into_iter().filter(|field| said(field)).map(Into::into),
            );
            return Ok(plan);
        }
        match (reasoning(body)?, model.thinking()) {
            (None, _) => {}
            (Some(Reasoning::Off), _) => plan.off(model, omitted),
            (Some(_), Thinking::None) => omitted.push(plan.field.into()),
            (Some(Reasoning::Budget(budget)), _) if model.takes_budget() => {
                plan.budget(budget.min(share(most)), most, omitted);
            }
            (Some(asked), Thinking::Budget) => {
                let budget = match asked {
                    Reasoning::Effort("minimal") => LEAST_BUDGET,
                    Reasoning::Effort("low") => 2048,
                    Reasoning::Effort("high") => 16_384,
                    Reasoning::Effort("xhigh" | "max") => 32_000,
                    _ => 8192,
                };
                plan.budget(budget.min(share(most)), most, omitted);
            }
            (Some(asked), Thinking::Adaptive) => {
                let mut object = Map::new();
                object.insert("type".into(), "adaptive".into());
                // Who asks for reasoning wants to see it.
                if model.hides_thinking() {
                    object.insert("display".into(), "summarized".into());
                }
                plan.object = Some(object.into());
                plan.keeps = true;
                plan.effort = match asked {
                    Reasoning::Effort(effort) => Some(model.effort(effort)),
                    Reasoning::Budget(budget) => {
                        omitted.push("reasoning.max_tokens".into());
                        Some(match budget {
                            0..=2048 => "low",
                            2049..=8192 => "medium",
                            _ => "high",
                        })
                    }
                    Reasoning::On | Reasoning::Off => None,
                };
            }
        }
        Ok(plan)
    }

    /// The client's own `thinking`.
    fn own(
        &mut self,
        object: Option<&Value>,
        most: u64,
        omitted: &mut Vec<String>,
    ) -> Result<(), BadRequest> {
        let wrong =
            || bad("thinking", "thinking must be an object with a type, such as {\"type\": \"adaptive\"}");
        let object = object.and_then(Value::as_object).ok_or_else(wrong)?;
        match object.get("type").and_then(Value::as_str).ok_or_else(wrong)? {
            "disabled" => {
                self.keeps = false;
                self.object = Some(json!({"type": "disabled"}));
            }
            "enabled" => {
                let budget = object.get("budget_tokens").and_then(Value::as_u64).unwrap_or_default();
                self.budget(budget, most, omitted);
            }
            kind => {
                self.keeps = true;
                self.object = Some(json!({"type": kind}));
            }
        }
        if let (Some(display), Some(Value::Object(own))) = (object.get("display"), &mut self.object) {
            own.insert("display".into(), display.clone());
        }
        let others =
            object.keys().filter(|key| !matches!(key.as_str(), "type" | "budget_tokens" | "display"));
        omitted.extend(others.map(|key| format!("thinking.{key}")));
        Ok(())
    }

    fn budget(&mut self, budget: u64, most: u64, omitted: &mut Vec<String>) {
        if most <= LEAST_BUDGET {
            // No room to think.
            omitted.push(self.field.into());
            return;
        }
        let budget = budget.clamp(LEAST_BUDGET, most - 1);
        self.object = Some(json!({"type": "enabled", "budget_tokens": budget}));
        self.keeps = true;
    }

    fn off(&mut self, model: Model, omitted: &mut Vec<String>) {
        match model.off() {
            Off::Silence => {}
            Off::Disabled => {
                self.object = Some(json!({"type": "disabled"}));
                self.keeps = false;
            }
            Off::BetweenTools => self.object = Some(json!({"type": "between_tools"})),
            Off::Never => {
                self.effort = Some("low");
                omitted.push(self.field.into());
            }
        }
    }

    fn kind(&self) -> Option<&str> {
        self.object.as_ref().and_then(|object| object.get("type")).and_then(Value::as_str)
    }

    /// Whether the request turns thinking on.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.kind(), Some("enabled" | "adaptive"))
    }

    /// Turns thinking off where the rest of the request does not allow it. `forced`: it forces the call of a tool.
    ///
    /// # Errors
    /// If the model can't be forced at all.
    pub(super) fn fit(
        &mut self,
        model: Model,
        forced: bool,
        turns: &mut Turns,
        omitted: &mut Vec<String>,
    ) -> Result<(), BadRequest> {
        let mut drop = false;
        if forced {
            match model.forced_tools() {
                Forced::Never => {
                    let message = "this model can't be forced to call a tool: let tool_choice be auto";
                    return Err(bad("tool_choice", message));
                }
                Forced::NotWhileThinking => drop = self.is_on(),
                Forced::Always => {}
            }
        }
        if self.kind() == Some("enabled") && (turns.lost_thinking() || turns.ends_in_prefill()) {
            drop = true;
        }
        if drop {
            self.object = None;
            self.effort = None;
            self.keeps = model.off() != Off::Silence;
            omitted.push(self.field.into());
        }
        if !self.keeps {
            turns.drop_thinking();
        }
        let adaptive = matches!(self.kind(), None | Some("adaptive"));
        if model.binds_thinking() && adaptive && turns.has_thinking() {
            // What stands before the thinking may have changed since: a prompt with the time of day, another choice of
            // tools. Then the server is to leave the thinking out instead of refusing the request.
            let object = self.object.get_or_insert_with(|| json!({"type": "adaptive"}));
            object["block_binding"] = json!({"prefix_mismatch_behavior": "drop_block"});
            self.drops_misplaced = true;
        }
        Ok(())
    }
}
