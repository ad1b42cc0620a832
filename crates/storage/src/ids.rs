//! New ids.

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

fn looks_like_a_number(hex: &str) -> bool {
    hex.bytes().all(|byte| byte.is_ascii_digit() || byte == b'e')
        && hex.bytes().filter(|byte| *byte == b'e').count() < 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_recognised() {
        assert!(looks_like_a_number("01234567890123456789012345678901"));
        assert!(looks_like_a_number("0123456789012345e789012345678901"));
        assert!(!looks_like_a_number("0123456789a12345e789012345678901"));
        assert!(!looks_like_a_number("0e23456789012345e789012345678901"));
    }
}
