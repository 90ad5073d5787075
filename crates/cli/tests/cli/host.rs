//! Hosts.

use crate::fake::cli;
use expect_test::expect;
use wire::platform::HostInfo;

#[tokio::test]
async fn resources_of_hosts_and_their_use() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/platform/hosts
        --- stdout
        Host 0
               Region = here
          Accelerator = kvm
           Hypervisor = 8.2.2
                 CPUs = 4
               Memory = 4096 MiB for machines
             Promised = 5120 of 8192 MiB (62%)
          Really used = 731 of 4096 MiB (17%)
           Overcommit = memory is promised up to 2 times
             Machines = 20 started, 3 suspended
            Templates = 1x256, 2x512

        Host 1
               Region = there
          Accelerator = tcg
           Hypervisor =
                 CPUs = 2
               Memory = 2048 MiB for machines
             Promised = 0 of 2048 MiB (0%)
          Really used = 0 of 2048 MiB (0%)
           Overcommit = none: no more memory is promised than there is
             Machines = none
            Templates = none
    "#]]
    .assert_eq(&cli(&["host", "status"]).await.show());
    let json = cli(&["host", "status", "--json"]).await;
    let hosts: Vec<HostInfo> = serde_json::from_str(&json.out).unwrap();
    assert_eq!((hosts[0].memory_used_mib, hosts[1].memory_used_mib), (731, 0));
}
