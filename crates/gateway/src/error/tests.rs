//! Which status, code and headers each error has, and what it says.

use std::time::Duration;

use accounting::{AccountKey, UserId};

use super::*;

fn limit(needs: Option<Credits>) -> MeterError {
    MeterError::LimitReached(Box::new(LimitReached {
        account: AccountKey::User { day: "2026-11-24".parse().unwrap(), user: UserId::new("ann").unwrap() },
        limit: Credits::from_whole(1000).unwrap(),
        spent: Credits::from_micro(1_000_500_000),
        needs,
        resets_at: Some("2026-11-24T23:00:00Z".parse().unwrap()),
        resets_text: Some("2026-11-25 00:00:00 CET".into()),
        seconds: Some(77),
        free_models: vec!["llama".into()],
    }))
}

#[test]
fn every_error_has_its_status_and_code() {
    let provider = MeterError::Provider;
    for (error, status, code, retry_after) in [
        (
            MeterError::BadRequest { message: "m".into(), param: None, details: None },
            400,
            "invalid_request",
            None,
        ),
        (MeterError::UnknownModel { model: "m".into(), meant: vec![] }, 404, "model_not_found", None),
        (MeterError::Unpriced { provider: "p".into(), model: "m".into() }, 403, "model_not_priced", None),
        (MeterError::UnusablePrice { message: "m".into() }, 403, "price_not_usable", None),
        (MeterError::Misconfigured { message: "m".into() }, 503, "misconfigured", Some(60)),
        (MeterError::UnknownUser { user: "u".into() }, 403, "user_not_found", None),
        (MeterError::NoAllowance, 403, "no_allowance", None),
        (MeterError::NotSponsored { message: "m".into() }, 403, "not_sponsored", None),
        (limit(None), 402, "insufficient_quota", None),
        (MeterError::Busy, 429, "busy", Some(5)),
        (MeterError::TooManyRequests, 429, "too_many_requests", Some(5)),
        (MeterError::Unavailable { what: "x".into() }, 503, "unavailable", Some(5)),
        (MeterError::Internal { what: "secret".into() }, 500, "internal_error", None),
        (provider(ProviderError::NotConnected), 502, "provider_unreachable", None),
        (provider(ProviderError::TimedOut { before_output: true }), 504, "provider_timed_out", None),
        (
            provider(ProviderError::RateLimited {
                retry_after: Some(Duration::from_secs(9)),
                said: Said::default(),
            }),
            429,
            "provider_rate_limited",
            Some(9),
        ),
        (
            provider(ProviderError::Rejected { status: 422, said: Said::default() }),
            422,
            "provider_rejected",
            None,
        ),
        (provider(ProviderError::OurKey { status: 401 }), 502, "provider_refuses_service", None),
        (
            provider(ProviderError::Failed { status: 500, said: Said::default() }),
            502,
            "provider_failed",
            None,
        ),
        (
            provider(ProviderError::Overloaded { status: 529, retry_after: None, said: Said::default() }),
            503,
            "provider_overloaded",
            Some(5),
        ),
        (
            provider(ProviderError::Reported {
                error: Box::new(ProviderError::OurKey { status: 400 }),
                usage: None,
            }),
            502,
            "provider_refuses_service",
            None,
        ),
        (provider(ProviderError::Unreadable { what: "x" }), 502, "provider_answer_invalid", None),
        (provider(ProviderError::NoRoom { read: 1 }), 503, "answer_too_large", None),
        (provider(ProviderError::BadAnswer { what: "html" }), 502, "provider_answer_invalid", None),
        (provider(ProviderError::Broken { what: "x".into() }), 502, "provider_failed", None),
    ] {
        let api = ApiError::of_meter(error.clone(), None);
        assert_eq!(
            (api.status.as_u16(), api.code, api.retry_after),
            (status, code, retry_after),
            "{error:?}"
        );
        assert!(!api.message.contains("secret"));
    }
}

#[test]
fn only_what_may_pass_invites_to_try_again_and_soon() {
    let status = |status| ApiError::new(StatusCode::from_u16(status).unwrap(), "kind", "code", "words");
    for (error, again) in [
        (status(400), false),
        (status(401), false),
        (status(402), false),
        (status(403), false),
        (status(404), false),
        (status(405), false),
        (status(409), true),
        (status(413), false),
        (status(422), false),
        (status(429).after(90_000), true),
        (status(500), true),
        (status(502), true),
        (status(503).after(5), true),
        (ApiError { final_answer: true, ..status(503) }, false),
    ] {
        let wait = error.retry_after;
        let response = error.into_response();
        let (status, headers) = (response.status(), response.headers());
        assert_eq!(headers.get("x-should-retry").is_none(), again, "{status}");
        assert_eq!(headers.contains_key("retry-after"), wait.is_some(), "{status}");
        let told = headers.get("retry-after").map_or(0, |wait| wait.to_str().unwrap().parse().unwrap());
        assert!(told <= LONGEST_WAIT, "{status}");
    }
}

#[test]
fn what_is_left_and_less_than_a_credit_serves_nobody_and_says_so() {
    let MeterError::LimitReached(mut reached) = limit(None) else { panic!("another error") };
    for (spent, says) in [(999_500_000, true), (1_000_000_000, false), (999_000_000, false)] {
        reached.spent = Credits::from_micro(spent);
        let message = ApiError::of_meter(MeterError::LimitReached(reached.clone()), None).message;
        assert_eq!(message.contains("at least one free credit"), says, "{message}");
    }
}

#[test]
fn a_limit_says_which_how_much_when_whom_and_what_else() {
    let api = ApiError::of_meter(limit(None), Some("help@example.org"));
    assert_eq!(
        &*api.message,
        "Your daily credit limit is reached: 1000.5 of 1000 credits are spent. It resets at 2026-11-25 00:00:00 CET. \
         Ask help@example.org for more credits. These models cost nothing: llama."
    );
    let fields = api.fields();
    assert_eq!((&fields["resets_at"], &fields["resets_in"]), (&json!("2026-11-24T23:00:00Z"), &json!(77)));
    assert!(!api.into_response().headers().contains_key("retry-after"));
    assert!(ApiError::of_meter(limit(Some(Credits::ONE)), None).message.contains("it may need 1."));
}
