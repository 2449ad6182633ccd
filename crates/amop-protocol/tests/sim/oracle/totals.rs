//! What runs came to, in figures.

use std::{fmt, ops::AddAssign};

use super::{Oracle, Publication};

/// The lowest code of a failure.
const FIRST_CODE: i32 = 99;

/// What runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub publications: u64,
    pub succeeded: u64,
    /// By code, from 99 to 103.
    pub failed: [u64; 5],
    pub handed: u64,
    /// Sends that had a path and a live subscriber all the time.
    pub certain: u64,
    pub ordered: u64,
    /// Messages that came to an application by a second way.
    pub came_again: u64,
    /// Sends to some of the subscribers only; reports on recipients; words of a hand-over.
    pub addressed: u64,
    pub reports: u64,
    pub words: u64,
    /// Messages that a relay at its limit did not pass on.
    pub relay_refusals: u64,
    /// Sends of applications with several sessions.
    pub of_applications: u64,
    /// Private messages handed to verified subscribers; those that had to be; questions that had to be
    /// put at once.
    pub privately: u64,
    pub certain_privately: u64,
    pub prompt_questions: u64,
    pub faults_injected: u64,
    /// Whole lists of topics that nodes took in, and changes of lists.
    pub lists: u64,
    pub deltas: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.publications += other.publications;
        self.succeeded += other.succeeded;
        self.failed.iter_mut().zip(other.failed).for_each(|(sum, more)| *sum += more);
        self.handed += other.handed;
        self.certain += other.certain;
        self.ordered += other.ordered;
        self.came_again += other.came_again;
        self.addressed += other.addressed;
        self.reports += other.reports;
        self.words += other.words;
        self.relay_refusals += other.relay_refusals;
        self.of_applications += other.of_applications;
        self.privately += other.privately;
        self.certain_privately += other.certain_privately;
        self.prompt_questions += other.prompt_questions;
        self.faults_injected += other.faults_injected;
        self.lists += other.lists;
        self.deltas += other.deltas;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publications, succeeded, failed, certain, handed, ordered, .. } = self;
        let Self { came_again, faults_injected, lists, deltas, .. } = self;
        let Self { addressed, reports, words, relay_refusals, of_applications, .. } = self;
        let Self { privately, certain_privately, prompt_questions, .. } = self;
        let failed: Vec<String> =
            (FIRST_CODE..).zip(failed).map(|(code, count)| format!("{code}: {count}")).collect();
        write!(
            f,
            "{publications} sends, {succeeded} succeeded ({certain} had to), {} failed, {handed} hand-overs \
             ({ordered} judged by their order), {came_again} came again by another way, {addressed} were addressed, \
             {of_applications} came from applications with several sessions, {reports} reports on recipients, {words} words of a hand-over, {relay_refusals} refused by a relay at its \
             limit, {faults_injected} faults, \
             {lists} lists of topics and {deltas} changes taken in, {privately} private hand-overs, {certain_privately} \
             private sends that had to succeed, {prompt_questions} questions that had to be put at once",
            failed.join(", ")
        )
    }
}

impl Oracle {
    pub fn totals(&self) -> Totals {
        let outcomes = self.publications.iter().flat_map(|publication| &publication.outcomes);
        let (mut succeeded, mut failed) = (0, [0; 5]);
        for (_, ended) in outcomes {
            match usize::try_from(ended.status.code() - FIRST_CODE) {
                Ok(at) => failed[at] += 1,
                Err(_) => succeeded += 1,
            }
        }
        let count =
            |of: fn(&Publication) -> bool| self.publications.iter().filter(|sent| of(sent)).count() as u64;
        Totals {
            publications: self.publications.len() as u64,
            succeeded,
            failed,
            handed: self.handed.len() as u64,
            certain: self.certain,
            ordered: self.ordered,
            came_again: self.came_again,
            addressed: count(|sent| sent.wants.is_addressed()),
            reports: count(|sent| sent.report.is_some()),
            words: count(|sent| sent.hand_over_told),
            relay_refusals: self.relay_refusals,
            of_applications: self.of_applications(),
            privately: self.private.handed_over(),
            certain_privately: self.private.certain,
            prompt_questions: self.private.prompt,
            faults_injected: self.faults_injected,
            lists: 0,
            deltas: 0,
        }
    }
}
