//! What is granted and what is booked: the base allowance, holds of dead processes, accounts.

use std::collections::BTreeMap;

use storage::reports::recovered::Recovered;
use storage::reports::verify::Verification;
use storage::reports::{health, verify};

use super::{Finding, Known};

/// Longer ledgers are left to `verify`.
const MOST_ROWS: i64 = 100_000;

pub(super) async fn check(known: &Known, findings: &mut Vec<Finding>) {
    findings.push(match known.snapshot.settings().base_credit_allowance {
        Some(credits) if credits.is_negative() => Finding::warning(
            "base allowance",
            format!("{credits} credits a day: users have what their groups add, less that"),
            "`owui-token-tracking settings set base_credit_allowance 0`, if nobody meant it",
        ),
        Some(credits) => Finding::ok("base allowance", format!("{credits} credits a day for each user")),
        None => Finding::problem(
            "base allowance",
            "not set, so that users have nothing but what their groups add",
            "`owui-token-tracking settings set base_credit_allowance 1000` (or 0)",
        ),
    });
    findings.push(match health::left_by_the_dead(&known.database).await {
        Ok(left) if left.holds == 0 => Finding::ok("holds", "none of processes that are gone"),
        Ok(left) => Finding::warning(
            "holds",
            format!("{} of processes that are gone, of {} credits", left.holds, left.credits),
            "start the gateway, or Open WebUI: whichever process of ours runs next settles them",
        ),
        Err(error) => Finding::failed("holds", &error),
    });
    match health::stuck(&known.database).await {
        Ok(stuck) if stuck.holds == 0 => {}
        Ok(stuck) => findings.push(Finding::problem(
            "settlements",
            format!("{} holds, of {} credits, can't be settled", stuck.holds, stuck.credits),
            "see the log of the running gateway, or of Open WebUI, for why; it tries again, at most once an hour",
        )),
        Err(error) => findings.push(Finding::failed("settlements", &error)),
    }
    match health::unreadable_holds(&known.database).await {
        Ok(unreadable) => findings.extend(unreadable.first().map(|why| {
            Finding::warning(
                "holds of a newer version",
                format!("{} that this version can't settle: {why}", unreadable.len()),
                "run `serve`, or Open WebUI with the pipes, of the newer version: it settles them",
            )
        })),
        Err(error) => findings.push(Finding::failed("holds of a newer version", &error)),
    }
    findings.extend(known.snapshot.problems().map(|problem| {
        let advice = "what it concerns is refused until it can be used again; all else goes on";
        Finding::problem("catalogue", problem.to_string(), advice)
    }));
    findings.extend(unknown_usage(known).await);
    match storage::original::stricter(&known.database, &BTreeMap::new()).await {
        Ok(found) => findings.extend(found.into_iter().map(|stricter| {
            let check = format!("sponsored {}", stricter.name);
            Finding::warning(check, stricter.what, format!("`{}`", stricter.command))
        })),
        Err(error) => findings.push(Finding::failed("sponsored allowances", &error)),
    }
    match verified(known).await {
        Ok(Some(verified)) => {
            findings.push(accounts(&verified));
            findings.extend(recovered(&verified.recovered));
        }
        Ok(None) => {
            let found = "not compared, because the ledger is long: `verify` does";
            findings.push(Finding::ok("accounts", found));
        }
        Err(error) => findings.push(Finding::failed("accounts", &error)),
    }
}

/// Numbers that providers report and that this program does not know: one finding for each provider.
async fn unknown_usage(known: &Known) -> Vec<Finding> {
    let numbers = match storage::unknown_usage::all(&known.database).await {
        Ok(numbers) => numbers,
        Err(error) => return vec![Finding::failed("unknown usage", &error)],
    };
    let of_each = numbers.chunk_by(|(one, _), (other, _)| one == other);
    let finding = |numbers: &[(String, String)]| {
        let fields: Vec<&str> = numbers.iter().map(|(_, field)| field.as_str()).collect();
        let provider = numbers.first().map_or("", |(provider, _)| provider.as_str());
        Finding::warning(
            "unknown usage",
            format!("{provider} reports numbers that are not known and not charged: {}", fields.join(", ")),
            "see in its documentation whether they cost anything; if they do, please report it to this project",
        )
    };
    of_each.map(finding).collect()
}

/// What `verify` finds, unless the ledger is too long.
async fn verified(known: &Known) -> Result<Option<Verification>, storage::Error> {
    if !health::is_short(&known.database, MOST_ROWS).await? {
        return Ok(None);
    }
    verify::verify(&known.database).await.map(Some)
}

fn accounts(verified: &Verification) -> Finding {
    match verified.differences.len() {
        0 if verified.texts_removed > 0 => Finding::warning(
            "accounts",
            format!(
                "{} agree with the ledger; {} entries are without their labels, because the database refused those",
                verified.accounts, verified.texts_removed
            ),
            "amounts are right; if it goes on, see whether the database's encoding is UTF-8",
        ),
        0 => Finding::ok("accounts", format!("{} agree with the ledger", verified.accounts)),
        different => Finding::problem(
            "accounts",
            format!("{different} differ from the ledger"),
            "`owui-token-tracking verify` shows where",
        ),
    }
}

/// What was charged for processes that died, and what became of it.
fn recovered(recovered: &Recovered) -> Option<Finding> {
    let Recovered { requests, corrected_by_owner, changed_by_recovery } = recovered;
    if changed_by_recovery.count > 0 {
        return Some(Finding::warning(
            "recovered charges",
            format!(
                "{} charges were changed at a guess by version 0.2.0, by {} credits",
                changed_by_recovery.count, changed_by_recovery.credits
            ),
            "`owui-token-tracking verify` says more; `credits grant` and `credits revoke` can make up for it",
        ));
    }
    (requests.count > 0).then(|| {
        let found = format!(
            "{} requests of processes that died or were away, {} credits; their owners corrected {}",
            requests.count, requests.credits, corrected_by_owner.count
        );
        Finding::ok("recovered charges", found)
    })
}
