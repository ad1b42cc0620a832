//! `demo`: everything at work on one machine: an SQLite file in a scratch folder, a simulated model server that speaks the
//! real protocol, the gateway, and users who chat until some reach their limit.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use accounting::{Clock, Credits, UserId};
use anyhow::Context;
use futures_util::StreamExt;
use futures_util::future::join_all;
use gateway::{Config, Gateway};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use metering::{Meter, MeterOptions};
use providers::{
    Answer, ChatRequest, Kind, Network, Provider, ProviderConfig, ProviderError, ProviderOptions, Secret,
    TimeLimits, Uncounted,
};
use serde_json::{Value, json};
use storage::admin::{groups, keys, settings};
use storage::reports::{balance, usage};
use storage::{Catalogue, Database, DatabaseUrl, KnownUser, SystemClock};
use testing::simulator::Simulator;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::output::{self, Format, credits, number, text};
use crate::{init, verify};

/// A model of each kind of provider: the chats ask them in turn.
const MODELS: [&str; 4] = ["gpt-4o", "claude-haiku-4-5-20251001", "gemini-2.5-pro", "mistral-large-latest"];
const KINDS: [Kind; 4] = [Kind::OPENAI, Kind::ANTHROPIC, Kind::GOOGLE, Kind::MISTRAL];
const CHATS: u64 = 12;
/// Credits a day for everyone, and what the group adds.
const BASE: &str = "40";
const GROUP: &str = "researchers";
const GROUP_ADDS: i64 = 60;
/// Each user, and whether the group has them.
const USERS: [(&str, bool); 5] = [
    ("student-1", false),
    ("student-2", false),
    ("student-3", false),
    ("researcher-1", true),
    ("researcher-2", true),
];

/// Show it all at work, with a simulated model server and simulated users. No keys, no set-up, nothing left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  owui-token-tracking demo")]
pub(crate) struct Arguments {
    /// End when all chats are done, also on a terminal.
    #[arg(long)]
    once: bool,
}

/// What a user's chats came to.
struct Chats {
    answered: u64,
    refused: u64,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let stays = std::io::stdout().is_terminal() && !arguments.once;
    let folder = tempfile::Builder::new()
        .prefix("owui-token-tracking-demo-")
        .tempdir()
        .context("making a scratch folder")?;
    let url = DatabaseUrl::sqlite_file(folder.path().join("demo.db"));
    let database = Database::create(&url).await?;
    init::initialise(&database, &init::Begin::built_in()?).await?;
    settings::set(&database, "base_credit_allowance", BASE).await?;
    groups::create(&database, GROUP, GROUP_ADDS, "They get more.").await?;

