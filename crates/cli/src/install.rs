//! `install`: puts the tracked pipes into a running Open WebUI, over its API, and makes them visible.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Map, Value, json};
use storage::{DatabaseUrl, migrate};

use crate::connect;
use crate::open_webui::OpenWebUi;
use crate::output::{self, Format, FormatArguments, text};

/// Put the tracked pipes into a running Open WebUI as Functions, active and visible to everyone.
///
/// Installs a pipe for each provider whose key is in the environment, or those that --pipe names, and the button that shows
/// what is left. Functions that are there already stay as they are; valves that the environment names are set. Safe to
/// repeat.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ANTHROPIC_API_KEY=sk-ant-… owui-token-tracking install --url http://localhost:8080 --token sk-…\n\n\
    The package openwebui-token-tracking must be installed in Open WebUI's Python environment, and its database initialised \
    with `owui-token-tracking init`."
)]
pub(crate) struct Arguments {
    /// Open WebUI's address.
    #[arg(long, env = "OPEN_WEBUI_URL")]
    url: String,
    /// An API key, or a session token, of an administrator.
    #[arg(long, env = "OPEN_WEBUI_TOKEN", hide_env_values = true)]
    token: String,
    /// Only this pipe; may be repeated.
    #[arg(long = "pipe", value_enum, value_name = "PIPE")]
    pipes: Vec<Pipe>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArguments,
}

/// A tracked pipe. Its name is the Function's id, and the provider in the price table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pipe {
    #[value(name = "openai")]
    OpenAi,
    #[value(name = "anthropic")]
    Anthropic,
    #[value(name = "google_genai")]
    Google,
    #[value(name = "mistral")]
    Mistral,
    #[value(name = "ollama")]
    Ollama,
}

/// A Function of ours in Open WebUI.
struct Function {
    id: &'static str,
    name: &'static str,
    /// What makes it one of ours, wherever it stands in the code.
    source: String,
    /// Valves, each with the variable that sets it.
    valves: &'static [(&'static str, &'static str)],
    /// The valve that must be set for it to be wanted.
    key: &'static str,
    is_action: bool,
}

/// What was, or would be, done.
struct Step {
    function: &'static str,
    what: &'static str,
    detail: String,
}

impl Pipe {
    const ALL: [Self; 5] = [Self::OpenAi, Self::Anthropic, Self::Google, Self::Mistral, Self::Ollama];

    fn function(self) -> Function {
        let (id, name, class, valves): (_, _, _, &[(&str, &str)]) = match self {
            Self::OpenAi => (
                "openai",
                "OpenAI (tracked)",
                "OpenAITrackedPipe",
                &[("API_KEY", "OPENAI_API_KEY"), ("API_BASE_URL", "OPENAI_API_BASE_URL")],
            ),
            Self::Anthropic => (
                "anthropic",
                "Anthropic (tracked)",
                "AnthropicTrackedPipe",
                &[
                    ("ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"),
                    ("ANTHROPIC_API_BASE_URL", "ANTHROPIC_API_BASE_URL"),
                ],
            ),
            Self::Google => (
                "google_genai",
                "Google (tracked)",
                "GoogleTrackedPipe",
                &[("GOOGLE_API_KEY", "GOOGLE_API_KEY"), ("GOOGLE_API_BASE_URL", "GOOGLE_API_BASE_URL")],
            ),
            Self::Mistral => (
                "mistral",
                "Mistral (tracked)",
                "MistralTrackedPipe",
                &[("MISTRAL_API_KEY", "MISTRAL_API_KEY"), ("MISTRAL_API_BASE_URL", "MISTRAL_API_BASE_URL")],
            ),
            Self::Ollama => (
                "ollama",
                "Ollama (tracked)",
                "OllamaTrackedPipe",
                &[("OLLAMA_BASE_URL", "OLLAMA_BASE_URL"), ("OLLAMA_API_KEY", "OLLAMA_API_KEY")],
            ),
        };
        let import = format!("from openwebui_token_tracking.pipes.{id} import {class}\n\nPipe = {class}\n");
        Function { id, name, source: source(name, "", &import), valves, key: valves[0].1, is_action: false }
    }
}

