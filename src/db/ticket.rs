//! A ticket: all that somebody needs to join a database, in one line of text that can be sent, or shown as a QR code.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::{CoreKey, KeyParseError, id};

/// What a ticket begins with.
const SCHEME: &str = "autobee:";

/// What stands between the check digits and the key.
const CHECK_END: char = '.';

/// Characters of the check digits.
const CHECK_DIGITS: usize = 8;

/// Addresses that one ticket has at most.
pub const TICKET_ADDRESSES_MAX: usize = 16;

/// Bytes that the text of a ticket has at most: what fits a QR code that a telephone reads.
pub const TICKET_BYTES_MAX: usize = 2_048;

/// All that somebody needs to join a database: its key, where peers are, and, where it is encrypted and they may read it,
/// the encryption key.
///
/// As text it is `autobee:CHECK.KEY`, with `?at=HOST:PORT` for each address, `swarm` when peers are found on the swarm, and
/// `secret=HEX` for the encryption key. Whoever has the text with a secret in it can read the database. Parameters that are
/// not known are passed over.
///
/// CHECK is the CRC-32 of all that stands behind the point, as eight hexadecimal digits: a text that was cut, or has a
/// mistake, is no ticket. `autobee:KEY..`, without the digits and the point, is one that nobody can check.
///
/// ```
/// use autobee::{CoreKey, Ticket};
///
/// let ticket = Ticket::new(CoreKey::new([7; 32])).at("192.0.2.7:4977")?.on_swarm(true);
/// let text = ticket.to_string();
/// assert!(text.starts_with("autobee:") && text.ends_with("?at=192.0.2.7:4977&swarm"));
/// assert_eq!(text.parse::<Ticket>()?, ticket);
/// # Ok::<(), autobee::TicketError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    key: CoreKey,
    addresses: Vec<String>,
    is_on_swarm: bool,
    secret: Option<Zeroizing<[u8; 32]>>,
}

/// A text is no ticket.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It does not begin as tickets do.
    #[error("a ticket begins with `{SCHEME}`")]
    Scheme,
    /// It is longer than tickets are.
    #[error("a ticket has at most {TICKET_BYTES_MAX} bytes, this text has {found}")]
    TooLong {
        /// Bytes of the text.
        found: usize,
    },
    /// It was cut, or something in it was changed.
    #[error("the ticket is not as it was written: some of it is missing, or was changed")]
    Check,
    /// It names no database.
    #[error("the key of the ticket: {0}")]
    Key(#[source] KeyParseError),
    /// An address cannot be dialled.
    #[error("{address:?} is no address: that is HOST:PORT, such as 192.0.2.7:4977 or [2001:db8::7]:4977")]
    Address {
        /// What stands there.
        address: String,
    },
    /// It has more addresses than tickets have.
    #[error("a ticket has at most {TICKET_ADDRESSES_MAX} addresses")]
    Addresses,
    /// The encryption key is none.
    #[error("the encryption key of the ticket is not 64 hexadecimal digits")]
    Secret,
}

impl Ticket {
    /// A ticket that says which database it is, and nothing else.
    #[must_use]
    pub const fn new(key: CoreKey) -> Self {
        Self {
            key,
            addresses: Vec::new(),
            is_on_swarm: false,
            secret: None,
        }
    }

    /// With an address at which a peer listens, behind those that it has.
    ///
    /// # Errors
    ///
    /// `Address` when it is not HOST:PORT; `Addresses` when it has as many as it may have.
    pub fn at(mut self, address: impl Into<String>) -> Result<Self, TicketError> {
        let address = address.into();
        if !is_address(&address) {
            return Err(TicketError::Address { address });
        }
        if self.addresses.len() == TICKET_ADDRESSES_MAX {
            return Err(TicketError::Addresses);
        }
        self.addresses.push(address);
        Ok(self)
    }

    /// Says whether peers are found on the swarm.
    #[must_use]
    pub fn on_swarm(mut self, is_on_swarm: bool) -> Self {
        self.is_on_swarm = is_on_swarm;
        self
    }

