//! [`completeness_gap`]: how far attributions are from adding up.

/// The approximation error of attributions, as Vertex AI reports it: how far their sum is from what they have to
/// explain, relative to that.
///
/// `|Σ attributions − (output − baseline output)| / |output − baseline output|`. Where the output equals the
/// baseline output there is nothing to be relative to, and the absolute gap is given.
pub fn completeness_gap(attributions: &[f64], instance_output: f64, baseline_output: f64) -> f64 {
    let difference = instance_output - baseline_output;
    let gap = (attributions.iter().sum::<f64>() - difference).abs();
    if difference == 0.0 { gap } else { gap / difference.abs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_relative_unless_there_is_nothing_to_explain() {
        assert_eq!(completeness_gap(&[1.0, 2.0], 4.0, 1.0), 0.0);
        assert_eq!(completeness_gap(&[1.0, 1.0], 5.0, 1.0), 0.5);
        assert_eq!(completeness_gap(&[0.25, -0.125], 2.0, 2.0), 0.125);
        assert_eq!(completeness_gap(&[], 1.0, 1.0), 0.0);
    }
}
