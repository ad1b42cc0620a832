//! A provider's own words as a user may read them: one line, bounded, without hosts, ports, keys or passwords.
//!
//! The rule it protects: an error of a server inside tells nothing about the inside. What looks like an address or a secret,
//! or was configured as one, becomes `***`. Names of models, fields, files and versions stay, because they say what to do; in
//! doubt it is masked.

use accounting::is_hidden;

use crate::secrets::{self, MASK};

/// The most characters of a provider's own words that are passed on.
const LONGEST: usize = 300;

/// The words, masked and bounded.
pub fn safe_words(text: &str) -> String {
    let line = one_line(&secrets::masked(text));
    let mut masked = String::with_capacity(line.len());
    let mut before = Before::default();
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let between = rest.find(|c: char| !is_between(c)).unwrap_or(rest.len());
        let (gap, tail) = rest.split_at(between);
        masked.push_str(gap);
        before.pass(gap);
        let end = tail.find(is_between).unwrap_or(tail.len());
        let (run, tail) = tail.split_at(end);
        before.mask_run(run, &mut masked);
        rest = tail;
    }
    bounded(masked)
}

/// Without line ends and characters that don't show.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    // A key or an address is not that long; what comes behind is cut anyhow.
    for word in text.split_whitespace() {
        if line.len() > 16 * LONGEST {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }));
    }
    line
}

/// Cut between words, so that nothing half is left that would not be recognised.
fn bounded(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => {
            let (kept, _) = text.split_at(end);
            let (kept, _) = kept.rsplit_once(' ').unwrap_or_default();
            format!("{}…", kept.trim_end_matches('…'))
        }
    }
}

fn is_between(c: char) -> bool {
    c.is_whitespace() || ",;'\"`(){}<>|\\".contains(c)
}

/// What came before a run of characters, as far as it says what the run is.
#[derive(Default)]
struct Before {
    /// Runs until which a name such as `password` counts, if one was read.
    secret: u8,
    /// Whether `=` or `:` came since.
    assigned: bool,
    /// Whether the last run was `host`, or `host name`.
    host: bool,
    /// Whether there is a quotation mark before this run.
    quoted: bool,
    port: bool,
    bearer: bool,
    /// Whether the last run was an address, with nothing but punctuation since.
    address: bool,
}

impl Before {
    fn pass(&mut self, gap: &str) {
        self.quoted = gap.chars().any(|c| "'\"`".contains(c));
    }

    fn mask_run(&mut self, run: &str, masked: &mut String) {
        if run.is_empty() {
            return;
        }
        // `name=value` and `name:value`: the name says what the value is.
        if let Some(at) = run.find('=').filter(|at| is_word(&run[..*at]) && at + 1 < run.len()) {
            let (name, value) = run.split_at(at + 1);
            self.mask_run(name, masked);
            return self.mask_run(value, masked);
        }
        let trimmed = run.trim_end_matches(|c: char| ".:!?=…".contains(c));
        // `::1` is an address.
        let core = if trimmed.starts_with("::") {
            trimmed
        } else {
            trimmed.trim_start_matches(|c: char| ":=!?".contains(c))
        };
        let (head, tail) = (&trimmed[..trimmed.len() - core.len()], &run[trimmed.len()..]);
        masked.push_str(head);
        masked.push_str(if self.is_to_mask(core) { MASK } else { core });
        masked.push_str(tail);
        self.note(core, tail);
    }

    fn is_to_mask(&self, core: &str) -> bool {
        let says_something = !core.is_empty() && core != MASK;
        let is_value = (self.secret > 0 && self.assigned) || self.bearer;
        // A word, or the name of a field.
        let is_plain = core.len() <= 40
            && core.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && (core.len() <= 16 || core.contains('_'));
        let is_number = core.len() <= 5 && core.bytes().all(|byte| byte.is_ascii_digit());
        says_something
            && (is_value && !is_plain && !is_ordinary_number(core)
                || self.host && (self.quoted || self.assigned) && !is_plain_english(core)
                || (self.port || self.address) && is_number
                || is_address(core)
                || is_secret(core))
    }

