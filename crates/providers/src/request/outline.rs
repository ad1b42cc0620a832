//! A body before it is parsed: one pass over its bytes that builds nothing.
//!
//! The rule it protects: what a body becomes in memory is known, and can be refused, before any of it is there. Where the
//! body is no JSON, the parser ends at the fault, and has built no more than was counted up to there.

use std::mem::size_of;
use std::ops::Range;

use serde_json::Value;

use crate::BadRequest;

/// Lists and objects may stand in each other so deep, as in the parser.
const DEEPEST: usize = 127;
/// Keys by which `serde_json` knows its own numbers and raw values. In a body, such an object would be read as something
/// else than it says, and past the parser's own bound of depth.
const MAGIC: [&str; 2] = ["$serde_json::private::Number", "$serde_json::private::RawValue"];

/// One place in a list; with it in an object its name, and the hash beside it.
const VALUE: usize = size_of::<Value>();
const ENTRY: usize = size_of::<usize>() + size_of::<String>() + VALUE;
/// Lists and objects begin with room for so many.
const LEAST_VALUES: usize = 4;
const LEAST_BUCKETS: usize = 4;
/// Allocations up to here are rounded up by an eighth at most; larger ones take pages.
const LARGE: usize = 64 * 1024;
const PAGE: usize = 4096;
/// The least that an allocation takes.
const LEAST: usize = 16;

/// What a body says at first sight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The model that it names.
    pub model: Option<String>,
    /// The bytes that its values take in memory, at most.
    pub memory: usize,
}

impl Outline {
    /// That of a body of any shape.
    ///
    /// # Errors
    /// If something in it can't be read safely.
    pub fn read(body: &[u8]) -> Result<Self, BadRequest> {
        Self::without(body, None)
    }

    /// That of a request for embeddings, in which a list of tokens stays as it came.
    ///
    /// # Errors
    /// If something in it can't be read safely.
    pub fn of_embeddings(body: &[u8]) -> Result<Self, BadRequest> {
        Self::without(body, Some("input"))
    }

    fn without(body: &[u8], light: Option<&'static str>) -> Result<Self, BadRequest> {
        let mut scan = Scan { body, light, ..Scan::default() };
        scan.run()?;
        let model = scan.model.and_then(|text| serde_json::from_slice(&body[text]).ok());
        let light = if scan.only_numbers { scan.of_light } else { 0 };
        // Texts with escapes are put together in a buffer that grows by doubling.
        let memory = VALUE + scan.memory + 2 * scan.longest_escaped - light;
        Ok(Self { model, memory })
    }
}

/// A list or an object that is open.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    is_object: bool,
    /// Values in it so far.
    values: usize,
}

#[derive(Debug, Default)]
struct Scan<'a> {
    body: &'a [u8],
    /// Below these is the one that is open.
    around: Vec<Open>,
    open: Open,
    memory: usize,
    longest_escaped: usize,
    /// The text behind the last colon of the outermost object, and whose it is.
    name: Range<usize>,
    model: Option<Range<usize>>,
    /// A field whose lists of plain numbers stay as they came; what it would take; whether there is nothing else in it.
    light: Option<&'static str>,
    of_light: usize,
    in_light: bool,
    only_numbers: bool,
}

