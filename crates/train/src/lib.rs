//! A declarative model in Keras' vocabulary to trained weights, and its gradients.
//!
//! [`fit`] reads rows, fits the feature steps, trains the network and gives the files of an artifact. The
//! same specification over the same rows gives the same bytes: one thread computes, and every random
//! choice follows from the seed.

mod columns;
mod dataset;
mod epoch;
mod error;
mod export;
mod features;
mod fit;
mod gradients;
mod head;
mod initial;
mod layers;
mod network;
mod optimizer;
mod passes;
mod products;
mod random;
mod source;
mod target;
mod values;

pub use epoch::{Epoch, Flow};
pub use error::TrainError;
pub use fit::{Trained, fit, fit_until};
pub use gradients::{Network, NetworkError};
pub use network::PassError;
pub use source::{Blocks, RowSource, RowSourceError};
