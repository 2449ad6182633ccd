//! The header of a data frame, read by hand: the generated types would first copy every text and list
//! into allocations of their own, the route included, which nobody asks for here. What is read here, they
//! read too; a message within a message that is there twice, which they would merge, is refused.

use std::{str, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{
    ATTEMPT, Audience, Body, DataError, DataMessage, Envelope, FAN_OUT, FAN_OUT_REPORT, HANDED, INQUIRY,
    MAX_DESTINATIONS, OUTCOME, REFUSED, SendRef,
};
use crate::{
    Cause, ClientIdentity, Fingerprint, NodeId, Seq, SessionId, Topic, TraceContext,
    wire::{
        fields::{Field, skim},
        generated as pb,
    },
};

/// Reads a data message.
pub(super) fn message(header: &Bytes) -> Result<DataMessage, DataError> {
    let (mut origin, mut origin_epoch, mut body) = (None, 0, None);
    for field in skim(header) {
        let field = field.ok_or(DataError::Truncated)?;
        match field.tag {
            1 => origin = NodeId::from_slice(value(&field, "origin")?),
            2 => origin_epoch = number(&field, "origin_epoch")?,
            // The route and the MACs are for others to read.
            3..=5 => _ = value(&field, "route")?,
            ATTEMPT..=INQUIRY => once(&mut body, (field.tag, value(&field, "body")?), "body")?,
            _ => {}
        }
    }
    let origin = origin.ok_or(DataError::Field("origin"))?;
    let (tag, body) = body.ok_or(DataError::Field("body"))?;
    let body = match tag {
        ATTEMPT => attempt(body)?,
        HANDED => handed(body)?,
        OUTCOME => outcome(header, body)?,
        FAN_OUT => fan_out(body)?,
        FAN_OUT_REPORT => fan_out_report(body)?,
        REFUSED => refused(body)?,
        _ => inquiry(body)?,
    };
    Ok(DataMessage { origin, origin_epoch, body })
}

fn attempt(bytes: &[u8]) -> Result<Body, DataError> {
    let (mut send, mut attempt, mut message, mut push_timeout_ms) = (0, 0, None, 0);
    for field in skim(bytes) {
        let field = field.ok_or(DataError::Truncated)?;
        match field.tag {
            1 => send = number(&field, "send_id")?,
            2 => attempt = number(&field, "number")? as u32,
            3 => once(&mut message, value(&field, "envelope")?, "envelope")?,
            4 => push_timeout_ms = number(&field, "push_timeout_ms")? as u32,
            _ => {}
        }
    }
    Ok(Body::Attempt { send, number: attempt, envelope: envelope(message)?, push_timeout_ms })
}

fn fan_out(bytes: &[u8]) -> Result<Body, DataError> {
    let (mut send, mut message, mut recipients) = (0, None, false);
    for field in skim(bytes) {
        let field = field.ok_or(DataError::Truncated)?;
        match field.tag {
            1 => send = number(&field, "send_id")?,
            2 => once(&mut message, value(&field, "envelope")?, "envelope")?,
            3 => recipients = number(&field, "report_recipients")? != 0,
            _ => {}
        }
    }
    Ok(Body::FanOut { send, envelope: envelope(message)?, recipients })
}

fn handed(bytes: &[u8]) -> Result<Body, DataError> {
    let [id, number, epoch] = numbers(bytes)?;
    Ok(Body::Handed { send: SendRef { epoch, id }, number: number as u32 })
}

fn outcome(header: &Bytes, bytes: &[u8]) -> Result<Body, DataError> {
    let (mut send, mut attempt, mut cause) = (SendRef { epoch: 0, id: 0 }, 0, 0);
    let (mut is_final, mut exhausted, mut prefix) = (false, false, &[][..]);
    for field in skim(bytes) {
        let field = field.ok_or(DataError::Truncated)?;
        match field.tag {
            1 => send.id = number(&field, "send_id")?,
            2 => attempt = number(&field, "number")? as u32,
            3 => cause = number(&field, "cause")?,
            4 => is_final = number(&field, "final")? != 0,
            5 => exhausted = number(&field, "exhausted")? != 0,
            6 => prefix = value(&field, "answer_prefix")?,
            7 => send.epoch = number(&field, "send_epoch")?,
            _ => {}
        }
    }
    Ok(Body::Outcome {
        send,
        number: attempt,
        cause: cause_of(cause),
        is_final,
        exhausted,
        answer_prefix: answer_prefix(header, prefix)?,
    })
}

fn fan_out_report(bytes: &[u8]) -> Result<Body, DataError> {
    let [id, epoch, handed, failed, cause, complete] = numbers(bytes)?;
    Ok(Body::FanOutReport {
        send: SendRef { epoch, id },
        handed: handed as u32,
        failed: failed as u32,
        cause: cause_of(cause),
        complete: complete != 0,
    })
}

fn inquiry(bytes: &[u8]) -> Result<Body, DataError> {
    let [id, is_answer] = numbers(bytes)?;
    Ok(Body::Inquiry { id, is_answer: is_answer != 0 })
}

/// Rare, so the generated type will do.
fn refused(bytes: &[u8]) -> Result<Body, DataError> {
    let refused = pb::Refused::decode(bytes).map_err(DataError::Protobuf)?;
    Ok(Body::Refused {
        send: SendRef { epoch: refused.send_epoch, id: refused.send_id },
        number: refused.number,
        destinations: nodes(&refused.destinations)?,
        cause: refused.cause(),
        retry_after_ms: refused.retry_after_ms,
    })
}

fn envelope(bytes: Option<&[u8]>) -> Result<Envelope, DataError> {
    let (mut publisher, mut seq, mut topic) = (None, None, None);
    let (mut client, mut audience, mut instance, mut context) = (None, Vec::new(), None, None);
    for field in skim(bytes.ok_or(DataError::Field("envelope"))?) {
        let field = field.ok_or(DataError::Truncated)?;
        match field.tag {
            1 => once(&mut publisher, identity(value(&field, "publisher")?)?, "publisher")?,
            2 => seq = value(&field, "seq")?.try_into().ok(),
            3 => topic = Topic::parse(text(&field, "topic")?).ok(),
            // Empty is as good as absent.
            4 | 6 if field.value.is_some_and(<[u8]>::is_empty) => {}
            4 => {
                let fingerprint = field.value.and_then(Fingerprint::from_slice);
                client = Some(fingerprint.ok_or(DataError::Field("client"))?);
            }
            5 => audience.push(part(value(&field, "audience")?)?),
            6 => instance = Some(number_of(value(&field, "publisher_instance")?)?),
            7 => context = TraceContext::from_slice(value(&field, "trace_context")?),
            _ => {}
        }
    }
    Ok(Envelope {
        publisher: publisher.ok_or(DataError::Field("publisher"))?,
        seq: Seq(seq.ok_or(DataError::Field("seq"))?),
        topic: topic.ok_or(DataError::Field("topic"))?,
        client,
        audience,
        instance,
        context,
    })
}

fn identity(bytes: &[u8]) -> Result<Arc<ClientIdentity>, DataError> {
    let (mut fingerprint, mut name) = (None, "");
    for field in skim(bytes) {
        let field = field.ok_or(DataError::Truncated)?;
        match field.tag {
            1 => fingerprint = Fingerprint::from_slice(value(&field, "fingerprint")?),
            2 => name = text(&field, "name")?,
            _ => {}
        }
    }
    let fingerprint = fingerprint.ok_or(DataError::Field("fingerprint"))?;
    Ok(Arc::new(ClientIdentity { fingerprint, name: name.into() }))
}

/// Only messages of private topics have one.
fn part(bytes: &[u8]) -> Result<Audience, DataError> {
    let audience = pb::Audience::decode(bytes).map_err(DataError::Protobuf)?;
    let node = NodeId::from_slice(&audience.node).ok_or(DataError::Field("audience"))?;
    let mut sessions: Vec<SessionId> = audience.sessions.into_iter().map(SessionId).collect();
    sessions.sort_unstable();
    sessions.dedup();
    Ok(Audience { node, epoch: audience.epoch, sessions })
}

/// As many zeros name no application.
fn number_of(instance: &[u8]) -> Result<u128, DataError> {
    let number = instance.try_into().map(u128::from_be_bytes).unwrap_or(0);
    if number == 0 { Err(DataError::Field("publisher_instance")) } else { Ok(number) }
}

/// A malformed prefix would crash SDKs that decode the answer; it must be a length byte and its topic.
fn answer_prefix(header: &Bytes, prefix: &[u8]) -> Result<Bytes, DataError> {
    match prefix.first() {
        None => Ok(Bytes::new()),
        Some(&n) if usize::from(n) == prefix.len() => Ok(header.slice_ref(prefix)),
        Some(_) => Err(DataError::Field("answer_prefix")),
    }
}

fn nodes(ids: &[Bytes]) -> Result<Vec<NodeId>, DataError> {
    let node = |id: &Bytes| NodeId::from_slice(id).ok_or(DataError::Field("destinations"));
    match ids.len() {
        1..=MAX_DESTINATIONS => ids.iter().map(node).collect(),
        _ => Err(DataError::Field("destinations")),
    }
}

/// The numbers of a message, by tag from 1; 0 where there is none.
fn numbers<const N: usize>(bytes: &[u8]) -> Result<[u64; N], DataError> {
    let mut numbers = [0; N];
    for field in skim(bytes) {
        let field = field.ok_or(DataError::Truncated)?;
        let place = usize::try_from(field.tag).ok().and_then(|tag| numbers.get_mut(tag.checked_sub(1)?));
        if let Some(place) = place {
            *place = number(&field, "number")?;
        }
    }
    Ok(numbers)
}

/// Causes that are newer than this node are none.
fn cause_of(number: u64) -> Cause {
    Cause::try_from(number as i32).unwrap_or_default()
}

/// Notes what must be there once.
fn once<T>(place: &mut Option<T>, value: T, name: &'static str) -> Result<(), DataError> {
    if place.replace(value).is_some() { Err(DataError::Field(name)) } else { Ok(()) }
}

fn number(field: &Field<'_>, name: &'static str) -> Result<u64, DataError> {
    field.number.ok_or(DataError::Field(name))
}

fn value<'a>(field: &Field<'a>, name: &'static str) -> Result<&'a [u8], DataError> {
    field.value.ok_or(DataError::Field(name))
}

fn text<'a>(field: &Field<'a>, name: &'static str) -> Result<&'a str, DataError> {
    str::from_utf8(value(field, name)?).map_err(|_| DataError::Field(name))
}
