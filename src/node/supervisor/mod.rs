//! Start order; shutdown order is its handle's.

mod handle;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use amop_protocol::{
    NodeId, Time,
    broker::{
        announce::NodeInfo,
        control::{Control, Me},
        seal::MacSecret,
    },
    wire::{link::LinkFrame, peer::DataError},
};
use bytes::Bytes;
use prometheus_client::registry::Registry as MetricsRegistry;
use rand::Rng;
use tokio::sync::mpsc;

pub use self::handle::{NodeHandle, Report};
use super::{
    broker::NodeBroker,
    certificates::Certificates,
    control,
    core_counters::{ControlCounters, CoreCounters},
    data_path::{self, DataPath},
    endings::Endings,
    gauges::Gauges,
    lifecycle::Lifecycle,
    links::Links,
    metrics::Metrics,
    reload::{self, Parts, Settings},
    sessions::Sessions,
    settings,
    status::Source,
    trace::{self, Arrivals, Desk, Inquiries, Traces},
    trust::Trust,
};
use crate::{
    client_port::{self, ClientPort, Registry},
    config::Config,
    identity::{Credentials, LoadError, Profile},
    overlay::{self, Overlay, Router},
    tasks::Tasks,
    telemetry::{
        admin::{self, Admin, Names},
        metrics,
        status::{Addresses, Listener},
    },
};

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The overlay's port.
    #[error(transparent)]
    Overlay(#[from] overlay::StartError),
    /// The certificates of a client port, or the CA of the collector of traces.
    #[error("{}", sentences(.0))]
    Certificates(Vec<LoadError>),
    /// The configuration switches every client port off.
    #[error("no client port is configured; set client_port.listen, fisco_rsa.listen or fisco_ec.listen")]
    NoListener,
    /// The client port.
    #[error(transparent)]
    ClientPort(#[from] client_port::StartError),
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] admin::StartError),
    /// Started, and ended before it was up.
    #[error("the overlay ended while the node was starting; its log says why")]
    Overtaken,
}

