//! A view of a type of the program's own: made once for each version that is asked for, and let go when the database closes.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Autobee, View};
use crate::env::Env;
use crate::error::Error;
use crate::wire::Link;

/// Hands out the view as a type of the program's own: [`Autobee::custom_view`]. Clones share what was made.
///
/// It corresponds to the original's options `open` and `close`: what `open` makes is kept until there is a newer version of
/// the view, or the database is closed, and closes by its `Drop` once nobody holds it any more.
///
/// ```
/// use autobee::{Autobee, Corestore, Error, View};
/// # use autobee::apply::OrderOnly;
/// # use autobee::env::memory::MemoryEnv;
///
/// /// Settings, as the program speaks of them.
/// struct Preferences(View);
///
/// impl Preferences {
///     async fn language(&self) -> Result<String, Error> {
///         let stored = self.0.get(b"language").await?;
///         Ok(stored.map_or_else(|| "en".into(), |value| String::from_utf8_lossy(&value).into_owned()))
///     }
/// }
///
/// # let env = MemoryEnv::new(1);
/// # env.run(async {
/// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
/// let preferences = db.custom_view(|view| Preferences(view));
/// assert_eq!(preferences.get()?.language().await?, "en");
/// db.close().await?;
/// assert!(matches!(preferences.get(), Err(Error::Closed)));
/// # Ok::<(), Error>(())
/// # }).unwrap().unwrap();
/// ```
pub struct CustomView<E: Env, T> {
    db: Autobee<E>,
    kept: Arc<Kept<T>>,
}

struct Kept<T> {
    open: Box<dyn Fn(View) -> T + Send + Sync>,
    latest: Mutex<Option<(Link, Arc<T>)>>,
}

/// Something that lets go of what it keeps when the database closes.
pub(super) trait ReleasedAtClose: Send + Sync {
    /// The database is closed: nothing is made any more.
    fn release(&self);
}

impl<T> Kept<T> {
    fn lock(&self) -> MutexGuard<'_, Option<(Link, Arc<T>)>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync> ReleasedAtClose for Kept<T> {
    fn release(&self) {
        // Dropped behind the lock: what it does then is not known here.
        let latest = self.lock().take();
        drop(latest);
    }
}

impl<E: Env, T: Send + Sync + 'static> CustomView<E, T> {
    pub(super) fn new(db: Autobee<E>, open: impl Fn(View) -> T + Send + Sync + 'static) -> Self {
        let kept = Arc::new(Kept {
            open: Box::new(open),
            latest: Mutex::new(None),
        });
        let weak = Arc::downgrade(&kept);
        db.shared.release_at_close(weak);
        Self { db, kept }
    }

    /// The view as it is now: what was made before, when the view has not changed since.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub fn get(&self) -> Result<Arc<T>, Error> {
        let mut latest = self.kept.lock();
        // Looked at under the lock, which the closing takes behind it: nothing is made that nobody lets go.
        self.db.shared.check_open()?;
        let view = self.db.view();
        let head = view.head();
        if let Some((known, made)) = &*latest
            && *known == head
        {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new((self.kept.open)(view));
        let before = latest.replace((head, Arc::clone(&made)));
        drop(latest);
        drop(before);
        Ok(made)
    }
}

impl<E: Env, T> Clone for CustomView<E, T> {
    fn clone(&self) -> Self {
        Self {
            db: self.db.clone(),
            kept: Arc::clone(&self.kept),
        }
    }
}

impl<E: Env, T> fmt::Debug for CustomView<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomView").finish_non_exhaustive()
    }
}
