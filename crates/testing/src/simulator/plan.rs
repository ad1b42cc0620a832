//! The plan of one answer: what it says, piece by piece, and what it reports to have used.

use accounting::Usage;

use super::asked::{Asked, Choice};
use super::directive::{Directive, Fault, Named};

const WORDS: [&str; 12] =
    ["The", " answer", " to", " this", " question", " is", " simple", " enough", " to", " be", " given", "."];
const THOUGHTS: [&str; 8] = ["Let", " me", " think", " about", " it", " step", " by", " step."];
const CITIES: [&str; 4] = ["Bern", "Basel", "Chur", "Genf"];
/// The answer where JSON is wanted and the directive names none.
const JSON: &str = "{\"city\":\"Bern\"}";
/// A call comes in so many pieces: its name, and the halves of its arguments.
const CALL_PIECES: u64 = 3;
/// Words of reasoning before a call that is named.
const THOUGHTS_OF_CALL: u64 = 4;
/// Stop sequences are looked for in so many words.
const SEARCHED: u64 = 10_000;

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// Nine letters and digits, which every format can make an id of.
    pub id: String,
    pub name: String,
    /// JSON.
    pub arguments: String,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Thinking(String),
    Text(String),
    /// The call of that number begins.
    Call(usize),
    /// A part of the arguments of a call, and whether it is the last one.
    Arguments {
        index: usize,
        part: String,
        last: bool,
    },
    /// Tokens that show nothing.
    Nothing,
}

/// Why an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Stop,
    /// At this text.
    At(String),
    Length,
    Calls,
    Blocked,
}

/// All that was made of a plan.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub thinking: String,
    pub text: String,
    pub calls: Vec<Call>,
    pub tokens: u64,
}

/// What one answer is to be, and how far it has come. Counts are tokens.
#[derive(Debug)]
pub(super) struct Plan {
    pub directive: Directive,
    /// The model that the answer names.
    pub model: String,
    pub choices: u64,
    pub calls: Vec<Call>,
    pub end: End,
    input: u64,
    output: u64,
    thinking: u64,
    text: u64,
    /// What is said instead of words.
    exactly: Option<String>,
    pub made: u64,
    pub thought: u64,
    said: u64,
    called: u64,
}

impl Plan {
    pub(super) fn new(asked: Asked, mut directive: Directive) -> Self {
        // Its model must offer a tool that is named, and may think about it first.
        let named = directive.call.take().filter(|named| asked.tools.contains(&named.tool));
        let named = named.filter(|_| asked.choice != Choice::Never);
        if named.is_some() {
            directive.thinking = directive.thinking.max(THOUGHTS_OF_CALL);
        }
        let number = match asked.choice {
            Choice::Never => 0,
            _ if named.is_some() => 1,
            Choice::Must => directive.tools.unwrap_or(1),
            Choice::Free => directive.tools.unwrap_or_default(),
        };
        let calls: Vec<Call> = if directive.blocked {
            Vec::new()
        } else if let Some(Named { tool: name, arguments }) = named {
            vec![Call { id: "simCall00".into(), name, arguments }]
        } else {
            (0..number).map(|at| call(at, &asked.tools)).collect()
        };
        let exactly = directive.text.clone().or_else(|| asked.json.then(|| JSON.to_owned()));
        let thinking = directive.thinking;
        let natural = match &exactly {
            _ if directive.blocked => 0,
            _ if !calls.is_empty() => (CALL_PIECES * number + u64::from(directive.text.is_some())).max(12),
            Some(_) => 1,
            None => WORDS.len() as u64,
        };
        let wanted = directive.output.unwrap_or(natural + thinking);
        let limit = asked.limit.filter(|_| !directive.overrun);
        let mut output = limit.map_or(wanted, |limit| wanted.min(limit));
        let thinking = thinking.min(output);
        let rest = output - thinking;
        let mut text = match &exactly {
            _ if directive.blocked && directive.text.is_none() => rest,
            Some(_) if calls.is_empty() || directive.text.is_some() => rest.min(1),
            _ if calls.is_empty() => rest,
            _ => 0,
        };
        let mut end = match () {
            () if directive.blocked => End::Blocked,
            () if output < wanted => End::Length,
            () if !calls.is_empty() => End::Calls,
            () => End::Stop,
        };
        if exactly.is_none()
            && calls.is_empty()
            && let Some((words, stop)) = stopped(&asked.stop, text)
        {
            output = thinking + words;
            text = words;
            end = End::At(stop);
        }
        Self {
            model: directive.model.clone().unwrap_or(asked.model),
            input: directive.input.unwrap_or(asked.words),
            choices: asked.choices.unwrap_or(1),
            directive,
            calls,
            end,
            output,
            thinking,
            text,
            exactly,
            made: 0,
            thought: 0,
            said: 0,
            called: 0,
        }
    }

