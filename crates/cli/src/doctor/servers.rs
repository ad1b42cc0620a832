//! The model servers: whether their keys are there, whether they answer, and whether they know the models that have prices.

use std::time::Duration;

use accounting::{ModelId, ProviderName};
use futures_util::future::join_all;
use providers::{Network, Provider, ProviderConfig, ProviderError, ProviderOptions, Secret, TimeLimits};
use tokio::time::timeout;
use url::Url;

use super::{Finding, Known, models, named};

/// For each server.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server as it is asked.
struct Server {
    /// Who uses it: the gateway, or a Function.
    whose: String,
    config: ProviderConfig,
    /// Whether only its environment could still have the key: that of Open WebUI is not the one here.
    in_open_webui: bool,
}

pub(super) async fn check(
    configured: &[ProviderConfig],
    known: Option<&Known>,
    offline: bool,
    findings: &mut Vec<Finding>,
) {
    let gateways = configured.iter().map(|config| Server {
        whose: "the gateway".into(),
        config: config.clone(),
        in_open_webui: false,
    });
    let mut servers: Vec<Server> = gateways.collect();
    for pipe in known.iter().flat_map(|known| models::tracked(&known.pipes)) {
        match server(&pipe) {
            Some(Ok(server)) => servers.push(server),
            Some(Err(finding)) => findings.push(finding),
            None => {}
        }
    }
    findings.extend(servers.iter().filter_map(key));
    if offline {
        findings.extend((!servers.is_empty()).then(|| Finding::ok("model servers", "not asked")));
        return;
    }
    servers.retain(|server| server.config.api_key.is_some() || !server.config.kind.entry().needs_key);
    // The gateway and a Function may ask the same server with the same key: once is enough.
    let of = |config: &ProviderConfig| (config.name.clone(), config.base_url.clone(), config.api_key.clone());
    let mut asked = Vec::new();
    servers.retain(|server| {
        let new = !asked.contains(&of(&server.config));
        asked.push(of(&server.config));
        new
    });
    for found in join_all(servers.iter().map(|server| ask(server, known))).await {
        findings.extend(found);
    }
}

/// The server of a pipe, as its valves say, with this environment's key where they have none.
fn server(pipe: &models::Tracked<'_>) -> Option<Result<Server, Finding>> {
    let (kind, key, address) = pipe.server.as_ref()?;
    let entry = kind.entry();
    let from_environment = || std::env::var(entry.key_variable).ok().filter(|key| !key.is_empty());
    let name = ProviderName::new(&pipe.provider).ok()?;
    let whose = format!("function {}", pipe.id);
    let Ok(base_url) = Url::parse(address.as_deref().unwrap_or(entry.base_url)) else {
        let advice = "correct the valve with its address, in Open WebUI";
        return Some(Err(Finding::problem(whose, "its address can't be read", advice)));
    };
    let config = ProviderConfig {
        name,
        kind: *kind,
        base_url,
        api_key: key.clone().or_else(from_environment).map(Secret::new),
        limits: TimeLimits::default(),
        options: ProviderOptions::default(),
        network: Network::from_environment(|name| std::env::var(name).ok()).0,
    };
    Some(Ok(Server { whose, config, in_open_webui: true }))
}

fn key(server: &Server) -> Option<Finding> {
    let entry = server.config.kind.entry();
    let check = format!("key of {}", server.config.name);
    match (&server.config.api_key, entry.needs_key) {
        (Some(_), _) => Some(Finding::ok(check, format!("{} has one", server.whose))),
        (None, false) => None,
        (None, true) if server.in_open_webui => Some(Finding::warning(
            check,
            format!("none in the valves of {}, nor in this environment", server.whose),
            format!("set the valve, or {} where Open WebUI runs", entry.key_variable),
        )),
        (None, true) => Some(Finding::problem(
            check,
            format!("{} has none", server.whose),
            // The environment alone makes no provider without a key, so this one is in the file.
            no_key(&server.config).unwrap_or_default(),
        )),
    }
}

