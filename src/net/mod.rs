//! Sockets and the driver of a peer: wait, feed, drain, publish. No protocol knowledge.
