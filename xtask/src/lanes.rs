//! Rounds of a drill, shared out to lanes that run side by side, each in a thread of its own.
//!
//! Invariant: every lane has ended when [`run`] returns.

/// Runs at most `lanes` of them; `lane` gets its number, from 0, and how many of the rounds are its. Gives what each came to, in
/// the order of their numbers, or the first error. A lane that panics is an error.
pub(crate) fn run<T: Send>(
    rounds: u32,
    lanes: u32,
    lane: impl Fn(u32, u32) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let lanes = lanes.clamp(1, rounds.max(1));
    let share = |number: u32| rounds / lanes + u32::from(number < rounds % lanes);
    let lane = &lane;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..lanes).map(|number| scope.spawn(move || lane(number, share(number)))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("a lane panicked".into()))
        };
        // All are joined before the first error is told.
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn rounds_are_shared_out_and_none_is_lost() {
        let shares = |rounds, lanes| run(rounds, lanes, |number, share| Ok((number, share))).unwrap();
        assert_eq!(shares(7, 3), [(0, 3), (1, 2), (2, 2)]);
        assert_eq!(shares(2, 8), [(0, 1), (1, 1)]);
        assert_eq!(shares(5, 0), [(0, 5)]);
        assert_eq!(shares(0, 4), [(0, 0)]);
    }

    #[test]
    fn the_first_error_is_told_and_a_panic_is_one() {
        let odd = |number: u32, _| if number % 2 == 1 { Err(format!("lane {number}")) } else { Ok(()) };
        assert_eq!(run(4, 4, odd).unwrap_err(), "lane 1");
        let falls = |number: u32, _| if number == 1 { panic!("on purpose") } else { Ok(()) };
        assert_eq!(run(2, 2, falls).unwrap_err(), "a lane panicked");
    }
}
