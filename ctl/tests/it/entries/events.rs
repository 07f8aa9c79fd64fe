//! What readers, writers and standbys say.
