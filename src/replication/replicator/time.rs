//! What happens when time passes: peers that do not answer, and work that is given to a second peer.

use std::time::Duration;

use super::{PeerId, Replicator, ask};
use crate::env::{Mono, Slip};

/// When it is first looked at whether somebody else is faster.
const HEDGE: Duration = Duration::from_millis(125);

/// How often that is done, at twice the time each. [`ask::PATIENCE`] is among them.
const HEDGES: u32 = 8;

impl Replicator {
    /// When [`Replicator::tick`] is to be called next, and pulling may give something new.
    #[must_use]
    pub fn next_timeout(&self, now: Mono) -> Option<Mono> {
        let timeout = self.settings.answer_timeout;
        let asked = self.requests.peers().filter_map(|id| self.peers.get(&id));
        let answers = asked.map(|peer| peer.last_sign() + timeout);
        let is_resting = self.rests_until > now;
        let rests = self
            .peers
            .values()
            .take(if is_resting { usize::MAX } else { 0 })
            .map(|peer| peer.resting_until)
            .filter(|until| *until > now);
        let claims = self
            .demand
            .blocks
            .values()
            .map(|block| block.since + ask::CLAIM_TIME);
        let hedges = self.hedges().filter(|at| *at > now);
        let checks = self.check_deadlines();
        answers
            .chain(rests)
            .chain(claims.filter(|at| *at > now))
            .chain(hedges)
            .chain(checks)
            .min()
    }

    /// The time before which nothing ends that began since the last call; none when nothing began for which time matters.
    pub fn take_deadline(&mut self, now: Mono) -> Option<Mono> {
        std::mem::take(&mut self.has_deadline).then(|| now + HEDGE)
    }

    /// When another peer may be asked for what one was asked for, each time later.
    fn hedges(&self) -> impl Iterator<Item = Mono> {
        let is_alone = self.peers.len() < 2;
        let requests = self.requests.iter().filter(move |_| !is_alone);
        requests.flat_map(|(_, request)| (0..HEDGES).map(|step| request.sent + HEDGE * (1 << step)))
    }

    /// Takes back what was asked of peers that do not answer. Pulling for any peer may give something from then on.
    pub fn tick(&mut self, now: Mono) {
        self.end_late_checks(now);
        self.all_ready();
        let timeout = self.settings.answer_timeout;
        let silent: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.in_flight > 0 && now.since(peer.last_sign()) >= timeout)
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            for request in self.requests.of_peer(id) {
                self.cancel(request);
            }
            if let Some(peer) = self.peers.get_mut(&id) {
                // Longer each time: it may never answer again.
                peer.rests = (peer.rests + 1).min(8);
                peer.resting_until = if self.planted.has(Slip::SilentForEver) {
                    Mono(u64::MAX)
                } else {
                    now + timeout * (1 << peer.rests)
                };
                self.rests_until = self.rests_until.max(peer.resting_until);
                self.has_deadline = true;
            }
        }
    }
}
