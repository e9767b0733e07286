//! The table: survival, and latency of allocations with its spread over rounds.

use std::time::Duration;

use crate::arms::{Kind, Survived};

/// One arm in one round.
pub(crate) struct Round {
    pub(crate) tenants: Vec<Survived>,
    pub(crate) wall: Duration,
}

impl Round {
    /// In microseconds, of the first tenant or of all.
    fn quantile(&self, of: usize, wanted: f64) -> f64 {
        quantile(std::slice::from_ref(self), of, wanted)
    }
}

/// Of all allocations of these rounds together, in microseconds.
fn quantile(rounds: &[Round], of: usize, wanted: f64) -> f64 {
    let tenants = rounds.iter().flat_map(|round| round.tenants.iter().take(of));
    let mut times: Vec<u64> = tenants.flat_map(|tenant| tenant.allocations.iter().copied()).collect();
    times.sort_unstable();
    let at = ((times.len() as f64 * wanted) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
}

pub(crate) fn print(all: &[(Kind, Vec<Round>)]) {
    println!(
        "arm               | first whole | all whole | gave way | first p50 µs | first p95 µs | all p95 µs \
         | wall s"
    );
    for (kind, rounds) in all {
        let count = |test: &dyn Fn(&Survived) -> bool| {
            rounds.iter().flat_map(|round| &round.tenants).filter(|tenant| test(tenant)).count()
        };
        let first = rounds.iter().filter(|round| round.tenants[0].whole).count();
        println!(
            "{:17} | {first:>4} of {:<4} | {:>3} of {:<3}| {:>8} | {} | {} | {} | {}",
            format!("{kind:?}"),
            rounds.len(),
            count(&|tenant| tenant.whole),
            rounds.len() * kind.tenants(),
            count(&|tenant| tenant.gave_way),
            spread(rounds.iter().map(|round| round.quantile(1, 0.5))),
            spread(rounds.iter().map(|round| round.quantile(1, 0.95))),
            spread(rounds.iter().map(|round| round.quantile(3, 0.95))),
            spread(rounds.iter().map(|round| round.wall.as_secs_f64())),
        );
    }
    let pairs = [(Kind::ToolCalls, Kind::NoIsolation), (Kind::AloneToolCalls, Kind::AloneNoIsolation)];
    for (ours, other) in pairs {
        let of = |kind| all.iter().find(|(has, _)| *has == kind).map_or(&[][..], |(_, rounds)| rounds);
        let ratio = |quantile| {
            let pairs = of(ours).iter().zip(of(other));
            spread(pairs.map(|(ours, other)| ours.quantile(1, quantile) / other.quantile(1, quantile)))
        };
        let together = |wanted| quantile(of(ours), 1, wanted) / quantile(of(other), 1, wanted);
        println!(
            "{ours:?} against {other:?}, of the first: round by round p50 x {}, p95 x {}; \
             of all rounds together p50 x {:.3}, p95 x {:.2}",
            ratio(0.5),
            ratio(0.95),
            together(0.5),
            together(0.95),
        );
    }
}

/// Median, and the least and the most.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.first(), values.get(values.len() / 2), values.last()) {
        (Some(least), Some(median), Some(most)) => format!("{median:.2} ({least:.2} to {most:.2})"),
        _ => "-".to_owned(),
    }
}
