use proptest::prelude::*;

use super::*;

fn any_id() -> impl Strategy<Value = Id> {
    any::<[u8; 16]>().prop_map(Id)
}

fn any_ranges() -> impl Strategy<Value = Vec<Range>> {
    prop::collection::vec((0..1_000_u64, 1..1_000_u64), 0..20).prop_map(|steps| {
        let mut at = 0;
        let range = |(gap, count): (u64, u64)| {
            let first = at + gap;
            at = first + count;
            Range { first, count }
        };
        steps.into_iter().map(range).collect()
    })
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let of =
        ("\\PC{0,40}", 0..=MAX_SIZE, "[a-z]{1,9}/[a-z]{1,9}", any::<[u8; 32]>(), any::<Option<[u8; 32]>>());
    of.prop_map(|(name, size, media_type, root, key)| Offer { name, size, media_type, root, key })
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
    let proof = (0..=MAX_PROOF).prop_map(|hashes| Bytes::from(vec![7; hashes * 32]));
    prop_oneof![
        any_offer().prop_map(Step::Offer),
        any_id().prop_map(|receiver| Step::Seen { receiver }),
        (any_id(), any_ranges()).prop_map(|(receiver, missing)| Step::Accept { receiver, missing }),
        (any_id(), "[a-z ]{0,40}").prop_map(|(receiver, why)| Step::Decline { receiver, why }),
        Just(Step::Noted),
        (any::<u64>(), proof, bytes(300)).prop_map(|(index, proof, data)| Step::Chunk { index, proof, data }),
        any::<u64>().prop_map(|index| Step::Stored { index }),
        Just(Step::Ask),
        any_ranges().prop_map(|missing| Step::State(State::Missing(missing))),
        Just(Step::State(State::Working)),
        any_id().prop_map(|receiver| Step::State(State::Done { receiver })),
        (any::<Option<[u8; 16]>>(), "[a-z ]{0,40}").prop_map(|(receiver, why)| Step::Stop {
            reason: Reason::DiskFull,
            why,
            receiver: receiver.map(Id)
        }),
        (any::<[u8; NONCE]>(), bytes(100)).prop_map(|(nonce, sealed)| Step::Sealed { nonce, sealed }),
    ]
}

