//! Named lines of a core: opened, removed, and taken over by the main line.

use crate::crypto::Sign;
use crate::hypercore::authority::{Authority, sign};
use crate::hypercore::change::{LengthAndSize, LineSelector, StoreChange};
use crate::hypercore::error::CoreError;
use crate::hypercore::event::CoreEvent;
use crate::hypercore::manifest::Manifest;
use crate::hypercore::proof::Head;
use crate::hypercore::staged::Staged;
use crate::store::{CorePointer, Key, StoreBatch};
use crate::wire::Length;
use crate::wire::compact::Encode as _;

impl<C: Sign> StoreChange<'_, C> {
    /// Opens the named line, forked from `from` unless it exists.
    pub(in crate::hypercore) fn open_named(
        &mut self,
        pointer: CorePointer,
        name: &str,
        from: &LineSelector,
        overwrite: bool,
    ) -> Result<(), CoreError> {
        self.save(pointer)?;
        let view = Staged::new(&self.snapshot, &self.batch);
        let core = self.cores.get_mut(pointer)?;
        let existing = core.named_line(name, &view)?.map(|line| line.data);
        if existing.is_some() && !overwrite {
            return Ok(());
        }
        let source = match from {
            LineSelector::Main => core.main.clone(),
            LineSelector::Named(other) => core.named_line(other, &view)?.ok_or(CoreError::Unknown)?.clone(),
        };
        if existing.is_some() {
            if let Some(line) = core.named.remove(name) {
                let mut erased = StoreBatch::default();
                line.erase(&mut erased);
                self.batch.append(erased);
            }
            core.lines.named.retain(|(other, _)| other != name);
        }
        let data = self.next_data();
        let mut batch = StoreBatch::default();
        let line = source.fork(data, &Staged::new(&self.snapshot, &self.batch), &mut batch)?;
        self.batch.append(batch);
        let core = self.cores.get_mut(pointer)?;
        core.lines.named.push((name.to_owned(), data));
        core.named.insert(name.to_owned(), line);
        self.batch
            .put(Key::Sessions(pointer), core.lines.to_bytes()?)
            .put(Key::StoreHead, self.cores.store.to_bytes()?);
        Ok(())
    }

    /// Removes a named line for good.
    pub(in crate::hypercore) fn remove_named(
        &mut self,
        pointer: CorePointer,
        name: &str,
    ) -> Result<(), CoreError> {
        self.save(pointer)?;
        let view = Staged::new(&self.snapshot, &self.batch);
        let core = self.cores.get_mut(pointer)?;
        if core.named_line(name, &view)?.is_none() {
            return Ok(());
        }
        if let Some(line) = core.named.remove(name) {
            line.erase(&mut self.batch);
        }
        core.lines.named.retain(|(other, _)| other != name);
        self.batch.put(Key::Sessions(pointer), core.lines.to_bytes()?);
        core.bump();
        Ok(())
    }

    /// Moves blocks of a named line into the main one. None, and nothing done, when the main line has gone another
    /// way or is longer already.
    pub(in crate::hypercore) fn commit_named(
        &mut self,
        pointer: CorePointer,
        name: &str,
        length: Option<u64>,
        authority: &Authority,
    ) -> Result<Option<LengthAndSize>, CoreError> {
        self.save(pointer)?;
        self.line(pointer, &LineSelector::Named(name.to_owned()))?;
        let view = Staged::new(&self.snapshot, &self.batch);
        let core = self.cores.get_mut(pointer)?;
        let session = core.named.get(name).ok_or(CoreError::Unknown)?.clone();
        let length = length.unwrap_or(session.head.tree.length());
        let ours = core.main.head.tree.length();
        if core.manifest().is_none() || ours > session.head.tree.length() || ours > length {
            return Ok(None);
        }
        let nodes = session.nodes(&view);
        if ours > session.base() {
            for root in core.main.head.tree.roots() {
                let same = session.head.tree.node_if_stored(root.index, &nodes)?;
                if same.is_none_or(|same| same.hash != root.hash) {
                    return Ok(None);
                }
            }
        }
        if length == ours {
            return Ok(Some(LengthAndSize::of(&core.main.head.tree)));
        }
        let fork = core.main.head.tree.fork();
        if session.head.tree.fork() != fork {
            return Err(CoreError::Fork {
                session: session.head.tree.fork(),
                core: fork,
            });
        }
        let tree = session.head.tree.truncated(length, fork, &nodes)?;
        let signature = sign(self.crypto, core, &tree, authority)?;
        let mut batch = StoreBatch::default();
        core.main.copy_from(&session, ours..length, &view, &mut batch)?;
        core.main.head = Head { tree, signature };
        core.main.write_head(&mut batch)?;
        let appended = LengthAndSize::of(&core.main.head.tree);
        if let Some(session) = core.named.get_mut(name) {
            session.rebase(length, &mut batch)?;
        }
        self.batch.append(batch);
        self.changed(
            pointer,
            &LineSelector::Main,
            CoreEvent::Append {
                length: appended.length,
            },
        )?;
        Ok(Some(appended))
    }

    /// Copies all of a core into an empty one whose manifest fixes exactly that.
    pub(in crate::hypercore) fn copy_main(
        &mut self,
        source: CorePointer,
        target: CorePointer,
    ) -> Result<(), CoreError> {
        self.save(target)?;
        let source = self.cores.get(source)?.main.clone();
        let core = self.cores.get_mut(target)?;
        let length = source.head.tree.length();
        if core.main.head.tree.length() > 0 {
            return Ok(());
        }
        let prologue = core.manifest().and_then(Manifest::prologue);
        if prologue.is_none_or(|prologue| prologue.hash != source.head.tree.hash()) {
            return Err(CoreError::Conflict("content"));
        }
        let mut batch = StoreBatch::default();
        let view = Staged::new(&self.snapshot, &self.batch);
        core.main.copy_from(&source, 0..length, &view, &mut batch)?;
        core.main.head = Head {
            tree: source.head.tree.at_fork(0),
            signature: None,
        };
        core.main.write_head(&mut batch)?;
        self.batch.append(batch);
        self.changed(
            target,
            &LineSelector::Main,
            CoreEvent::Append {
                length: Length(length),
            },
        )
    }
}
