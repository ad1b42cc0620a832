//! From a list's USD to credits. The list has binary fractions; here they become decimals, and no float is computed with.

use accounting::Credits;

const BILLION: i128 = 1_000_000_000;
const MICRO: i128 = 1_000_000;

/// USD, in whole billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Usd(i128);

impl Usd {
    /// What `per` cost, if `of` of them cost `usd`: the nearest billionth. `None` for what is no price.
    ///
    /// Lists name prices of a million tokens with up to six decimals; what is behind the ninth is the noise of binary
    /// fractions, such as in 0.18000000000000002.
    pub(super) fn of(usd: f64, of: u32, per: u32) -> Option<Self> {
        // Rust shows the shortest decimal that is this number, without an exponent.
        let text = usd.to_string();
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        let digits: i128 = format!("{whole}{part}").parse().ok()?;
        let scale = 10_i128.checked_pow(u32::try_from(part.len()).ok()?)?;
        let numerator = digits.checked_mul(BILLION)?.checked_mul(i128::from(per))?;
        let denominator = scale.checked_mul(i128::from(of))?;
        (digits >= 0).then(|| nearest(numerator, denominator)).flatten().map(Self)
    }

    /// In credits, at so many for one USD: the nearest microcredit; half of one is rounded up.
    pub(super) fn credits(self, per_usd: Credits) -> Option<Credits> {
        let micro = nearest(self.0.checked_mul(i128::from(per_usd.micro()))?, BILLION)?;
        i64::try_from(micro).ok().map(Credits::from_micro)
    }

    /// As people write it, without trailing zeros.
    pub(super) fn text(self) -> String {
        let text = format!("{}.{:09}", self.0 / BILLION, self.0 % BILLION);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The nearest whole number; half of one is rounded up.
fn nearest(numerator: i128, denominator: i128) -> Option<i128> {
    let twice = numerator.checked_mul(2)?.checked_add(denominator)?;
    twice.checked_div(denominator.checked_mul(2)?)
}

/// USD for a million of what costs that many credits, for people.
pub(super) fn shown(credits: Credits, per: u64, per_usd: Credits) -> Option<String> {
    let micro = i128::from(credits.micro()).checked_mul(MICRO)?.checked_mul(BILLION)?;
    let billionths = nearest(micro, i128::from(per).checked_mul(i128::from(per_usd.micro()))?)?;
    Some(Usd(billionths).text())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credits(text: &str) -> Credits {
        text.parse().unwrap()
    }

    #[test]
    fn noise_of_binary_fractions_is_no_price() {
        let million = |usd: f64| Usd::of(usd, 1_000_000, 1_000_000).unwrap().text();
        assert_eq!(million(0.180_000_000_000_000_02), "0.18");
        assert_eq!(million(1.039_999_999_999_999_8), "1.04");
        assert_eq!(million(0.0), "0");
        assert_eq!(million(600.0), "600");
        assert_eq!(Usd::of(0.0025, 1000, 1_000_000).unwrap().text(), "2.5");
        for no_price in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(Usd::of(no_price, 1, 1), None);
        }
    }

    #[test]
    fn halves_are_rounded_up() {
        let price = Usd::of(0.000_000_5, 1, 1).unwrap();
        assert_eq!(price.credits(credits("1")), Some(Credits::from_micro(1)));
        assert_eq!(price.credits(credits("0.999")), Some(Credits::ZERO));
        assert_eq!(price.credits(credits("3")), Some(Credits::from_micro(2)));
        assert_eq!(shown(credits("2500"), 1_000_000, credits("1000")).unwrap(), "2.5");
        assert_eq!(shown(credits("1"), 1000, credits("1000")).unwrap(), "1");
    }

    proptest! {
        /// A price as lists have it, whatever its binary fraction, is exactly that price.
        #[test]
        fn what_lists_name_is_read_exactly(millionths in 0_i64..2_000_000_000, of in 1_u32..10_000_000) {
            let text = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
            let listed = Usd::of(text.parse().unwrap(), 1_000_000, 1_000_000).unwrap();
            prop_assert_eq!(listed, Usd(i128::from(millionths) * 1000));
            // Nor does it depend on how many tokens were asked for.
            #[expect(clippy::float_arithmetic, reason = "as the list computes the price of so many tokens")]
            let asked = text.parse::<f64>().unwrap() * f64::from(of) / 1_000_000.0;
            prop_assert_eq!(Usd::of(asked, of, 1_000_000).unwrap(), listed);
        }

        /// Credits are the exact product, rounded once, half up.
        #[test]
        fn credits_are_rounded_once(billionths in 0_i128..10_000_000_000_000, rate in 1_i64..1_000_000_000_000) {
            let converted = i128::from(Usd(billionths).credits(Credits::from_micro(rate)).unwrap().micro());
            // 2 × |converted − exact| ≤ 1, and only upwards if equal; exact = billionths × rate / 10⁹.
            let twice_off = 2 * (converted * BILLION - billionths * i128::from(rate));
            prop_assert!(-BILLION < twice_off && twice_off <= BILLION, "{twice_off}");
        }
    }
}