    /// The next piece, and its tokens.
    pub(super) fn next(&mut self) -> Option<(Piece, u64)> {
        let tokens = self.directive.chunk.min(self.output - self.made);
        let (piece, tokens) = if self.thought < self.thinking {
            let tokens = tokens.min(self.thinking - self.thought);
            let piece = Piece::Thinking(cut(&THOUGHTS, self.thought, tokens));
            self.thought += tokens;
            (piece, tokens)
        } else if self.said < self.text {
            let tokens = tokens.min(self.text - self.said);
            let piece = self.exactly.clone().unwrap_or_else(|| cut(&WORDS, self.said, tokens));
            self.said += tokens;
            (Piece::Text(piece), tokens)
        } else if let Some(piece) = self.next_of_calls(tokens) {
            (piece, tokens)
        } else if tokens > 0 {
            (Piece::Nothing, tokens)
        } else {
            return None;
        };
        self.made += tokens;
        Some((piece, tokens))
    }

    fn next_of_calls(&mut self, tokens: u64) -> Option<Piece> {
        // A limit cuts off calls too.
        if tokens == 0 && self.end == End::Length {
            return None;
        }
        let index = usize::try_from(self.called / CALL_PIECES).ok()?;
        let call = self.calls.get(index)?;
        let (head, tail) = call.arguments.split_at(call.arguments.find(':').map_or(0, |at| at + 1));
        let piece = match self.called % CALL_PIECES {
            0 => Piece::Call(index),
            1 => Piece::Arguments { index, part: head.to_owned(), last: false },
            _ => Piece::Arguments { index, part: tail.to_owned(), last: true },
        };
        self.called += 1;
        Some(piece)
    }

    /// All at once.
    pub(super) fn make(&mut self) -> Made {
        let mut made = Made::default();
        let chunk = std::mem::replace(&mut self.directive.chunk, 1);
        while let Some((piece, tokens)) = self.next() {
            made.tokens += tokens;
            match piece {
                Piece::Thinking(text) => made.thinking.push_str(&text),
                Piece::Text(text) => made.text.push_str(&text),
                Piece::Call(index) => {
                    made.calls.extend(
                        self.calls.get(index).map(|call| Call { arguments: String::new(), ..call.clone() }),
                    );
                }
                Piece::Arguments { part, .. } => {
                    if let Some(call) = made.calls.last_mut() {
                        call.arguments.push_str(&part);
                    }
                }
                Piece::Nothing => {}
            }
        }
        self.directive.chunk = chunk;
        made
    }

    /// What is reported when all is made.
    fn usage_of(&self, output: u64) -> Usage {
        let directive = &self.directive;
        Usage {
            cached_input: directive.cached,
            cache_write: directive.cache_write,
            cache_write_long: directive.cache_write_long,
            input_audio: directive.audio,
            reasoning: directive.reasoning.unwrap_or(self.thinking) * self.choices,
            ..Usage::tokens(self.input, output * self.choices)
        }
    }

    /// What the answer says to have used; `None` if it says nothing.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.tells_usage().then(|| self.usage_of(self.output))
    }

    /// What it says in its middle.
    pub(super) fn usage_so_far(&self) -> Option<Usage> {
        let usage = self.usage_of(self.made);
        let reasoning = usage.reasoning.min(self.made * self.choices);
        self.tells_usage().then_some(Usage { reasoning, ..usage })
    }

    fn tells_usage(&self) -> bool {
        self.directive.fault != Some(Fault::NoUsage)
    }

    /// The count, or a negative one if the usage is to be wrong.
    pub(super) fn count(&self, tokens: u64) -> i64 {
        if self.directive.fault == Some(Fault::BadUsage) {
            -5
        } else {
            i64::try_from(tokens).unwrap_or(i64::MAX)
        }
    }
}

fn call(at: u64, tools: &[String]) -> Call {
    let index = usize::try_from(at).unwrap_or_default();
    let cycled = |length: usize| index.checked_rem(length);
    let name = cycled(tools.len()).and_then(|index| tools.get(index)).map_or("a_tool", String::as_str);
    let city = cycled(CITIES.len()).and_then(|index| CITIES.get(index)).copied().unwrap_or_default();
    Call {
        id: format!("simCall{at:02}"),
        name: name.to_owned(),
        arguments: format!("{{\"city\":\"{city}\"}}"),
    }
}

