//! Files: offered to a topic, streamed to whoever accepts, verified as they come, resumed where they
//! were.
//!
//! Nodes know nothing of files. The sender offers one over the topic, as a request or a multicast;
//! whoever accepts tells the sender's inbox, a topic that the sender subscribes for the transfer; and each
//! chunk is then a request to the receiver's inbox, whose answer says that it is verified and written. So
//! all that requests promise holds for chunks: each has one outcome, finds its way around what is lost,
//! and is not taken twice. What is added here is what files need.
//!
//! - [`tree`]: what a chunk is verified with; [`window`]: how many are on their way; [`ranges`]: what is missing.
//! - [`source`] and [`send`]: the sender's end. [`receive`]: the receiver's.
//! - [`channel`]: the frames of one transfer, sealed on private topics. [`kept`]: what both ends keep in files.
//! - [`name`]: names that are safe; [`one_frame`]: how the Java demo sends files.
//!
//! **Invariant**: nothing appears under its final name that is not complete and verified.
//! **Invariant**: memory does not grow with the size of files.

mod channel;
mod disk;
mod error;
mod kept;
mod name;
mod one_frame;
mod ranges;
mod receive;
mod send;
mod source;
mod tree;
mod window;

pub use self::{
    error::FileError,
    receive::{
        FileInfo, FileOffer, FileReceiver, ReceiveOptions, ReceivePhase, ReceiveProgress, ReceivingFile,
        TransferId,
    },
    send::{FileReceipt, FileRecipient, RecipientState, SendOptions, SendPhase, SendProgress, SendingFile},
};

/// Longer than anybody waits; what is longer could not be added to a point in time.
const FOREVER: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 24 * 3600);

/// Runs what waits for the disk where it holds nobody up.
///
/// # Errors
/// When the runtime ends.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| FileError::Closed)
}