    fn note(&mut self, core: &str, tail: &str) {
        let name = core.trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
        let name = name.replace(['-', '_'], "");
        let assigns = tail.contains([':', '=']);
        let names_secret = SECRET_NAMES.iter().any(|secret| name.ends_with(secret));
        self.address = is_address(core) || (self.address && core.is_empty());
        self.bearer = matches!(name.as_str(), "bearer" | "basic") && !assigns;
        self.port = name == "port";
        self.host = matches!(name.as_str(), "host" | "hostname") || (self.host && name == "name");
        self.secret = if names_secret { 4 } else { self.secret.saturating_sub(1) };
        self.assigned = assigns || (self.assigned && self.secret > 0 && !names_secret && core.is_empty());
    }
}

/// Names of secrets as their ends, without hyphens and underscores.
const SECRET_NAMES: [&str; 8] =
    ["apikey", "key", "password", "passwd", "pwd", "secret", "accesstoken", "authtoken"];

/// How keys of model servers and of clouds begin.
const KEY_PREFIXES: [&str; 27] = [
    "sk-",
    "sk_",
    "pk-",
    "pk_",
    "rk_",
    "gsk_",
    "xai-",
    "hf_",
    "r8_",
    "pplx-",
    "nvapi-",
    "csk-",
    "fw_",
    "tgp_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "owui-tt-",
];

/// Last labels of names of hosts; of two letters any other counts as well where it can't be a file's ending or a word.
const TOP: [&str; 42] = [
    "com",
    "net",
    "org",
    "edu",
    "gov",
    "mil",
    "int",
    "info",
    "biz",
    "io",
    "ai",
    "dev",
    "app",
    "cloud",
    "tech",
    "xyz",
    "site",
    "online",
    "eu",
    "internal",
    "local",
    "localdomain",
    "localhost",
    "corp",
    "lan",
    "intranet",
    "home",
    "private",
    "svc",
    "cluster",
    "consul",
    "docker",
    "arpa",
    "uni",
    "univ",
    "campus",
    "azure",
    "aws",
    "invalid",
    "example",
    "onion",
    "host",
];
/// Endings of files, and words, that are countries as well.
const NO_COUNTRY: [&str; 33] = [
    "py", "js", "rs", "md", "sh", "pl", "ts", "go", "cs", "hs", "cc", "so", "ps", "gz", "id", "is", "no",
    "to", "in", "at", "me", "my", "do", "it", "be", "am", "as", "by", "us", "an", "or", "if", "of",
];
/// Words before a colon and a number that are no hosts.
const ORDINARY: [&str; 22] = [
    "tokens", "token", "limit", "length", "max", "min", "size", "context", "status", "code", "error", "line",
    "column", "char", "position", "index", "version", "at", "count", "input", "output", "request",
];

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.*".contains(&byte))
}

fn is_plain_english(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "is" | "was"
            | "name"
            | "not"
            | "and"
            | "or"
            | "error"
            | "unreachable"
            | "returned"
            | "had"
            | "has"
            | "at"
            | "to"
            | "can't"
            | "for"
            | "in"
            | "of"
            | "on"
            | "unavailable"
            | "overloaded"
            | "failed"
            | "unknown"
            | "could"
            | "down"
            | "with"
    )
}

fn is_ordinary_number(text: &str) -> bool {
    text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Whether that is, or begins with, a host or an address: `host:port`, an IP address, a name with a top-level domain, a URL,
/// `user:password@host`.
fn is_address(run: &str) -> bool {
    if run.contains("://") {
        return true;
    }
    if let Some((user, host)) = run.rsplit_once('@')
        && !user.is_empty()
        && (user.contains(':')
            || host.contains('.')
            || host.contains(':')
            || host.eq_ignore_ascii_case("localhost"))
    {
        return true;
    }
    let place = run.split(['/', '?', '#']).next().unwrap_or_default();
    let place = place.rsplit('=').next().unwrap_or_default();
    if is_ipv6(place) {
        return true;
    }
    match place.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) =>
        {
            is_ip(host) || is_host(host) || is_single_host(host)
        }
        _ => is_ip(place) || is_host(place) || place.eq_ignore_ascii_case("localhost"),
    }
}

fn is_ip(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok() || is_ipv6(text)
}

fn is_ipv6(text: &str) -> bool {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => text.trim_end_matches(']'),
    };
    let bare = bare.split('%').next().unwrap_or_default();
    bare.len() > 2 && bare.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Before a port: a name of one label. In doubt it is a host, but for what is counted in messages.
