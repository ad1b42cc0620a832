use proptest::prelude::*;

use super::*;
use crate::{Day, Price, Usage, UserId, charge};

fn key(user: u8) -> AccountKey {
    let day: Day = "2026-11-24".parse().unwrap();
    AccountKey::User { day, user: UserId::new(format!("user{user}")).unwrap() }
}

fn credits(whole: i64) -> Credits {
    Credits::from_whole(whole).unwrap()
}

fn bid(user: u8, limit: i64, quote: Quote) -> Bid {
    Bid { accounts: vec![AccountLimit { account: key(user), limit: Some(credits(limit)) }], quote }
}

fn decide_all(bids: &[Bid], accounts: &mut HashMap<AccountKey, Account>) -> Vec<Decision> {
    admit(bids, accounts).into_iter().map(|decision| decision.unwrap()).collect()
}

fn held(amount: i64) -> Decision {
    Decision::Hold { amount: credits(amount), output_tokens: None }
}

fn worst(input: i64, output_tokens: u64) -> Quote {
    Quote::Worst(Worst {
        input: credits(input),
        output: Rate::new(Credits::ONE, 100),
        output_tokens,
        choices: 1,
        least_output_tokens: 256,
    })
}

#[test]
fn one_credit_holds_at_most_what_is_free_and_then_makes_wait() {
    let mut accounts = HashMap::new();
    let three = vec![bid(1, 10, Quote::Estimate(credits(7))); 3];
    assert_eq!(decide_all(&three, &mut accounts), [held(7), held(3), Decision::Wait]);
}

#[test]
fn one_credit_refuses_when_the_limit_is_spent() {
    let spent = Credits::from_micro(9_000_001);
    let mut accounts = HashMap::from([(key(1), Account { spent, held: Credits::ZERO })]);
    let refusal = Refusal { account: key(1), limit: credits(10), spent, needs: None };
    let one = [bid(1, 10, Quote::Estimate(credits(1)))];
    assert_eq!(decide_all(&one, &mut accounts), [Decision::Refuse(refusal)]);
}

#[test]
fn free_requests_pass_at_any_balance_and_past_any_queue() {
    let spent = credits(99);
    let mut accounts = HashMap::from([(key(1), Account { spent, held: credits(5) })]);
    let bids = [bid(1, 100, Quote::Estimate(credits(1))), bid(1, 100, Quote::Free), bid(1, 10, Quote::Free)];
    assert_eq!(decide_all(&bids, &mut accounts), [Decision::Wait, held(0), held(0)]);
}

#[test]
fn a_lowered_limit_refuses_instead_of_waiting() {
    let mut accounts = HashMap::from([(key(1), Account { spent: credits(50), held: credits(5) })]);
    let one = [bid(1, 10, Quote::Estimate(credits(1)))];
    assert!(matches!(decide_all(&one, &mut accounts)[..], [Decision::Refuse(_)]));
}

#[test]
fn all_accounts_or_none() {
    let mut both = bid(1, 10, Quote::Estimate(credits(5)));
    both.accounts.push(AccountLimit { account: key(2), limit: Some(credits(0)) });
    let mut accounts = HashMap::new();
    assert!(matches!(decide_all(&[both], &mut accounts)[..], [Decision::Refuse(_)]));
    assert!(accounts.is_empty());
}

#[test]
fn of_several_limits_that_refuse_the_last_is_named() {
    let mut three = bid(1, 10, Quote::Estimate(credits(1)));
    let more = [(2, 5), (3, 100)].map(|(user, limit)| bid(user, limit, Quote::Free).accounts.remove(0));
    three.accounts.extend(more);
    // The first is passed by more; it starts afresh before the second does.
    let mut accounts = HashMap::from(
        [(1, 90), (2, 5), (3, 95)]
            .map(|(user, spent)| (key(user), Account { spent: credits(spent), held: Credits::ZERO })),
    );
    let refusal = Refusal { account: key(2), limit: credits(5), spent: credits(5), needs: None };
    assert_eq!(decide_all(&[three], &mut accounts), [Decision::Refuse(refusal)]);
}

#[test]
fn nobody_overtakes_on_a_shared_account() {
    let mut accounts = HashMap::from([(key(1), Account { spent: Credits::ZERO, held: credits(10) })]);
    let mut both = bid(1, 10, Quote::Estimate(credits(1)));
    both.accounts.push(AccountLimit { account: key(2), limit: Some(credits(10)) });
    let bids = [both, bid(2, 10, Quote::Estimate(credits(1))), bid(3, 10, Quote::Estimate(credits(1)))];
    assert_eq!(decide_all(&bids, &mut accounts), [Decision::Wait, Decision::Wait, held(1)]);
}

