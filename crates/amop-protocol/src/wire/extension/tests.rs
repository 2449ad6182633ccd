use bytes::BytesMut;
use proptest::prelude::*;

use super::{deliver::MAX_NAME, *};
use crate::{message::Address, wire::channel::Decoder};

const SEQ: Seq = Seq([b'7'; 32]);

fn frame(encoded: &Encoded) -> Frame {
    let mut bytes = BytesMut::new();
    encoded.put(&mut bytes);
    Decoder::default().decode(&mut bytes).unwrap().unwrap()
}

fn sender() -> Sender {
    let client = ClientIdentity { fingerprint: Fingerprint::new([3; 32]), name: "till".into() };
    Sender { institution: "bank".into(), node: NodeId::new([0xab; 32]), client: Arc::new(client) }
}

fn from_client() -> impl Strategy<Value = FromClient> {
    let payload = || prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from);
    prop_oneof![
        prop::collection::vec(".{0,20}", 0..5).prop_map(|topics| FromClient::Subscribe { topics }),
        Just(FromClient::Received),
        (any::<bool>(), "[a-z]{1,9}", prop::option::of(1u32..), wishes(), payload()).prop_map(
            |(one, name, ms, wishes, payload)| {
                FromClient::Publish {
                    mode: if one { Mode::Unicast } else { Mode::Multicast },
                    topic: Topic::parse(&name).unwrap(),
                    deadline: ms.map(|ms| Duration::from_millis(ms.into())),
                    wishes,
                    payload,
                }
            }
        ),
        (any::<i32>(), payload()).prop_map(|(result, payload)| FromClient::Answer { result, payload }),
    ]
}

fn wishes() -> impl Strategy<Value = Option<Box<Wishes>>> {
    let address = (".{0,9}", any::<Option<[u8; 32]>>(), any::<Option<[u8; 32]>>());
    let contexts =
        any::<Option<[u8; 32]>>().prop_map(|it| it.and_then(|it| TraceContext::from_slice(&it[..25])));
    let all = (any::<bool>(), any::<bool>(), address, contexts);
    all.prop_map(|(tell_handed, recipients, (name, node, client), context)| {
        let address = Address {
            institution: (!name.is_empty()).then(|| name.into()),
            node: node.map(NodeId::new),
            client: client.map(Fingerprint::new),
        };
        let wishes = Wishes { tell_handed, recipients, address, context };
        (wishes != Wishes::default()).then(|| Box::new(wishes))
    })
}

fn hop() -> impl Strategy<Value = Option<Box<Hop>>> {
    let hop = (any::<[u8; 32]>(), ".{0,9}", ".{0,9}").prop_map(|(id, name, institution)| {
        Box::new(Hop { node: NodeId::new(id), name: name.into(), institution: institution.into() })
    });
    prop::option::of(hop)
}

fn from_node() -> impl Strategy<Value = FromNode> {
    let payload = || prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from);
    prop_oneof![
        (any::<u32>(), prop::collection::vec(".{0,20}", 0..5), any::<bool>())
            .prop_map(|(accepted, refused, complete)| FromNode::Subscribed { accepted, refused, complete }),
        Just(FromNode::HandedOver),
        (1i32..20, prop::option::of(1u64..9999), 1i32..4, hop(), payload()).prop_map(
            |(cause, retry, kind, hop, payload)| {
                let cause = Cause::try_from(cause).unwrap();
                let retry_after = retry.map(Duration::from_millis);
                let retry = Retry::try_from(kind).unwrap();
                let retry = if cause == Cause::Delivered { Retry::Never } else { retry };
                FromNode::PublishResult { status: cause.status(), cause, retry_after, retry, hop, payload }
            }
        ),
        ("[a-z]{1,9}", 0u64..9999, any::<Option<[u8; 32]>>(), payload()).prop_map(
            |(name, ms, seq, payload)| FromNode::Deliver {
                mode: Mode::Unicast,
                topic: Topic::parse(&name).unwrap(),
                sender: sender(),
                answer_within: Duration::from_millis(ms),
                message: seq.map(Seq),
                context: seq.and_then(|seq| TraceContext::from_slice(&seq[..25])),
                payload,
            }
        ),
        (0u64..9999).prop_map(|ms| FromNode::Goodbye { grace: Duration::from_millis(ms) }),
    ]
}

