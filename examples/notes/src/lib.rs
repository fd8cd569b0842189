use autobee::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};

/// Notes by title. Entries are lines: `note TITLE TEXT`, `forget TITLE`, and `device KEY`, which lets one more device write.
pub struct Notes;

impl Apply for Notes {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        for entry in entries {
            let line = String::from_utf8_lossy(entry.value()).into_owned();
            match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
                ["note", title, text] => write.put(title.as_bytes(), text.as_bytes()),
                ["forget", title] => write.delete(title.as_bytes()),
                ["device", key] => {
                    let key = key
                        .parse()
                        .map_err(|_| ApplyError::reject("no key of a device"))?;
                    host.add_writer(key, WriterOptions::default());
                }
                // What is refused has no effect, at every device alike.
                _ => return Err(ApplyError::reject("neither a note nor a device")),
            }
        }
        write.flush().await
    }
}
