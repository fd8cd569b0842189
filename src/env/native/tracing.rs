//! Events and spans of a database, for subscribers of the crate `tracing`.

use tracing::level_filters::LevelFilter;
use tracing::{Instrument as _, debug, debug_span, error, info, info_span, trace, warn};

use crate::env::{TraceEvent, TraceSpan};

const DATABASE: &str = "autobee::database";
const SESSION: &str = "autobee::session";
const STORE: &str = "autobee::store";

/// True when some subscriber may want events.
pub(super) fn is_on() -> bool {
    LevelFilter::current() != LevelFilter::OFF
}

/// Hands an event to the subscriber. The message is the name of the event, keys are shown as text.
pub(super) fn emit(event: &TraceEvent) {
    match event {
        TraceEvent::Appended { core, length, values } => {
            trace!(target: DATABASE, %core, length, values, "appended");
        }
        TraceEvent::Acknowledged { core, length } => {
            trace!(target: DATABASE, %core, length, "acknowledged");
        }
        TraceEvent::Taken { core, length } => {
            trace!(target: DATABASE, %core, length, "taken");
        }
        TraceEvent::Drained { batches, applies } => {
            debug!(target: DATABASE, batches, applies, "drained");
        }
        TraceEvent::Undone { batches } => {
            debug!(target: DATABASE, batches, "undone");
        }
        TraceEvent::Suspended { core, index } => {
            debug!(target: DATABASE, %core, index, "suspended");
        }
        TraceEvent::WentBack { batches } => {
            debug!(target: DATABASE, batches, "went_back");
        }
        TraceEvent::MovedOnto { core, batches } => {
            info!(target: DATABASE, %core, batches, "moved_onto");
        }
        TraceEvent::StrangerAdmitted { core } => {
            debug!(target: DATABASE, %core, "stranger_admitted");
        }
        TraceEvent::StrangerEvicted { core } => {
            debug!(target: DATABASE, %core, "stranger_evicted");
        }
        TraceEvent::StrangerLetGo { core, kept } => {
            debug!(target: DATABASE, %core, kept, "stranger_let_go");
        }
        TraceEvent::StrangerTurn { core } => {
            debug!(target: DATABASE, %core, "stranger_turn");
        }
        TraceEvent::Recovered {
            local,
            batches,
            refused,
        } => {
            info!(target: DATABASE, %local, batches, refused, "opened");
        }
        TraceEvent::Outcome { length, outcome } => {
            debug!(target: DATABASE, length, outcome, "outcome");
        }
        TraceEvent::WriterAdded { core } => {
            info!(target: DATABASE, %core, "writer_added");
        }
        TraceEvent::WriterRemoved { core } => {
            info!(target: DATABASE, %core, "writer_removed");
        }
        TraceEvent::DatabaseClosed { local } => {
            info!(target: DATABASE, %local, "closed");
        }
        TraceEvent::Stalled { core, why } => {
            warn!(target: DATABASE, %core, why, "stalled");
        }
        TraceEvent::Failed { what, why } => {
            warn!(target: DATABASE, what, why, "failed");
        }
        TraceEvent::Interrupted { reason } => {
            error!(target: DATABASE, reason, "interrupted");
        }
        TraceEvent::Checkpoint { count } => {
            debug!(target: STORE, count, "checkpoint");
        }
        TraceEvent::Compaction { count } => {
            debug!(target: STORE, count, "compaction");
        }
        TraceEvent::Fenced { why } => {
            error!(target: STORE, why, "fenced");
        }
        TraceEvent::ChannelOpened { session, core } => {
            debug!(target: SESSION, session, %core, "channel_opened");
        }
        TraceEvent::Connected { session } => {
            info!(target: SESSION, session, "connected");
        }
        TraceEvent::Closed { session, why } => {
            info!(target: SESSION, session, why, "closed");
        }
        TraceEvent::Blamed { session, core, why } => {
            warn!(target: SESSION, session, %core, why, "blamed");
        }
        TraceEvent::Note { text } => {
            info!(target: DATABASE, text, "note");
        }
    }
}

/// Runs a future in a span.
pub(super) fn within<F: Future + Send>(span: TraceSpan, future: F) -> impl Future<Output = F::Output> + Send {
    future.instrument(match span {
        TraceSpan::Session { session } => info_span!(target: SESSION, "session", session),
        TraceSpan::Drain => debug_span!(target: DATABASE, "drain"),
    })
}
