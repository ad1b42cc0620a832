//! New ids.

use jiff::Timestamp;
use uuid::Uuid;

/// A new id (UUIDv7) that SQLite can't take for a number.
///
/// SQLite gives a column declared `UUID` numeric affinity: 32 hex digits that are all decimal, or decimal but for one `e`,
/// would be stored as a number. Such an id is drawn again.
#[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
pub fn new_id() -> Uuid {
    loop {
        let id = Uuid::now_v7();
        if !looks_like_a_number(&id.simple().to_string()) {
            return id;
        }
    }
}

/// A new id as if it had been made at that moment, so that ids stay in the order of time.
pub(crate) fn id_at(moment: Timestamp) -> Uuid {
    let milliseconds = u64::try_from(moment.as_millisecond()).unwrap_or_default();
    let (seconds, rest) = (milliseconds / 1000, u32::try_from(milliseconds % 1000).unwrap_or_default());
    loop {
        let at = uuid::Timestamp::from_unix(uuid::NoContext, seconds, rest * 1_000_000);
        let id = Uuid::new_v7(at);
        if !looks_like_a_number(&id.simple().to_string()) {
            return id;
        }
    }
}

fn looks_like_a_number(hex: &str) -> bool {
    hex.bytes().all(|byte| byte.is_ascii_digit() || byte == b'e')
        && hex.bytes().filter(|byte| *byte == b'e').count() < 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_past_stand_in_the_order_of_time() {
        let ids: Vec<Uuid> = ["1969-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2025-02-19T13:16:21.441366Z"]
            .map(|moment| id_at(moment.parse().unwrap()))
            .into();
        assert!(ids[1] < ids[2] && ids[2] < new_id());
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
    }

    #[test]
    fn numbers_are_recognised() {
        assert!(looks_like_a_number("01234567890123456789012345678901"));
        assert!(looks_like_a_number("0123456789012345e789012345678901"));
        assert!(!looks_like_a_number("0123456789a12345e789012345678901"));
        assert!(!looks_like_a_number("0e23456789012345e789012345678901"));
    }
}
