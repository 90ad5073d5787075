//! Tables as text: columns padded with spaces, nothing drawn, easy to cut.

/// Rows under a header. Trailing blanks are cut, so lines compare well.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| width(cell)).collect();
    for row in rows {
        for (at, cell) in row.iter().enumerate().take(widths.len()) {
            widths[at] = widths[at].max(width(cell));
        }
    }
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, most) in row.iter().zip(&widths) {
            // Output of checks and names of others come in here: one line each,
            // and no escape sequences for the terminal.
            let cell: String = cell.chars().map(plain).collect();
            line.push_str(&cell);
            line.push_str(&" ".repeat(most.saturating_sub(width(&cell)) + 3));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `Name = value` lines, right-aligned at the equal sign, under a title.
pub(crate) fn vertical(title: &str, fields: &[(&str, String)]) -> String {
    let most = fields.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let mut out = format!("{title}\n");
    for (name, value) in fields {
        let value: String = value.chars().map(plain).collect();
        let line = format!("  {}{name} = {value}", " ".repeat(most - width(name)));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn plain(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_line_up_and_hostile_cells_stay_in_theirs() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let rows = [row(&["a", "started", ""]), row(&["long-name", "x\x1b[2J\ny", "ümlaut"])];
        expect![[r#"
            NAME        STATE     NOTE
            a           started
            long-name   x [2J y   ümlaut
        "#]]
        .assert_eq(&table(&["NAME", "STATE", "NOTE"], &rows));
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
