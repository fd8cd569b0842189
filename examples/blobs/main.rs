//! Files of any size beside the database, by the hash of what is in them.
//!
//! A value of the database stays in the log for good, and everybody gets it. So the database has only the hash, the size and the
//! type of a file, by its name (`files.rs`). What is in it is cut into pieces, which are in a log of their own (`store.rs`): they
//! go over the same connections, and only to who asks for them. No file is in memory as a whole, and none is given out whose
//! hash is another one. The same content under two names is stored once.
//!
//! ```text
//! cargo run --example blobs -- DIR [--join KEY] [--listen ADDRESS] [--connect ADDRESS]... [--wait SECONDS]
//! ```
//!
//! Lines on stdin are commands, one after the other:
//!
//! ```text
//! put PATH [as NAME]    stores a file, under the name of the path or another one
//! get NAME [to PATH]    writes a file, at its name or another path; nothing may be there
//! ls                    shows the files, and how much of each is here
//! rm NAME               takes a name away; its pieces stay in the logs
//! add KEY               lets a device write
//! quit                  ends, as Ctrl-C and the end of the input do
//! ```
//!
//! The exit code is 1 when one of them failed.
//!
//! A second device, which joined by the key; hashes and keys are cut here:
//!
//! ```text
//! the key is e7f2cef1..
//! to let this device write, another one says: add 8ca427e7..
//! ls
//! photo.jpg: 1310725 bytes, image/jpeg, 1a09f92b.., 0 of 21 pieces here
//! get photo.jpg to copy.jpg
//! photo.jpg: 1310725 bytes at copy.jpg
//! ls
//! photo.jpg: 1310725 bytes, image/jpeg, 1a09f92b.., 21 of 21 pieces here
//! get nothing.txt
//! blobs: get nothing.txt: there is no file nothing.txt
//! ```

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program for this machine: files, and a thread for what is typed"
)]

mod files;
mod store;
#[path = "../support/terminal.rs"]
mod terminal;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use autobee::{Autobee, CoreKey, Corestore, ErrorKind, NativeAutobee, NativeEnv, Outcome, Range};

use files::{FILES, File, Files, LOGS, Op, file_key, places};
use store::{Pieces, hash_of};
use terminal::{complain, say, typed};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str =
    "usage: blobs DIR [--join KEY] [--listen ADDRESS] [--connect ADDRESS]... [--wait SECONDS]";