/// What to do about a configured provider without a key, if its server needs one.
pub(crate) fn no_key(config: &ProviderConfig) -> Option<String> {
    let entry = config.kind.entry();
    (config.api_key.is_none() && entry.needs_key).then(|| {
        let variable = entry.key_variable;
        format!("write `api_key = \"env:{variable}\"` into its [[provider]], and set {variable}")
    })
}

async fn ask(server: &Server, known: Option<&Known>) -> Vec<Finding> {
    let name = &server.config.name;
    let (check, host) = (format!("server of {name}"), host(&server.config.base_url));
    let limits = TimeLimits { connect: PATIENCE, first_byte: PATIENCE, idle: PATIENCE };
    let provider = match Provider::new(ProviderConfig { limits, ..server.config.clone() }) {
        Ok(provider) => provider,
        Err(error) => {
            return vec![Finding::problem(check, error.what, "correct its configuration")];
        }
    };
    // In the way, it is the first to look at where nothing answers.
    let host = match provider.proxy() {
        Some(proxy) => format!("{host}, through the proxy {proxy},"),
        None => host,
    };
    let answer = timeout(PATIENCE, provider.models()).await;
    match answer.unwrap_or(Err(ProviderError::TimedOut { before_output: true })) {
        Ok(offered) => {
            let mut findings =
                vec![Finding::ok(check, format!("{host} answers, with {} model(s)", offered.len()))];
            if let Some(known) = known {
                findings.extend(misnamed(name, &offered, known));
                findings.extend(unpriced(server, &offered, known));
            }
            findings
        }
        Err(error) => vec![fault(check, &host, provider.proxy().is_some(), &error)],
    }
}

fn fault(check: String, host: &str, is_proxied: bool, error: &ProviderError) -> Finding {
    let advice = match error {
        ProviderError::NotConnected | ProviderError::TimedOut { .. } if is_proxied => {
            "check the proxy, its user and password, and that it lets this server through; NO_PROXY names servers that \
             are reached without it"
        }
        ProviderError::OurKey { .. } => "put a key that works in its place, or pay what is owed there",
        ProviderError::NotConnected | ProviderError::TimedOut { .. } => {
            "check its address, and that this host may reach it"
        }
        ProviderError::RateLimited { .. }
        | ProviderError::Overloaded { .. }
        | ProviderError::Failed { .. } => {
            return Finding::warning(check, format!("{host}: {error}"), "try again later");
        }
        _ => "check its address: it must be the one below which the routes are, often with /v1",
    };
    Finding::problem(check, format!("{host}: {error}"), advice)
}

/// Prices of models that the server does not have: users would be offered what fails.
fn misnamed(name: &ProviderName, offered: &[ModelId], known: &Known) -> Option<Finding> {
    let priced = known.snapshot.models().filter(|model| model.provider == *name);
    let mut missing: Vec<String> =
        priced.filter(|model| !offered.contains(&model.model)).map(|model| model.model.to_string()).collect();
    missing.sort();
    (!missing.is_empty() && !offered.is_empty()).then(|| {
        Finding::warning(
            format!("models of {name}"),
            format!("have a price and are not among those that it lists: {}", named(&missing)),
            "compare their ids; `owui-token-tracking pricing delete` takes away what is gone",
        )
    })
}

/// Models of a server of the gateway that Open WebUI uses, and that have no price: requests for them are refused.
fn unpriced(server: &Server, offered: &[ModelId], known: &Known) -> Option<Finding> {
    if server.in_open_webui {
        return None;
    }
    let has_price = |id: &str| known.snapshot.models().any(|model| model.model.as_str() == id);
    let missing: Vec<String> = known
        .models_in_use
        .iter()
        .filter(|id| offered.iter().any(|model| model.as_str() == id.as_str()) && !has_price(id))
        .cloned()
        .collect();
    (!missing.is_empty()).then(|| {
        let name = &server.config.name;
        Finding::problem(
            format!("models of {name}"),
            format!("in use in Open WebUI, without a price: {}", named(&missing)),
            format!(
                "`owui-token-tracking pricing add --provider {name} …`, or switch them off in Open WebUI"
            ),
        )
    })
}

/// Where a server is, without what its address may hold beside that.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
