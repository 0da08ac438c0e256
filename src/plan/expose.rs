use std::net::IpAddr;

/// Why a port is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortError {
    #[error("`{0}` has no port")]
    NoPort(String),
    #[error("`{0}` is not a protocol: tcp, udp or sctp")]
    Protocol(String),
    #[error("`{0}` is not a port or a range of ports, each at most 65535")]
    Port(String),
    #[error("`{0}` is not an address")]
    Address(String),
    #[error("the ranges `{0}` and `{1}` have different lengths")]
    Lengths(String, String),
}

/// Returns the ports that `spec` names, "80/tcp" and so on: `port`, `first-last`, either with `/protocol`. What stands in
/// front with a colon, as for `docker run -p`, is checked and dropped.
pub(super) fn ports(spec: &str) -> Result<Vec<String>, PortError> {
    let (front, container) = spec.rsplit_once(':').unwrap_or(("", spec));
    let (address, host) = front.rsplit_once(':').unwrap_or(("", front));
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(PortError::NoPort(spec.into()));
    }
    let protocol = match protocol.to_ascii_lowercase() {
        none if none.is_empty() => "tcp".into(),
        known if matches!(known.as_str(), "tcp" | "udp" | "sctp") => known,
        _ => return Err(PortError::Protocol(protocol.into())),
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(PortError::Address(address.into()));
    }
    let (first, last) = port_range(range)?;
    if !host.is_empty() {
        let (host_first, host_last) = port_range(host)?;
        if last - first != host_last - host_first && first != last {
            return Err(PortError::Lengths(range.into(), host.into()));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn port_range(text: &str) -> Result<(u16, u16), PortError> {
    let bad = || PortError::Port(text.into());
    let port = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| bad()),
        false => Err(bad()),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok((first, last)) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_protocol_and_a_range_is_all_of_its_ports() {
        for (spec, expected) in [
            ("80", &["80/tcp"][..]),
            ("80/", &["80/tcp"]),
            ("53/UDP", &["53/udp"]),
            ("8000-8002", &["8000/tcp", "8001/tcp", "8002/tcp"]),
            ("7-8/sctp", &["7/sctp", "8/sctp"]),
            ("8080:80", &["80/tcp"]),
            ("127.0.0.1:8080:80", &["80/tcp"]),
            ("[::1]:8080:80", &["80/tcp"]),
            ("8000-9000:80", &["80/tcp"]),
            ("0", &["0/tcp"]),
        ] {
            assert_eq!(ports(spec).unwrap(), expected, "{spec}");
        }
        assert_eq!(ports("0-65535").unwrap().len(), 65536);
    }

    #[test]
    fn what_is_not_a_port_is_refused() {
        for spec in ["/tcp", "80/icmp", "65536", "9-8", "a", "1-2-3", "-1", "+1", "x:1:2", "1-2:1-3", "", "80/tcp/udp"]
        {
            assert!(ports(spec).is_err(), "{spec}");
        }
    }
}
