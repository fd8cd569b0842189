//! What listeners are told, where views are written, and many entries.

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee::bee::Range;
use autobee::db::Event;
use autobee::wire::Decode as _;
use autobee::wire::oplog::OplogBlock;
use autobee_sim::workload::Op;

use crate::world::{get, put, run};

/// 21.80: the changes come as an event and from a watch.
#[test]
fn an_update_says_from_where_to_where() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "x", "0").await;
        let mut events = db.events();
        let mut watch = db.watch(Range::prefix("x"));
        for number in 1..5_u64 {
            put(&db, "x", &number.to_string()).await;
            let Event::Update { from, to } = events.next().await.unwrap() else {
                panic!("no update");
            };
            assert_eq!((from.length.0, to.length.0), (number, number + 1));
            let told = watch.next().await.unwrap();
            assert_eq!((told.from, told.to, told.changes.len()), (from, to, 1));
        }
    });
}

/// Adds whom `+` names, and puts everything else.
struct Bare;

impl Apply for Bare {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            if let Some(key) = std::str::from_utf8(entry.value())
                .ok()
                .and_then(|value| value.strip_prefix('+'))
            {
                let key = key.parse().map_err(|_| ApplyError::reject("no key"))?;
                host.add_writer(key, WriterOptions::default());
                continue;
            }
            let mut write = view.write();
            write.put(entry.value(), b"");
            write.flush().await?;
        }
        Ok(())
    }
}

/// 21.97
///
/// ```text
/// a: add b -- b: three values -- a: three values, behind three blocks of the view and two of the system
/// ```
#[test]
fn a_batch_says_where_its_views_stand() {
    run(async |world| {
        let a = world.open(1, None, Bare).await;
        let b = world.open(2, Some(a.key()), Bare).await;
        a.append(format!("+{}", b.local().to_hex())).await.unwrap();
        world.exchange(&[&a, &b]).await;
        b.append_batch(vec!["1".into(), "2".into(), "3".into()])
            .await
            .unwrap();
        world.exchange(&[&a, &b]).await;
        a.append_batch(vec!["4".into(), "5".into(), "6".into()])
            .await
            .unwrap();
        let blocks = a.blocks(&a.local());
        let stamps = OplogBlock::from_bytes(&blocks[3]).unwrap().views.unwrap();
        let view = stamps.view.unwrap();
        assert_eq!((view.start.0, view.length.0), (3, 3));
        assert_eq!((stamps.system.start.0, stamps.system.length.0), (2, 1));
        world.exchange(&[&a, &b]).await;
    });
}

/// 21.78, 21.79
#[test]
fn a_thousand_appends_reach_a_reader() {
    run(async |world| {
        let all = world.peers(2).await;
        for number in 0..1000 {
            let value = Op::put("last", number.to_string()).to_value();
            all[0].append(value).await.unwrap();
        }
        assert_eq!(get(&all[0], "last").await.unwrap(), "999");
        world.play(&all, "*").await;
        assert_eq!(get(&all[1], "last").await.unwrap(), "999");
    });
}