proptest! {
    #[test]
    fn frames_come_back(transfer in any_id(), step in any_step()) {
        let frame = Frame { transfer, step };
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn frames_that_are_cut_short_are_refused_or_shorter(transfer in any_id(), step in any_step(), at in any::<prop::sample::Index>()) {
        let whole = Frame { transfer, step }.encode();
        let cut = whole.slice(..at.index(whole.len()));
        if let Ok(frame) = Frame::decode(&cut) {
            // Only the content has no length of its own.
            prop_assert!(matches!(frame.step, Step::Chunk { .. } | Step::Sealed { .. } ), "{:?}", frame);
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Frame::decode(&[LABEL, &bytes].concat().into());
    }
}

#[test]
fn heads_are_the_beginnings_of_frames() {
    let (transfer, proof, data) = (Id([3; 16]), Bytes::from(vec![9; 64]), Bytes::from_static(b"content"));
    let mut plain = chunk_head(transfer, 5, proof.clone(), data.len());
    plain.put_slice(&data);
    let step = Step::Chunk { index: 5, proof: proof.clone(), data: data.clone() };
    let frame = Frame { transfer, step };
    assert_eq!(plain.freeze(), frame.encode());

    let (mut sealed, at) = sealed_chunk_head(transfer, [1; NONCE], 5, proof, data.len());
    sealed.put_slice(&data);
    let sealed = sealed.freeze();
    assert_eq!(Frame::decode_inner(sealed.slice(at..)), Ok(frame));
    let Ok(Frame { step: Step::Sealed { nonce, sealed: inner }, .. }) = Frame::decode(&sealed) else {
        panic!("a sealed frame")
    };
    assert_eq!((nonce, inner), ([1; NONCE], sealed.slice(at..)));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let check = |step: Wire, field| {
        let mut frame = BytesMut::from(LABEL);
        put_header(Id([1; 16]), step, &mut frame);
        assert_eq!(Frame::decode(&frame.freeze()), Err(FrameError::Field(field)));
    };
    let offer =
        || Offer { name: "a".into(), size: 1, media_type: String::new(), root: [0; 32], key: None }.to_wire();
    check(Wire::Offer(pb::FileOffer { size: MAX_SIZE + 1, ..offer() }), "size");
    check(Wire::Offer(pb::FileOffer { name: "a".repeat(MAX_NAME + 1), ..offer() }), "name");
    check(Wire::Offer(pb::FileOffer { media_type: "text/\u{1b}[2J".into(), ..offer() }), "media_type");
    check(Wire::Offer(pb::FileOffer { root: vec![0; 31].into(), ..offer() }), "root");
    check(Wire::Offer(pb::FileOffer { key: vec![0; 31].into(), ..offer() }), "key");
    check(Wire::Chunk(pb::FileChunk { index: 0, proof: vec![0; 33].into() }), "proof");
    check(Wire::Chunk(pb::FileChunk { index: 0, proof: vec![0; 31 * 32].into() }), "proof");
    check(Wire::Seen(pb::FileSeen { receiver: vec![0; 15].into() }), "receiver");
    check(Wire::State(pb::FileState { state: None }), "state");
    let accept = |ranges: &[(u64, u64)]| {
        let missing = ranges.iter().map(|(first, count)| pb::FileRange { first: *first, count: *count });
        Wire::Accept(pb::FileAccept { receiver: vec![0; 16].into(), missing: missing.collect() })
    };
    check(accept(&[(0, 0)]), "missing");
    check(accept(&[(5, 1), (4, 1)]), "missing");
    check(accept(&[(5, 2), (6, 1)]), "missing");
    check(accept(&[(u64::MAX, 2)]), "missing");
    check(accept(&[(0, chunks(MAX_SIZE) + 1)]), "missing");
    check(accept(&vec![(0, 1); MAX_RANGES + 1]), "missing");
    assert_eq!(Frame::decode(&Bytes::from_static(b"hello")), Err(FrameError::NotFile));
    assert_eq!(Frame::decode(&[LABEL, &[0, 9, 1]].concat().into()), Err(FrameError::Truncated));
}

#[test]
fn explanations_are_short_and_play_no_tricks() {
    let why = format!("\u{1b}[2J{}", "长".repeat(MAX_WHY));
    let frame = Frame { transfer: Id([1; 16]), step: Step::Decline { receiver: Id([2; 16]), why } };
    let Ok(Frame { step: Step::Decline { why, .. }, .. }) = Frame::decode(&frame.encode()) else {
        panic!("a decline")
    };
    assert!(why.len() <= MAX_WHY && why.starts_with(" [2J长") && !why.contains('\u{1b}'));
}

#[test]
fn chunks_cover_the_file() {
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, MAX_SIZE] {
        let count = chunks(size);
        assert_eq!(extent(size, count), None);
        if let Some((at, len)) = count.checked_sub(1).and_then(|last| extent(size, last)) {
            assert_eq!(at + len as u64, size);
            assert!(len > 0 && len as u64 <= CHUNK);
        }
    }
    assert_eq!(extent(MAX_SIZE, u64::MAX), None);
}

#[test]
fn ids_are_written_in_hex() {
    let id = Id([0xab; 16]);
    assert_eq!(Id::from_hex(&id.to_string()), Some(id));
    assert_eq!(id.inbox(), format!("_amop_file_{}", "ab".repeat(16)));
    for bad in ["", "ab", &"zz".repeat(16), &"+f".repeat(16), &"é".repeat(16)] {
        assert_eq!(Id::from_hex(bad), None, "{bad}");
    }
}
