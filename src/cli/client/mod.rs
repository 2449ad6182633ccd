//! What the commands of a client have in common: connecting, payloads, outcomes, exit codes.

pub(super) mod files;
mod payload;
pub(super) mod private;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use amop_client::{
    Address, Cause, Client, ConnectError, ErrorKind, Fingerprint, Hop, NodeId, Options, Recipients, Retry,
};

pub(super) use self::payload::{Message, Text, name};
use crate::cli::output;

/// Exit codes, for the end of each command's help.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    delivered, or answered
  1    anything not listed here, such as certificates that cannot be used
  2    wrong usage
  99   the message did not reach any node: none could be connected, or it is shutting down
  100  no path to a node that can take it: nobody subscribed, or nobody reachable
  101  reached the subscriber's node, but no subscriber took it, or the one that did refused
  102  timed out: handed to a subscriber that did not answer in time, or the connection broke
  103  refused for bandwidth or quota: send less, or later";

/// Where and as whom to connect.
#[derive(Debug, clap::Args)]
pub(super) struct Connection {
    /// Client port of a node; several, so that nothing is lost with one of them
    #[arg(long, value_name = "IP:PORT", required = true, value_delimiter = ',')]
    node: Vec<String>,
    /// Directory with ca.crt, sdk.crt and sdk.key
    #[arg(long, value_name = "DIR")]
    certs: PathBuf,
    /// Print one JSON object per line, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

impl Connection {
    pub(super) async fn open(&self) -> Result<Client, ConnectError> {
        Client::connect(self.options()).await
    }

    /// Connects to send something: one send needs one node; the others are there if it is lost.
    pub(super) async fn open_one(&self) -> Result<Client, ConnectError> {
        let mut options = self.options();
        options.homes = 1;
        Client::connect(options).await
    }

    /// As [`Connection::open_one`]. A node that cannot be connected is an outcome of the send:
    /// code 99, already printed.
    pub(super) async fn open_to_send(&self, topic: &str) -> anyhow::Result<Result<Client, ExitCode>> {
        match self.open_one().await {
            Ok(client) => Ok(Ok(client)),
            Err(error @ ConnectError::Failed(_)) => {
                let error = anyhow::Error::from(error);
                if self.json {
                    output::json(&Outcome::failed(topic, 99, Cause::NotConnected, format!("{error:#}")))?;
                } else {
                    output::failure(&error);
                }
                Ok(Err(ExitCode::from(99)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn options(&self) -> Options {
        let mut options = Options::new(self.node.iter().cloned(), &self.certs);
        options.name = concat!("amop-cli/", env!("CARGO_PKG_VERSION")).into();
        options
    }
}

/// Which subscribers a message is for.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct To {
    /// Only to subscribers whose node is one of this institution
    #[arg(long, value_name = "NAME")]
    to_institution: Option<String>,
    /// Only to subscribers at this node: its id, as `amop peers` shows it, 64 or 128 hex digits
    #[arg(long, value_name = "ID", value_parser = parse_node)]
    to_node: Option<NodeId>,
    /// Only to subscribers with this certificate: its SHA-256, 64 hex digits
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_fingerprint)]
    to_client: Option<Fingerprint>,
}

impl To {
    pub(super) fn address(&self) -> Address {
        Address {
            institution: self.to_institution.as_deref().map(Into::into),
            node: self.to_node,
            client: self.to_client,
        }
    }
}

fn parse_node(text: &str) -> Result<NodeId, String> {
    let digits = if text.len() == 128 { text.get(..64).unwrap_or(text) } else { text };
    NodeId::from_hex(digits).ok_or_else(|| "write 64 or 128 hex digits, as `amop peers` shows them".into())
}

fn parse_fingerprint(text: &str) -> Result<Fingerprint, String> {
    Fingerprint::from_hex(text).ok_or_else(|| "write the 64 hex digits of a certificate's SHA-256".into())
}

/// How a send ended, as `--json` prints it.
#[derive(Debug, serde::Serialize)]
pub(super) struct Outcome<'a> {
    topic: &'a str,
    code: i32,
    cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u128>,
    /// From the call of the SDK to its return.
    #[serde(skip_serializing_if = "Option::is_none")]
    micros: Option<u128>,
    #[serde(flatten)]
    answer: Option<Text>,
    /// Where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<JsonNode>,
    /// Whether to send it again: `never`, `safe`, or `may_repeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipients: Option<JsonRecipients>,
}

#[derive(Debug, serde::Serialize)]
struct JsonNode {
    node: String,
    name: String,
    institution: String,
}

/// How each recipient of a multicast fared, as `--json` prints it.
#[derive(Debug, serde::Serialize)]
struct JsonRecipients {
    handed: u32,
    failed: u32,
    nodes: Vec<JsonNodeRecipients>,
}

#[derive(Debug, serde::Serialize)]
struct JsonNodeRecipients {
    #[serde(flatten)]
    at: JsonNode,
    handed: u32,
    failed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    recipients: Vec<JsonRecipient>,
}

#[derive(Debug, serde::Serialize)]
struct JsonRecipient {
    client: Option<String>,
    fingerprint: Option<String>,
    cause: String,
}

impl From<&Recipients> for JsonRecipients {
    fn from(report: &Recipients) -> Self {
        let nodes = report.nodes.iter().map(|node| JsonNodeRecipients {
            at: JsonNode {
                node: node.node.to_hex(),
                name: node.name.to_string(),
                institution: node.institution.to_string(),
            },
            handed: node.handed,
            failed: node.failed,
            cause: node.cause.map(cause_name),
            recipients: node.recipients.iter().map(JsonRecipient::from).collect(),
        });
        Self { handed: report.handed, failed: report.failed, nodes: nodes.collect() }
    }
}

impl From<&amop_client::Recipient> for JsonRecipient {
    fn from(recipient: &amop_client::Recipient) -> Self {
        let client = recipient.client.as_ref();
        Self {
            client: client.map(|client| client.name.to_string()),
            fingerprint: client.map(|client| client.fingerprint.to_hex()),
            cause: cause_name(recipient.cause),
        }
    }
}

impl<'a> Outcome<'a> {
    pub(super) fn ok(topic: &'a str, took: Duration, answer: Option<Text>) -> Self {
        let micros = Some(took.as_micros());
        let cause = cause_name(Cause::Delivered);
        Self { code: 0, cause, error: None, micros, answer, ..Self::bare(topic) }
    }

