//! The demo: an application of the last institution that answers, one of the first that asks.

use std::convert::Infallible;

use super::{layout::Layout, plan::Plan};

/// Runs the demo for ever; without one, only waits.
pub(super) async fn run(_plan: &Plan, _layout: &Layout, _wanted: bool) -> Infallible {
    std::future::pending().await
}
