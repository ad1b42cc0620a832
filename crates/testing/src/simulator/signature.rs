//! Signatures of reasoning, as real servers hand them out: opaque base64, which comes back unchanged or is refused.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of a signature; a multiple of four, so that it is whole base64.
const LENGTH: usize = 152;
/// Characters that hold the seed.
const SEED: u32 = 11;

/// The signature of a text.
pub(super) fn of_text(text: &str) -> String {
    // FNV-1a.
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    of_seed(text.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}

fn of_seed(seed: u64) -> String {
    let mut signature = String::with_capacity(LENGTH);
    (0..SEED).for_each(|at| push(&mut signature, seed >> (6 * at)));
    let mut state = seed | 1;
    while signature.len() < LENGTH {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        push(&mut signature, state >> 20);
    }
    signature
}

fn push(signature: &mut String, bits: u64) {
    let at = usize::try_from(bits & 63).unwrap_or_default();
    signature.extend(ALPHABET.get(at).map(|byte| char::from(*byte)));
}

/// Whether the simulator made it, for whatever text. Clients may write base64 in its form for URLs.
pub(super) fn is_ours(signature: &str) -> bool {
    let signature = signature.replace('-', "+").replace('_', "/");
    let mut seed = 0;
    for (at, byte) in (0..SEED).zip(signature.bytes()) {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte) else { return false };
        seed |= (value as u64) << (6 * at);
    }
    signature == of_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_are_ours() {
        let one = of_text("Let me think");
        assert!(is_ours(&one) && is_ours(&one.replace('+', "-").replace('/', "_")));
        assert_ne!(one, of_text("Let me think."));
        for other in ["", "abc", &one[1..], &one.replacen(&one[40..41], "=", 1)] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
