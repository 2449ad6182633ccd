//! Reads decisions off the front of an input, so that seeds can be written by hand.

use arbitrary::Unstructured;

/// An input as a list of decisions. Once it is used up, every number is 0 and all bytes are gone.
pub(crate) struct Script<'a>(Unstructured<'a>);

impl<'a> Script<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Two bytes of length, and as many of those bytes as there are.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.short()).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }

    /// One of `all`.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}
