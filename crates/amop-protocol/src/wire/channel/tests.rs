use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    Decoder::default().decode(&mut BytesMut::from(bytes))
}

fn written(frame: &Encoded) -> Vec<u8> {
    let mut batch = Vec::new();
    frame.put(&mut batch);
    assert_eq!(batch.len(), frame.wire_len());
    batch
}

#[test]
fn a_bad_length_is_refused_with_its_fourth_byte() {
    for len in 0..HEADER {
        let length = (len as u32).to_be_bytes();
        assert_eq!(read(&length), Err(FrameError::TooShort(len)));
        assert_eq!(read(&length[..3]), Ok(None));
    }
    let len = MAX_CHANNEL_FRAME + 1;
    assert_eq!(read(&(len as u32).to_be_bytes()), Err(FrameError::TooLong { len, max: MAX_CHANNEL_FRAME }));
    assert_eq!(read(&(MAX_CHANNEL_FRAME as u32).to_be_bytes()), Ok(None));
}

#[test]
fn what_is_missing_is_known_once_the_length_is() {
    let frame = written(&Encoded::empty(Type::HEARTBEAT, Seq([b'0'; 32]), 0));
    assert_eq!(Decoder::default().missing(&frame[..3]), Ok(0));
    assert_eq!(Decoder::default().missing(&frame[..4]), Ok(38));
    assert_eq!(Decoder::default().missing(&frame), Ok(0));
}

#[test]
fn the_payload_is_never_copied_by_reading_or_encoding() {
    let mut bytes =
        written(&Encoded::new(Type::UNICAST, Seq([1; 32]), 0, b"\x02t", Bytes::from(vec![7; 100])));
    bytes.extend_from_within(..);
    let mut buffer = BytesMut::from(&bytes[..]);
    let at = buffer.as_ptr() as usize;
    let frame = Decoder::default().decode(&mut buffer).unwrap().unwrap();
    assert_eq!(frame.body.as_ptr() as usize, at + HEADER);
    let body = TopicBody::parse(frame.body).unwrap();
    assert_eq!(body.payload.as_ptr() as usize, at + HEADER + 2);
    let again = Encoded::new(Type::UNICAST, frame.seq, 0, body.prefix(), body.payload.clone());
    assert_eq!(again.payload().as_ptr() as usize, at + HEADER + 2);
}

#[test]
fn topic_bodies_that_lie_are_refused() {
    let parse = |body: &'static [u8]| TopicBody::parse(Bytes::from_static(body));
    assert_eq!(parse(b""), Err(TopicBodyError::Empty));
    assert_eq!(parse(b"\0abc"), Err(TopicBodyError::Zero));
    assert_eq!(parse(b"\x05abc"), Err(TopicBodyError::Overrun { topic: 4, body: 4 }));
    let empty = parse(b"\x01abc").unwrap();
    assert_eq!((empty.topic_bytes(), &empty.payload[..]), (&b""[..], &b"abc"[..]));
    assert_eq!(empty.topic(), Err(topic::ParseError::Empty));
}

proptest! {
    #[test]
    fn frames_survive_the_way_there_and_back(
        kind: u16, seq: [u8; 32], result: i32,
        prefix in prop::collection::vec(any::<u8>(), 0..40),
        payload in prop::collection::vec(any::<u8>(), 0..400),
        cut in any::<prop::sample::Index>(),
    ) {
        let body = [&prefix[..], &payload[..]].concat();
        let bytes = written(&Encoded::new(Type(kind), Seq(seq), result, &prefix, payload.into()));
        let frame = read(&bytes).unwrap().unwrap();
        prop_assert_eq!(&frame, &Frame { kind: Type(kind), seq: Seq(seq), result, body: body.into() });
        prop_assert_eq!(written(&frame.into()), bytes.clone());

        // The same bytes in two reads.
        let cut = cut.index(bytes.len());
        let mut buffer = BytesMut::from(&bytes[..cut]);
        prop_assert_eq!(Decoder::default().decode(&mut buffer), Ok(None));
        prop_assert_eq!(&buffer[..], &bytes[..cut], "an incomplete frame stays as it is");
        buffer.extend_from_slice(&bytes[cut..]);
        prop_assert!(Decoder::default().decode(&mut buffer).unwrap().is_some());
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn topic_bodies_survive_the_way_there_and_back(
        name in "[^\\p{Cc}]{1,60}", payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let topic = Topic::parse(&name).unwrap();
        let frame = Encoded::with_topic(Type::UNICAST, Seq([0; 32]), 0, &topic, payload.clone().into());
        let body = TopicBody::parse(read(&written(&frame)).unwrap().unwrap().body).unwrap();
        prop_assert_eq!(body.prefix(), &topic_prefix(&topic));
        prop_assert_eq!(body.topic(), Ok(topic));
        prop_assert_eq!(&body.payload[..], &payload[..]);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_make_memory_grow(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let room = buffer.capacity();
        while let Ok(Some(frame)) = Decoder::default().decode(&mut buffer) {
            let _ = TopicBody::parse(frame.body).map(|body| body.topic());
        }
        prop_assert!(buffer.capacity() <= room);
    }
}
