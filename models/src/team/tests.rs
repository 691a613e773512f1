//! Teams at work.

use super::*;
use std::sync::atomic::AtomicU64;

#[test]
fn every_item_is_claimed_once_in_every_phase() {
    for n in 1..=4 {
        let mut team = Team::new(n).unwrap();
        let sums: Vec<AtomicU64> = (0..200).map(|_| AtomicU64::new(0)).collect();
        for _ in 0..20 {
            team.run(&Cancel::new(), &|w| {
                for sum in &sums {
                    while let Some(range) = w.claim(37, 4) {
                        sum.fetch_add(range.map(|i| i as u64).sum(), Ordering::Relaxed);
                    }
                    w.barrier()?;
                }
                Ok(())
            })
            .unwrap();
        }
        assert!(sums.iter().all(|s| s.load(Ordering::Relaxed) == 20 * (36 * 37 / 2)));
    }
}

#[test]
fn what_a_phase_wrote_is_seen_after_the_barrier() {
    let mut team = Team::new(3).unwrap();
    let cells: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
    team.run(&Cancel::new(), &|w| {
        for round in 1..500 {
            cells[w.index()].store(round, Ordering::Relaxed);
            w.barrier()?;
            assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == round));
            w.barrier()?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_panic_in_one_worker_ends_the_step_and_not_the_team() {
    let mut team = Team::new(3).unwrap();
    for culprit in 0..3 {
        let result = team.run(&Cancel::new(), &|w| {
            for phase in 0..10 {
                assert!(!(phase == 4 && w.index() == culprit), "injected");
                w.barrier()?;
            }
            Ok(())
        });
        assert_eq!(result, Err(Stop::Panicked("injected".into())));
        assert_eq!(team.run(&Cancel::new(), &|w| w.barrier()), Ok(()));
    }
}

#[test]
fn cancelling_stops_every_worker_at_the_same_phase() {
    let mut team = Team::new(3).unwrap();
    let cancel = Cancel::new();
    let phases = AtomicU64::new(0);
    let result = team.run(&cancel, &|w| {
        for i in 0..1000 {
            if i == 17 && w.index() == 1 {
                cancel.cancel();
            }
            w.barrier()?;
            phases.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    assert_eq!(result, Err(Stop::Cancelled));
    assert_eq!(phases.load(Ordering::Relaxed), 3 * 17);
}

#[test]
fn a_step_takes_the_workers_of_its_size_and_the_others_sleep() {
    for pin in [false, true] {
        let options = TeamOptions { n_threads: 2, n_threads_batch: 3, steady: true, pin };
        // A thread of its own: it is tied to a processor.
        std::thread::spawn(move || {
            let mut team = Team::with(options).unwrap();
            for (rows, n) in [(1, 2), (512, 3), (FEW_ROWS, 2), (FEW_ROWS + 1, 3)] {
                let seen: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
                let job = |w: &Worker<'_>| {
                    assert_eq!(w.n_threads(), n);
                    seen[w.index()].fetch_add(1, Ordering::Relaxed);
                    w.barrier()
                };
                team.step(rows, &Cancel::new(), &job).unwrap();
                team.again(&Cancel::new(), &job).unwrap();
                let seen: Vec<u64> = seen.iter().map(|n| n.load(Ordering::Relaxed)).collect();
                assert_eq!(seen, [2, 2, if n == 3 { 2 } else { 0 }], "{rows} rows");
            }
        })
        .join()
        .unwrap();
    }
}

#[test]
fn the_end_of_a_job_is_not_taken_for_a_meeting_of_the_next_with_fewer_workers() {
    let options = |n_threads| TeamOptions { n_threads, ..Team::new(3).unwrap().options };
    let mut team = Team::with(options(1)).unwrap();
    let meetings = AtomicU64::new(0);
    let job = |w: &Worker<'_>| {
        for _ in 0..5 {
            w.barrier()?;
            meetings.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    for _ in 0..2000 {
        team.step(512, &Cancel::new(), &job).unwrap();
        team.step(1, &Cancel::new(), &job).unwrap();
    }
    assert_eq!(meetings.into_inner(), 2000 * 5 * (3 + 1));
}

#[test]
fn a_team_that_may_leave_workers_out_runs_every_step_once() {
    let mut team = Team::with(TeamOptions { steady: false, ..Team::new(4).unwrap().options });
    let team = team.as_mut().unwrap();
    for step in 0..300 {
        let sum = AtomicU64::new(0);
        let job = |w: &Worker<'_>| {
            while let Some(range) = w.claim(100, 3) {
                sum.fetch_add(range.map(|i| i as u64).sum(), Ordering::Relaxed);
            }
            w.barrier()
        };
        team.step(1 + step / 100, &Cancel::new(), &job).unwrap();
        assert_eq!(sum.into_inner(), 99 * 100 / 2);
    }
}

#[test]
fn a_profile_has_the_phases_that_were_entered() {
    let mut team = Team::new(2).unwrap();
    let job = |w: &Worker<'_>| {
        w.enter(Phase::Qkv);
        w.barrier()?;
        w.enter(Phase::Output);
        w.barrier()
    };
    team.run(&Cancel::new(), &job).unwrap();
    assert!(team.profile().phases.is_empty(), "nobody asked for a profile");
    team.set_profiled(true);
    (0..3).for_each(|_| team.run(&Cancel::new(), &job).unwrap());
    let profile = team.profile();
    let counts = |p: &crate::profile::PhaseTime| (p.phase, p.n_barriers);
    let found: Vec<_> = profile.phases.iter().map(counts).collect();
    // The job's end is one more meeting, in the phase that was the last.
    assert!(found.contains(&(Phase::Qkv, 3)) && found.contains(&(Phase::Output, 6)), "{found:?}");
    assert!(profile.n_steps == 3 && profile.busy() <= 2 * profile.wall);
}

#[test]
fn more_workers_than_processors_still_finish() {
    let mut team = Team::new(16).unwrap();
    team.run(&Cancel::new(), &|w| (0..50).try_for_each(|_| w.barrier())).unwrap();
}
