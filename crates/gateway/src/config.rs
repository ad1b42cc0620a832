//! The configuration: a TOML file, then the environment. Unknown keys are errors; a text `env:NAME` is read from the
//! environment.

mod network;
mod secrets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use accounting::{Label, ProviderName, UserId};
use providers::{Kind, Network, Provider, ProviderConfig, ProviderOptions, Secret, TimeLimits};
use serde::Deserialize;
use storage::DatabaseUrl;
use storage::nearest::nearest;
use url::Url;

use crate::hosts::AllowedHost;
use crate::pages::AllowedOrigin;
use secrets::Texts;

/// Why the configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigProblem(pub String);

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gateway itself.
    pub gateway: GatewayConfig,
    /// The database; `None` for one of our own.
    pub database: Option<DatabaseUrl>,
    /// The model servers.
    pub providers: Vec<ProviderConfig>,
    /// What can be used and should be changed.
    pub warnings: Vec<String>,
}

/// How the gateway listens, whom it believes and how much it takes.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The forwarding key.
    pub key: Option<Secret>,
    /// The hosts beside this machine that requests may name while there is no key.
    pub allowed_hosts: Vec<AllowedHost>,
    /// The pages whose scripts may ask with a key that is bound to a user.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Whether it serves one process of Open WebUI's alone, whose requests bring their model servers along.
    pub private: bool,
    /// The secrets with which Open WebUI may sign its user header.
    pub jwt_secrets: Vec<Secret>,
    /// Who is charged for requests that name nobody.
    pub anonymous_user: Option<UserId>,
    /// Whom users may ask for more credits.
    pub contact: Option<String>,
    /// Which of several Open WebUIs on one database this is.
    pub instance: Option<Label>,
    /// The names of the headers that it reads.
    pub headers: HeaderNames,
    /// The largest body, in bytes.
    pub body_limit: usize,
    /// The most bytes of bodies and what becomes of them at a time, over all requests.
    pub bytes_in_flight: usize,
    /// The same, over all requests of one user.
    pub bytes_per_user: usize,
    /// The most requests of one user at a time.
    pub requests_per_user: usize,
    /// The most connections at a time; `None`: as many as the process may have files for.
    pub connections: Option<usize>,
    /// The most connections from one address at a time; `None`: half of all.
    pub connections_per_address: Option<usize>,
    /// How long a client may take nothing of what it is sent.
    pub client_idle: Duration,
    /// How long running requests may take to end at shutdown.
    pub drain: Duration,
    /// How long the end of an answer is withheld while its charge can't be committed.
    pub settle_wait: Duration,
    /// How long the head of a streamed answer waits for its first event.
    pub head_wait: Duration,
    /// After so long a silence of a model, a streamed answer gets a comment; zero for never.
    pub keep_alive: Duration,
    /// A key for `/metrics` alone.
    pub metrics_key: Option<Secret>,
    /// Where `/metrics` is served without a key.
    pub metrics_listen: Option<SocketAddr>,
    /// The way to model servers that requests bring along.
    pub network: Network,
}

impl GatewayConfig {
    /// That of a private gateway behind that key, which whoever starts it gives it; it listens where they say.
    pub fn private(key: Secret, get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let (network, unusable) = Network::from_environment(get);
        for unusable in unusable {
            tracing::warn!("{unusable}");
        }
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            key: Some(key),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            private: true,
            jwt_secrets: Vec::new(),
            anonymous_user: None,
            contact: get("TOKEN_CREDIT_CONTACT_EMAIL"),
            instance: get("OWUI_TRACKING_INSTANCE").as_deref().and_then(Label::some),
            headers: HeaderNames::default(),
            body_limit: BODY_LIMIT,
            bytes_in_flight: BYTES_IN_FLIGHT,
            bytes_per_user: BYTES_IN_FLIGHT / USER_PART,
            requests_per_user: REQUESTS_PER_USER,
            connections: None,
            connections_per_address: None,
            client_idle: Duration::from_secs(CLIENT_IDLE),
            drain: Duration::from_secs(DRAIN),
            settle_wait: Duration::from_secs(SETTLE_WAIT),
            head_wait: Duration::from_secs(HEAD_WAIT),
            // What a pipe yields is no event stream: it waits as long as its provider may take.
            keep_alive: Duration::ZERO,
            metrics_key: None,
            metrics_listen: None,
            network,
        }
    }
}

