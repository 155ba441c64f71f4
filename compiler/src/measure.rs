//! Times of repeated calls.

use std::time::{Duration, Instant};

/// Calls shorter than this are timed in batches.
const SHORT: Duration = Duration::from_micros(20);

/// Times of a call, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Times {
    /// The middle one.
    pub median_us: f64,
    /// 95 of 100 are shorter.
    pub p95_us: f64,
    /// The shortest.
    pub min_us: f64,
    /// Calls that were timed.
    pub n_calls: usize,
}

/// How long to measure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Until {
    /// So many calls.
    Calls(usize),
    /// So long, and three calls at least.
    Time(Duration),
}

/// Times a call after two that warm it up. Calls under 20 µs are timed in batches of about as long.
///
/// # Errors
/// The first error of a call.
pub fn measure<E>(until: Until, mut call: impl FnMut() -> Result<(), E>) -> Result<Times, E> {
    call()?;
    let start = Instant::now();
    call()?;
    let one = start.elapsed();
    let batch = if one >= SHORT {
        1
    } else {
        let start = Instant::now();
        for _ in 0..16 {
            call()?;
        }
        let one = (start.elapsed() / 16).max(Duration::from_nanos(5));
        (SHORT.as_nanos() / one.as_nanos()).clamp(1, 4096) as usize
    };
    let mut samples = Vec::new();
    let begin = Instant::now();
    loop {
        let is_enough = match until {
            Until::Calls(n) => samples.len() * batch >= n.max(1),
            Until::Time(time) => samples.len() >= 3 && begin.elapsed() >= time,
        };
        if is_enough {
            break;
        }
        let start = Instant::now();
        for _ in 0..batch {
            call()?;
        }
        #[allow(clippy::cast_precision_loss, reason = "batches are small")]
        samples.push(start.elapsed().as_secs_f64() * 1e6 / batch as f64);
    }
    samples.sort_by(f64::total_cmp);
    let n = samples.len();
    Ok(Times {
        median_us: f64::midpoint(samples[(n - 1) / 2], samples[n / 2]),
        p95_us: samples[(n - 1) * 95 / 100],
        min_us: samples[0],
        n_calls: n * batch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted() {
        let mut n = 0;
        let times = measure(Until::Calls(3), || {
            n += 1;
            std::thread::sleep(Duration::from_micros(100));
            Ok::<(), ()>(())
        });
        let times = times.unwrap();
        assert_eq!((times.n_calls, n), (3, 5));
        assert!(times.min_us >= 100.0 && times.min_us <= times.median_us && times.median_us <= times.p95_us);
    }

    #[test]
    fn errors_end_it() {
        assert_eq!(measure(Until::Calls(3), || Err::<(), &str>("no")), Err("no"));
    }
}
