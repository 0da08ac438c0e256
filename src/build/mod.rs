//! runs a plan
