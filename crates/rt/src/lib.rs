//! Tasks and how they end, clock, randomness, backoff, error chains; no domain word.
