//! The demo: an application of the last institution that answers, one of the first that asks.