fn is_single_host(text: &str) -> bool {
    let is_label = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    let lower = text.to_ascii_lowercase();
    let last_word = lower.rsplit(['_', '-', '.']).next().unwrap_or_default();
    is_label && has_letter && !ORDINARY.contains(&last_word)
}

fn is_host(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let is_label = |label: &&str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let Some((last, rest)) = labels.split_last() else { return false };
    // `messages.0.content` is a field; `v1.2.ai` no host either.
    let is_number = |label: &&str| label.bytes().all(|byte| byte.is_ascii_digit());
    if rest.is_empty() || !labels.iter().all(is_label) || rest.iter().any(is_number) {
        return false;
    }
    let last = last.to_ascii_lowercase();
    let is_country = last.len() == 2 && last.bytes().all(|byte| byte.is_ascii_lowercase());
    let many = rest.len() > 1 && !matches!(last.as_str(), "py" | "js" | "rs" | "md" | "sh" | "ts" | "id");
    TOP.contains(&last.as_str()) || (is_country && (many || !NO_COUNTRY.contains(&last.as_str())))
}

/// Whether that is a key, or has one in it.
fn is_secret(run: &str) -> bool {
    let begins = |(at, _): (usize, char)| {
        let is_start = run[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        is_start && KEY_PREFIXES.iter().any(|prefix| run[at..].starts_with(prefix))
    };
    run.char_indices().any(begins)
        || is_uuid(run)
        || is_base64(run)
        || run.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random)
}

