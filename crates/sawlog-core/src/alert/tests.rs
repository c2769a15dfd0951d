//! From cells of windows to events.
