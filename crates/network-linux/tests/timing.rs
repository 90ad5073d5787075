//! How long the calls of a start take. Run by hand:
//! `cargo test -p network-linux --test timing -- --ignored --nocapture`

mod lab;

use lab::{Host, can_run};
use std::time::Instant;
use testkit::timing::report;
use worker::ports::Network;

const ROUNDS: u16 = 40;
/// Machines of a full host.
const MACHINES: u16 = 400;

#[test]
#[ignore = "measures"]
fn attach() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let links: Vec<_> = (0..MACHINES).map(|slot| host.link(slot, 1)).collect();
    host.net(move |net| async move {
        let (mut first, mut park, mut again, mut detach) = (vec![], vec![], vec![], vec![]);
        let mut nics = Vec::new();
        for link in &links {
            let begun = Instant::now();
            nics.push(net.attach(*link).await.expect("attach"));
            first.push(begun.elapsed());
        }
        nics.clear();
        for link in &links {
            let begun = Instant::now();
            net.park(link.slot).await;
            park.push(begun.elapsed());
            let begun = Instant::now();
            nics.push(net.attach(*link).await.expect("attach"));
            again.push(begun.elapsed());
        }
        for link in &links[..usize::from(ROUNDS)] {
            let begun = Instant::now();
            net.detach(link.slot).await.expect("detach");
            detach.push(begun.elapsed());
        }
        let few = usize::from(ROUNDS);
        report("attach, first, few machines", &first[..few]);
        report("attach, first, many machines", &first[first.len() - few..]);
        report("park", &park);
        report("attach, after park", &again);
        report("detach", &detach);
    });
}
