//! One line as a message of RFC 5424, in a frame of RFC 6587.

use crate::labels::Labels;
use std::time::{Duration, UNIX_EPOCH};
use worker::ports::ExportedLine;

/// "user-level messages" (RFC 5424, section 6.2.1).
const FACILITY: u8 = 1;
/// Name of the element with the labels. The enterprise number is the one for documentation
/// (RFC 5612), as the project has none.
const ELEMENT: &str = "updraft@32473";
/// Longest names (RFC 5424, section 6).
const APP_NAME: usize = 48;
const HOST_NAME: usize = 255;
const PROCESS_ID: usize = 128;
const MESSAGE_ID: usize = 32;

/// Appends a message with its length before it (RFC 6587, section 3.4.1).
pub(super) fn frame(line: &ExportedLine, host: &str, labels: &Labels, frames: &mut Vec<u8>) {
    let message = message(line, host, labels);
    frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
    frames.extend_from_slice(message.as_bytes());
}

fn message(line: &ExportedLine, host: &str, labels: &Labels) -> String {
    let entry = &line.entry;
    let severity = match entry.level.as_str() {
        "error" => 3,
        "warn" => 4,
        "debug" => 7,
        _ => 6,
    };
    let since_epoch = Duration::from_nanos(u64::try_from(entry.timestamp).unwrap_or(0));
    // Six digits are the most that the protocol has.
    let time = humantime::format_rfc3339_micros(UNIX_EPOCH + since_epoch);
    format!(
        "<{}>1 {time} {} {} {} {} {} {}",
        FACILITY * 8 + severity,
        name(host, HOST_NAME),
        name(&line.app, APP_NAME),
        name(&entry.instance, PROCESS_ID),
        name(&entry.provider, MESSAGE_ID),
        element(line, labels),
        entry.message
    )
}

/// Visible ASCII; `-` for nothing.
fn name(text: &str, most: usize) -> String {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let name: String = text.chars().map(visible).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// The labels as structured data (RFC 5424, section 6.3).
fn element(line: &ExportedLine, labels: &Labels) -> String {
    let labels = labels.of(line);
    if labels.is_empty() {
        return "-".to_owned();
    }
    let mut element = format!("[{ELEMENT}");
    for (label, value) in labels {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
        element.push_str(&format!(" {}=\"{value}\"", name(label, MESSAGE_ID)));
    }
    element.push(']');
    element
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Label;
    use std::collections::BTreeMap;
    use wire::logs::LogEntry;

    #[test]
    fn a_message_has_the_form_of_the_standard() {
        let entry = LogEntry {
            offset: 7,
            provider: "app".into(),
            level: "warn".into(),
            instance: "3d8d413b29d089".into(),
            region: "a]b".into(),
            message: "caf\u{e9} \"1\"".into(),
            meta: BTreeMap::from([("container".to_owned(), "si\\de".to_owned())]),
            ..LogEntry::position(1_795_219_705_123_456_789)
        };
        let line = ExportedLine { entry, app: "my app".into() };
        let labels = Labels {
            own: vec![Label::Region, Label::Container, Label::Process],
            fixed: BTreeMap::from([("env".to_owned(), "a\"b".to_owned())]),
        };
        let mut frames = Vec::new();
        frame(&line, "host-1", &labels, &mut frames);
        let expected = "<12>1 2026-11-21T00:08:25.123456Z host-1 my_app 3d8d413b29d089 app \
                        [updraft@32473 container=\"si\\\\de\" env=\"a\\\"b\" region=\"a\\]b\"] \
                        caf\u{e9} \"1\"";
        assert_eq!(String::from_utf8(frames).unwrap(), format!("{} {expected}", expected.len()));
        let bare = ExportedLine { entry: LogEntry::position(0), app: String::new() };
        let text = message(&bare, "", &Labels::default());
        assert_eq!(text, "<14>1 1970-01-01T00:00:00.000000Z - - - - - ");
    }
}
