//! One receiver of a file, as its sender sees it: what it lacks, what is on its way to it, and when
//! to try again. Without IO.

use std::{collections::BTreeMap, time::Duration};

use amop_protocol::{
    broker::event::Sender,
    wire::files::{Id, Range, chunks, extent},
};
use tokio::time::Instant;

use super::{FileRecipient, RecipientState};
use crate::files::{error::FileError, ranges::Ranges, window::Window};

/// After a failure: the first pause, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// How soon a receiver that has all is asked again whether it is done, and how late.
const ASK: Duration = Duration::from_millis(5);
const ASK_MOST: Duration = Duration::from_secs(1);
/// What a receiver says it lacks is believed if it took nothing for this long: before, it may not know
/// yet what it was just given.
const BELIEVED: Duration = Duration::from_secs(1);
/// Chunks that a receiver may say are bad although they are as they were hashed.
const MAX_BAD: u32 = 3;
/// So many times what a file has, and this, a receiver may acknowledge: with a disk that forgets, say.
const MAX_TIMES: u64 = 16;
const MAX_MORE: u64 = 1_024;

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Chunk(u64),
    Ask,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) receiver: Id,
    pub(super) who: Sender,
    size: u64,
    missing: Ranges,
    under_way: BTreeMap<u64, Instant>,
    window: Window,
    /// It has accepted; before, nothing is sent.
    accepted: bool,
    asking: bool,
    ask_at: Instant,
    ask_again: Duration,
    paused_until: Option<Instant>,
    pause: Duration,
    /// When something was last acknowledged, or it first was there.
    heard: Instant,
    /// When a chunk was last acknowledged, or it was first to be sent one; and how many were.
    progressed: Instant,
    acknowledged: u64,
    /// Bytes sent and bytes acknowledged by this process.
    sent: u64,
    stored: u64,
    bad: u32,
    end: Option<RecipientState>,
    /// Why it ended without the file.
    why: Option<FileError>,
}

impl Stream {
    /// A receiver that has been offered a file and will decide.
    pub(super) fn new(receiver: Id, who: Sender, size: u64, now: Instant) -> Self {
        Self {
            receiver,
            who,
            size,
            missing: Ranges::all(chunks(size)),
            under_way: BTreeMap::new(),
            window: Window::new(now),
            accepted: false,
            asking: false,
            ask_at: now,
            ask_again: ASK,
            paused_until: None,
            pause: Duration::ZERO,
            heard: now,
            progressed: now,
            acknowledged: 0,
            sent: 0,
            stored: 0,
            bad: 0,
            end: None,
            why: None,
        }
    }

    /// One that accepted before this process began: it is asked what it lacks.
    pub(super) fn resumed(receiver: Id, who: Sender, size: u64, now: Instant) -> Self {
        Self { missing: Ranges::default(), accepted: true, ..Self::new(receiver, who, size, now) }
    }

    pub(super) fn is_decided(&self) -> bool {
        self.accepted || self.end.is_some()
    }

    pub(super) fn ended(&self) -> Option<&RecipientState> {
        self.end.as_ref()
    }

    /// It has the file.
    pub(super) fn done(&mut self) {
        (self.end, self.why) = (Some(RecipientState::Done), None);
    }

    /// It does not want the file.
    pub(super) fn decline(&mut self, why: String) {
        self.end(RecipientState::Declined(why.clone()), FileError::Declined(why));
    }

    /// It will not get the file.
    pub(super) fn fail(&mut self, why: FileError) {
        self.end(RecipientState::Failed(why.to_string()), why);
    }

    /// Why it has not got the file; the first time it is asked.
    pub(super) fn why(&mut self) -> Option<FileError> {
        self.why.take()
    }

    fn end(&mut self, state: RecipientState, why: FileError) {
        if self.end.is_none() {
            (self.end, self.why) = (Some(state), Some(why));
        }
    }

    /// When it last acknowledged something.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// When it last took something: what it says beside that does not count.
    pub(super) fn progressed(&self) -> Instant {
        self.progressed
    }

    /// Whether it asks again and again for what it has acknowledged.
    pub(super) fn is_insatiable(&self) -> bool {
        self.acknowledged > MAX_TIMES * chunks(self.size) + MAX_MORE
    }

