//! Every cause, provoked on real nodes: the one place that knows how.
//!
//! Two are not here. `Unspecified` is no cause of a node: it is what an SDK makes of a 2.x node, which names none.
//! `NotConnected` is given by an SDK for want of a node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use amop::{config::Config, telemetry::client as admin};
use amop_client::{Client, RequestError, RequestOptions};
use amop_protocol::{
    Cause, Seq,
    wire::channel::{Encoded, Type},
};
use amop_testkit::wait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::mesh::{Mesh, Plain, Served, Topology, message, spawn};

const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(60);
/// A frame passes so many links and no more.
const MAX_HOPS: usize = 32;
/// More than a session's queue and its connection take, soon.
const LARGE: usize = 1 << 20;

/// What has provoked a cause, with so many sends at the first node.
pub(crate) struct Provoked {
    pub(crate) mesh: Mesh,
    pub(crate) sends: u32,
    /// Clients, whose sessions are to last as long as the mesh.
    _clients: Vec<Box<dyn std::any::Any + Send>>,
}

impl Provoked {
    async fn new(nodes: usize, change: impl Fn(&mut Config)) -> Self {
        let mesh = Mesh::new(nodes, Topology::Line, |_, config| {
            (config.delivery.min_push_timeout, config.delivery.max_push_timeout) = (SOON, SOON);
            change(config);
        })
        .await;
        Self { mesh, sends: 0, _clients: Vec::new() }
    }

    fn last(&self) -> usize {
        self.mesh.nodes.len() - 1
    }

    fn keep(&mut self, client: impl std::any::Any + Send) {
        self._clients.push(Box::new(client));
    }

    /// A publisher at the first node.
    async fn till(&self) -> Client {
        self.mesh.client(0).await
    }

    /// One at the last node who answers requests to `t`.
    async fn desk(&mut self) {
        let desk = Served::answer(self.mesh.client(self.last()).await, "t", "here").await;
        self.keep(desk);
        self.known().await;
    }

    /// One there who takes requests to `t`, and never says a word.
    async fn silent(&mut self) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let client = self.mesh.client(self.last()).await;
        let silent = Served::with(client, "t", move |delivery| keep.lock().push(delivery)).await;
        self.keep((silent, kept));
        self.known().await;
    }

    /// One there who has subscribed `t`, and does not read what comes.
    async fn stuck(&self) -> Plain {
        let node = &self.mesh.nodes[self.last()];
        let stuck = Plain::subscriber(node.addresses.channel, &node.institution.client("old"), &["t"]).await;
        self.known().await;
        stuck
    }

    async fn known(&self) {
        wait::until("the topic", async || self.mesh.knows(0, "t").await).await;
    }

    /// A send of so many bytes; says why it failed, if it did.
    async fn request(&mut self, till: &Client, topic: &str, bytes: usize) -> Option<Cause> {
        self.sends += 1;
        let answer = wait::within("an outcome", till.request(topic, vec![0; bytes])).await;
        answer.err().map(|error| cause_of(&error))
    }

    /// As a 2.x client sends it, the same one so many times.
    async fn plainly(&mut self, frame: impl Fn(Seq) -> Encoded, times: u32) {
        let leaf = self.mesh.nodes[0].institution.client("old");
        let mut old = Plain::subscriber(self.mesh.nodes[0].addresses.channel, &leaf, &[]).await;
        let seq = old.seq();
        for _ in 0..times {
            old.send(frame(seq)).await;
            wait::within("an outcome", old.receive()).await;
            self.sends += 1;
        }
    }

    /// Sends large requests until one has failed for this cause.
    async fn pile_up(&mut self, cause: Cause) {
        let till = self.till().await;
        let found = Arc::new(Mutex::new(Vec::new()));
        let mut requests = Vec::new();
        while !found.lock().contains(&cause) {
            let (till, found) = (till.clone(), found.clone());
            requests.push(spawn(async move {
                let cause = till.request("t", vec![0; LARGE]).await.err().map(|error| cause_of(&error));
                found.lock().extend(cause);
            }));
            self.sends += 1;
            let sent = u64::from(self.sends);
            let node = &self.mesh.nodes[self.last()];
            wait::until("its arrival", async || node.counted("delivery_pushes").await >= sent).await;
            assert!(sent < 500, "{cause:?} never came");
        }
        for request in requests {
            wait::within("an outcome", request).await.expect("no panic");
        }
    }
}

