//! Generated machine names: `adjective-noun-NNNN`.

const ADJECTIVES: [&str; 64] = [
    "amber",
    "ancient",
    "autumn",
    "billowing",
    "bitter",
    "black",
    "blue",
    "bold",
    "brave",
    "bright",
    "broken",
    "calm",
    "cold",
    "cool",
    "crimson",
    "crisp",
    "damp",
    "dark",
    "dawn",
    "delicate",
    "divine",
    "dry",
    "empty",
    "falling",
    "floral",
    "fragrant",
    "frosty",
    "gentle",
    "golden",
    "green",
    "hidden",
    "holy",
    "icy",
    "late",
    "lingering",
    "little",
    "lively",
    "long",
    "misty",
    "morning",
    "muddy",
    "nameless",
    "old",
    "patient",
    "polished",
    "proud",
    "purple",
    "quiet",
    "red",
    "restless",
    "rough",
    "shy",
    "silent",
    "small",
    "snowy",
    "solitary",
    "sparkling",
    "spring",
    "still",
    "summer",
    "twilight",
    "wandering",
    "weathered",
    "wild",
];

const NOUNS: [&str; 64] = [
    "bird",
    "breeze",
    "brook",
    "bush",
    "butterfly",
    "cherry",
    "cloud",
    "coast",
    "dew",
    "dream",
    "dune",
    "dust",
    "feather",
    "fern",
    "field",
    "fire",
    "firefly",
    "flower",
    "fog",
    "forest",
    "frog",
    "frost",
    "glade",
    "glitter",
    "grass",
    "harbor",
    "haze",
    "hill",
    "island",
    "lake",
    "leaf",
    "meadow",
    "moon",
    "moss",
    "mountain",
    "night",
    "orchard",
    "paper",
    "pebble",
    "pine",
    "pond",
    "rain",
    "resonance",
    "ridge",
    "river",
    "sea",
    "shadow",
    "shape",
    "silence",
    "sky",
    "smoke",
    "snow",
    "snowflake",
    "sound",
    "star",
    "sun",
    "sunset",
    "surf",
    "thunder",
    "tree",
    "violet",
    "water",
    "waterfall",
    "wave",
];

/// A name from 26 of the random bits: the caller makes sure it is not taken.
pub fn machine_name(random: u64) -> String {
    let pick = |shift: u32, n: u64| ((random >> shift) % n) as usize;
    let number = pick(12, 10_000);
    format!("{}-{}-{number:04}", ADJECTIVES[pick(0, 64)], NOUNS[pick(6, 64)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MachineName;

    #[test]
    fn generated_names_are_valid_names() {
        assert_eq!(machine_name(0), "amber-bird-0000");
        assert_eq!(machine_name(u64::MAX), "wild-wave-0495");
        for n in 0..10_000u64 {
            let name = machine_name(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!(name.parse::<MachineName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn no_word_is_listed_twice() {
        for mut words in [ADJECTIVES, NOUNS] {
            words.sort_unstable();
            assert!(words.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
