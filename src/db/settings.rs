//! Local policy: limits and waits. Nothing here changes the result; what does is fixed when a database is created.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::WINDOW_BATCHES;
use crate::env::Env;
use crate::error::Error;
use crate::replication::connection::ConnectionSettings;
use crate::replication::mux::MuxSettings;
use crate::replication::session::SessionSettings;
use crate::replication::settings::ReplicatorSettings;

/// What an append waits for. Whatever it is, no peer sees a block before it is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// The blocks are written: they survive the end of the process, not the loss of power.
    Visible,
    /// The blocks are synced: they survive the loss of power, if the disk keeps its word.
    #[default]
    Durable,
}

/// How long blocks of peers are gathered while more of them are known to be on their way.
///
/// Each drain orders everything that is here; blocks of concurrent writers that arrive afterwards may belong before
/// what was applied, which is then undone and applied again. So a heal over a slow wire costs at most one undo each
/// time that the gathering ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealGather {
    /// Longest wait, in milliseconds. Blocks that are the last ones on their way do not wait; none waits when this is 0.
    pub time_ms: u64,
    /// How long nothing may come before what is there is ordered, in milliseconds: the peer may be gone. Once blocks came
    /// for a while, they may stay away for half as long. It is also the longest wait of a few blocks; each block that waits
    /// adds a millisecond, up to `time_ms`.
    pub quiet_ms: u64,
    /// Bytes of blocks that may wait.
    pub bytes: usize,
}

impl Default for HealGather {
    fn default() -> Self {
        Self {
            time_ms: 5_000,
            quiet_ms: 200,
            bytes: 32 << 20,
        }
    }
}

