//! A node: overlay, client port and core, put together.
