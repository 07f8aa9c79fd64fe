//! What a program is told that opens a channel.
