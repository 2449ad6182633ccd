//! A file in one payload, as the Java demo of FISCO BCOS 2.x sends and receives it.
//!
//! ```text
//! int32  -128            FF FF FF 80
//! int32  length of name  big-endian
//! name                   in the platform's charset
//! content                all that is left
//! ```
//!
//! The demo's sender (`AmopPublisherFile`) writes the length of the name in *characters* (UTF-16 units) and the name
//! in bytes; its receiver (`DemoAmopCallback`) takes the length for *bytes*, and lets the content begin after as many
//! bytes as the name that it read has characters. For ASCII all of that is the same. A name that is not ASCII is cut
//! between two Java demos, and its end stands before the content. So:
//!
//! - [`encode`] writes the length in bytes, as a receiver has to read it. The demo then has the right name, but for a name
//!   that is not ASCII there is no length with which it also has the right content: the last bytes of the name,
//!   as many as it has more bytes than characters, come first.
//! - [`decode`] takes the length for bytes or for characters, whichever gives text; where both do, the name with the
//!   extension that is better known counts, then the one that has an extension, then bytes. `报告.txt` with the length 6
//!   is a Java demo's, with 10 it is a length in bytes. This cannot always be told: of a Java demo's `报告书`, without
//!   an extension and cut between two characters, the end of the name stays before the content.
//!
//! It does not make names safe; that is [`safe`](super::name::safe).

use bytes::{BufMut, Bytes, BytesMut};

/// What a receiver answers once the file is written, in the demo's words. It must not be empty: the Java SDK makes
/// nothing at all of an empty answer, on which the demo's sender fails.
pub(crate) const ANSWER: &str = "Yes, I received!";
/// What such a payload begins with: -128 as an int32.
const MARK: [u8; 4] = (-128_i32).to_be_bytes();
/// Mark and length. The demo takes only what is longer for a file.
const HEADER: usize = 8;
/// The length of a name at most, in whatever it is counted.
const MAX_NAME: usize = 4096;
/// Letters and digits of an extension at most, when it has to tell where a name ends.
const MAX_EXTENSION: usize = 8;
/// Extensions that tell where a name ends, whatever could still belong to it.
const KNOWN_EXTENSIONS: &[&str] = &[
    "7z", "avi", "bak", "bin", "bmp", "bz2", "c", "cer", "conf", "crt", "csv", "dat", "db", "der", "doc",
    "docx", "exe", "gif", "go", "gz", "h", "htm", "html", "ini", "jar", "java", "jpeg", "jpg", "js", "json",
    "key", "log", "md", "mov", "mp3", "mp4", "msg", "ods", "odt", "ofd", "p12", "pdf", "pem", "pfx", "png",
    "ppt", "pptx", "ps", "py", "rar", "rs", "rtf", "sh", "sig", "so", "sql", "svg", "tar", "tgz", "tif",
    "tiff", "toml", "ts", "tsv", "txt", "wav", "wps", "xls", "xlsx", "xml", "xz", "yaml", "yml", "zip",
    "zst",
];

/// A file as it lies in a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// What the sender calls it: any text, not safe to use as it is.
    pub(crate) name: String,
    /// Its bytes, shared with the payload.
    pub(crate) content: Bytes,
}

/// The file cannot be sent so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("the file has no name, without which the receiver cannot keep it; name it")]
    NoName,
    #[error("the file's name has {0} bytes; send it under a name of at most {MAX_NAME}")]
    LongName(usize),
}

/// The payload says that it is a file, and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the length of the file's name is {0}, not from 0 to {MAX_NAME}; the sender has to send it anew")]
    NameLength(i32),
    #[error(
        "the file's name has a length of {length} and only {left} bytes follow; the sender has to send all of it"
    )]
    Truncated {
        /// As the payload has it.
        length: usize,
        /// Name and content.
        left: usize,
    },
    #[error(
        "the file's name is not UTF-8; start the sender's Java with -Dfile.encoding=UTF-8, or give the file a name in ASCII"
    )]
    Charset,
}

