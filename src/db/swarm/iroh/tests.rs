//! Strangers and liars, who speak iroh and not what is spoken here.

use super::*;

/// What is enough for two endpoints of one machine.
const SOON: Duration = Duration::from_secs(20);

const TOPIC: DiscoveryKey = DiscoveryKey::new([7; 32]);

/// Nothing is stored.
fn env() -> NativeEnv {
    NativeEnv::new(std::env::temp_dir()).unwrap()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = unless(future, env().clock().sleep(SOON)).await;
    done.unwrap_or_else(|| panic!("{what}"))
}

async fn start(seed: u8, change: impl FnOnce(&mut IrohSettings)) -> IrohSwarm {
    let settings = IrohSettings::with(|settings| {
        settings.listen = vec![([127, 0, 0, 1], 0).into()];
        change(settings);
    });
    let started = IrohSwarm::start(env(), &Seed::new([seed; 32]), settings).await;
    started.unwrap()
}

/// An endpoint that is none of ours.
async fn stranger() -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled);
    let builder = builder.clear_ip_transports().bind_addr("127.0.0.1:0").unwrap();
    builder.alpns(vec![ALPN.to_vec()]).bind().await.unwrap()
}

async fn dial(stranger: &Endpoint, swarm: &IrohSwarm) -> Connection {
    let address = swarm.node.endpoint.addr();
    soon("a dial", stranger.connect(address, ALPN)).await.unwrap()
}

async fn show(connection: &Connection, proof: Hash) -> (SendStream, RecvStream) {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(proof.as_bytes()).await.unwrap();
    (send, receive)
}

/// A connection of a stranger that knows the topic.
async fn enter(connection: &Connection) -> (SendStream, RecvStream) {
    let proofs = Proofs::of(connection).unwrap();
    let (send, mut receive) = show(connection, proofs.proof(Role::Initiator, &TOPIC)).await;
    let answer = soon("an answer", read_hash(&mut receive)).await.unwrap();
    assert_eq!(answer, proofs.proof(Role::Responder, &TOPIC));
    (send, receive)
}

async fn next(topic: &mut IrohTopic) -> SwarmEvent<IrohStream> {
    soon("an event", topic.next()).await.unwrap()
}

async fn accepted(topic: &mut IrohTopic) -> SwarmStream<IrohStream> {
    match next(topic).await {
        SwarmEvent::Accepted(stream) => stream,
        SwarmEvent::Found(peer) => panic!("{peer} was found"),
    }
}

fn is_refused(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == OTHER_TOPIC)
}

#[tokio::test]
async fn who_does_not_know_the_topic_is_closed_out() {
    let swarm = start(101, |_| ()).await;
    let mut topic = swarm.join(TOPIC).await.unwrap();
    let stranger = stranger().await;
    // What was right on another connection, what the other side would say, and the topic itself.
    let first = dial(&stranger, &swarm).await;
    let proofs = Proofs::of(&first).unwrap();
    let replayed = proofs.proof(Role::Initiator, &TOPIC);
    let second = dial(&stranger, &swarm).await;
    let reflected = Proofs::of(&second).unwrap().proof(Role::Responder, &TOPIC);
    let third = dial(&stranger, &swarm).await;
    let clear = Hash::new(*TOPIC.as_bytes());
    for (connection, proof) in [(second, reflected), (third, clear)] {
        let _streams = show(&connection, proof).await;
        assert!(is_refused(&soon("a refusal", connection.closed()).await));
    }
    let fourth = dial(&stranger, &swarm).await;
    let _streams = show(&fourth, replayed).await;
    assert!(is_refused(&soon("a refusal", fourth.closed()).await));
    // The connection of which it was is still good.
    enter(&first).await;
    assert_eq!(accepted(&mut topic).await.peer, key_of(&stranger.id()));
    stranger.close().await;
}

