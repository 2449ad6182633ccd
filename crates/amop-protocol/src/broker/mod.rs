//! Who wants what, where they are, and every message's way to its one outcome.
