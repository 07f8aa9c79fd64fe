//! Integration tests of `ringward`: one binary, a module a noun.
