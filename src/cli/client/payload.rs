//! Payloads at the terminal: where they come from, and how to print what strangers send.

use std::{
    fmt::{self, Write},
    io::Read,
    path::{Path, PathBuf},
};

use amop_client::certificate;
use amop_protocol::{ident::hex, limits::MAX_CHANNEL_FRAME};
use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;

/// Most of a payload that is shown to people; scripts get all of it.
const SHOWN: usize = 16 * 1024;

/// The message to send.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Message {
    /// The message; `-` reads it from standard input
    #[arg(value_name = "MESSAGE")]
    message: Option<String>,
    /// Send the content of a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Message {
    /// Reads it, up to the largest frame.
    pub(in crate::cli) fn read(&self) -> anyhow::Result<Bytes> {
        match (&self.message, &self.file) {
            (Some(text), _) if text != "-" => Ok(Bytes::from(text.clone())),
            (None, Some(path)) if path != Path::new("-") => {
                let file = std::fs::File::open(path)
                    .with_context(|| format!("cannot read the message from {}", path.display()))?;
                bounded(file).with_context(|| format!("cannot send {}", path.display()))
            }
            _ => bounded(std::io::stdin().lock()).context("cannot send what is on standard input"),
        }
    }
}

fn bounded(source: impl Read) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    source.take(MAX_CHANNEL_FRAME as u64 + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(
        bytes.len() <= MAX_CHANNEL_FRAME,
        "it is larger than the largest message, {MAX_CHANNEL_FRAME} bytes"
    );
    Ok(bytes.into())
}

/// A payload that can be printed: text if it is text, else hex.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Text {
    #[serde(rename = "payload")]
    Plain(String),
    #[serde(rename = "payload_hex")]
    Hex(String),
}

impl Text {
    pub(in crate::cli) fn of(payload: &[u8]) -> Self {
        match std::str::from_utf8(payload) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Hex(hex(payload)),
        }
    }
}

/// For a terminal: nothing in it can move the cursor, forge a line or hide text.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, what) = match self {
            Self::Plain(text) => (text, "bytes"),
            Self::Hex(digits) => {
                f.write_str("0x")?;
                (digits, "hex digits")
            }
        };
        let shown = &whole[..whole.floor_char_boundary(SHOWN)];
        for c in shown.chars() {
            if is_unsafe(c) { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        match whole.len() - shown.len() {
            0 => Ok(()),
            rest => write!(f, "… and {rest} more {what}"),
        }
    }
}

/// Control characters, and those that reorder or hide text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A name out of a certificate, which another program's node may not have checked.
pub(in crate::cli) fn name(text: &str) -> String {
    Text::Plain(text.chars().take(certificate::MAX_NAME_BYTES).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_send_cannot_touch_the_terminal() {
        assert_eq!(Text::of("grüße, 市场".as_bytes()).to_string(), "grüße, 市场");
        assert_eq!(Text::of(b"a\x1b[2J\nb\r").to_string(), r"a\u{1b}[2J\nb\r");
        assert_eq!(Text::of("a\u{202e}b".as_bytes()).to_string(), r"a\u{202e}b");
        assert_eq!(Text::of(&[0xff, 0x00]).to_string(), "0xff00");
        let long = Text::of("é".repeat(10_000).as_bytes()).to_string();
        assert!(long.ends_with("… and 3616 more bytes"), "{}", &long[long.len() - 40..]);
    }

    #[test]
    fn a_file_is_the_message() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1, 2, 255]).unwrap();
        let message = Message { message: None, file: Some(file.path().into()) };
        assert_eq!(&message.read().unwrap()[..], [1, 2, 255]);
        let missing = Message { message: None, file: Some("no/such/file".into()) };
        assert!(missing.read().unwrap_err().to_string().contains("no/such/file"));
    }
}
