//! Token ids in, logits out. No text, no sockets.
