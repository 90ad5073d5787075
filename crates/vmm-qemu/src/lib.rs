//! worker::Hypervisor on QEMU microvm, jailed.
