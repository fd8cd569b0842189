//! Hostile nodes that say what is not true; and what the original, which is easily broken, hears from us.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::crypto::Hash;
use autobee::env::{Env as _, Spawn as _};
use autobee::hypercore::CoreError;
use autobee::hypercore::proof::{BlockRequest, Proof, Request, UpgradeRequest};
use autobee::replication::message::{DataMessage, Message, NoData, RangeMessage, RequestMessage, Sync};
use autobee::replication::replicator::PeerFault;
use autobee::replication::session::{End, Misbehaviour};
use autobee::wire::{Index, Length};
use autobee_sim::hostile::HostileStream;
use bytes::Bytes;

use crate::floods::request;
use crate::hostile::{LONG, SHORT, ending, limited, sync, world};
use crate::mallory::{Account, Attack, Forge, attack};
use crate::nodes::{NEAR, Net, Plan, key_of, lock, numbered, sized};

/// Serves the true log, but for what it changes.
#[derive(Clone)]
struct Forger<F>(F);

impl<F: Fn(&mut Proof) + Clone + Send + 'static> Attack for Forger<F> {
    fn opened(&mut self, line: &mut HostileStream) {
        // Longer than what the victim has, so that it asks.
        let log = line.forge("log", numbered(0..5_000));
        line.serve(log);
    }

    fn tamper(&mut self, mut message: Message) -> Vec<Message> {
        if let Message::Data(data) = &mut message {
            (self.0)(&mut data.proof);
        }
        vec![message]
    }
}

fn is_wrong_proof(what: &Misbehaviour) -> bool {
    matches!(
        what,
        Misbehaviour::Replication {
            fault: PeerFault::Proof(_),
            ..
        }
    )
}

