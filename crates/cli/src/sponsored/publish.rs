//! `sponsored publish|unpublish`: an allowance's models in a running Open WebUI, over its API.
//!
//! The rule it protects: only what this command made is changed or removed. It marks its models with the allowance's id, so a
//! new name finds the old ones too; a model that somebody else made stays as it is. Each model is shown once; what was shown
//! beside it before is hidden, and goes on to work in the chats that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use accounting::Clock;
use anyhow::bail;
use serde_json::{Value, json};
use storage::admin::{prices, sponsored};
use storage::{CoveredModel, Database, MemberKind, SponsoredAllowance, SystemClock};

use crate::connect::DatabaseArguments;
use crate::open_webui::OpenWebUi;
use crate::output::{self, Format, FormatArguments, text};

pub(super) const EXAMPLE: &str = "Where Open WebUI lists the allowance's models as models of their own, they are shown to the \
    allowance's members: users, Open WebUI's groups, and the users who are in its credit groups now; to everybody if it names \
    none. For each other model that it covers, a workspace model NAME---MODEL is made over it for the same people, who must \
    be allowed to use the base model too. A workspace model that is there already is hidden once its model is listed; chats \
    go on with it. Safe to repeat: do it when members, models or the name have changed.\n\nExample:\n  owui-token-tracking sponsored publish research --url http://localhost:8080 --token sk-…";

/// In a model's `meta`: the allowance for which it was made.
const MARK: &str = "sponsored_allowance";
/// In a model's `meta`: this command has hidden it. What an administrator shows again stays so.
const HIDDEN: &str = "sponsored_hidden";

