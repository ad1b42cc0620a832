//! Open WebUI beside us: its tables, and those of its settings on which tracking depends.

use gateway::Config;
use providers::Kind;
use storage::Database;
use storage::reports::health;
use url::Url;

use super::{Finding, Known, models, named};

/// The version that this program is tested with, and the migration of its tables.
const TESTED: (&str, &str) = ("0.12.4", "0bd252b206fb");
const FORWARD: &str = "ENABLE_FORWARD_USER_INFO_HEADERS";
const SECRET: &str = "FORWARD_USER_INFO_HEADER_JWT_SECRET";

pub(super) async fn check(
    config: Option<&Config>,
    database: Option<&Database>,
    known: Option<&Known>,
    findings: &mut Vec<Finding>,
) {
    if let Some(database) = database {
        findings.push(version(database).await.unwrap_or_else(|error| Finding::failed("Open WebUI", &error)));
        match untracked_connections(database).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::failed("connections", &error)),
        }
    }
    if let Some(known) = known {
        let others: Vec<String> =
            known.pipes.iter().filter(|pipe| !models::is_tracked(pipe)).map(|pipe| pipe.id.clone()).collect();
        findings.extend((!others.is_empty()).then(|| {
            Finding::warning(
                "other pipes",
                format!("what these send is not tracked: {}", named(&others)),
                "switch them off, or make tracked pipes of them, if their models cost something",
            )
        }));
    }
    // Without a server of its own, no gateway is run with this configuration.
    if let Some(config) = config.filter(|config| !config.providers.is_empty()) {
        findings.extend(headers(config, |name| std::env::var(name).ok()));
    }
}

async fn version(database: &Database) -> Result<Finding, storage::Error> {
    let check = "Open WebUI";
    if !database.has_table("user").await? {
        return Ok(Finding::ok(check, "not in this database: users are those that the gateway sees"));
    }
    let (tested, migration) = TESTED;
    Ok(match health::open_webui_migration(database).await? {
        Some(found) if found == migration => Finding::ok(check, format!("its tables are those of {tested}")),
        Some(found) => Finding::ok(
            check,
            format!("its tables have migration {found}; this program is tested with {tested}"),
        ),
        None => Finding::ok(check, "its table of users, without a version"),
    })
}

/// Connections that lead straight to a vendor, past us.
async fn untracked_connections(database: &Database) -> Result<Option<Finding>, storage::Error> {
    let list = |text: Option<String>| -> Vec<String> {
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    };
    let enabled = health::open_webui_setting(database, "openai.enable").await?;
    if enabled.as_deref() != Some("true") {
        return Ok(None);
    }
    let urls = list(health::open_webui_setting(database, "openai.api_base_urls").await?);
    let keys = list(health::open_webui_setting(database, "openai.api_keys").await?);
    let vendors: Vec<String> = Kind::all().filter_map(|kind| host(kind.entry().base_url)).collect();
    let with_keys = urls.iter().zip(&keys).filter(|(_, key)| !key.is_empty());
    let direct: Vec<String> =
        with_keys.filter_map(|(url, _)| host(url)).filter(|host| vendors.contains(host)).collect();
    Ok((!direct.is_empty()).then(|| {
        Finding::warning(
            "connections",
            format!("Open WebUI also asks these by itself, and that is not tracked: {}", named(&direct)),
            "remove them under Settings, Connections, if users are to be limited",
        )
    }))
}

fn host(url: &str) -> Option<String> {
    let host = Url::parse(url).ok()?.host_str()?.to_owned();
    (host != "localhost" && !host.starts_with("127.")).then_some(host)
}

/// The headers by which the gateway knows users, as far as this environment is Open WebUI's too.
fn headers(config: &Config, get: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    let forwarded = match get(FORWARD) {
        Some(value) if value.eq_ignore_ascii_case("true") => Finding::ok("user headers", "forwarded"),
        Some(value) => Finding::problem(
            "user headers",
            format!("{FORWARD} is {value}, so that requests name nobody"),
            format!("start Open WebUI with {FORWARD}=true"),
        ),
        None => Finding {
            advice: format!("start Open WebUI with {FORWARD}=true, if it uses the gateway"),
            ..Finding::ok("user headers", "not to be seen from here")
        },
    };
    let ours = &config.gateway.jwt_secrets;
    let signed = match get(SECRET) {
        Some(_) if ours.is_empty() => Some(Finding::problem(
            "signed users",
            format!("Open WebUI signs its user header ({SECRET}), and the gateway has no secret"),
            "set gateway.jwt_secret, or OWUI_TRACKING_JWT_SECRET, to the same",
        )),
        Some(theirs) if ours.iter().any(|secret| secret.expose() == theirs.trim()) => {
            Some(Finding::ok("signed users", "Open WebUI and the gateway have the same secret"))
        }
        Some(_) => Some(Finding::problem(
            "signed users",
            "Open WebUI and the gateway have different secrets, so that all requests are refused",
            format!("set {SECRET} and OWUI_TRACKING_JWT_SECRET to the same"),
        )),
        None if ours.is_empty() => Some(Finding::ok("signed users", "user headers are not signed")),
        None => None,
    };
    [Some(forwarded), signed].into_iter().flatten().collect()
}