/// A payload with that file, to be sent as a request or a multicast.
///
/// Copies the content once. How large a payload may be is the node's to say.
///
/// # Errors
///
/// [`EncodeError`] if the name is empty or too long.
pub(crate) fn encode(name: &str, content: &[u8]) -> Result<Bytes, EncodeError> {
    if name.is_empty() {
        return Err(EncodeError::NoName);
    }
    let length = i32::try_from(name.len()).ok().filter(|_| name.len() <= MAX_NAME);
    let length = length.ok_or(EncodeError::LongName(name.len()))?;
    let mut payload = BytesMut::with_capacity(HEADER + name.len() + content.len());
    payload.put_slice(&MARK);
    payload.put_i32(length);
    payload.put_slice(name.as_bytes());
    payload.put_slice(content);
    Ok(payload.freeze())
}

/// The file in a payload; `None` if the payload is something else, as the demo would say.
///
/// # Errors
///
/// [`DecodeError`] if it begins as a file and the name in it cannot be read.
pub(crate) fn decode(payload: &Bytes) -> Option<Result<File, DecodeError>> {
    let rest = payload.strip_prefix(&MARK)?;
    let (length, rest) = rest.split_first_chunk()?;
    if rest.is_empty() {
        return None;
    }
    Some(
        read_name(i32::from_be_bytes(*length), rest)
            .map(|name| File { name: name.to_owned(), content: payload.slice(HEADER + name.len()..) }),
    )
}

/// The name that `rest` begins with; see the module for how.
fn read_name(claimed: i32, rest: &[u8]) -> Result<&str, DecodeError> {
    let length = usize::try_from(claimed).ok().filter(|&length| length <= MAX_NAME);
    let length = length.ok_or(DecodeError::NameLength(claimed))?;
    let bytes = rest.get(..length).ok_or(DecodeError::Truncated { length, left: rest.len() })?;
    match (str::from_utf8(bytes).ok(), in_characters(length, rest)) {
        (Some(short), Some(long)) if ending(long) > ending(short) => Ok(long),
        // Two known extensions, one longer than the other: `xls` could only be cut from `xlsx`.
        (Some(short), Some(long)) if ending(short) == Ending::Known && ending(long) == Ending::Known => {
            Ok(long)
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(DecodeError::Charset),
    }
}

/// The text of so many UTF-16 units that `rest` begins with.
fn in_characters(length: usize, rest: &[u8]) -> Option<&str> {
    // No unit takes more than three bytes of UTF-8.
    let longest = rest.get(..length * 3).unwrap_or(rest);
    let text = longest.utf8_chunks().next()?.valid();
    let mut left = length;
    for (at, c) in text.char_indices() {
        if left == 0 {
            return Some(&text[..at]);
        }
        // More likely content than a name.
        left = left.checked_sub(c.len_utf16()).filter(|_| !c.is_control())?;
    }
    (left == 0).then_some(text)
}

/// How a text ends: the further down, the more like a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Anyhow,
    Extension,
    Known,
}