    pub(super) fn failed(topic: &'a str, code: i32, cause: Cause, error: String) -> Self {
        let (error, cause) = (Some(error), cause_name(cause));
        Self { code, cause, error, ..Self::bare(topic) }
    }

    fn bare(topic: &'a str) -> Self {
        Self {
            topic,
            code: 0,
            cause: String::new(),
            error: None,
            retry_after_ms: None,
            micros: None,
            answer: None,
            at: None,
            retry: None,
            recipients: None,
        }
    }

    /// Where it failed, and whether to send it again.
    pub(super) fn failed_at(mut self, hop: Option<&Hop>, retry: Retry) -> Self {
        self.at = hop.map(|hop| JsonNode {
            node: hop.node.to_hex(),
            name: hop.name.to_string(),
            institution: hop.institution.to_string(),
        });
        self.retry = match retry {
            Retry::Unspecified => None,
            Retry::Never => Some("never"),
            Retry::Safe => Some("safe"),
            Retry::MayRepeat => Some("may_repeat"),
        };
        self
    }

    /// How each recipient fared.
    pub(super) fn report(mut self, report: Option<&Recipients>) -> Self {
        self.recipients = report.map(JsonRecipients::from);
        self
    }

    pub(super) fn took(mut self, took: Duration, retry_after: Option<Duration>) -> Self {
        self.micros = Some(took.as_micros());
        self.retry_after_ms = retry_after.map(|after| after.as_millis());
        self
    }
}

/// The name of a cause as in the protocol, without its prefix: `no_subscriber`.
pub(super) fn cause_name(cause: Cause) -> String {
    let name = cause.as_str_name();
    name.strip_prefix("CAUSE_").unwrap_or(name).to_ascii_lowercase()
}

/// What to do about a send that failed.
pub(super) fn advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::NoPath => {
            "see who is subscribed with `amop topics`, and that the nodes see each other with `amop peers`"
        }
        ErrorKind::NotConnected => "see that the node runs and try again",
        ErrorKind::Draining => "try another node, or this one when it is up again",
        ErrorKind::NotHanded => "try again: the subscriber was going away or is overloaded",
        ErrorKind::TimedOut => "see that the subscriber answers, or give it more time with --deadline",
        ErrorKind::ConnectionLost => "send again only what may arrive twice",
        ErrorKind::Limited => "send less, or later",
        _ => return None,
    })
}

/// The code of a send as an exit code.
pub(super) fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// A time for people: `87 µs`, `1.24 ms`, `2.50 s`.
pub(super) fn time(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        micros @ 1_000..1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        micros => format!("{:.2} s", micros as f64 / 1e6),
    }
}

/// Reads `500ms`, `5s` or `2m`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match &text[split..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("write a number and ms, s or m, such as 500ms or 5s".into()),
    };
    let number: f64 = text[..split].parse().map_err(|_| format!("{:?} is not a number", &text[..split]))?;
    let duration = Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())?;
    match duration {
        Duration::ZERO => Err("it must be more than nothing".into()),
        long if long > Duration::from_secs(24 * 3600) => Err("it can be a day at most".into()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "5h", "-1s", "0s", "1e9s", "..s", "99999999m", "5 s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_short() {
        let micros = |n| time(Duration::from_micros(n));
        assert_eq!([micros(87), micros(1_240), micros(2_500_000)], ["87 µs", "1.24 ms", "2.50 s"]);
    }

    #[test]
    fn outcomes_in_json_say_code_and_cause() {
        let failed = Outcome::failed("t", 103, Cause::ClientQuota, "no".into())
            .took(Duration::from_millis(1), Some(Duration::from_secs(2)));
        let expected = r#"{"topic":"t","code":103,"cause":"client_quota","error":"no","retry_after_ms":2000,"micros":1000}"#;
        assert_eq!(serde_json::to_string(&failed).unwrap(), expected);
        let ok = Outcome::ok("t", Duration::from_micros(5), Some(Text::of(b"hi")));
        let expected = r#"{"topic":"t","code":0,"cause":"delivered","micros":5,"payload":"hi"}"#;
        assert_eq!(serde_json::to_string(&ok).unwrap(), expected);
    }
}