/// Bounds of one open database. Every queue, wait and buffer has its limit here.
///
/// Begin with the defaults, and change what you want otherwise: more fields may come.
///
/// ```
/// use autobee::Settings;
///
/// let mut settings = Settings::default();
/// settings.append_values_max = 64;
/// assert_eq!(settings, Settings::with(|settings| settings.append_values_max = 64));
/// ```
///
/// # Appends
///
/// [`durability`](Self::durability), [`append_values_max`](Self::append_values_max),
/// [`value_bytes_max`](Self::value_bytes_max), [`append_bytes_max`](Self::append_bytes_max).
///
/// # Order, apply and reads
///
/// [`heal_gather`](Self::heal_gather), [`drain_applies_max`](Self::drain_applies_max),
/// [`window_batches`](Self::window_batches), [`view_cache_bytes_max`](Self::view_cache_bytes_max),
/// [`compare_ms`](Self::compare_ms), [`read_wait_ms`](Self::read_wait_ms), [`settled_ms`](Self::settled_ms).
///
/// # Strangers
///
/// [`stranger_cores_max`](Self::stranger_cores_max), [`stranger_quiet_ms`](Self::stranger_quiet_ms),
/// [`stranger_tries_max`](Self::stranger_tries_max), [`stranger_bytes_max`](Self::stranger_bytes_max).
///
/// # One peer
///
/// [`outbox_bytes_max`](Self::outbox_bytes_max), [`channels_max`](Self::channels_max),
/// [`held_bytes_max`](Self::held_bytes_max), [`requests_in_flight_max`](Self::requests_in_flight_max),
/// [`bytes_in_flight_max`](Self::bytes_in_flight_max), [`requests_queued_max`](Self::requests_queued_max),
/// [`announced_pages_max`](Self::announced_pages_max), [`answer_ms_max`](Self::answer_ms_max),
/// [`handshake_ms_max`](Self::handshake_ms_max), [`farewell_ms_max`](Self::farewell_ms_max),
/// [`keep_alive_ms`](Self::keep_alive_ms), [`silence_ms_max`](Self::silence_ms_max),
/// [`frame_rate_min`](Self::frame_rate_min).
///
/// # All peers together
///
/// [`sessions_max`](Self::sessions_max), [`unfinished_bytes_max`](Self::unfinished_bytes_max).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
// Programs that look inside are built with this version alone.
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct Settings {
    /// What an append waits for before it returns.
    pub durability: Durability,
    /// Values that one append may hold. A batch of more than 1024 is refused by every peer.
    pub append_values_max: usize,
    /// Bytes that one value may have.
    pub value_bytes_max: usize,
    /// Bytes that all values of one append may have together. They are written in one step, and each is held until then.
    pub append_bytes_max: usize,
    /// Cores of strangers that are fetched, in the hope of an optimistic batch.
    pub stranger_cores_max: usize,
    /// How long one of them may give no block, in milliseconds, before it makes room for another one that waits.
    pub stranger_quiet_ms: u64,
    /// How often batches of strangers are tried in a second that do not take part yet. One that costs more leaves less for
    /// the next ones.
    pub stranger_tries_max: usize,
    /// Bytes of logs that are fetched of all strangers together, but for what members' batches need. Of each of them it is a
    /// mebibyte at most, and 32 blocks.
    pub stranger_bytes_max: u64,
    /// Bytes that may wait to be sent to one peer before nothing more is made for it.
    pub outbox_bytes_max: usize,
    /// Channels that one peer may have open at a time: one for each core, and one to announce cores.
    pub channels_max: usize,
    /// Bytes of messages of one peer that are held for channels which we have not answered yet. Above it nothing more is
    /// read from that peer until they are answered.
    pub held_bytes_max: usize,
    /// Requests for blocks of one core that may be under way to one peer. The original sends at most 48.
    pub requests_in_flight_max: usize,
    /// Bytes of blocks of one core that may be under way from one peer, by the average size of blocks.
    pub bytes_in_flight_max: u64,
    /// Requests for blocks of one core that one peer may have waiting here. One with more is left.
    pub requests_queued_max: usize,
    /// Memory for what one peer says it has of one core, in pages of 4096 blocks and 512 bytes.
    pub announced_pages_max: usize,
    /// How long a peer may answer no request before others are asked, in milliseconds.
    pub answer_ms_max: u64,
    /// How long agreeing on keys with a peer may take, in milliseconds.
    pub handshake_ms_max: u64,
    /// How long the last bytes of a closed session may take to get out, in milliseconds.
    pub farewell_ms_max: u64,
    /// What is gathered of blocks that are on their way before it is ordered.
    pub heal_gather: HealGather,
    /// Batches that are applied before other tasks get their turn.
    pub drain_applies_max: usize,
    /// About how many batches of the order are held in memory to be ordered anew; see
    /// [`EngineOptions::window_batches`](crate::engine::EngineOptions::window_batches). Those before are read from
    /// the system tree when they are needed.
    pub window_batches: usize,
    /// Memory for decoded blocks and nodes of the view, in bytes.
    pub view_cache_bytes_max: usize,
    /// How long nothing is sent to a peer before it is told that this end is still there, in milliseconds.
    pub keep_alive_ms: u64,
    /// How long nothing comes from a peer before it is given up, in milliseconds. More than twice the keep-alive.
    pub silence_ms_max: u64,
    /// Bytes of an unfinished frame that a peer has to send in each second, over `silence_ms_max`, or it counts as silent.
    pub frame_rate_min: u64,
    /// Connections that may run at the same time. One more ends at once.
    pub sessions_max: usize,
    /// Bytes of memory for the frames of all peers that have not come to their end, those below 64 KiB not counted; at least
    /// the largest frame, of 16 MiB, fits. When there are more, the connection whose frame was begun first ends.
    pub unfinished_bytes_max: usize,
    /// Least time between two comparisons of the own view with what another writer says of its own, in milliseconds; see
    /// [`Event::Diverged`](super::Event::Diverged). What it says waits a tenth of that for news. At 0 there are none.
    pub compare_ms: u64,
    /// How long a read waits for a block that is still at a peer, in milliseconds.
    pub read_wait_ms: u64,
    /// Least time between two looks at which start of the order can no longer change, in milliseconds; see
    /// [`Event::Settled`](super::Event::Settled). At 0 there are none.
    pub settled_ms: u64,
}

