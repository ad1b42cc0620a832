//! The database itself: whether it answers, its tables and rights, its clock, and where days begin.

use std::cmp::Ordering;

use accounting::{Clock, Zone};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use storage::reports::health;
use storage::{Database, DatabaseUrl, SystemClock, migrate};

use super::{Finding, Known};
use crate::connect;

/// A clock that differs by more than this many seconds should be set; by more than the second, it must be.
const UNUSUAL: i64 = 2;
const WRONG: i64 = 30;

/// Connects.
pub(super) async fn open(url: anyhow::Result<DatabaseUrl>, findings: &mut Vec<Finding>) -> Option<Database> {
    let (found, advice) = match url {
        Ok(url) => match connect::connect(&url).await {
            Ok(database) => {
                let by_transaction = ", behind a pooler that hands connections out by transaction";
                let pooler = if database.is_pooled_by_transaction() { by_transaction } else { "" };
                findings.push(Finding::ok("database", format!("{url}{pooler}")));
                return Some(database);
            }
            Err(error) => (
                error.to_string(),
                "check the address, and that the database runs; `init --create` makes a new SQLite file",
            ),
        },
        Err(error) => (format!("{error:#}"), "name the database that Open WebUI uses"),
    };
    findings.push(Finding::problem("database", found, advice));
    None
}

/// Checks it; what other checks look at, if its tables are there.
pub(super) async fn check(database: &Database, findings: &mut Vec<Finding>) -> Option<Known> {
    let current = tables(database, findings).await;
    findings.extend(original(database).await);
    findings.push(rights(database).await);
    findings.push(clock(database).await);
    if !current {
        return None;
    }
    match Known::read(database).await {
        Ok(known) => {
            findings.push(time_zone(database, &known.snapshot.settings().timezone).await);
            Some(known)
        }
        Err(error) => {
            findings.push(Finding::failed("catalogue", &error));
            None
        }
    }
}

/// Whether our tables are ones that this program may use.
async fn tables(database: &Database, findings: &mut Vec<Finding>) -> bool {
    let check = "tables";
    let status = match migrate::status(database).await {
        Ok(status) => status,
        Err(error) => {
            findings.push(Finding::failed(check, &error));
            return false;
        }
    };
    let usable = status.usable().is_ok();
    let found = format!("version {}, needed {}", status.found, status.known);
    findings.push(match (status.found.cmp(&status.known), usable) {
        (Ordering::Equal, _) => Finding::ok(check, found),
        (Ordering::Less, true) => {
            let found = format!("version {}, an older one that will do", status.found);
            Finding::warning(check, found, "run `owui-token-tracking init`")
        }
        (Ordering::Less, false) => Finding::problem(check, found, "run `owui-token-tracking init`"),
        (Ordering::Greater, true) => {
            let found = format!("version {}, a newer one that this version may use", status.found);
            Finding::warning(check, found, "install the newer version of this program when you can")
        }
        (Ordering::Greater, false) => {
            Finding::problem(check, found, "install the newer version of this program")
        }
    });
    usable
}

/// The state of the original's tables, where they are.
async fn original(database: &Database) -> Option<Finding> {
    let check = "original's tables";
    match health::original_migration(database).await {
        Err(error) => Some(Finding::failed(check, &error)),
        Ok(None) => None,
        Ok(Some(found)) if found == health::ORIGINAL_HEAD => {
            Some(Finding::ok(check, format!("migration {found}, its newest")))
        }
        Ok(Some(found)) => Some(Finding::warning(
            check,
            format!("migration {found}, and its newest is {}", health::ORIGINAL_HEAD),
            "run `owui-token-tracking init`; where the original is still used, update it to 0.1.10",
        )),
    }
}