#[tokio::test]
async fn who_says_nothing_holds_its_place_for_a_while_only() {
    let swarm = start(102, |settings| {
        settings.handshakes_max = 1;
        settings.handshake_ms = 1_000;
    })
    .await;
    let mut topic = swarm.join(TOPIC).await.unwrap();
    let stranger = stranger().await;
    let silent = dial(&stranger, &swarm).await;
    let second = stranger.connect(swarm.node.endpoint.addr(), ALPN).await;
    assert!(second.is_err(), "there is one place");
    soon("the end of the silent one", silent.closed()).await;
    // Its place is free at about the same time.
    let third = soon("a place", async {
        loop {
            if let Ok(third) = stranger.connect(swarm.node.endpoint.addr(), ALPN).await {
                break third;
            }
        }
    });
    let _streams = enter(&third.await).await;
    accepted(&mut topic).await;
    stranger.close().await;
}

#[tokio::test]
async fn who_tells_of_too_many_is_heard_in_part_and_who_tells_nonsense_not_at_all() {
    let swarm = start(103, |settings| settings.told_max = 3).await;
    let mut topic = swarm.join(TOPIC).await.unwrap();
    let stranger = stranger().await;
    let liar = dial(&stranger, &swarm).await;
    let _streams = enter(&liar).await;
    let _stream = accepted(&mut topic).await;
    let mut telling = liar.open_uni().await.unwrap();
    let own = IrohPeer::new(swarm.public_key(), Vec::new());
    let mut peers = vec![own];
    peers.extend((1..=9).map(|key| IrohPeer::new(PublicKey::new([key; 32]), Vec::new())));
    let list = told::encode(&peers);
    // Twice: the second comes too soon.
    for _ in 0..2 {
        let length = u16::try_from(list.len()).unwrap();
        telling.write_all(&length.to_le_bytes()).await.unwrap();
        telling.write_all(&list).await.unwrap();
    }
    // Itself counts as one of the three, and is no news.
    for key in [1, 2] {
        match next(&mut topic).await {
            SwarmEvent::Found(peer) => assert_eq!(peer, PublicKey::new([key; 32])),
            SwarmEvent::Accepted(_) => panic!("nobody dialled"),
        }
    }
    // Who tells nonsense on a connection of its own loses the ear, and keeps the session.
    let nonsense = dial(&stranger, &swarm).await;
    let (mut send, _receive) = enter(&nonsense).await;
    let mut stream = accepted(&mut topic).await;
    let mut telling = nonsense.open_uni().await.unwrap();
    telling.write_all(&[3, 0, 1, 2, 3]).await.unwrap();
    soon("the ear", telling.stopped()).await.unwrap();
    send.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    soon(
        "bytes",
        tokio::io::AsyncReadExt::read_exact(&mut stream.stream, &mut bytes),
    )
    .await
    .unwrap();
    assert_eq!(&bytes, b"hello");
    let env = env();
    let silence = env.clock().sleep(Duration::from_millis(200));
    let heard = unless(topic.next(), silence).await;
    assert!(heard.is_none(), "{heard:?}");
    stranger.close().await;
}

/// Who answers a dial and does not know the topic is no peer.
#[tokio::test]
async fn who_is_dialled_has_to_know_the_topic() {
    let stranger = stranger().await;
    let peer = IrohPeer::new(
        key_of(&stranger.id()),
        stranger.addr().ip_addrs().copied().collect(),
    );
    let key = peer.key;
    let swarm = start(104, |settings| settings.peers = vec![peer]).await;
    let mut topic = swarm.join(TOPIC).await.unwrap();
    assert!(matches!(next(&mut topic).await, SwarmEvent::Found(found) if found == key));
    let answering = async {
        let connection = stranger.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        // The best that it can do: to say what it heard.
        let heard = read_hash(&mut receive).await.unwrap();
        assert_eq!(
            heard,
            Proofs::of(&connection).unwrap().proof(Role::Initiator, &TOPIC)
        );
        send.write_all(heard.as_bytes()).await.unwrap();
        connection.closed().await;
    };
    let (dialled, ()) = soon("a dial", async { tokio::join!(topic.dial(key), answering) }).await;
    assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::InvalidData);
    stranger.close().await;
}
