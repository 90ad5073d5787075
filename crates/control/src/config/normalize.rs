//! Zero values are the same as absent fields, since clients in Go write them for
//! everything that was not set; and defaults that are shown to clients.

use model::size::Size;
use wire::machines::{Check, Concurrency, Container, MachineConfig, Service, Span};

/// Removes zero values, and fills in what has one meaning only.
pub fn normalize(config: &mut MachineConfig) {
    drop_empty(&mut config.size);
    drop_empty(&mut config.schedule);
    if let Some(options) = &mut config.schedule_options {
        drop_empty(&mut options.timezone);
        drop_empty(&mut options.overlap);
        drop_empty(&mut options.misfire);
    }
    if let Some(guest) = &mut config.guest {
        drop_empty(&mut guest.cpu_kind);
        drop_empty(&mut guest.persist_rootfs);
        drop_zero(&mut guest.cpus);
        drop_zero(&mut guest.memory_mb);
        let nothing = guest.cpu_kind.is_none() && guest.cpus.is_none() && guest.memory_mb.is_none();
        if nothing && config.size.is_some() {
            config.guest = None;
        }
    }
    if let Some(restart) = &mut config.restart {
        drop_empty(&mut restart.policy);
    }
    if let Some(stop) = &mut config.stop_config {
        drop_empty(&mut stop.signal);
        drop_blank(&mut stop.timeout);
    }
    if let Some(rootfs) = &mut config.rootfs {
        drop_empty(&mut rootfs.persist);
        drop_zero(&mut rootfs.size_gb);
    }
    for container in config.containers.iter_mut().flatten() {
        normalize_container(container);
    }
    for check in config.checks.iter_mut().flat_map(|checks| checks.values_mut()) {
        normalize_check(check);
    }
    config.services.iter_mut().flatten().for_each(normalize_service);
    let first = config.services.iter().flatten().find_map(|service| service.internal_port);
    for check in config.checks.iter_mut().flat_map(|checks| checks.values_mut()) {
        if check.kind.as_deref() != Some("script") {
            check.port = check.port.or(first);
        }
    }
}

fn normalize_container(container: &mut Container) {
    for text in [&mut container.image, &mut container.user] {
        drop_empty(text);
    }
    if let Some(restart) = &mut container.restart {
        drop_empty(&mut restart.policy);
    }
    if let Some(stop) = &mut container.stop {
        drop_empty(&mut stop.signal);
        drop_blank(&mut stop.timeout);
    }
    for dependency in container.depends_on.iter_mut().flatten() {
        drop_empty(&mut dependency.condition);
    }
    for check in container.healthchecks.iter_mut().flatten() {
        drop_empty(&mut check.kind);
        drop_empty(&mut check.unhealthy);
        for seconds in [&mut check.interval, &mut check.timeout, &mut check.grace_period] {
            drop_zero(seconds);
        }
        drop_zero(&mut check.success_threshold);
        drop_zero(&mut check.failure_threshold);
    }
}

fn normalize_service(service: &mut Service) {
    drop_empty(&mut service.protocol);
    service.protocol.get_or_insert_with(|| "tcp".into());
    for port in service.ports.iter_mut().flatten() {
        drop_zero(&mut port.start_port);
        drop_zero(&mut port.end_port);
        if port.start_port.is_some() {
            drop_zero(&mut port.port);
        }
    }
    if let Some(Concurrency { kind, soft_limit, hard_limit, extra }) = &mut service.concurrency {
        drop_empty(kind);
        drop_zero(soft_limit);
        drop_zero(hard_limit);
        if kind.is_none() && soft_limit.is_none() && hard_limit.is_none() && extra.is_empty() {
            service.concurrency = None;
        }
    }
    for check in service.checks.iter_mut().flatten() {
        normalize_check(check);
        if check.kind.as_deref() != Some("script") {
            check.port = check.port.or(service.internal_port);
        }
    }
}

fn normalize_check(check: &mut Check) {
    drop_zero(&mut check.port);
    for text in [&mut check.method, &mut check.path, &mut check.protocol, &mut check.purpose] {
        drop_empty(text);
    }
    for span in [&mut check.interval, &mut check.timeout, &mut check.grace_period] {
        drop_blank(span);
    }
    drop_empty(&mut check.tls_server_name);
    drop_zero(&mut check.success_threshold);
    drop_zero(&mut check.failure_threshold);
    check.command.take_if(|command| command.is_empty());
    check.headers.take_if(|headers| headers.is_empty());
}

fn drop_empty(text: &mut Option<String>) {
    text.take_if(|text| text.is_empty());
}

fn drop_zero<N: Default + PartialEq>(number: &mut Option<N>) {
    number.take_if(|number| *number == N::default());
}

fn drop_blank(span: &mut Option<Span>) {
    span.take_if(|span| matches!(span, Span::Text(text) if text.is_empty()));
}

/// Expands `size` and fills in the defaults that are shown to clients. Only
/// for configs that [`super::check`] accepts.
pub fn complete(config: &mut MachineConfig) {
    let preset = config.size.take().and_then(|name| Size::preset(&name));
    let guest = config.guest.get_or_insert_default();
    let given = Size::new(guest.cpu_kind.as_deref(), guest.cpus, guest.memory_mb);
    let size = preset.or(given.ok()).unwrap_or(Size::DEFAULT);
    guest.cpu_kind = Some(size.kind.as_str().into());
    guest.cpus = Some(size.cpus);
    guest.memory_mb = Some(size.memory_mb);
    // Clients rely on it being there.
    config.init.get_or_insert_default();
}
