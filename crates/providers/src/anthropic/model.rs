//! What Anthropic's models take, by the name of the model ("Models overview", "Thinking", "Troubleshooting thinking",
//! "Effort", "Structured outputs", "Errors: prefill not supported", and the migration guide of each model).
//!
//! A name says its family and its version: `claude-opus-4-5-20251101`, `claude-3-7-sonnet-20250219`. A name that says
//! neither is some other server's model behind the same API: it is asked with what all such servers know, and nothing is
//! forbidden in advance.

/// How a model is asked to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It can't.
    None,
    /// With a budget of tokens.
    Budget,
    /// As much as it likes, led by an effort.
    Adaptive,
}

/// How a model that thinks when nothing is said is asked not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Off {
    /// By saying nothing: it does not think unless asked.
    Silence,
    /// `thinking.type` = `disabled`.
    Disabled,
    /// `thinking.type` = `between_tools`: only notes between the calls of tools are left.
    BetweenTools,
    /// It always thinks.
    Never,
}

/// When a model can be forced to call a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forced {
    Always,
    NotWhileThinking,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Opus,
    Sonnet,
    Haiku,
    Mythos,
    Other,
}

/// A model, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model {
    family: Family,
    version: Option<(u64, u64)>,
}

impl Model {
    pub(super) fn named(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let mut family = Family::Other;
        let mut numbers = Vec::new();
        for word in name.split(|c: char| !c.is_ascii_alphanumeric()) {
            match word {
                "opus" => family = Family::Opus,
                "sonnet" => family = Family::Sonnet,
                "haiku" => family = Family::Haiku,
                "mythos" => family = Family::Mythos,
                // Longer numbers are dates.
                _ if word.len() <= 2 => numbers.extend(word.parse::<u64>()),
                _ => {}
            }
        }
        let version = match numbers[..] {
            _ if !name.contains("claude") => None,
            [] => (family == Family::Mythos).then_some((5, 0)),
            [major] => Some((major, 0)),
            [major, minor, ..] => Some((major, minor)),
        };
        Self { family, version }
    }

    fn at_least(self, major: u64, minor: u64) -> bool {
        self.version.is_some_and(|version| version >= (major, minor))
    }

    fn before(self, major: u64, minor: u64) -> bool {
        self.version.is_some_and(|version| version < (major, minor))
    }

    /// The most tokens of an answer ("Models overview", "Max output"; retired models: their last model cards).
    pub(super) fn most_output(self) -> u64 {
        match self.family {
            _ if self.at_least(4, 6) => 128_000,
            _ if self.at_least(4, 5) => 64_000,
            Family::Opus if self.at_least(4, 0) => 32_000,
            _ if self.at_least(3, 7) => 64_000,
            _ if self.before(3, 5) => 4096,
            // Version 3.5, and as much as any server may be expected to allow.
            _ => 8192,
        }
    }

    pub(super) fn thinking(self) -> Thinking {
        if self.at_least(4, 6) {
            Thinking::Adaptive
        } else if self.before(3, 7) {
            Thinking::None
        } else {
            Thinking::Budget
        }
    }

    /// Whether a budget is still taken beside adaptive thinking.
    pub(super) fn takes_budget(self) -> bool {
        !self.at_least(4, 7)
    }

    pub(super) fn off(self) -> Off {
        match self.family {
            _ if !self.at_least(5, 0) => Off::Silence,
            Family::Sonnet if self.at_least(5, 5) => Off::BetweenTools,
            Family::Sonnet | Family::Haiku => Off::Disabled,
            Family::Opus if self.before(5, 5) => Off::Disabled,
            _ => Off::Never,
        }
    }

    /// Whether the text of its thinking is left out unless it is asked for.
    pub(super) fn hides_thinking(self) -> bool {
        self.at_least(4, 7)
    }

