//! What the client port asks of the node.

use std::sync::Arc;

use amop_protocol::{
    ClientIdentity, SessionId, Topic,
    broker::{
        event::{Answer, Publish, PushError, PushId, Subscriber},
        routing::Routing,
    },
    session::verification::Verdict,
};
use futures::future::BoxFuture;

use super::{control, data_path::DataPath, sessions::Sessions};
use crate::{
    client_port::{Broker, SessionInfo},
    tasks::Tasks,
};

/// The node, as its client port sees it.
pub(super) struct NodeBroker {
    pub(super) data: Arc<DataPath>,
    pub(super) control: control::Handle,
    pub(super) sessions: Arc<Sessions>,
    pub(super) tasks: Tasks,
}

impl Broker for NodeBroker {
    fn opened(&self, session: &Arc<SessionInfo>) {
        // Its first report makes it known to others.
        self.sessions.opened(session);
    }

    fn report(
        &self,
        session: SessionId,
        client: Arc<ClientIdentity>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, ()> {
        let control = self.control.clone();
        Box::pin(async move { control.report(session, client, topics).await })
    }

    fn verdict(&self, session: SessionId, verdict: Verdict) -> BoxFuture<'static, ()> {
        let control = self.control.clone();
        Box::pin(async move { control.verdict(session, verdict).await })
    }

    fn settled(&self) -> BoxFuture<'static, bool> {
        let control = self.control.clone();
        Box::pin(async move { control.settled().await })
    }

    fn publish(&self, publish: Publish) {
        self.data.publish(publish);
    }

    fn answer(&self, session: SessionId, push: PushId, answer: Answer) {
        self.data.answer(session, push, answer);
    }

    fn pushed(&self, session: SessionId, pushes: &[PushId], result: Result<(), PushError>) {
        self.data.pushed(session, pushes, result);
    }

    fn subscriber(&self, session: SessionId, subscriber: Subscriber) {
        self.sessions.subscriber(session, &subscriber);
        self.data.subscriber(session, &subscriber);
    }

    fn written(&self, session: SessionId, pushes: &[PushId]) {
        self.data.written(session, pushes);
    }

    fn closed(&self, session: SessionId) {
        self.sessions.closed(session);
        self.data.closed(session);
        // Control may be busy; a session's end waits for nobody.
        let control = self.control.clone();
        self.tasks.spawn("session end", async move { control.closed(session).await });
    }

    fn routing(&self) -> Arc<Routing> {
        self.data.routing().clone()
    }
}