#[test]
fn forged_proofs_are_found_out() {
    fn flip(hash: &mut Hash) {
        let mut bytes = *hash.as_bytes();
        bytes[5] ^= 1;
        *hash = Hash::new(bytes);
    }
    let node = |proof: &mut Proof| {
        if let Some(node) = proof
            .upgrade
            .as_mut()
            .and_then(|upgrade| upgrade.nodes.first_mut())
        {
            flip(&mut node.hash);
        }
    };
    let signature = |proof: &mut Proof| {
        if let Some(upgrade) = &mut proof.upgrade {
            let mut bytes = upgrade.signature.clone().unwrap_or_default().to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            upgrade.signature = Some(bytes.into());
        }
    };
    let unsigned = |proof: &mut Proof| {
        if let Some(upgrade) = &mut proof.upgrade {
            upgrade.signature = None;
        }
    };
    let value = |proof: &mut Proof| {
        if let Some(block) = &mut proof.block {
            block.value = Bytes::from_static(b"nothing of the kind");
        }
    };
    let sibling = |proof: &mut Proof| {
        if let Some(node) = proof.block.as_mut().and_then(|block| block.nodes.first_mut()) {
            flip(&mut node.hash);
        }
    };
    let forgeries: [fn(&mut Proof); 5] = [node, signature, unsigned, value, sibling];
    for forgery in forgeries {
        let (net, _) = world("bob", move || Forger(forgery));
        // What the forger says of the length is true of a core that it signed itself: the owner appends no more.
        net.world.run_for(Duration::from_secs(20)).unwrap();
        match ending(&net, "bob") {
            Some(End::Misbehaved(what)) => assert!(is_wrong_proof(&what), "{what}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_manifest_of_another_core_is_found_out() {
    #[derive(Clone)]
    struct Other;
    impl Attack for Other {
        fn opened(&mut self, line: &mut HostileStream) {
            let log = line.forge("log", numbered(0..10));
            line.serve(log);
        }
        fn tamper(&mut self, mut message: Message) -> Vec<Message> {
            if let Message::Data(data) = &mut message
                && data.proof.manifest.is_some()
            {
                data.proof.manifest = Some(autobee::hypercore::manifest::Manifest::single(
                    autobee::crypto::PublicKey::new([5; 32]),
                ));
            }
            vec![message]
        }
    }
    // Carol has nothing, so she needs the manifest.
    let mut net = Net::new(2, NEAR);
    net.add(
        "carol",
        Plan {
            copies: vec!["log"],
            ..Plan::default()
        },
    );
    net.start();
    let env = net.world.env(net.world.add_replica("mallory").unwrap());
    let account = Arc::default();
    env.spawn().spawn(
        "attack",
        attack(env.clone(), "carol", key_of(&env, "log"), || Other, account),
    );
    net.world.run_for(Duration::from_secs(5)).unwrap();
    assert!(matches!(ending(&net, "carol"), Some(End::Misbehaved(what)) if is_wrong_proof(&what)));
    assert_eq!(net.log("carol", "log").length().unwrap(), Length::ZERO);
}

#[test]
fn an_owner_that_contradicts_itself_ends_its_core() {
    #[derive(Clone)]
    struct Double;
    impl Attack for Double {
        fn opened(&mut self, line: &mut HostileStream) {
            let log = line.forge("log", sized(7..67, 99));
            line.serve(log);
        }
    }
    let (net, account) = world("bob", || Double);
    net.world.run_for(Duration::from_secs(10)).unwrap();
    let checked = lock(&account)
        .got
        .iter()
        .any(|message| matches!(message, Message::Request(request) if request.id == 0));
    assert!(checked, "bob asks for the signature over what both have");
    let error = net.log("bob", "log").get_local(Index(0)).unwrap_err();
    assert!(matches!(error, CoreError::Signatures { .. }), "{error}");
    assert!(net.log("alice", "log").get_local(Index(0)).is_ok());
}

/// Says something when the channel opens, and then answers nothing, or that it has no data.
#[derive(Clone)]
struct Liar {
    says: Vec<Message>,
    answers: bool,
}

impl Attack for Liar {
    fn opened(&mut self, line: &mut HostileStream) {
        for message in &self.says {
            line.send(message);
        }
    }

    fn message(&mut self, line: &mut HostileStream, message: &Message) {
        match message {
            Message::Sync(theirs) => {
                // Longer than the victim, whatever it has.
                if let Some(Message::Sync(mine)) = self.says.first() {
                    let mine = Sync {
                        remote_length: theirs.length,
                        ..*mine
                    };
                    line.send(&Message::Sync(mine));
                }
            }
            Message::Request(request) if self.answers => {
                line.send(&Message::NoData(NoData {
                    request: request.id,
                    reason: NoData::NOT_AVAILABLE,
                }));
                for message in &self.says {
                    line.send(message);
                }
            }
            _ => {}
        }
    }
}

const EVERYTHING: Message = Message::Range(RangeMessage {
    drop: false,
    start: 0,
    length: 1 << 40,
});

#[test]
fn who_claims_a_length_and_never_proves_it_holds_nobody_up() {
    for answers in [false, true] {
        let says = vec![sync(0, 1 << 40, 0), EVERYTHING];
        limited("bob", LONG, move || Liar {
            says: says.clone(),
            answers,
        });
    }
}

#[test]
fn who_claims_a_fork_and_never_proves_it_holds_nobody_up() {
    for (answers, fork) in [(false, 1), (true, 1), (false, 1 << 52), (true, 1 << 52)] {
        let says = vec![sync(fork, 1 << 40, 0), EVERYTHING];
        let (net, _) = limited("bob", LONG, move || Liar {
            says: says.clone(),
            answers,
        });
        // Nor when the owner truncates.
        net.truncate("alice", "log", 20);
        net.append("alice", "log", numbered(100..110));
        net.converge(&["bob"], "alice", "log", Duration::from_secs(20));
    }
}

#[test]
fn lengths_that_shrink_and_grow_hold_nobody_up() {
    #[derive(Clone)]
    struct Wavering(u64);
    impl Attack for Wavering {
        fn opened(&mut self, line: &mut HostileStream) {
            line.send(&EVERYTHING);
        }
        fn message(&mut self, line: &mut HostileStream, _: &Message) {
            self.0 = (self.0 * 7 + 3) % 1_000;
            line.send(&sync(0, self.0, self.0 / 2));
        }
    }
    limited("bob", LONG, || Wavering(500));
    limited("alice", SHORT, || Wavering(500));
}

#[test]
fn data_that_nobody_asked_for_is_dropped() {
    #[derive(Clone)]
    struct Pusher(Option<Proof>);
    impl Attack for Pusher {
        fn opened(&mut self, line: &mut HostileStream) {
            let log = line.forge("log", sized(0..900, 2_000));
            let upgrade = Some(UpgradeRequest {
                start: 0,
                length: 900,
            });
            let block = Some(BlockRequest { index: 899, nodes: 0 });
            self.0 = log
                .prove(&Request {
                    upgrade,
                    block,
                    ..Request::default()
                })
                .unwrap();
        }
        fn room(&mut self, line: &mut HostileStream) -> bool {
            if let Some(proof) = &self.0 {
                for id in 0..50 {
                    line.send(&Message::Data(Box::new(DataMessage {
                        request: id,
                        proof: proof.clone(),
                    })));
                }
            }
            true
        }
    }
    let (net, account) = limited("bob", Duration::from_secs(4), || Pusher(None));
    assert!(lock(&account).sent > 100_000);
    assert!(net.log("bob", "log").length().unwrap() < Length(900));
}

// Traps of the original.

/// Looks at what an honest node says to it, as strictly as the original takes it.
#[derive(Clone)]
struct Strict {
    announced: u64,
    acknowledged: Option<u64>,
    checks: bool,
    asked: Arc<Mutex<Vec<RequestMessage>>>,
}

impl Attack for Strict {
    fn opened(&mut self, line: &mut HostileStream) {
        let log = line.forge("log", numbered(0..200));
        line.serve(log);
    }

    fn tamper(&mut self, message: Message) -> Vec<Message> {
        match &message {
            Message::Sync(sync) => self.acknowledged = Some(sync.remote_length),
            Message::Range(range) if !range.drop && range.start == 0 => {
                self.announced = self.announced.max(range.length);
            }
            _ => {}
        }
        vec![message]
    }

    fn message(&mut self, line: &mut HostileStream, message: &Message) {
        let Message::Request(request) = message else {
            return;
        };
        if let Some(upgrade) = request.request.upgrade {
            assert_eq!(
                Some(upgrade.start),
                self.acknowledged,
                "an upgrade from what was not acknowledged"
            );
            assert!(upgrade.start + upgrade.length <= 200);
        }
        if let Some(block) = request.request.block {
            assert!(block.index < self.announced, "a block that was not announced");
        }
        lock(&self.asked).push(*request);
        if self.checks {
            // It mistrusts the node: from here on any request that it could only answer without data crashes it.
            self.checks = false;
            line.send(&request_check());
        }
    }
}

fn request_check() -> Message {
    request(
        0,
        Request {
            upgrade: Some(UpgradeRequest { start: 0, length: 1 }),
            ..Request::default()
        },
    )
}

#[test]
fn the_original_is_never_asked_what_would_break_it() {
    for (seed, checks) in [(1, false), (2, true)] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut net = Net::new(seed, NEAR);
        net.add(
            "carol",
            Plan {
                copies: vec!["log"],
                ..Plan::default()
            },
        );
        net.start();
        let env = net.world.env(net.world.add_replica("node").unwrap());
        let (shared, account) = (Arc::clone(&asked), Arc::<Mutex<Account>>::default());
        let new = move || Strict {
            announced: 0,
            acknowledged: None,
            checks,
            asked: Arc::clone(&shared),
        };
        env.spawn().spawn(
            "attack",
            attack(
                env.clone(),
                "carol",
                key_of(&env, "log"),
                new,
                Arc::clone(&account),
            ),
        );
        net.world.run_for(Duration::from_secs(10)).unwrap();
        let answered = lock(&account).got.iter().any(|message| {
            matches!(message, Message::Data(data) if data.request == 0)
                || matches!(message, Message::NoData(none) if none.request == 0)
        });
        assert_eq!(answered, checks, "a check is answered");
        if checks {
            let so_far = lock(&asked).len();
            assert!(so_far <= 48, "what was under way: {so_far}");
            net.world.run_for(Duration::from_secs(60)).unwrap();
        }
        assert_eq!(net.log("carol", "log").contiguous_length().unwrap(), Length(200));
        assert!(
            !lock(&account)
                .got
                .iter()
                .any(|message| matches!(message, Message::NoData(none) if none.reason == 0))
        );
    }
}
