use http::{HeaderName, HeaderValue};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a secret that both sides know";
/// Far in the future, in seconds since 1970: the year 2100.
const LATER: u64 = 4_102_444_800;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn identity(secrets: &[&str]) -> Identity {
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    Identity::new(HeaderNames::default(), &secrets, None, Arc::new(storage::SystemClock))
}

fn token(claims: &Value, secret: &str) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn claims() -> Value {
    json!({"sub": "ann", "email": "ann@example.com", "name": "Ann Müller", "role": "user", "iss": "open-webui",
           "iat": 1, "exp": LATER})
}

fn signed_by(identity: &Identity, token: &str) -> Result<KnownUser, &'static str> {
    let headers = headers(&[("X-OpenWebUI-User-Jwt", token)]);
    identity.user(&Access::Forwarding, &headers).map_err(|error| {
        assert_eq!(error.status, 401);
        error.code
    })
}

#[test]
fn a_signed_user() {
    let user = signed_by(&identity(&[SECRET]), &token(&claims(), SECRET)).unwrap();
    let expected = KnownUser {
        id: UserId::new("ann").unwrap(),
        name: "Ann Müller".into(),
        email: "ann@example.com".into(),
    };
    assert_eq!(user, expected);
}

#[test]
fn both_secrets_of_a_rotation() {
    let both = identity(&["old", "new"]);
    for secret in ["old", "new"] {
        assert!(signed_by(&both, &token(&claims(), secret)).is_ok());
    }
    assert_eq!(signed_by(&both, &token(&claims(), "older")), Err("identity_invalid"));
}

#[test]
fn every_forgery_is_refused() {
    let identity = identity(&[SECRET]);
    let without = |claim: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        token(&claims, SECRET)
    };
    let with = |claim: &str, value: Value| {
        let mut claims = claims();
        claims[claim] = value;
        token(&claims, SECRET)
    };
    let good = token(&claims(), SECRET);
    let (head, signature) = good.rsplit_once('.').unwrap();
    // {"alg":"none","typ":"JWT"}
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", head.split_once('.').unwrap().1);
    let critical = |names: &[&str]| {
        let names = names.iter().map(ToString::to_string).collect();
        let header = Header { crit: Some(names), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    };
    let other_algorithm =
        encode(&Header::new(Algorithm::HS512), &claims(), &EncodingKey::from_secret(SECRET.as_bytes()))
            .unwrap();
    for (what, token) in [
        ("another secret", token(&claims(), "guess")),
        ("no signature", format!("{head}.")),
        ("a changed signature", format!("{head}.{}", signature.chars().rev().collect::<String>())),
        ("alg none", unsigned),
        ("another algorithm", other_algorithm),
        ("expired", with("exp", json!(1_000_000_000))),
        ("expired, with a fraction", with("exp", json!(1_000_000_000.5))),
        ("no expiry", without("exp")),
        ("an expiry that is no number", with("exp", json!("4102444800"))),
        ("an expiry before all times", with("exp", json!(-1e300))),
        ("not valid yet", with("nbf", json!(LATER))),
        ("not valid yet, with a fraction", with("nbf", json!(4_102_444_800.5))),
        ("a beginning that is no number", with("nbf", json!("soon"))),
        ("an unknown extension", critical(&["b64"])),
        ("no extension at all", critical(&[])),
        ("another issuer", with("iss", json!("somebody"))),
        ("no issuer", without("iss")),
        ("no subject", without("sub")),
        ("nonsense", "x.y.z".to_owned()),
    ] {
        assert_eq!(signed_by(&identity, &token), Err("identity_invalid"), "{what}");
    }
    let empty =
        identity.user(&Access::Forwarding, &headers(&[("X-OpenWebUI-User-Jwt", &with("sub", json!("")))]));
    assert_eq!(empty.unwrap_err().status, 400);
}

/// A NumericDate may have a fraction or an exponent (RFC 7519, 2).
#[test]
fn times_are_any_numbers() {
    let identity = identity(&[SECRET]);
    for (claim, number) in [
        ("exp", "4102444800.5"),
        ("exp", "4.1024448e9"),
        ("exp", "1e300"),
        ("nbf", "1000000000.25"),
        ("nbf", "-1.5"),
        ("iat", "1795575600.123456"),
    ] {
        let mut claims = claims();
        claims[claim] = serde_json::from_str(number).unwrap();
        assert!(signed_by(&identity, &token(&claims, SECRET)).is_ok(), "{claim} {number}");
    }
}

