//! Progress of an image: bars on a terminal, a line per finished step elsewhere.

use crate::ui::{Ui, byte_bar};
use indicatif::{MultiProgress, ProgressBar};
use std::collections::BTreeMap;
use wire::machines::ImageProgress;

use crate::parse::{human_bytes, lines};

/// Steps seen so far.
#[derive(Debug)]
pub(crate) struct Steps {
    bars: MultiProgress,
    on_terminal: bool,
    seen: BTreeMap<String, Option<ProgressBar>>,
}

impl Steps {
    pub(crate) fn new(ui: &Ui) -> Self {
        Self { bars: ui.bars(), on_terminal: ui.term.stderr, seen: BTreeMap::new() }
    }

    /// Shows one line of progress.
    pub(crate) fn show(&mut self, ui: &mut Ui, progress: &ImageProgress) {
        let ImageProgress::Step { name, done, total } = progress else { return };
        // Names of steps may have text of the image.
        let name = &lines(name);
        if self.on_terminal {
            let add = || Some(self.bars.add(byte_bar(name, *total)));
            if let Some(bar) = self.seen.entry(name.clone()).or_insert_with(add) {
                bar.set_length((*total).max(*done));
                bar.set_position(*done);
            }
        } else if *done >= *total && self.seen.insert(name.clone(), None).is_none() {
            let size = if *total > 0 { format!(" {}", human_bytes(*total)) } else { String::new() };
            ui.status(&format!("{name}{size}"));
        }
    }

    /// Removes the bars.
    pub(crate) fn finish(self) {
        // Nothing can be done if the terminal has gone.
        let _ = self.bars.clear();
    }
}
