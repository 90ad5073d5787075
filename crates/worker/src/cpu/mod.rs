//! CPU time of machines with shared vCPUs, if the host holds them to their baseline: the
//! controller measures what each uses and sets its quota; the table has the result for the
//! metrics. The arithmetic is `model::size::cpu_credit`.

pub(crate) mod controller;
pub(crate) mod table;
