//! What is meant: every key with its default and bounds.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use amop_protocol::certificate::MAX_NAME_BYTES;
use tracing_subscriber::filter::LevelFilter;

use super::{
    Admin, Certificates, ClientPort, Collector, Config, Delivery, Limits, Listener, Log, LogFormat, Node,
    Overlay, Problem, Show, Shutdown, Trace,
    file::{Document, Section, Values},
    setting::{Bandwidth, Size, Switch},
};
use crate::{
    identity::{Agency, Clients, FiscoKind, FiscoPaths, Paths},
    telemetry::{logging, otlp::Endpoint},
};

/// A configuration, and what was wrong with the text it came from.
pub(super) struct Resolved {
    pub(super) config: Config,
    pub(super) problems: Vec<Problem>,
}

/// Reads `text`; relative paths in it are relative to `directory`.
pub(super) fn resolve(text: &str, directory: &Path) -> Result<Resolved, Problem> {
    Ok(resolve_document(Document::parse(text)?, directory))
}

/// What an empty file means.
pub(super) fn defaults(directory: &Path) -> Config {
    resolve_document(Document::empty(), directory).config
}

fn resolve_document(mut document: Document, directory: &Path) -> Resolved {
    let mut client_port = client_port(&mut document);
    for kind in [FiscoKind::Rsa, FiscoKind::Ec] {
        client_port.listeners.extend(fisco_listener(&mut document, directory, kind));
    }
    if client_port.listeners.is_empty() {
        document.problem(
            "client_port.listen is \"off\", and so are [fisco_rsa] and [fisco_ec]: no client could connect; \
             set listen in one of them"
                .to_owned(),
        );
    }
    let mut config = Config {
        node: node(&mut document, directory),
        client_port,
        overlay: overlay(&mut document),
        delivery: delivery(&mut document),
        limits: limits(&mut document),
        trace: trace(&mut document, directory),
        admin: admin(&mut document, directory),
        log: log(&mut document),
        shutdown: shutdown(&mut document),
        file: None,
        values: Values::default(),
    };
    check_ports(&config, &mut document);
    let (values, problems) = document.finish();
    config.values = values;
    Resolved { config, problems }
}

fn node(document: &mut Document, directory: &Path) -> Node {
    let mut section = document.section("node");
    let name: Option<String> = section.optional("name");
    if name.as_ref().is_some_and(|name| name.len() > 64 || name.contains(char::is_control)) {
        section.problem("name", "must be at most 64 bytes of text without control characters");
    }
    let mut path = |key, default: &str| directory.join(section.get(key, PathBuf::from(default)));
    let (ca, cert, key) = (path("ca", "ca.crt"), path("cert", "node.crt"), path("key", "node.key"));
    let crl = files(directory, section.get("crl", Vec::new()));
    let mut expiry_warnings: Vec<usize> = section.get("expiry_warnings", vec![30, 14, 7, 1]);
    if expiry_warnings.len() > 16 || expiry_warnings.iter().any(|days| *days > 3650) {
        section.problem("expiry_warnings", "must be at most 16 numbers of days, each at most 3650");
    }
    expiry_warnings.sort_unstable();
    section.finish();
    Node { name, paths: Paths { ca, cert, key, crl }, expiry_warnings }
}

fn client_port(document: &mut Document) -> ClientPort {
    let mut section = document.section("client_port");
    let listen = section.get("listen", Switch::On(any(20200)));
    let clients = match section.get("same_institution_only", false) {
        true => Clients::OfOwnInstitution,
        false => Clients::OfConsortium,
    };
    let mut groups: Vec<u32> = Vec::new();
    for group in section.get("groups", vec![1]) {
        match group {
            1 if groups.is_empty() => groups.push(1),
            _ => section
                .problem("groups", "must be [] or [1]: there is no chain, and group 1 stands in for one"),
        }
    }
    let config = ClientPort {
        listeners: listen
            .on()
            .map(|listen| Listener { listen, certificates: Certificates::Consortium(clients) })
            .into_iter()
            .collect(),
        groups,
        max_clients: section.within("max_clients", 4096, 1, 1_000_000),
        max_topics_per_client: section.within("max_topics_per_client", 10_000, 1, 1_000_000),
        max_topics: section.within("max_topics", 100_000, 1, 100_000),
        max_in_flight: section.within("max_in_flight", 1024, 1, 1_000_000),
        queue_bytes: section.within("queue", mib(16), Size(1 << 16), mib(4096)).0,
        partial_frame_bytes: section.within("partial_frames", mib(256), mib(1), mib(65_536)).0,
        max_handshakes: section.within("max_handshakes", 256, 1, 100_000),
        handshake_timeout: section.within("handshake_timeout", secs(5), millis(100), secs(60)),
        idle_timeout: section.within("idle_timeout", secs(90), secs(15), secs(86_400)),
    };
    section.finish();
    config
}

