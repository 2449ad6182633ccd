//! The names that count with whoever asks: those of clients, and those of the node itself.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;

/// Clients that may read beyond the loopback interface, and hosts by which the node is asked. Clones share one
/// copy, which may be replaced while the port serves; each request is judged by what it has then.
#[derive(Clone, Default)]
pub struct Names(Arc<ArcSwap<Both>>);

#[derive(Debug, Default)]
struct Both {
    clients: Vec<String>,
    hosts: Vec<String>,
}

impl Names {
    /// Those of clients as in their certificates (CN); those of hosts beside addresses and `localhost`.
    pub fn new(clients: Vec<String>, hosts: Vec<String>) -> Self {
        let names = Self::default();
        names.replace(clients, hosts);
        names
    }

    /// Only these count from now on.
    pub fn replace(&self, clients: Vec<String>, hosts: Vec<String>) {
        self.0.store(Arc::new(Both { clients, hosts }));
    }

    pub(super) fn has_client(&self, name: &str) -> bool {
        self.0.load().clients.iter().any(|client| client == name)
    }

    pub(super) fn has_host(&self, name: &str) -> bool {
        self.0.load().hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().fmt(f)
    }
}