proptest! {
    #[test]
    fn what_a_client_says_arrives(message in from_client()) {
        let frame = frame(&message.clone().encode(SEQ));
        prop_assert_eq!(frame.seq, SEQ);
        prop_assert_eq!(FromClient::decode(&frame), Ok(message));
        prop_assert!(FromNode::decode(&frame).is_err(), "directions do not mix");
    }

    #[test]
    fn what_a_node_says_arrives(message in from_node()) {
        let frame = frame(&message.clone().encode(SEQ));
        prop_assert_eq!(FromNode::decode(&frame), Ok(message));
        prop_assert!(FromClient::decode(&frame).is_err(), "directions do not mix");
    }

    #[test]
    fn what_came_before_changes_nothing(
        messages in prop::collection::vec(from_node(), 1..5), order in prop::collection::vec(any::<u8>(), 0..30),
        strange in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut recent = Recent::default();
        for at in order {
            let mut next = frame(&messages[usize::from(at) % messages.len()].clone().encode(SEQ));
            if at > 200 {
                // A header that goes on where that of the last message ended.
                let mut body = next.body.to_vec();
                let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                body.splice(end..end, strange.iter().copied());
                body[..2].copy_from_slice(&((end - 2 + strange.len()) as u16).to_be_bytes());
                next.body = body.into();
            }
            let known = FromNode::decode(&next);
            let after = FromNode::decode_after(&next, &mut recent);
            // Which of its faults is named may differ.
            prop_assert_eq!(after.ok(), known.ok());
        }
    }

    #[test]
    fn truncated_and_arbitrary_bodies_never_panic(
        message in from_node(), kind in 0x0400u16..0x040a, noise in prop::collection::vec(any::<u8>(), 0..99),
    ) {
        let whole = frame(&message.encode(SEQ));
        for len in 0..whole.body.len() {
            let _ = FromNode::decode(&Frame { body: whole.body.slice(..len), ..whole.clone() });
        }
        let noise = Frame { kind: Type(kind), seq: SEQ, result: 0, body: noise.into() };
        let _ = (FromClient::decode(&noise), FromNode::decode(&noise));
    }
}

#[test]
fn a_short_deadline_is_not_the_default_one() {
    let deadline = Some(Duration::from_micros(10));
    let topic = Topic::parse("t").unwrap();
    let publish =
        FromClient::Publish { mode: Mode::Unicast, topic, deadline, wishes: None, payload: Bytes::new() };
    let FromClient::Publish { deadline, .. } = FromClient::decode(&frame(&publish.encode(SEQ))).unwrap()
    else {
        panic!("a publish stays one");
    };
    assert_eq!(deadline, Some(Duration::from_millis(1)));
}

#[test]
fn a_cause_from_the_future_or_of_another_code_is_unspecified() {
    for cause in [1000, Cause::Deadline as i32] {
        let header = pb::PublishResult { cause, ..pb::PublishResult::default() };
        let result = encode(Type::PUBLISH_RESULT, SEQ, 101, &header, Bytes::new());
        let Ok(FromNode::PublishResult { status, cause, .. }) = FromNode::decode(&frame(&result)) else {
            panic!("a result stays one");
        };
        assert_eq!((status, cause), (Status::NotHanded, Cause::Unspecified));
    }
}

#[test]
fn a_long_name_in_a_certificate_does_not_break_the_frame() {
    let mut sender = sender();
    sender.institution = "é".repeat(60_000).into();
    let client = ClientIdentity { name: "n".repeat(200).into(), ..(*sender.client).clone() };
    sender.client = Arc::new(client);
    let topic = Topic::parse("t").unwrap();
    let deliver = FromNode::Deliver {
        mode: Mode::Multicast,
        topic,
        sender,
        answer_within: Duration::ZERO,
        message: Some(SEQ),
        context: None,
        payload: Bytes::from_static(b"x"),
    };
    let FromNode::Deliver { sender, payload, .. } = FromNode::decode(&frame(&deliver.encode(SEQ))).unwrap()
    else {
        panic!("a delivery stays one");
    };
    assert_eq!((sender.institution.len(), sender.client.name.len()), (MAX_NAME, 200));
    assert_eq!(payload, "x");
}
