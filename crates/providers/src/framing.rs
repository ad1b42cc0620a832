//! Streamed answers as they pass, cut into events: each whole, as the bytes that came, with a view of its data.
//!
//! * Server-sent events: any split of the bytes, all three line ends, comments, data over several lines and a last event
//!   without a blank line (WHATWG HTML, "Server-sent events").
//! * Lines of JSON (NDJSON): each line that is not empty is an event.
//!
//! Nothing is decoded: invalid UTF-8 is the reader's matter ([`lenient`]).

use bytes::{Bytes, BytesMut};

use crate::lenient;

/// An event larger than this is no chunk of a chat.
const LARGEST: usize = 16 * 1024 * 1024;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Framing {
    /// Server-sent events.
    #[default]
    Sse,
    /// Lines of JSON.
    Ndjson,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// As it came, with its blank line.
    pub raw: Bytes,
    /// Its data, lines joined; `None` for a comment or an event without data.
    pub data: Option<Bytes>,
}

impl Event {
    /// Whether its data is what every model server sends: JSON, or the mark of an end.
    fn is_whole(&self) -> bool {
        self.data.as_deref().is_none_or(|data| {
            data.trim_ascii() == b"[DONE]"
                || serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
                || lenient::value(data).is_some()
        })
    }
}

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    framing: Framing,
    buffer: BytesMut,
    /// Up to here there is no end of an event.
    scanned: usize,
}

/// An event is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The stream ended in the middle of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CutOff;

impl Parser {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, ..Self::default() }
    }

    /// Takes bytes that came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, if it has come.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, TooLarge> {
        match self.end_of_event(false) {
            Some(end) => Ok(Some(self.take(end))),
            None if self.buffer.len() > LARGEST => Err(TooLarge),
            None => Ok(None),
        }
    }

    /// What is left when the stream has ended: an event without its blank line, which is added.
    ///
    /// # Errors
    /// If that event is only a part of one.
    pub(crate) fn last(&mut self) -> Result<Option<Event>, CutOff> {
        if let Some(end) = self.end_of_event(true) {
            return Ok(Some(self.take(end)));
        }
        if self.buffer.iter().all(u8::is_ascii_whitespace) {
            self.buffer.clear();
            return Ok(None);
        }
        self.buffer.extend_from_slice(b"\n\n");
        let event = self.take(self.buffer.len());
        if event.is_whole() { Ok(Some(event)) } else { Err(CutOff) }
    }

    fn take(&mut self, end: usize) -> Event {
        self.scanned = 0;
        let raw = self.buffer.split_to(end).freeze();
        match self.framing {
            Framing::Sse => event(raw),
            Framing::Ndjson => {
                let data = raw.slice_ref(raw.trim_ascii());
                Event { data: (!data.is_empty()).then_some(data), raw }
            }
        }
    }

    /// Behind the blank line that ends the first event. A carriage return at the very end may be half a line end.
    fn end_of_event(&mut self, ended: bool) -> Option<usize> {
        let mut line = self.scanned;
        loop {
            let found = memchr::memchr2(b'\n', b'\r', self.buffer.get(line..)?)?;
            let at = line + found;
            let next = match (self.buffer[at], self.buffer.get(at + 1)) {
                (b'\r', Some(b'\n')) => at + 2,
                (b'\r', None) if !ended => return None,
                _ => at + 1,
            };
            if found == 0 || self.framing == Framing::Ndjson {
                return Some(next);
            }
            // Lines before this one need no second look.
            self.scanned = next;
            line = next;
        }
    }
}

fn event(raw: Bytes) -> Event {
    let mut data: Option<Bytes> = None;
    // Data over several lines is written anew, each line once: an event may have millions of them.
    let mut joined: Option<Vec<u8>> = None;
    let mut start = 0;
    while start < raw.len() {
        let end = memchr::memchr2(b'\n', b'\r', &raw[start..]).map_or(raw.len(), |found| start + found);
        if let Some(value) = raw[start..end].strip_prefix(b"data:") {
            let value = raw.slice_ref(value.strip_prefix(b" ").unwrap_or(value));
            match (&data, &mut joined) {
                (None, _) => data = Some(value),
                (Some(_), Some(joined)) => {
                    joined.push(b'\n');
                    joined.extend_from_slice(&value);
                }
                (Some(first), none) => *none = Some([first, &b"\n"[..], &value].concat()),
            }
        }
        start = end + 1;
    }
    Event { raw, data: joined.map(Bytes::from).or(data) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] = b": hi\n\ndata: {\"a\":1}\n\nevent: x\r\ndata: one\r\ndata:two\r\n\r\ndata: \xff\xfe\r\rid: 7\n\ndata: [DONE]";

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(event) = parser.next().unwrap() {
                events.push(event);
            }
        }
        events.extend(std::iter::from_fn(|| parser.last().ok().flatten()));
        events
    }

    fn data(events: &[Event]) -> Vec<Option<&[u8]>> {
        events.iter().map(|event| event.data.as_deref()).collect()
    }

    #[test]
    fn every_form_of_event() {
        let events = parse(&[STREAM]);
        let expected: [Option<&[u8]>; 6] =
            [None, Some(b"{\"a\":1}"), Some(b"one\ntwo"), Some(b"\xff\xfe"), None, Some(b"[DONE]")];
        assert_eq!(data(&events), expected);
        let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        assert_eq!(raw, [STREAM, b"\n\n"].concat());
    }

    #[test]
    fn split_at_every_byte() {
        let whole = parse(&[STREAM]);
        for at in 0..=STREAM.len() {
            assert_eq!(data(&parse(&[&STREAM[..at], &STREAM[at..]])), data(&whole), "split at {at}");
        }
        let bytes: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(data(&parse(&bytes)), data(&whole));
    }

    #[test]
    fn lines_of_json_split_at_every_byte() {
        const LINES: &[u8] = b"{\"a\":1}\n\r\n{\"b\":2}\r\n{\"c\":3}";
        let expected: [&[u8]; 3] = [b"{\"a\":1}", b"{\"b\":2}", b"{\"c\":3}"];
        for at in 0..=LINES.len() {
            let mut parser = Parser::new(Framing::Ndjson);
            let mut events = Vec::new();
            for piece in [&LINES[..at], &LINES[at..]] {
                parser.push(piece);
                events.extend(std::iter::from_fn(|| parser.next().unwrap()));
            }
            events.extend(std::iter::from_fn(|| parser.last().unwrap()));
            let found: Vec<&[u8]> = events.iter().filter_map(|event| event.data.as_deref()).collect();
            assert_eq!(found, expected, "split at {at}");
        }
    }

    /// Copying all that came before for each line took minutes here.
    #[test]
    fn an_event_of_millions_of_lines_takes_linear_time() {
        const LINES: usize = 2_700_000;
        let mut parser = Parser::default();
        parser.push("data:\n".repeat(LINES).as_bytes());
        parser.push(b"\n");
        let data = parser.next().unwrap().unwrap().data.unwrap();
        assert_eq!((data.len(), data.iter().all(|byte| *byte == b'\n')), (LINES - 1, true));
    }

    #[test]
    fn endless_events_are_refused() {
        let mut parser = Parser::default();
        parser.push(&vec![b'x'; LARGEST + 1]);
        assert_eq!(parser.next(), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn any_split_of_anything(bytes in prop::collection::vec(prop::sample::select(b"\r\n:da t\xff".to_vec()), 0..60),
                                 cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            let (split, whole) = (parse(&pieces), parse(&[&bytes]));
            prop_assert_eq!(data(&split), data(&whole));
        }
    }
}
