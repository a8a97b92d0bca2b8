//! Bugs that were made elsewhere, to be made here on purpose: a proof is worth what it would catch.
//!
//! Without the feature `planted`, which nothing that is shipped has, [`planted`] is a constant `false` and every branch
//! that asks it is gone. With it the environment variable `HERALD_PLANTED` names the one bug that is in.

macro_rules! bugs {
    ($($(#[$words:meta])* $name:ident,)*) => {
        /// One bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[$words])* $name,)*
        }

        #[cfg(feature = "planted")]
        const ALL: &[(&str, Bug)] = &[$((stringify!($name), Bug::$name),)*];
    };
}

bugs! {
    /// Two connections collide, and neither gives way.
    CollisionUndetected,
    /// Two connections collide, and both are closed.
    CollisionClosesBoth,
    /// A connection that fell is still a rival: the live one is closed for it.
    DeadRival,
    /// The connection that lost is forgotten and not closed: the other end waits for its hold timer.
    LoserUnheard,
    /// A new connection ends an Established session.
    NewcomerWins,
    /// The session that a restarted peer replaces is told so, and the routes go.
    ReplacedAloud,
    /// The end of a connection that was given up long ago is taken for the end of the current one.
    StaleEnd,
    /// A passive peer does not take the connection that it waits for.
    PassiveRefuses,
    /// An UPDATE is no sign of life.
    UpdateNoSignOfLife,
    /// The hold timer is never started.
    HoldNeverEnforced,
    /// The hold timer is started at hold time zero.
    HoldAtZero,
    /// The session counts as up once the OPENs are exchanged.
    UpWithoutKeepalive,
    /// A peer that acknowledges nothing is waited for without end.
    NoSendHold,
    /// However often an attempt fails, the next one comes as soon as the second.
    NoBackOff,
    /// A NOTIFICATION is answered by one.
    NotificationAnswered,
    /// A plan resets the session.
    PlanResets,
    /// End-of-RIB goes out before anything is planned.
    EndOfRibBeforePlan,
    /// End-of-RIB goes out before the routes.
    EndOfRibBeforeRoutes,
    /// The first table waits for a family that the peer never offered.
    ForeignFamilyAwaited,
    /// After a restart a peer without graceful restart gets no routes.
    NoTableForPlainPeer,
    /// A peer that asks again keeps what was withdrawn meanwhile.
    RefreshLosesWithdrawal,
    /// Of routes that need more than one message only the first message is sent.
    TailDropped,
    /// Path identifiers are left out of the reckoning of a message's length.
    PathIdsUncounted,
    /// Messages end one octet before their limit.
    OneOctetShort,
    /// Messages end one octet behind their limit.
    OneOctetLong,
    /// Long messages are sent to a peer that did not offer to take them.
    LongUnasked,
    /// A peer without four-octet AS numbers gets them.
    WideToNarrow,
    /// What is in no pool leaves.
    OutOfBounds,
}

/// Whether a bug is in.
#[cfg(feature = "planted")]
pub(crate) fn planted(bug: Bug) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let chosen = PLANTED.get_or_init(|| {
        let name = std::env::var("HERALD_PLANTED").ok().filter(|name| !name.is_empty())?;
        let found = ALL.iter().find(|(known, _)| *known == name);
        Some(found.unwrap_or_else(|| panic!("HERALD_PLANTED={name} is the name of no bug; see src/planted.rs")).1)
    });
    *chosen == Some(bug)
}

/// No bug is in.
#[cfg(not(feature = "planted"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
