//! Composition: wire the rooms together, keep running peers equal to the configuration, stop in order.
