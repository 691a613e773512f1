//! Bytes to names, types and slices: reads model files. No maths, no threads, no model knowledge.
