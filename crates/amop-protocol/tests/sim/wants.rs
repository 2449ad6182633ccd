//! What an extension client may ask for beside its message, as plans and the oracle have it.

use amop_protocol::{
    Fingerprint,
    broker::wishes::{Address, Wishes},
};

use crate::node::key_of;

/// Institutions that have nodes: a node's is its number, modulo this.
pub const INSTITUTIONS: u8 = 3;
/// A message's number is in its first bytes.
pub const LEAST_BYTES: usize = 8;

/// Which subscribers a message is for, what its publisher wants to hear, how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Subscribers at nodes of this institution only; some numbers have no nodes.
    pub institution: Option<u8>,
    /// Subscribers at this node only.
    pub node: Option<usize>,
    /// Subscribers with this certificate only.
    pub certificate: Option<u8>,
    /// How each recipient of a multicast fared.
    pub report: bool,
    /// Word of the hand-over.
    pub handed: bool,
    /// Length of the payload.
    pub bytes: usize,
}

impl Default for Wants {
    fn default() -> Self {
        let (institution, node, certificate) = (None, None, None);
        Self { institution, node, certificate, report: false, handed: false, bytes: LEAST_BYTES }
    }
}

impl Wants {
    /// Whether it asks for some subscribers only.
    pub fn is_addressed(&self) -> bool {
        self.institution.is_some() || self.node.is_some() || self.certificate.is_some()
    }

    /// Whether a subscriber with this certificate at this node is meant.
    pub fn admits(&self, node: usize, certificate: u8) -> bool {
        self.institution.is_none_or(|wanted| usize::from(wanted) == node % usize::from(INSTITUTIONS))
            && self.node.is_none_or(|wanted| wanted == node)
            && self.certificate.is_none_or(|wanted| wanted == certificate)
    }

    /// What a 2.x client can ask for: nothing.
    pub fn unsaid(self) -> Self {
        Self { bytes: self.bytes, ..Self::default() }
    }

    /// As the frame carries it.
    pub fn wishes(&self) -> Option<Box<Wishes>> {
        let wishes = Wishes {
            tell_handed: self.handed,
            recipients: self.report,
            address: Address {
                institution: self.institution.map(|number| institution(number).into()),
                node: self.node.map(|number| key_of(number).id()),
                client: self.certificate.map(|certificate| Fingerprint::new([certificate; 32])),
            },
            context: None,
        };
        (wishes != Wishes::default()).then(|| Box::new(wishes))
    }
}

/// An institution's name.
pub fn institution(number: u8) -> String {
    format!("bank-{number}")
}
