//! The sending side: what waits for the wire, and whose turn it is.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    FIRST, LAST, PIECE,
    spare::Spare,
    turns::{Turns, sender_of},
};
use crate::{
    limits::MAX_FRAGMENTED,
    wire::link::{FRAGMENT, Kind, LinkFrame, PREFIX, TooLarge},
};

/// What small frames may send between two fragments: a deficit round robin of two classes,
/// weighted for the small ones, with the large frames taking turns within theirs.
const SMALL_TURN: usize = 4 * FRAGMENT;

/// The outgoing queue of one substream, bounded in bytes.
///
/// Senders take turns: with a small frame each, and with a fragment each while a large frame is at
/// their head, one for each sender at a time. Of a sender its flows take turns. What follows in a
/// flow waits behind it, other flows pass; so whoever queues much delays itself.
#[derive(Debug)]
pub struct Interleaver {
    room: Room,
    /// What each flow has queued; of one that sends a large frame, what follows it.
    flows: BTreeMap<u32, VecDeque<LinkFrame>>,
    spare: Spare<LinkFrame>,
    /// Flows with a small frame at their head, in turn.
    small: Turns,
    credit: usize,
    /// Flows with a large frame at their head that is not begun, in turn. A sender's turn lasts as
    /// long as its large frame is running.
    waiting: Turns,
    running: VecDeque<Running>,
    next_stream: u32,
}

/// A large frame of which a part is sent.
#[derive(Debug)]
struct Running {
    stream: u32,
    flow: u32,
    total: usize,
    /// The frame's own, until its first piece is gone, which is longer.
    prefix: Option<[u8; PREFIX]>,
    header: Bytes,
    payload: Bytes,
}

/// The queue takes no more; the frame comes back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link's queue is full: the peer takes frames more slowly than they come")]
pub struct Full(pub LinkFrame);

impl Interleaver {
    /// An empty queue for `capacity` bytes. One frame of a sender that has more than its share is
    /// taken whatever its size; senders within their share have as much room again.
    pub fn new(capacity: usize) -> Self {
        Self {
            room: Room::new(capacity),
            flows: BTreeMap::new(),
            spare: Spare::default(),
            small: Turns::default(),
            credit: 0,
            waiting: Turns::default(),
            running: VecDeque::new(),
            next_stream: 0,
        }
    }

    /// Bytes queued; a large frame counts in full until its last fragment is gone.
    pub fn queued(&self) -> usize {
        self.room.queued
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.room.queued == 0
    }

    /// Queues a frame.
    ///
    /// # Errors
    ///
    /// [`Full`] if it does not fit within the bound.
    pub fn push(&mut self, frame: LinkFrame) -> Result<(), Full> {
        if !self.room.take(sender_of(frame.flow), frame.wire_len()) {
            return Err(Full(frame));
        }
        self.place(frame);
        Ok(())
    }

    fn place(&mut self, frame: LinkFrame) {
        let flow = frame.flow;
        let queued = self.flows.entry(flow);
        let is_first = matches!(queued, Entry::Vacant(_));
        queued.or_insert_with(|| self.spare.take()).push_back(frame);
        if is_first {
            self.line_up(flow);
        }
    }

    /// The flow's head is done with: its next frame gets in line.
    fn line_up(&mut self, flow: u32) {
        match self.flows.get(&flow).and_then(VecDeque::front) {
            Some(head) if head.wire_len() <= FRAGMENT => self.small.push(flow),
            Some(_) => self.waiting.push(flow),
            None => self.spare.keep(self.flows.remove(&flow)),
        }
    }

    fn next_small(&self) -> Option<&LinkFrame> {
        self.flows.get(&self.small.first()?)?.front()
    }

    fn pop(&mut self, flow: u32) -> Option<LinkFrame> {
        self.flows.get_mut(&flow)?.pop_front()
    }

    /// Appends frames and fragments to `batch` as long as it stays within `limit` bytes; an
    /// empty batch takes at least one. Returns whether anything was appended.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] names a frame that no link can carry; it is taken off the queue.
    pub fn poll_batch(&mut self, batch: &mut BytesMut, limit: usize) -> Result<bool, TooLarge> {
        let before = batch.len();
        let fits = |filled: usize, size: usize| filled == 0 || filled + size <= limit;
        loop {
            while let Some(frame) = self.next_small() {
                let size = frame.wire_len();
                if self.credit < size && self.large_is_ready() {
                    break;
                }
                if !fits(batch.len(), size) {
                    return Ok(batch.len() > before);
                }
                self.send_small(batch)?;
            }
            if !self.start_large()? {
                return Ok(batch.len() > before);
            }
            let size = self.running.front().map_or(0, |large| PREFIX + large.left().min(PIECE));
            if !fits(batch.len(), size) {
                return Ok(batch.len() > before);
            }
            self.send_fragment(batch);
            self.credit = if self.small.is_empty() { 0 } else { SMALL_TURN };
        }
    }

