//! Contents of files and names of a directory, as persistent maps.

use std::sync::Arc;

use bytes::Bytes;
use im::OrdMap;

/// Bytes of one page.
pub(super) const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

/// A file apart from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(pub(super) u64);

/// One state of the directory.
#[derive(Clone, Default)]
pub(super) struct Image {
    pub(super) names: OrdMap<String, Inode>,
    pub(super) files: OrdMap<Inode, Contents>,
}

/// The bytes of one file. A page that is not there is all zeros.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub(super) pages: OrdMap<u64, Arc<[u8; PAGE]>>,
    pub(super) length: u64,
}

/// What a call changes.
#[derive(Clone)]
pub(super) enum DiskChange {
    Write { inode: Inode, offset: u64, bytes: Bytes },
    Truncate { inode: Inode, length: u64 },
    Create { name: String, inode: Inode },
    Rename { from: String, to: String, inode: Inode },
    Remove { name: String },
}

impl DiskChange {
    /// True for changes of the directory, false for changes of contents.
    pub(super) const fn is_name(&self) -> bool {
        matches!(
            self,
            Self::Create { .. } | Self::Rename { .. } | Self::Remove { .. }
        )
    }

    /// The file whose contents it changes.
    pub(super) const fn inode(&self) -> Option<Inode> {
        match self {
            Self::Write { inode, .. } | Self::Truncate { inode, .. } => Some(*inode),
            Self::Create { .. } | Self::Rename { .. } | Self::Remove { .. } => None,
        }
    }

    /// True when it gives this file a name.
    pub(super) fn names_inode(&self, wanted: Inode) -> bool {
        matches!(self, Self::Create { inode, .. } | Self::Rename { inode, .. } if *inode == wanted)
    }
}

impl Image {
    pub(super) fn apply(&mut self, change: &DiskChange) {
        match change {
            DiskChange::Write { inode, offset, bytes } => self.contents(*inode).write(*offset, bytes),
            DiskChange::Truncate { inode, length } => self.contents(*inode).truncate(*length),
            DiskChange::Create { name, inode } => {
                self.names.insert(name.clone(), *inode);
                self.contents(*inode);
            }
            DiskChange::Rename { from, to, inode } => {
                self.names.remove(from);
                self.names.insert(to.clone(), *inode);
                self.contents(*inode);
            }
            DiskChange::Remove { name } => {
                self.names.remove(name);
            }
        }
    }

    pub(super) fn contents(&mut self, inode: Inode) -> &mut Contents {
        self.files.entry(inode).or_default()
    }

    pub(super) fn used(&self) -> u64 {
        let lengths = self.names.values().filter_map(|inode| self.files.get(inode));
        lengths.map(|contents| contents.length).sum()
    }
}

impl Contents {
    /// Fills `buffer`; false when the file ends before.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Some(end) = offset.checked_add(buffer.len() as u64) else {
            return false;
        };
        if end > self.length {
            return buffer.is_empty();
        }
        for (number, within, part) in spans(offset, buffer.len()) {
            let target = &mut buffer[part];
            match self.pages.get(&number) {
                Some(page) => target.copy_from_slice(&page[within..within + target.len()]),
                None => target.fill(0),
            }
        }
        true
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        for (number, within, part) in spans(offset, bytes.len()) {
            let source = &bytes[part];
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + source.len()].copy_from_slice(source);
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    pub(super) fn truncate(&mut self, length: u64) {
        if length < self.length {
            let first_gone = length.div_ceil(PAGE_BYTES);
            let (mut kept, _) = self.pages.split(&first_gone);
            // Bytes after the end read as zeros when the file grows again.
            let rest = usize::try_from(length % PAGE_BYTES).unwrap_or(0);
            if rest != 0
                && let Some(page) = kept.get_mut(&(length / PAGE_BYTES))
            {
                Arc::make_mut(page)[rest..].fill(0);
            }
            self.pages = kept;
        }
        self.length = length;
    }

    /// Flips a bit; false when the file has no such byte.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        let mut byte = [0];
        if !self.read(offset, &mut byte) {
            return false;
        }
        self.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
        true
    }
}

/// The pages that a range touches: number, offset within, part of the range.
pub(super) fn spans(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE_BYTES).unwrap_or(0);
        let count = (PAGE - within).min(length - done);
        let part = done..done + count;
        done += count;
        Some((at / PAGE_BYTES, within, part))
    })
}
