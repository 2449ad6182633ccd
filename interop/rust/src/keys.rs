//! Keys of private topics, in the files that the command names.

use std::fs;

use amop_client::{Compatibility, PrivateKey, PublicKey};
use anyhow::{Context, bail};
use serde::Deserialize;

/// A key in a file. Its format is seen from the file, whatever the driver says of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Key {
    file: String,
    #[serde(default)]
    password: String,
}

impl Key {
    /// The private key in it.
    pub(crate) fn private(&self) -> anyhow::Result<PrivateKey> {
        PrivateKey::parse(&self.read()?, &self.password).with_context(|| self.file.clone())
    }

    /// The public key in it.
    pub(crate) fn public(&self) -> anyhow::Result<PublicKey> {
        PublicKey::parse(&self.read()?).with_context(|| self.file.clone())
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(&self.file).with_context(|| self.file.clone())
    }
}

/// What the driver calls them.
pub(crate) fn compatibility(name: &str) -> anyhow::Result<Compatibility> {
    Ok(match name {
        "version2" => Compatibility::Version2,
        "strict" => Compatibility::Strict,
        "all" => Compatibility::All,
        other => bail!("unknown compatibility {other}"),
    })
}
