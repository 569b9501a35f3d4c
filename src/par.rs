//! Work on many cores whose outcome does not depend on their number.
//!
//! May use: `error`. The only door of rayon and of threads: everybody else calls [`Pool`].
//! Holds: [`Pool::ordered`] consumes the same results in the same order and fails with the same
//! error (or panic) as a plain loop over the jobs, whatever the number of threads.
//! Must never read or write anything itself.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::error::{Error, Kind, Result};

/// How many threads work at once; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(usize);

impl Threads {
    /// This many threads; zero counts as one.
    #[must_use]
    pub const fn new(count: usize) -> Self {
        Self(if count == 0 { 1 } else { count })
    }

    /// One thread for each core that this process may use.
    #[must_use]
    pub fn all() -> Self {
        Self(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// The number.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0
    }
}

/// What may be in flight: taken from the jobs and not yet consumed.
///
/// The next job is taken only while both numbers are below their maximum, so memory is bounded by
/// `bytes_max` and one job more; a job larger than the whole budget runs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that the jobs state.
    pub bytes_max: usize,
    /// Number of jobs.
    pub count_max: usize,
}

/// A fixed set of worker threads, made once for a whole verb.
pub struct Pool {
    workers: rayon::ThreadPool,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({:?})", self.threads())
    }
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Kind::Full`] if the system gives no more threads.
    pub fn new(threads: Threads) -> Result<Self> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.count())
            .thread_name(|number| format!("sparse-{number}"))
            .build()
            .map(|workers| Self { workers })
            .map_err(|source| {
                Error::new(
                    Kind::Full,
                    format!("cannot start {} threads", threads.count()),
                )
                .because(source)
                .hint("use fewer threads: -j 1")
            })
    }

    /// How many threads work.
    #[must_use]
    pub fn threads(&self) -> Threads {
        Threads(self.workers.current_num_threads())
    }

    /// Runs `work` over `jobs` on the workers and gives each result to `consume` in the order of
    /// the jobs. `jobs` and `consume` run on the calling thread; a job states the bytes that it
    /// and its result hold.
    ///
    /// Called from inside a worker (of any pool) it is a plain loop: the outer call already keeps
    /// the cores busy, and a worker that waits for its own pool would wait for ever.
    ///
    /// # Errors
    /// The first one in the order of the jobs, of `jobs`, `work` or `consume`; nothing after it is
    /// consumed. A panic counts like an error and goes on in the caller.
    pub fn ordered<T: Send, R: Send>(
        &self,
        jobs: impl Iterator<Item = Result<(usize, T)>>,
        budget: Budget,
        work: impl Fn(T) -> Result<R> + Sync,
        mut consume: impl FnMut(R) -> Result<()>,
    ) -> Result<()> {
        if rayon::current_thread_index().is_some() {
            for job in jobs {
                consume(work(job?.1)?)?;
            }
            return Ok(());
        }
        let first_bad = AtomicUsize::new(usize::MAX);
        self.workers.in_place_scope(|scope| {
            let _skip_the_rest = SkipTheRest(&first_bad);
            let (sender, receiver) = mpsc::channel();
            let mut jobs = jobs.fuse();
            let mut line = Line::new(budget);
            loop {
                if line.has_room() && first_bad.load(Ordering::Relaxed) == usize::MAX {
                    match jobs.next() {
                        None => line.complete = true,
                        Some(Err(error)) => line.push_failed(error),
                        Some(Ok((bytes, job))) => {
                            let number = line.push(bytes);
                            let (sender, work, first_bad) = (sender.clone(), &work, &first_bad);
                            scope.spawn(move |_| {
                                run(number, job, work, first_bad, &sender);
                            });
                        }
                    }
                } else if line.is_empty() {
                    return Ok(());
                } else if let Ok((number, outcome)) = receiver.recv() {
                    // `sender` lives in this scope, so `recv` cannot fail while jobs run; and the
                    // job at the front runs or has run, for only jobs behind a failure are skipped.
                    line.put(number, outcome);
                }
                while let Ok((number, outcome)) = receiver.try_recv() {
                    line.put(number, outcome);
                }
                while let Some(outcome) = line.pop() {
                    match outcome {
                        Outcome::Done(result) => consume(result)?,
                        Outcome::Failed(error) => return Err(error),
                        Outcome::Panicked(payload) => resume_unwind(payload),
                    }
                }
            }
        })
    }
}

/// One job on a worker: skipped if an earlier one went wrong.
fn run<T, R>(
    number: usize,
    job: T,
    work: &(impl Fn(T) -> Result<R> + Sync),
    first_bad: &AtomicUsize,
    sender: &mpsc::Sender<(usize, Outcome<R>)>,
) {
    if number > first_bad.load(Ordering::Relaxed) {
        return;
    }
    // Nothing that the closure touched is looked at again: the panic goes on in the caller.
    let outcome = match catch_unwind(AssertUnwindSafe(|| work(job))) {
        Ok(Ok(result)) => Outcome::Done(result),
        Ok(Err(error)) => Outcome::Failed(error),
        Err(payload) => Outcome::Panicked(payload),
    };
    if !matches!(outcome, Outcome::Done(_)) {
        first_bad.fetch_min(number, Ordering::Relaxed);
    }
    // The receiver is gone when the caller has stopped already; then nobody wants this.
    let _ = sender.send((number, outcome));
}

/// On leaving the scope, by whatever way, jobs that have not begun are not worth beginning.
struct SkipTheRest<'a>(&'a AtomicUsize);

impl Drop for SkipTheRest<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

enum Outcome<R> {
    Done(R),
    Failed(Error),
    Panicked(Box<dyn Any + Send>),
}

/// The jobs in flight, in their order.
struct Line<R> {
    budget: Budget,
    places: VecDeque<(usize, Option<Outcome<R>>)>,
    /// Number of the job at the front.
    front: usize,
    bytes: usize,
    /// No further job will come.
    complete: bool,
}

impl<R> Line<R> {
    fn new(budget: Budget) -> Self {
        Self {
            budget,
            places: VecDeque::new(),
            front: 0,
            bytes: 0,
            complete: false,
        }
    }

    fn has_room(&self) -> bool {
        !self.complete
            && (self.places.is_empty()
                || (self.bytes < self.budget.bytes_max
                    && self.places.len() < self.budget.count_max))
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes a place at the end and gives its number.
    fn push(&mut self, bytes: usize) -> usize {
        self.bytes = self.bytes.saturating_add(bytes);
        self.places.push_back((bytes, None));
        self.front + self.places.len() - 1
    }

    /// The jobs themselves failed: nothing comes after that.
    fn push_failed(&mut self, error: Error) {
        self.places.push_back((0, Some(Outcome::Failed(error))));
        self.complete = true;
    }

    fn put(&mut self, number: usize, outcome: Outcome<R>) {
        if let Some(place) = self.places.get_mut(number - self.front) {
            place.1 = Some(outcome);
        }
    }

    /// The outcome at the front, if it is there.
    fn pop(&mut self) -> Option<Outcome<R>> {
        let (bytes, outcome) = self.places.front_mut()?;
        let outcome = outcome.take()?;
        self.bytes = self.bytes.saturating_sub(*bytes);
        self.places.pop_front();
        self.front += 1;
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const WIDE: Budget = Budget {
        bytes_max: 1 << 20,
        count_max: 64,
    };

    fn pool(threads: usize) -> Pool {
        Pool::new(Threads::new(threads)).unwrap()
    }

    /// Work of very uneven length, so that results come back in disorder.
    fn grind(number: u64) -> u64 {
        (0..(number * 7919) % 5000).fold(number, |sum, step| sum.wrapping_mul(31) ^ step)
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs_with_any_number_of_threads() {
        let expected: Vec<u64> = (0..500).map(grind).collect();
        for threads in 1..=8 {
            let mut found = Vec::new();
            pool(threads)
                .ordered(
                    (0..500).map(|number| Ok((10, number))),
                    WIDE,
                    |number| Ok(grind(number)),
                    |result| {
                        found.push(result);
                        Ok(())
                    },
                )
                .unwrap();
            assert_eq!(found, expected, "{threads} threads");
        }
    }

    #[test]
    fn no_jobs_are_no_work() {
        pool(2)
            .ordered(
                std::iter::empty::<Result<(usize, ())>>(),
                WIDE,
                Ok,
                |()| -> Result<()> { panic!("nothing to consume") },
            )
            .unwrap();
    }

    #[test]
    fn the_workers_work_at_the_same_time() {
        // Each job waits for the three others; in fewer than four threads this would never end.
        let barrier = Barrier::new(4);
        let mut count = 0;
        pool(4)
            .ordered(
                (0..8).map(|_| Ok((1, ()))),
                WIDE,
                |()| {
                    barrier.wait();
                    Ok(())
                },
                |()| {
                    count += 1;
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!(count, 8);
    }

    /// Runs jobs of the given sizes; gives the most bytes and the most jobs ever in flight.
    fn most_in_flight(sizes: &[usize], budget: Budget, threads: usize) -> (usize, usize) {
        let (bytes, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (mut bytes_most, mut count_most) = (0, 0);
        let jobs = sizes.iter().map(|&size| {
            bytes_most = bytes_most.max(bytes.fetch_add(size, Ordering::SeqCst) + size);
            count_most = count_most.max(count.fetch_add(1, Ordering::SeqCst) + 1);
            Ok((size, size))
        });
        let consume = |size| {
            bytes.fetch_sub(size, Ordering::SeqCst);
            count.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        pool(threads).ordered(jobs, budget, Ok, consume).unwrap();
        assert_eq!(bytes.into_inner(), 0);
        (bytes_most, count_most)
    }

    #[test]
    fn bytes_in_flight_stay_below_the_budget_and_one_job() {
        let sizes: Vec<usize> = (0..300).map(|number| 1 + number * 37 % 100).collect();
        let budget = Budget {
            bytes_max: 500,
            count_max: 1000,
        };
        for threads in [1, 3, 8] {
            let (bytes, _) = most_in_flight(&sizes, budget, threads);
            assert!(bytes < 500 + 100, "{bytes} bytes with {threads} threads");
            assert!(bytes >= 500, "the budget is used: {bytes}");
        }
    }

    #[test]
    fn jobs_in_flight_stay_within_their_number() {
        let budget = Budget {
            bytes_max: usize::MAX,
            count_max: 5,
        };
        assert_eq!(most_in_flight(&[1; 100], budget, 4).1, 5);
    }

    #[test]
    fn a_job_beyond_the_whole_budget_runs_alone() {
        let budget = Budget {
            bytes_max: 10,
            count_max: 0,
        };
        assert_eq!(most_in_flight(&[500, 600, 700], budget, 4), (700, 1));
    }

    /// Runs 100 jobs; those in `bad` fail in the work. Gives what was consumed and the error.
    fn with_bad_jobs(threads: usize, bad: &[usize]) -> (Vec<usize>, String) {
        let mut consumed = Vec::new();
        let error = pool(threads)
            .ordered(
                (0..100).map(|number| Ok((1, number))),
                WIDE,
                |number| {
                    if bad.contains(&number) {
                        return Err(Error::corrupt(format!("job {number}")));
                    }
                    Ok(number)
                },
                |number| {
                    consumed.push(number);
                    Ok(())
                },
            )
            .unwrap_err();
        (consumed, error.to_string())
    }

    #[test]
    fn the_first_error_in_order_wins_with_any_number_of_threads() {
        for threads in 1..=8 {
            let (consumed, error) = with_bad_jobs(threads, &[43, 41, 40, 99]);
            assert_eq!(error, "job 40");
            assert_eq!(consumed, (0..40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_stops_the_taking_of_jobs() {
        let taken = AtomicUsize::new(0);
        let jobs = (0..1_000_000).map(|number| {
            taken.fetch_add(1, Ordering::Relaxed);
            Ok((1, number))
        });
        let work = |number: usize| match number {
            10 => Err(Error::corrupt("ten")),
            _ => Ok(number),
        };
        pool(2).ordered(jobs, WIDE, work, |_| Ok(())).unwrap_err();
        assert!(taken.into_inner() <= 10 + 1 + WIDE.count_max);
    }

    #[test]
    fn an_error_of_the_jobs_comes_after_what_was_before_it() {
        let jobs = (0..10).map(|number| match number {
            7 => Err(Error::not_found("no seven")),
            _ => Ok((1, number)),
        });
        let mut consumed = Vec::new();
        let error = pool(3)
            .ordered(jobs, WIDE, Ok, |number| {
                consumed.push(number);
                Ok(())
            })
            .unwrap_err();
        assert_eq!(error.to_string(), "no seven");
        assert_eq!(consumed, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn an_error_of_the_consumer_ends_it_at_once() {
        let mut consumed = 0;
        let error = pool(3)
            .ordered((0..1000).map(|n| Ok((1, n))), WIDE, Ok, |number| {
                consumed += 1;
                match number {
                    5 => Err(Error::conflict("enough")),
                    _ => Ok(()),
                }
            })
            .unwrap_err();
        assert_eq!((error.to_string().as_str(), consumed), ("enough", 6));
    }

    fn message_of(payload: &(dyn Any + Send)) -> &str {
        payload.downcast_ref::<&str>().copied().unwrap_or("?")
    }

    #[test]
    fn a_panic_of_a_worker_goes_on_in_the_caller() {
        let pool = pool(3);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            pool.ordered(
                (0..100).map(|n| Ok((1, n))),
                WIDE,
                |number| {
                    if number == 20 {
                        panic!("twenty")
                    } else {
                        Ok(())
                    }
                },
                Ok,
            )
        }))
        .unwrap_err();
        assert_eq!(message_of(&*payload), "twenty");
        // And the pool still works.
        pool.ordered((0..100).map(|n| Ok((1, n))), WIDE, |_| Ok(()), Ok)
            .unwrap();
    }

    #[test]
    fn a_panic_of_the_jobs_or_the_consumer_does_not_hang() {
        let pool = pool(2);
        let in_jobs = catch_unwind(AssertUnwindSafe(|| {
            let jobs = (0..100).map(|n| if n == 50 { panic!("jobs") } else { Ok((1, ())) });
            pool.ordered(jobs, WIDE, Ok, Ok)
        }));
        assert_eq!(message_of(&*in_jobs.unwrap_err()), "jobs");
        let in_consumer = catch_unwind(AssertUnwindSafe(|| {
            let jobs = (0..100).map(|_| Ok((1, ())));
            pool.ordered(jobs, WIDE, Ok, |()| panic!("consumer"))
        }));
        assert_eq!(message_of(&*in_consumer.unwrap_err()), "consumer");
    }

    #[test]
    fn calls_inside_calls_end_even_with_one_thread() {
        let (outer, other) = (pool(1), pool(1));
        let mut sums = Vec::new();
        let sum = |pool: &Pool, upto: usize| {
            let mut sum = 0;
            pool.ordered((0..upto).map(|n| Ok((1, n))), WIDE, Ok, |number| {
                sum += number;
                Ok(())
            })
            .map(|()| sum)
        };
        outer
            .ordered(
                (0..20).map(|n| Ok((1, n))),
                WIDE,
                |upto| Ok(sum(&outer, upto)? + sum(&other, upto)?),
                |both| {
                    sums.push(both);
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!(
            sums,
            (0..20)
                .map(|n: usize| n * n.saturating_sub(1))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn zero_threads_count_as_one() {
        assert_eq!(pool(0).threads(), Threads::new(1));
        assert!(Threads::all().count() >= 1);
    }
}
