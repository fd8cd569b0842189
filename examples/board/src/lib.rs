//! A board: cards in lists, as several people edit it at once and offline.
//!
//! [`Board`] is the merge. [`Hasty`] and [`Indexed`] are the same with a mistake that is easily overlooked.
//! `tests/converge.rs` shows how each is found; `docs/testing-your-apply.md` walks through it.
//!
//! The view has a key for each card in its list, `list/<list>/<card>`, with the title as value.

mod hasty;
mod indexed;

use autobee::{Apply, ApplyError, ApplyView, Entry, Host};

pub use hasty::Hasty;
pub use indexed::Indexed;

/// What somebody did to the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a card, and puts it into a list.
    Add {
        /// Its number, which whoever writes it chooses.
        card: u8,
        /// Where it goes.
        list: List,
    },
    /// Puts a card into another list, wherever it is.
    Move {
        /// Which.
        card: u8,
        /// Where it goes.
        to: List,
    },
    /// Throws a card away.
    Remove {
        /// Which.
        card: u8,
    },
}

/// The lists of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Nobody has begun.
    Todo,
    /// Somebody has.
    Doing,
    /// It is over.
    Done,
}

/// The merge.
#[derive(Debug, Default)]
pub struct Board;

impl Apply for Board {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let op = Op::from_bytes(entry.value()).ok_or_else(|| ApplyError::reject("no operation"))?;
            let from = place(view, op.card()).await;
            match op {
                Op::Add { .. } if from.is_some() => return Err(ApplyError::reject("the card is there")),
                Op::Add { card, list } => put(view, card, None, Some(list)).await?,
                Op::Move { .. } | Op::Remove { .. } if from.is_none() => {
                    return Err(ApplyError::reject("the card is not there"));
                }
                Op::Move { card, to } => put(view, card, from, Some(to)).await?,
                Op::Remove { card } => put(view, card, from, None).await?,
            }
        }
        Ok(())
    }
}

/// The list that a card is in.
async fn place(view: &ApplyView, card: u8) -> Option<List> {
    for list in List::ALL {
        if view.get(&list.key(card)).await.is_some() {
            return Some(list);
        }
    }
    None
}

/// Takes a card out of one list, and puts it into another.
async fn put(view: &mut ApplyView, card: u8, from: Option<List>, to: Option<List>) -> Result<(), ApplyError> {
    let mut write = view.write();
    if let Some(from) = from {
        write.delete(&from.key(card));
    }
    if let Some(to) = to {
        write.put(&to.key(card), format!("card {card}").as_bytes());
    }
    write.flush().await
}

impl List {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Todo, Self::Doing, Self::Done];

    /// Where the view has a card of this list.
    #[must_use]
    pub fn key(self, card: u8) -> Vec<u8> {
        format!("list/{self:?}/{card:03}").into_bytes()
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|list| *list as u8 == byte)
    }
}

impl Op {
    /// The card that it is about.
    #[must_use]
    pub const fn card(&self) -> u8 {
        match self {
            Self::Add { card, .. } | Self::Move { card, .. } | Self::Remove { card } => *card,
        }
    }

    /// What is appended of it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Add { card, list } => vec![b'a', *card, *list as u8],
            Self::Move { card, to } => vec![b'm', *card, *to as u8],
            Self::Remove { card } => vec![b'r', *card],
        }
    }

    /// An operation that was appended; none for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [b'a', card, list] => List::from_byte(list).map(|list| Self::Add { card, list }),
            [b'm', card, to] => List::from_byte(to).map(|to| Self::Move { card, to }),
            [b'r', card] => Some(Self::Remove { card }),
            _ => None,
        }
    }
}
