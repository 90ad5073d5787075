//! Validation of schedules.

use super::validation::{ValidationErrors, quote};
use model::schedule::{Misfire, Overlap, Schedule, ScheduleError};
use wire::machines::MachineConfig;

pub(super) fn check(errors: &mut ValidationErrors, config: &MachineConfig) {
    let options = config.schedule_options.as_ref();
    let word = |word: &Option<String>| word.clone().filter(|word| !word.is_empty());
    let overlap = options.and_then(|options| word(&options.overlap));
    let misfire = options.and_then(|options| word(&options.misfire));
    let at = "config.schedule_options";
    errors.one_of(&format!("{at}.overlap"), overlap.as_deref(), &Overlap::NAMES);
    errors.one_of(&format!("{at}.misfire"), misfire.as_deref(), &Misfire::NAMES);
    let zone = options.and_then(|options| word(&options.timezone));
    // The zone is checked also where there is no schedule.
    let text = config.schedule.as_deref().unwrap_or("daily");
    match Schedule::parse(text, zone.as_deref()) {
        Ok(_) => {}
        Err(err @ ScheduleError::Zone) => {
            let zone = quote(&zone.unwrap_or_default());
            errors.add(format!("{at}.timezone"), format!("{err}, not {zone}"));
        }
        Err(err @ ScheduleError::Form) => {
            errors.add("config.schedule", format!("{err}, not {}", quote(text)));
        }
        Err(err) => errors.add("config.schedule", format!("{} {err}", quote(text))),
    }
}
