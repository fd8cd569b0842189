use autobee::{Autobee, Corestore, NativeEnv, Range};
use autobee_notes::Notes;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The laptop makes the database, and waits for peers.
    let store = Corestore::open_default(NativeEnv::new("laptop")?).await?;
    let laptop = Autobee::builder(store).apply(Notes).open().await?;
    let listening = laptop.listen("127.0.0.1:0").await?;

    // The phone joins by the key, and dials the laptop, again whenever the connection is lost.
    let store = Corestore::open_default(NativeEnv::new("phone")?).await?;
    let builder = Autobee::builder(store).key(laptop.key());
    let phone = builder.apply(Notes).open().await?;
    let _connection = phone.keep_connected(listening.local_addr().as_str())?;

    // Only members may write: the laptop lets the phone in, which hears of it.
    let mut events = phone.events();
    laptop.append(format!("device {}", phone.local())).await?;
    while !phone.writable() {
        events.next().await?;
    }

    // Both write at once, and each comes to see the other's note.
    tokio::try_join!(
        laptop.append("note milk two bottles"),
        phone.append("note bread one loaf")
    )?;
    for device in [&laptop, &phone] {
        let mut changes = device.watch(Range::all());
        while device.view().all().await?.len() < 2 {
            changes.next().await?;
        }
        println!("{:?}", device.view().all().await?);
    }
    phone.close().await?;
    Ok(laptop.close().await?)
}
