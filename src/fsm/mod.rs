//! One BGP session over one connection: the finite state machine of RFC 4271 §8.