    let simulator = Simulator::start().await.context("starting the simulated model server")?;
    let clock = Arc::new(SystemClock);
    let upstreams = KINDS
        .iter()
        .map(|kind| provider(*kind, &simulator.base_url_of(kind.entry().name), "a-key-of-the-model-server"));
    let options = MeterOptions {
        providers: upstreams.collect::<Result<_, _>>()?,
        clock: clock.clone(),
        instance: None,
        settle_wait: Duration::from_secs(5),
        head_wait: Duration::from_secs(15),
    };
    let meter = Meter::open(&database, options).await?;
    let config = Config::read("[gateway]\nlisten = \"127.0.0.1:0\"\nkey = \"demo\"\n", |_| None)?.gateway;
    let listener = TcpListener::bind(config.listen).await.context("listening on loopback")?;
    let address = format!("http://{}/v1", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let serving = gateway::serve(
        listener.into(),
        None,
        Gateway::new(config, meter, &database, clock, None),
        shutdown.clone(),
    );
    tokio::pin!(serving);

    output::line(format!(
        "A simulated model server and the gateway run on loopback. Everyone has {BASE} credits a day; {GROUP} have \
         {GROUP_ADDS} more.\nEach of {} users asks for {CHATS} answers, two at a time, of {} in turn: one API for the \
         formats of four vendors.\n",
        USERS.len(),
        MODELS.join(", ")
    ))?;
    let shown = async {
        let chats = everyone(&database, &address).await?;
        results(&database, &chats).await
    };
    let code = tokio::select! {
        shown = shown => shown?,
        () = &mut serving => anyhow::bail!("the gateway ended by itself"),
    };
    connect(stays.then_some(address.as_str()))?;
    if stays {
        tokio::select! {
            () = &mut serving => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    shutdown.cancel();
    serving.await;
    database.close().await;
    Ok(code)
}

fn provider(kind: Kind, base_url: &str, key: &str) -> anyhow::Result<Provider> {
    Ok(Provider::new(ProviderConfig {
        name: accounting::ProviderName::new(kind.entry().provider)?,
        kind,
        base_url: base_url.parse()?,
        api_key: Some(Secret::new(key)),
        limits: TimeLimits::default(),
        options: ProviderOptions::default(),
        network: Network::default(),
    })?)
}

/// All users chat, each with a key of their own.
async fn everyone(database: &Database, address: &str) -> anyhow::Result<Vec<(UserId, Chats)>> {
    let clock = Arc::new(SystemClock);
    let catalogue = Catalogue::open(database, clock.clone()).await?;
    let bars = MultiProgress::new();
    let style = ProgressStyle::with_template("{prefix:14} {bar:30} {pos:>3}/{len} chats {msg}")?;
    let mut chatting = Vec::new();
    for (name, in_group) in USERS {
        let user = UserId::new(name)?;
        let known =
            KnownUser { id: user.clone(), name: name.into(), email: format!("{name}@example.org").into() };
        catalogue.remember_user(known).await?;
        if in_group {
            groups::add_user(database, GROUP, &user).await?;
        }
        let (_, key) = keys::create(database, name, Some(user.clone()), None, clock.now()).await?;
        let bar = bars.add(ProgressBar::new(CHATS).with_style(style.clone()).with_prefix(name));
        bar.tick();
        let client = provider(Kind::OPENAI, address, &key)?;
        chatting.push(async move { anyhow::Ok((user, chats(&client, &bar).await?)) });
    }
    join_all(chatting).await.into_iter().collect()
}

/// One user's chats, two at a time.
async fn chats(client: &Provider, bar: &ProgressBar) -> anyhow::Result<Chats> {
    let mut ends =
        futures_util::stream::iter((0..CHATS).map(|number| chat(client, number))).buffer_unordered(2);
    let mut chats = Chats { answered: 0, refused: 0 };
    while let Some(end) = ends.next().await {
        if end? {
            chats.answered += 1;
        } else {
            chats.refused += 1;
            bar.set_message(format!("{} refused: limit reached", chats.refused));
        }
        bar.inc(1);
    }
    bar.finish();
    Ok(chats)
}

/// One streamed chat; `false` if the limit refused it.
async fn chat(client: &Provider, number: u64) -> anyhow::Result<bool> {
    let directive = format!(
        "Tell me a story. [[sim input={} output={} chunk=5 delay=8]]",
        800 + 40 * number,
        300 + 25 * number
    );
    let model = usize::try_from(number).map_or(MODELS[0], |number| MODELS[number % MODELS.len()]);
    let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": directive}]});
    let request = ChatRequest::parse(body.to_string().into())?;
    match client.chat(&request, &mut Uncounted).await {
        Ok(Answer::Stream(mut events)) => {
            while let Some(event) = events.next().await {
                event?;
            }
            Ok(true)
        }
        Ok(Answer::Complete(_)) => Ok(true),
        // How the client of a model server sees the gateway's `insufficient_quota`.
        Err(ProviderError::OurKey { status: 402 | 429 }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The tables of users and models, and whether the books are right.
async fn results(database: &Database, chats: &[(UserId, Chats)]) -> anyhow::Result<ExitCode> {
    let used = used_by(database, usage::By::User).await?;
    let balances = balance::balances(database, &SystemClock, None).await?;
    let columns = [
        text("user", "User"),
        number("requests", "Requests"),
        number("input", "Input tokens"),
        number("output", "Output tokens"),
        number("credits", "Credits"),
        number("limit", "Limit (credits)"),
        number("remaining", "Remaining"),
        number("refused", "Refused"),
    ];
    let rows = chats.iter().map(|(user, chats)| {
        let sums = used.iter().find(|row| row.key() == user.as_str());
        let balance = balances.iter().find(|balance| balance.user == *user);
        let amount = |of: Option<Credits>| of.map_or(Value::Null, credits);
        vec![
            user.to_string().into(),
            chats.answered.into(),
            sums.map(|row| row.sums.input).into(),
            sums.map(|row| row.sums.output).into(),
            amount(sums.map(|row| row.sums.credits)),
            amount(balance.map(|balance| balance.day.limit)),
            amount(balance.map(|balance| balance.day.free)),
            chats.refused.into(),
        ]
    });
    output::rows(Format::Table, &columns, rows.collect())?;
    let models = used_by(database, usage::By::Model).await?;
    let columns = [
        text("model", "Model"),
        number("requests", "Requests"),
        number("input", "Input tokens"),
        number("output", "Output tokens"),
        number("credits", "Credits"),
    ];
    let rows = models.into_iter().map(|row| {
        let sums = row.sums;
        vec![
            row.key().into(),
            sums.requests.into(),
            sums.input.into(),
            sums.output.into(),
            credits(sums.credits),
        ]
    });
    output::rows(Format::Table, &columns, rows.collect())?;
    output::line(
        "\nA request is sent while at least one credit is free, so the last one may pass the limit a little; with the \
         setting admission_policy=strict none does.\n",
    )?;
    verify::show(database, Format::Table).await
}

async fn used_by(database: &Database, by: usage::By) -> Result<Vec<usage::UsageRow>, storage::Error> {
    let question = usage::Question { by: vec![by], ..usage::Question::default() };
    Ok(usage::usage(database, &question).await?.rows)
}

fn connect(stays_at: Option<&str>) -> std::io::Result<()> {
    output::line(
        "\nTo connect a real Open WebUI:\n  \
         1. owui-token-tracking init                    with Open WebUI's DATABASE_URL\n  \
         2. OPENAI_API_KEY=… OWUI_TRACKING_KEY=… owui-token-tracking serve\n  \
         3. start Open WebUI with ENABLE_FORWARD_USER_INFO_HEADERS=true, and add the connection\n     \
            http://127.0.0.1:8787/v1 with that key\n",
    )?;
    if let Some(address) = stays_at {
        output::line(format!(
            "The demonstration goes on at {address} until Ctrl-C. Try it:\n  \
             curl {address}/chat/completions -H 'Authorization: Bearer demo' -H 'X-OpenWebUI-User-Id: you' \\\n    \
             -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'",
            MODELS[0]
        ))?;
    }
    Ok(())
}
