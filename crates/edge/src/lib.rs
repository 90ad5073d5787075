//! The proxy: match a route, wake, balance, forward.
