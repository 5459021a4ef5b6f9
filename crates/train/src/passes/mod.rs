//! What each kind of layer computes of its values, and on the way back of the gradient by what it gave.

pub(crate) mod activation;
pub(crate) mod convolution;
pub(crate) mod dense;
pub(crate) mod embedding;
pub(crate) mod normalization;
pub(crate) mod pooling;
pub(crate) mod window;