#[test]
fn plain_headers_only_where_nothing_is_signed() {
    let plain = headers(&[
        ("X-OpenWebUI-User-Id", "ann"),
        ("X-OpenWebUI-User-Name", "Ann%20M%C3%BCller"),
        ("X-OpenWebUI-User-Email", "ann@example.com"),
    ]);
    let user = identity(&[]).user(&Access::Forwarding, &plain).unwrap();
    assert_eq!((user.id.as_str(), user.name.as_str()), ("ann", "Ann Müller"));
    let refused = identity(&[SECRET]).user(&Access::Forwarding, &plain).unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (401, "identity_not_signed"));
    assert_eq!(signed_by(&identity(&[]), &token(&claims(), SECRET)), Err("identity_not_verifiable"));
}

#[test]
fn a_bound_key_is_its_user_and_names_nobody() {
    let bound = Access::Bound(UserId::new("bob").unwrap());
    assert_eq!(identity(&[]).user(&bound, &HeaderMap::new()).unwrap().id.as_str(), "bob");
    for header in [("X-OpenWebUI-User-Id", "ann"), ("X-OpenWebUI-User-Jwt", "x.y.z")] {
        let refused = identity(&[]).user(&bound, &headers(&[header])).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (401, "identity_not_allowed"));
    }
}

#[test]
fn nobody_is_somebody_only_if_the_administrator_says_so() {
    assert_eq!(identity(&[]).user(&Access::Forwarding, &HeaderMap::new()).unwrap_err().code, "no_user");
    let named = Identity::new(
        HeaderNames::default(),
        &[],
        Some(UserId::new("guest").unwrap()),
        Arc::new(storage::SystemClock),
    );
    assert_eq!(named.user(&Access::Forwarding, &HeaderMap::new()).unwrap().id.as_str(), "guest");
}

#[test]
fn broken_headers_are_named() {
    let twice = headers(&[("X-OpenWebUI-User-Id", "ann"), ("X-OpenWebUI-User-Id", "bob")]);
    let mut invalid = HeaderMap::new();
    invalid.insert("X-OpenWebUI-User-Id", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    for broken in [twice, invalid] {
        let refused = identity(&[]).user(&Access::Forwarding, &broken).unwrap_err();
        assert_eq!(refused.status, 400);
        assert!(refused.message.contains("X-OpenWebUI-User-Id"), "{}", refused.message);
    }
}

#[test]
fn labels_of_chats_and_tasks() {
    let headers = headers(&[
        ("X-Tracking-Model", "dept---gpt"),
        ("X-Tracking-Task", ""),
        ("X-Tracking-Message", "{{MESSAGE_ID}}"),
        ("X-OpenWebUI-Chat-Id", "c1"),
    ]);
    let labels = |access: &Access| identity(&[]).labels(access, &headers, WayIn::Gateway).unwrap();
    let expected = Labels {
        way_in: WayIn::Gateway,
        task: None,
        chat_id: Some("c1".into()),
        message_id: None,
        workspace_model: Some("dept---gpt".into()),
    };
    assert_eq!(labels(&Access::Forwarding), expected);
    let bound = Access::Bound(UserId::new("ann").unwrap());
    assert_eq!(labels(&bound), Labels { workspace_model: None, ..expected });
}

/// What Open WebUI 0.12.4 really sent.
#[test]
fn headers_of_a_real_open_webui() {
    let calls: Value =
        serde_json::from_str(include_str!("../../tests/fixtures/forwarded_headers.json")).unwrap();
    let mut seen = 0;
    for (name, calls) in calls.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("plain:")) {
        for call in calls.as_array().unwrap() {
            let sent: Vec<(&str, &str)> = call["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                .collect();
            let user = identity(&[]).user(&Access::Forwarding, &headers(&sent)).unwrap();
            assert_eq!(user.id.as_str().len(), 36, "{name}");
            assert!(user.email.contains('@'));
            seen += 1;
        }
    }
    assert!(seen >= 4, "the fixture holds calls");
}
