//! The multiplexer against another one, and against anything.

use proptest::prelude::*;

use super::*;

const CHAT: OpenChannel<'_> = OpenChannel {
    protocol: "chat",
    aliases: &[],
    id: b"",
    handshake: b"",
    unique: false,
};

fn settings() -> MuxSettings {
    MuxSettings {
        held_bytes: 2_000,
        offers: 4,
        channels: 8,
        ..MuxSettings::default()
    }
}

/// What an application may do between two frames.
#[derive(Debug, Clone)]
enum Act {
    Open,
    Close(usize),
    Send(usize, Vec<u8>),
    Cork(bool),
    Reject,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Open),
        2 => (0usize..6).prop_map(Act::Close),
        3 => ((0usize..6), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(n, b)| Act::Send(n, b)),
        1 => any::<bool>().prop_map(Act::Cork),
        2 => Just(Act::Reject),
    ]
}

fn perform(mux: &mut Mux, channels: &mut Vec<Channel>, act: &Act) {
    match act {
        Act::Open => channels.extend(mux.open(&CHAT).ok()),
        Act::Close(n) => drop(channels.get(*n).map(|channel| mux.close(*channel))),
        Act::Send(n, bytes) => drop(channels.get(*n).map(|channel| mux.send(*channel, 0, bytes))),
        Act::Cork(true) => mux.cork(),
        Act::Cork(false) => mux.uncork(),
        Act::Reject => mux.reject("chat", b""),
    }
}

proptest! {
    #[test]
    fn two_of_ours_never_blame_each_other(acts in proptest::collection::vec((any::<bool>(), act(), any::<bool>()), 0..60)) {
        let mut sides = [Mux::new(settings()), Mux::new(settings())];
        let mut channels = [Vec::new(), Vec::new()];
        for (side, act, flush) in acts {
            let side = usize::from(side);
            perform(&mut sides[side], &mut channels[side], &act);
            if flush {
                let [first, second] = &mut sides;
                let (from, to) = if side == 0 { (first, second) } else { (second, first) };
                while let Some(frame) = from.take_frame() {
                    to.receive(frame);
                }
                loop {
                    let event = to.poll();
                    prop_assert!(event.is_ok(), "{event:?}");
                    if event == Ok(None) {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn arbitrary_frames_never_panic_and_what_is_held_is_bounded(
        steps in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40).prop_map(Ok),
                proptest::collection::vec(0u8..6, 0..30).prop_map(Ok),
                act().prop_map(Err),
            ],
            0..40,
        ),
    ) {
        let (mut mux, mut channels) = (Mux::new(settings()), Vec::new());
        for step in steps {
            match step {
                Ok(frame) => mux.receive(frame.into()),
                Err(act) => perform(&mut mux, &mut channels, &act),
            }
            while let Ok(Some(_)) = mux.poll() {}
            prop_assert!(mux.held_bytes <= 2_000 + HELD_OVERHEAD + 40);
            prop_assert!(mux.offers <= 4);
            prop_assert!(mux.locals.len() <= 8 && mux.remotes.len() <= 8);
        }
    }
}

#[test]
fn a_withdrawn_offer_is_answered_and_its_number_can_come_again() {
    let (mut ours, mut theirs) = (Mux::new(settings()), Mux::new(settings()));
    let channel = theirs.open(&CHAT).unwrap();
    theirs.close(channel);
    let deliver = |from: &mut Mux, to: &mut Mux| {
        while let Some(frame) = from.take_frame() {
            to.receive(frame);
        }
        std::iter::from_fn(|| to.poll().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(deliver(&mut theirs, &mut ours).len(), 1);
    assert_eq!(deliver(&mut ours, &mut theirs), []);
    theirs.open(&CHAT).unwrap();
    assert_eq!(theirs.locals.keys().copied().collect::<Vec<_>>(), [1]);
    // The late answer to the offer finds the new one.
    assert_eq!(deliver(&mut theirs, &mut ours).len(), 1);
    let channel = ours.open(&CHAT).unwrap();
    assert!(ours.is_open(channel));
}

#[test]
fn nesting_is_bounded() {
    let mut mux = Mux::new(settings());
    let mut items = Vec::new();
    for _ in 0..5 {
        items.splice(0..0, [u8::try_from(items.len()).unwrap() + 2, 0, 0]);
    }
    let frame = [vec![0, 0, 0], items].concat();
    mux.receive(frame.into());
    let error = std::iter::repeat_with(|| mux.poll()).find(Result::is_err);
    assert_eq!(error, Some(Err(MuxError::Nesting { limit: 4 })));
}

#[test]
fn a_flood_of_offers_stops_the_reading() {
    let mut mux = Mux::new(settings());
    for id in 1..=6 {
        mux.receive(vec![0, 1, id, 1, b'p', 1, id].into());
    }
    let offers = std::iter::from_fn(|| mux.poll().unwrap()).count();
    assert_eq!(offers, 4);
    assert!(mux.is_waiting());
    mux.reject("p", &[1]);
    assert_eq!(
        mux.poll(),
        Ok(Some(MuxEvent::Offered {
            protocol: "p".into(),
            id: vec![5]
        }))
    );
}

#[test]
fn answers_that_are_not_written_stop_the_reading() {
    let mut mux = Mux::new(MuxSettings {
        reply_bytes: 100,
        ..settings()
    });
    for id in 1..=6 {
        mux.receive(vec![0, 1, id, 1, b'p', 1, id].into());
    }
    let mut rejected = 0;
    while let Some(MuxEvent::Offered { protocol, id }) = mux.poll().unwrap() {
        mux.reject(&protocol, &id);
        rejected += 1;
    }
    assert_eq!(rejected, 4);
    mux.written();
    assert!(mux.is_waiting(), "they are not even taken");
    assert_eq!(std::iter::from_fn(|| mux.take_frame()).count(), 4);
    mux.written();
    assert!(matches!(mux.poll(), Ok(Some(MuxEvent::Offered { .. }))));
}
