//! What a power cut leaves of unsynced changes.

use std::collections::BTreeSet;

use super::SimDisk;
use super::choice::{Choose, Seeded};
use super::image::{DiskChange, Image, Inode, spans};

/// Bytes that a device writes as one.
pub(super) const SECTOR_BYTES: u64 = 512;

/// How a power cut treats what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskCrash {
    /// Nothing of it is kept.
    Lost,
    /// All of it is kept, as when only the process dies.
    Kept,
    /// The calls up to some one are kept, and of that one some first bytes.
    Prefix,
    /// Any sectors of any calls are kept, some of them torn; any changes of names.
    Sectors,
    /// Lengths are kept, any pages of the contents; the others read as before, or as zeros.
    Pages,
    /// Any whole calls are kept.
    Calls,
}

impl DiskCrash {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Lost,
        Self::Kept,
        Self::Prefix,
        Self::Sectors,
        Self::Pages,
        Self::Calls,
    ];
}

/// The whole disk at one moment, unsynced changes included.
#[derive(Clone)]
pub struct DiskSnapshot {
    pub(super) synced: Image,
    pub(super) pending: Vec<DiskChange>,
    pub(super) written: Image,
}

impl DiskSnapshot {
    /// The disk that a power cut at this moment leaves.
    pub fn crash(&self, how: DiskCrash, choice: &mut impl Choose) -> SimDisk {
        let image = image(&self.synced, &self.pending, &self.written, how, choice);
        SimDisk::from_image(image, Seeded::new(0))
    }

    /// True when there is nothing that a power cut could take.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.pending.is_empty()
    }
}

pub(super) fn image(
    synced: &Image,
    pending: &[DiskChange],
    written: &Image,
    how: DiskCrash,
    choice: &mut impl Choose,
) -> Image {
    let mut image = synced.clone();
    match how {
        DiskCrash::Lost => {}
        DiskCrash::Kept => image = written.clone(),
        DiskCrash::Prefix => keep_prefix(&mut image, pending, choice),
        DiskCrash::Sectors => keep_sectors(&mut image, pending, choice),
        DiskCrash::Pages => keep_pages(&mut image, pending, written, choice),
        DiskCrash::Calls => {
            let fate = Fate::draw(choice);
            for change in pending {
                if fate.keeps(change, choice) {
                    image.apply(change);
                }
            }
        }
    }
    // Contents without a name are gone, and so are names whose file never came into being.
    let named: BTreeSet<Inode> = image.names.values().copied().collect();
    image.files = image
        .files
        .into_iter()
        .filter(|(inode, _)| named.contains(inode))
        .collect();
    image
}

/// How much of the contents, and which names, one crash keeps.
struct Fate {
    contents: u16,
    names: u16,
}

impl Fate {
    /// From nearly nothing to nearly everything; names often all or none, as journals have it.
    fn draw(choice: &mut impl Choose) -> Self {
        let contents = [1 << 13, 1 << 15, u16::MAX - (1 << 13)][choice.below(3) as usize];
        let names = [0, u16::MAX, 1 << 15][choice.below(3) as usize];
        Self { contents, names }
    }

    fn keeps(&self, change: &DiskChange, choice: &mut impl Choose) -> bool {
        match (change.is_name(), self.names) {
            (true, u16::MAX) => true,
            (true, share) => choice.chance(share),
            (false, _) => choice.chance(self.contents),
        }
    }
}

fn keep_prefix(image: &mut Image, pending: &[DiskChange], choice: &mut impl Choose) {
    let whole = choice.below(u32::try_from(pending.len()).unwrap_or(u32::MAX).saturating_add(1)) as usize;
    for change in &pending[..whole] {
        image.apply(change);
    }
    if let Some(DiskChange::Write { inode, offset, bytes }) = pending.get(whole) {
        let kept = choice.below(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) as usize;
        image.contents(*inode).write(*offset, &bytes[..kept]);
    }
}

pub(super) fn keep_sectors(image: &mut Image, pending: &[DiskChange], choice: &mut impl Choose) {
    let fate = Fate::draw(choice);
    for change in pending {
        let DiskChange::Write { inode, offset, bytes } = change else {
            if fate.keeps(change, choice) {
                image.apply(change);
            }
            continue;
        };
        let mut start = 0;
        while start < bytes.len() {
            let at = offset + start as u64;
            let room = usize::try_from(SECTOR_BYTES - at % SECTOR_BYTES).unwrap_or(1);
            let end = (start + room).min(bytes.len());
            if choice.chance(fate.contents) {
                let torn = choice.below(8) == 0;
                let kept = match torn {
                    true => start + choice.below(u32::try_from(end - start).unwrap_or(1)) as usize,
                    false => end,
                };
                image.contents(*inode).write(at, &bytes[start..kept]);
            }
            start = end;
        }
    }
}

fn keep_pages(image: &mut Image, pending: &[DiskChange], written: &Image, choice: &mut impl Choose) {
    let fate = Fate::draw(choice);
    let mut touched = BTreeSet::new();
    for change in pending {
        match change {
            DiskChange::Write { inode, offset, bytes } => {
                touched.extend(spans(*offset, bytes.len()).map(|(number, ..)| (*inode, Some(number))));
            }
            DiskChange::Truncate { inode, .. } => {
                touched.insert((*inode, None));
            }
            DiskChange::Create { .. } | DiskChange::Rename { .. } | DiskChange::Remove { .. } => {
                if fate.keeps(change, choice) {
                    image.apply(change);
                }
            }
        }
    }
    for (inode, number) in touched {
        let Some(source) = written.files.get(&inode) else {
            continue;
        };
        let target = image.contents(inode);
        if target.length != source.length {
            target.truncate(source.length);
        }
        if let Some(number) = number
            && choice.chance(fate.contents)
            && let Some(page) = source.pages.get(&number)
        {
            target.pages.insert(number, page.clone());
        }
    }
}
