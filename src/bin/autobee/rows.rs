//! What the reader of CSV does not watch itself: how long a row gets, and whether its quotes are closed.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Where a byte of CSV stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// Behind a quote that ends the field, or is the first of two.
    Quote,
}

impl At {
    const fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) | (Self::Start | Self::Quote, b'"') => Self::Quoted,
            (_, b',' | b'\n' | b'\r') => Self::Start,
            _ => Self::Plain,
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
struct Scan {
    at: At,
    /// Bytes that were read.
    read: u64,
    /// Bytes up to which may be read.
    limit: u64,
    /// There is nothing more.
    is_over: bool,
}

/// Bytes of CSV on their way to the reader of rows.
pub(crate) struct Watched<R> {
    inner: R,
    scan: Rc<Cell<Scan>>,
}

/// Sees what goes by.
pub(crate) struct Watch {
    scan: Rc<Cell<Scan>>,
    row_bytes_max: u64,
}

/// Watches a reader: a row that has more bytes than this ends it with an error.
pub(crate) fn watched<R>(inner: R, row_bytes_max: u64) -> (Watched<R>, Watch) {
    let scan = Rc::new(Cell::new(Scan {
        at: At::Start,
        read: 0,
        limit: row_bytes_max,
        is_over: false,
    }));
    let watch = Watch {
        scan: Rc::clone(&scan),
        row_bytes_max,
    };
    (Watched { inner, scan }, watch)
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut scan = self.scan.get();
        if scan.read >= scan.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.inner.read(bytes)?;
        scan.read += read as u64;
        scan.is_over = read == 0 && !bytes.is_empty();
        scan.at = bytes[..read].iter().fold(scan.at, |at, byte| at.next(*byte));
        self.scan.set(scan);
        Ok(read)
    }
}

impl Watch {
    /// A row was read.
    pub(crate) fn row(&self) {
        let mut scan = self.scan.get();
        scan.limit = scan.read + self.row_bytes_max;
        self.scan.set(scan);
    }

    /// The row that is read has too many bytes.
    pub(crate) fn is_too_long(&self) -> bool {
        let scan = self.scan.get();
        scan.read >= scan.limit
    }

    /// The end is within quotes: those of the row that was read last.
    pub(crate) fn is_open(&self) -> bool {
        let scan = self.scan.get();
        scan.is_over && scan.at == At::Quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_closed_or_not() {
        for (text, expected) in [
            ("a,b\n", false),
            ("\"a,b\n\",c", false),
            ("a,\"b\n", true),
            ("a,\"b \"\"c\"\"\"\n", false),
            ("a,\"b\"\"\n", true),
            ("a,b \"c\n", false),
        ] {
            let (mut reader, watch) = watched(text.as_bytes(), 1 << 10);
            reader.read_to_end(&mut Vec::new()).unwrap();
            assert_eq!(watch.is_open(), expected, "{text:?}");
        }
    }
}
