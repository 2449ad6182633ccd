use super::*;

const NODE: NodeId = NodeId::new([1; 32]);
const LONG: Duration = Duration::from_secs(60);

fn peers(now: Instant) -> Peers {
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    config.peers = vec!["127.0.0.1:1".parse().unwrap()];
    Peers::new(&config, now)
}

fn dial(peers: &mut Peers, now: Instant) -> Target {
    peers.poll_dial(now, |_| false).expect("a dial is due").0
}

#[test]
fn pauses_double_up_to_the_longest() {
    let now = Instant::now();
    let mut peers = peers(now);
    let mut pauses = Vec::new();
    let mut at = now;
    for _ in 0..10 {
        let target = dial(&mut peers, at);
        peers.handle_failure(target, at, 1.0);
        let due = peers.poll_timeout().unwrap();
        pauses.push((due - at).as_millis());
        at = due;
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000]);
}

#[test]
fn a_peer_that_was_up_is_dialled_at_once_and_then_every_second() {
    let now = Instant::now();
    let mut peers = peers(now);
    let target = dial(&mut peers, now);
    peers.handle_answer(target, NODE);
    peers.handle_up(NODE);
    assert_eq!(peers.poll_timeout(), None);
    peers.handle_down(NODE, LONG, now, 1.0);
    assert_eq!(peers.poll_timeout(), Some(now));
    for _ in 0..20 {
        let at = peers.poll_timeout().unwrap();
        let target = dial(&mut peers, at);
        peers.handle_failure(target, at, 1.0);
        assert!(peers.poll_timeout().unwrap() - at <= Duration::from_secs(1));
    }
}

#[test]
fn what_is_wrong_with_a_configured_peer_is_told() {
    let now = Instant::now();
    let mut peers = peers(now);
    let told = |peers: &Peers| peers.wanted().remove(0);
    assert_eq!((told(&peers).state, told(&peers).error), (WantedState::Waiting, None));
    let target = dial(&mut peers, now);
    assert_eq!(told(&peers).state, WantedState::Busy);
    peers.note(target, "refused");
    peers.handle_failure(target, now, 1.0);
    assert_eq!((told(&peers).failures, told(&peers).error.as_deref()), (1, Some("refused")));
    let target = dial(&mut peers, now + LONG);
    peers.handle_answer(target, NODE);
    peers.handle_up(NODE);
    assert_eq!(told(&peers).state, WantedState::Linked);
    peers.learn("127.0.0.1:9".parse().unwrap(), now);
    assert_eq!(peers.wanted().len(), 1, "learned ones are nobody's wish");
}

#[test]
fn a_link_that_flaps_is_not_dialled_at_once() {
    let now = Instant::now();
    let mut peers = peers(now);
    let target = dial(&mut peers, now);
    peers.handle_answer(target, NODE);
    peers.handle_up(NODE);
    peers.handle_down(NODE, Duration::from_millis(5), now, 0.0);
    assert_eq!(peers.poll_timeout(), Some(now + Duration::from_millis(10)));
}

#[test]
fn an_address_rests_while_its_node_is_linked() {
    let now = Instant::now();
    let mut peers = peers(now);
    let target = dial(&mut peers, now);
    peers.handle_answer(target, NODE);
    peers.handle_duplicate(target, now);
    assert!(peers.poll_dial(now + LONG, |node| *node == NODE).is_none());
    assert_eq!(peers.poll_timeout(), None);
}

#[test]
fn our_own_address_is_given_up() {
    let now = Instant::now();
    let mut peers = peers(now);
    let target = dial(&mut peers, now);
    assert!(peers.handle_self(target).is_some());
    assert_eq!(peers.poll_timeout(), None);
}

#[test]
fn what_is_configured_may_change() {
    let now = Instant::now();
    let mut peers = peers(now);
    let target = dial(&mut peers, now);
    peers.learn("127.0.0.1:3".parse().unwrap(), now);
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    let addresses = ["127.0.0.1:2", "127.0.0.1:3"];
    config.peers = addresses.iter().map(|address| address.parse().unwrap()).collect();
    assert_eq!(peers.configure(&config, now), BTreeSet::from([target]));
    let wanted: BTreeSet<_> = peers.wanted().into_iter().map(|peer| peer.address.to_string()).collect();
    assert_eq!(wanted, addresses.map(str::to_owned).into());
    assert_eq!(peers.handle_failure(target, now, 1.0), Tell::Nobody, "it is forgotten");
    assert_eq!(peers.configure(&config, now), BTreeSet::new(), "nothing has changed");
    assert_eq!([dial(&mut peers, now), dial(&mut peers, now)].len(), 2);
    assert!(peers.poll_dial(now, |_| false).is_none());
}

#[test]
fn learned_addresses_are_bounded_and_forgotten() {
    let now = Instant::now();
    let mut peers = peers(now);
    peers.max = 2;
    dial(&mut peers, now);
    for port in [2, 3] {
        peers.learn(format!("127.0.0.1:{port}").parse().unwrap(), now);
    }
    assert_eq!(peers.entries.len(), 2);
    for _ in 0..LEARNED_ATTEMPTS {
        let target = dial(&mut peers, now + LONG);
        peers.handle_failure(target, now, 1.0);
    }
    assert_eq!(peers.entries.len(), 1);
}
