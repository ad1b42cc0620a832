//! A guess at the tokens of a text while it passes: for whoever has to settle it without having seen it.
//!
//! The rule it protects: what is charged for a stream of a process that died is neither systematically less nor more than what
//! was produced. Four bytes a token are right for English prose at best: JSON and formulas have twice as many tokens, Russian
//! half as many. So words, runs of digits and marks are counted as vocabularies cut them, in a few nanoseconds a byte.

use crate::families::{self, Family, Vocabulary};

/// What a character is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Space,
    Letter,
    Digit,
    Mark,
    Line,
    Foreign,
}

impl Kind {
    const fn of(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Self::Letter,
            b'0'..=b'9' => Self::Digit,
            b' ' | b'\t' => Self::Space,
            b'\n' | b'\r' => Self::Line,
            0..=0x7f => Self::Mark,
            _ => Self::Foreign,
        }
    }
}

/// What each byte is.
const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Space; 256];
    let mut byte = 0;
    while byte < kinds.len() {
        kinds[byte] = Kind::of(byte as u8);
        byte += 1;
    }
    kinds
};

/// Hundredths of a token, fitted to both vocabularies on texts such as those below.
const WORD: u64 = 100;
/// Of a word, each further so many letters count apart.
const LONG: u64 = 8;
/// For three digits.
const DIGITS: u64 = 100;
const MARK: u64 = 90;
const FURTHER_MARK: u64 = 25;
const LINE: u64 = 40;
/// Two spaces or more.
const INDENT: u64 = 50;

/// The tokens of a text that comes in pieces.
#[derive(Debug, Clone)]
pub(crate) struct Estimate {
    family: &'static Family,
    /// Hundredths of a token for more letters of a word, for a character of two bytes, and for one of more.
    letters: u64,
    two: u64,
    wide: u64,
    hundredths: u64,
    last: Kind,
    run: u64,
}

impl Estimate {
    /// Of what that model produces.
    pub(crate) fn of(model: &str) -> Self {
        let family = families::of(model);
        let (letters, two, wide) = match family.vocabulary {
            Vocabulary::O200k => (55, 30, 78),
            Vocabulary::Cl100k => (80, 65, 115),
        };
        Self { family, letters, two, wide, hundredths: 0, last: Kind::default(), run: 0 }
    }

