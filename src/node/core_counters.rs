//! What the core counts by itself, read when somebody asks for metrics.

use std::{fmt, sync::Arc};

use amop_protocol::broker::{control, deliver};
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::data_path::DataPath;

/// The last counters of control, left by its task for others to read.
pub(super) type ControlCounters = Arc<Mutex<control::Counters>>;

/// A counter of the core: its name, what it counts, and where it stands.
type Row<C> = (&'static str, &'static str, fn(&C) -> u64);

const DELIVERY: &[Row<deliver::Counters>] = &[
    ("delivery_duplicates", "Sends that repeated a message already known", |c| c.duplicates),
    ("delivery_attempts", "Attempts begun", |c| c.attempts),
    ("delivery_resends", "Attempts and fan-outs sent again", |c| c.resends),
    ("delivery_absorbed", "Messages that came again and ran nothing", |c| c.absorbed),
    ("delivery_pushes", "Messages given to sessions", |c| c.pushes),
    ("delivery_late_answers", "Answers nobody waited for any longer", |c| c.late_answers),
    ("delivery_stale_reports", "Reports about sends no longer in flight", |c| c.stale_reports),
    ("delivery_stale_messages", "Messages older than any send can be", |c| c.stale_messages),
    ("delivery_requesters_ignored", "Requests for a message that too many waited for", |c| {
        c.requesters_ignored
    }),
    ("delivery_seen_forgotten", "Ended messages forgotten before their time", |c| c.forgotten),
    ("delivery_seen_outcomes_dropped", "Outcomes dropped at the bound of their bytes", |c| {
        c.outcomes_dropped
    }),
    ("trace_forgotten", "Steps of own messages that gave way to later ones", |c| c.journal_forgotten),
    ("delivery_unroutable_own", "Own frames with no way to their destination", |c| c.unroutable),
];

const CONTROL: &[Row<control::Counters>] = &[
    ("control_records_accepted", "Records of other nodes taken in", |c| c.accepted),
    ("control_records_stale", "Records that told nothing new", |c| c.stale),
    ("control_records_refused", "Records that broke a rule or were not genuine", |c| c.refused),
    ("control_nodes_over_capacity", "Records of nodes beyond the bound of the overlay", |c| c.over_capacity),
    ("control_bad_topics", "Names in announcements that are no topics", |c| c.bad_topics),
    ("control_topics_over_capacity", "Topics of clients beyond the bound of the node", |c| {
        c.topics_over_capacity
    }),
    ("control_epochs_raised", "Own epochs given up for a higher one", |c| c.epochs_raised),
    ("control_nodes_expired", "Nodes whose lists expired", |c| c.expired),
    ("control_tombstones_forgotten", "Nodes that are gone and forgotten", |c| c.tombstones_forgotten),
    ("control_topics_deltas", "Changes of other nodes' topics taken in", |c| c.deltas),
    ("control_topics_lists", "Whole lists of other nodes' topics taken in", |c| c.lists),
    (
        "control_lists_misfit",
        "Lists and changes that do not fit what their origin signed, or are too much",
        |c| c.misfits,
    ),
    ("control_lists_unfinished", "Lists given up before they were complete, for want of room", |c| {
        c.unfinished
    }),
    ("control_records_paced", "Records left out because their node changes too fast", |c| c.paced),
    ("control_pulls", "Questions for records", |c| c.pulls),
    ("control_pulls_unanswered", "Questions that a neighbour did not answer in time", |c| c.unanswered),
    ("control_waves_joined", "Announcements whose settling was joined with another's", |c| c.joined),
    ("private_asked", "Questions about subscribers of private topics put to publishers", |c| c.private.asked),
    ("private_verified", "Subscribers of private topics that a publisher trusted", |c| c.private.verified),
    ("private_failed", "Subscribers of private topics that a publisher did not trust", |c| c.private.failed),
    ("private_revoked", "Verifications that their publisher took back", |c| c.private.revoked),
    ("private_stray_verdicts", "Verdicts on nothing that was asked of that session", |c| c.private.stray),
    ("private_over_capacity", "Subscribers of private topics beyond a bound", |c| c.private.over_capacity),
];

/// Shows the counters of delivery and control.
#[derive(Debug)]
pub(super) struct CoreCounters {
    pub(super) data: Arc<DataPath>,
    pub(super) control: ControlCounters,
}

impl Collector for CoreCounters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, read) in DELIVERY {
            show(&mut encoder, name, help, self.data.counted(read))?;
        }
        let held = ConstGauge::new(self.data.held_bytes() as i64);
        let name = "delivery_held_payload_bytes";
        let help = "Payloads of messages in flight";
        held.encode(encoder.encode_descriptor(name, help, None, held.metric_type())?)?;
        let control = *self.control.lock();
        for (name, help, read) in CONTROL {
            show(&mut encoder, name, help, read(&control))?;
        }
        Ok(())
    }
}

fn show(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}
