//! CPU time of machines. `share` has what a machine weighs in any case. If the host holds
//! shared vCPUs to their baseline, the controller measures what each machine uses and sets its
//! quota, and the table has the result for the metrics; the arithmetic is
//! `model::size::cpu_credit`.

pub(crate) mod controller;
mod share;
pub(crate) mod table;