/// `[fisco_rsa]` or `[fisco_ec]`: a further listener, if it is switched on.
fn fisco_listener(document: &mut Document, directory: &Path, kind: FiscoKind) -> Option<Listener> {
    let folder = kind.profile().as_str();
    let mut section = document.section(section_of(kind));
    let listen = section.get("listen", Switch::Off);
    let mut path = |key, file: &str| directory.join(section.get(key, Path::new(folder).join(file)));
    let (ca, cert, key) = (path("ca", "ca.crt"), path("cert", "node.crt"), path("key", "node.key"));
    let crl = files(directory, section.get("crl", Vec::new()));
    let mut agencies: Vec<Agency> = section.get("agencies", Vec::new());
    for agency in &mut agencies {
        agency.ca = directory.join(&agency.ca);
    }
    section.finish();
    let paths = FiscoPaths { kind, ca, cert, key, crl, agencies };
    listen.on().map(|listen| Listener { listen, certificates: Certificates::Fisco(paths) })
}

/// Paths as they are written, relative to `directory`.
fn files(directory: &Path, written: Vec<PathBuf>) -> Vec<PathBuf> {
    written.into_iter().map(|path| directory.join(path)).collect()
}

const fn section_of(kind: FiscoKind) -> &'static str {
    match kind {
        FiscoKind::Rsa => "fisco_rsa",
        FiscoKind::Ec => "fisco_ec",
    }
}

fn overlay(document: &mut Document) -> Overlay {
    let mut section = document.section("overlay");
    let config = Overlay {
        listen: section.get("listen", any(30300)),
        advertise: section.optional("advertise"),
        peers: section.get("peers", Vec::new()),
        allow: section.get("allow", Vec::new()),
        deny: section.get("deny", Vec::new()),
        max_connections: section.within("max_connections", 256, 1, 10_000),
        max_nodes: section.within("max_nodes", 1024, 2, 100_000),
        link_queue_bytes: section.within("link_queue", mib(64), mib(1), mib(4096)).0,
        partial_frame_bytes: section.within("partial_frames", mib(512), mib(1), mib(65_536)).0,
    };
    if let Some(peer) = config.peers.iter().find(|peer| peer.port() == 0 || peer.ip().is_unspecified()) {
        section.problem("peers", format!("{peer} is no address that can be dialled"));
    }
    if config.advertise.is_some_and(|a| a.port() == 0 || a.ip().is_unspecified()) {
        section.problem("advertise", "must be an address that other nodes can dial");
    }
    if let Some(id) = config.allow.iter().find(|id| config.deny.contains(id)) {
        section.problem("deny", format!("node {id} is in allow, too; remove it from one of them"));
    }
    section.finish();
    config
}

fn delivery(document: &mut Document) -> Delivery {
    let mut section = document.section("delivery");
    let config = Delivery {
        default_deadline: section.within("default_deadline", secs(30), secs(1), secs(3600)),
        max_deadline: section.within("max_deadline", secs(120), secs(1), secs(3600)),
        path_timeout: section.within("path_timeout", secs(1), millis(50), secs(60)),
        min_push_timeout: section.within("min_push_timeout", secs(1), millis(50), secs(600)),
        max_push_timeout: section.within("max_push_timeout", secs(5), millis(50), secs(600)),
        seen_entries: section.within("seen_entries", 1_000_000, 1000, 100_000_000),
        seen_bytes: section.within("seen_bytes", mib(64), mib(1), mib(65_536)).0,
    };
    if config.default_deadline > config.max_deadline {
        section.problem("default_deadline", "must not be longer than delivery.max_deadline");
    }
    if config.min_push_timeout > config.max_push_timeout {
        section.problem("min_push_timeout", "must not be longer than delivery.max_push_timeout");
    }
    section.finish();
    config
}

fn limits(document: &mut Document) -> Limits {
    let mut section = document.section("limits");
    let mut mbit = |key| section.optional(key).map(|Bandwidth(limit)| limit);
    let limits = Limits {
        outgoing_bandwidth_limit: mbit("outgoing_bandwidth_limit"),
        client_bandwidth_limit: mbit("client_bandwidth_limit"),
        relay_bandwidth_limit: mbit("relay_bandwidth_limit"),
        payload_bytes: section.within("payloads", mib(1024), mib(256), mib(1 << 20)).0,
    };
    section.finish();
    limits
}

fn trace(document: &mut Document, directory: &Path) -> Trace {
    let mut section = document.section("trace");
    let entries = section.within("entries", 131_072, 0, 100_000_000);
    let show = match &*section.get("show", "hops".to_owned()) {
        "nothing" => Show::Nothing,
        "hops" => Show::Hops,
        "all" => Show::All,
        other => {
            section.problem("show", format!("expected \"nothing\", \"hops\" or \"all\", found {other:?}"));
            Show::Nothing
        }
    };
    let otlp = collector(&mut section, directory);
    if otlp.is_some() && entries == 0 {
        section.problem("otlp", "spans are made of the steps that are remembered, and trace.entries is 0");
    }
    section.finish();
    Trace { entries, show, otlp }
}

