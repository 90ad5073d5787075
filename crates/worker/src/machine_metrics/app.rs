//! Metrics that an app offers in the text format of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Labels that name the machine are the platform's: those of the app by the same names
//! are dropped, and so are families whose names belong to the platform.

use super::families::{Families, Labels};

/// Labels that only the platform sets.
const OWN: [&str; 4] = ["app", "region", "host", "instance"];
/// Families of the platform.
const RESERVED: [&str; 2] = ["fly_", "updraft_"];
/// Samples of one app; more are dropped.
const MAX_SAMPLES: usize = 20_000;
const MAX_NAME: usize = 256;
const MAX_LABELS: usize = 64;

/// Adds the samples of an app's answer. A line that is none is left out.
pub(super) fn add(families: &mut Families, machine: &Labels, text: &str) {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for sample in lines.filter_map(parse).take(MAX_SAMPLES) {
        families.add(sample.name, &[machine, &sample.labels], sample.value);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Sample<'a> {
    name: &'a str,
    labels: Labels,
    value: &'a str,
}

fn parse(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    let end = line.find(|c: char| !is_name(c, true)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let reserved = RESERVED.iter().any(|prefix| name.starts_with(prefix));
    if !is_valid(name, true) || reserved {
        return None;
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    // A time may follow, which is that of the reader here.
    let value = rest.split_ascii_whitespace().next()?;
    let number: f64 = value.parse().ok()?;
    // `parse` takes words that the format does not have.
    let plain = number.is_finite() || ["NaN", "+Inf", "-Inf"].contains(&value);
    plain.then_some(Sample { name, labels, value })
}

/// The labels up to the closing brace, and the rest of the line.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let name = name.trim_end();
        let (value, rest) = quoted(rest.trim_start())?;
        if !is_valid(name, false) || labels.len() == MAX_LABELS {
            return None;
        }
        let known = labels.iter().any(|(earlier, _)| earlier == name);
        if !known && !OWN.contains(&name) {
            labels.push((name.to_owned(), value));
        }
        text = rest;
    }
}

/// A text in quotes with its escapes resolved, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inside[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

fn is_name(c: char, colon: bool) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':')
}

fn is_valid(name: &str, colon: bool) -> bool {
    let begins = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    begins && name.len() <= MAX_NAME && name.chars().all(|c| is_name(c, colon))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_metrics::families::label;

    #[test]
    fn an_apps_metrics_get_the_labels_of_the_machine() {
        let mut families = Families::default();
        let answer = "# HELP jobs Jobs\n# TYPE jobs counter\njobs_total{queue=\"a\\\"b\",app=\"evil\"} 3 1700\n\
                      up 1\n  spaced { x = \"1\" , y=\"2\", } +Inf\nfly_instance_up 7\nupdraft_x 1\n\
                      9bad 1\nbad{x=1} 2\nbad{x=\"1\" 2\nnone\nword abc\ninfinity inf\n# EOF\n";
        add(&mut families, &vec![label("app", "web")], answer);
        expect_test::expect![[r#"
            # TYPE jobs_total unknown
            jobs_total{app="web",queue="a\"b"} 3
            # TYPE spaced unknown
            spaced{app="web",x="1",y="2"} +Inf
            # TYPE up unknown
            up{app="web"} 1
        "#]]
        .assert_eq(&families.text());
    }
}
