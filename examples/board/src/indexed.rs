//! The merge with a mistake: it remembers where cards are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use autobee::{Apply, ApplyError, ApplyView, Entry, Host};

use super::{List, Op, put};

/// Keeps an index of all cards, which saves looking through the lists. But batches are applied again in another order
/// when entries come late, a replica that starts again goes on from its view, and none of that tells the index.
#[derive(Debug, Default)]
pub struct Indexed {
    places: Mutex<BTreeMap<u8, List>>,
}

impl Apply for Indexed {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let op = Op::from_bytes(entry.value()).ok_or_else(|| ApplyError::reject("no operation"))?;
            let card = op.card();
            let from = self.place(card);
            let to = match op {
                Op::Add { .. } if from.is_some() => return Err(ApplyError::reject("the card is there")),
                Op::Move { .. } | Op::Remove { .. } if from.is_none() => {
                    return Err(ApplyError::reject("the card is not there"));
                }
                Op::Add { list, .. } => Some(list),
                Op::Move { to, .. } => Some(to),
                Op::Remove { .. } => None,
            };
            put(view, card, from, to).await?;
            self.note(card, to);
        }
        Ok(())
    }
}

impl Indexed {
    fn place(&self, card: u8) -> Option<List> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&card).copied()
    }

    fn note(&self, card: u8, list: Option<List>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match list {
            Some(list) => places.insert(card, list),
            None => places.remove(&card),
        };
    }
}
