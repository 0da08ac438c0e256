//! text → instructions