impl Scan<'_> {
    fn run(&mut self) -> Result<(), BadRequest> {
        let mut at = 0;
        while let Some(byte) = self.body.get(at) {
            at = match byte {
                b'"' => self.text(at)?,
                b'{' | b'[' => {
                    self.value(0, *byte == b'[');
                    self.around.push(self.open);
                    self.open = Open { is_object: *byte == b'{', values: 0 };
                    if self.around.len() > DEEPEST {
                        let message = format!("the body is nested more than {DEEPEST} levels deep");
                        return Err(BadRequest::new(message, None));
                    }
                    at + 1
                }
                b'}' | b']' => {
                    self.close();
                    at + 1
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => at + 1,
                _ => self.plain(at),
            };
        }
        while !self.around.is_empty() {
            self.close();
        }
        Ok(())
    }

    /// A name or a text; returns where it has ended.
    fn text(&mut self, start: usize) -> Result<usize, BadRequest> {
        let (end, escaped) = end_of_text(self.body, start + 1);
        let length = end.saturating_sub(start + 2);
        if escaped {
            self.longest_escaped = self.longest_escaped.max(length);
        }
        let next = self.body[end..].iter().position(|byte| !byte.is_ascii_whitespace());
        let is_name = self.open.is_object && next.is_some_and(|next| self.body[end + next] == b':');
        if !is_name {
            if self.around.len() == 1 && self.names("model") {
                self.model = Some(start..end);
            }
            self.value(allocated(length), false);
            return Ok(end);
        }
        self.add(allocated(length));
        let name = &self.body[start..end];
        if MAGIC.iter().any(|magic| says(name, escaped, magic)) {
            let message =
                "the body has a name that can't be read safely: one that begins with $serde_json::private";
            return Err(BadRequest::new(message, None));
        }
        if self.around.len() == 1 {
            self.name = start..end;
            self.in_light = self.light.is_some_and(|light| says(name, escaped, light));
            if self.in_light {
                (self.of_light, self.only_numbers) = (0, true);
            }
        }
        Ok(end)
    }

    /// A number, a truth, or null.
    fn plain(&mut self, start: usize) -> usize {
        let rest = &self.body[start..];
        let ends = |byte: &u8| {
            matches!(byte, b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[') || byte.is_ascii_whitespace()
        };
        // A form feed ends what is plain, and is no space to the parser: whatever stands here, the scan goes on behind it.
        let length = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
        let is_number = rest[0].is_ascii_digit() || rest[0] == b'-';
        let is_token = rest[..length].iter().all(u8::is_ascii_digit);
        self.value(if is_number { allocated(length) } else { 0 }, is_token);
        start + length
    }

    /// A value in what is open, which takes so much beside its place.
    fn value(&mut self, memory: usize, fits_light: bool) {
        self.open.values += 1;
        self.add(memory);
        if self.in_light && !fits_light {
            self.only_numbers = false;
        }
    }

    fn close(&mut self) {
        let Open { is_object, values } = self.open;
        self.add(if is_object { object(values) } else { list(values) });
        self.open = self.around.pop().unwrap_or_default();
    }

    fn add(&mut self, memory: usize) {
        self.memory = self.memory.saturating_add(memory);
        if self.in_light && self.around.len() > 1 {
            self.of_light = self.of_light.saturating_add(memory);
        }
    }

    /// Whether the field of the outermost object at hand has that name.
    fn names(&self, name: &str) -> bool {
        let said = &self.body[self.name.clone()];
        says(said, said.contains(&b'\\'), name)
    }
}

/// Whether a text as it stands in JSON says that.
fn says(json: &[u8], escaped: bool, text: &str) -> bool {
    if escaped {
        // An escape has at most six bytes for one.
        return json.len() <= 6 * text.len() + 2
            && serde_json::from_slice::<String>(json).is_ok_and(|said| said == text);
    }
    json.len() == text.len() + 2 && &json[1..json.len() - 1] == text.as_bytes()
}

/// Behind the quotation mark that ends a text, and whether there are escapes in it.
fn end_of_text(body: &[u8], mut at: usize) -> (usize, bool) {
    let mut escaped = false;
    loop {
        let Some(found) = body.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) else {
            return (body.len(), escaped);
        };
        at += found;
        if body[at] == b'"' {
            return (at + 1, escaped);
        }
        escaped = true;
        at += 2;
    }
}

/// What so many bytes take.
const fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..LEAST => LEAST,
        LEAST..LARGE => bytes + bytes / 8 + LEAST,
        _ => bytes.saturating_add(2 * PAGE),
    }
}

/// What so many places take that grow by doubling. Where there are many, only those in use are there at all, beside those
/// that they were copied from.
fn grown(values: usize, capacity: usize, size: usize) -> usize {
    if capacity * size < LARGE {
        return allocated(capacity * size);
    }
    allocated((values + capacity / 2).saturating_mul(size))
}

fn list(values: usize) -> usize {
    if values == 0 {
        return 0;
    }
    grown(values, values.next_power_of_two().max(LEAST_VALUES), VALUE)
}

fn object(values: usize) -> usize {
    if values == 0 {
        return 0;
    }
    // A hash table is filled to seven eighths, and small ones leave one place free.
    let buckets = match values {
        0..LEAST_BUCKETS => LEAST_BUCKETS,
        LEAST_BUCKETS..8 => 8,
        _ => (values.saturating_mul(8) / 7).next_power_of_two(),
    };
    let capacity = if buckets <= 8 { buckets - 1 } else { buckets / 8 * 7 };
    let table = buckets * (size_of::<usize>() + 1) + LEAST;
    grown(values, capacity, ENTRY) + allocated(table + table / 2)
}

#[cfg(test)]
mod tests;
