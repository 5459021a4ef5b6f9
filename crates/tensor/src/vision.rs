//! Image files to the pixels that networks take, and pictures of what moved these.

mod file;
mod heat;
mod orientation;
mod pixels;
mod raster;
mod resample;
mod webp;

pub use file::{FileKind, Picture};
pub use heat::heat_map;
pub use pixels::Pixels;