    /// With the encryption key of the database.
    #[must_use]
    pub fn with_encryption_key(mut self, secret: [u8; 32]) -> Self {
        self.secret = Some(Zeroizing::new(secret));
        self
    }

    /// The key of the database.
    #[must_use]
    pub const fn key(&self) -> CoreKey {
        self.key
    }

    /// Addresses at which peers listen.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// True when peers are found on the swarm.
    #[must_use]
    pub const fn is_on_swarm(&self) -> bool {
        self.is_on_swarm
    }

    /// The encryption key of the database; none when it is not in the ticket.
    #[must_use]
    pub fn encryption_key(&self) -> Option<[u8; 32]> {
        self.secret.as_deref().copied()
    }
}

/// True for a host, or an IPv6 address in brackets, and a port. Only characters that need no escape in the text of a ticket.
fn is_address(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<core::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_plain),
    };
    let port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    text.rsplit_once(':')
        .is_some_and(|(host, at)| is_host(host) && port(at))
}

impl Ticket {
    /// What stands behind the check digits.
    fn write_content(&self, out: &mut impl fmt::Write) -> fmt::Result {
        out.write_str(&self.key.to_id())?;
        let mut separator = '?';
        for address in &self.addresses {
            write!(out, "{separator}at={address}")?;
            separator = '&';
        }
        if self.is_on_swarm {
            write!(out, "{separator}swarm")?;
            separator = '&';
        }
        if let Some(secret) = &self.secret {
            write!(out, "{separator}secret=")?;
            for byte in secret.iter() {
                write!(out, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Takes the check digits of what is written. No other copy of a secret is made for it.
#[derive(Default)]
struct CheckDigits(crc32fast::Hasher);

impl CheckDigits {
    fn of(text: &str) -> String {
        let mut check = Self::default();
        check.0.update(text.as_bytes());
        check.digits()
    }

    fn digits(self) -> String {
        format!("{:0CHECK_DIGITS$x}", self.0.finalize())
    }
}

impl fmt::Write for CheckDigits {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut check = CheckDigits::default();
        self.write_content(&mut check)?;
        write!(f, "{SCHEME}{}{CHECK_END}", check.digits())?;
        self.write_content(f)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("key", &self.key)
            .field("addresses", &self.addresses)
            .field("is_on_swarm", &self.is_on_swarm)
            .field("has_encryption_key", &self.secret.is_some())
            .finish()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let found = text.len();
        if found > TICKET_BYTES_MAX {
            return Err(TicketError::TooLong { found });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(TicketError::Scheme)?;
        // No key has a point in it, and addresses come behind a question mark.
        let head = rest.split('?').next().unwrap_or(rest);
        let rest = match rest.split_once(CHECK_END).filter(|_| head.contains(CHECK_END)) {
            Some((digits, content)) if digits == CheckDigits::of(content) => content,
            Some(_) => return Err(TicketError::Check),
            None => rest,
        };
        let (key, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut ticket = Self::new(key.parse().map_err(TicketError::Key)?);
        for parameter in parameters.split('&') {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("at", address) => ticket = ticket.at(address)?,
                ("swarm", "") => ticket.is_on_swarm = true,
                ("secret", digits) => ticket.secret = Some(secret(digits)?),
                _ => {}
            }
        }
        Ok(ticket)
    }
}

fn secret(digits: &str) -> Result<Zeroizing<[u8; 32]>, TicketError> {
    let bytes = id::hex_decode(digits).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| TicketError::Secret)?;
    let secret = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| TicketError::Secret)?;
    Ok(Zeroizing::new(secret))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: CoreKey = CoreKey::new([7; 32]);

    #[test]
    fn a_ticket_is_what_its_text_says() {
        let full = Ticket::new(KEY).at("192.0.2.7:4977").unwrap();
        let full = full
            .at("[2001:db8::7]:1")
            .unwrap()
            .at("a-b.example:65535")
            .unwrap();
        let full = full.on_swarm(true).with_encryption_key([0xab; 32]);
        let text = full.to_string();
        let id = KEY.to_id();
        let secret = "ab".repeat(32);
        let content =
            format!("{id}?at=192.0.2.7:4977&at=[2001:db8::7]:1&at=a-b.example:65535&swarm&secret={secret}");
        assert_eq!(text, format!("autobee:{}.{content}", CheckDigits::of(&content)));
        // One without check digits.
        assert_eq!(format!("autobee:{content}").parse(), Ok(full.clone()));
        assert_eq!(text.parse(), Ok(full.clone()));
        assert!(
            !format!("{full:?}").contains(&secret),
            "who prints it for looking shows no secret"
        );
        let check = CheckDigits::of(&id);
        assert_eq!(Ticket::new(KEY).to_string(), format!("autobee:{check}.{id}"));
        assert_eq!(check, format!("{:08x}", crc32fast::hash(id.as_bytes())));
        // Keys in each of their spellings, and what later versions add.
        let later = format!("autobee:{KEY}?relay=x&at=h:1&swarmy");
        assert_eq!(later.parse(), Ticket::new(KEY).at("h:1"));
    }

    #[test]
    fn a_ticket_that_was_cut_or_has_a_mistake_is_refused() {
        let small = Ticket::new(KEY);
        let full = small.clone().at("a.example:65535").unwrap().on_swarm(true);
        let full = full.with_encryption_key([0xab; 32]);
        for ticket in [small, full] {
            let text = ticket.to_string();
            for end in 0..text.len() {
                let found = text[..end].parse::<Ticket>();
                assert!(found.is_err(), "cut to {end}: {found:?}");
            }
            for at in 0..text.len() {
                for other in (' '..='~').filter(|other| !text[at..].starts_with(*other)) {
                    let wrong = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                    assert!(wrong.parse::<Ticket>().is_err(), "{wrong}");
                    let longer = format!("{}{other}{}", &text[..at], &text[at..]);
                    assert!(longer.parse::<Ticket>().is_err(), "{longer}");
                }
                let less = format!("{}{}", &text[..at], &text[at + 1..]);
                assert!(less.parse::<Ticket>().is_err(), "{less}");
                if let Some((two, rest)) = text[at..].split_at_checked(2)
                    && two[..1] != two[1..]
                {
                    let swapped = format!("{}{}{}{rest}", &text[..at], &two[1..], &two[..1]);
                    assert!(swapped.parse::<Ticket>().is_err(), "{swapped}");
                }
            }
            let cut = &text[..text.len() - 1];
            assert_eq!(cut.parse::<Ticket>(), Err(TicketError::Check));
        }
    }

    #[test]
    fn what_is_no_ticket_is_refused_by_name() {
        let id = KEY.to_id();
        let refused = |text: String| text.parse::<Ticket>().unwrap_err();
        assert_eq!(refused(id.clone()), TicketError::Scheme);
        assert!(matches!(refused("autobee:".into()), TicketError::Key(_)));
        assert_eq!(refused(format!("autobee:{id}?secret=12")), TicketError::Secret);
        let digits = format!("{}\u{e9}", "a".repeat(62));
        assert_eq!(
            refused(format!("autobee:{id}?secret={digits}")),
            TicketError::Secret
        );
        for address in [
            "", "h", "h:", ":1", "h:65536", "h:+1", "a b:1", "a&b:1", "::1:1", "[::g]:1",
        ] {
            let found = Ticket::new(KEY).at(address);
            assert!(matches!(found, Err(TicketError::Address { .. })), "{address}");
        }
        let many = "&at=h:1".repeat(TICKET_ADDRESSES_MAX + 1);
        assert_eq!(refused(format!("autobee:{id}?{many}")), TicketError::Addresses);
        let long = format!("autobee:{id}?{}", "x".repeat(TICKET_BYTES_MAX));
        assert!(matches!(refused(long), TicketError::TooLong { .. }));
    }

    proptest! {
        #[test]
        fn any_text_is_a_ticket_or_refused(text in "(autobee:)?([0-9a-f]{8}[.])?[a-z0-9]{0,60}\\??[ -~]{0,80}") {
            if let Ok(ticket) = text.parse::<Ticket>() {
                prop_assert_eq!(ticket.to_string().parse(), Ok(ticket));
            }
        }
    }
}