    fn large_is_ready(&self) -> bool {
        !self.running.is_empty() || !self.waiting.is_empty()
    }

    fn send_small(&mut self, batch: &mut BytesMut) -> Result<(), TooLarge> {
        let Some(flow) = self.small.pop() else { return Ok(()) };
        let Some(frame) = self.pop(flow) else { return Ok(()) };
        self.line_up(flow);
        self.small.again(flow);
        self.room.give_back(sender_of(flow), frame.wire_len());
        self.credit = self.credit.saturating_sub(frame.wire_len());
        frame.encode(batch)
    }

    /// Lets waiting large frames start; whether one is running.
    fn start_large(&mut self) -> Result<bool, TooLarge> {
        while self.running.len() < MAX_FRAGMENTED {
            let Some(flow) = self.waiting.pop() else { break };
            let Some(frame) = self.pop(flow) else { continue };
            let prefix = match frame.prefix() {
                Ok(prefix) => prefix,
                Err(error) => {
                    self.finish(frame.flow, frame.wire_len());
                    return Err(error);
                }
            };
            self.running.push_back(Running {
                stream: self.next_stream,
                flow: frame.flow,
                total: frame.wire_len(),
                prefix: Some(prefix),
                header: frame.header,
                payload: frame.payload,
            });
            self.next_stream = self.next_stream.wrapping_add(1);
        }
        Ok(!self.running.is_empty())
    }

    fn send_fragment(&mut self, batch: &mut BytesMut) {
        let Some(mut large) = self.running.pop_front() else { return };
        large.encode_piece(batch);
        if large.left() > 0 {
            self.running.push_back(large);
        } else {
            self.finish(large.flow, large.total);
        }
    }

    /// The large frame of this flow is gone.
    fn finish(&mut self, flow: u32, total: usize) {
        self.room.give_back(sender_of(flow), total);
        self.line_up(flow);
        self.waiting.again(flow);
    }
}

/// Who has how much of the queue. **Invariant**: what senders within their share have queued never
/// depends on what others have beyond theirs, so nobody keeps anybody else's frames out.
#[derive(Debug)]
struct Room {
    capacity: usize,
    /// Bytes queued, of all senders.
    queued: usize,
    /// Of these, what senders have beyond their share.
    beyond: usize,
    senders: BTreeMap<u32, usize>,
}

/// The share of a sender: this part of the capacity.
const SHARE: usize = 8;

impl Room {
    fn new(capacity: usize) -> Self {
        Self { capacity, queued: 0, beyond: 0, senders: BTreeMap::new() }
    }

    /// Takes room for a frame, if there is some.
    fn take(&mut self, sender: u32, bytes: usize) -> bool {
        let has = self.senders.get(&sender).copied().unwrap_or(0);
        let fits = |queued: usize| queued.saturating_add(bytes) <= self.capacity;
        let is_taken = match self.beyond_share(has.saturating_add(bytes)) {
            0 => self.queued == 0 || fits(self.queued - self.beyond),
            _ => self.beyond == 0 || fits(self.queued),
        };
        if is_taken {
            self.change(sender, has, has + bytes);
        }
        is_taken
    }

    fn give_back(&mut self, sender: u32, bytes: usize) {
        let has = self.senders.get(&sender).copied().unwrap_or(0);
        self.change(sender, has, has.saturating_sub(bytes));
    }

    fn change(&mut self, sender: u32, before: usize, after: usize) {
        self.queued = self.queued - before + after;
        self.beyond = self.beyond - self.beyond_share(before) + self.beyond_share(after);
        if after == 0 {
            self.senders.remove(&sender);
        } else {
            self.senders.insert(sender, after);
        }
    }

    fn beyond_share(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.capacity / SHARE)
    }
}

impl Running {
    fn left(&self) -> usize {
        self.prefix.map_or(0, |prefix| prefix.len()) + self.header.len() + self.payload.len()
    }

    fn encode_piece(&mut self, batch: &mut BytesMut) {
        let piece = self.left().min(PIECE);
        let first = if self.prefix.is_some() { FIRST } else { 0 };
        let last = if self.left() == piece { LAST } else { 0 };
        batch.reserve(PREFIX + piece);
        // A piece is at most 16 KiB.
        batch.put_u32((PREFIX + piece) as u32);
        batch.put_u8(Kind::Fragment as u8);
        batch.put_u8(first | last);
        batch.put_u16(0);
        batch.put_u32(self.stream);
        let mut left = piece;
        if let Some(prefix) = self.prefix.take() {
            left -= prefix.len();
            batch.put_slice(&prefix);
        }
        for part in [&mut self.header, &mut self.payload] {
            let taken = part.len().min(left);
            left -= taken;
            batch.put_slice(&part[..taken]);
            part.advance(taken);
        }
    }
}
