use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::wire::generated as pb;

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId::new)
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let names = (any::<[u8; 32]>(), "[a-z ü]{0,20}", any::<[u8; 32]>(), "[a-z/ü]{1,40}");
    let instances = any::<Option<u128>>().prop_map(|instance| instance.filter(|number| *number != 0));
    let contexts =
        any::<Option<[u8; 32]>>().prop_map(|it| it.and_then(|it| TraceContext::from_slice(&it[..25])));
    let all = (names, any::<Option<[u8; 32]>>(), audiences(), instances, contexts);
    all.prop_map(|((fingerprint, name, seq, topic), client, audience, instance, context)| Envelope {
        publisher: Arc::new(ClientIdentity { fingerprint: Fingerprint::new(fingerprint), name: name.into() }),
        seq: Seq(seq),
        topic: Topic::parse(&topic).unwrap(),
        client: client.map(Fingerprint::new),
        audience,
        instance,
        context,
    })
}

fn audiences() -> impl Strategy<Value = Vec<Audience>> {
    let sessions = prop::collection::btree_set(any::<u64>().prop_map(SessionId), 0..5);
    let audience = (node(), any::<u64>(), sessions).prop_map(|(node, epoch, sessions)| Audience {
        node,
        epoch,
        sessions: sessions.into_iter().collect(),
    });
    prop::collection::vec(audience, 0..4)
}

fn sends() -> impl Strategy<Value = SendRef> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, id)| SendRef { epoch, id })
}

fn causes() -> impl Strategy<Value = Cause> {
    (0..23_i32).prop_map(|n| Cause::try_from(n).unwrap_or_default())
}

fn prefixes() -> impl Strategy<Value = Bytes> {
    "[a-z]{0,30}".prop_map(|topic| match topic.len() {
        0 => Bytes::new(),
        n => [&[n as u8 + 1], topic.as_bytes()].concat().into(),
    })
}

fn bodies() -> impl Strategy<Value = Body> {
    prop_oneof![
        (any::<u64>(), any::<u32>(), envelopes(), any::<u32>()).prop_map(
            |(send, number, envelope, push_timeout_ms)| Body::Attempt {
                send,
                number,
                envelope,
                push_timeout_ms
            }
        ),
        (sends(), any::<u32>()).prop_map(|(send, number)| Body::Handed { send, number }),
        (sends(), any::<u32>(), causes(), any::<bool>(), any::<bool>(), prefixes()).prop_map(
            |(send, number, cause, is_final, exhausted, answer_prefix)| Body::Outcome {
                send,
                number,
                cause,
                is_final,
                exhausted,
                answer_prefix
            }
        ),
        (any::<u64>(), envelopes(), any::<bool>()).prop_map(|(send, envelope, recipients)| Body::FanOut {
            send,
            envelope,
            recipients
        }),
        (sends(), any::<u32>(), any::<u32>(), causes(), any::<bool>()).prop_map(
            |(send, handed, failed, cause, complete)| Body::FanOutReport {
                send,
                handed,
                failed,
                cause,
                complete
            }
        ),
        (sends(), any::<u32>(), prop::collection::vec(node(), 1..5), causes(), any::<u32>()).prop_map(
            |(send, number, destinations, cause, retry_after_ms)| Body::Refused {
                send,
                number,
                destinations,
                cause,
                retry_after_ms
            }
        ),
    ]
}

fn routes() -> impl Strategy<Value = Route> {
    (prop::collection::vec(node(), 1..5), prop::collection::vec(node(), 0..5))
        .prop_map(|(destinations, path)| Route { destinations, path })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        body in bodies(), route in routes(), other in routes(), origin in node(), epoch in any::<u64>()
    ) {
        let message = DataMessage { origin, origin_epoch: epoch, body };
        let frame = encode(&message, &route, 7, Bytes::from_static(b"payload"));
        prop_assert_eq!(decode(&frame.header).unwrap(), message.clone());
        prop_assert_eq!(decode_route(&frame.header).unwrap(), route);
        let rerouted = reroute(&frame.header, &other).unwrap();
        prop_assert_eq!(decode(&rerouted).unwrap(), message);
        prop_assert_eq!(decode_route(&rerouted).unwrap(), other);
        // And read as others read protobuf, who write its fields in their own order.
        let by_others = pb::Data::decode(frame.header).unwrap().encode_to_vec().into();
        prop_assert_eq!(decode(&by_others).unwrap(), decode(&rerouted).unwrap());
    }

    #[test]
    fn truncated_or_garbled_headers_never_panic(body in bodies(), route in routes(), noise in any::<(u16, u8)>()) {
        let message = DataMessage { origin: NodeId::new([1; 32]), origin_epoch: 1, body };
        let header = encode(&message, &route, 7, Bytes::new()).header;
        for end in 0..header.len() {
            let cut = header.slice(..end);
            let _ = (decode(&cut), decode_route(&cut), reroute(&cut, &route));
        }
        let mut garbled = header.to_vec();
        let at = usize::from(noise.0) % garbled.len();
        garbled[at] ^= noise.1;
        let garbled = Bytes::from(garbled);
        let _ = (decode(&garbled), decode_route(&garbled), reroute(&garbled, &route));
    }
}