/// An Open WebUI, and the token of one of its administrators.
#[derive(Debug, clap::Args)]
struct Server {
    /// Open WebUI's address.
    #[arg(long, env = "OPEN_WEBUI_URL")]
    url: String,
    /// An API key, or a session token, of an administrator.
    #[arg(long, env = "OPEN_WEBUI_TOKEN", hide_env_values = true)]
    token: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What to publish.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The allowance's name.
    name: String,
    #[command(flatten)]
    server: Server,
    /// Take base models of this Function or connection: what their ids in Open WebUI have before the first dot.
    #[arg(long, value_name = "PREFIX")]
    base_prefix: Option<String>,
    /// Take this base model, by its id in Open WebUI, where several fit; may be repeated.
    #[arg(long = "base", value_name = "ID")]
    bases: Vec<String>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

/// What to take out.
#[derive(Debug, clap::Args)]
pub(crate) struct Removal {
    /// The allowance's name.
    name: String,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    format: FormatArguments,
}

/// A model as it is to be in Open WebUI.
struct Wanted {
    base: Option<String>,
    name: String,
    /// The same model is shown by another id.
    hidden: bool,
}

/// What was, or would be, done with a model.
struct Step {
    model: String,
    what: &'static str,
    detail: String,
}

/// A grant to read: to whom (`user` or `group`), and the id.
type Grant = (String, String);

pub(super) async fn publish(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let allowance = sponsored::get(&database, &sponsored::Which::Name(arguments.name.clone())).await?;
    let open_webui = OpenWebUi::new(&arguments.server.url, arguments.server.token.clone())?;
    let listed = open_webui.get("api/models?refresh=true").await?;
    let listed: Vec<&Value> =
        listed["data"].as_array().into_iter().flatten().filter(|model| model["preset"] != true).collect();
    let there = there(&open_webui).await?;
    let own = own_models(&allowance, &arguments, &listed, &there);
    let mut wanted = workspace_models(&database, &allowance, &arguments, &listed, &own, &there).await?;
    wanted.extend(own.into_iter().map(|own| (own.id, own.wanted)));
    let grants = grants(&database, &allowance).await?;
    let mut act = Act { open_webui, dry: arguments.server.dry_run, steps: Vec::new() };
    for (id, model) in &wanted {
        match there.get(id) {
            None => act.create(&allowance, id, model, &grants).await?,
            Some(there) if !is_of(there, &allowance) => {
                act.step(id, "keep", "it was not made by this command");
            }
            Some(there) => act.update(id, model, there, &grants).await?,
        }
    }
    let stale = there.iter().filter(|(id, there)| is_of(there, &allowance) && !wanted.contains_key(*id));
    for (id, _) in stale {
        act.delete(id).await?;
    }
    act.report(arguments.format.format)
}

pub(super) async fn unpublish(arguments: Removal) -> anyhow::Result<ExitCode> {
    let database = arguments.database.open().await?;
    let allowance = sponsored::get(&database, &sponsored::Which::Name(arguments.name)).await?;
    let open_webui = OpenWebUi::new(&arguments.server.url, arguments.server.token)?;
    let there = there(&open_webui).await?;
    let mut act = Act { open_webui, dry: arguments.server.dry_run, steps: Vec::new() };
    for (id, _) in there.iter().filter(|(_, there)| is_of(there, &allowance)) {
        act.delete(id).await?;
    }
    act.report(arguments.format.format)
}

/// All models that Open WebUI has rows of, by id.
async fn there(open_webui: &OpenWebUi) -> anyhow::Result<BTreeMap<String, Value>> {
    let Value::Array(all) = open_webui.get("api/v1/models/all").await? else {
        bail!(
            "Open WebUI did not answer with a list of models; this command needs a version that has /api/v1/models/all"
        )
    };
    let by_id = |model: Value| Some((model["id"].as_str()?.to_owned(), model));
    Ok(all.into_iter().filter_map(by_id).collect())
}

fn is_of(model: &Value, allowance: &SponsoredAllowance) -> bool {
    model["meta"][MARK] == allowance.id.to_string()
}

/// A workspace model for each covered model that Open WebUI does not list as the allowance's own, over what it calls it.
async fn workspace_models(
    database: &Database,
    allowance: &SponsoredAllowance,
    arguments: &Arguments,
    listed: &[&Value],
    own: &[Own],
    there: &BTreeMap<String, Value>,
) -> anyhow::Result<BTreeMap<String, Wanted>> {
    let priced = prices::list(database, None, SystemClock.now()).await?;
    let mut wanted = BTreeMap::new();
    for covered in &allowance.models {
        let is_it = |there: &&storage::PricedModel| {
            let is_there = covered.provider.as_ref().is_none_or(|provider| *provider == there.provider);
            there.model == covered.model && is_there
        };
        let found: Vec<&storage::PricedModel> = priced.iter().filter(is_it).collect();
        let Some(first) = found.first() else {
            bail!("{covered} has no price any more; `owui-token-tracking pricing add` makes one")
        };
        let providers: Vec<&str> = found.iter().map(|there| there.provider.as_str()).collect();
        let twice = allowance.models.iter().filter(|other| other.model == covered.model).count() > 1;
        let model = if twice { covered.to_string() } else { covered.model.to_string() };
        let id = format!("{}---{}", allowance.handle(), model.replace(char::is_whitespace, "-"));
        let hidden = own.iter().any(|own| own.is_of(covered, &providers));
        let made = there.get(&id).filter(|there| is_of(there, allowance));
        let base = match (base(covered, &providers, arguments, listed), made) {
            _ if hidden && made.is_none() => continue,
            (Err(_), Some(made)) if hidden => made["base_model_id"].as_str().map(str::to_owned),
            (base, _) => Some(base?),
        };
        let name = format!("{} - {}", allowance.name, first.name);
        wanted.insert(id, Wanted { base, name, hidden });
    }
    Ok(wanted)
}

/// The id that Open WebUI has for a covered model: the gateway's own or a provider's, after the prefix of a Function or
/// connection.
fn base(
    covered: &CoveredModel,
    providers: &[&str],
    arguments: &Arguments,
    listed: &[&Value],
) -> anyhow::Result<String> {
    let mut forms = vec![covered.model.to_string()];
    forms.extend(providers.iter().map(|provider| format!("{provider}/{}", covered.model)));
    let fits = |id: &&str| {
        let is_form = |form: &String| {
            *id == form.as_str() || id.strip_suffix(form.as_str()).is_some_and(|prefix| prefix.ends_with('.'))
        };
        let has_prefix = |prefix: &String| match id.split_once('.') {
            Some((before, _)) if !forms.iter().any(|form| form == id) => before == prefix,
            _ => prefix.is_empty(),
        };
        forms.iter().any(is_form) && arguments.base_prefix.as_ref().is_none_or(has_prefix)
    };
    let ids: BTreeSet<&str> = listed.iter().filter_map(|model| model["id"].as_str()).filter(fits).collect();
    let chosen = ids.iter().find(|id| arguments.bases.iter().any(|base| base == *id));
    // A Function's id is usually its provider's name.
    let of_provider = |id: &&&str| {
        let before = id.split_once('.').map(|(before, _)| before.to_lowercase());
        covered.provider.as_ref().is_some_and(|provider| before.as_deref() == Some(provider.as_str()))
    };
    let chosen = chosen.or_else(|| ids.iter().find(of_provider));
    match (chosen, ids.len()) {
        (Some(id), _) => Ok((*id).to_owned()),
        (None, 1) => Ok(ids.into_iter().next().unwrap_or_default().to_owned()),
        (None, 0) => bail!(
            "Open WebUI lists no model {covered}{}; check that the connection or the tracked pipe is there and active",
            arguments.base_prefix.as_ref().map(|prefix| format!(" of `{prefix}`")).unwrap_or_default()
        ),
        _ => bail!(
            "several models of Open WebUI fit {covered}; choose with --base-prefix or --base: {}",
            ids.into_iter().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// A model of an allowance's own, as Open WebUI lists it.
struct Own {
    id: String,
    /// What stands before `sponsored/` in its id: a Function's or a connection's.
    prefix: String,
    /// What stands behind the allowance: the model, or `provider/model`.
    model: String,
    wanted: Wanted,
}

impl Own {
    fn read(allowance: &SponsoredAllowance, listed: &Value) -> Option<Self> {
        let id = listed["id"].as_str()?;
        let (prefix, rest) = match id.strip_prefix("sponsored/") {
            Some(rest) => ("", rest),
            None => id.split_once(".sponsored/")?,
        };
        let (name, model) = rest.split_once('/')?;
        storage::names::is_same(name, &allowance.handle()).then(|| Self {
            id: id.to_owned(),
            prefix: prefix.to_owned(),
            model: model.to_owned(),
            wanted: Wanted {
                base: None,
                name: listed["name"].as_str().unwrap_or(id).to_owned(),
                hidden: false,
            },
        })
    }

    fn is_of(&self, covered: &CoveredModel, providers: &[&str]) -> bool {
        let model = covered.model.as_str();
        let qualified = |provider: &&str| self.model.strip_prefix(*provider) == Some(&format!("/{model}"));
        self.model == model || providers.iter().any(qualified)
    }
}

/// The allowance's models of their own, where Open WebUI lists them. Of several of one name, as where a pipe and a connection
/// offer the same, one is shown.
fn own_models(
    allowance: &SponsoredAllowance,
    arguments: &Arguments,
    listed: &[&Value],
    there: &BTreeMap<String, Value>,
) -> Vec<Own> {
    let mut own: Vec<Own> = listed.iter().filter_map(|model| Own::read(allowance, model)).collect();
    let is_there = |own: &Own| there.get(&own.id).is_some_and(|there| is_of(there, allowance));
    let is_shown = |own: &Own| is_there(own) && there[&own.id]["meta"][HIDDEN] != true;
    own.sort_by_cached_key(|own| {
        let is_chosen = arguments.base_prefix.as_ref() == Some(&own.prefix);
        (!is_chosen, !is_shown(own), own.id.clone())
    });
    let mut names = BTreeSet::new();
    own.retain_mut(|own| {
        own.wanted.hidden = !names.insert((own.wanted.name.to_lowercase(), own.model.to_lowercase()));
        !own.wanted.hidden || is_there(own)
    });
    own
}

/// Who may use the allowance's models in Open WebUI.
async fn grants(database: &Database, allowance: &SponsoredAllowance) -> anyhow::Result<BTreeSet<Grant>> {
    if allowance.public || allowance.members.is_empty() {
        return Ok(BTreeSet::from([("user".into(), "*".into())]));
    }
    let (groups, named): (Vec<_>, Vec<_>) =
        allowance.members.iter().cloned().partition(|member| member.kind == MemberKind::OpenWebUiGroup);
    let people =
        sponsored::people(database, &SponsoredAllowance { members: named, ..allowance.clone() }).await?;
    let users = people.into_iter().map(|user| ("user".to_owned(), user));
    Ok(users.chain(groups.into_iter().map(|group| ("group".to_owned(), group.id))).collect())
}

/// What is done, step by step.
struct Act {
    open_webui: OpenWebUi,
    dry: bool,
    steps: Vec<Step>,
}

impl Act {
    fn step(&mut self, model: &str, what: &'static str, detail: &str) {
        self.steps.push(Step { model: model.to_owned(), what, detail: detail.to_owned() });
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        if !self.dry {
            self.open_webui.post(path, body).await?;
        }
        Ok(())
    }

    async fn create(
        &mut self,
        allowance: &SponsoredAllowance,
        id: &str,
        model: &Wanted,
        grants: &BTreeSet<Grant>,
    ) -> anyhow::Result<()> {
        let what = if model.base.is_some() { "create" } else { "show" };
        self.step(id, what, &model.detail(grants));
        let form = json!({
            "id": id, "base_model_id": model.base, "name": model.name, "meta": {MARK: allowance.id.to_string()},
            "params": {}, "access_grants": shown(grants),
        });
        self.post("api/v1/models/create", &form).await
    }

    /// What an administrator has written since (name, prompt, picture) stays.
    async fn update(
        &mut self,
        id: &str,
        model: &Wanted,
        there: &Value,
        grants: &BTreeSet<Grant>,
    ) -> anyhow::Result<()> {
        let (readers, others): (Vec<&Value>, Vec<&Value>) = there["access_grants"]
            .as_array()
            .into_iter()
            .flatten()
            .partition(|grant| grant["permission"] == "read");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let readers: BTreeSet<Grant> = readers
            .into_iter()
            .map(|grant| (text(&grant["principal_type"]), text(&grant["principal_id"])))
            .collect();
        let was_hidden = there["meta"][HIDDEN] == true;
        let same = there["base_model_id"].as_str() == model.base.as_deref() && readers == *grants;
        if same && was_hidden == model.hidden {
            self.step(id, "keep", "it is as it should be");
            return Ok(());
        }
        let mut meta = there["meta"].clone();
        if was_hidden != model.hidden {
            meta["hidden"] = model.hidden.into();
            meta[HIDDEN] = model.hidden.into();
        }
        match (was_hidden, model.hidden) {
            (false, true) => {
                self.step(id, "hide", "the same model is shown by another id; chats go on with this one")
            }
            (true, false) => self.step(id, "show", &model.detail(grants)),
            _ => self.step(id, "update", &model.detail(grants)),
        }
        let mut all = shown(grants);
        all.extend(others.into_iter().cloned());
        let form = json!({
            "id": id, "base_model_id": model.base, "name": there["name"], "meta": meta,
            "params": there["params"], "is_active": there["is_active"].as_bool().unwrap_or(true), "access_grants": all,
        });
        self.post("api/v1/models/model/update", &form).await
    }

    async fn delete(&mut self, id: &str) -> anyhow::Result<()> {
        self.step(id, "delete", "");
        self.post("api/v1/models/model/delete", &json!({"id": id})).await
    }

    fn report(self, format: Format) -> anyhow::Result<ExitCode> {
        let columns = [text("model", "Model"), text("step", "Step"), text("detail", "Detail")];
        let nothing = self.steps.is_empty();
        let rows =
            self.steps.into_iter().map(|step| vec![step.model.into(), step.what.into(), step.detail.into()]);
        output::rows(format, &columns, rows.collect())?;
        if format == Format::Table {
            output::line(match (self.dry, nothing) {
                (true, _) => "Nothing was done: this was a dry run.",
                (false, true) => "There was nothing to do.",
                (false, false) => "Done.",
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Wanted {
    fn detail(&self, grants: &BTreeSet<Grant>) -> String {
        let count = |kind: &str| grants.iter().filter(|(to, _)| to == kind).count();
        let people = if grants.contains(&("user".into(), "*".into())) {
            "for everybody".to_owned()
        } else {
            format!("for {} user(s) and {} group(s)", count("user"), count("group"))
        };
        match &self.base {
            Some(base) => format!("over {base}, {people}"),
            None => people,
        }
    }
}

fn shown(grants: &BTreeSet<Grant>) -> Vec<Value> {
    let one = |(kind, id): &Grant| json!({"principal_type": kind, "principal_id": id, "permission": "read"});
    grants.iter().map(one).collect()
}
