//! Points in time as a test knows them: exactly, or as the span of the operation that set them.

/// Seconds and nanoseconds since the Unix epoch.
pub type Time = (i64, u32);

/// What is known of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Not before the first, not after the second.
    Between(Time, Time),
    /// Others may set it at any time: never compared.
    Loose,
}

impl When {
    /// Known exactly.
    pub fn exactly(time: Time) -> When {
        When::Between(time, time)
    }

    /// Known to be somewhere: the next look settles it.
    pub fn sometime() -> When {
        When::Between((i64::MIN, 0), (i64::MAX, 0))
    }

    /// Either of two, or anything between.
    pub fn or(self, other: When) -> When {
        match (self, other) {
            (When::Between(a, b), When::Between(c, d)) => When::Between(a.min(c), b.max(d)),
            (When::Loose, _) | (_, When::Loose) => When::Loose,
        }
    }

    /// Whether both may be the same time.
    pub fn may_be(self, other: When) -> bool {
        match (self, other) {
            (When::Between(a, b), When::Between(c, d)) => a <= d && c <= b,
            (When::Loose, _) | (_, When::Loose) => true,
        }
    }

    /// Whether the timestamp may be this one.
    pub fn allows(self, seen: Time) -> bool {
        match self {
            When::Between(first, last) => first <= seen && seen <= last,
            When::Loose => true,
        }
    }

    /// It was seen: from now on it is exactly that.
    pub fn settle(&mut self, seen: Time) {
        if *self != When::Loose {
            *self = When::exactly(seen);
        }
    }
}
