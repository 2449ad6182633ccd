//! What a publisher may ask for beside its message, and what it is told beside the code.

use bytes::Bytes;

use super::{ExtensionError, FromNode, deliver::MAX_NAME, millis};
use crate::{
    Cause, Fingerprint, NodeId, Retry, Status, TraceContext,
    message::{Address, Hop, MAX_INSTITUTION, Wishes},
    wire::generated as pb,
};

/// What a `Publish` asks for; `None` if nothing.
pub(super) fn wishes(publish: pb::Publish) -> Result<Option<Box<Wishes>>, ExtensionError> {
    let wishes = Wishes {
        tell_handed: publish.want_received,
        recipients: publish.report_recipients,
        address: publish.address.map_or(Ok(Address::default()), address)?,
        // One that is malformed is of no use to anybody, and no reason to refuse a message.
        context: TraceContext::from_slice(&publish.trace_context),
    };
    Ok((wishes != Wishes::default()).then(|| Box::new(wishes)))
}

fn address(address: pb::Address) -> Result<Address, ExtensionError> {
    if address.institution.len() > MAX_INSTITUTION {
        return Err(ExtensionError::Field("address.institution"));
    }
    let node = |bytes: &[u8]| NodeId::from_slice(bytes).ok_or(ExtensionError::Field("address.node"));
    let client = |bytes: &[u8]| Fingerprint::from_slice(bytes).ok_or(ExtensionError::Field("address.client"));
    let given = |bytes: &Bytes| !bytes.is_empty();
    Ok(Address {
        node: given(&address.node).then(|| node(&address.node)).transpose()?,
        client: given(&address.client).then(|| client(&address.client)).transpose()?,
        institution: (!address.institution.is_empty()).then(|| address.institution.into()),
    })
}

/// The header of a `Publish` with these wishes, and nothing else.
pub(super) fn asking_for(wishes: &Wishes) -> pb::Publish {
    let Address { institution, node, client } = &wishes.address;
    let address = pb::Address {
        institution: institution.as_deref().map(|name| bounded(name, MAX_INSTITUTION)).unwrap_or_default(),
        node: node.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default(),
        client: client.map(|print| Bytes::copy_from_slice(print.as_bytes())).unwrap_or_default(),
    };
    pb::Publish {
        want_received: wishes.tell_handed,
        report_recipients: wishes.recipients,
        address: (!wishes.address.is_any()).then_some(address),
        trace_context: context_bytes(wishes.context.as_ref()),
        ..pb::Publish::default()
    }
}

fn context_bytes(context: Option<&TraceContext>) -> Bytes {
    context.map(|context| Bytes::copy_from_slice(context.as_bytes())).unwrap_or_default()
}

pub(super) fn publish_result(
    code: i32,
    result: pb::PublishResult,
    payload: Bytes,
) -> Result<FromNode, ExtensionError> {
    let status = Status::from_code(code).ok_or(ExtensionError::Field("result"))?;
    let cause = Cause::try_from(result.cause).ok().filter(|cause| cause.status() == status);
    let cause = cause.unwrap_or(Cause::Unspecified);
    let retry = match (status, result.retry()) {
        (Status::Success, _) => Retry::Never,
        (_, Retry::Unspecified) => cause.retry(),
        (_, said) => said,
    };
    let retry_after = millis(result.retry_after_ms);
    let hop = result.hop.map(hop).transpose()?.map(Box::new);
    Ok(FromNode::PublishResult { status, cause, retry_after, retry, hop, payload })
}

fn hop(hop: pb::Hop) -> Result<Hop, ExtensionError> {
    Ok(Hop {
        node: NodeId::from_slice(&hop.node).ok_or(ExtensionError::Field("hop.node"))?,
        name: hop.name.into(),
        institution: hop.institution.into(),
    })
}

pub(super) fn from_hop(hop: &Hop) -> pb::Hop {
    pb::Hop {
        node: Bytes::copy_from_slice(hop.node.as_bytes()),
        name: bounded(&hop.name, MAX_NAME),
        institution: bounded(&hop.institution, MAX_NAME),
    }
}

fn bounded(name: &str, most: usize) -> String {
    name[..name.floor_char_boundary(most)].to_owned()
}
