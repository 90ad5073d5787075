//! Generated names of apps: `adjective-noun-1234`.

const FIRST: &[&str] = &[
    "amber", "autumn", "blue", "bold", "brave", "calm", "clear", "cool", "crimson", "dawn", "fair",
    "gentle", "green", "light", "little", "long", "misty", "quiet", "red", "silent", "summer",
    "warm", "white", "wild", "winter",
];
const SECOND: &[&str] = &[
    "bird", "breeze", "cloud", "crane", "dune", "eagle", "feather", "field", "finch", "glider",
    "hawk", "heron", "hill", "kite", "lark", "leaf", "moon", "river", "sky", "star", "stork",
    "sun", "swift", "wind", "wing",
];

/// A name that is most likely free.
pub(crate) fn generate(rng: &rt::Rng) -> String {
    let (first, second) = (FIRST[rng.below(FIRST.len())], SECOND[rng.below(SECOND.len())]);
    format!("{first}-{second}-{:04}", rng.below(10_000))
}
