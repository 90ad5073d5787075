//! The environment that the platform gives to every machine
//! (<https://fly.io/docs/machines/runtime-environment/>).

/// Variables that the platform itself sets in a guest.
pub(crate) const PLATFORM_ENV: [&str; 9] = [
    "FLY_APP_NAME",
    "FLY_MACHINE_ID",
    "FLY_ALLOC_ID",
    "FLY_REGION",
    "FLY_IMAGE_REF",
    "FLY_MACHINE_VERSION",
    "FLY_PROCESS_GROUP",
    "FLY_VM_MEMORY_MB",
    "FLY_PRIVATE_IP",
];
