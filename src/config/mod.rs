//! The configuration file. Provisional: reads the admin address only.
#![allow(missing_docs, clippy::allow_attributes_without_reason, clippy::allow_attributes)]
use crate::telemetry::logging::Format;
pub struct Logging {
    pub filter: String,
    pub format: Format,
}
pub struct Config {
    pub admin: std::net::SocketAddr,
    pub logging: Logging,
}
pub fn load(path: &std::path::Path) -> anyhow::Result<Config> {
    let value: toml::Table = std::fs::read_to_string(path)?.parse()?;
    let admin = value["admin"]["listen"].as_str().unwrap_or_default().parse()?;
    Ok(Config { admin, logging: Logging { filter: "info".into(), format: Format::Auto } })
}
pub fn check(path: &std::path::Path) -> Vec<String> {
    load(path).err().map(|e| e.to_string()).into_iter().collect()
}
