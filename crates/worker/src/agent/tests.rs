//! What is believed of a guest.

use super::*;

#[test]
fn only_believable_stages_are_taken() {
    let told = [("port", 1.0), ("evil", 1.0), ("exec", f64::NAN), ("root", f64::INFINITY)];
    let told: Vec<_> = told.map(|(name, ms)| (name.to_owned(), ms)).into();
    assert_eq!(sane(told), [("port".to_owned(), 1.0)]);
    assert!(sane(vec![("port".into(), 1.0); 1000]).len() <= STAGES.len());
}

#[test]
fn ports_are_bounded_and_only_reachable_ones_count() {
    let (ports, _) = watch::channel(Ports::new());
    for port in 1..=u16::MAX {
        note_port(&ports, Listener { port, reachable: port % 2 == 0 }, true);
    }
    assert_eq!(ports.borrow().len(), MOST_PORTS);
    assert!(ports.borrow().iter().all(|port| port % 2 == 0));
}
