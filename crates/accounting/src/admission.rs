//! Who may send a request: the rules of both policies, decided over loaded accounts for a whole batch in the order of
//! arrival.
//!
//! * `one_credit`: sent if every account has at least one free credit; the hold is the estimate, at most what is free.
//! * `strict`: the hold is the worst case; the output is lowered to what the free credits buy, down to a least length.
//! * Where only other holds stand in the way, the request waits, and nobody who came later overtakes it.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::{Account, AccountKey, AccountLimit, Credits, Error, Rate, usage_bought};

/// The rule by which requests are admitted (setting `admission_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Sent while at least one credit is free; the last admitted request may exceed the limit.
    OneCredit,
    /// Sent only if its worst case is covered; the limit is never exceeded.
    Strict,
}

/// What a request may cost, as known before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quote {
    /// Nothing: sent at any balance, holds nothing.
    Free,
    /// About that much (policy `one_credit`).
    Estimate(Credits),
    /// At most that much (policy `strict`).
    Worst(Worst),
}

/// The worst case of a request under `strict`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worst {
    /// The cost of all input and of the call.
    pub input: Credits,
    /// The dearest rate of its output.
    pub output: Rate,
    /// Output tokens wanted for each choice.
    pub output_tokens: u64,
    /// How many choices (`n`); at least 1.
    pub choices: u64,
    /// Fewer output tokens for each choice than this are not worth sending.
    pub least_output_tokens: u64,
}

/// A request for credits: which accounts it draws on, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bid {
    /// The accounts, with the limits that hold for this request.
    pub accounts: Vec<AccountLimit>,
    /// What it may cost.
    pub quote: Quote,
}

/// What becomes of a bid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Admitted: `amount` is to be held on each of its accounts.
    Hold {
        /// The amount of the hold.
        amount: Credits,
        /// The output tokens for each choice that the hold covers, if the policy bounds them.
        output_tokens: Option<u64>,
    },
    /// Other holds stand in the way.
    Wait,
    /// Refused.
    Refuse(Refusal),
}

/// Why a bid is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The account that refuses.
    pub account: AccountKey,
    /// Its limit.
    pub limit: Credits,
    /// What has been spent on it.
    pub spent: Credits,
    /// What this request would need at least, if that, not the limit itself, is in the way.
    pub needs: Option<Credits>,
}

/// Decides a batch, first come first served, and notes the new holds in `accounts` (an absent account is an empty one).
///
/// An error concerns its own bid only.
pub fn admit<'a>(
    bids: impl IntoIterator<Item = &'a Bid>,
    accounts: &mut HashMap<AccountKey, Account>,
) -> Vec<Result<Decision, Error>> {
    // Accounts on which somebody waits: who comes later waits behind.
    let mut awaited: HashSet<&AccountKey> = HashSet::new();
    bids.into_iter()
        .map(|bid| {
            let mut decision = decide(bid, accounts)?;
            if matches!(decision, Decision::Hold { .. }) && bid.quote != Quote::Free {
                let behind = limited(bid).any(|(key, _)| awaited.contains(key));
                if behind {
                    decision = Decision::Wait;
                }
            }
            match &decision {
                Decision::Hold { amount, .. } => hold(bid, *amount, accounts)?,
                Decision::Wait => awaited.extend(limited(bid).map(|(key, _)| key)),
                Decision::Refuse(_) => {}
            }
            Ok(decision)
        })
        .collect()
}

fn decide(bid: &Bid, accounts: &HashMap<AccountKey, Account>) -> Result<Decision, Error> {
    // What the tightest limit leaves now, and what it would leave if nothing were held.
    let (mut free, mut could_have) = (Credits::MAX, Credits::MAX);
    for (key, limit) in limited(bid) {
        let account = accounts.get(key).copied().unwrap_or_default();
        free = free.min(account.free(limit)?);
        could_have = could_have.min(account.unspent(limit)?);
    }
    Ok(match &bid.quote {
        Quote::Free => Decision::Hold { amount: Credits::ZERO, output_tokens: None },
        Quote::Estimate(_) if could_have < Credits::ONE => refuse(bid, accounts, Credits::ONE)?,
        Quote::Estimate(_) if free < Credits::ONE => Decision::Wait,
        Quote::Estimate(estimate) => Decision::Hold { amount: (*estimate).min(free), output_tokens: None },
        Quote::Worst(worst) => {
            let least = worst.cost(worst.least_output_tokens.min(worst.output_tokens))?;
            if least > could_have {
                refuse(bid, accounts, least)?
            } else if least > free {
                Decision::Wait
            } else {
                let tokens = worst.affordable(free)?;
                Decision::Hold { amount: worst.cost(tokens)?, output_tokens: Some(tokens) }
            }
        }
    })
}

/// Names the last account that can't give `wanted`. Callers name those that start afresh soon first, so whoever waits for
/// this one to start afresh does not meet another.
fn refuse(bid: &Bid, accounts: &HashMap<AccountKey, Account>, wanted: Credits) -> Result<Decision, Error> {
    let mut decision = Decision::Wait;
    for (key, limit) in limited(bid) {
        let account = accounts.get(key).copied().unwrap_or_default();
        let left = account.unspent(limit)?;
        if left < wanted {
            let needs = (left >= Credits::ONE).then_some(wanted);
            decision = Decision::Refuse(Refusal { account: key.clone(), limit, spent: account.spent, needs });
        }
    }
    Ok(decision)
}

fn hold(bid: &Bid, amount: Credits, accounts: &mut HashMap<AccountKey, Account>) -> Result<(), Error> {
    let mut after = Vec::with_capacity(bid.accounts.len());
    for AccountLimit { account, .. } in &bid.accounts {
        let mut state = accounts.get(account).copied().unwrap_or_default();
        state.held = state.held.plus(amount)?;
        after.push((account, state));
    }
    for (account, state) in after {
        accounts.insert(account.clone(), state);
    }
    Ok(())
}

fn limited(bid: &Bid) -> impl Iterator<Item = (&AccountKey, Credits)> {
    bid.accounts.iter().filter_map(|limit| Some((&limit.account, limit.limit?)))
}

impl Worst {
    /// What it costs with that many output tokens for each choice.
    fn cost(&self, output_tokens: u64) -> Result<Credits, Error> {
        let tokens = output_tokens.checked_mul(self.choices).ok_or(Error::Overflow)?;
        let output =
            crate::charge(&crate::Price::new(Rate::FREE, self.output), &crate::Usage::tokens(0, tokens))?;
        self.input.plus(output)
    }

    /// The most output tokens for each choice that `free` credits pay, at most those wanted.
    fn affordable(&self, free: Credits) -> Result<u64, Error> {
        let wanted = self.output_tokens.checked_mul(self.choices).ok_or(Error::Overflow)?;
        let all = usage_bought(self.output, free.minus(self.input)?, wanted);
        Ok(all.checked_div(self.choices).unwrap_or(all))
    }
}

#[cfg(test)]
mod tests;
