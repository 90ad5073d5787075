//! tidy (arrows, sizes, headers), and the picture of the crates held against cargo metadata.