impl Settings {
    /// The defaults, but for what `change` sets.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut settings = Self::default();
        change(&mut settings);
        settings
    }

    /// [`Settings::read_wait_ms`] as a duration.
    #[must_use]
    pub const fn read_wait(&self) -> Duration {
        Duration::from_millis(self.read_wait_ms)
    }

    /// [`Settings::stranger_quiet_ms`] as a duration.
    #[must_use]
    pub const fn stranger_quiet(&self) -> Duration {
        Duration::from_millis(self.stranger_quiet_ms)
    }

    /// Says which number makes no sense, and what would.
    ///
    /// ```
    /// let settings = autobee::Settings::with(|settings| settings.drain_applies_max = 0);
    /// assert_eq!(settings.check().unwrap_err().to_string(), "settings: drain_applies_max is 0, and must be 1 or more");
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid`, with the name of the setting, its value, and its range.
    pub fn check(&self) -> Result<(), Error> {
        let at_least_one: [(&str, u64); 18] = [
            ("value_bytes_max", self.value_bytes_max as u64),
            ("append_bytes_max", self.append_bytes_max as u64),
            ("stranger_quiet_ms", self.stranger_quiet_ms),
            ("stranger_tries_max", self.stranger_tries_max as u64),
            ("outbox_bytes_max", self.outbox_bytes_max as u64),
            ("channels_max", self.channels_max as u64),
            ("requests_in_flight_max", self.requests_in_flight_max as u64),
            ("bytes_in_flight_max", self.bytes_in_flight_max),
            ("requests_queued_max", self.requests_queued_max as u64),
            ("announced_pages_max", self.announced_pages_max as u64),
            ("answer_ms_max", self.answer_ms_max),
            ("handshake_ms_max", self.handshake_ms_max),
            ("drain_applies_max", self.drain_applies_max as u64),
            ("window_batches", self.window_batches as u64),
            ("keep_alive_ms", self.keep_alive_ms),
            ("silence_ms_max", self.silence_ms_max),
            ("sessions_max", self.sessions_max as u64),
            ("unfinished_bytes_max", self.unfinished_bytes_max as u64),
        ];
        for (name, value) in at_least_one {
            within(name, value, 1..=u64::MAX)?;
        }
        let values = BATCH_VALUES_MAX as u64;
        within("append_values_max", self.append_values_max as u64, 1..=values)?;
        if self.silence_ms_max <= self.keep_alive_ms.saturating_mul(2) {
            return Err(Error::Invalid {
                what: format!(
                    "settings: silence_ms_max is {}, and must be more than twice keep_alive_ms, which is {}",
                    self.silence_ms_max, self.keep_alive_ms
                ),
            });
        }
        Ok(())
    }

    /// The part that is about streams.
    pub(super) fn sessions<E: Env>(&self, env: &E) -> SessionSettings {
        let defaults = SessionSettings::default().tuned(env);
        SessionSettings {
            connection: ConnectionSettings {
                mux: MuxSettings {
                    channels: self.channels_max,
                    held_bytes: self.held_bytes_max,
                    ..defaults.connection.mux
                },
                keep_alive: Duration::from_millis(self.keep_alive_ms),
                silence: Duration::from_millis(self.silence_ms_max),
                frame_rate_min: self.frame_rate_min,
                handshake: Duration::from_millis(self.handshake_ms_max),
                output_bytes: self.outbox_bytes_max,
            },
            replicator: ReplicatorSettings {
                requests_in_flight: self.requests_in_flight_max,
                bytes_in_flight: self.bytes_in_flight_max,
                requests_queued: self.requests_queued_max,
                announced_pages: self.announced_pages_max,
                answer_timeout: Duration::from_millis(self.answer_ms_max),
                ..defaults.replicator
            },
            farewell: Duration::from_millis(self.farewell_ms_max),
            sessions_max: self.sessions_max,
            unfinished_bytes_max: self.unfinished_bytes_max,
            ..defaults
        }
    }
}

/// Values in a batch that a peer still takes.
const BATCH_VALUES_MAX: usize = 1024;

fn within(name: &str, value: u64, range: std::ops::RangeInclusive<u64>) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    let what = match (*range.start(), *range.end()) {
        (least, u64::MAX) => format!("settings: {name} is {value}, and must be {least} or more"),
        (least, most) => format!("settings: {name} is {value}, and must be {least} to {most}"),
    };
    Err(Error::Invalid { what })
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            append_values_max: 1024,
            value_bytes_max: 1 << 23,
            append_bytes_max: 64 << 20,
            stranger_cores_max: 64,
            stranger_quiet_ms: 30_000,
            stranger_tries_max: 256,
            stranger_bytes_max: 64 << 20,
            outbox_bytes_max: 1 << 18,
            channels_max: 1 << 16,
            held_bytes_max: 1 << 15,
            requests_in_flight_max: 512,
            bytes_in_flight_max: 8 << 20,
            requests_queued_max: 1024,
            announced_pages_max: 2048,
            answer_ms_max: 30_000,
            handshake_ms_max: 20_000,
            farewell_ms_max: 5_000,
            heal_gather: HealGather::default(),
            drain_applies_max: 4096,
            window_batches: WINDOW_BATCHES,
            view_cache_bytes_max: 64 << 20,
            keep_alive_ms: 5_000,
            silence_ms_max: 15_000,
            frame_rate_min: 64,
            sessions_max: 1024,
            unfinished_bytes_max: 64 << 20,
            compare_ms: 10_000,
            read_wait_ms: 5_000,
            settled_ms: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_named() {
        Settings::default().check().unwrap();
        let wrong = [
            (
                Settings {
                    append_values_max: 5000,
                    ..Settings::default()
                },
                "append_values_max is 5000, and must be 1 to 1024",
            ),
            (
                Settings {
                    drain_applies_max: 0,
                    ..Settings::default()
                },
                "drain_applies_max is 0",
            ),
            (
                Settings {
                    silence_ms_max: 100,
                    keep_alive_ms: 50,
                    ..Settings::default()
                },
                "more than twice keep_alive_ms",
            ),
            (
                Settings {
                    value_bytes_max: 0,
                    ..Settings::default()
                },
                "value_bytes_max is 0",
            ),
        ];
        for (settings, said) in wrong {
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
