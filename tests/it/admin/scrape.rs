//! The admin port beyond loopback, asked by a program that verifies hosts as web clients do: what
//! docs/operations.md says of Prometheus.

use std::path::Path;

use amop::identity::pem;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::*;

fn certs(dir: &Path, line: &str) {
    let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
        Some(path) => dir.join(path).into_os_string(),
        None => word.into(),
    });
    let output = Command::new(AMOP).arg("certs").args(words).output().expect("amop starts");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What believes the CAs in a file, and shows a client's certificate if it has one.
fn config(ca: &Path, client: Option<&Path>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let cas: Vec<CertificateDer<'static>> = pem::certificates(ca).expect("certificates");
    cas.into_iter().for_each(|ca| roots.add(ca).expect("a CA"));
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots);
    let Some(client) = client else { return Arc::new(config.with_no_client_auth()) };
    let chain = pem::certificates(&client.join("sdk.crt")).expect("certificates");
    let key = pem::private_key(&client.join("sdk.key")).expect("a key");
    Arc::new(config.with_client_auth_cert(chain, key.into()).expect("a pair"))
}

/// What a node answers to whoever asks it by this name.
async fn scrape(at: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> std::io::Result<String> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}:{}\r\nConnection: close\r\n\r\n", at.port());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_verifies_a_node_whose_certificate_names_its_host() {
    let dir = tempfile::tempdir().expect("a directory");
    let certs = |line: &str| certs(dir.path(), line);
    certs("ca --name trade --out @root");
    for bank in ["bank-a", "bank-b"] {
        certs(&format!("institution --name {bank} --ca @root --out @{bank}"));
        certs(&format!("client --name prometheus --institution @{bank} --out @of-{bank}"));
    }
    certs("node --name node-1 --institution @bank-a --out @node --host 127.0.0.1 --host node-1.example");
    let node = NodeProcess::start(
        &dir.path().join("node"),
        "admin.listen = \"0.0.0.0:0\"\nadmin.clients = [\"prometheus\"]\nadmin.hosts = [\"node-1.example\"]\n",
    );
    let at = SocketAddr::from(([127, 0, 0, 1], node.port("admin").port()));
    let [own, other] = ["bank-a", "bank-b"].map(|bank| dir.path().join(bank).join("institution.crt"));
    let prometheus = config(&own, Some(&dir.path().join("of-bank-a")));
    for host in ["127.0.0.1", "node-1.example"] {
        let page = scrape(at, host, &prometheus).await.expect("an answer");
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("amop_node_ready 1"), "{host}: {page}");
    }
    let nobody = scrape(at, "127.0.0.1", &config(&own, None)).await.expect("an answer");
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    for (config, host, says) in
        [(&prometheus, "localhost", "NotValidForName"), (&config(&other, None), "127.0.0.1", "UnknownIssuer")]
    {
        let refused = scrape(at, host, config).await.expect_err("not this host, or not this bank");
        assert!(format!("{refused:?}").contains(says), "{host}: {refused:?}");
    }
    // As its own namesake of another institution is refused by the node.
    let stranger = config(&own, Some(&dir.path().join("of-bank-b")));
    scrape(at, "127.0.0.1", &stranger).await.expect_err("not of this bank");

    // A node that has no such name yet, or another: the same key, and no restart.
    certs("renew @node/node.crt --institution @bank-a --host localhost");
    send("-HUP", node.child.id());
    wait::until("the new name", async || scrape(at, "localhost", &prometheus).await.is_ok()).await;
}
