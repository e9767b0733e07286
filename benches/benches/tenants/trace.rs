//! What each tenant does, drawn from a seed.

use std::time::Duration;

/// Memory that a tenant holds all the time, in mebibytes.
const BASE_MIB: u64 = 40;
/// Tool calls of each tenant, one after the other.
const BURSTS: usize = 6;
/// Sizes of bursts, in mebibytes: most are small, a few are several times the base load.
const BURST_MIB: [u64; 8] = [16, 24, 32, 48, 64, 96, 128, 160];
/// How long a burst holds what it took, in milliseconds.
const HOLD_MS: (u64, u64) = (50, 200);
/// Between two bursts, in milliseconds.
const GAP_MS: (u64, u64) = (20, 120);

/// One tenant's trace.
pub(crate) struct Tenant {
    pub(crate) base_mib: u64,
    pub(crate) bursts: Vec<Burst>,
}

/// One tool call.
pub(crate) struct Burst {
    pub(crate) after: Duration,
    pub(crate) mebibytes: u64,
    pub(crate) hold_ms: u64,
}

/// Of one round: the first one matters most.
pub(crate) fn tenants(round: u64) -> Vec<Tenant> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (round + 1));
    (0..3).map(|_| tenant(&mut random)).collect()
}

fn tenant(random: &mut Random) -> Tenant {
    let mut burst = || Burst {
        after: Duration::from_millis(random.between(GAP_MS)),
        mebibytes: BURST_MIB[random.between((0, BURST_MIB.len() as u64 - 1)) as usize],
        hold_ms: random.between(HOLD_MS),
    };
    Tenant { base_mib: BASE_MIB, bursts: (0..BURSTS).map(|_| burst()).collect() }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        least + (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % (most - least + 1)
    }
}