#[test]
fn strict_lowers_the_output_to_what_is_free() {
    let mut accounts = HashMap::new();
    let decisions = decide_all(&[bid(1, 10, worst(2, 600)), bid(1, 10, worst(2, 600))], &mut accounts);
    assert_eq!(decisions[0], Decision::Hold { amount: credits(8), output_tokens: Some(600) });
    // Two credits are left: the input alone takes them, so the second waits for the first.
    assert_eq!(decisions[1], Decision::Wait);
    let lowered = decide_all(&[bid(2, 6, worst(2, 600))], &mut accounts);
    assert_eq!(lowered, [Decision::Hold { amount: credits(6), output_tokens: Some(400) }]);
}

#[test]
fn strict_refuses_what_it_can_never_cover() {
    let mut accounts = HashMap::new();
    let needs = Some(Credits::from_micro(4_560_000));
    let refusal = Refusal { account: key(1), limit: credits(4), spent: Credits::ZERO, needs };
    assert_eq!(decide_all(&[bid(1, 4, worst(2, 600))], &mut accounts), [Decision::Refuse(refusal)]);
    // A request that wants less than the least length needs no more than it wants.
    let short = Decision::Hold { amount: credits(3), output_tokens: Some(100) };
    assert_eq!(decide_all(&[bid(1, 3, worst(2, 100))], &mut accounts), [short]);
}

#[test]
fn an_overflow_fails_alone() {
    let mut accounts = HashMap::from([(key(1), Account { spent: Credits::ZERO, held: Credits::MAX })]);
    let mut unlimited = bid(1, 0, Quote::Estimate(credits(5)));
    unlimited.accounts[0].limit = None;
    let results = admit(&[unlimited, bid(2, 10, Quote::Estimate(credits(5)))], &mut accounts);
    assert_eq!(results, [Err(Error::Overflow), Ok(held(5))]);
}

fn quotes() -> impl Strategy<Value = Quote> {
    prop_oneof![
        (1_i64..20_000_000).prop_map(|micro| Quote::Estimate(Credits::from_micro(micro))),
        Just(Quote::Free),
        (0_i64..5, 0_u64..2000).prop_map(|(input, tokens)| worst(input, tokens)),
    ]
}

fn bids() -> impl Strategy<Value = Vec<Bid>> {
    let one = (prop::collection::btree_set(0_u8..4, 1..3), quotes()).prop_map(|(users, quote)| Bid {
        accounts: users
            .into_iter()
            .map(|user| AccountLimit { account: key(user), limit: Some(credits(10 * i64::from(user))) })
            .collect(),
        quote,
    });
    prop::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn holds_never_exceed_a_limit_and_add_up(bids in bids()) {
        let mut accounts = HashMap::new();
        let decisions = admit(&bids, &mut accounts);
        for user in 0..4 {
            let state = accounts.get(&key(user)).copied().unwrap_or_default();
            prop_assert!(state.held <= credits(10 * i64::from(user)));
            let sum = Credits::total(bids.iter().zip(&decisions).filter_map(|(bid, decision)| match decision {
                Ok(Decision::Hold { amount, .. }) if bid.accounts.iter().any(|a| a.account == key(user)) => Some(*amount),
                _ => None,
            }));
            prop_assert_eq!(Ok(state.held), sum);
        }
    }

    #[test]
    fn a_hold_covers_the_output_it_allows(input in 0_i64..5, tokens in 0_u64..5000, limit in 0_i64..40) {
        let Quote::Worst(worst) = worst(input, tokens) else { unreachable!() };
        let bid = bid(1, limit, Quote::Worst(worst.clone()));
        if let [Ok(Decision::Hold { amount, output_tokens: Some(allowed) })] = &admit(&[bid], &mut HashMap::new())[..] {
            let price = Price::new(Rate::FREE, worst.output);
            let cost = charge(&price, &Usage::tokens(0, *allowed)).unwrap().plus(worst.input).unwrap();
            prop_assert!(cost <= *amount && *amount <= credits(limit) && *allowed <= tokens);
        }
    }

    #[test]
    fn nobody_is_served_while_an_earlier_one_waits_on_the_same_account(bids in bids()) {
        let mut accounts = HashMap::new();
        let decisions = admit(&bids, &mut accounts);
        for (first, early) in bids.iter().enumerate().filter(|(i, _)| decisions[*i] == Ok(Decision::Wait)) {
            for (late, decision) in bids.iter().zip(&decisions).skip(first + 1) {
                let shared = late.accounts.iter().any(|a| early.accounts.contains(a));
                let held = matches!(decision, Ok(Decision::Hold { .. })) && late.quote != Quote::Free;
                prop_assert!(!(shared && held));
            }
        }
    }
}
