//! Ends, and what old or absent logs give.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use autobee::crypto::CoreKey;
use autobee::wire::Decode as _;
use autobee::wire::oplog::{OplogBlock, ValueOptions, encode_value};
use bytes::Bytes;

use crate::world::{carry, run};

/// 21.42: here it is a `flush` that waits for a block which nobody serves.
#[test]
fn closing_does_not_wait_for_peers() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "b a-b a").await;
        carry(&world, 9, &all[0], &all[2]).await;
        let (c, before) = (&all[2], world.millis());
        let mut flush = pin!(c.flush());
        let polled = flush.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        c.close().await.unwrap();
        assert!(flush.await.is_err());
        assert!(world.millis() - before < 5_000);
        assert!(c.append("x").await.is_err());
    });
}

/// 21.45
#[test]
fn an_old_block_without_a_checkpoint_keeps_its_value() {
    let options = ValueOptions {
        legacy: true,
        ..ValueOptions::default()
    };
    let block = encode_value(Some(b"old"), &options).unwrap();
    let block = OplogBlock::from_bytes(&block).unwrap();
    assert_eq!((block.version, block.views), (2, None));
    assert_eq!(block.value.as_deref(), Some(&b"old"[..]));
}

/// 21.43: nothing is opened for the question.
#[test]
fn a_log_of_which_nothing_is_here_has_no_blocks() {
    run(async |world| {
        let all = world.peers(2).await;
        let cores = all[1].cores();
        assert_eq!(all[1].blocks(&all[0].key()), Vec::<Bytes>::new());
        assert_eq!(all[1].blocks(&CoreKey::new([7; 32])), Vec::<Bytes>::new());
        assert_eq!(all[1].cores(), cores);
    });
}
