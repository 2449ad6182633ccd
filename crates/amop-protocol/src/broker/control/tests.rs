//! Steps of gossip that the simulation meets only by chance.

use super::*;
use crate::NodeKey;

struct Trusting;

impl Authenticator for Trusting {
    fn sign(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn verify_chain(&self, _: &[Bytes]) -> Option<NodeInfo> {
        None
    }

    fn verify(&self, _: &NodeKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn control() -> Control {
    let info = NodeInfo { key: NodeKey::new([1; 64]), name: "one".into(), institution: "bank".into() };
    let me = Me { info, chain: Vec::new(), address: "".into(), epoch: 7 };
    Control::new(Config::default(), me, 999, Box::new(Trusting), Time::ZERO)
}

fn messages(control: &mut Control) -> Vec<Message> {
    let actions = std::iter::from_fn(|| control.poll_action());
    actions
        .filter_map(|action| if let Action::Send { message, .. } = action { Some(message) } else { None })
        .collect()
}

#[test]
fn a_neighbour_that_heard_of_our_topics_from_others_first_is_answered() {
    let mut control = control();
    let neighbour = NodeId::new([2; 32]);
    control.handle_link_up(Time::ZERO, neighbour);
    control.handle_report(Time::ZERO, SessionId(1), vec![Topic::parse("t").unwrap()]);
    messages(&mut control);
    let due = control.poll_timeout().unwrap();
    control.handle_timeout(due);
    let sent = messages(&mut control);
    let Some(Message::Record(record)) = sent.into_iter().next() else { panic!("nothing is announced") };

    control.handle_message(due, neighbour, Message::Record(record));
    let answers = messages(&mut control);
    let Some(Message::Settled(settled)) = answers.first() else { panic!("{answers:?}") };
    assert_eq!((settled.epoch, settled.sequence), (7, control.version().sequence));
}
