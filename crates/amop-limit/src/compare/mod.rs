//! The same work put to several systems, in turn, several times.
//!
//! A *case* is a work with its numbers. In each round every case is put to every system, one after the other, beginning
//! with another one each time; what a system is compared with was measured in the same round, minutes apart at most.
//! Tables give the median over rounds, the smallest and the largest; ratios are formed in each round, and their
//! median is given.

mod case;
mod contender;
mod figures;
mod options;
mod rounds;
mod tables;
mod turn;

pub use self::{
    case::{Case, Scale},
    contender::{Contender, Of},
    figures::{Better, Figures, Metric},
    options::Options,
};
