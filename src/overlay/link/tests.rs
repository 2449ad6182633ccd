//! One link over an in-memory stream, the other end played by the test.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use amop_protocol::wire::peer::DataError;
use amop_protocol::wire::{
    generated::{self, Heartbeat, control::Message as Body},
    link::{FrameFault, Kind, LinkFrame, decode},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const OWN: NodeId = NodeId::new([1; 32]);
const PEER: NodeKey = NodeKey::new([2; 64]);

/// Counts data frames.
#[derive(Default)]
struct Counting(AtomicU64);

impl Router for Counting {
    fn handle_data(&self, _: NodeId, _: LinkFrame) -> Result<(), DataError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn handle_dropped(&self, _: NodeId, _: LinkFrame) {}
}

/// A data stream that is there.
struct There(DuplexStream);

impl DataSource for There {
    type Stream = DuplexStream;

    fn ticket(&self) -> Bytes {
        Bytes::from_static(b"ours")
    }

    async fn open(self, shown: Bytes) -> io::Result<DuplexStream> {
        if *shown == *b"theirs" { Ok(self.0) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// The peer's end of both streams, and what the link tells.
struct Peering {
    control: DuplexStream,
    data: DuplexStream,
    events: mpsc::Receiver<Event>,
    reports: mpsc::Receiver<Report>,
    link: Link,
    context: Arc<Context>,
    router: Arc<Counting>,
}

fn subject() -> Subject {
    let institution = amop_testkit::ca::Consortium::new().institution("bank");
    Subject::parse(&institution.node("peer").chain()[0]).unwrap()
}

fn peering(change: impl FnOnce(&mut Config)) -> Peering {
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    change(&mut config);
    let (events, event_queue) = mpsc::channel(16);
    let (reports, report_queue) = mpsc::channel(16);
    let router = Arc::new(Counting::default());
    let context = Arc::new(Context {
        own: OWN,
        epoch: 7,
        router: router.clone(),
        events,
        reports,
        tasks: Tasks::new(),
        metrics: Metrics::default(),
        data_budget: Budget::new(config.reassembly),
        control_budget: Budget::new(config.control_reassembly),
        config,
    });
    let link = Link::new(LinkId(1), PEER.id(), &context.config, context.metrics.clone());
    let (control, own_control) = tokio::io::duplex(1 << 20);
    let (data, own_data) = tokio::io::duplex(1 << 20);
    let candidate = Candidate {
        link: link.clone(),
        key: PEER,
        subject: Arc::new(subject()),
        address: "127.0.0.1:1".parse().unwrap(),
        control: own_control,
        data: There(own_data),
    };
    context.tasks.spawn("link", run(candidate, context.clone()));
    Peering { control, data, events: event_queue, reports: report_queue, link, context, router }
}

fn hello(node: NodeId, min_version: u32, max_version: u32) -> LinkFrame {
    let node = node.as_bytes().to_vec().into();
    let data_ticket = Bytes::from_static(b"theirs");
    LinkFrame::control(Body::Hello(generated::Hello {
        min_version,
        max_version,
        node,
        epoch: 9,
        data_ticket,
    }))
}

fn bytes(frame: &LinkFrame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

impl Peering {
    async fn failure(&mut self) -> Failure {
        match self.reports.recv().await {
            Some(Report::Ended { failure: Some(failure), .. }) => failure,
            _ => panic!("expected a failure"),
        }
    }

    async fn up(&mut self) {
        self.control.write_all(&bytes(&hello(PEER.id(), 1, 3))).await.unwrap();
        match self.reports.recv().await {
            Some(Report::Greeted { epoch: 9, verdict, .. }) => assert!(verdict.send(Verdict::ComeUp).is_ok()),
            _ => panic!("expected a greeting"),
        }
        assert!(matches!(self.events.recv().await, Some(Event::LinkUp { .. })));
    }

    async fn down(&mut self) -> DownReason {
        match self.events.recv().await {
            Some(Event::LinkDown { reason, .. }) => reason,
            other => panic!("expected LinkDown, got {other:?}"),
        }
    }

    async fn fault(&mut self) -> PeerFault {
        match self.down().await {
            DownReason::Fault(fault) => fault,
            other => panic!("expected a fault, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn our_hello_says_who_we_are() {
    let mut peering = peering(|_| {});
    let mut input = BytesMut::new();
    let frame = loop {
        peering.control.read_buf(&mut input).await.unwrap();
        if let Some(frame) = decode(&mut input, 1000).unwrap() {
            break frame;
        }
    };
    let Ok(Some(Body::Hello(hello))) = frame.into_control() else { panic!("a hello") };
    assert_eq!((&hello.node[..], hello.epoch), (&OWN.as_bytes()[..], 7));
    assert_eq!(hello.data_ticket, b"ours"[..]);
}

#[tokio::test]
async fn without_a_data_stream_there_is_no_link() {
    let mut peering = peering(|_| {});
    let node = PEER.id().as_bytes().to_vec().into();
    let strange = generated::Hello { min_version: 1, max_version: 1, node, ..Default::default() };
    peering.control.write_all(&bytes(&LinkFrame::control(Body::Hello(strange)))).await.unwrap();
    assert!(matches!(peering.failure().await, Failure::Data(_)));
    assert!(peering.events.try_recv().is_err(), "never up, never down");
}

#[tokio::test]
async fn without_a_hello_it_is_given_up_in_time() {
    let mut peering = peering(|config| config.handshake_timeout = Duration::from_millis(50));
    assert!(matches!(peering.failure().await, Failure::Slow(_)));
    assert_eq!(peering.context.metrics.handshake_timeouts.get(), 1);
    assert!(peering.events.try_recv().is_err(), "never up, never down");
}

#[tokio::test]
async fn wrong_hellos_are_refused() {
    let check = async |frame: &[u8]| {
        let mut peering = peering(|_| {});
        peering.control.write_all(frame).await.unwrap();
        peering.failure().await
    };
    let verified = PEER.id();
    let wrong = Failure::Fault(PeerFault::WrongNode { claimed: OWN, verified }).to_string();
    assert_eq!(check(&bytes(&hello(OWN, 1, 1))).await.to_string(), wrong);
    let incompatible = check(&bytes(&hello(verified, 2, 9))).await;
    assert!(matches!(incompatible, Failure::Incompatible(Incompatible { min: 2, max: 9 })));
    let heartbeat = LinkFrame::control(Body::Heartbeat(Heartbeat::default()));
    assert!(matches!(check(&bytes(&heartbeat)).await, Failure::Fault(PeerFault::Hello)));
    assert!(matches!(check(&[0xff; 12]).await, Failure::Fault(PeerFault::Frame(_))));
}

#[tokio::test]
async fn an_oversized_frame_closes_the_link_at_its_prefix() {
    let mut peering = peering(|_| {});
    peering.up().await;
    peering.data.write_all(&[0, 1, 0, 0]).await.unwrap();
    let fault = peering.fault().await;
    assert!(matches!(fault, PeerFault::Frame(FrameFault::TooLong { length: 65_536, .. })));
    assert_eq!(peering.context.metrics.peer_faults.get(), 1);
    let mut rest = Vec::new();
    peering.data.read_to_end(&mut rest).await.unwrap();
    assert!(matches!(peering.reports.recv().await, Some(Report::Ended { failure: None, .. })));
    assert_eq!(peering.context.metrics.links.get(), 0);
}

#[tokio::test]
async fn frames_on_the_wrong_substream_and_late_hellos_are_faults() {
    let data = LinkFrame { kind: Kind::Data, ..LinkFrame::control(Body::Heartbeat(Heartbeat::default())) };
    let control = LinkFrame::control(Body::Heartbeat(Heartbeat::default()));

    let mut one = peering(|_| {});
    one.up().await;
    one.data.write_all(&bytes(&control)).await.unwrap();
    assert_eq!(one.fault().await, PeerFault::WrongStream(Kind::Control));

    let mut two = peering(|_| {});
    two.up().await;
    two.control.write_all(&bytes(&data)).await.unwrap();
    assert_eq!(two.fault().await, PeerFault::WrongStream(Kind::Data));

    let mut three = peering(|_| {});
    three.up().await;
    three.control.write_all(&bytes(&hello(PEER.id(), 1, 1))).await.unwrap();
    assert_eq!(three.fault().await, PeerFault::Hello);
}

#[tokio::test]
async fn frames_right_behind_the_hello_are_not_lost() {
    let mut peering = peering(|_| {});
    let heartbeat = LinkFrame::control(Body::Heartbeat(Heartbeat::default()));
    let mut both = bytes(&hello(PEER.id(), 1, 1));
    both.extend_from_slice(&bytes(&heartbeat));
    peering.control.write_all(&both).await.unwrap();
    match peering.reports.recv().await {
        Some(Report::Greeted { verdict, .. }) => assert!(verdict.send(Verdict::ComeUp).is_ok()),
        _ => panic!("expected a greeting"),
    }
    assert!(matches!(peering.events.recv().await, Some(Event::LinkUp { .. })));
    assert!(matches!(peering.events.recv().await, Some(Event::Control { .. })));
}

#[tokio::test]
async fn a_full_data_queue_refuses_and_a_full_control_queue_closes() {
    let mut peering = peering(|config| {
        config.data_queue = 3_000_000;
        config.control_queue = 1000;
    });
    peering.up().await;
    // The stream takes 1 MiB; the peer reads nothing.
    let payload: bytes::Bytes = vec![0; 100_000].into();
    let header = bytes::Bytes::new();
    let frame = LinkFrame { kind: Kind::Data, hops: 1, flow: 1, header, payload };
    let mut taken = 0;
    while peering.link.try_send(frame.clone()).is_ok() {
        taken += 1;
        assert!(taken < 1000, "bounded");
    }
    assert!(peering.context.metrics.frames_refused.get() == 1);
    let big = LinkFrame { kind: Kind::Control, ..frame };
    while peering.link.try_send(big.clone()).is_ok() {}
    assert!(matches!(peering.down().await, DownReason::Overflow));
    assert_eq!(peering.context.metrics.control_overflows.get(), 1);
}

#[tokio::test]
async fn what_came_before_the_peer_closed_is_handled() {
    let mut peering = peering(|_| {});
    peering.up().await;
    let heartbeat = LinkFrame::control(Body::Heartbeat(Heartbeat::default()));
    let frame = LinkFrame { kind: Kind::Data, ..heartbeat };
    peering.control.shutdown().await.unwrap();
    for _ in 0..10 {
        peering.data.write_all(&bytes(&frame)).await.unwrap();
    }
    peering.data.shutdown().await.unwrap();
    assert!(matches!(peering.down().await, DownReason::ClosedByPeer));
    assert_eq!(peering.router.0.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn who_is_gone_is_not_written_to_until_patience_ends() {
    let mut one = peering(|config| config.flush_timeout = Duration::from_secs(3600));
    let mut other = peering(|config| config.flush_timeout = Duration::from_secs(3600));
    for peering in [&mut one, &mut other] {
        peering.up().await;
        // More than the stream takes, and the peer reads nothing of it.
        let payload: bytes::Bytes = vec![0; 3 << 20].into();
        let frame = LinkFrame { kind: Kind::Data, hops: 1, flow: 1, header: bytes::Bytes::new(), payload };
        peering.link.try_send(frame).unwrap();
    }
    // Its connection is closed: it says goodbye on both streams, but takes nothing any more.
    one.control.shutdown().await.unwrap();
    one.data.shutdown().await.unwrap();
    one.link.hang_up(DownReason::ClosedByPeer);
    // Both break.
    let Peering { control, data, ref mut events, .. } = other;
    drop((control, data));
    for events in [&mut one.events, events] {
        let down = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
        assert!(matches!(down, Ok(Some(Event::LinkDown { .. }))), "{down:?}");
    }
}
