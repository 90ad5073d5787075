//! Validation of `depends_on`: what containers wait for can be met.

use crate::config::validation::{ValidationErrors, quote};
use std::collections::BTreeMap;
use wire::machines::{Container, ContainerDependency};

pub(super) fn check(errors: &mut ValidationErrors, containers: &[Container]) {
    let places: BTreeMap<&str, usize> =
        containers.iter().enumerate().map(|(i, container)| (container.name.as_str(), i)).collect();
    for (i, container) in containers.iter().enumerate() {
        let mut named = Vec::new();
        for (j, dependency) in container.depends_on.iter().flatten().enumerate() {
            let at = format!("config.containers[{i}].depends_on[{j}]");
            let name = dependency.name.as_str();
            let other = places.get(name).and_then(|&place| containers.get(place));
            match other {
                None => {
                    let rule = format!("must be the name of a container, not {}", quote(name));
                    errors.add(format!("{at}.name"), rule);
                }
                Some(_) if named.contains(&name) => {
                    errors.add(format!("{at}.name"), "is named twice");
                }
                Some(other) => condition(errors, &at, dependency, other),
            }
            named.push(name);
        }
    }
    if let Some(cycle) = cycle(containers, &places) {
        let names: Vec<&str> = cycle.iter().map(|&place| containers[place].name.as_str()).collect();
        let first = cycle.first().copied().unwrap_or(0);
        let rule = format!("must not be a cycle: {}", names.join(" -> "));
        errors.add(format!("config.containers[{first}].depends_on"), rule);
    }
}

fn condition(
    errors: &mut ValidationErrors,
    at: &str,
    dependency: &ContainerDependency,
    other: &Container,
) {
    let field = format!("{at}.condition");
    let condition = dependency.condition.as_deref().filter(|condition| !condition.is_empty());
    errors.one_of(&field, condition, &["started", "healthy", "exited_successfully"]);
    let name = &other.name;
    let checks = other.healthchecks.as_ref().is_some_and(|checks| !checks.is_empty());
    let policy = other.restart.as_ref().and_then(|restart| restart.policy.as_deref());
    match condition {
        Some("healthy") if !checks => {
            errors.add(field, format!("cannot be met: container {name} has no healthchecks"));
        }
        Some("exited_successfully") if policy == Some("always") => {
            errors.add(field, format!("cannot be met: container {name} is restarted always"));
        }
        _ => {}
    }
}

/// The places of a cycle, its first container again at the end.
fn cycle(containers: &[Container], places: &BTreeMap<&str, usize>) -> Option<Vec<usize>> {
    let mut done = vec![false; containers.len()];
    for start in 0..containers.len() {
        // The path to the present container, each with the dependencies that are left.
        let mut path: Vec<(usize, Vec<usize>)> = vec![(start, next(containers, places, start))];
        while let Some((_, left)) = path.last_mut() {
            let Some(to) = left.pop() else {
                done[path.pop()?.0] = true;
                continue;
            };
            if let Some(begin) = path.iter().position(|(place, _)| *place == to) {
                let mut cycle: Vec<usize> = path[begin..].iter().map(|(place, _)| *place).collect();
                cycle.push(to);
                return Some(cycle);
            }
            if !done[to] {
                path.push((to, next(containers, places, to)));
            }
        }
    }
    None
}

fn next(containers: &[Container], places: &BTreeMap<&str, usize>, place: usize) -> Vec<usize> {
    let names = containers[place].depends_on.iter().flatten();
    names.filter_map(|dependency| places.get(dependency.name.as_str()).copied()).collect()
}
