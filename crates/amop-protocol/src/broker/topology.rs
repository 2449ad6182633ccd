//! Link-state routes: who is linked to whom, and the way to everybody.

/// Who is linked to whom, as both ends announce it.
#[derive(Clone, Debug, Default)]
pub struct Graph {}