fn collector(section: &mut Section<'_>, directory: &Path) -> Option<Collector> {
    let endpoint: Option<String> = section.optional("otlp");
    let ca: Option<PathBuf> = section.optional("otlp_ca");
    let endpoint = match endpoint?.parse::<Endpoint>() {
        Ok(endpoint) => endpoint,
        Err(error) => {
            section.problem("otlp", error);
            return None;
        }
    };
    if endpoint.is_https() != ca.is_some() {
        let cause = match ca {
            None => "over https this needs otlp_ca, the file with the CA of the collector's certificate",
            Some(_) => "otlp_ca is for https, and this is http; leave one of them out",
        };
        section.problem("otlp", cause);
        return None;
    }
    Some(Collector { endpoint, ca: ca.map(|ca| directory.join(ca)) })
}

fn admin(document: &mut Document, directory: &Path) -> Admin {
    let mut section = document.section("admin");
    let listen = section.get("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 20300)));
    let token = section.get("token", Switch::On(PathBuf::from("admin.token"))).on();
    let token_for_reads = section.get("token_for_reads", false);
    let clients: Vec<String> = section.get("clients", Vec::new());
    let mut hosts: Vec<String> = section.get("hosts", Vec::new());
    if clients.iter().any(|name| name.len() > MAX_NAME_BYTES || name.contains(char::is_control)) {
        section.problem(
            "clients",
            format!("each must be the name (CN) in a certificate: at most {MAX_NAME_BYTES} bytes of text"),
        );
    }
    if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
        section.problem(
            "hosts",
            format!("{host:?} is no host name; write names such as \"node-1.bank.example\", without port"),
        );
    }
    if token.is_none() && token_for_reads {
        section.problem("token_for_reads", "there is no token: admin.token is \"off\"");
    }
    if token.is_none() && clients.is_empty() && !listen.ip().to_canonical().is_loopback() {
        section.problem(
            "listen",
            format!(
                "{listen} is not on the loopback interface, and nobody could be let in there; set admin.token, or \
                 admin.clients, or listen on 127.0.0.1"
            ),
        );
    }
    hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
    section.finish();
    let token = token.map(|token| directory.join(token));
    Admin { listen, token, token_for_reads, clients, hosts }
}

/// Whether something is a host name, and no address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(good)
    };
    text.len() <= 253 && text.split('.').all(is_label) && text.parse::<Ipv4Addr>().is_err()
}

fn log(document: &mut Document) -> Log {
    let mut section = document.section("log");
    let mut level = section.get("level", "info".to_owned());
    if !is_filter(&level) || logging::parse(&level).is_err() {
        let cause = "expected off, error, warn, info, debug or trace, or a filter such as \"info,amop::overlay=debug\"";
        section.problem("level", format!("{cause}, found {level:?}"));
        level = "info".to_owned();
    }
    let format = match &*section.get("format", "auto".to_owned()) {
        "auto" => LogFormat::Auto,
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => {
            section.problem("format", format!("expected \"auto\", \"text\" or \"json\", found {other:?}"));
            LogFormat::Auto
        }
    };
    section.finish();
    Log { level, format }
}

/// Whether every part is a level, or a target with one; a misspelt level would otherwise pass as a target.
fn is_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let level = part.split_once('=').map_or(part, |(_, level)| level);
        level.trim().parse::<LevelFilter>().is_ok()
    })
}

fn shutdown(document: &mut Document) -> Shutdown {
    let mut section = document.section("shutdown");
    let grace = section.within("grace", secs(5), Duration::ZERO, secs(600));
    section.finish();
    Shutdown { grace }
}

/// Two listeners cannot share a port; better said here than when the second one fails.
fn check_ports(config: &Config, document: &mut Document) {
    let of_clients = config.client_port.listeners.iter().map(|listener| match &listener.certificates {
        Certificates::Consortium(_) => ("client_port", listener.listen),
        Certificates::Fisco(paths) => (section_of(paths.kind), listener.listen),
    });
    let others = [("overlay", config.overlay.listen), ("admin", config.admin.listen)];
    let listeners: Vec<_> = of_clients.chain(others).collect();
    for (at, (name, address)) in listeners.iter().enumerate() {
        for (other, taken) in &listeners[..at] {
            let overlap =
                address.ip() == taken.ip() || address.ip().is_unspecified() || taken.ip().is_unspecified();
            if address.port() != 0 && address.port() == taken.port() && overlap {
                document.problem(format!(
                    "{name}.listen: port {} is that of {other}.listen, too; choose another",
                    taken.port()
                ));
            }
        }
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn mib(mebibytes: usize) -> Size {
    Size(mebibytes << 20)
}