/// Long, with letters of both cases and digits, and without the hyphens and points of names.
fn is_base64(run: &str) -> bool {
    let has = |is: fn(&u8) -> bool| run.bytes().any(|byte| is(&byte));
    run.len() >= 32
        && run.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

fn is_uuid(run: &str) -> bool {
    let lengths: Vec<usize> = run.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && run.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Whether a row of letters and digits is no word: long with digits in it, or changing all the time between kinds.
fn is_random(row: &str) -> bool {
    let digits = row.bytes().any(|byte| byte.is_ascii_digit());
    let letters = row.bytes().any(|byte| byte.is_ascii_alphabetic());
    let hex = row.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits && letters && (row.len() >= 20 || (row.len() >= 16 && hex)) {
        return true;
    }
    row.len() >= 12 && row.len() < 3 * pieces(row)
}

/// Of how many words, rows of capitals and numbers it consists: `GenerateContent` of two.
fn pieces(row: &str) -> usize {
    let kind = |byte: u8| {
        if byte.is_ascii_digit() {
            0
        } else if byte.is_ascii_uppercase() {
            1
        } else {
            2
        }
    };
    let bytes = row.as_bytes();
    // A capital goes with the small letters behind it.
    let changes = bytes.windows(2).filter(|pair| match (kind(pair[0]), kind(pair[1])) {
        (1, 2) => false,
        (before, after) => before != after,
    });
    1 + changes.count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_and_addresses_are_masked() {
        let text = "Incorrect API key provided: sk-proj-abcdef. See https://example.com/keys?k=1 or use 0123456789abcdef0123456789.";
        let safe = safe_words(text);
        assert_eq!(safe, "Incorrect API key provided: ***. See *** or use ***.");
    }

    #[test]
    fn every_form_of_an_address_is_masked() {
        for address in [
            "db-7.internal.corp:5432",
            "10.9.8.7:9000",
            "10.9.8.7",
            "[::1]:8080",
            "::1",
            "fe80::1%eth0",
            "2001:db8::7",
            "localhost:11434",
            "localhost",
            "ollama:11434",
            "my_service:8000",
            "llm.tuwien.ac.at",
            "gpu.example.de",
            "example.de",
            "api.openai.com/v1/chat",
            "redis://cache:6379/0",
            "postgres://u:p@db/x",
            "ann:hunter2@db",
            "admin@mail.example.org",
            "http://127.0.0.1:8787",
            "vllm.svc.cluster.local",
            "Gateway.Example.COM:443",
        ] {
            for text in [
                format!("failed at {address}"),
                format!("failed ({address})."),
                format!("\"{address}\", retry"),
                format!("url={address};"),
            ] {
                let safe = safe_words(&text);
                assert_eq!(safe, text.replace(address, MASK), "{address}");
            }
        }
        for (text, safe) in [
            (
                "connection to server at \"10.9.8.7\", port 5432 failed",
                "connection to server at \"***\", port *** failed",
            ),
            (
                "could not translate host name \"db7\" to address",
                "could not translate host name \"***\" to address",
            ),
            ("[Connect call failed ('127.0.0.1', 8787)]", "[Connect call failed ('***', ***)]"),
            ("host=db7 port=5432 password=hunter2", "host=*** port=*** password=***"),
        ] {
            assert_eq!(safe_words(text), safe);
        }
    }

    #[test]
    fn every_form_of_a_key_is_masked() {
        for key in [
            "sk-proj-Abc_123",
            "sk-ant-api03-xyz",
            "gsk_abcdef",
            "AKIAIOSFODNN7EXAMPLE",
            "AIzaSyA-1234567890abcdefghijklmnopqrs",
            "0f1e2d3c4b5a69788796a5b4c3d2e1f0.Zk9Qw3Er5Ty7Ui1O",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "hf_abc",
            "xai-abc",
            "ya29.a0Af",
            "123e4567-e89b-12d3-a456-426614174000",
            "owui-tt-00ff",
            "sk-abc***xyz",
        ] {
            for text in [
                format!("the key {key} is wrong"),
                format!("Bearer {key}"),
                format!("{{\"api_key\": \"{key}\"}}"),
                format!("api_key={key}"),
            ] {
                assert_eq!(safe_words(&text), text.replace(key, MASK), "{key}");
            }
        }
        assert_eq!(safe_words("Authorization: Bearer Hunter2!"), "Authorization: Bearer ***!");
        assert_eq!(safe_words("password: hunter2, user: ann"), "password: ***, user: ann");
    }

    #[test]
    fn ordinary_words_stay() {
        for text in [
            "The model `gpt-4.1` does not exist or you do not have access to it.",
            "max_tokens: 9000 > 4096, which is the maximum for claude-3.5-sonnet and claude-3-5-sonnet-20241022, e.g. 4096",
            "openai/gpt-4o-mini, meta-llama/Llama-3.3-70B-Instruct-Turbo, deepseek-ai/DeepSeek-R1-Distill-Qwen-32B, gpt-oss:20b",
            "Qwen/Qwen2-VL-72B-Instruct-GPTQ-Int4 and claude-3-5-sonnet@20240620 and @cf/meta/llama-3.1-8b-instruct",
            "messages.0.content.1.text: field required, i.e. messages[0].content",
            "Invalid file image.png in main.py (v1.2.3, 1.5, 2026-11-30T12:30:45Z, 12:30:45, 99.5%)",
            "response_format.json_schema of GenerateContentRequest.contents is missing; status:404, tokens:4096",
            "Missing Bearer token; Basic authentication is off; the API key is invalid. Node.js and google.rpc.Status",
            "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens.",
            "Unrecognized key: max_completion_tokens, unknown key: foo; the server had an error; the host is unreachable; a task-force with risk-free desk-tops",
            "gemini-2.5-flash-preview-04-17 and mistral-large-2411 and text-embedding-3-small, o4-mini-high",
        ] {
            assert_eq!(safe_words(text), text);
        }
    }

    #[test]
    fn long_words_are_cut() {
        assert!(safe_words(&"word ".repeat(500)).chars().count() <= LONGEST + 1);
        assert_eq!(safe_words(&"x".repeat(5000)), "…");
        assert_eq!(safe_words("a\0b\u{202e}c\nd"), "a\u{fffd}b\u{fffd}c d");
    }

    proptest! {
        #[test]
        fn masking_ends_and_masks_nothing_twice(text in any::<String>()) {
            let once = safe_words(&text);
            prop_assert!(once.chars().count() <= LONGEST + 1);
            prop_assert_eq!(safe_words(&once), once);
        }

        #[test]
        fn so_it_does_with_words_that_it_looks_for(
            words in proptest::collection::vec(
                prop_oneof![
                    "[a-z]{1,9}", "[=:.,;'\"\\[\\]@/-]{1,3}", "[0-9]{1,5}", Just("password".to_owned()), Just("host".to_owned()),
                    Just("10.0.0.1".to_owned()), Just("Bearer".to_owned()), Just("port".to_owned()), Just(" ".to_owned()),
                    Just("sk-".to_owned()), Just("…".to_owned()), Just("***".to_owned()),
                ], 0..60)
        ) {
            let once = safe_words(&words.concat());
            prop_assert_eq!(safe_words(&once), once);
        }
    }
}
