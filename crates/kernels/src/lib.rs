//! Quantised matrix products, attention and vector operations, for the instruction set at hand.
//!
//! Three promises hold for everything here:
//!
//! - **A plain definition.** Beside every fast version stands one in plain code, and the fast ones give its bits.
//! - **One order.** Each number of a result is reduced in one fixed order that depends on its own inputs alone: not on
//!   what is computed beside it, on threads, or on the instruction set.
//! - **Bytes are read at the file's width.** Weights are repacked, never widened, so that a product of few vectors costs
//!   what reading the file would.

mod activations;
mod attention;
mod buffer;
mod dense;
mod depthwise;
mod dequantize;
mod expect;
mod half;
mod isa;
mod kv;
mod lanes;
mod matrix;
pub mod ops;
mod packed;
mod pool;
pub mod probe;
mod product;
#[cfg(test)]
mod random;

pub use activations::Activations;
pub use attention::{AttentionArgs, Span, attention};
pub use buffer::{Arena, OutOfMemory};
pub use dense::{Panels, Rows, product};
pub use depthwise::{Depthwise, depthwise};
pub use dequantize::dequantize;
pub use isa::{Isa, UnknownIsa};
pub use kv::{KvPages, PAGE_TOKENS, Place};
pub use matrix::{Matrix, PackError};
pub use pool::Pool;
pub use product::{Biased, matmul, matmul_gated};