/// Provokes a cause at the first node; nothing if no node gives it, or another test has it. A new cause does not
/// compile without a way to provoke it.
pub(crate) async fn provoke(cause: Cause) -> Option<Provoked> {
    let bed = |nodes| Provoked::new(nodes, |_| {});
    let mut bed = match cause {
        Cause::Unspecified | Cause::NotConnected => return None,
        // Its node is about to end: `drain`.
        Cause::Draining => return None,
        Cause::HopLimit => bed(MAX_HOPS + 2).await,
        Cause::RelayLimit => {
            Provoked::new(3, |config| config.limits.relay_bandwidth_limit = Some(0.01)).await
        }
        Cause::NodeBandwidth => {
            Provoked::new(2, |config| config.limits.outgoing_bandwidth_limit = Some(0.1)).await
        }
        Cause::ClientQuota => {
            Provoked::new(2, |config| config.limits.client_bandwidth_limit = Some(0.1)).await
        }
        Cause::NoRoom => Provoked::new(2, |config| config.limits.payload_bytes = LARGE).await,
        Cause::OutcomeLost => Provoked::new(1, |config| config.delivery.seen_bytes = 0).await,
        Cause::QueueFull => Provoked::new(2, |config| config.client_port.queue_bytes = LARGE).await,
        Cause::SessionGone | Cause::Deadline => {
            Provoked::new(2, |config| {
                (config.delivery.min_push_timeout, config.delivery.max_push_timeout) = (LATE, LATE);
            })
            .await
        }
        _ => bed(2).await,
    };
    bed.provoke(cause).await;
    Some(bed)
}

impl Provoked {
    async fn provoke(&mut self, cause: Cause) {
        let till = self.till().await;
        match cause {
            Cause::Unspecified | Cause::NotConnected | Cause::Draining => unreachable!("not here"),
            Cause::Delivered => {
                self.desk().await;
                assert_eq!(self.request(&till, "t", 1).await, None);
            }
            Cause::NoSubscriber => assert_eq!(self.request(&till, "nobody", 1).await, Some(cause)),
            Cause::Unreachable => {
                self.desk().await;
                self.mesh.abort(1);
                assert_eq!(self.request(&till, "t", 1).await, Some(cause));
            }
            Cause::HopLimit => {
                self.desk().await;
                let far = self.mesh.client(self.last() - 1).await;
                let far = Served::answer(far, "as far as may be", "here").await;
                self.keep(far);
                assert_eq!(self.request(&till, "as far as may be", 1).await, None);
                assert_eq!(self.request(&till, "t", 1).await, Some(cause));
            }
            Cause::NotVerified => self.plainly(to("#!$TopicNeedVerify_secret"), 1).await,
            Cause::BadTopic => {
                let frame = |seq| Encoded::new(Type::UNICAST, seq, 0, &b"\x03a\tb"[..], Bytes::new());
                self.plainly(frame, 1).await;
            }
            Cause::ReservedTopic => self.plainly(to("_block_notify_1"), 1).await,
            Cause::OutcomeLost => {
                self.desk().await;
                self.plainly(to("t"), 2).await;
            }
            Cause::SessionGone => self.leave_a_queue(&till).await,
            Cause::QueueFull | Cause::WriteFailed => {
                let stuck = self.stuck().await;
                self.pile_up(cause).await;
                self.keep(stuck);
            }
            Cause::SubscriberRefused => {
                let refusing =
                    Served::with(self.mesh.client(1).await, "t", |delivery| delivery.refuse(7)).await;
                self.keep(refusing);
                self.known().await;
                assert_eq!(self.request(&till, "t", 1).await, Some(cause));
            }
            Cause::PushTimeout => {
                self.silent().await;
                assert_eq!(self.request(&till, "t", 1).await, Some(cause));
            }
            Cause::Deadline => {
                self.silent().await;
                let soon = RequestOptions::default().deadline(SOON);
                // The subscriber has until then, too: on a busy machine its node may say so first.
                wait::until("a deadline", async || {
                    let late = wait::within("an outcome", till.request_with("t", "x", soon.clone())).await;
                    self.sends += 1;
                    let found = cause_of(&late.expect_err("no answer"));
                    assert!([cause, Cause::PushTimeout].contains(&found), "{found:?}");
                    found == cause
                })
                .await;
            }
            Cause::AnswerLost => self.leave_without_an_answer(&till).await,
            Cause::NodeBandwidth | Cause::ClientQuota | Cause::RelayLimit => {
                self.desk().await;
                assert_eq!(self.request(&till, "t", LARGE / 4).await, None, "one may go into debt");
                assert_eq!(self.request(&till, "t", 1).await, Some(cause));
            }
            Cause::NoRoom => self.fill_the_room(&till).await,
            Cause::NoneHanded => self.publish_to_nobody_who_reads(&till).await,
        }
    }

