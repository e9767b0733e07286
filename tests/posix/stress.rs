//! stress-ng's filesystem stressors, each checking its own results (`--verify`).

use std::collections::BTreeMap;
use std::fs;

use crate::ground::{Ground, Place};
use crate::tools::{long, version};

/// Stressor to its number of rounds; one that cannot run on a filesystem is not there.
type Rounds = BTreeMap<String, u64>;

/// Stressors that run at once.
const AT_ONCE: usize = 8;

#[test]
fn stress_ng_verifies_in_a_branch_what_it_verifies_on_the_plain_filesystem() {
    let Some(ground) = Ground::new(&["stress-ng"], |_| ()) else { return };
    let stressors = stressors(ground.plain());
    assert!(stressors.len() >= 40, "{stressors:?}");
    let seconds = if long() { 60 } else { 2 };
    let plain = run(ground.plain(), &stressors, seconds);
    for place in ground.branches() {
        let here = run(place, &stressors, seconds);
        for (stressor, rounds) in &plain {
            let (ran, why) = (here.get(stressor), named(include_str!("stress-ng.expected"), stressor));
            assert_eq!(
                ran.is_none(),
                why,
                "{stressor} on {}: {ran:?} rounds, {rounds} beside it",
                place.name
            );
            // In the short form, on a busy machine, a long round may not come to its end.
            let stuck = long() && *rounds > 0 && ran == Some(&0);
            assert!(!stuck, "{stressor} has not ended one round in {seconds} s on {}", place.name);
        }
    }
}

/// The class of the installed version without those of `stress-ng.excluded`, which never run.
fn stressors(place: &Place) -> Vec<String> {
    let listed = place.shell("stress-ng --class 'filesystem?'").output().unwrap();
    let text = [listed.stdout, listed.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let names = text.split_once("stressors:").expect("class 'filesystem' stressors: names").1;
    names.split_whitespace().map(str::to_owned).filter(|name| !excluded(name)).collect()
}

fn excluded(stressor: &str) -> bool {
    named(include_str!("stress-ng.excluded"), stressor)
}

/// The files' lines are `stressor: why`.
fn named(file: &str, stressor: &str) -> bool {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).any(|(name, _)| name == stressor)
}

fn run(place: &Place, stressors: &[String], seconds: u32) -> Rounds {
    let mut all = Rounds::new();
    for some in stressors.chunks(AT_ONCE) {
        all.extend(run_some(place, some, seconds));
    }
    let rounds: u64 = all.values().sum();
    let (ran, of) = (all.len(), stressors.len());
    let version = version("stress-ng");
    let version = version.split(" (").next().unwrap();
    println!("posix: {version}: {}: {ran} of {of} stressors, {seconds} s each, {rounds} rounds", place.name);
    all
}

fn run_some(place: &Place, stressors: &[String], seconds: u32) -> Rounds {
    let scratch = place.dir.join("stress");
    fs::create_dir(&scratch).unwrap();
    let mut command = place.command("stress-ng");
    command.args([
        "--verify",
        "--metrics-brief",
        "--log-brief",
        "--oomable",
        "--timeout",
        &format!("{seconds}s"),
    ]);
    command.arg("--temp-path").arg(&scratch);
    command.args(stressors.iter().flat_map(|stressor| [format!("--{stressor}"), "1".to_owned()]));
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // 3 and 4 tell of stressors that cannot run here; which ones they are is seen by the table.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 3 | 4)), "{}: {:?}: {text}", place.name, output.status);
    assert!(text.contains("successful run completed"), "{}: {text}", place.name);
    assert!(!text.contains("fail:"), "{}: {text}", place.name);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "{} is left as it was", place.name);
    fs::remove_dir(&scratch).unwrap();
    text.lines().filter_map(|line| rounds_of(line, stressors)).collect()
}

/// A line of the table: stressor, rounds, five times.
fn rounds_of(line: &str, stressors: &[String]) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [stressor, rounds, _, _, _, _, _] = words[..] else { return None };
    let stressor = stressors.iter().find(|name| *name == stressor)?;
    Some((stressor.clone(), rounds.parse().ok()?))
}
