//! `serve`: the gateway.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use accounting::ProviderName;
use anyhow::{Context, bail};
use gateway::{Config, Gateway};
use metering::{Meter, MeterOptions};
use metrics_exporter_prometheus::PrometheusBuilder;
use providers::Provider;
use storage::nearest::nearest;
use storage::{Database, DatabaseUrl, Snapshot, SystemClock, Unpriced, migrate};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::doctor::servers::no_key;
use crate::{connect, escape, init, memory, output, signals};

const DEFAULT_FILE: &str = "owui-token-tracking.toml";
const OWN_DATABASE: &str = "owui-token-tracking.db";

/// Run the gateway: an OpenAI-compatible server that tracks and limits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  OPENAI_API_KEY=sk-… OWUI_TRACKING_KEY=… owui-token-tracking serve\n\n\
    Then, in Open WebUI: Settings, Connections, add http://127.0.0.1:8787/v1 with that key, and start Open WebUI with \
    ENABLE_FORWARD_USER_INFO_HEADERS=true.")]
pub(crate) struct Arguments {
    /// The configuration file; by default owui-token-tracking.toml, if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// If no database is named, keep users, prices and credits in a new file of our own, owui-token-tracking.db in the current
    /// folder. Where that file is already, it is used without this.
    #[arg(long)]
    create: bool,
    /// Check the configuration, and end.
    #[arg(long)]
    check: bool,
    /// The form of the log.
    #[arg(long, value_enum, default_value_t, env = "OWUI_TRACKING_LOG_FORMAT")]
    log_format: LogFormat,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// A JSON object on each line.
    Json,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = read(arguments.config.as_deref())?;
    let providers = config.open_providers()?;
    if providers.is_empty() {
        bail!(
            "no model server is configured: write a [[provider]] into {DEFAULT_FILE}, or set OPENAI_API_KEY (and \
             OPENAI_API_BASE_URL for a server other than OpenAI's)"
        );
    }
    if arguments.check {
        let named = |provider: &Provider| match provider.proxy() {
            Some(proxy) => format!("{} (through the proxy {proxy})", provider.name()),
            None => provider.name().to_string(),
        };
        let names: Vec<String> = providers.iter().map(named).collect();
        output::line(format!(
            "The configuration is good: listens on {}, providers: {}.",
            config.gateway.listen,
            names.join(", ")
        ))?;
        for warning in &config.warnings {
            output::line(format!("Warning: {warning}."))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    log_to_stderr(arguments.log_format);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let database = open_database(config.database.as_ref(), arguments.create).await?;
    for config in &config.providers {
        if let Some(what) = no_key(config) {
            tracing::warn!(provider = %config.name, "this provider has no key, and its server will refuse every request: {what}");
        }
    }
    let snapshot = Snapshot::of(&database, &SystemClock).await?;
    for provider in &providers {
        if let Some(what) = nothing_offered(provider.name(), &snapshot) {
            tracing::warn!(provider = %provider.name(), "no model of this provider has a price, and so none is offered: {what}");
        }
    }
    let metrics = PrometheusBuilder::new().install_recorder().context("starting the metrics")?;
    let clock = Arc::new(SystemClock);
    let options = MeterOptions {
        providers,
        clock: clock.clone(),
        instance: config.gateway.instance.clone(),
        settle_wait: config.gateway.settle_wait,
        head_wait: config.gateway.head_wait,
    };
    // First: where another process listens, this one has not served.
    let listener = listen(config.gateway.listen).await?;
    let meter = Meter::open(&database, options).await?;
    let metrics_listener = match config.gateway.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let shutdown = CancellationToken::new();
    // Whoever reads that it listens may ask it to end.
    let mut terminated = signals::Terminated::watch()?;
    output::line(format!("listening on http://{}", listener.local_addr()?))?;
    if let Some(listener) = &metrics_listener {
        output::line(format!("metrics on http://{}/metrics", listener.local_addr()?))?;
    }
    let gateway = Gateway::new(config.gateway, meter, &database, clock, Some(metrics));
    let asked_to_end = shutdown.clone();
    let serving = gateway::serve(listener.into(), metrics_listener.map(Into::into), gateway, shutdown);
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => bail!("the server ended by itself"),
        () = memory::give_back() => {}
        () = terminated.asked() => {}
        asked = tokio::signal::ctrl_c() => asked?,
    }
    tracing::info!("ending: running requests may finish");
    asked_to_end.cancel();
    tokio::select! {
        () = &mut serving => {}
        _ = tokio::signal::ctrl_c() => tracing::warn!("interrupted again: another process will settle what was running"),
    }
    database.close().await;
    Ok(ExitCode::SUCCESS)
}

/// What to do about a provider under whose name there are no prices, where a price is needed.
pub(crate) fn nothing_offered(provider: &ProviderName, snapshot: &Snapshot) -> Option<String> {
    let is_refused = snapshot.settings().unpriced_models == Unpriced::Refuse;
    if !is_refused || snapshot.models().any(|model| model.provider == *provider) {
        return None;
    }
    let known = snapshot.models().map(|model| model.provider.as_str());
    let meant = nearest(provider.as_str(), known).map(|name| {
        format!(
            "if `{name}` is meant, as the prices call it, give it that name in the configuration; or else "
        )
    });
    Some(format!(
        "{}run `owui-token-tracking pricing add --provider {provider} …`",
        meant.unwrap_or_default()
    ))
}

/// The configuration, from that file or the usual one, and the environment.
pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<Config> {
    let path = file.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_path_buf);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => String::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut config = Config::read(&text, |name| std::env::var(name).ok())
        .with_context(|| format!("in {} or the environment", path.display()))?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let named = |name: &String| text.contains(&format!("env:{name}"));
    config.warnings.extend(names.filter(|name| !named(name)).filter_map(|name| unknown_variable(&name)));
    Ok(config)
}

