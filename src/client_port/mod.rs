//! The TLS port that SDKs connect to.
