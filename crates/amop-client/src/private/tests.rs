//! Both ends against each other, without nodes.

use std::sync::Arc;

use amop_auth::{Party, PrivateKey, content::ContentError};
use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, Seq, Topic,
    broker::event::{Mode, Sender},
    session::{
        client::{Deliver, Push},
        verification::Inquiry,
    },
};
use bytes::Bytes;

use super::{
    Compatibility,
    holder::{Holder, Unproved, Unsealed},
    private,
    publisher::{Next, Publisher, Stage},
};

const HOME: u64 = 7;

fn party(n: u8) -> Party {
    Party { institution: "bank".into(), node: NodeId::new([n; 32]), client: Fingerprint::new([n; 32]) }
}

fn prices() -> Topic {
    private("prices").unwrap()
}

fn inquiry(question: &str) -> Inquiry {
    Inquiry { question: question.into(), topic: prices(), channel: Topic::parse("channel").unwrap() }
}

fn publisher(keys: &[&PrivateKey], how: Compatibility) -> Publisher {
    let keys = keys.iter().map(|key| key.public()).collect();
    Publisher::new(prices(), party(1).client, keys, how).unwrap()
}

fn holder(key: &PrivateKey, how: Compatibility) -> Holder {
    Holder::new(prices(), key.clone(), how)
}

/// The rest of an exchange: what the publisher decides, `None` if nothing.
fn go_on(publisher: &Publisher, holder: &Holder, question: &str, mut next: Next) -> Option<bool> {
    loop {
        let (stage, payload): (Stage, Bytes) = match next {
            Next::Send(stage, payload) => (stage, payload),
            Next::Decide(trusted) => return Some(trusted),
            Next::Leave => return None,
        };
        let answer = holder.prove(&payload, Some(party(1)), party(2)).ok();
        next = publisher.advance(HOME, &inquiry(question), stage, answer.as_ref());
    }
}

fn verify(publisher: &Publisher, holder: &Holder) -> Option<bool> {
    go_on(publisher, holder, "q", publisher.begin(Some(party(1).node)))
}

/// A message as it comes to the subscriber.
fn delivered(payload: Bytes, sender: u8) -> Deliver {
    let Party { institution, node, client: fingerprint } = party(sender);
    let client = Arc::new(ClientIdentity { fingerprint, name: "app".into() });
    Deliver {
        push: Push::new(Seq::from_u128(1), prices()),
        mode: Mode::Unicast,
        topic: prices(),
        sender: Some(Sender { institution, node, client }),
        answer_within: None,
        message: None,
        payload,
    }
}

/// What the subscriber reads of a request, and the publisher of its answer.
fn exchange(publisher: &Publisher, holder: &Holder) -> Result<(Bytes, Bytes), ContentError> {
    let sealed = publisher.seal(Mode::Unicast, Bytes::from_static(b"quote"))?;
    let (payload, seal) = match holder.unseal(&delivered(sealed.payload.clone(), 1))? {
        Unsealed::Opened(payload, seal) => (payload, seal),
        Unsealed::Plain => return Ok((sealed.payload.clone(), Bytes::new())),
    };
    Ok((payload, publisher.open(&sealed, seal.seal(b"noted"))?))
}

#[test]
fn a_holder_of_a_key_reads_and_answers() {
    let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let publisher = publisher(&[&other, &key], Compatibility::Version2);
    let (till, stranger) = (
        holder(&key, Compatibility::Version2),
        holder(&PrivateKey::generate().unwrap(), Compatibility::Version2),
    );
    assert_eq!(exchange(&publisher, &till), Err(ContentError::UnknownKey), "before the handshake");
    assert_eq!(verify(&publisher, &till), Some(true));
    assert_eq!(verify(&publisher, &stranger), Some(false));
    assert_eq!(exchange(&publisher, &till), Ok(("quote".into(), "noted".into())));
    assert_eq!(exchange(&publisher, &stranger), Err(ContentError::UnknownKey));
}

#[test]
fn only_what_this_publisher_encrypted_is_opened() {
    let key = PrivateKey::generate().unwrap();
    let publisher = publisher(&[&key], Compatibility::Version2);
    let till = holder(&key, Compatibility::Version2);
    assert_eq!(verify(&publisher, &till), Some(true));
    let sealed = publisher.seal(Mode::Unicast, Bytes::from_static(b"quote")).unwrap().payload;
    let error = |payload: Bytes, sender| till.unseal(&delivered(payload, sender)).map(|_| ()).err();
    assert_eq!(error(sealed.clone(), 3), Some(ContentError::UnknownKey), "in another's name");
    assert_eq!(error("plain".into(), 1), Some(ContentError::Malformed));
    assert_eq!(error(sealed.clone(), 1), None);
    assert_eq!(error(sealed, 1), Some(ContentError::Replayed));
}

