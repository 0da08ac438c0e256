//! images in and out
