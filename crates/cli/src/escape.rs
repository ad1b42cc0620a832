//! Texts going out, each escaped for where it goes: a terminal, a spreadsheet, the log.
//!
//! The rule it protects: a name that a user chose is shown, never obeyed. It can't move the cursor, hide or turn what stands
//! beside it, begin a line of its own in a log, or compute in a spreadsheet. JSON needs none of this: it escapes by itself.

use std::borrow::Cow;
use std::{fmt, io};

use accounting::{is_hidden, is_plain};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// Text for a terminal: what does not show as itself is written as `\u{1b}`. Line ends stay, because messages have lines.
pub(crate) fn terminal(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_hidden(character) && character != '\n')
}

/// Text for a place of one line, such as a cell: line ends are escaped too.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// Text for a cell of a spreadsheet: with an apostrophe before what would be computed.
pub(crate) fn spreadsheet(text: &str) -> Cow<'_, str> {
    let text = escaped(text, |character| is_hidden(character) && !['\n', '\r', '\t'].contains(&character));
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}").into() } else { text }
}

/// The fields of a line of the log: `name=value`, each value on this line.
pub(crate) fn log_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => writer.write_str(&one_line(&text)),
            name => write!(writer, "{name}={}", one_line(&text)),
        }
    };
    debug_fn(field).delimited(" ")
}

/// Where lines of JSON go: JSON escapes control characters of ASCII by itself, and this all others that don't show.
pub(crate) struct JsonLines<W>(pub W);

impl<W: io::Write> io::Write for JsonLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if is_plain(text.trim_end_matches('\n')) {
            return self.0.write_all(line).map(|()| line.len());
        }
        let mut safe = String::with_capacity(text.len());
        for character in text.chars() {
            if is_hidden(character) && character != '\n' {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a text does not fail.
                    let _ = fmt::Write::write_fmt(&mut safe, format_args!("\\u{unit:04x}"));
                }
            } else {
                safe.push(character);
            }
        }
        self.0.write_all(safe.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if is_plain(text) || !text.chars().any(&is_bad) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_bad(character) {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe.into()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const NASTY: &str = "\u{1b}]0;pwned\u{7}Ann\u{202e}nnA\u{9b}31m\r\nerror: fake";

    #[test]
    fn a_terminal_shows_and_obeys_nothing() {
        let shown = one_line(NASTY);
        assert_eq!(shown, "\\u{1b}]0;pwned\\u{7}Ann\\u{202e}nnA\\u{9b}31m\\u{d}\\u{a}error: fake");
        assert_eq!(terminal("two\nlines, Müller 👩\u{200d}💻"), "two\nlines, Müller 👩\u{200d}💻");
    }

    #[test]
    fn a_spreadsheet_computes_nothing() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(spreadsheet(text), format!("'{text}"));
        }
        assert_eq!(spreadsheet("Ann = Bob"), "Ann = Bob");
        assert_eq!(spreadsheet("\u{1b}[31m"), "\\u{1b}[31m");
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_the_log_is_one_line() {
        let written = Written::default();
        let (text, json) = (written.clone(), written.clone());
        let lines = |each: &dyn Fn()| {
            written.0.lock().unwrap().clear();
            each();
            String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
        };
        let log = || tracing::info!(user = %NASTY, task = NASTY, "hello {NASTY}");
        let human = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(log_fields())
            .with_writer(move || text.clone())
            .finish();
        let machine = tracing_subscriber::fmt().json().with_writer(move || JsonLines(json.clone())).finish();
        let (human, machine) = (Arc::new(human), Arc::new(machine));
        let shown = lines(&|| tracing::subscriber::with_default(Arc::clone(&human), log));
        assert_eq!(shown.chars().filter(|c| is_hidden(*c)).collect::<String>(), "\n", "{shown}");
        assert!(shown.contains(" user=") && shown.contains(" task=") && shown.contains("hello "), "{shown}");
        let shown = lines(&|| tracing::subscriber::with_default(Arc::clone(&machine), log));
        assert_eq!(shown.chars().filter(|c| is_hidden(*c)).collect::<String>(), "\n", "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["fields"]["user"], NASTY, "nothing is lost");
    }
}
