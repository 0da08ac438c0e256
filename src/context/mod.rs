//! what COPY reads
