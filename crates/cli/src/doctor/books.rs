//! What is granted and what is booked: the base allowance, holds of dead processes, accounts.

use storage::reports::{health, verify};

use super::{Finding, Known};

/// Longer ledgers are left to `verify`.
const MOST_ROWS: i64 = 100_000;

pub(super) async fn check(known: &Known, findings: &mut Vec<Finding>) {
    findings.push(match known.snapshot.settings().base_credit_allowance {
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
    findings.push(accounts(known).await.unwrap_or_else(|error| Finding::failed("accounts", &error)));
}

async fn accounts(known: &Known) -> Result<Finding, storage::Error> {
    if !health::is_short(&known.database, MOST_ROWS).await? {
        return Ok(Finding::ok("accounts", "not compared, because the ledger is long: `verify` does"));
    }
    let verified = verify::verify(&known.database).await?;
    Ok(match verified.differences.len() {
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
    })
}
