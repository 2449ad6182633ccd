//! Where a collector takes traces.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::Uri;

/// The address of a collector, to which something may be exported: over TLS, or on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    is_https: bool,
    host: String,
    port: u16,
    path: String,
}

/// An address that no traces are exported to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is none.
    #[error(
        "expected the address at which a collector takes traces, such as \"http://127.0.0.1:4318/v1/traces\""
    )]
    Malformed,
    /// It holds a name or a password, which is not shown again.
    #[error(
        "names, passwords, queries and fragments do not belong into it; a collector on this machine can add what a farther one wants to see"
    )]
    Credentials,
    /// It names no place at the collector.
    #[error("it has no path; collectors take traces at /v1/traces")]
    NoPath,
    /// Others could read along.
    #[error(
        "{0} is not on the loopback interface, and over http everybody on the way could read along; use https with trace.otlp_ca, or export to a collector on this machine"
    )]
    Clear(String),
}

impl Endpoint {
    /// Whether it is asked over TLS.
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    /// Name or address; an IPv6 address has no brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Host and port, as HTTP has them.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.contains(['@', '?', '#']) {
            return Err(EndpointError::Credentials);
        }
        let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(EndpointError::Malformed),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(EndpointError::Malformed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        // A port that is none would be taken for an absent one.
        let has_port = uri.authority().map(|whole| whole.as_str().len()) != uri.host().map(str::len);
        let port = match uri.port_u16() {
            Some(port) if port > 0 => port,
            None if !has_port => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            _ => return Err(EndpointError::Malformed),
        };
        if uri.path() == "/" {
            return Err(EndpointError::NoPath);
        }
        if !is_https && !is_here(&host) {
            return Err(EndpointError::Clear(host));
        }
        Ok(Self { is_https, host, port, path: uri.path().to_owned() })
    }
}

/// Whether that is this very machine. What `localhost` stands for is looked at when it is connected to.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_exported_to() {
        for (text, shown) in [
            ("http://127.0.0.1:4318/v1/traces", None),
            ("http://localhost:4318/v1/traces", None),
            ("http://LocalHost/v1/traces", Some("http://localhost:80/v1/traces")),
            ("http://[::1]:4318/v1/traces", None),
            ("http://[::ffff:127.0.0.1]:1/v1/traces", None),
            (
                "https://collector.bank.example/v1/traces",
                Some("https://collector.bank.example:443/v1/traces"),
            ),
            ("https://10.0.0.7:4318/otlp/v1/traces", None),
        ] {
            let endpoint: Endpoint = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(endpoint.to_string(), shown.unwrap_or(text));
        }
    }

    #[test]
    fn addresses_that_are_refused() {
        let check =
            |text: &str, wrong: EndpointError| assert_eq!(text.parse::<Endpoint>(), Err(wrong), "{text}");
        for text in
            ["", "collector", "127.0.0.1:4318", "/v1/traces", "ftp://127.0.0.1/v1/traces", "grpc://x:4317/x"]
        {
            check(text, EndpointError::Malformed);
        }
        for text in ["http://127.0.0.1:0/x", "http://127.0.0.1:99999/x", "http://127.0.0.1:/x", "http:///x"] {
            check(text, EndpointError::Malformed);
        }
        for text in ["http://127.0.0.1:4318", "https://collector.example/"] {
            check(text, EndpointError::NoPath);
        }
        for text in ["http://me:secret@127.0.0.1/x", "http://127.0.0.1/x?key=secret", "http://127.0.0.1/x#y"]
        {
            check(text, EndpointError::Credentials);
        }
        for host in ["10.0.0.7", "collector.example", "0.0.0.0", "localhost.example", "127.0.0.1.example"] {
            check(&format!("http://{host}:4318/v1/traces"), EndpointError::Clear(host.into()));
        }
    }
}