    /// The model's own name of an effort of OpenAI's: the nearest one that is not higher, but never none.
    pub(super) fn effort(self, asked: &str) -> &'static str {
        match asked {
            "max" => "max",
            "xhigh" if self.at_least(4, 7) => "xhigh",
            "xhigh" | "high" => "high",
            "medium" => "medium",
            _ => "low",
        }
    }

    /// Whether temperature, `top_p` and `top_k` may be set at all.
    pub(super) fn takes_sampling(self) -> bool {
        !self.at_least(4, 7)
    }

    /// Whether temperature and `top_p` may be set together.
    pub(super) fn takes_temperature_with_top_p(self) -> bool {
        !self.at_least(4, 1)
    }

    /// Whether it can continue an answer that it is given.
    pub(super) fn takes_prefill(self) -> bool {
        !self.at_least(4, 6)
    }

    pub(super) fn forced_tools(self) -> Forced {
        match self.family {
            _ if !self.at_least(4, 8) => Forced::NotWhileThinking,
            Family::Haiku => Forced::Always,
            _ if self.at_least(5, 1) => Forced::Never,
            _ => Forced::Always,
        }
    }

    /// Whether it keeps to a schema, of its answer or of a tool.
    pub(super) fn takes_schemas(self) -> bool {
        !self.before(4, 5) || (self.family == Family::Opus && self.at_least(4, 1))
    }

    /// Whether its thinking is only taken back behind exactly what came before it ("Preserved thinking").
    pub(super) fn binds_thinking(self) -> bool {
        self.at_least(5, 1) && self.family != Family::Mythos
    }

    /// The most pictures of one request ("Vision", "General limits": by the size of its context window).
    pub(super) fn most_images(self) -> usize {
        if self.at_least(4, 6) || self.version.is_none() { 600 } else { 100 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_versions() {
        for (name, version) in [
            ("claude-3-7-sonnet-20250219", Some((3, 7))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-opus-4-5", Some((4, 5))),
            ("anthropic/claude-sonnet-4.6", Some((4, 6))),
            ("anthropic.claude-haiku-4-5-20251001-v1:0", Some((4, 5))),
            ("claude-fable-5-2", Some((5, 2))),
            ("claude-mythos-preview", Some((5, 0))),
            ("claude-latest", None),
            ("MiniMax-M2", None),
        ] {
            assert_eq!(Model::named(name).version, version, "{name}");
        }
    }

    #[test]
    fn each_generation_takes_what_its_pages_say() {
        use Forced::{Always, NotWhileThinking};
        use Thinking::{Adaptive, Budget};
        let never = Forced::Never;
        for (name, output, thinking, off, sampling, prefill, forced, binds) in [
            (
                "claude-3-haiku-20240307",
                4096,
                Thinking::None,
                Off::Silence,
                true,
                true,
                NotWhileThinking,
                false,
            ),
            (
                "claude-3-5-sonnet-20241022",
                8192,
                Thinking::None,
                Off::Silence,
                true,
                true,
                NotWhileThinking,
                false,
            ),
            ("claude-3-7-sonnet-20250219", 64_000, Budget, Off::Silence, true, true, NotWhileThinking, false),
            ("claude-opus-4-1-20250805", 32_000, Budget, Off::Silence, true, true, NotWhileThinking, false),
            ("claude-haiku-4-5", 64_000, Budget, Off::Silence, true, true, NotWhileThinking, false),
            ("claude-opus-4-6", 128_000, Adaptive, Off::Silence, true, false, NotWhileThinking, false),
            ("claude-opus-4-7", 128_000, Adaptive, Off::Silence, false, false, NotWhileThinking, false),
            ("claude-opus-4-8", 128_000, Adaptive, Off::Silence, false, false, Always, false),
            ("claude-opus-5", 128_000, Adaptive, Off::Disabled, false, false, Always, false),
            ("claude-sonnet-5", 128_000, Adaptive, Off::Disabled, false, false, Always, false),
            ("claude-fable-5", 128_000, Adaptive, Off::Never, false, false, Always, false),
            ("claude-opus-5-5", 128_000, Adaptive, Off::Never, false, false, never, true),
            ("claude-sonnet-5-5", 128_000, Adaptive, Off::BetweenTools, false, false, never, true),
            ("claude-haiku-5-5", 128_000, Adaptive, Off::Disabled, false, false, Always, true),
            ("claude-mythos-5-1", 128_000, Adaptive, Off::Never, false, false, never, false),
            ("some-other", 8192, Budget, Off::Silence, true, true, NotWhileThinking, false),
        ] {
            let model = Model::named(name);
            assert_eq!(model.most_output(), output, "{name}");
            assert_eq!((model.thinking(), model.off()), (thinking, off), "{name}");
            assert_eq!((model.takes_sampling(), model.takes_prefill()), (sampling, prefill), "{name}");
            assert_eq!((model.forced_tools(), model.binds_thinking()), (forced, binds), "{name}");
        }
        assert!(Model::named("claude-sonnet-4-20250514").takes_temperature_with_top_p());
        assert!(!Model::named("claude-opus-4-1").takes_temperature_with_top_p());
        assert!(!Model::named("claude-sonnet-4-20250514").takes_schemas());
        assert!(Model::named("claude-opus-4-1").takes_schemas());
        assert_eq!(Model::named("claude-opus-4-6").effort("xhigh"), "high");
        assert_eq!(Model::named("claude-opus-4-7").effort("xhigh"), "xhigh");
        assert_eq!(Model::named("claude-opus-4-7").effort("minimal"), "low");
    }
}
