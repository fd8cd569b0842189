//! The merge with a mistake: it looks for a card only where it is to go.

use autobee::{Apply, ApplyError, ApplyView, Entry, Host};

use super::{Op, place, put};

/// Adds a card unless the list has it. Nobody writes a card that is in another list, it thinks: the app does not let them.
/// But two people who are offline choose one number for two cards, and put them into different lists.
#[derive(Debug, Default)]
pub struct Hasty;

impl Apply for Hasty {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let op = Op::from_bytes(entry.value()).ok_or_else(|| ApplyError::reject("no operation"))?;
            match op {
                Op::Add { card, list } => {
                    if view.get(&list.key(card)).await.is_some() {
                        return Err(ApplyError::reject("the card is there"));
                    }
                    put(view, card, None, Some(list)).await?;
                }
                Op::Move { card, to } => {
                    let from = place(view, card).await;
                    let from = from.ok_or_else(|| ApplyError::reject("the card is not there"))?;
                    put(view, card, Some(from), Some(to)).await?;
                }
                Op::Remove { card } => {
                    let from = place(view, card).await;
                    put(view, card, from, None).await?;
                }
            }
        }
        Ok(())
    }
}