/// Encodes a valid attempt after `spoil` has changed it.
fn spoilt(spoil: impl FnOnce(&mut pb::Data, &mut pb::Envelope)) -> Bytes {
    let mut envelope = pb::Envelope {
        publisher: Some(pb::ClientIdentity { fingerprint: vec![1; 32].into(), name: "client".into() }),
        seq: vec![2; 32].into(),
        topic: "t".into(),
        client: Bytes::new(),
        audience: Vec::new(),
        publisher_instance: Bytes::new(),
        trace_context: Bytes::new(),
    };
    let mut data = pb::Data {
        origin: vec![3; 32].into(),
        destinations: vec![vec![4; 32].into()],
        ..pb::Data::default()
    };
    spoil(&mut data, &mut envelope);
    if data.body.is_none() {
        let envelope = Some(envelope);
        let attempt = pb::Attempt { send_id: 1, number: 1, envelope, push_timeout_ms: 1 };
        data.body = Some(pb::data::Body::Attempt(attempt));
    }
    data.encode_to_vec().into()
}

#[test]
fn malformed_fields_are_refused_by_name() {
    let check = |field: &'static str, header: Bytes| {
        assert_eq!(decode(&header), Err(DataError::Field(field)));
    };
    assert!(decode(&spoilt(|_, _| {})).is_ok());
    check("origin", spoilt(|data, _| data.origin = vec![3; 31].into()));
    check("seq", spoilt(|_, envelope| envelope.seq = vec![2; 33].into()));
    check("topic", spoilt(|_, envelope| envelope.topic = "tab\there".into()));
    check("topic", spoilt(|_, envelope| envelope.topic.clear()));
    check("publisher", spoilt(|_, envelope| envelope.publisher = None));
    check("client", spoilt(|_, envelope| envelope.client = vec![5; 31].into()));
    assert!(decode(&spoilt(|_, envelope| envelope.publisher_instance = vec![5; 16].into())).is_ok());
    for instance in [vec![5; 1], vec![5; 15], vec![5; 17], vec![0; 16]] {
        check("publisher_instance", spoilt(|_, envelope| envelope.publisher_instance = instance.into()));
    }
    check(
        "fingerprint",
        spoilt(|_, envelope| {
            envelope.publisher = Some(pb::ClientIdentity { fingerprint: Bytes::new(), name: String::new() });
        }),
    );
    check(
        "answer_prefix",
        spoilt(|data, _| {
            let answer_prefix = Bytes::from_static(b"\x09abc");
            let outcome = pb::Outcome { answer_prefix, ..pb::Outcome::default() };
            data.body = Some(pb::data::Body::Outcome(outcome));
        }),
    );
}

#[test]
fn what_is_there_twice_or_of_another_form_is_refused() {
    let whole = spoilt(|_, _| {});
    let and = |more: &[u8]| decode(&[&whole[..], more].concat().into());
    assert!(and(&[200, 1, 0]).is_ok(), "a field of the future");
    assert_eq!(and(&[9 << 3 | 2, 0]), Err(DataError::Field("body")));
    assert_eq!(and(&[5 << 3, 0]), Err(DataError::Field("route")));
    assert_eq!(and(&[2 << 3 | 2, 0]), Err(DataError::Field("origin_epoch")));
    assert_eq!(and(&[2 << 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), Err(DataError::Truncated));
    assert_eq!(and(&[2, 0]), Err(DataError::Truncated), "tag 0");
}

#[test]
fn an_empty_field_is_as_good_as_none() {
    // As others may write them: envelope fields 4 and 6, each of no bytes.
    let mut envelope = least_envelope();
    envelope.extend_from_slice(&[4 << 3 | 2, 0, 6 << 3 | 2, 0]);
    let mut attempt = vec![3 << 3 | 2, envelope.len() as u8];
    attempt.extend_from_slice(&envelope);
    let mut header = vec![1 << 3 | 2, 32];
    header.extend_from_slice(&[3; 32]);
    header.extend_from_slice(&[8 << 3 | 2, attempt.len() as u8]);
    header.extend_from_slice(&attempt);
    let Body::Attempt { envelope, .. } = decode(&header.into()).unwrap().body else { panic!("an attempt") };
    assert_eq!((envelope.client, envelope.instance), (None, None));
}

fn least_envelope() -> Vec<u8> {
    let publisher = pb::ClientIdentity { fingerprint: vec![1; 32].into(), name: String::new() };
    let (seq, topic) = (vec![2; 32].into(), "t".into());
    pb::Envelope { publisher: Some(publisher), seq, topic, ..pb::Envelope::default() }.encode_to_vec()
}

#[test]
fn a_route_is_bounded() {
    let check = |field: &'static str, header: Bytes| {
        assert_eq!(decode_route(&header), Err(DataError::Field(field)));
    };
    let node = Bytes::from(vec![4; 32]);
    check("destinations", spoilt(|data, _| data.destinations.clear()));
    check("destinations", spoilt(|data, _| data.destinations = vec![node.clone(); MAX_DESTINATIONS + 1]));
    check("destinations", spoilt(|data, _| data.destinations.push(Bytes::from_static(b"short"))));
    check("path", spoilt(|data, _| data.path = vec![node.clone(); usize::from(MAX_HOPS) + 1]));
}

#[test]
fn an_unknown_cause_is_a_failure_of_unknown_reason() {
    let outcome = pb::Outcome { cause: 9_999, ..pb::Outcome::default() };
    let header = spoilt(|data, _| data.body = Some(pb::data::Body::Outcome(outcome)));
    let message = decode(&header).unwrap();
    assert!(matches!(message.body, Body::Outcome { cause: Cause::Unspecified, .. }));
}