    /// The next piece of the text. What it comes to with all before.
    pub(crate) fn add(&mut self, text: &str) -> u64 {
        for byte in text.bytes() {
            let kind = KINDS[usize::from(byte)];
            self.run = if kind == self.last { self.run + 1 } else { 1 };
            let first = self.run == 1;
            self.hundredths += match kind {
                Kind::Letter if first => WORD,
                Kind::Letter if self.run.is_multiple_of(LONG) => self.letters,
                Kind::Digit if self.run % 3 == 1 => DIGITS,
                Kind::Mark => {
                    if first {
                        MARK
                    } else {
                        FURTHER_MARK
                    }
                }
                Kind::Line if first => LINE,
                Kind::Space if self.run == 2 => INDENT,
                // The first byte of a character says how many it has.
                Kind::Foreign if byte >= 0xe0 => self.wide,
                Kind::Foreign if byte >= 0xc0 => self.two,
                _ => 0,
            };
            self.last = kind;
        }
        self.family.counted(self.hundredths.div_ceil(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [(&str, &str); 11] = [
        (
            "English",
            "The committee met again on Thursday afternoon, and although nobody had expected a decision, the chair proposed to vote at once. Most members agreed that further delay would only make matters worse; two of them asked for a written explanation, which the secretary promised to send before the weekend.",
        ),
        (
            "German",
            "Der Ausschuss trat am Donnerstagnachmittag erneut zusammen, und obwohl niemand mit einer Entscheidung gerechnet hatte, schlug die Vorsitzende eine sofortige Abstimmung vor. Die meisten Mitglieder waren der Ansicht, dass eine weitere Verzögerung alles nur schlimmer machen würde.",
        ),
        (
            "Russian",
            "Комитет снова собрался в четверг после обеда, и хотя никто не ожидал решения, председатель предложил немедленно проголосовать. Большинство членов согласилось, что дальнейшая задержка только ухудшит положение.",
        ),
        (
            "Arabic",
            "اجتمعت اللجنة مرة أخرى بعد ظهر يوم الخميس، ورغم أن أحدا لم يتوقع قرارا، اقترحت الرئيسة التصويت على الفور.",
        ),
        (
            "Chinese",
            "委员会星期四下午再次开会，虽然没有人预料到会作出决定，主席还是建议立即表决。大多数成员认为，继续拖延只会使情况变得更糟；其中两人要求书面解释，秘书答应在周末之前寄出。",
        ),
        (
            "Japanese",
            "委員会は木曜日の午後に再び開かれ、誰も決定を予想していなかったにもかかわらず、議長はただちに採決することを提案しました。ほとんどの委員は、これ以上の遅れは事態を悪化させるだけだと考えていました。",
        ),
        (
            "Rust",
            "fn pieces(mut text: &str) -> impl Iterator<Item = &str> {\n    std::iter::from_fn(move || {\n        if text.is_empty() {\n            return None;\n        }\n        let (piece, rest) = text.split_at(LONGEST.min(text.len()));\n        text = rest;\n        Some(piece)\n    })\n}\n",
        ),
        (
            "Python",
            "def mean(values):\n    total = 0.0\n    for index, value in enumerate(values):\n        if value is None:\n            raise ValueError(f\"no value at {index}\")\n        total += value\n    return total / len(values) if values else None\n\n\nprint(mean([1.5, 2.25, 3.125]))\n",
        ),
        (
            "JSON",
            "{\"city\":\"Basel\",\"coordinates\":{\"lat\":47.5596,\"lon\":7.5886},\"days\":[{\"date\":\"2026-11-30\",\"max\":6,\"min\":-1},{\"date\":\"2026-12-01\",\"max\":4,\"min\":-3}],\"unit\":\"C\"}",
        ),
        (
            "Markdown",
            "## Results\n\n| city | max | min |\n|---|---:|---:|\n| Basel | 6 | -1 |\n| Chur | 4 | -3 |\n\n1. **Basel** stays mild.\n2. *Chur* gets `frost`.\n\n- see https://example.org/weather?city=chur&day=2\n",
        ),
        (
            "LaTeX",
            "$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$ so that $\\sum_{k=1}^{n} k = \\frac{n(n+1)}{2}$ holds for $n \\geq 1$.",
        ),
    ];

    /// What the vocabulary of that model counts.
    fn counted(model: &str, text: &str) -> u64 {
        let vocabulary = match families::of(model).vocabulary {
            Vocabulary::Cl100k => tiktoken_rs::cl100k_base_singleton(),
            Vocabulary::O200k => tiktoken_rs::o200k_base_singleton(),
        };
        vocabulary.encode_ordinary(text).len() as u64
    }

    #[test]
    fn it_is_near_what_the_vocabulary_counts_in_any_script() {
        for model in ["gpt-4o", "gpt-4"] {
            let (mut guesses, mut counts) = (0, 0);
            for (what, text) in TEXTS {
                let (guess, count) = (Estimate::of(model).add(text), counted(model, text));
                assert!(100 * guess >= 65 * count, "{model}, {what}: {guess} of {count}");
                assert!(guess <= count + count / 4 + 4, "{model}, {what}: {guess} of {count}");
                (guesses, counts) = (guesses + guess, counts + count);
            }
            assert!(
                100 * guesses >= 90 * counts && 100 * guesses <= 115 * counts,
                "{model}: {guesses} of {counts}"
            );
        }
    }

    #[test]
    fn pieces_come_to_as_much_as_the_whole() {
        for (what, text) in TEXTS {
            let mut pieces = Estimate::of("claude-sonnet-4-5");
            let in_pieces = text.split_inclusive(' ').map(|piece| pieces.add(piece)).last().unwrap();
            assert_eq!(in_pieces, Estimate::of("claude-sonnet-4-5").add(text), "{what}");
            assert!(
                in_pieces > Estimate::of("gpt-4o").add(text),
                "{what}: its vocabulary has shorter tokens"
            );
        }
    }
}
