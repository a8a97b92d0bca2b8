//! What stories were made of: a simulation in which nothing happens proves nothing.

/// What happened in a story, or in many.
#[derive(Debug, Default, Clone, Copy)]
pub struct Told {
    pub sessions: u64,
    pub updates: u64,
    pub plans: u64,
    pub refreshes: u64,
    pub cuts: u64,
    pub half_open: u64,
    pub stuck: u64,
    pub complaints: u64,
    pub garbage: u64,
    pub stopped: u64,
    pub end_of_rib_checked: u64,
    /// Stories that ended with routes at the router.
    pub with_routes: u64,
    /// Stories that ended with more routes wanted than the router accepts.
    pub limited: u64,
}

impl Told {
    pub fn add(&mut self, other: &Told) {
        self.sessions += other.sessions;
        self.updates += other.updates;
        self.plans += other.plans;
        self.refreshes += other.refreshes;
        self.cuts += other.cuts;
        self.half_open += other.half_open;
        self.stuck += other.stuck;
        self.complaints += other.complaints;
        self.garbage += other.garbage;
        self.stopped += other.stopped;
        self.end_of_rib_checked += other.end_of_rib_checked;
        self.with_routes += other.with_routes;
        self.limited += other.limited;
    }

    /// A simulation in which nothing happens proves nothing.
    pub fn assert_rich(&self, seeds: u64) {
        for (what, count) in [
            ("sessions", self.sessions),
            ("plans", self.plans),
            ("end-of-rib", self.end_of_rib_checked),
            ("stuck", self.stuck),
            ("with routes", self.with_routes * 2),
            ("refreshes", self.refreshes * 2),
            ("cuts", self.cuts * 4),
            ("complaints", self.complaints * 4),
            ("stopped", self.stopped * 4),
            ("half open", self.half_open * 8),
            ("garbage", self.garbage * 8),
            ("limited", self.limited * 12),
        ] {
            assert!(count >= seeds, "too little of {what}: {self:?}");
        }
    }
}
