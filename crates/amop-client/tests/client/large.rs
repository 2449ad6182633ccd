//! Large messages in one client's way, and small ones that pass them. The node reads nothing at first, so
//! that the line fills: what the sockets hold goes out whatever comes later, at most a few MiB.

use amop_client::{Cause, Client, Mode, RequestOptions};
use amop_protocol::wire::extension::FromClient;
use bytes::Bytes;
use futures::StreamExt;

use crate::{
    consortium::Consortium,
    node::{Node, Peer, Speaks, within},
};

const LARGE: usize = 256 * 1024;
/// More of the large ones than the sockets hold.
const MANY: usize = 150;
/// Of these so many may be on their way before something small is sent.
const ON_THE_WAY: usize = 75;

/// What the node was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Request { topic: String, number: u32 },
    Answer { number: u32 },
}

async fn connected() -> (Client, Node, Peer) {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let options = consortium.options(&[node.address()]);
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    (client.unwrap(), node, peer)
}

fn numbered(number: usize, len: usize) -> Bytes {
    let mut payload = vec![0; len.max(4)];
    payload[..4].copy_from_slice(&(number as u32).to_be_bytes());
    payload.into()
}

/// The next `count` messages.
async fn read(peer: &mut Peer, count: usize) -> Vec<Sent> {
    let mut sent = Vec::new();
    while sent.len() < count {
        let (seq, message) = peer.message().await;
        let number = |payload: &Bytes| u32::from_be_bytes(payload[..4].try_into().unwrap());
        sent.push(match message {
            FromClient::Publish { topic, payload, .. } => {
                peer.end(seq, Cause::Delivered, b"").await;
                Sent::Request { topic: topic.to_string(), number: number(&payload) }
            }
            FromClient::Answer { payload, .. } => Sent::Answer { number: number(&payload) },
            other => panic!("{other:?}"),
        });
    }
    sent
}

fn at(sent: &[Sent], what: &Sent) -> usize {
    sent.iter().position(|sent| sent == what).expect("it was sent")
}

#[tokio::test]
async fn a_small_send_passes_large_ones_of_other_topics_and_none_of_its_own() {
    let (client, _node, mut peer) = connected().await;
    let mut all: Vec<_> = (0..MANY).map(|number| ("bulk", number, LARGE)).collect();
    all.push(("bulk", MANY, 4));
    all.extend((0..4).map(|number| ("later", number, LARGE)));
    all.push(("other", 0, 4));
    let mut started = Vec::new();
    for (topic, number, len) in all {
        let options = RequestOptions::default();
        started.push(client.start_request(topic, numbered(number, len), options).await.unwrap());
    }

    let sent = within(read(&mut peer, started.len())).await;
    let of = |wanted: &str| -> Vec<u32> {
        let number = |sent: &Sent| match sent {
            Sent::Request { topic, number } if topic == wanted => Some(*number),
            _ => None,
        };
        sent.iter().filter_map(number).collect()
    };
    assert_eq!(of("bulk"), (0..=MANY as u32).collect::<Vec<_>>());
    assert_eq!(of("later"), [0, 1, 2, 3]);
    let small = at(&sent, &Sent::Request { topic: "other".into(), number: 0 });
    assert!(small < ON_THE_WAY, "behind {small} messages");
    let later = at(&sent, &Sent::Request { topic: "later".into(), number: 3 });
    assert!(later < ON_THE_WAY + 10, "topics take turns, but {later} were before the last");
    for request in started {
        within(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_small_answer_passes_large_ones_and_those_take_turns_with_large_sends() {
    let (client, _node, mut peer) = connected().await;
    let (subscription, _) = tokio::join!(client.subscribe("t"), peer.confirm());
    let mut subscription = subscription.unwrap();
    for number in 0..=MANY as u64 {
        peer.deliver(Mode::Unicast, "t", number, b"?").await;
    }
    for number in 0..MANY {
        let delivery = within(subscription.next()).await.unwrap();
        delivery.answer(numbered(number, LARGE));
    }
    let mut requests = Vec::new();
    for number in 0..20 {
        let payload = numbered(number, LARGE);
        requests.push(client.start_request("bulk", payload, RequestOptions::default()).await.unwrap());
    }
    within(subscription.next()).await.unwrap().answer(numbered(MANY, 4));

    let sent = within(read(&mut peer, MANY + 21)).await;
    let small = at(&sent, &Sent::Answer { number: MANY as u32 });
    assert!(small < ON_THE_WAY, "behind {small} messages");
    let last = at(&sent, &Sent::Request { topic: "bulk".into(), number: 19 });
    assert!(last < ON_THE_WAY + 50, "sends have their turn, but {last} messages were before the last");
    let answers = sent.iter().filter(|sent| matches!(sent, Sent::Answer { .. }));
    assert_eq!(answers.count(), MANY + 1);
}
