//! tidy: rules of this repository that a compiler does not check. Run as tests.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod cycles;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod files;
#[cfg(test)]
mod language;

#[cfg(test)]
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/xtask is two below the root").into()
}