/// How many words there are before the first of the texts at which to stop, and that text.
fn stopped(stop: &[String], words: u64) -> Option<(u64, String)> {
    let text = cut(&WORDS, 0, words.min(SEARCHED));
    let found = stop.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop)));
    let (at, stop) = found.min_by_key(|(at, _)| *at)?;
    let mut length = 0;
    let before = (0..words).take_while(|number| {
        length += cut(&WORDS, *number, 1).len();
        length <= at
    });
    Some((before.count() as u64, stop.clone()))
}

fn cut(words: &[&str], from: u64, count: u64) -> String {
    let from = from.checked_rem(words.len() as u64).unwrap_or_default();
    let (from, count) =
        (usize::try_from(from).unwrap_or_default(), usize::try_from(count).unwrap_or_default());
    words.iter().cycle().skip(from).take(count).copied().collect()
}

/// How many words a text has.
pub(super) fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(directive: &str, asked: Asked) -> Plan {
        Plan::new(asked, Directive::read(&format!("[[sim {directive}]]")))
    }

    #[test]
    fn pieces_add_up_to_the_output() {
        for directive in [
            "",
            "output=100",
            "thinking=5",
            "tools=3",
            "tools=2 text=Wait thinking=4",
            "output=7 thinking=9",
            "blocked=1",
        ] {
            for chunk in [1, 4, 1000] {
                let mut streamed = plan(&format!("{directive} chunk={chunk}"), Asked::default());
                let mut sum = 0;
                while let Some((_, tokens)) = streamed.next() {
                    sum += tokens;
                }
                assert_eq!(
                    Some(sum),
                    streamed.usage().map(|usage| usage.output),
                    "{directive} chunk={chunk}"
                );
            }
        }
    }

    #[test]
    fn thinking_comes_before_text_and_text_before_calls() {
        let mut plan =
            plan("thinking=3 text=Wait tools=2", Asked { tools: vec!["x".into()], ..Asked::default() });
        let made = plan.make();
        assert_eq!((made.thinking.as_str(), made.text.as_str()), ("Let me think", "Wait"));
        let calls: Vec<_> =
            made.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("x", "{\"city\":\"Bern\"}"), ("x", "{\"city\":\"Basel\"}")]);
        assert_eq!((plan.end.clone(), plan.usage().unwrap().reasoning), (End::Calls, 3));
    }

    #[test]
    fn a_named_call_is_made_where_its_tool_is_offered() {
        let order = "[[call shell: cmd=echo hi | where=here end]]";
        let asked = |tools: &[&str], choice| Asked {
            tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
            choice,
            ..Asked::default()
        };
        for (tools, choice, made) in [
            (&["read", "shell"][..], Choice::Free, Some("shell")),
            (&["read", "shell"], Choice::Must, Some("shell")),
            (&["read", "shell"], Choice::Never, None),
            (&["read"], Choice::Free, None),
            (&["read"], Choice::Must, Some("read")),
        ] {
            let mut plan = Plan::new(asked(tools, choice), Directive::read(order));
            let all = plan.make();
            assert_eq!(all.calls.first().map(|call| call.name.as_str()), made, "{tools:?} {choice:?}");
            if made == Some("shell") {
                assert_eq!(all.calls[0].arguments, r#"{"cmd":"echo hi","where":"here"}"#);
                assert_eq!((all.thinking.as_str(), plan.end), ("Let me think about", End::Calls));
            }
        }
    }

    #[test]
    fn limits_and_stops_cut() {
        let mut short = plan("output=50", Asked { limit: Some(3), ..Asked::default() });
        assert_eq!((short.make().text.as_str(), short.end), ("The answer to", End::Length));
        let mut over = plan("output=50 overrun=1", Asked { limit: Some(3), ..Asked::default() });
        assert_eq!((over.make().tokens, over.end), (50, End::Stop));
        let stop = vec!["given".to_owned(), " simple".to_owned()];
        let mut stopped = plan("", Asked { stop, ..Asked::default() });
        assert_eq!(
            (stopped.make().text.as_str(), stopped.end),
            ("The answer to this question is", End::At(" simple".into()))
        );
        let mut calls = plan("tools=2", Asked { limit: Some(2), ..Asked::default() });
        assert_eq!((calls.make().calls.len(), calls.end), (1, End::Length));
        let mut never = plan("tools=2", Asked { choice: Choice::Never, ..Asked::default() });
        assert_eq!((never.make().calls.len(), never.end), (0, End::Stop));
    }
}
