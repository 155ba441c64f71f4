//! The loss of connectionist temporal classification.
#![allow(unsafe_code, reason = "writes to buffers of compiled code")]

use super::text::element;
use super::{Call, raise};
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor};

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let bytes = tensor.to_bytes();
    (0..tensor.n_elements()).map(|i| element(tensor, &bytes, i)).collect()
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    numbers(tensor).into_iter().map(|x| x as i64).collect()
}

/// The logarithm of the sum of exponentials.
fn log_sum(terms: &[f64]) -> f64 {
    let greatest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if greatest == f64::NEG_INFINITY {
        return greatest;
    }
    greatest + terms.iter().map(|t| (t - greatest).exp()).sum::<f64>().ln()
}

/// The negative logarithm of the probability that the frames say these labels, over all alignments. `log_probability` gives
/// that of a class in a frame.
fn alignment_loss(
    n_frames: usize,
    labels: &[usize],
    blank: usize,
    log_probability: impl Fn(usize, usize) -> f64,
) -> f64 {
    // The states are the labels with blanks before, between and after.
    let n_states = 2 * labels.len() + 1;
    let class = |s: usize| if s.is_multiple_of(2) { blank } else { labels[s / 2] };
    if n_frames == 0 {
        return if labels.is_empty() { 0.0 } else { f64::INFINITY };
    }
    let mut alpha = vec![f64::NEG_INFINITY; n_states];
    for (s, a) in alpha.iter_mut().take(2).enumerate() {
        *a = log_probability(0, class(s));
    }
    for frame in 1..n_frames {
        let next = (0..n_states).map(|s| {
            let stay = alpha[s];
            let step = if s > 0 { alpha[s - 1] } else { f64::NEG_INFINITY };
            let skips = s > 1 && s % 2 == 1 && class(s) != class(s - 2);
            let skip = if skips { alpha[s - 2] } else { f64::NEG_INFINITY };
            log_sum(&[stay, step, skip]) + log_probability(frame, class(s))
        });
        alpha = next.collect();
    }
    -log_sum(&alpha[n_states.saturating_sub(2)..])
}

/// `ctc_loss(log_probs [frames, batch, classes], targets, input_lengths, target_lengths, losses [batch], blank)`: targets are
/// rows of a matrix, or one after another in a vector.
pub(super) fn ctc_loss(call: &mut Call<'_>) -> Result<()> {
    let (probabilities, targets, losses) = (call.tensor(0)?, call.tensor(1)?, call.tensor(4)?);
    let (input_lengths, target_lengths) = (integers(&call.tensor(2)?), integers(&call.tensor(3)?));
    let [n_frames, batch, n_classes] = probabilities.sizes[..] else {
        return Err(Error::new(Status::Internal, "ctc_loss: log_probs have three dimensions"));
    };
    let blank = call.int(5)?;
    if !(0..n_classes).contains(&blank) {
        return raise("RuntimeError", "blank must be in label range");
    }
    if input_lengths.len() as i64 != batch {
        return raise("RuntimeError", "input_lengths must be of size batch_size");
    }
    if target_lengths.len() as i64 != batch {
        return raise("RuntimeError", "target_lengths must be of size batch_size");
    }
    if losses.n_elements() as i64 != batch || losses.dtype != probabilities.dtype {
        return Err(Error::new(Status::Internal, "ctc_loss: the losses do not fit"));
    }
    let table = numbers(&probabilities);
    let labels = integers(&targets);
    let stride = if targets.sizes.len() == 2 { Some(targets.sizes[1]) } else { None };
    let mut start = 0i64;
    for n in 0..batch {
        let (length, n_labels) = (input_lengths[n as usize], target_lengths[n as usize]);
        if !(0..=n_frames).contains(&length) {
            return raise(
                "RuntimeError",
                format!(
                    "Expected input_lengths to have value at most {n_frames}, but got value {length} (while checking \
                     arguments for ctc_loss_cpu)"
                ),
            );
        }
        let first = stride.map_or(start, |s| s * n);
        let room = stride.unwrap_or(labels.len() as i64 - start);
        if !(0..=room).contains(&n_labels) {
            return raise(
                "RuntimeError",
                format!("Expected targets to hold the {n_labels} labels that target_lengths says, but found {room}"),
            );
        }
        start += n_labels;
        let mut own = Vec::with_capacity(n_labels as usize);
        for &label in &labels[first as usize..(first + n_labels) as usize] {
            if !(0..n_classes).contains(&label) {
                return raise("RuntimeError", format!("target {label} is out of range for {n_classes} classes"));
            }
            own.push(label as usize);
        }
        let at = |frame: usize, class: usize| table[(frame as i64 * batch + n) as usize * n_classes as usize + class];
        let loss = alignment_loss(length as usize, &own, blank as usize, at);
        match losses.dtype {
            // SAFETY: there are `batch` elements of this type, which the routine may write.
            Dtype::F32 => unsafe { losses.data().cast::<f32>().add(n as usize).write(loss as f32) },
            // SAFETY: as above.
            Dtype::F64 => unsafe { losses.data().cast::<f64>().add(n as usize).write(loss) },
            other => return Err(Error::new(Status::Unsupported, format!("ctc_loss of {}", other.name()))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_alignments() {
        // Two frames, blank 0 and one label 1: aligned as "01", "10" and "11".
        let p = [[0.6f64, 0.4], [0.3, 0.7]];
        let loss = alignment_loss(2, &[1], 0, |frame, class| p[frame][class].ln());
        assert!((loss + (0.6 * 0.7 + 0.4 * 0.3 + 0.4 * 0.7f64).ln()).abs() < 1e-12);
        // The same label twice needs a blank between.
        assert_eq!(alignment_loss(2, &[1, 1], 0, |frame, class| p[frame][class].ln()), f64::INFINITY);
        assert_eq!(alignment_loss(0, &[], 0, |_, _| 0.0), 0.0);
    }
}