    async fn leave_without_an_answer(&mut self, till: &Client) {
        let mut leaving = self.stuck().await;
        let leave = async {
            leaving.receive().await;
            drop(leaving);
        };
        let (found, ()) = futures::future::join(self.request(till, "t", 1), leave).await;
        assert_eq!(found, Some(Cause::AnswerLost));
    }

    async fn fill_the_room(&mut self, till: &Client) {
        self.silent().await;
        let first = till.clone();
        let first = spawn(async move { first.request("t", vec![0; LARGE * 3 / 4]).await });
        self.sends += 1;
        let node = &self.mesh.nodes[1];
        wait::until("its arrival", async || node.counted("delivery_pushes").await == 1).await;
        assert_eq!(self.request(till, "t", LARGE / 2).await, Some(Cause::NoRoom));
        wait::within("an outcome", first).await.expect("no panic").expect_err("nobody answers");
    }

    async fn publish_to_nobody_who_reads(&mut self, till: &Client) {
        let stuck = self.stuck().await;
        let mut found = None;
        while found != Some(Cause::NoneHanded) {
            self.sends += 1;
            let told = wait::within("an outcome", till.publish("t", vec![0; LARGE])).await;
            found = told.err().map(|error| error.cause());
            assert!(self.sends < 500, "nobody is handed it: that never came");
        }
        self.keep(stuck);
    }

    /// A subscriber goes while requests wait for it.
    async fn leave_a_queue(&mut self, till: &Client) {
        let stuck = self.stuck().await;
        let mut requests = Vec::new();
        while self.mesh.nodes[1].counted("client_port_pushes_refused").await == 0 {
            let till = till.clone();
            requests.push(spawn(async move { till.request("t", vec![0; LARGE]).await }));
            self.sends += 1;
            let (node, sent) = (&self.mesh.nodes[1], u64::from(self.sends));
            wait::until("its arrival", async || node.counted("delivery_pushes").await >= sent).await;
            assert!(sent < 500, "the queue is never full");
        }
        drop(stuck);
        for request in requests {
            let ended = wait::within("an outcome", request).await.expect("no panic");
            cause_of(&ended.expect_err("no answer"));
        }
    }
}

/// Its code is the one that belongs to it.
fn cause_of(error: &RequestError) -> Cause {
    assert_eq!(error.code(), error.cause().status().code(), "{error}");
    error.cause()
}

/// Has a node drain with one request in flight, refuse another one for that, and be looked at then.
pub(crate) async fn drain(look: impl AsyncFnOnce(SocketAddr)) {
    let mut mesh = Mesh::new(1, Topology::Line, |_, config| config.shutdown.grace = LATE).await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    let desk = Served::with(mesh.client(0).await, "t", move |delivery| keep.lock().push(delivery)).await;
    let leaf = mesh.nodes[0].institution.client("old");
    let mut old = Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await;
    let waiting = old.seq();
    old.send(message(Type::UNICAST, waiting, "t", "please")).await;
    wait::until("the request to arrive", async || desk.handled() == 1).await;
    let at = mesh.nodes[0].admin();
    let during = async {
        wait::until("the node to drain", async || admin::get(at, "/readyz").await.is_err()).await;
        let seq = old.seq();
        old.send(message(Type::UNICAST, seq, "t", "too late")).await;
        let refused = old.receive().await;
        assert_eq!((refused.seq, refused.result), (seq, Cause::Draining.status().code()));
        look(at).await;
        kept.lock().drain(..).for_each(|delivery| delivery.answer("done"));
        let answer = old.receive().await;
        assert_eq!((answer.seq, answer.result), (waiting, 0));
    };
    let (report, ()) = futures::future::join(mesh.stop(0), during).await;
    assert_eq!(report.cut, 0);
}

fn to(topic: &'static str) -> impl Fn(Seq) -> Encoded {
    move |seq| message(Type::UNICAST, seq, topic, "x")
}
