//! A way between two processes that can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Listens for one process, and passes on what it says to the other.
pub(crate) struct Proxy {
    pub(crate) address: String,
    way: Arc<Mutex<Way>>,
}

#[derive(Default)]
struct Way {
    /// Where the other one listens; none while it is down.
    to: Option<String>,
    is_cut: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let way = Arc::new(Mutex::new(Way::default()));
        let shared = Arc::downgrade(&way);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Some(way), Ok(stream)) = (shared.upgrade(), stream) else {
                    return;
                };
                let mut way = way.lock().unwrap();
                let to = way.to.clone().filter(|_| !way.is_cut);
                if let Some(far) = to.and_then(|to| TcpStream::connect(to).ok()) {
                    for (from, to) in [(&stream, &far), (&far, &stream)] {
                        pump(from.try_clone().unwrap(), to.try_clone().unwrap());
                    }
                    way.streams.extend([stream, far]);
                }
            }
        });
        Self { address, way }
    }

    /// From now on the other one listens here, or nowhere.
    pub(crate) fn leads_to(&self, to: Option<String>) {
        self.way.lock().unwrap().to = to;
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.way.lock().unwrap().is_cut = is_cut;
        if is_cut {
            self.reset();
        }
    }

    /// Ends all connections.
    pub(crate) fn reset(&self) {
        for stream in self.way.lock().unwrap().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
