//! Pure functions over predictions: metrics and attributions.
