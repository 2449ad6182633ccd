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
    /// What was sent by this process, and bytes sent more than once.
    sent: Ranges,
    resent: u64,
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
            sent: Ranges::default(),
            resent: 0,
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
            self.resent += if self.sent.contains(index) { self.len(index) } else { 0 };
            self.sent.insert(index, index + 1);
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
        let waits = self.accepted && self.end.is_none() && self.under_way.is_empty() && !self.asking;
        let asks = Some(self.ask_at).filter(|_| self.missing.is_empty());
        // Neither before the pause is over nor before it is time to ask.
        self.paused_until.max(asks).filter(|_| waits)
    }

    /// It accepts, or says anew what it lacks.
    pub(super) fn accepted(&mut self, missing: &[Range], now: Instant) {
        if self.end.is_some() {
            return;
        }
        // Whatever kept it from answering has passed.
        self.go_on();
        if self.accepted && now - self.heard < BELIEVED {
            return;
        }
        if !self.accepted {
            self.progressed = now;
        }
        self.accepted = true;
        self.heard = now;
        self.take_missing(missing, now);
    }

    /// A chunk is verified and written there.
    pub(super) fn stored(&mut self, index: u64, now: Instant) {
        let Some(sent) = self.under_way.remove(&index) else { return };
        self.window.acknowledged(sent, now);
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
        self.go_on();
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
        let waiting = match (self.accepted, self.paused_until) {
            (false, _) => RecipientState::Undecided,
            (true, Some(_)) => RecipientState::Waiting,
            (true, None) => RecipientState::Receiving,
        };
        let under_way: u64 = self.under_way.keys().map(|index| self.len(*index)).sum();
        FileRecipient {
            client: self.who.client.clone(),
            institution: self.who.institution.clone(),
            state: self.end.clone().unwrap_or(waiting),
            bytes: self.size.saturating_sub(self.missing.bytes(self.size) + under_way),
            resent: self.resent,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amop_protocol::{ClientIdentity, Fingerprint, NodeId, wire::files::CHUNK};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn stream(chunks: u64, now: Instant) -> Stream {
        let client = ClientIdentity { fingerprint: Fingerprint::new([1; 32]), name: "app".into() };
        let who = Sender { institution: "bank".into(), node: NodeId::new([2; 32]), client: Arc::new(client) };
        Stream::new(Id([3; 16]), who, chunks * CHUNK, now)
    }

    fn all(chunks: u64) -> [Range; 1] {
        [Range { first: 0, count: chunks }]
    }

    /// All that it wants sent now.
    fn wanted(stream: &mut Stream, now: Instant) -> Vec<Next> {
        std::iter::from_fn(|| stream.next(now)).collect()
    }

    #[test]
    fn nothing_is_sent_before_it_accepts_and_then_two_chunks_first() {
        let now = Instant::now();
        let mut stream = stream(5, now);
        assert_eq!((wanted(&mut stream, now), stream.next_wake()), (vec![], None));
        stream.accepted(&all(5), now);
        assert_eq!(wanted(&mut stream, now), [Next::Chunk(0), Next::Chunk(1)]);
        stream.stored(0, now + MS);
        assert_eq!(wanted(&mut stream, now + MS), [Next::Chunk(2), Next::Chunk(3)]);
        assert_eq!((stream.report().bytes, stream.report().resent), (CHUNK, 0));
    }

    #[test]
    fn it_is_asked_when_it_has_all_and_again_until_it_is_done() {
        let now = Instant::now();
        let mut stream = stream(1, now);
        stream.accepted(&all(1), now);
        assert_eq!(wanted(&mut stream, now), [Next::Chunk(0)]);
        stream.stored(0, now);
        assert_eq!(wanted(&mut stream, now), [Next::Ask]);
        assert_eq!(stream.next_wake(), None, "one question at a time");
        stream.works(now);
        assert_eq!(wanted(&mut stream, now), []);
        let wake = stream.next_wake().unwrap();
        assert!(wake > now && wake <= now + ASK_MOST);
        assert_eq!(wanted(&mut stream, wake), [Next::Ask]);
        stream.lacks(&all(1), wake);
        assert_eq!(wanted(&mut stream, wake), [Next::Chunk(0)], "what it lost it gets again");
        stream.stored(0, wake);
        assert_eq!((stream.report().bytes, stream.report().resent), (CHUNK, CHUNK));
        stream.done();
        assert_eq!((wanted(&mut stream, wake + ASK_MOST), stream.next_wake()), (vec![], None));
    }

    #[test]
    fn after_failures_it_waits_longer_and_longer_and_tries_one() {
        let mut now = Instant::now();
        let mut stream = stream(9, now);
        stream.accepted(&all(9), now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let sent = wanted(&mut stream, now);
            assert!(!sent.is_empty() && sent.len() <= 2, "{sent:?}");
            for next in sent {
                let Next::Chunk(index) = next else { panic!("a chunk") };
                stream.failed(index, None, now);
            }
            assert_eq!(stream.report().state, RecipientState::Waiting);
            let wake = stream.next_wake().expect("tried again");
            pauses.push(wake - now);
            now = wake;
        }
        assert_eq!(pauses[0], PAUSE);
        assert!(pauses.windows(2).all(|pair| pair[1] >= pair[0]) && *pauses.last().unwrap() == PAUSE_MOST);
        assert_eq!(wanted(&mut stream, now).len(), 1, "one to see");
        stream.stored(0, now + MS);
        assert!(wanted(&mut stream, now + MS).len() > 1, "and then on");
    }

    #[test]
    fn who_refuses_for_bandwidth_says_when_to_try_again() {
        let now = Instant::now();
        let mut stream = stream(1, now);
        stream.accepted(&all(1), now);
        wanted(&mut stream, now);
        stream.failed(0, Some(Duration::from_secs(7)), now);
        assert_eq!(stream.next_wake(), Some(now + Duration::from_secs(7)));
    }

    #[test]
    fn a_restarted_receiver_is_tried_at_once_but_believed_only_if_it_was_quiet() {
        let now = Instant::now();
        let mut stream = stream(4, now);
        stream.accepted(&all(4), now);
        wanted(&mut stream, now);
        stream.stored(0, now + MS);
        stream.failed(1, None, now + MS);
        stream.accepted(&all(4), now + 2 * MS);
        assert!(!stream.missing.contains(0), "it was given that a moment ago");
        assert_eq!(wanted(&mut stream, now + 2 * MS)[0], Next::Chunk(1));
        stream.accepted(&all(4), now + BELIEVED * 2);
        assert!(stream.missing.contains(0) && !stream.missing.contains(1), "that one is on its way");
    }

    #[test]
    fn a_question_that_fails_is_put_again_after_a_pause_and_nothing_spins_meanwhile() {
        let now = Instant::now();
        let mut stream = stream(0, now);
        stream.accepted(&[], now);
        assert_eq!(wanted(&mut stream, now), [Next::Ask]);
        stream.not_asked(None, now);
        let wake = stream.next_wake().unwrap();
        assert_eq!((wake, wanted(&mut stream, now)), (now + PAUSE, vec![]));
        assert_eq!(wanted(&mut stream, wake), [Next::Ask]);
        assert_eq!(stream.next_wake(), None, "it is under way");
        stream.works(wake);
        assert_eq!(wanted(&mut stream, wake), []);
        assert!(stream.next_wake().unwrap() > wake);
    }

    #[test]
    fn lies_about_what_is_missing_do_no_harm() {
        let now = Instant::now();
        let mut stream = stream(2, now);
        stream.accepted(&[Range { first: 1, count: 1 << 40 }], now);
        assert_eq!(wanted(&mut stream, now), [Next::Chunk(1)]);
        stream.stored(7, now);
        stream.stored(1, now);
        stream.stored(1, now);
        assert_eq!((stream.report().bytes, stream.report().resent), (2 * CHUNK, 0));
        assert!((0..=MAX_BAD).all(|times| stream.refused(1, now) == (times == MAX_BAD)));
    }

    #[test]
    fn who_takes_the_file_over_and_over_is_noticed() {
        let mut now = Instant::now();
        let mut stream = stream(100, now);
        stream.accepted(&all(100), now);
        let mut taken = 0;
        while !stream.is_insatiable() {
            for next in wanted(&mut stream, now) {
                let Next::Chunk(index) = next else {
                    stream.lacks(&all(100), now);
                    continue;
                };
                stream.stored(index, now);
                taken += 1;
            }
            assert!(now - stream.progressed() <= MS, "that is progress of a kind");
            now += MS;
            assert!(taken <= 3_000, "for ever");
        }
        assert!(taken > 16 * 100, "a disk may forget");
    }
}
