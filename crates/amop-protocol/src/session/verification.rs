//! The frames 0x37 and 0x38, by which a node and a publisher verify subscribers (channel spec, 6.2).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::json;
use crate::{Topic, limits::MAX_JSON_BODY};

/// The body of a 0x37: may this subscriber have that topic? Challenge it over the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Names the question; SDKs take it for a node's id and repeat it.
    pub question: String,
    /// The private topic.
    pub topic: Topic,
    /// Where a challenge reaches the subscriber.
    pub channel: Topic,
}

/// The body of a 0x38: what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// As in the inquiry.
    pub question: String,
    /// As in the inquiry.
    pub topic: Topic,
    /// Whether the subscriber proved to hold a key that the publisher trusts.
    pub trusted: bool,
}

#[derive(Deserialize)]
struct InquiryBody {
    #[serde(rename = "nodeId")]
    question: String,
    topic: String,
    #[serde(rename = "topicForCert")]
    channel: String,
}

#[derive(Deserialize)]
struct VerdictBody {
    /// 0: trusted.
    #[serde(rename = "checkResult")]
    result: i64,
    #[serde(rename = "nodeId")]
    question: String,
    topic: String,
}

impl Inquiry {
    /// The body, as official nodes write it.
    pub fn encode(&self) -> Bytes {
        json(&json!({
            "nodeId": self.question,
            "topic": self.topic.as_str(),
            "topicForCert": self.channel.as_str(),
        }))
    }

    /// Reads a body; `None` if it is not what a node sends.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let InquiryBody { question, topic, channel } = read(body)?;
        let (topic, channel) = (Topic::parse(&topic).ok()?, Topic::parse(&channel).ok()?);
        Some(Self { question, topic, channel })
    }
}

impl Verdict {
    /// The body, as go-sdk writes it.
    pub fn encode(&self) -> Bytes {
        let body = json!({
            "checkResult": i64::from(!self.trusted),
            "nodeId": self.question,
            "topic": self.topic.as_str(),
        });
        body.to_string().into()
    }

    /// Reads a body; `None` if it is not what an SDK sends.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let VerdictBody { result, question, topic } = read(body)?;
        Some(Self { question, topic: Topic::parse(&topic).ok()?, trusted: result == 0 })
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    (body.len() <= MAX_JSON_BODY).then(|| serde_json::from_slice(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_such_a_body_is_not_read() {
        let good = r##"{"checkResult":0,"nodeId":"x","topic":"#!$TopicNeedVerify_a","more":[]}"##;
        assert!(Verdict::decode(good.as_bytes()).is_some_and(|verdict| verdict.trusted));
        for bad in [
            "",
            "{}",
            "[0]",
            r#"{"checkResult":"0","nodeId":"x","topic":"a"}"#,
            r#"{"checkResult":0,"nodeId":1,"topic":"a"}"#,
            r#"{"checkResult":0,"nodeId":"x","topic":""}"#,
        ] {
            assert_eq!(Verdict::decode(bad.as_bytes()), None, "{bad}");
        }
        let refused = r#"{"checkResult":-1,"nodeId":"x","topic":"a"}"#;
        assert!(Verdict::decode(refused.as_bytes()).is_some_and(|verdict| !verdict.trusted));
        let long = format!(r#"{{"checkResult":0,"nodeId":"{}","topic":"a"}}"#, "x".repeat(MAX_JSON_BODY));
        assert_eq!(Verdict::decode(long.as_bytes()), None);
    }
}
