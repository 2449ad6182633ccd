//! The metrics registry. Every name reads `amop_<component>_<what>_<unit>[_total]`.
//!
//! A component registers its documented struct of metrics under its own prefix:
//! `registry.sub_registry_with_prefix("overlay")`.

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::info::Info,
    registry::Registry,
};

use super::{lines, process::Process};

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// A registry with the program's prefix, its version, and what became of its log.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("amop");
    registry.register(
        "build",
        "The running program",
        Info::new(Build { version: env!("CARGO_PKG_VERSION") }),
    );
    registry.register("log_lines_lost", "Log lines that standard error did not take", lines::lost());
    registry.register_collector(Box::new(Process::new()));
    registry
}

/// All metrics as text.
///
/// # Errors
/// When a metric cannot be written, which none of ours does.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    text::encode(&mut out, registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn names_carry_program_and_component() {
        let mut registry = registry();
        let dropped = Counter::<u64>::default();
        registry.sub_registry_with_prefix("overlay").register("frames_dropped", "Dropped", dropped.clone());
        dropped.inc();
        let text = encode(&registry).expect("text");
        assert!(text.contains("amop_overlay_frames_dropped_total 1"), "{text}");
        assert!(text.contains("amop_build_info{version="), "{text}");
    }
}
