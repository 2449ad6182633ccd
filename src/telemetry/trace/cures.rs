//! What to do about a failure, by cause.

use amop_protocol::Cause;

/// One sentence for whoever operates a node or publishes; empty if nothing needs doing.
pub const fn cure(cause: Cause) -> &'static str {
    match cause {
        Cause::Delivered => "",
        Cause::Unspecified => "update the older of the nodes that this one does not understand",
        Cause::Draining => {
            "give the SDK another node of yours to connect to, or wait for this one to come back"
        }
        Cause::NotConnected => "check the SDK's node address, its certificate, and that the node runs",
        Cause::NoSubscriber => {
            "check that the subscriber is connected and subscribed to exactly this topic: `amop topics` on its node and on this one"
        }
        Cause::Unreachable => {
            "check the links of the last node that had it, and of the next one: `amop peers` on both; then send again"
        }
        Cause::HopLimit => "link the two institutions more directly: the overlay is too long between them",
        Cause::NotVerified => {
            "check that the subscriber's key is on the publisher's list, and that both use the same private topic"
        }
        Cause::BadTopic => "use a topic of 1 to 254 bytes of UTF-8 without control characters",
        Cause::ReservedTopic => "use another topic; names that begin with _block_notify_ are reserved",
        Cause::SessionGone => "look at the subscriber's log: it disconnected; send again once it is back",
        Cause::QueueFull => {
            "the subscriber reads too slowly: speed it up, add another subscriber, or raise client_port.queue on its node"
        }
        Cause::WriteFailed => {
            "look at the subscriber and the network between it and its node: it took no bytes in time"
        }
        Cause::SubscriberRefused => "look at the subscriber's log: its application answered with an error",
        Cause::PushTimeout | Cause::Deadline => {
            "look at the subscriber: it had the message and gave no answer in time; or allow it more time"
        }
        Cause::OutcomeLost => {
            "find out at the subscriber whether it was handled, before sending it under a new seq"
        }
        Cause::AnswerLost => {
            "find out at the subscriber whether it was handled: it went away with the message before it answered"
        }
        Cause::NodeBandwidth => "send less, or raise limits.outgoing_bandwidth_limit on the publisher's node",
        Cause::ClientQuota => "send less, or raise limits.client_bandwidth_limit on the publisher's node",
        Cause::RelayLimit => {
            "raise limits.relay_bandwidth_limit on the relay, or link the institutions around it; then send again"
        }
        Cause::NoRoom => "send again a little later; if it happens often, raise limits.payloads on that node",
        Cause::NoneHanded => "look at each subscriber's step above: none could be handed the message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_cure() {
        for cause in (0..=64).filter_map(|number| Cause::try_from(number).ok()) {
            assert_eq!(cure(cause).is_empty(), cause == Cause::Delivered, "{cause:?}");
        }
    }
}
