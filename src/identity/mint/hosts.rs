//! Hosts that a node's certificate names, for programs that look at them.
//!
//! Nothing of ours does: a node is who its name, role and institution say. But whoever verifies the admin port as web
//! servers are, Prometheus among them, wants the name or address that it asks in the certificate.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use rcgen::SanType;
use rustls_pki_types::{CertificateDer, DnsName};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::MintError;

/// A name or an address of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// As DNS knows it.
    Name(DnsName<'static>),
    /// IPv4 or IPv6.
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = MintError;

    fn from_str(text: &str) -> Result<Self, MintError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let name = DnsName::try_from(text.to_owned());
        name.map(Self::Name).map_err(|_| MintError::Host(text.to_owned()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_ref()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The hosts that a certificate names.
pub fn of(der: &CertificateDer<'_>) -> Vec<Host> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let names = certificate.subject_alternative_name().ok().flatten();
    names.iter().flat_map(|names| &names.value.general_names).filter_map(host).collect()
}

fn host(name: &GeneralName<'_>) -> Option<Host> {
    match name {
        GeneralName::DNSName(name) => DnsName::try_from((*name).to_owned()).ok().map(Host::Name),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|octets| Ipv4Addr::from(octets).into());
            let v6 = || <[u8; 16]>::try_from(*bytes).map(|octets| Ipv6Addr::from(octets).into());
            v4.or_else(|_| v6()).ok().map(Host::Address)
        }
        _ => None,
    }
}

/// The same, to be put into a certificate.
pub(super) fn alternative_names(hosts: &[Host]) -> Result<Vec<SanType>, MintError> {
    let name = |host: &Host| match host {
        Host::Name(name) => Ok(SanType::DnsName(name.as_ref().to_owned().try_into()?)),
        Host::Address(address) => Ok(SanType::IpAddress(*address)),
    };
    hosts.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::Ca, *};
    use crate::identity::Role;

    #[test]
    fn hosts_are_read_as_they_were_given() {
        let given = ["node-1.bank-a.example", "localhost", "192.0.2.7", "2001:db8::7"];
        let hosts = given.map(|host| host.parse().unwrap());
        let bank = Ca::consortium("trade", 9).unwrap().institution("bank-a", 9).unwrap();
        let leaf = bank.leaf_at(Role::Node, "node-1", &hosts, 9).unwrap();
        let found = of(&leaf.chain()[0]);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), given);
        // What is renewed keeps them, unless others are given.
        let renewed = bank.renew(&leaf.chain()[0], 9).unwrap();
        assert_eq!(of(&renewed[0]), hosts);
        let moved = bank.renew_at(&leaf.chain()[0], &hosts[..1], 9).unwrap();
        assert_eq!(of(&moved[0]), hosts[..1]);
        assert_eq!(of(&bank.leaf(Role::Node, "node-1", 9).unwrap().chain()[0]), []);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in
            ["", "a b", "node-1:20300", "https://node-1", "*.example", "[::1]", "bücher.example", "a..b"]
        {
            let error = text.parse::<Host>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{text}: {error}");
        }
    }
}
