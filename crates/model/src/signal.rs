//! Linux signals by name and number.

/// Ends a process at once.
pub const SIGKILL: i32 = 9;
/// The signal that a terminal sends on Ctrl-C; the platform's default stop signal.
pub const SIGINT: i32 = 2;

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// First and last real-time signal that programs can use (signal(7)).
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// The number of a signal given by name, with or without `SIG` and in any
/// case, or by number as text; real-time signals as `SIGRTMIN+n` or `SIGRTMAX-n`.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return is_valid(number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(SIGRTMIN, rest, '+');
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(SIGRTMAX, rest, '-');
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn real_time(base: i32, rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(base);
    }
    let distance: i32 = rest.strip_prefix(sign)?.parse().ok()?;
    let number =
        if sign == '+' { base.checked_add(distance)? } else { base.checked_sub(distance)? };
    (distance >= 0 && (SIGRTMIN..=SIGRTMAX).contains(&number)).then_some(number)
}

/// There is a signal with this number, real-time ones included.
pub fn is_valid(number: i32) -> bool {
    (1..=64).contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("KILL", Some(9)),
            ("9", Some(9)),
            ("SIGUSR2", Some(12)),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("SIGSIGTERM", None),
            ("SIGNOPE", None),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN3", None),
            ("SIGRTMIN+-1", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
