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
    publisher::{Change, Next, Publisher, Stage},
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

/// Other keys count, and nobody is waited for.
fn change(publisher: &Publisher, keys: &[&PrivateKey]) -> Change {
    let change = publisher.change(keys.iter().map(|key| key.public()).collect()).unwrap();
    assert!(publisher.seal(Mode::Unicast, &Bytes::new()).unwrap().is_none(), "not during a change");
    publisher.ready.send_replace(true);
    change
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
        context: None,
        payload,
    }
}

/// What the subscriber reads of a request, and the publisher of its answer.
fn exchange(publisher: &Publisher, holder: &Holder) -> Result<(Bytes, Bytes), ContentError> {
    let sealed =
        publisher.seal(Mode::Unicast, &Bytes::from_static(b"quote"))?.expect("no change is under way");
    let (payload, seal) = match holder.unseal(&delivered(sealed.payload.clone(), 1))? {
        Unsealed::Opened(payload, seal) => (payload, seal),
        Unsealed::Plain => return Ok((sealed.payload.clone(), Bytes::new())),
    };
    Ok((payload, publisher.open(&sealed, seal.seal(b"noted").into())?))
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
    let sealed = publisher.seal(Mode::Unicast, &Bytes::from_static(b"quote")).unwrap().unwrap().payload;
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
    let change = change(&publisher, &[&stays]);
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
    let (_, _, stage, payload) = change(&publisher, &[&key]).grants.pop().unwrap();
    let (mut next, mut tries) = (Next::Send(stage, payload), 0);
    while let Next::Send(stage, _) = next {
        (next, tries) = (publisher.advance(HOME, &inquiry("q"), stage, None), tries + 1);
    }
    assert!(matches!(next, Next::Decide(false)));
    assert_eq!(tries, 4);
    assert!(change(&publisher, &[&key]).grants.is_empty());
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
    change(&publisher, &[&key]);
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

/// An offer of a publisher, answered; and what gives the subscriber the key.
fn offered(publisher: &Publisher, holder: &Holder, sender: &Party) -> Bytes {
    let Next::Send(stage, offer) = publisher.begin(Some(sender.node)) else { panic!("an offer") };
    let proof = holder.prove(&offer, Some(sender.clone()), party(2)).unwrap();
    let Next::Send(_, grant) = publisher.advance(HOME, &inquiry("q"), stage, Some(&proof)) else {
        panic!("a grant")
    };
    grant
}

#[test]
fn a_grant_counts_from_its_publisher_and_once() {
    let key = PrivateKey::generate().unwrap();
    let publisher = publisher(&[&key], Compatibility::Version2);
    let till = holder(&key, Compatibility::Version2);
    let grant = offered(&publisher, &till, &party(1));
    for other in [None, Some(party(3)), Some(Party { node: NodeId::new([9; 32]), ..party(1) })] {
        assert!(till.prove(&grant, other, party(2)).is_err());
    }
    assert!(till.prove(&grant, Some(party(1)), party(2)).is_ok());
    let sealed = publisher.seal(Mode::Unicast, &Bytes::from_static(b"quote")).unwrap().unwrap().payload;
    let open = || till.unseal(&delivered(sealed.clone(), 1)).map(|_| ()).err();
    assert_eq!(open(), None);
    assert!(till.prove(&grant, Some(party(1)), party(2)).is_err(), "what was opened stays opened");
    assert_eq!(open(), Some(ContentError::Replayed));
}

#[test]
fn others_cannot_push_a_publishers_key_out() {
    let key = PrivateKey::generate().unwrap();
    let honest = publisher(&[&key], Compatibility::Version2);
    let till = holder(&key, Compatibility::Version2);
    assert_eq!(verify(&honest, &till), Some(true));
    for _ in 0..200 {
        let keys = vec![key.public()];
        let evil = Publisher::new(prices(), party(3).client, keys, Compatibility::Version2).unwrap();
        let grant = offered(&evil, &till, &party(3));
        till.prove(&grant, Some(party(3)), party(2)).unwrap();
    }
    assert_eq!(exchange(&honest, &till), Ok(("quote".into(), "noted".into())));
    for (_, _, stage, payload) in change(&honest, &[&key]).grants {
        assert_eq!(go_on(&honest, &till, "q", Next::Send(stage, payload)), None);
    }
    assert_eq!(exchange(&honest, &till), Ok(("quote".into(), "noted".into())));
}
