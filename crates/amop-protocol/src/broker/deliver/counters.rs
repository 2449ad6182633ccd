//! What delivery counts.

/// What delivery has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Publishes handed in, duplicates included.
    pub publishes: u64,
    /// Outcomes given; equals `publishes` when nothing is in flight.
    pub outcomes: u64,
    /// Publishes that repeated a message already known.
    pub duplicates: u64,
    /// Attempts begun.
    pub attempts: u64,
    /// Attempts and fan-outs sent again.
    pub resends: u64,
    /// Messages that came again for a session that has had them.
    pub absorbed: u64,
    /// Pushes given to sessions.
    pub pushes: u64,
    /// Answers to pushes that were no longer waited for.
    pub late_answers: u64,
    /// Reports about sends that are no longer in flight, or not from whom they were asked.
    pub stale_reports: u64,
    /// Messages from other nodes that are older than any send can be.
    pub stale_messages: u64,
    /// Frames for which there was no way at the moment.
    pub unroutable: u64,
    /// Requests to hand out a message for which too many waited already.
    pub requesters_ignored: u64,
    /// Ended messages forgotten before their time, at the bound of the windows.
    pub forgotten: u64,
    /// Outcomes dropped at the byte bound of the windows, their messages still known.
    pub outcomes_dropped: u64,
    /// Steps of messages that gave way in the journal.
    pub journal_forgotten: u64,
}
