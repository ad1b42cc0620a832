//! What `kill -9` loses of streams: a recovery knows at most half a second less than the clients saw, and the input that the
//! provider has told.
//!
//! `OWUI_TEST_KILLS` says how often the gateway is killed, ten times without it (`make kills`: a hundred times).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt;
use testing::databases::TestDatabase;
use testing::each_database;
use testing::simulator::Simulator;
use tokio::sync::watch;

use crate::process::{HttpClient, Place, pause};

const CLIENTS: usize = 8;
/// A stream of five seconds: two tokens every 20 ms. The provider tells its input in the first event.
const STREAM: &str = "[[sim input=50 output=500 chunk=2 delay=20]]";
const INPUT: u64 = 50;

/// Spread without being random: the same moments in each run.
fn moment(round: u64) -> Duration {
    Duration::from_millis(700 + (round * 1237) % 2600)
}

/// The tokens in a part of an answer: each word of the simulated server has one of these marks.
fn tokens(text: &str) -> u64 {
    let contents = text.split("\"content\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let marks =
        |content: &str| [" ", ".", "The"].map(|mark| content.matches(mark).count()).iter().sum::<usize>();
    contents.map(marks).sum::<usize>() as u64
}

each_database!(what_streamed_before_a_kill_is_charged, async |test: TestDatabase| {
    let kills: u64 = std::env::var("OWUI_TEST_KILLS").map_or(10, |number| number.parse().unwrap());
    let simulator = Simulator::start().await.unwrap();
    let place = Place::new(&test, &simulator, &[("base_credit_allowance", "1000000")]).await;
    let costs = ["--input-cost-credits", "1000", "--output-cost-credits", "2000"];
    let names =
        ["pricing", "add", "--provider", "anthropic", "--id", "claude-sonnet-4-5", "--name", "Claude"];
    place.ok(&[&names[..], &costs].concat());
    let config = std::fs::read_to_string(place.file("config.toml")).unwrap();
    let provider = format!(
        "{config}\n[[provider]]\nname = \"anthropic\"\nkind = \"anthropic\"\nbase_url = \"{}\"\napi_key = \"k\"\n",
        simulator.base_url_of("anthropic")
    );
    std::fs::write(place.file("config.toml"), provider).unwrap();
    let (gateway_at, url) = watch::channel(String::new());
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen: Mutex<HashMap<String, u64>> = Mutex::default();
    let client = HttpClient::new();
    let load = join_all((0..CLIENTS).map(|number| {
        let (mut url, over, count, seen, client) = (url.clone(), &over, &count, &seen, &client);
        async move {
            let model = if number % 2 == 0 { "gpt-test" } else { "claude-sonnet-4-5" };
            while !over.load(Ordering::Relaxed) {
                let chat = format!("{model}-{}", count.fetch_add(1, Ordering::Relaxed));
                let at = url.borrow_and_update().clone();
                let Some(response) = client.stream(&at, model, &format!("user{number}"), &chat, STREAM).await
                else {
                    // Between two gateways there is nobody to ask; after the last one nobody comes.
                    if url.changed().await.is_err() {
                        return;
                    }
                    continue;
                };
                let mut body = response.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let text =
                        String::from_utf8_lossy(frame.data_ref().map(AsRef::as_ref).unwrap_or_default())
                            .into_owned();
                    *seen.lock().unwrap().entry(chat.clone()).or_default() += tokens(&text);
                }
            }
        }
    }));
    let (place_of, over_now) = (&place, &over);
    let killing = async move {
        for round in 0..kills {
            let gateway = place_of.serve();
            gateway_at.send_replace(gateway.url.clone());
            pause(moment(round)).await;
            gateway.kill();
        }
        over_now.store(true, Ordering::Relaxed);
        drop(gateway_at);
        place_of.serve()
    };
    let (_, last) = futures_util::join!(load, killing);
    place.assert_clean().await;
    let mut charged: HashMap<String, (String, u64, u64)> = HashMap::new();
    for row in place
        .texts(
            "SELECT chat_id || ' ' || outcome || ' ' || input_tokens || ' ' || output_tokens FROM {ledger}",
        )
        .await
    {
        let mut words = row.split(' ');
        let (chat, outcome) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let twice = charged.insert(chat, (outcome, number(), number()));
        assert_eq!(twice, None, "{row}: a request is charged once");
    }
    let seen = seen.into_inner().unwrap();
    let (mut streamed, mut known, mut interrupted) = (0, 0, 0_u64);
    for received in simulator.received() {
        // Each format has its text in another place.
        let body = received.body.to_string();
        let Some((_, chat)) = body.split_once(" id=") else { continue };
        let chat = chat.split('"').next().unwrap_or_default().to_owned();
        let seen = seen.get(&chat).copied().unwrap_or_default();
        let Some((outcome, input, output)) = charged.get(&chat) else {
            panic!("{chat} is free, {seen} tokens were received");
        };
        let most = received.produced + received.produced / 4 + 16;
        assert!(*output <= most, "{chat}: {output} charged, {} produced", received.produced);
        if outcome == "recovered" {
            (streamed, known, interrupted) = (streamed + seen, known + output, interrupted + 1);
            // A hundred tokens take a second.
            assert!(
                !chat.starts_with("claude") || seen < 100 || *input == INPUT,
                "{chat}: {input} tokens of input, although {INPUT} were told"
            );
        }
    }
    assert!(
        interrupted >= kills * CLIENTS as u64 / 2 && streamed > 0,
        "the kills hit streams: {interrupted}"
    );
    assert!(100 * known >= 85 * streamed, "{known} of {streamed} tokens charged, of {interrupted} requests");
    println!("{known} of {streamed} tokens charged, of {interrupted} requests that {kills} kills hit");
    last.terminate();
    place.assert_clean().await;
});