fn sentences(problems: &[LoadError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The overlay's way into the data path.
struct Inbound(Arc<DataPath>);

impl Router for Inbound {
    fn handle_data(&self, from: NodeId, frame: LinkFrame) -> Result<(), DataError> {
        self.0.frame(from, frame)
    }

    fn handle_dropped(&self, _from: NodeId, head: LinkFrame) {
        self.0.dropped(&head);
    }
}

impl Node {
    /// What is found wrong with settings before anything is started.
    ///
    /// # Errors
    /// With what a start would fail of.
    pub fn check(config: &Config) -> Result<(), StartError> {
        Ok(settings::overlay(config).check().map_err(overlay::StartError::from)?)
    }

    /// Starts a node: overlay first, so that topics have somewhere to go, then clients, then the
    /// admin port that says the node is ready.
    ///
    /// # Errors
    /// When a port cannot be had. What was started is stopped.
    pub async fn start(config: Config, credentials: Credentials) -> Result<NodeHandle, StartError> {
        let tasks = Tasks::new();
        let started = start(&tasks, &config, &credentials).await;
        if started.is_err() {
            tasks.finish().await;
        }
        started
    }
}

async fn start(tasks: &Tasks, config: &Config, credentials: &Credentials) -> Result<NodeHandle, StartError> {
    let since = Instant::now();
    let listeners = settings::listeners(config, credentials).map_err(StartError::Certificates)?;
    let profiles: Vec<Profile> = listeners.iter().map(|(_, tls)| tls.profile()).collect();
    let mut registry = metrics::registry();
    let clients = Arc::new(Registry::new(client_port::Metrics::default()));
    clients.metrics().register(&mut registry);
    let links = Arc::new(Links::default());
    let (inquiries, arrivals) =
        trace::channel(trace::Metrics::register(registry.sub_registry_with_prefix("trace")));
    let (core, epoch, data) = core(config, credentials, (&clients, &links, inquiries.clone()), &mut registry);
    let desk = Desk::new(data.clone(), config.trace.show, inquiries);
    let inbound = Arc::new(Inbound(data.clone()));
    let (overlay, events) =
        Overlay::start(tasks, settings::overlay(config), credentials.clone(), epoch, inbound)?;
    overlay.metrics().register(&mut registry);
    let control = start_core(tasks, (core, &data), (&links, &clients), events, &mut registry);
    let told = Arc::new(Settings::new(config));
    let names = Names::new(config.admin.clients.clone(), config.admin.hosts.clone());
    start_traces(tasks, (config, credentials), (&desk, arrivals), (&data, &told), &mut registry)?;
    let overlay_address = overlay.listening().await.ok_or(StartError::Overtaken)?;
    let sessions = Arc::new(Sessions::default());
    let broker = Arc::new(NodeBroker {
        data: data.clone(),
        control: control.clone(),
        sessions: sessions.clone(),
        tasks: tasks.clone(),
    });
    let port = settings::client_port(config, credentials);
    let client_port = ClientPort::start(tasks, port, listeners.clone(), broker, clients.clone());
    let client_port = Arc::new(client_port.await?);
    let lifecycle = Arc::new(Lifecycle::new(config.shutdown.grace));
    let certificates = Arc::new(Certificates::default());
    let parts = Parts {
        credentials: credentials.clone(),
        listeners,
        data: data.clone(),
        control: control.clone(),
        clients: clients.clone(),
        client_port: client_port.clone(),
        overlay: overlay.clone(),
        desk: desk.clone(),
        lifecycle: lifecycle.clone(),
        names: names.clone(),
        settings: told.clone(),
        certificates: certificates.clone(),
        metrics: reload::Metrics::register(&mut registry),
    };
    let reload = reload::start(tasks, config, parts);
    let addresses = addresses(&client_port, profiles, overlay_address)?;
    let source = Source {
        data: data.clone(),
        links,
        overlay: overlay.clone(),
        clients,
        sessions,
        lifecycle: lifecycle.clone(),
        certificates,
        reload: reload.clone(),
        endings: Endings::default(),
        settings: told,
        addresses: addresses.clone(),
        traces: Arc::new(Traces(desk)),
        since,
    };
    let admin = start_admin(config, (credentials, names), registry, source)?;
    let addresses = Addresses { admin: Some(admin.address()), ..addresses };
    log_serving(credentials, &addresses, admin.address());
    Ok(NodeHandle {
        tasks: tasks.clone(),
        data,
        control,
        reload,
        client_port,
        overlay,
        admin: Some(admin),
        addresses,
        lifecycle,
    })
}

fn log_serving(credentials: &Credentials, addresses: &Addresses, admin: SocketAddr) {
    let subject = credentials.subject();
    tracing::info!(name = %subject.name, institution = %subject.institution, node = %credentials.node_key().id(),
        channel = %addresses.channel, overlay = %addresses.overlay, admin = %admin, "serving");
}

/// Has the machines of the core run: what is announced, and what is due.
fn start_core(
    tasks: &Tasks,
    (core, data): (Control, &Arc<DataPath>),
    (links, clients): (&Arc<Links>, &Arc<Registry>),
    events: mpsc::Receiver<overlay::Event>,
    registry: &mut MetricsRegistry,
) -> control::Handle {
    let counters = ControlCounters::default();
    registry.register_collector(Box::new(CoreCounters { data: data.clone(), control: counters.clone() }));
    let (control, task) = control::new(core, data.clone(), links.clone(), clients.clone(), counters, events);
    tasks.spawn_vital("control", task.run(tasks.clone()));
    tasks.spawn_vital("timers", data.clone().run_timers(tasks.clone()));
    control
}

/// What became of messages: for whoever asks, and for a collector if there is one.
fn start_traces(
    tasks: &Tasks,
    (config, credentials): (&Config, &Credentials),
    (desk, arrivals): (&Arc<Desk>, Arrivals),
    (data, told): (&Arc<DataPath>, &Arc<Settings>),
    registry: &mut MetricsRegistry,
) -> Result<(), StartError> {
    tasks.spawn_vital("trace", desk.clone().run(arrivals, tasks.clone()));
    let registry = registry.sub_registry_with_prefix("otlp");
    trace::export::start(tasks, config, credentials, (data, told), registry)
        .map_err(|of_ca| StartError::Certificates(vec![of_ca]))
}

/// Where the node is reached, but for its admin port, which comes last.
fn addresses(
    client_port: &ClientPort,
    profiles: Vec<Profile>,
    overlay: SocketAddr,
) -> Result<Addresses, StartError> {
    let listeners = client_port.addresses().iter().zip(profiles);
    let listeners: Vec<_> = listeners
        .map(|(address, profile)| Listener { address: *address, profile: profile.to_string() })
        .collect();
    let channel = listeners.first().ok_or(StartError::NoListener)?.address;
    Ok(Addresses { channel, listeners, overlay, admin: None })
}

fn start_admin(
    config: &Config,
    (credentials, names): (&Credentials, Names),
    mut registry: MetricsRegistry,
    mut source: Source,
) -> Result<Admin, StartError> {
    // With port 0 configured only the kernel knows; then the status does not name its own port.
    source.addresses.admin = Some(config.admin.listen).filter(|address| address.port() != 0);
    let settings = settings::admin(config, credentials, names).map_err(admin::StartError::from)?;
    let source = Arc::new(source);
    registry.register_collector(Box::new(Gauges::new(source.clone())));
    Ok(Admin::start(settings, registry, source.clone(), source)?)
}

/// The machines of the core, and the data path around one of them.
fn core(
    config: &Config,
    credentials: &Credentials,
    (clients, links, inquiries): (&Arc<Registry>, &Arc<Links>, Inquiries),
    registry: &mut MetricsRegistry,
) -> (Control, u64, Arc<DataPath>) {
    let mut random = rand::rng();
    let epoch = microseconds_now();
    let subject = credentials.subject();
    let info = NodeInfo {
        key: credentials.node_key(),
        name: settings::name(config, subject).into(),
        institution: subject.institution.clone(),
    };
    let chain = credentials.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
    let address = settings::advertised(config).to_string().into();
    let mut secret = [0; 32];
    random.fill_bytes(&mut secret);
    let me = Me { info, chain, address, epoch, mac: MacSecret::new(secret) };
    let trust = Box::new(Trust::new(credentials.clone()));
    let control = Control::new(settings::control(config), me, random.next_u64(), trust, Time::ZERO);
    let metrics = Metrics::register(registry.sub_registry_with_prefix("delivery"));
    let settings = data_path::Settings {
        bounds: settings::data_path(config),
        spread: random.next_u64(),
        incarnation: random.next_u64(),
        secret: [random.next_u64(), random.next_u64()],
        inquiries,
    };
    let data = DataPath::new(settings, control.routing().clone(), clients.clone(), links.clone(), metrics);
    (control, epoch, Arc::new(data))
}

/// Higher at every start, as far as the clock can tell; gossip raises it if the clock was set back.
fn microseconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
