//! Samples by family, as OpenMetrics text
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use std::collections::BTreeMap;
use std::fmt::Write;

/// Samples of all families: each family is written once, with all of its samples.
#[derive(Debug, Default)]
pub(super) struct Families(BTreeMap<String, Vec<String>>);

/// Labels of a sample, in order.
pub(super) type Labels = Vec<(String, String)>;

impl Families {
    /// Adds a sample. Names of families and labels are valid; values of labels are any text.
    pub(super) fn add(&mut self, family: &str, labels: &[&[(String, String)]], value: &str) {
        let mut sample = String::from(family);
        let all = labels.iter().flat_map(|labels| labels.iter());
        for (index, (name, text)) in all.enumerate() {
            sample.push(if index == 0 { '{' } else { ',' });
            // Writing to a string does not fail.
            let _ = write!(sample, "{name}=\"{}\"", escaped(text));
        }
        if labels.iter().any(|labels| !labels.is_empty()) {
            sample.push('}');
        }
        let _ = write!(sample, " {value}");
        self.0.entry(family.to_owned()).or_default().push(sample);
    }

    /// All families, without the end of the exposition.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (family, samples) in &self.0 {
            // Their names do not follow the suffixes that other types need.
            let _ = writeln!(text, "# TYPE {family} unknown");
            for sample in samples {
                text.push_str(sample);
                text.push('\n');
            }
        }
        text
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out
}

/// One label.
pub(super) fn label(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_once_with_all_samples() {
        let mut families = Families::default();
        families.add("b", &[&[label("x", "1\"\\\n")]], "2");
        families.add("a", &[], "NaN");
        families.add("b", &[&[label("x", 2)], &[label("y", 3)]], "4");
        expect_test::expect![[r#"
            # TYPE a unknown
            a NaN
            # TYPE b unknown
            b{x="1\"\\\n"} 2
            b{x="2",y="3"} 4
        "#]]
        .assert_eq(&families.text());
    }
}
