//! Waiting for something to become so, with a deadline: what tests do instead of sleeping.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Far longer than anything that is waited for takes; reached only when it never comes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until `is_so` says true.
///
/// # Panics
/// With `what` in the message, when that has not happened within [`PATIENCE`].
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// As [`until`], where there is no runtime.
///
/// # Panics
/// As [`until`].
pub fn block_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::park_timeout(LOOK);
    }
}

/// The result of something that must come about in time.
///
/// # Panics
/// With `what` in the message, when it has not within [`PATIENCE`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("gave up waiting for {what}"),
    }
}