#[test]
fn a_change_of_keys_shuts_out_whose_key_went() {
    let (stays, goes) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let publisher = publisher(&[&stays, &goes], Compatibility::Version2);
    let (kept, out) = (holder(&stays, Compatibility::Version2), holder(&goes, Compatibility::Version2));
    assert_eq!((verify(&publisher, &kept), verify(&publisher, &out)), (Some(true), Some(true)));
    let change = publisher.change(vec![stays.public()]).unwrap();
    assert_eq!((change.revoked.len(), change.grants.len()), (1, 1));
    assert_eq!(exchange(&publisher, &out), Err(ContentError::UnknownKey), "it has the former key only");
    for (_, _, stage, payload) in change.grants {
        assert_eq!(go_on(&publisher, &kept, "q", Next::Send(stage, payload)), None, "it stays trusted");
    }
    assert_eq!(exchange(&publisher, &kept), Ok(("quote".into(), "noted".into())));
    assert_eq!(verify(&publisher, &out), Some(false));
}

#[test]
fn whoever_does_not_take_the_next_key_is_taken_back() {
    let key = PrivateKey::generate().unwrap();
    let publisher = publisher(&[&key], Compatibility::Version2);
    assert_eq!(verify(&publisher, &holder(&key, Compatibility::Version2)), Some(true));
    let (_, _, stage, _) = publisher.change(vec![key.public()]).unwrap().grants.pop().unwrap();
    let next = publisher.advance(HOME, &inquiry("q"), stage, None);
    assert!(matches!(next, Next::Decide(false)));
    assert!(publisher.change(vec![key.public()]).unwrap().grants.is_empty());
}

#[test]
fn of_too_many_the_oldest_is_taken_back() {
    let key = PrivateKey::generate().unwrap();
    let publisher = publisher(&[&key], Compatibility::Version2).with_room(2);
    let till = holder(&key, Compatibility::Version2);
    for (question, evicted) in [("a", None), ("b", None), ("c", Some("a")), ("d", Some("b"))] {
        let trusted = go_on(&publisher, &till, question, publisher.begin(None));
        let gone = publisher.take_evicted().pop().map(|(_, inquiry)| inquiry.question);
        assert_eq!((trusted, gone.as_deref()), (Some(true), evicted));
    }
}

/// A key comes into force while another is on its way.
#[test]
fn a_grant_that_was_overtaken_is_made_again() {
    let key = PrivateKey::generate().unwrap();
    let publisher = publisher(&[&key], Compatibility::Version2);
    let till = holder(&key, Compatibility::Version2);
    let Next::Send(stage, offer) = publisher.begin(None) else { panic!("an offer") };
    let proof = till.prove(&offer, Some(party(1)), party(2)).unwrap();
    let Next::Send(stage, grant) = publisher.advance(HOME, &inquiry("q"), stage, Some(&proof)) else {
        panic!("a grant")
    };
    publisher.change(vec![key.public()]).unwrap();
    let granted = till.prove(&grant, Some(party(1)), party(2)).unwrap();
    let again = publisher.advance(HOME, &inquiry("q"), stage, Some(&granted));
    assert!(matches!(again, Next::Send(..)));
    assert_eq!(go_on(&publisher, &till, "q", again), Some(true));
    assert_eq!(exchange(&publisher, &till), Ok(("quote".into(), "noted".into())));
}

/// What an end of 2.x makes of an offer, and of a challenge.
#[test]
fn ends_of_2x_are_gone_along_with_where_both_allow_it() {
    let key = PrivateKey::generate().unwrap();
    let open = publisher(&[&key], Compatibility::All);
    let old = |publisher: &Publisher, how| {
        let Next::Send(stage, _) = publisher.begin(None) else { panic!("an offer") };
        let nonsense = Bytes::from_static(&[7; 65]);
        let next = publisher.advance(HOME, &inquiry("q"), stage, Some(&nonsense));
        go_on(publisher, &holder(&key, how), "q", next)
    };
    assert_eq!(old(&publisher(&[&key], Compatibility::Version2), Compatibility::All), Some(false));
    assert_eq!(old(&open, Compatibility::Version2), None, "it does not sign");
    assert!(open.encrypts());
    assert_eq!(old(&open, Compatibility::Strict), Some(true));
    assert!(!open.encrypts());
    assert_eq!(exchange(&open, &holder(&key, Compatibility::All)), Ok(("quote".into(), "".into())));
    assert_eq!(exchange(&open, &holder(&key, Compatibility::Version2)), Err(ContentError::Malformed));
    open.handle_lost(HOME);
    assert!(open.encrypts());
}

#[test]
fn nothing_is_proved_to_nobody() {
    let key = PrivateKey::generate().unwrap();
    let (publisher, till) = (publisher(&[&key], Compatibility::All), holder(&key, Compatibility::All));
    let Next::Send(_, offer) = publisher.begin(None) else { panic!("an offer") };
    assert_eq!(till.prove(&offer, None, party(2)), Err(Unproved::Nameless));
    let challenge = Bytes::from_static(b"0123456789abcdef0123456789abcdef");
    let strict = holder(&key, Compatibility::Version2);
    assert_eq!(strict.prove(&challenge, Some(party(1)), party(2)), Err(Unproved::NotVersion2));
    assert!(matches!(till.prove(&Bytes::new(), Some(party(1)), party(2)), Err(Unproved::Challenge(_))));
}
