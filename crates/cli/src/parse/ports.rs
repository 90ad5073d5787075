//! `-p port[:machinePort][/proto[:handler…]]`.

use wire::machines::{Port, Service};

/// One `-p` flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortChange {
    /// The outside port leads to the machine's port.
    Add {
        /// Outside.
        port: u16,
        /// In the machine.
        internal: u16,
        /// `tcp` or `udp`.
        protocol: String,
        /// In the order TLS first, as the platform writes them.
        handlers: Vec<String>,
    },
    /// The outside port leads nowhere any more.
    Remove {
        /// Outside.
        port: u16,
        /// `tcp` or `udp`.
        protocol: String,
    },
}

const HANDLERS: &[&str] = &["tls", "pg_tls", "proxy_proto", "http"];

/// Parses one flag.
pub(crate) fn parse_port(text: &str) -> Result<PortChange, String> {
    let (ports, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    let (outside, inside) = ports.split_once(':').unwrap_or((ports, ports));
    let (port, internal) = (number(outside)?, number(inside)?);
    let mut words = kind.split(':');
    let protocol = words.next().unwrap_or_default().to_owned();
    if !matches!(protocol.as_str(), "tcp" | "udp") {
        return Err(format!("{protocol:?} is neither tcp nor udp"));
    }
    let mut handlers: Vec<String> = words.map(str::to_owned).collect();
    if handlers == ["-"] {
        return Ok(PortChange::Remove { port, protocol });
    }
    let place = |word: &String| HANDLERS.iter().position(|known| known == word);
    if let Some(unknown) = handlers.iter().find(|word| place(word).is_none()) {
        return Err(format!("{unknown:?} is no handler; there are {}", HANDLERS.join(", ")));
    }
    if protocol == "udp" && !handlers.is_empty() {
        return Err("udp ports have no handlers".to_owned());
    }
    handlers.sort_by_key(place);
    handlers.dedup();
    Ok(PortChange::Add { port, internal, protocol, handlers })
}

fn number(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a port from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

/// Carries out changes on a config's services. A port that led elsewhere moves;
/// a service without ports left is dropped.
pub(crate) fn apply_ports(services: &mut Vec<Service>, changes: &[PortChange]) {
    for change in changes {
        match change {
            PortChange::Remove { port, protocol } => detach(services, *port, protocol),
            PortChange::Add { port, internal, protocol, handlers } => {
                detach(services, *port, protocol);
                let handlers = (!handlers.is_empty()).then(|| handlers.clone());
                let port = Port { port: Some(*port), handlers, ..Port::default() };
                let same = services.iter_mut().find(|service| {
                    service.internal_port == Some(*internal) && has_protocol(service, protocol)
                });
                match same {
                    Some(service) => service.ports.get_or_insert_default().push(port),
                    None => services.push(Service {
                        protocol: Some(protocol.clone()),
                        internal_port: Some(*internal),
                        ports: Some(vec![port]),
                        ..Service::default()
                    }),
                }
            }
        }
    }
    // Last, so that a port that moves within a service keeps its settings.
    services.retain(|service| service.ports.as_ref().is_none_or(|ports| !ports.is_empty()));
}

fn detach(services: &mut [Service], port: u16, protocol: &str) {
    for service in services.iter_mut().filter(|service| has_protocol(service, protocol)) {
        if let Some(ports) = &mut service.ports {
            ports.retain(|has| has.port != Some(port));
        }
    }
}

fn has_protocol(service: &Service, protocol: &str) -> bool {
    service.protocol.as_deref().unwrap_or("tcp") == protocol
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_by_the_table() {
        let show = |text| match parse_port(text) {
            Ok(PortChange::Add { port, internal, protocol, handlers }) => {
                format!("{port}->{internal} {protocol} {}", handlers.join("+"))
            }
            Ok(PortChange::Remove { port, protocol }) => format!("-{port} {protocol}"),
            Err(why) => why,
        };
        for (text, means) in [
            ("80", "80->80 tcp "),
            ("80:8080", "80->8080 tcp "),
            ("80:8080/tcp:http", "80->8080 tcp http"),
            ("443:80/tcp:http:tls", "443->80 tcp tls+http"),
            ("443:80/tcp:tls:http:tls", "443->80 tcp tls+http"),
            ("5432/tcp:pg_tls", "5432->5432 tcp pg_tls"),
            ("53/udp", "53->53 udp "),
            ("80/tcp:-", "-80 tcp"),
            ("53/udp:-", "-53 udp"),
            ("0", "\"0\" is not a port from 1 to 65535"),
            ("70000", "\"70000\" is not a port from 1 to 65535"),
            ("", "\"\" is not a port from 1 to 65535"),
            ("80:x", "\"x\" is not a port from 1 to 65535"),
            ("80/sctp", "\"sctp\" is neither tcp nor udp"),
            ("80/tcp:gopher", "\"gopher\" is no handler; there are tls, pg_tls, proxy_proto, http"),
            ("53/udp:http", "udp ports have no handlers"),
        ] {
            assert_eq!(show(text), means, "{text}");
        }
    }

    #[test]
    fn changes_merge_move_and_remove() {
        let mut services = Vec::new();
        let mut run = |flags: &[&str]| {
            let changes: Vec<_> = flags.iter().map(|f| parse_port(f).unwrap()).collect();
            apply_ports(&mut services, &changes);
            let show = |s: &Service| {
                let ports = s.ports.iter().flatten().filter_map(|p| p.port);
                let ports: Vec<_> = ports.map(|p| p.to_string()).collect();
                format!("{}:{}", ports.join(","), s.internal_port.unwrap_or(0))
            };
            services.iter().map(show).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            run(&["80:8080/tcp:http", "443:8080/tcp:tls:http", "53/udp"]),
            "80,443:8080 53:53"
        );
        assert_eq!(run(&["443:9090/tcp:tls"]), "80:8080 53:53 443:9090");
        assert_eq!(run(&["80/tcp:-", "53/tcp:-"]), "53:53 443:9090");
    }
}
