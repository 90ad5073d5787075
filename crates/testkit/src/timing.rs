//! Output of tests that measure; they are run by hand.

use std::time::Duration;

/// Prints the median, the 90th percentile and the maximum of `times`, at least one.
pub fn report(what: &str, times: &[Duration]) {
    let mut times = times.to_vec();
    times.sort();
    let ms = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    let (middle, most, all) = (ms(50), ms(90), ms(100));
    eprintln!("{what}: median {middle:.2} ms, p90 {most:.2} ms, max {all:.2} ms");
}