/// The names of headers, as they can be set in Open WebUI.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderNames {
    /// The signed user header.
    pub user_jwt: String,
    /// The plain user id.
    pub user_id: String,
    /// The plain user name, percent-encoded.
    pub user_name: String,
    /// The plain e-mail address.
    pub user_email: String,
    /// The plain role.
    pub user_role: String,
    /// The chat.
    pub chat_id: String,
    /// The workspace model.
    pub model: String,
    /// The task.
    pub task: String,
    /// The message.
    pub message: String,
}

impl Default for HeaderNames {
    fn default() -> Self {
        Self {
            user_jwt: "X-OpenWebUI-User-Jwt".into(),
            user_id: "X-OpenWebUI-User-Id".into(),
            user_name: "X-OpenWebUI-User-Name".into(),
            user_email: "X-OpenWebUI-User-Email".into(),
            user_role: "X-OpenWebUI-User-Role".into(),
            chat_id: "X-OpenWebUI-Chat-Id".into(),
            model: "X-Tracking-Model".into(),
            task: "X-Tracking-Task".into(),
            message: "X-Tracking-Message".into(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    gateway: GatewayTable,
    database: DatabaseTable,
    network: network::NetworkTable,
    provider: Vec<ProviderTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GatewayTable {
    listen: Option<String>,
    key: Option<String>,
    allowed_hosts: Vec<String>,
    allowed_origins: Vec<String>,
    jwt_secret: Option<String>,
    jwt_secret_next: Option<String>,
    anonymous_user: Option<String>,
    contact_email: Option<String>,
    instance: Option<Label>,
    headers: HeaderNames,
    body_limit: Option<usize>,
    bytes_in_flight: Option<usize>,
    bytes_per_user: Option<usize>,
    requests_per_user: Option<usize>,
    connections: Option<usize>,
    connections_per_address: Option<usize>,
    client_idle: Option<u64>,
    drain: Option<u64>,
    settle_wait: Option<u64>,
    head_wait: Option<u64>,
    keep_alive: Option<u64>,
    metrics_key: Option<String>,
    metrics_listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DatabaseTable {
    url: Option<String>,
    schema: Option<String>,
    connections: Option<u32>,
    pooling: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderTable {
    name: String,
    kind: String,
    base_url: Option<String>,
    api_key: Option<String>,
    connect: Option<u64>,
    first_byte: Option<u64>,
    idle: Option<u64>,
    api_version: Option<String>,
    #[serde(default)]
    permissive_safety: bool,
    stream_options: Option<bool>,
    cache_in_input: Option<bool>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    proxy: Option<String>,
    ca_file: Option<PathBuf>,
}

/// Bytes.
const MIB: usize = 1024 * 1024;
const BODY_LIMIT: usize = 64 * MIB;
const BYTES_IN_FLIGHT: usize = 512 * MIB;
/// A user's share is this part of all.
const USER_PART: usize = 4;
const REQUESTS_PER_USER: usize = 32;
/// Seconds.
const CLIENT_IDLE: u64 = 60;
const DRAIN: u64 = 30;
const SETTLE_WAIT: u64 = 5;
const HEAD_WAIT: u64 = 15;
const KEEP_ALIVE: u64 = 15;
/// Seconds; no time limit is longer than a day.
const LONGEST: u64 = 86_400;

impl Config {
    /// Reads the text of a configuration file (empty for none) and the environment.
    ///
    /// # Errors
    /// Says what is wrong and what to write instead.
    pub fn read(file: &str, get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigProblem> {
        let file: File = toml::from_str(file).map_err(|error| unreadable(file, &error))?;
        let texts = Texts(get);
        let get = |name: &str| texts.variable(name);
        let table = file.gateway;
        let listen = get("OWUI_TRACKING_LISTEN").or(table.listen).unwrap_or_else(|| "127.0.0.1:8787".into());
        let listen = address("gateway.listen", &listen)?;
        let key = texts.secret_or("gateway.key", table.key, "OWUI_TRACKING_KEY")?;
        let key = secrets::sendable("gateway.key", key)?;
        if key.is_none() && !listen.ip().is_loopback() {
            return Err(ConfigProblem(format!(
                "the gateway would listen on {listen} without a key, open to everyone: set gateway.key or \
                 OWUI_TRACKING_KEY, or listen on 127.0.0.1"
            )));
        }
        let mut jwt_secrets = Vec::new();
        jwt_secrets.extend(texts.secret_or(
            "gateway.jwt_secret",
            table.jwt_secret,
            "OWUI_TRACKING_JWT_SECRET",
        )?);
        jwt_secrets.extend(texts.secret("gateway.jwt_secret_next", table.jwt_secret_next)?);
        let mut warnings = secrets::check_lengths(listen, key.as_ref(), &jwt_secrets)?;
        if key.is_none() && !table.allowed_origins.is_empty() {
            let useless =
                "gateway.allowed_origins does nothing without a key: set gateway.key or OWUI_TRACKING_KEY";
            warnings.push(useless.into());
        }
        if key.is_none() {
            let open = format!(
                "no key is set, so whoever reaches {listen} can act as any user: set gateway.key or OWUI_TRACKING_KEY"
            );
            warnings.push(open);
        }
        let (network, unusable) = network::read(&texts, file.network)?;
        warnings.extend(unusable);
        let metrics_key = texts.secret("gateway.metrics_key", table.metrics_key)?;
        let user = |text: String| {
            UserId::new(text).map_err(|error| ConfigProblem(format!("gateway.anonymous_user: {error}")))
        };
        let bytes_in_flight = table.bytes_in_flight.unwrap_or(BYTES_IN_FLIGHT);
        let gateway = GatewayConfig {
            listen,
            key,
            allowed_hosts: table
                .allowed_hosts
                .iter()
                .map(|text| AllowedHost::new(text))
                .collect::<Result<_, _>>()?,
            allowed_origins: table
                .allowed_origins
                .iter()
                .map(|text| AllowedOrigin::new(text))
                .collect::<Result<_, _>>()?,
            private: false,
            jwt_secrets,
            anonymous_user: table.anonymous_user.map(user).transpose()?,
            contact: get("TOKEN_CREDIT_CONTACT_EMAIL").or(table.contact_email),
            instance: table.instance.filter(|name| !name.is_empty()),
            headers: table.headers,
            body_limit: table.body_limit.unwrap_or(BODY_LIMIT),
            bytes_in_flight,
            bytes_per_user: table.bytes_per_user.unwrap_or(bytes_in_flight / USER_PART),
            requests_per_user: table.requests_per_user.unwrap_or(REQUESTS_PER_USER).max(1),
            connections: table.connections,
            connections_per_address: table.connections_per_address,
            client_idle: seconds("gateway.client_idle", table.client_idle, CLIENT_IDLE)?,
            drain: seconds("gateway.drain", table.drain, DRAIN)?,
            settle_wait: seconds("gateway.settle_wait", table.settle_wait, SETTLE_WAIT)?,
            head_wait: seconds("gateway.head_wait", table.head_wait, HEAD_WAIT)?,
            keep_alive: seconds("gateway.keep_alive", table.keep_alive, KEEP_ALIVE)?,
            metrics_key: secrets::sendable("gateway.metrics_key", metrics_key)?,
            metrics_listen: table
                .metrics_listen
                .map(|text| address("gateway.metrics_listen", &text))
                .transpose()?,
            network: network.clone(),
        };
        let database = database(&texts, file.database)?;
        let mut providers = Vec::new();
        for mut table in file.provider {
            let (proxy, ca_file) = (table.proxy.take(), table.ca_file.take());
            let network = network::of_provider(&texts, &network, &table.name, proxy, ca_file)?;
            let what = format!("the api_key of provider {}", table.name);
            let api_key = secrets::sendable(&what, texts.secret(&what, table.api_key.clone())?)?;
            let headers = headers(&texts, &table.name, std::mem::take(&mut table.headers))?;
            providers.push(provider(table, api_key, headers, network)?);
        }
        if providers.is_empty() {
            for kind in Kind::all() {
                providers.extend(from_environment(kind, &get, &network)?);
            }
        }
        let mut names: Vec<&ProviderName> = providers.iter().map(|provider| &provider.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigProblem(format!(
                "two providers have the name {}; names are compared without case",
                twice[0]
            )));
        }
        Ok(Self { gateway, database, providers, warnings })
    }

    /// The model servers, ready for use.
    ///
    /// # Errors
    /// Says what in the configuration of one of them can't be used.
    pub fn open_providers(&self) -> Result<Vec<Provider>, ConfigProblem> {
        let open = |config: &ProviderConfig| {
            Provider::new(config.clone()).map_err(|error| ConfigProblem(error.to_string()))
        };
        self.providers.iter().map(open).collect()
    }
}

/// Why a file can't be read. It names the line and does not quote it, because there may be a secret in it.
fn unreadable(file: &str, error: &toml::de::Error) -> ConfigProblem {
    let message = error.message();
    let before = error.span().and_then(|span| file.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let is_key = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    let key = file.lines().nth(line - 1).and_then(|text| text.split_once('=')).map(|(key, _)| key.trim());
    let key = key.filter(is_key).map(|key| format!(" ({key})")).unwrap_or_default();
    // Serde's own words for an unknown key: "unknown field `x`, expected one of `a`, `b`".
    let mut quoted = message.split('`').skip(1).step_by(2);
    let meant = quoted
        .next()
        .filter(|_| message.starts_with("unknown field"))
        .and_then(|given| nearest(given, quoted))
        .map(|name| format!("; did you mean `{name}`?"));
    ConfigProblem(format!("line {line}{key}: {message}{}", meant.unwrap_or_default()))
}

/// The database that is named; what the file says of it goes before the environment.
fn database<F: Fn(&str) -> Option<String>>(
    texts: &Texts<F>,
    table: DatabaseTable,
) -> Result<Option<DatabaseUrl>, ConfigProblem> {
    let wrong = |error: storage::Error| ConfigProblem(error.to_string());
    let variable = |name: &str| texts.variable(name);
    let url = match texts.resolve("database.url", table.url)? {
        Some(url) => {
            Some(DatabaseUrl::parse(&url).and_then(|url| url.with_environment(variable)).map_err(wrong)?)
        }
        None => DatabaseUrl::from_environment(variable).map_err(wrong)?,
    };
    let Some(mut url) = url else { return Ok(None) };
    if table.schema.is_some() {
        url = url.with_schema(table.schema);
    }
    if let Some(connections) = table.connections {
        url = url.with_connections(connections).map_err(wrong)?;
    }
    if let Some(word) = table.pooling {
        url = url.with_pooling(&word).map_err(wrong)?;
    }
    Ok(Some(url))
}

fn provider(
    table: ProviderTable,
    api_key: Option<Secret>,
    headers: Vec<(String, Secret)>,
    network: Network,
) -> Result<ProviderConfig, ConfigProblem> {
    let wrong = |what: String| ConfigProblem(format!("provider {}: {what}", table.name));
    let kind: Kind = table.kind.parse().map_err(|error: String| {
        let meant = nearest(&table.kind, Kind::all().map(|kind| kind.entry().name));
        wrong(meant.map_or(error.clone(), |name| format!("{error}; did you mean `{name}`?")))
    })?;
    let base_url = table.base_url.unwrap_or_else(|| kind.entry().base_url.into());
    if base_url.is_empty() {
        return Err(wrong("write its base_url: servers of this kind have no common address".into()));
    }
    let defaults = TimeLimits::default();
    Ok(ProviderConfig {
        name: ProviderName::new(&table.name).map_err(|error| wrong(error.to_string()))?,
        kind,
        base_url: Url::parse(&base_url)
            .map_err(|error| wrong(format!("its base_url can't be read: {error}")))?,
        api_key,
        limits: TimeLimits {
            connect: seconds("connect", table.connect, defaults.connect.as_secs())?,
            first_byte: seconds("first_byte", table.first_byte, defaults.first_byte.as_secs())?,
            idle: seconds("idle", table.idle, defaults.idle.as_secs())?,
        },
        options: ProviderOptions {
            api_version: table.api_version,
            permissive_safety: table.permissive_safety,
            stream_options: table.stream_options,
            cache_in_input: table.cache_in_input,
            headers,
        },
        network,
    })
}

/// The headers that go with each request to a provider. Their values may be secrets, and are kept as such.
fn headers<F: Fn(&str) -> Option<String>>(
    texts: &Texts<F>,
    provider: &str,
    table: BTreeMap<String, String>,
) -> Result<Vec<(String, Secret)>, ConfigProblem> {
    let mut headers = Vec::new();
    for (name, value) in table {
        let what = format!("the header {} of provider {provider}", name.escape_default());
        let value = secrets::sendable(&what, texts.secret(&what, Some(value))?)?;
        headers.extend(value.map(|value| (name, value)));
    }
    Ok(headers)
}

/// A provider of that kind, if the environment has its key (or, for servers without keys, its address).
fn from_environment(
    kind: Kind,
    get: &impl Fn(&str) -> Option<String>,
    network: &Network,
) -> Result<Option<ProviderConfig>, ConfigProblem> {
    let entry = kind.entry();
    let Some(address) = entry.by_environment else { return Ok(None) };
    let (key, base_url) = (get(entry.key_variable), get(address));
    // Open WebUI's image sets the path of its own proxy (`/ollama`), which means the server's usual address.
    let base_url = base_url.map(|text| if text.starts_with('/') { entry.base_url.into() } else { text });
    if key.is_none() && (base_url.is_none() || entry.needs_key) {
        return Ok(None);
    }
    let table = ProviderTable {
        name: entry.provider.into(),
        kind: entry.name.into(),
        base_url,
        api_key: None,
        connect: None,
        first_byte: None,
        idle: None,
        // As OpenAI's own clients read it; only Azure's servers have versions.
        api_version: if kind == Kind::OPENAI { get("OPENAI_API_VERSION") } else { None },
        permissive_safety: false,
        stream_options: None,
        cache_in_input: None,
        headers: BTreeMap::new(),
        proxy: None,
        ca_file: None,
    };
    provider(table, key.map(Secret::new), Vec::new(), network.clone()).map(Some)
}

fn seconds(what: &str, value: Option<u64>, default: u64) -> Result<Duration, ConfigProblem> {
    match value.unwrap_or(default) {
        value if value <= LONGEST => Ok(Duration::from_secs(value)),
        _ => Err(ConfigProblem(format!("{what} is in seconds, at most {LONGEST}"))),
    }
}

fn address(what: &str, text: &str) -> Result<SocketAddr, ConfigProblem> {
    let text = text.replace("localhost", "127.0.0.1");
    text.parse().map_err(|_| {
        ConfigProblem(format!("{what}: `{text}` is no address with a port, such as 127.0.0.1:8787"))
    })
}

#[cfg(test)]
mod tests;
