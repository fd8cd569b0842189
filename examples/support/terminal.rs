//! The terminal of an example: lines that are typed, and lines that are printed.

use std::fmt::Display;
use std::io::{BufRead as _, Write as _};

use tokio::sync::mpsc;

/// What is typed, a line at a time. In a thread of its own, as one that waits in `tokio::io::stdin` would keep the program
/// from ending.
pub(crate) fn typed() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n') {
            let Ok(line) = line else { return };
            if sender
                .blocking_send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// Prints a line.
pub(crate) fn say(line: impl Display) {
    // That nobody reads it any more is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Tells what is wrong, with the name of the program.
pub(crate) fn complain(program: &str, what: &str) {
    let _ = writeln!(std::io::stderr(), "{program}: {what}");
}
