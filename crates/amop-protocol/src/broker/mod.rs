//! Who wants what, where they are, and every message's way to its one outcome.

pub mod event;
pub mod routing;
pub mod topology;