const COMMANDS: &str = "put PATH [as NAME], get NAME [to PATH], ls, rm NAME, add KEY, quit";

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            complain("blobs", &format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain("blobs", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// False when a command failed.
async fn run(options: &Options) -> Result<bool> {
    let store = Corestore::open_default(NativeEnv::new(&options.dir)?).await?;
    let pieces = Pieces::open(&store, options.wait).await?;
    let mut builder = Autobee::builder(store).apply(Files).optimistic(false);
    if let Some(key) = options.key {
        builder = builder.key(key);
    }
    let db = builder.open().await?;
    let mut device = Device {
        db: db.clone(),
        pieces,
        wait: options.wait,
    };
    let done = device.work(options).await;
    db.close().await?;
    done
}

/// The database, and the pieces beside it.
struct Device {
    db: NativeAutobee,
    pieces: Pieces,
    /// How long a file is waited for that peers may have told nothing of yet.
    wait: Duration,
}

impl Device {
    async fn work(&mut self, options: &Options) -> Result<bool> {
        say(format!("the key is {}", self.db.key()));
        let mut logs = self.db.watch(Range::prefix(LOGS));
        self.follow().await?;
        let _listening = match &options.listen {
            Some(address) => {
                let listening = self.db.listen(address).await?;
                say(format!("listening at {}", listening.local_addr()));
                Some(listening)
            }
            None => None,
        };
        let connect = options
            .connect
            .iter()
            .map(|address| self.db.keep_connected(address));
        let _connected = connect.collect::<std::result::Result<Vec<_>, _>>()?;
        if !self.db.writable() {
            say(format!(
                "to let this device write, another one says: add {}",
                self.db.local()
            ));
        }

        let mut typed = typed();
        let mut stop = pin!(tokio::signal::ctrl_c());
        let mut is_good = true;
        loop {
            tokio::select! {
                biased;
                stopped = &mut stop => { stopped?; return Ok(is_good) }
                change = logs.next() => { change?; self.follow().await? }
                line = typed.recv() => {
                    let line = match line.as_deref().map(str::trim) {
                        None | Some("quit") => return Ok(is_good),
                        Some("") => continue,
                        Some(line) => line,
                    };
                    // A get leaves no part of a file. Pieces that a put stored stay in the log, and no name leads to them.
                    let done = tokio::select! {
                        biased;
                        stopped = &mut stop => { stopped?; return Ok(is_good) }
                        done = self.obey(line) => done,
                    };
                    if let Err(error) = done {
                        complain("blobs", &format!("{line}: {error}"));
                        is_good = false;
                    }
                }
            }
        }
    }

    /// Opens all logs that have pieces: what is here of them is offered to peers.
    async fn follow(&mut self) -> Result<()> {
        for (key, _) in self.db.view().entries(Range::prefix(LOGS)).await? {
            let log: CoreKey = String::from_utf8_lossy(&key[LOGS.len()..]).parse()?;
            self.pieces.follow(log).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, line: &str) -> Result<()> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (command, rest.trim()) {
            ("ls", "") => self.list().await,
            ("put", rest) if !rest.is_empty() => {
                let (path, name) = match rest.rsplit_once(" as ") {
                    Some((path, name)) => (Path::new(path), name),
                    None => (Path::new(rest), file_name(rest)?),
                };
                self.put(path, name).await
            }
            ("get", rest) if !rest.is_empty() => {
                let (name, path) = rest.rsplit_once(" to ").unwrap_or((rest, rest));
                self.get(name, Path::new(path)).await
            }
            ("rm", name) if !name.is_empty() => {
                self.file(name).await?;
                self.append(&Op::Remove {
                    name: name.to_owned(),
                })
                .await
            }
            ("add", key) => {
                let device = key.parse::<CoreKey>();
                let device = device.map_err(|error| format!("no key of a device: {error}"))?;
                self.append(&Op::Add { device }).await
            }
            _ => Err(format!("no command; they are {COMMANDS}").into()),
        }
    }

    async fn put(&mut self, path: &Path, name: &str) -> Result<()> {
        if !self.db.writable() {
            return Err("this device may not write yet".into());
        }
        files::check_name(name)?;
        let (hash, size) = hash_of(path)?;
        let file = File {
            hash,
            size,
            media_type: media_type(name).to_owned(),
        };
        self.follow().await?;
        // What another device says is no proof: only pieces that are here, and have the hash, are not stored again.
        let mut known = None;
        for (key, value) in self.db.view().entries(places(&file.hash)).await? {
            let place = files::place(&key, &value);
            if let Some(place) = place
                && self.pieces.holds(&file, &place)?
            {
                known = Some(place);
                break;
            }
        }
        let place = match known {
            Some(place) => place,
            None => self.pieces.store(path, &file.hash).await?,
        };
        let stored = if known.is_some() {
            "there already"
        } else {
            "stored"
        };
        let said = format!(
            "{name}: {size} bytes, {}, {}, {stored}",
            file.media_type, file.hash
        );
        // The pieces are durable by now: who learns of the name finds them.
        let name = name.to_owned();
        self.append(&Op::Put { name, file, place }).await?;
        say(said);
        Ok(())
    }

    async fn get(&mut self, name: &str, path: &Path) -> Result<()> {
        let file = self.awaited(name).await?;
        self.follow().await?;
        let mut failed = "nobody has stored it".into();
        // Any place will do: what is in a file is what its hash says.
        for (key, value) in self.db.view().entries(places(&file.hash)).await? {
            let Some(place) = files::place(&key, &value) else {
                continue;
            };
            match self.pieces.fetch(&file, &place, path).await {
                Ok(()) => {
                    say(format!("{name}: {} bytes at {}", file.size, path.display()));
                    return Ok(());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A file by its name; one that the database does not have is waited for.
    async fn awaited(&self, name: &str) -> Result<File> {
        let mut changes = self.db.watch(Range::key(file_key(name)));
        if let Ok(file) = self.file(name).await {
            return Ok(file);
        }
        if let Ok(change) = tokio::time::timeout(self.wait, changes.next()).await {
            change?;
        }
        self.file(name).await
    }

    async fn file(&self, name: &str) -> Result<File> {
        let found = self.db.view().get(file_key(name).as_bytes()).await?;
        let found = found.ok_or_else(|| format!("there is no file {name}"))?;
        Ok(files::file(&found)?)
    }

    async fn list(&self) -> Result<()> {
        let view = self.db.view();
        let mut names = view.stream(Range::prefix(FILES));
        while let Some((key, value)) = names.next().await? {
            let name = String::from_utf8_lossy(&key[FILES.len()..]).into_owned();
            let file = files::file(&value)?;
            let mut here = 0;
            for (key, value) in view.entries(places(&file.hash)).await? {
                if let Some(place) = files::place(&key, &value) {
                    here = here.max(self.pieces.here(&file, &place)?);
                }
            }
            let File {
                hash,
                size,
                media_type,
            } = &file;
            let all = file.pieces();
            say(format!(
                "{name}: {size} bytes, {media_type}, {hash}, {here} of {all} pieces here"
            ));
        }
        Ok(())
    }

    async fn append(&self, op: &Op) -> Result<()> {
        op.check()?;
        let appended = self
            .db
            .append_with(vec![op.to_bytes().into()], Default::default())
            .await;
        let appended = appended.map_err(|error| match error.kind() {
            ErrorKind::Denied => "this device may not write yet".to_owned(),
            _ => error.to_string(),
        })?;
        match appended.outcome {
            Outcome::Rejected(why) => Err(why.into()),
            _ => Ok(()),
        }
    }
}

/// The last part of a path.
fn file_name(path: &str) -> Result<&str> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    Ok(name.ok_or("that is no path of a file")?)
}

/// What kind of file it is, by the end of its name.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "txt" | "md" => "text/plain",
        "html" => "text/html",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        _ => "application/octet-stream",
    }
}

/// What was said on the command line.
struct Options {
    dir: PathBuf,
    key: Option<CoreKey>,
    listen: Option<String>,
    connect: Vec<String>,
    wait: Duration,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let dir = words.next().filter(|dir| !dir.starts_with("--"));
        let mut options = Self {
            dir: dir.ok_or("a directory is needed")?.into(),
            key: None,
            listen: None,
            connect: Vec::new(),
            wait: Duration::from_secs(10),
        };
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| format!("{word} is followed by something"))?;
            match word.as_str() {
                "--join" => {
                    let key = value.parse::<CoreKey>();
                    options.key = Some(key.map_err(|error| format!("--join: {error}"))?);
                }
                "--listen" => options.listen = Some(value),
                "--connect" => options.connect.push(value),
                "--wait" => {
                    let seconds = value.parse::<u64>();
                    options.wait = Duration::from_secs(seconds.map_err(|error| format!("--wait: {error}"))?);
                }
                _ => return Err(format!("there is no {word}").into()),
            }
        }
        Ok(options)
    }
}
