//! Where the time of steps went, for people and programs.

use super::report;
use models::profile::{PhaseTime, Profile};
use serde_json::{Value, json};
use std::time::Duration;

/// The part of all workers' time that some of it is, in percent.
fn percent(profile: &Profile, time: Duration) -> f64 {
    100.0 * time.as_secs_f64() / profile.busy().as_secs_f64().max(f64::MIN_POSITIVE)
}

/// Milliseconds of all workers together in one step.
fn per_step(profile: &Profile, time: Duration) -> f64 {
    1e3 * time.as_secs_f64() / profile.n_steps.max(1) as f64
}

/// A table: work and waiting of all workers together, in a step.
pub(super) fn table(profile: &Profile) -> String {
    let row = |name: &str, n_barriers: u64, work: Duration, wait: Duration| {
        vec![
            name.to_owned(),
            format!("{:.1}", n_barriers as f64 / profile.n_steps.max(1) as f64),
            format!("{:.3}", per_step(profile, work)),
            format!("{:.1} %", percent(profile, work)),
            format!("{:.3}", per_step(profile, wait)),
            format!("{:.1} %", percent(profile, wait)),
        ]
    };
    let line = |p: &PhaseTime| row(p.phase.name(), p.n_barriers, p.work, p.wait);
    let mut rows: Vec<Vec<String>> = profile.phases.iter().map(line).collect();
    let all = |of: fn(&PhaseTime) -> Duration| profile.phases.iter().map(of).sum();
    let n_barriers = profile.phases.iter().map(|p| p.n_barriers).sum();
    rows.push(row("all", n_barriers, all(|p| p.work), all(|p| p.wait)));
    let wall = per_step(profile, profile.wall);
    let head = ["phase", "barriers", "work ms", "of all", "wait ms", "of all"];
    let steps = profile.n_steps;
    report::table(&head, &rows)
        + &format!("\n{steps} steps of {wall:.3} ms; times of all workers together\n")
}

/// The same for programs, in seconds of all steps.
pub(super) fn json(profile: &Profile) -> Value {
    let phase = |p: &PhaseTime| {
        json!({
            "phase": p.phase.name(),
            "n_barriers": p.n_barriers,
            "work_s": p.work.as_secs_f64(),
            "wait_s": p.wait.as_secs_f64(),
        })
    };
    json!({
        "n_steps": profile.n_steps,
        "wall_s": profile.wall.as_secs_f64(),
        "phases": profile.phases.iter().map(phase).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::profile::Phase;

    fn profile() -> Profile {
        let ms = Duration::from_millis;
        let time =
            |phase, work, wait| PhaseTime { phase, work: ms(work), wait: ms(wait), n_barriers: 4 };
        let phases = vec![time(Phase::Qkv, 60, 20), time(Phase::Down, 100, 20)];
        Profile { wall: ms(110), n_steps: 2, phases }
    }

    #[test]
    fn tables_have_a_line_for_each_phase_and_one_for_all() {
        let text = table(&profile());
        let cells = |line: &str| -> Vec<String> {
            line.split('|').map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect()
        };
        let lines: Vec<Vec<String>> = text.lines().skip(2).take(3).map(cells).collect();
        assert_eq!(lines[0], ["qkv", "2.0", "30.000", "30.0 %", "10.000", "10.0 %"]);
        assert_eq!(lines[1], ["down", "2.0", "50.000", "50.0 %", "10.000", "10.0 %"]);
        assert_eq!(lines[2], ["all", "4.0", "80.000", "80.0 %", "20.000", "20.0 %"]);
        assert!(text.ends_with("2 steps of 55.000 ms; times of all workers together\n"), "{text}");
    }

    #[test]
    fn json_has_seconds() {
        let json = json(&profile());
        assert_eq!(json["wall_s"], 0.11);
        assert_eq!(json["phases"][1]["phase"], "down");
        assert_eq!(json["phases"][0]["wait_s"], 0.02);
    }
}