async fn rights(database: &Database) -> Finding {
    let check = "rights";
    match health::missing_rights(database).await {
        Ok(missing) if missing.is_empty() => Finding::ok(check, "all that are needed"),
        Ok(missing) => {
            let (found, names) = (super::named(&missing), missing);
            let only_create = names.iter().all(|right| right.starts_with("CREATE"));
            if only_create {
                Finding::warning(check, format!("missing: {found}"), "grant it before the next upgrade")
            } else {
                Finding::problem(check, format!("missing: {found}"), "GRANT them to the database user")
            }
        }
        Err(error) => {
            let advice = match storage::holders(database.url()).as_slice() {
                [] => "let this user write the file and its folder, and end programs that hold it locked"
                    .to_owned(),
                holders => format!("let {} finish, or end it", holders.join(", ")),
            };
            Finding::problem(check, format!("nothing can be written: {error}"), advice)
        }
    }
}

async fn clock(database: &Database) -> Finding {
    let before = SystemClock.now();
    match health::clock(database).await {
        Ok(theirs) => {
            let after = SystemClock.now();
            let ours = before.checked_add(after.duration_since(before) / 2).unwrap_or(before);
            compared(ours, theirs)
        }
        Err(error) => Finding::failed("clock", &error),
    }
}

fn compared(ours: Timestamp, theirs: Timestamp) -> Finding {
    let ahead = ours.duration_since(theirs);
    let seconds = ahead.round(jiff::SignedDurationRound::new().smallest(jiff::Unit::Second));
    let seconds = seconds.unwrap_or(SignedDuration::ZERO).as_secs();
    let found = match seconds {
        0 => "this host and the database agree".to_owned(),
        _ if seconds > 0 => format!("this host is {seconds} s ahead of the database"),
        _ => format!("this host is {} s behind the database", seconds.unsigned_abs()),
    };
    let advice = "let both hosts set their clocks by NTP: days begin by this host's clock";
    match seconds.abs() {
        0..=UNUSUAL => Finding::ok("clock", found),
        ..=WRONG => Finding::warning("clock", found, advice),
        _ => Finding::problem("clock", found, advice),
    }
}

async fn time_zone(database: &Database, configured: &Zone) -> Finding {
    let check = "time zone";
    let (set, server) = match zones(database).await {
        Ok(zones) => zones,
        Err(error) => return Finding::failed(check, &error),
    };
    let system = TimeZone::system();
    let system_name = system.iana_name().unwrap_or("unknown").to_owned();
    let theirs = server.as_ref().map(|name| format!(", PostgreSQL's {name}")).unwrap_or_default();
    if set {
        let days = configured.name().unwrap_or("unknown");
        return Finding::ok(check, format!("{days} by the setting; this system's {system_name}{theirs}"));
    }
    let found = format!("that of this system, {system_name}{theirs}; the setting `timezone` is not set");
    let now = SystemClock.now();
    let differs = server.is_some_and(|name| {
        TimeZone::get(&name).is_ok_and(|zone| zone.to_offset(now) != system.to_offset(now))
    });
    if differs || system.iana_name().is_none() {
        let advice = "say where days begin: `owui-token-tracking settings set timezone Europe/Berlin`";
        Finding::warning(check, found, advice)
    } else {
        Finding::ok(check, found)
    }
}

/// Whether the setting is set, and the time zone of the server.
async fn zones(database: &Database) -> Result<(bool, Option<String>), storage::Error> {
    let setting = storage::admin::settings::get(database, "timezone").await?;
    let is_set = setting.value.is_some_and(|value| !value.is_empty());
    Ok((is_set, health::server_zone(database).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn clocks() {
        let at = |micros| Timestamp::from_microsecond(micros).unwrap();
        for (ours, outcome, says) in [
            (0, Outcome::Ok, "agree"),
            (400_000, Outcome::Ok, "agree"),
            (2_000_000, Outcome::Ok, "2 s ahead"),
            (-3_000_000, Outcome::Warning, "3 s behind"),
            (31_000_000, Outcome::Problem, "31 s ahead"),
            (-86_400_000_000, Outcome::Problem, "86400 s behind"),
        ] {
            let finding = compared(at(1_000_000_000_000 + ours), at(1_000_000_000_000));
            assert_eq!(finding.outcome, outcome, "{ours}");
            assert!(finding.found.contains(says), "{finding:?}");
        }
    }
}
