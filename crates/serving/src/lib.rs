//! The data plane: the Runtime port, routing table, admission and dynamic batching.
