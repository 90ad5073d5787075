//! Lists that a person chooses from: with the arrow keys on a terminal, by numbers where
//! only lines can be read.

use crate::error::{CliError, Result};
use crate::parse::capitalized;
use crate::ui::Ui;

/// Whether several can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    One,
    Many,
}

/// The places of the chosen lines. `noun` is what one line stands for, such as `machine`.
/// The caller has made sure that there are lines and that the input is a terminal.
pub(crate) fn select(
    ui: &mut Ui,
    noun: &str,
    lines: &[String],
    choice: Choice,
) -> Result<Vec<usize>> {
    let title = match choice {
        Choice::One => capitalized(noun),
        Choice::Many => format!("{}s", capitalized(noun)),
    };
    let none = || CliError::usage(format!("No {noun} was chosen"));
    if ui.is_own_terminal() {
        let chosen = by_keys(&title, lines, choice).map_err(|err| none().because_of(&err))?;
        let hint = "Mark lines with the space bar.";
        return if chosen.is_empty() { Err(none().hint(hint)) } else { Ok(chosen) };
    }
    for (at, line) in lines.iter().enumerate() {
        ui.status(&format!("{:>3}) {line}", at + 1));
    }
    let numbers = match choice {
        Choice::One => "number",
        Choice::Many => "numbers, separated by blanks",
    };
    let answer = ui.ask(&format!("{title} ({numbers}): "))?;
    by_numbers(lines.len(), choice, &answer).map_err(|why| none().because(why))
}

fn by_keys(
    title: &str,
    lines: &[String],
    choice: Choice,
) -> inquire::error::InquireResult<Vec<usize>> {
    let lines = lines.to_vec();
    match choice {
        Choice::One => Ok(vec![inquire::Select::new(title, lines).raw_prompt()?.index]),
        Choice::Many => {
            let chosen = inquire::MultiSelect::new(title, lines).raw_prompt()?;
            Ok(chosen.into_iter().map(|line| line.index).collect())
        }
    }
}

fn by_numbers(count: usize, choice: Choice, answer: &str) -> Result<Vec<usize>, String> {
    let numbers = answer.split([' ', ',']).filter(|word| !word.is_empty());
    let chosen: Result<Vec<usize>, String> = numbers
        .map(|word| {
            let at = word.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let at = at.filter(|at| *at < count);
            at.ok_or_else(|| format!("{word:?} is not in the list"))
        })
        .collect();
    match chosen? {
        chosen if chosen.is_empty() => Err("The answer is empty".to_owned()),
        chosen if choice == Choice::One && chosen.len() > 1 => {
            Err("Only one can be chosen".to_owned())
        }
        chosen => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_the_table() {
        for (choice, answer, chosen) in [
            (Choice::One, "2", Ok(vec![1])),
            (Choice::Many, "3, 1", Ok(vec![2, 0])),
            (Choice::One, "1 2", Err("Only one can be chosen")),
            (Choice::Many, "", Err("The answer is empty")),
            (Choice::Many, "0", Err("\"0\" is not in the list")),
            (Choice::Many, "4", Err("\"4\" is not in the list")),
            (Choice::Many, "x", Err("\"x\" is not in the list")),
        ] {
            assert_eq!(by_numbers(3, choice, answer), chosen.map_err(str::to_owned), "{answer:?}");
        }
    }
}