fn ending(name: &str) -> Ending {
    let Some((_, extension)) = name.rsplit_once('.') else { return Ending::Anyhow };
    if KNOWN_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
        return Ending::Known;
    }
    let is_short = (1..=MAX_EXTENSION).contains(&extension.len());
    if is_short && extension.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ending::Extension;
    }
    Ending::Anyhow
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The channel protocol's vector `amop_file_payload_java_demo`.
    const VECTOR: &[u8] = b"\xff\xff\xff\x80\x00\x00\x00\x05\x61\x2e\x74\x78\x74\
        \x66\x69\x6c\x65\x20\x63\x6f\x6e\x74\x65\x6e\x74";

    /// As the demo's sender builds it on a platform whose charset is UTF-8.
    fn from_java(name: &str, content: &[u8]) -> Bytes {
        payload(i32::try_from(name.encode_utf16().count()).unwrap(), &[name.as_bytes(), content].concat())
    }

    fn payload(length: i32, rest: &[u8]) -> Bytes {
        [&MARK, &length.to_be_bytes(), rest].concat().into()
    }

    fn file(name: &str, content: &'static [u8]) -> Option<Result<File, DecodeError>> {
        Some(Ok(File { name: name.to_owned(), content: Bytes::from_static(content) }))
    }

    #[test]
    fn the_vector_both_ways() {
        assert_eq!(encode("a.txt", b"file content").unwrap(), VECTOR);
        assert_eq!(decode(&Bytes::from_static(VECTOR)), file("a.txt", b"file content"));
        assert_eq!(from_java("a.txt", b"file content"), VECTOR);
    }

    #[test]
    fn content_is_not_copied() {
        let payload = Bytes::from_static(VECTOR);
        let content = decode(&payload).unwrap().unwrap().content;
        assert_eq!(content.as_ptr(), payload[13..].as_ptr());
    }

    #[test]
    fn other_payloads_are_no_files() {
        for other in
            [&b""[..], b"hello", b"\xff\xff\xff\x81\0\0\0\x01ab", b"\xff\xff\xff", b"\xff\xff\xff\x80"]
        {
            assert_eq!(decode(&Bytes::from_static(other)), None, "{other:?}");
        }
        // The demo wants more than eight bytes.
        assert_eq!(decode(&payload(0, b"")), None);
        assert_eq!(decode(&payload(5, b"")), None);
    }

    #[test]
    fn every_cut_of_the_vector_is_told() {
        for end in 0..VECTOR.len() {
            let decoded = decode(&Bytes::from_static(&VECTOR[..end]));
            match end {
                0..=8 => assert_eq!(decoded, None),
                9..13 => assert_eq!(decoded, Some(Err(DecodeError::Truncated { length: 5, left: end - 8 }))),
                // Nothing says how long the content is.
                _ => assert_eq!(decoded, file("a.txt", &VECTOR[13..end])),
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for length in [-1, -128, i32::MIN, i32::MAX, 4097] {
            assert_eq!(decode(&payload(length, b"name")), Some(Err(DecodeError::NameLength(length))));
        }
        assert_eq!(
            decode(&payload(4096, b"name")),
            Some(Err(DecodeError::Truncated { length: 4096, left: 4 }))
        );
        assert_eq!(decode(&payload(0, b"x")), file("", b"x"));
    }

    #[test]
    fn names_to_send_are_bounded() {
        assert_eq!(encode("", b"x"), Err(EncodeError::NoName));
        assert_eq!(encode(&"a".repeat(4097), b"x"), Err(EncodeError::LongName(4097)));
        let longest = "报".repeat(1365);
        let decoded = decode(&encode(&longest, b"").unwrap()).unwrap().unwrap();
        assert_eq!((decoded.name, decoded.content), (longest, Bytes::new()));
    }

    #[test]
    fn names_that_are_not_ascii_come_from_both() {
        for name in [
            "报告.txt",
            "年度报告2024年12月.pdf",
            "v1.2发布说明.docx",
            "Grüße.txt",
            "../../报告.xlsx",
            "🌍地图.png",
        ] {
            for content in [&b"file content"[..], b"", b"\0\x01\xff", "内容".as_bytes()] {
                let same = Some(Ok(File { name: name.into(), content: Bytes::copy_from_slice(content) }));
                assert_eq!(decode(&encode(name, content).unwrap()), same, "{name}, in bytes");
                assert_eq!(decode(&from_java(name, content)), same, "{name}, in characters");
            }
        }
        // Cut within a character, so that it cannot be meant in bytes.
        assert_eq!(decode(&from_java("报告", b"x")), file("报告", b"x"));
    }

    #[test]
    fn what_cannot_be_told_apart() {
        // A Java demo's, without an extension and cut between two characters.
        assert_eq!(decode(&from_java("报告书", b"x")), file("报", "告书x".as_bytes()));
    }

    #[test]
    fn other_charsets_are_refused() {
        // 报告.txt in GBK.
        let name = b"\xb1\xa8\xb8\xe6.txt";
        assert_eq!(decode(&payload(6, &[&name[..], b"content"].concat())), Some(Err(DecodeError::Charset)));
        // One UTF-16 unit of two.
        assert_eq!(decode(&payload(1, "🌍".as_bytes())), Some(Err(DecodeError::Charset)));
    }

    proptest! {
        #[test]
        fn ascii_survives_from_both(name in "[ -~]{1,80}", content: Vec<u8>) {
            let same = Some(Ok(File { name: name.clone(), content: content.clone().into() }));
            prop_assert_eq!(decode(&encode(&name, &content).unwrap()), same.clone());
            prop_assert_eq!(decode(&from_java(&name, &content)), same);
        }

        #[test]
        fn anything_is_read_or_refused(length: i32, rest: Vec<u8>, short in 0..20i32) {
            for length in [length, short] {
                let payload = payload(length, &rest);
                if let Some(Ok(file)) = decode(&payload) {
                    prop_assert_eq!(&payload[HEADER..HEADER + file.name.len()], file.name.as_bytes());
                    prop_assert_eq!(&payload[HEADER + file.name.len()..], &file.content[..]);
                }
            }
        }
    }
}
