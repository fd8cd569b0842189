use autobee::{Autobee, Corestore, NativeEnv};
use autobee_notes::Notes;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Corestore::open_default(NativeEnv::new("my-notes")?).await?;
    let db = Autobee::builder(store).apply(Notes).open().await?;

    db.append("note milk two bottles").await?; // durable when it returns

    for (title, text) in db.view().all().await? {
        println!(
            "{}: {}",
            String::from_utf8_lossy(&title),
            String::from_utf8_lossy(&text)
        );
    }
    Ok(db.close().await?)
}
