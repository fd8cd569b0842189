//! One line of the trace. Written by hand: a serializer would cost more than the events it describes.

use super::Trace;

/// A line being written. Fields appear in the order of the calls; dropping it ends the line.
#[derive(Debug)]
pub struct Line<'a> {
    trace: &'a mut Trace,
}

impl<'a> Line<'a> {
    pub(super) fn start(trace: &'a mut Trace, now: u64, event: &str) -> Self {
        let out = trace.buffer();
        out.clear();
        out.extend_from_slice(b"{\"t\":");
        write_number(out, now);
        out.extend_from_slice(b",\"e\":");
        write_text(out, event);
        Self { trace }
    }

    /// Adds a text.
    pub fn text(mut self, name: &'static str, value: &str) -> Self {
        write_text(self.name(name), value);
        self
    }

    /// Adds a number.
    pub fn number(mut self, name: &'static str, value: u64) -> Self {
        write_number(self.name(name), value);
        self
    }

    /// Adds a number that may be negative.
    pub fn signed(mut self, name: &'static str, value: i64) -> Self {
        let out = self.name(name);
        if value < 0 {
            out.push(b'-');
        }
        write_number(out, value.unsigned_abs());
        self
    }

    /// Adds a truth value.
    pub fn flag(mut self, name: &'static str, value: bool) -> Self {
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.name(name).extend_from_slice(text);
        self
    }

    fn name(&mut self, name: &'static str) -> &mut Vec<u8> {
        let out = self.trace.buffer();
        out.push(b',');
        write_text(out, name);
        out.push(b':');
        out
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.trace.buffer().extend_from_slice(b"}\n");
        self.trace.end_line();
    }
}

fn write_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        out.extend_from_slice(text.as_bytes());
    } else {
        for character in text.chars() {
            write_escaped(out, character);
        }
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\u{0}'..'\u{20}' => out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes()),
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
