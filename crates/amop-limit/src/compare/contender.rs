//! A system that takes part.

use std::pin::Pin;

use amop_load::{system::System, work::Error};

use super::{
    case::{self, Case, Scale},
    figures::Figures,
};

/// What a measurement gives.
type Measured<'a> = Pin<Box<dyn Future<Output = Result<Figures, Error>> + Send + 'a>>;

/// A system that takes part, whatever it is.
pub trait Contender: Send + Sync {
    /// In tables.
    fn name(&self) -> &str;
    /// Version and configuration, in one line.
    fn about(&self) -> &str;
    /// Whether it is a product of others, to be ahead of.
    fn is_peer(&self) -> bool;
    /// Whether it can do this.
    fn takes(&self, case: Case) -> bool;
    /// Starts it, puts the case to it, and ends it.
    fn put(&self, case: Case, scale: Scale) -> Measured<'_>;
}

/// A contender out of what starts a system.
pub struct Of<F> {
    name: &'static str,
    about: String,
    make: F,
    peer: bool,
    refuses: fn(Case) -> bool,
}

impl<F> Of<F> {
    /// `make` is given how many nodes there are to be, and makes what starts them.
    pub fn new(name: &'static str, about: impl Into<String>, make: F) -> Self {
        Self { name, about: about.into(), make, peer: false, refuses: |_| false }
    }

    /// A product of others.
    #[must_use]
    pub fn peer(self) -> Self {
        Self { peer: true, ..self }
    }

    /// Leaves out what the system cannot do.
    #[must_use]
    pub fn except(self, refuses: fn(Case) -> bool) -> Self {
        Self { refuses, ..self }
    }
}

impl<S: System, F: Fn(usize) -> S + Send + Sync> Contender for Of<F> {
    fn name(&self) -> &str {
        self.name
    }

    fn about(&self) -> &str {
        &self.about
    }

    fn is_peer(&self) -> bool {
        self.peer
    }

    fn takes(&self, case: Case) -> bool {
        !(self.refuses)(case)
    }

    fn put(&self, case: Case, scale: Scale) -> Measured<'_> {
        let systems: Vec<S> = case.lines().iter().map(|nodes| (self.make)(*nodes)).collect();
        Box::pin(async move { case::put(&systems, case, scale).await })
    }
}