    /// What is to be sent now; the caller sends it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        if !self.accepted || self.end.is_some() || self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        // After a failure one is tried first.
        let probing = self.paused_until.is_some() && !self.under_way.is_empty();
        if !probing
            && self.window.has_room(self.under_way.len())
            && let Some(index) = self.missing.pop_first()
        {
            self.under_way.insert(index, now);
            self.sent += self.len(index);
            return Some(Next::Chunk(index));
        }
        let all_sent = self.missing.is_empty() && self.under_way.is_empty();
        if all_sent && !self.asking && self.ask_at <= now {
            self.asking = true;
            return Some(Next::Ask);
        }
        None
    }

    /// When [`Stream::next`] may have something by the clock alone.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let waits = self.accepted && self.end.is_none();
        let asks = self.missing.is_empty() && self.under_way.is_empty() && !self.asking;
        let at = match self.paused_until {
            Some(until) => Some(until).filter(|_| self.under_way.is_empty()),
            None => Some(self.ask_at).filter(|_| asks),
        };
        at.filter(|_| waits)
    }

    /// It accepts, or says anew what it lacks.
    pub(super) fn accepted(&mut self, missing: &[Range], now: Instant) {
        if self.end.is_some() || self.accepted && now - self.heard < BELIEVED {
            return;
        }
        if !self.accepted {
            self.progressed = now;
        }
        self.accepted = true;
        self.heard = now;
        self.take_missing(missing, now);
        self.go_on();
    }

    /// A chunk is verified and written there.
    pub(super) fn stored(&mut self, index: u64, now: Instant) {
        let Some(sent) = self.under_way.remove(&index) else { return };
        self.window.acknowledged(sent, now);
        self.stored += self.len(index);
        self.acknowledged += 1;
        (self.heard, self.progressed) = (now, now);
        (self.paused_until, self.pause) = (None, Duration::ZERO);
    }

    /// A chunk did not get through; `after`: when to try again, if somebody said so.
    pub(super) fn failed(&mut self, index: u64, after: Option<Duration>, now: Instant) {
        let Some(sent) = self.under_way.remove(&index) else { return };
        self.missing.insert(index, index + 1);
        self.window.failed(sent, now);
        self.pause_for(after, now);
    }

    /// It says that a chunk is not what was offered, which it is. True if that was once too often.
    pub(super) fn refused(&mut self, index: u64, now: Instant) -> bool {
        self.failed(index, None, now);
        self.bad += 1;
        self.bad > MAX_BAD
    }

    /// It says, when asked, that these are missing.
    pub(super) fn lacks(&mut self, missing: &[Range], now: Instant) {
        self.asking = false;
        self.heard = now;
        self.take_missing(missing, now);
        self.go_on();
    }

    /// It has all and works on it.
    pub(super) fn works(&mut self, now: Instant) {
        self.asking = false;
        self.heard = now;
        self.ask_at = now + self.ask_again;
        self.ask_again = (self.ask_again * 2).min(ASK_MOST);
    }

    /// It could not be asked.
    pub(super) fn not_asked(&mut self, after: Option<Duration>, now: Instant) {
        self.asking = false;
        self.pause_for(after, now);
    }

    /// For those who look on.
    pub(super) fn report(&self) -> FileRecipient {
        let waiting = if self.paused_until.is_some() || !self.accepted {
            RecipientState::Waiting
        } else {
            RecipientState::Receiving
        };
        let under_way: u64 = self.under_way.keys().map(|index| self.len(*index)).sum();
        let last = chunks(self.size).saturating_sub(1);
        let short = if self.missing.contains(last) {
            extent(self.size, 0).map_or(0, |(_, full)| full as u64) - self.len(last)
        } else {
            0
        };
        let missing = self.missing.len() * extent(self.size, 0).map_or(0, |(_, full)| full as u64) - short;
        FileRecipient {
            client: self.who.client.clone(),
            institution: self.who.institution.clone(),
            state: self.end.clone().unwrap_or(waiting),
            bytes: self.size - (missing + under_way).min(self.size),
            resent: self.sent - self.stored - under_way,
        }
    }

    fn take_missing(&mut self, missing: &[Range], now: Instant) {
        self.missing = Ranges::of(missing, chunks(self.size));
        for index in self.under_way.keys() {
            self.missing.remove(*index);
        }
        (self.ask_at, self.ask_again) = (now, ASK);
    }

    fn go_on(&mut self) {
        (self.paused_until, self.pause) = (None, Duration::ZERO);
    }

    fn pause_for(&mut self, after: Option<Duration>, now: Instant) {
        // Several that fail together are one failure.
        if self.paused_until.is_none_or(|until| until <= now) {
            self.pause = (self.pause * 2).clamp(PAUSE, PAUSE_MOST);
            self.paused_until = Some(now + after.unwrap_or(self.pause));
        }
    }

    fn len(&self, index: u64) -> u64 {
        extent(self.size, index).map_or(0, |(_, len)| len as u64)
    }
}
