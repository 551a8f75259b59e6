//! The highest rate that a configuration holds, found with few runs: up or down from a guess in growing steps, then between what held and what did not.

/// From one rung to the next.
const STEP: f64 = 1.08;
/// Runs for one configuration.
const RUNS_MAX: u32 = 6;
/// Rungs at most below the guess and above, which the last of so many runs comes to: a tenth and ten times, about.
const RUNGS_MAX: i32 = 31;

/// What became of a run at a rate. `F` is what it measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tried<F> {
    /// The bound was kept.
    Held(F),
    /// It was not; without figures where nothing came back in time.
    NotHeld(Option<F>),
    /// There was no run: the machine has not the room for so much. The sentence says what is missing.
    NoRoom(String),
    /// There was no run, or it came to nothing, for another reason: a sentence.
    Failed(String),
    /// The search's end came first.
    Over,
}

/// What a climb came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Climbed<F> {
    /// Of the highest rate that held.
    pub(super) best: Option<F>,
    /// Of the last run.
    pub(super) last: Option<F>,
    /// The lowest rate that did not hold, when none did.
    pub(super) none_held_from: Option<u64>,
    /// Why no higher rate was tried although the last one held: a sentence.
    pub(super) capped: Option<String>,
}

/// See the module's text. Ask for a rate, run at it, say whether it held.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    guess: f64,
    held: Option<i32>,
    failed: Option<i32>,
    runs: u32,
    stride: i32,
}

impl Ladder {
    /// Begins at that many records a second.
    #[must_use]
    pub(super) fn new(guess: f64) -> Self {
        Self {
            guess: guess.max(1.0),
            held: None,
            failed: None,
            runs: 0,
            stride: 1,
        }
    }

    /// Runs at one rate after another until enough is known.
    ///
    /// What held stands when there is no room for a higher rate: that says nothing about what is measured. Where nothing held before, it is the whole result.
    ///
    /// # Errors
    /// The sentence of a run that was not made.
    pub(super) fn climb<F: Clone>(
        mut self,
        mut run: impl FnMut(u64) -> Tried<F>,
    ) -> Result<Climbed<F>, String> {
        let (mut best, mut last, mut capped) = (None, None, None);
        while let Some(rate) = self.next() {
            match run(rate) {
                Tried::Held(figures) => {
                    best = Some(figures.clone());
                    last = Some(figures);
                    self.handle(true);
                }
                Tried::NotHeld(figures) => {
                    last = figures;
                    self.handle(false);
                }
                Tried::NoRoom(sentence) if best.is_some() => {
                    capped = Some(format!("{rate}/s was not tried: {sentence}"));
                    break;
                }
                Tried::NoRoom(sentence) | Tried::Failed(sentence) => return Err(sentence),
                Tried::Over => break,
            }
        }
        Ok(Climbed {
            best,
            last,
            none_held_from: self.none_held_from(),
            capped,
        })
    }

    /// The next rate to run at, in records a second. `None` when enough is known.
    #[must_use]
    fn next(&self) -> Option<u64> {
        if self.runs == RUNS_MAX {
            return None;
        }
        let rung = self.rung();
        let is_new = Some(rung) != self.held && rung.abs() <= RUNGS_MAX;
        is_new.then(|| self.rate(rung))
    }

    /// Whether the rate that was last given held.
    fn handle(&mut self, held: bool) {
        let rung = self.rung();
        if self.runs > 0 {
            self.stride *= 2;
        }
        self.runs += 1;
        if held {
            self.held = Some(rung);
        } else {
            self.failed = Some(rung);
        }
    }

    /// The lowest rate that did not hold, when none did.
    #[must_use]
    fn none_held_from(&self) -> Option<u64> {
        match (self.held, self.failed) {
            (None, Some(failed)) => Some(self.rate(failed)),
            _ => None,
        }
    }

    fn rung(&self) -> i32 {
        match (self.held, self.failed) {
            (None, None) => 0,
            (Some(held), None) => held + self.stride,
            (None, Some(failed)) => failed - self.stride,
            (Some(held), Some(failed)) => held + (failed - held) / 2,
        }
    }

    fn rate(&self, rung: i32) -> u64 {
        (self.guess * STEP.powi(rung)).max(1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Climbs on a machine that holds up to so much; gives what held, and the runs it took.
    fn climbed(guess: f64, capacity: f64) -> (Option<u64>, u32) {
        let mut ladder = Ladder::new(guess);
        let (mut best, mut runs) = (None, 0);
        while let Some(rate) = ladder.next() {
            let held = rate as f64 <= capacity;
            ladder.handle(held);
            best = best.max(Some(rate).filter(|_| held));
            runs += 1;
        }
        (best, runs)
    }

    #[test]
    fn what_held_stands_when_there_is_no_room_for_more() {
        let climbed = Ladder::new(1000.0).climb(|rate| match rate {
            ..1200 => Tried::Held(rate),
            _ => Tried::NoRoom("full".to_owned()),
        });
        let expected = Climbed {
            best: Some(1080),
            last: Some(1080),
            none_held_from: None,
            capped: Some("1259/s was not tried: full".to_owned()),
        };
        assert_eq!(climbed, Ok(expected));
    }

    #[test]
    fn without_room_for_the_first_rate_there_is_no_result() {
        let climbed = Ladder::new(1000.0).climb(|_| Tried::<u64>::NoRoom("full".to_owned()));
        assert_eq!(climbed, Err("full".to_owned()));
    }

    #[test]
    fn a_broker_that_fails_at_a_higher_rate_is_not_passed_over() {
        let climbed = Ladder::new(1000.0).climb(|rate| match rate {
            ..1050 => Tried::Held(rate),
            _ => Tried::Failed("the broker ended".to_owned()),
        });
        assert_eq!(climbed, Err("the broker ended".to_owned()));
    }

    #[test]
    fn a_good_guess_takes_few_runs() {
        let (best, runs) = climbed(1000.0, 1010.0);
        assert_eq!((best, runs), (Some(1000), 2));
    }

    #[test]
    fn where_nothing_holds_the_lowest_rate_is_known() {
        let mut ladder = Ladder::new(1000.0);
        while ladder.next().is_some() {
            ladder.handle(false);
        }
        assert!(ladder.none_held_from().is_some_and(|rate| rate < 150));
    }

    proptest! {
        #[test]
        fn what_held_is_within_a_step_of_what_can_be(capacity in 700.0..1500.0_f64) {
            let (best, runs) = climbed(1000.0, capacity);
            prop_assert!(runs <= RUNS_MAX);
            let best = best.unwrap() as f64;
            prop_assert!(best <= capacity && (best + 1.0) * STEP > capacity, "{} of {}", best, capacity);
        }

        #[test]
        fn any_answers_end_within_the_runs(answers in prop::collection::vec(any::<bool>(), 10), guess in 0.0..1e9_f64) {
            let mut ladder = Ladder::new(guess);
            let mut runs = 0;
            for held in answers {
                if ladder.next().is_none() {
                    break;
                }
                ladder.handle(held);
                runs += 1;
            }
            prop_assert!(runs <= RUNS_MAX);
        }
    }
}
