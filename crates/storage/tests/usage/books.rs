//! A ledger full of random requests, and what they add up to, summed the plain way.

use std::collections::BTreeMap;

use accounting::{Credits, Day, Label, ModelId, ProviderName, Zone};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::ledger::{RequestRecord, Settlement};
use storage::reports::usage::Sums;
use storage::{Database, Kind};
use testing::records;

pub const COURSE: &str = "0198b3c4d5e6718293a4b5c6d7e8f901";
const USERS: [&str; 7] = ["ann", "bob", "cal", "dora", "eve:1", "fay@x", "gus"];
const MODELS: [(&str, &str); 4] =
    [("openai", "gpt"), ("openai", "mini"), ("anthropic", "claude"), ("azure", "gpt")];
const TASKS: [Option<&str>; 4] = [None, None, Some("title_generation"), Some("tags_generation")];
/// The time zone was changed now and then.
const ZONES: [&str; 3] = ["Europe/Berlin", "Pacific/Kiritimati", "America/New_York"];
const DAYS: i64 = 20;
const AT_ONCE: usize = 500;

/// A row of the ledger.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub kind: &'static str,
    pub corrects: Option<String>,
    pub user: &'static str,
    pub sponsored: Option<&'static str>,
    pub day: Day,
    pub provider: &'static str,
    pub model: &'static str,
    pub task: Option<&'static str>,
    /// Input, cached, written, written for long, output, reasoning.
    pub counts: [i64; 6],
    pub charge: i64,
    pub estimated: bool,
    /// What it corrects: whether that was estimated, and its charge.
    pub guess: Option<(bool, i64)>,
    pub started_at: i64,
}

/// The first moment of all.
pub fn begin() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

/// When all of its days are over.
pub fn end() -> Timestamp {
    "2026-03-25T00:00:00Z".parse().unwrap()
}

pub fn id_at(micros: i64, random: u128) -> String {
    format!("{:012x}7{:019x}", micros / 1000, random & ((1 << 76) - 1))
}

pub fn rows(seed: u64, count: usize) -> Vec<Row> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..count {
        let started_at = begin().as_microsecond() + random.random_range(0..DAYS * 86_400_000_000);
        let moment = Timestamp::from_microsecond(started_at).unwrap();
        let zone = Zone::named(ZONES[random.random_range(0..ZONES.len())]).unwrap();
        let (provider, model) = MODELS[random.random_range(0..MODELS.len())];
        let kind = match random.random_range(0..20) {
            0 => "import",
            1 => "adjustment",
            _ => "request",
        };
        let input = random.random_range(1..5000);
        let output = random.random_range(0..2000);
        let row = Row {
            id: id_at(started_at, random.random()),
            kind,
            corrects: None,
            user: USERS[random.random_range(0..USERS.len())],
            sponsored: (random.random_range(0..5) == 0).then_some(COURSE),
            day: zone.day(moment),
            provider,
            model,
            task: TASKS[random.random_range(0..TASKS.len())],
            counts: [input, input / 3, input / 7, input / 9, output, output / 2],
            charge: random.random_range(0..9_000_000),
            estimated: random.random_range(0..8) == 0,
            guess: None,
            started_at,
        };
        // Corrected the next day, by its owner that had slept.
        if kind == "request" && random.random_range(0..50) == 0 {
            let mut correction = row.clone();
            correction.id = id_at(started_at + 86_400_000_000, random.random());
            correction.corrects = Some(row.id.clone());
            correction.kind = "correction";
            correction.guess = Some((row.estimated, row.charge));
            correction.estimated = random.random_range(0..2) == 0;
            correction.charge = random.random_range(-1_000_000..1_000_000);
            correction.counts = [-1, 0, 0, 0, 5, 0];
            rows.push(correction);
        }
        rows.push(row);
    }
    rows
}

impl Row {
    pub fn account(&self) -> String {
        format!("user-day:{}:{}", self.day, self.user)
    }

