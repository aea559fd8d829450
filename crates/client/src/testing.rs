//! A scripted proxy.
