//! worker::Network and host checks: taps, addresses, nftables, cgroups.
