//! Who is asked when the admin port is.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Certificate, Client, Drain, Page, Peer, Reload, Route, Status, Topic, Usage};
use crate::telemetry::{
    overview::{Overview, View},
    trace::TraceSource,
};

/// Where a node's state comes from when the admin port is asked. Calls must be quick and must
/// not wait for a busy task: the admin port answers under load.
pub trait StatusSource: Send + Sync + 'static {
    /// Who knows what became of messages, if anybody does.
    fn traces(&self) -> Option<Arc<dyn TraceSource>> {
        None
    }
    /// The node at a glance.
    fn status(&self) -> Status;
    /// Why the node is not ready; empty if it is.
    fn not_ready(&self) -> Vec<String>;
    /// All other nodes that are reachable now, neighbours and beyond.
    fn peers(&self) -> Vec<Peer>;
    /// The way to each of them.
    fn routes(&self) -> Vec<Route>;
    /// Topics that have a subscriber anywhere, in order of name.
    fn topics(&self, page: &Page) -> Vec<Topic>;
    /// The sessions of this node's clients, in the order they came.
    fn clients(&self, page: &Page) -> Vec<Client>;
    /// What has a bound, and how near to it the node is.
    fn limits(&self) -> Vec<Usage>;
    /// The certificates the node lives by.
    fn certificates(&self) -> Vec<Certificate>;
    /// How far the node is with its end.
    fn draining(&self) -> Drain;
    /// All that the web page shows.
    fn overview(&self, view: &View) -> Overview;
    /// Called every second: rates are worked out from what was counted then.
    fn sample(&self);
}

/// What changes a node when the admin port is asked, by somebody with the authority.
pub trait Operations: Send + Sync + 'static {
    /// Has the node stop as it does when it is told to by a signal. Asking again changes nothing.
    fn drain(&self);

    /// Has it load certificates, keys, CAs and revocation lists from their files again, all or nothing.
    ///
    /// # Errors
    /// With what is wrong with the files; then nothing has changed.
    fn reload(&self) -> BoxFuture<'static, Result<Reload, String>>;
}
