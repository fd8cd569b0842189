//! Addresses of a simulated network: `name` or `name:port`.

use std::io;

use autobee::env::PeerAddr;

/// The port that `name` without a port means.
pub(super) const DEFAULT_PORT: u16 = 1;
/// The port that asks for any free one.
pub(super) const ANY_PORT: u16 = 0;
/// Where chosen ports begin.
pub(super) const FIRST_CHOSEN_PORT: u16 = 49_152;

/// Name and port of `address`.
pub(super) fn parse(address: &PeerAddr) -> io::Result<(&str, u16)> {
    let text = address.as_str();
    let (name, port) = match text.rsplit_once(':') {
        None => (text, DEFAULT_PORT),
        Some((name, digits)) => {
            let port = digits
                .parse()
                .map_err(|_| invalid(text, "the port is not a number below 65536"))?;
            (name, port)
        }
    };
    if name.is_empty() {
        return Err(invalid(text, "the name of the replica is empty"));
    }
    Ok((name, port))
}

/// The address of `port` at `name`, as [`parse`] reads it.
pub(super) fn format(name: &str, port: u16) -> PeerAddr {
    if port == DEFAULT_PORT {
        PeerAddr::new(name)
    } else {
        PeerAddr::new(format!("{name}:{port}"))
    }
}

pub(super) fn invalid(address: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("address {address:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for (text, name, port) in [("a", "a", 1), ("a:0", "a", 0), ("b:65535", "b", 65_535)] {
            let address = PeerAddr::new(text);
            assert_eq!(parse(&address).unwrap(), (name, port));
            assert_eq!(format(name, port), address);
        }
        for text in ["", ":1", "a:", "a:x", "a:65536"] {
            let error = parse(&PeerAddr::new(text)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text}");
        }
    }
}
