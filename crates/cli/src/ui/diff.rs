//! The changes of an update, as lines.

use serde::Serialize;

/// Lines of context around a change.
const CONTEXT: usize = 3;
/// Configs are small; a longer diff is not shown line by line.
const LINES: usize = 5000;

/// The difference of two values as indented JSON; `None` if there is none.
pub(crate) fn json<T: Serialize>(old: &T, new: &T) -> Option<String> {
    // Values first: their maps are ordered, and what is equal stays silent.
    let old = serde_json::to_value(old).ok()?;
    let new = serde_json::to_value(new).ok()?;
    if old == new {
        return None;
    }
    let old = serde_json::to_string_pretty(&old).ok()?;
    let new = serde_json::to_string_pretty(&new).ok()?;
    Some(lines(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>()))
}

fn lines(old: &[&str], new: &[&str]) -> String {
    if old.len() > LINES || new.len() > LINES {
        return format!("  … {} lines become {} lines\n", old.len(), new.len());
    }
    let script = script(old, new);
    let near = |at: usize| {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(script.len());
        script[around].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut out = String::new();
    let mut skipped = false;
    for (at, (mark, line)) in script.iter().enumerate() {
        if near(at) {
            out.push_str(&format!("{mark} {line}\n"));
            skipped = false;
        } else if !skipped {
            out.push_str("  …\n");
            skipped = true;
        }
    }
    out
}

/// Marks each line as kept, gone or new, by a longest common subsequence.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let wide = new.len() + 1;
    let mut common = vec![0u16; (old.len() + 1) * wide];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * wide + j] = if old[i] == new[j] {
                common[(i + 1) * wide + j + 1] + 1
            } else {
                common[(i + 1) * wide + j].max(common[i * wide + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && common[(i + 1) * wide + j] >= common[i * wide + j + 1])
        {
            out.push(('-', old[i]));
            i += 1;
        } else {
            out.push(('+', new[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn only_what_changes_and_its_neighbours() {
        let old = serde_json::json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "image": "x:1"});
        let mut new = old.clone();
        assert_eq!(json(&old, &new), None);
        new["image"] = "x:2".into();
        expect![[r#"
              …
                "c": 3,
                "d": 4,
                "e": 5,
            -   "image": "x:1"
            +   "image": "x:2"
              }
        "#]]
        .assert_eq(&json(&old, &new).unwrap());
    }
}
