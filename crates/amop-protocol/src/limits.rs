//! Bounds that the protocol itself sets, each with what happens when it is reached.
//!
//! Bounds of queues and tables stand in the `Config` of the component that owns them.

use std::time::Duration;

/// Largest channel frame, header included: 100 MiB, as FISCO BCOS has it. Larger: the session is closed.
pub const MAX_CHANNEL_FRAME: usize = 100 * 1024 * 1024;
/// Largest body of a handshake or a JSON-RPC call. Larger: the one is ignored, the other answered with an error.
pub const MAX_JSON_BODY: usize = 64 * 1024;
/// Largest frame between nodes: a channel frame and room for its header. Larger: the link is closed.
pub const MAX_LINK_FRAME: usize = MAX_CHANNEL_FRAME + 64 * 1024;
/// Largest frame on a control substream. Larger: the link is closed.
pub const MAX_CONTROL_FRAME: usize = 16 * 1024 * 1024;
/// Large frames that one substream carries at the same time. The sender lets further ones wait;
/// a peer that opens more has its link closed.
pub const MAX_FRAGMENTED: usize = 32;
/// Relays a data frame may pass. At zero it is dropped and the origin told.
pub const MAX_HOPS: u8 = 32;
/// How often neighbours compare what they know, and how often a node repairs what was lost.
pub const GOSSIP_PERIOD: Duration = Duration::from_secs(5);
/// Recipients of one multicast that its publisher is told by name; of further ones only the number.
pub const MAX_RECIPIENTS: usize = 10_000;
