//! Prices as the database keeps them.
//!
//! The rule it protects: a price with a kind of usage that this program does not know is no price here. To charge it as if
//! that kind were not there would be too little; a newer version has to serve its model.

use accounting::{Price, Rate, Tier};
use serde_json::Value;

use crate::Error;

/// Reads one; `what` it is the price of.
///
/// # Errors
/// [`Error::NewerData`] if a newer version wrote it; `wrong` if nobody could.
pub(crate) fn read(text: &str, what: &str, wrong: Error) -> Result<Price, Error> {
    match serde_json::from_str::<Price>(text) {
        Ok(price) => price.checked().map_err(|_| wrong),
        Err(_) => {
            let unknown = serde_json::from_str(text).map(|price| unknown_keys(&price)).unwrap_or_default();
            match unknown.as_slice() {
                [] => Err(wrong),
                keys => {
                    Err(Error::NewerData { what: format!("the price of {what}"), value: keys.join(", ") })
                }
            }
        }
    }
}

/// The keys that this program does not know, at any level.
fn unknown_keys(price: &Value) -> Vec<String> {
    // Named one by one, so that a new field can't be forgotten here.
    let rate = || Some(Rate::FREE);
    let level = Price {
        input: Rate::FREE,
        output: Rate::FREE,
        cached_input: rate(),
        cache_write: rate(),
        cache_write_long: rate(),
        input_audio: rate(),
        reasoning: rate(),
        output_audio: rate(),
        images: rate(),
        calls: rate(),
        tiers: Vec::new(),
    };
    let known = Price { tiers: vec![Tier { above_input: 0, price: level.clone() }], ..level };
    let mut unknown = Vec::new();
    if let Ok(known) = serde_json::to_value(&known) {
        compare(price, &known, &mut unknown);
    }
    unknown.sort();
    unknown.dedup();
    unknown
}

fn compare(found: &Value, known: &Value, unknown: &mut Vec<String>) {
    match (found, known) {
        (Value::Object(found), Value::Object(known)) => {
            for (key, value) in found {
                match known.get(key) {
                    Some(known) => compare(value, known, unknown),
                    None => unknown.push(format!("`{key}`")),
                }
            }
        }
        (Value::Array(found), Value::Array(known)) => {
            found.iter().zip(known.iter().cycle()).for_each(|(found, known)| compare(found, known, unknown));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_told_from_what_is_wrong() {
        let wrong = || Error::Invalid { what: "wrong".into() };
        let read = |text: &str| read(text, "m", wrong());
        let rate = r#"{"credits":"1","per":1000}"#;
        assert!(read(&format!(r#"{{"input":{rate},"output":{rate}}}"#)).is_ok());
        for (text, value) in [
            (format!(r#"{{"input":{rate},"output":{rate},"searches":{rate}}}"#), "`searches`"),
            (format!(r#"{{"input":{{"credits":"1","per":1,"unit":"kB"}},"output":{rate}}}"#), "`unit`"),
            (
                format!(
                    r#"{{"input":{rate},"output":{rate},"tiers":[{{"above_input":1,"from_hour":2,"price":{{"input":{rate},"output":{rate},"pages":{rate}}}}}]}}"#
                ),
                "`from_hour`, `pages`",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(matches!(&error, Error::NewerData { value: found, .. } if found == value), "{error}");
        }
        for text in ["", "7", "{}", r#"{"input":1,"output":2}"#] {
            assert!(matches!(read(text), Err(Error::Invalid { .. })), "{text}");
        }
    }
}
