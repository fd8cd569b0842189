//! Contacts by id, and an index of them by city, which apply keeps.

use autobee::{Apply, ApplyError, ApplyView, Entry, Host, Range, View};
use serde::{Deserialize, Serialize};

/// A contact: a person, and the city where the person lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) city: String,
    pub(crate) name: String,
}

/// What is appended, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Writes a contact, over the one of this id if there is one.
    Put { id: String, contact: Contact },
    /// Removes one.
    Remove { id: String },
}

impl Op {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings have no value that JSON lacks.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Refuses texts in which the byte stands that ends a city in the index, and ids that are none.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (id, city) = match self {
            Self::Put { id, contact } => (id, contact.city.as_str()),
            Self::Remove { id } => (id, ""),
        };
        if id.is_empty() || id.contains('\0') || city.contains('\0') {
            return Err("an id is not empty, and neither an id nor a city has a zero byte".into());
        }
        Ok(())
    }
}

/// The merge. The view has
///
/// ```text
/// contact/ID         the contact, as JSON
/// city/CITY 0 ID     nothing: that the key is there says it
/// ```
///
/// A zero byte ends the city, so that contacts of `Ulm` are not among those of `Ulmen`, and cities come in their order.
pub(crate) struct Contacts;

impl Apply for Contacts {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let op: Op = serde_json::from_slice(entry.value())
                .map_err(|error| ApplyError::reject(format!("no operation: {error}")))?;
            op.check().map_err(ApplyError::reject)?;
            let (id, after) = match &op {
                Op::Put { id, contact } => (id, Some(contact)),
                Op::Remove { id } => (id, None),
            };
            // What the view has under the id, not what the writer of the entry saw: somebody else may have been first. It
            // says which key of the index has to go.
            let before = view.get(&contact_key(id)).await;
            let before = before.map(|value| read(&value)).transpose();
            let before = before.map_err(ApplyError::fatal)?;
            if before.is_none() && after.is_none() {
                return Err(ApplyError::reject(format!("there is no contact {id}")));
            }
            // One flush, so that no view has the one without the other.
            let mut write = view.write();
            if let Some(before) = &before {
                write.delete(&city_key(&before.city, id));
            }
            match after {
                Some(after) => {
                    write.put(&city_key(&after.city, id), b"");
                    write.put(&contact_key(id), &serde_json::to_vec(after).unwrap_or_default());
                }
                None => write.delete(&contact_key(id)),
            }
            write.flush().await?;
        }
        Ok(())
    }
}

pub(crate) fn contact_key(id: &str) -> Vec<u8> {
    format!("contact/{id}").into_bytes()
}

pub(crate) fn city_key(city: &str, id: &str) -> Vec<u8> {
    format!("city/{city}\0{id}").into_bytes()
}

/// The keys of the index of one city.
pub(crate) fn in_city(city: &str) -> Range {
    Range::prefix(city_key(city, ""))
}

/// The keys of the index of all cities from one on, and before another one.
pub(crate) fn between(from: &str, to: &str) -> Range {
    Range::all().gte(format!("city/{from}")).lt(format!("city/{to}"))
}

/// The city and the id of a key of the index.
pub(crate) fn city_and_id(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key)
        .ok()?
        .strip_prefix("city/")?
        .split_once('\0')
}

/// A contact as the view has it.
pub(crate) fn read(value: &[u8]) -> Result<Contact, String> {
    serde_json::from_slice(value).map_err(|error| format!("a contact that cannot be read: {error}"))
}

/// Whether each contact has its key in the index, and each key of the index its contact. Gives how many contacts there are.
pub(crate) async fn agrees(view: &View) -> Result<u64, String> {
    let (mut contacts, mut keys) = (0, 0);
    let mut all = view.stream(Range::prefix("contact/"));
    while let Some((key, value)) = all.next().await.map_err(|error| error.to_string())? {
        let id = String::from_utf8_lossy(&key["contact/".len()..]).into_owned();
        let city = read(&value)?.city;
        let indexed = view.get(&city_key(&city, &id)).await;
        if indexed.map_err(|error| error.to_string())?.is_none() {
            return Err(format!("{id} lives in {city}, and the index does not say so"));
        }
        contacts += 1;
    }
    let mut index = view.stream(Range::prefix("city/"));
    while let Some((key, _)) = index.next().await.map_err(|error| error.to_string())? {
        let (city, id) = city_and_id(&key).ok_or("a key of the index that is none")?;
        let contact = view
            .get(&contact_key(id))
            .await
            .map_err(|error| error.to_string())?;
        let lives = contact
            .map(|value| read(&value))
            .transpose()?
            .map(|contact| contact.city);
        if lives.as_deref() != Some(city) {
            return Err(format!(
                "the index has {id} in {city}, and the contact says {lives:?}"
            ));
        }
        keys += 1;
    }
    if contacts != keys {
        return Err(format!("{contacts} contacts, and {keys} keys of the index"));
    }
    Ok(contacts)
}
