//! What can be seen from outside: health, metrics, peers, routes.