fn balance_button() -> Function {
    let import = "from openwebui_token_tracking.actions import CreditBalance\n\nAction = CreditBalance\n";
    let icon = "icon_url: data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMC\
        AyNCAyNCIgZmlsbD0ibm9uZSIgc3Ryb2tlPSIjNjc2NzY3IiBzdHJva2Utd2lkdGg9IjEuOCI+PGNpcmNsZSBjeD0iMTIiIGN5PSIxMiIgcj0iOSIvPjxw\
        YXRoIGQ9Ik0xMiA2djZsNCAyIi8+PC9zdmc+\n";
    let name = "Credits left";
    Function {
        id: "credit_balance",
        name,
        source: source(name, icon, import),
        valves: &[],
        key: "",
        is_action: true,
    }
}

fn source(title: &str, more: &str, code: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("\"\"\"\ntitle: {title}\nversion: {version}\n{more}\"\"\"\n\n{code}")
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut functions: Vec<Function> = if arguments.pipes.is_empty() {
        let all = Pipe::ALL.into_iter().map(Pipe::function);
        all.filter(|function| variable(function.key).is_some()).collect()
    } else {
        arguments.pipes.iter().map(|pipe| pipe.function()).collect()
    };
    if functions.is_empty() {
        let keys: Vec<&str> = Pipe::ALL.into_iter().map(|pipe| pipe.function().key).collect();
        bail!("nothing to install: set one of {}, or name a --pipe", keys.join(", "));
    }
    functions.push(balance_button());
    require_initialised().await?;
    let open_webui = OpenWebUi::new(&arguments.url, arguments.token)?;
    let act = !arguments.dry_run;
    let mut steps = Vec::new();
    for function in &functions {
        install(&open_webui, function, &variable, act, &mut steps).await?;
    }
    let empty = show(&open_webui, &functions, act, &mut steps).await?;
    report(steps, act.then_some(empty.is_empty()), arguments.format.format)?;
    if act && !empty.is_empty() {
        refuse_empty(&functions, &empty, arguments.format.format)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses where Open WebUI's database is named here, and has none of our tables: its pipes would offer nothing.
async fn require_initialised() -> anyhow::Result<()> {
    let Some(url) = DatabaseUrl::from_environment(|name| std::env::var(name).ok())? else { return Ok(()) };
    // From here it may be out of reach.
    let Ok(database) = connect::connect(&url).await else { return Ok(()) };
    let is_new = migrate::status(&database).await?.found == 0;
    // What only the original used is taken over by the first request.
    if is_new && !database.has_table("token_tracking_usage_log").await? {
        bail!(
            "{url} is not initialised, so there are no models with a price: run `owui-token-tracking init` first"
        );
    }
    Ok(())
}

/// Says which pipes offer no models. If all of them do, the database was not initialised, or can't be reached from there.
fn refuse_empty(functions: &[Function], empty: &[&str], format: Format) -> anyhow::Result<()> {
    if functions.iter().any(|function| !function.is_action && !empty.contains(&function.id)) {
        if format == Format::Table {
            output::line(format!(
                "Done, but no model of {} has a price: `owui-token-tracking pricing add` makes one.",
                empty.join(", ")
            ))?;
        }
        return Ok(());
    }
    bail!(
        "the Functions are in Open WebUI, but it lists no model of {}. Initialise its database with \
         `owui-token-tracking init`, and run this again; if it is initialised, Open WebUI's log says what is wrong",
        empty.join(", ")
    )
}

/// Makes the Function, sets its valves, activates it.
async fn install(
    open_webui: &OpenWebUi,
    function: &Function,
    variable: &impl Fn(&str) -> Option<String>,
    act: bool,
    steps: &mut Vec<Step>,
) -> anyhow::Result<()> {
    let id = function.id;
    let all = open_webui.get("api/v1/functions/").await?;
    let there = all.as_array().into_iter().flatten().find(|one| one["id"] == id).cloned();
    let mut note = |what, detail: String| steps.push(Step { function: id, what, detail });
    let mut now = match there {
        Some(there) => {
            let whole = open_webui.get(&format!("api/v1/functions/id/{id}")).await?;
            let code = whole["content"].as_str().unwrap_or_default();
            if !code.contains("openwebui_token_tracking") {
                bail!(
                    "there is a Function `{id}` in Open WebUI that does not use this package; give it another id, or \
                     delete it, and run this again"
                );
            }
            note("keep", "the Function is there already".into());
            there
        }
        None => {
            note("create", function.name.into());
            let form = json!({
                "id": id, "name": function.name, "content": function.source, "meta": {"description": "", "manifest": {}},
            });
            if act { open_webui.post("api/v1/functions/create", &form).await? } else { json!({}) }
        }
    };
    let wanted: Map<String, Value> = function
        .valves
        .iter()
        .filter_map(|(valve, name)| Some(((*valve).to_owned(), Value::from(variable(name)?))))
        .collect();
    if !wanted.is_empty() {
        let path = format!("api/v1/functions/id/{id}/valves");
        let before = if now["id"] == id { open_webui.get(&path).await? } else { Value::Null };
        let mut valves = before.as_object().cloned().unwrap_or_default();
        valves.extend(wanted.clone());
        if Some(&valves) != before.as_object() {
            // Names only: the values are keys.
            note("set valves", wanted.keys().cloned().collect::<Vec<_>>().join(", "));
            if act {
                open_webui.post(&format!("{path}/update"), &Value::Object(valves)).await?;
            }
        }
    }
    if now["is_active"] != true {
        note("activate", String::new());
        if act {
            now = open_webui.post(&format!("api/v1/functions/id/{id}/toggle"), &json!({})).await?;
        }
    }
    if function.is_action && now["is_global"] != true {
        note("show on all models", String::new());
        if act {
            open_webui.post(&format!("api/v1/functions/id/{id}/toggle/global"), &json!({})).await?;
        }
    }
    Ok(())
}

/// Lets everyone use the models of the pipes, where Open WebUI has no word on them yet. Returns the pipes that have none.
async fn show<'f>(
    open_webui: &OpenWebUi,
    functions: &'f [Function],
    act: bool,
    steps: &mut Vec<Step>,
) -> anyhow::Result<Vec<&'f str>> {
    let offered = open_webui.get("api/models?refresh=true").await?;
    let known = open_webui.get("api/v1/models/base").await?;
    let mut empty: Vec<&str> =
        functions.iter().filter(|function| !function.is_action).map(|function| function.id).collect();
    let has_row = |id: &str| known.as_array().into_iter().flatten().any(|one| one["id"] == id);
    for model in offered["data"].as_array().into_iter().flatten() {
        let (Some(id), name) = (model["id"].as_str(), &model["name"]) else { continue };
        let is_of = |function: &&Function| {
            !function.is_action && id.strip_prefix(function.id).is_some_and(|rest| rest.starts_with('.'))
        };
        let Some(function) = functions.iter().find(is_of) else { continue };
        empty.retain(|id| *id != function.id);
        // What sponsored allowances offer is for their members: `sponsored publish` shows it to them.
        if has_row(id) || model["preset"] == true || id.contains(".sponsored/") {
            continue;
        }
        steps.push(Step { function: function.id, what: "show to everyone", detail: id.to_owned() });
        if act {
            let form = json!({
                "id": id, "base_model_id": null, "name": name, "meta": {}, "params": {},
                "access_grants": [{"principal_type": "user", "principal_id": "*", "permission": "read"}],
            });
            open_webui.post("api/v1/models/create", &form).await?;
        }
    }
    Ok(empty)
}

fn report(steps: Vec<Step>, done: Option<bool>, format: Format) -> anyhow::Result<()> {
    let columns = [text("function", "Function"), text("step", "Step"), text("detail", "Detail")];
    let rows = steps.into_iter().map(|step| vec![step.function.into(), step.what.into(), step.detail.into()]);
    output::rows(format, &columns, rows.collect())?;
    if format == Format::Table {
        match done {
            Some(true) => output::line("Done. The models of the pipes are in Open WebUI's model list.")?,
            Some(false) => {}
            None => output::line(
                "Nothing was done: this was a dry run. Models of new Functions are made visible once they are there.",
            )?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pipe_is_a_function_of_its_own() {
        for pipe in Pipe::ALL {
            let function = pipe.function();
            let value = clap::ValueEnum::to_possible_value(&pipe).unwrap();
            assert_eq!(value.get_name(), function.id);
            assert!(function.source.contains(&format!("openwebui_token_tracking.pipes.{} ", function.id)));
            assert!(function.source.ends_with("TrackedPipe\n"));
        }
        assert!(balance_button().source.contains("Action = CreditBalance"));
    }
}
