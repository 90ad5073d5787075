//! Tables as text: columns padded with spaces, nothing drawn, easy to cut. On a
//! terminal a table is as wide as that at most; its cells wrap by column.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

/// Spaces between two columns.
const GAP: u16 = 3;
/// A column that is no wider than this is not wrapped: ids and states stay whole.
const WHOLE: usize = 14;

/// Room for a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fit<'a> {
    /// Width of the terminal; absent: as wide as the table is.
    pub(crate) columns: Option<u16>,
    /// Columns that a narrow terminal does without, the most dispensable first.
    pub(crate) dispensable: &'a [&'a str],
}

/// Rows under a header. On a terminal, columns without a value are left out, then
/// the dispensable ones until the rest fits; if it still does not, cells wrap.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>], fit: Fit<'_>) -> String {
    let cell = |row: &Vec<String>, at: usize| plain(row.get(at).map_or("", String::as_str));
    let width_of = |at: usize| {
        let cells = rows.iter().map(|row| width(&cell(row, at)));
        cells.max().unwrap_or(0).max(width(header[at]))
    };
    let mut shown: Vec<usize> = (0..header.len()).collect();
    if let Some(columns) = fit.columns {
        shown.retain(|&at| rows.is_empty() || rows.iter().any(|row| !cell(row, at).is_empty()));
        let total = |shown: &[usize]| -> usize {
            shown.iter().map(|&at| width_of(at) + usize::from(GAP)).sum()
        };
        for name in fit.dispensable {
            if total(&shown) > usize::from(columns) {
                shown.retain(|&at| header[at] != *name);
            }
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(shown.iter().map(|&at| header[at]));
    table
        .add_rows(rows.iter().map(|row| shown.iter().map(|&at| cell(row, at)).collect::<Vec<_>>()));
    match fit.columns {
        None => table.set_content_arrangement(ContentArrangement::Disabled),
        Some(columns) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns)
        }
    };
    for (column, &at) in table.column_iter_mut().zip(&shown) {
        column.set_padding((0, GAP));
        if fit.columns.is_some() && width_of(at) <= WHOLE {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    lines(&table)
}

/// Without the blanks at the ends of lines, so that they compare well.
fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `Name = value` lines, right-aligned at the equal sign, under a title.
pub(crate) fn vertical(title: &str, fields: &[(&str, String)]) -> String {
    let most = fields.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let mut out = format!("{title}\n");
    for (name, value) in fields {
        let line = format!("  {}{name} = {}", " ".repeat(most - width(name)), plain(value));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Output of checks and names of others come into tables: one line each, and no
/// escape sequences for the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn columns_line_up_and_hostile_cells_stay_in_theirs() {
        let rows = [row(&["a", "started", ""]), row(&["long-name", "x\x1b[2J\ny", "ümlaut"])];
        expect![[r#"
            NAME        STATE     NOTE
            a           started
            long-name   x [2J y   ümlaut
        "#]]
        .assert_eq(&table(&["NAME", "STATE", "NOTE"], &rows, Fit::default()));
    }

    #[test]
    fn on_a_terminal_cells_wrap_by_column() {
        let long = "a value that is much longer than a terminal of thirty columns is wide";
        let rows = [row(&["3d8d413b29d089", "", long]), row(&["3d8d413b29d08a", "", "short"])];
        let fit = Fit { columns: Some(40), dispensable: &[] };
        let text = table(&["ID", "VOLUME", "NOTE"], &rows, fit);
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.contains("3d8d413b29d089") && text.contains("3d8d413b29d08a"), "{text}");
        assert!(!text.contains("VOLUME"), "an empty column costs no room: {text}");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(long.split(' ').all(|word| words.contains(&word)), "nothing is lost: {text}");
    }

    #[test]
    fn dispensable_columns_are_dropped_first() {
        let rows = [row(&["3d8d413b29d089", "2026-11-20T10:00:00.000Z", "started"])];
        let header = ["ID", "CREATED", "STATE"];
        let shown = |columns| {
            table(&header, &rows, Fit { columns: Some(columns), dispensable: &["CREATED"] })
        };
        assert!(shown(80).contains("CREATED"), "{}", shown(80));
        expect![[r#"
            ID               STATE
            3d8d413b29d089   started
        "#]]
        .assert_eq(&shown(40));
    }

    #[test]
    fn vertical_tables_align_at_the_equal_sign() {
        let fields = [("Name", "web".to_owned()), ("Hostname", String::new())];
        expect![[r#"
            App
                  Name = web
              Hostname =
        "#]]
        .assert_eq(&vertical("App", &fields));
    }
}