/// The variables that begin like ours.
const VARIABLES: [&str; 9] = [
    "OWUI_TRACKING_CONNECTIONS",
    "OWUI_TRACKING_EXECUTABLE",
    "OWUI_TRACKING_INSTANCE",
    "OWUI_TRACKING_JWT_SECRET",
    "OWUI_TRACKING_KEY",
    "OWUI_TRACKING_LISTEN",
    "OWUI_TRACKING_LOG_FORMAT",
    "OWUI_TRACKING_POOLING",
    "OWUI_TRACKING_URL",
];

/// What to say of a variable that looks like one of ours and is none: a mistyped secret would leave a door open unnoticed.
fn unknown_variable(name: &str) -> Option<String> {
    if !name.starts_with("OWUI_TRACKING_") || VARIABLES.contains(&name) {
        return None;
    }
    let meant = nearest(name, VARIABLES).map(|name| format!("; did you mean {name}?"));
    Some(format!("nothing reads the variable {name}{}", meant.unwrap_or_default()))
}

/// The database that is configured, which must have been initialised; or one of our own, which is. A new one is made only where
/// that is asked for: in a shell without the variables everybody would have spent nothing.
async fn open_database(configured: Option<&DatabaseUrl>, create: bool) -> anyhow::Result<Database> {
    if let Some(url) = configured {
        let database = connect::connect(url).await.with_context(|| format!("opening {url}"))?;
        migrate::require_usable(&database).await?;
        return Ok(database);
    }
    let path = std::env::current_dir()?.join(OWN_DATABASE);
    if !create && !path.exists() {
        bail!(
            "no database is named: set DATABASE_URL to Open WebUI's (or `url` of [database] in {DEFAULT_FILE}), or pass \
             --create to begin with one of our own, {}",
            path.display()
        );
    }
    let url = DatabaseUrl::sqlite_file(&path);
    let database = connect::create(&url).await.with_context(|| format!("creating {}", path.display()))?;
    init::initialise(&database, &init::Begin::built_in()?).await?;
    output::line(format!("database {}", path.display()))?;
    Ok(database)
}

async fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}: is it in use already?"))
}

pub(crate) fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A log that can't be written harms nothing else: a worker whose parent was killed writes into a broken pipe, and to
    // complain about that on the same pipe would panic in the middle of the last settlements.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second subscriber (in tests) is no reason to fail.
    let _ = match format {
        LogFormat::Human => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(ansi).fmt_fields(escape::log_fields()).try_init()
        }
        LogFormat::Json => builder.json().with_writer(|| escape::JsonLines(std::io::stderr())).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_mistyped_variable_is_noticed_and_none_that_is_read() {
        let said = unknown_variable("OWUI_TRACKING_JWT_SECERT").unwrap();
        assert!(said.contains("did you mean OWUI_TRACKING_JWT_SECRET?"), "{said}");
        assert_eq!(unknown_variable("PATH"), None);
        let asked = RefCell::new(Vec::new());
        let get = |name: &str| {
            asked.borrow_mut().push(name.to_owned());
            None
        };
        Config::read("", get).unwrap();
        let asked = asked.into_inner();
        assert!(asked.iter().any(|name| name == "OWUI_TRACKING_KEY"), "{asked:?}");
        assert!(asked.iter().all(|name| unknown_variable(name).is_none()), "{asked:?}");
    }
}
