//! A declarative model in Keras' vocabulary to trained weights, and its gradients.