    fn sql(&self) -> String {
        let text = |text: Option<&str>| text.map_or("NULL".to_owned(), |text| format!("'{text}'"));
        let [input, cached, written, long, output, reasoning] = self.counts;
        format!(
            "('{}', '{}', {}, '{}', {}, '[\"{}\"]', '{}', '{}', '{}', 1, {input}, {cached}, {written}, {long}, 0, {output}, \
             {reasoning}, 0, 0, 1, {}, {}, 'complete', 'one_credit', 0, 'gateway', {}, 'chat-of-{}', {}, {})",
            self.id,
            self.kind,
            text(self.corrects.as_deref()),
            self.user,
            text(self.sponsored),
            self.account(),
            self.day,
            self.provider,
            self.model,
            self.charge,
            text(self.estimated.then_some("counted")),
            text(self.task),
            self.user,
            self.started_at,
            self.started_at + 5_000_000
        )
    }

    /// As the ledger's writer gets it.
    pub fn settlement(&self, ended_at: Timestamp) -> Settlement {
        let record = RequestRecord {
            sponsored: self.sponsored.map(|id| id.parse().unwrap()),
            provider: ProviderName::new(self.provider).unwrap(),
            model: ModelId::new(self.model).unwrap(),
            price_version: None,
            task: self.task.map(Label::from),
            started_at: self.started_at,
            ..records::record(self.user, self.day).unwrap()
        };
        let accounts = vec![self.account().parse().unwrap()];
        records::settlement(
            self.id.parse().unwrap(),
            record,
            accounts,
            Credits::from_micro(self.charge),
            ended_at,
        )
    }

    /// What it counts for in a report; adjustments for nothing. What is corrected is as sure as its correction.
    pub fn sums(&self) -> Option<Sums> {
        let [input, cached_input, written, long, output, reasoning] = self.counts;
        let correction = self.kind == "correction";
        let (surer, of) = match self.guess {
            Some((true, charge)) if !self.estimated => (-1, -charge),
            Some((false, charge)) if self.estimated => (1, charge),
            _ => (0, 0),
        };
        (self.kind != "adjustment").then(|| Sums {
            requests: i64::from(!correction),
            imported: i64::from(self.kind == "import"),
            input,
            cached_input,
            cache_write: written + long,
            output,
            reasoning,
            credits: Credits::from_micro(self.charge),
            estimated: i64::from(self.estimated && !correction) + surer,
            estimated_credits: Credits::from_micro(of + if self.estimated { self.charge } else { 0 }),
        })
    }
}

/// Writes the rows, and accounts that fit them.
pub async fn write(database: &Database, rows: &[Row]) {
    for rows in rows.chunks(AT_ONCE) {
        let values: Vec<String> = rows.iter().map(Row::sql).collect();
        let sql = format!(
            "INSERT INTO {} (id, kind, corrects, user_id, sponsored_id, accounts, day, provider, model, price_version, \
               input_tokens, cached_input_tokens, cache_write_tokens, cache_write_long_tokens, input_audio_tokens, \
               output_tokens, reasoning_tokens, output_audio_tokens, images, calls, charge, estimated, outcome, policy, \
               over_hold, way_in, task, chat_id, started_at, ended_at) VALUES {}",
            database.table("token_tracking_ledger"),
            values.join(", ")
        );
        database.run(sql).await.unwrap();
    }
    let mut accounts: BTreeMap<String, (&Row, i64)> = BTreeMap::new();
    for row in rows {
        accounts.entry(row.account()).or_insert((row, 0)).1 += row.charge;
    }
    let value = |(key, (row, spent)): (&String, &(&Row, i64))| {
        format!("('{key}', 'user-day', '{}', '{}', {spent})", row.user, row.day)
    };
    let values: Vec<String> = accounts.iter().map(value).collect();
    let table = database.table("token_tracking_account");
    let conflict = "ON CONFLICT (key) DO UPDATE SET spent = kept.spent + excluded.spent";
    database
        .run(format!(
            "INSERT INTO {table} AS kept (key, kind, user_id, day, spent) VALUES {} {conflict}",
            values.join(", ")
        ))
        .await
        .unwrap();
    if database.kind() == Kind::Postgres {
        database.run(format!("ANALYZE {}", database.table("token_tracking_ledger"))).await.unwrap();
    }
}
