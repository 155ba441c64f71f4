//! Operators of torchvision whose results have as many rows as the data says.
#![allow(unsafe_code, reason = "writes to buffers of compiled code")]

use super::Call;
use super::text::element;
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::tensor::Dtype;

/// Corners of a box.
type Corners = [f64; 4];

/// Positions of the boxes that stay, best score first: those that overlap no better box that stays by more than `threshold`.
/// Intermediate results are rounded by `round`.
fn keep(boxes: &[Corners], scores: &[f64], threshold: f64, round: fn(f64) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // Stable, with NaN first as in a descending sort.
    order.sort_by(|&a, &b| {
        let (x, y) = (scores[a], scores[b]);
        y.partial_cmp(&x).unwrap_or_else(|| y.is_nan().cmp(&x.is_nan()))
    });
    let area = |b: &Corners| round(round(b[2] - b[0]) * round(b[3] - b[1]));
    let areas: Vec<f64> = boxes.iter().map(area).collect();
    let mut kept: Vec<usize> = Vec::new();
    for &candidate in &order {
        let c = &boxes[candidate];
        let is_covered = kept.iter().any(|&better| {
            let b = &boxes[better];
            let width = round(b[2].min(c[2]) - b[0].max(c[0])).max(0.0);
            let height = round(b[3].min(c[3]) - b[1].max(c[1])).max(0.0);
            let common = round(width * height);
            let union = round(round(areas[better] + areas[candidate]) - common);
            round(common / union) > threshold
        });
        if !is_covered {
            kept.push(candidate);
        }
    }
    kept
}

/// `nms(boxes [n, 4], scores [n], kept [n], threshold) -> count`: writes the positions of the boxes that stay.
pub(super) fn nms(call: &mut Call<'_>) -> Result<()> {
    let (boxes, scores, kept, threshold) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?, call.float(3)?);
    let n = scores.n_elements();
    if kept.dtype != Dtype::I64 || kept.n_elements() != n || boxes.n_elements() != 4 * n {
        return Err(Error::new(Status::Internal, "nms: buffers do not fit"));
    }
    let (box_bytes, score_bytes) = (boxes.to_bytes(), scores.to_bytes());
    let corners: Vec<Corners> =
        (0..n).map(|i| std::array::from_fn(|c| element(&boxes, &box_bytes, 4 * i + c))).collect();
    let scores: Vec<f64> = (0..n).map(|i| element(&scores, &score_bytes, i)).collect();
    let round = if boxes.dtype == Dtype::F64 { |x| x } else { |x| f64::from(x as f32) };
    let positions = keep(&corners, &scores, threshold, round);
    for (i, &position) in positions.iter().enumerate() {
        // SAFETY: there are `n` elements of this type, which the routine may write, and no more positions.
        unsafe { kept.data().cast::<i64>().add(i).write(position as i64) };
    }
    call.ret_int(positions.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_boxes_that_a_better_one_covers() {
        let boxes = [[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]];
        assert_eq!(keep(&boxes, &[0.1, 0.9, 0.5], 0.5, |x| x), [1, 2]);
        assert_eq!(keep(&boxes, &[0.1, 0.9, 0.5], 0.99, |x| x), [1, 2, 0]);
        assert!(keep(&[], &[], 0.5, |x| x).is_empty());
    }
}
