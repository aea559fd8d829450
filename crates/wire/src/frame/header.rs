//! The numbers of a frame's header (sections "Frame Header Format" and "Frame Types").

/// Bytes of the header every frame begins with: stream id, type and flags.
pub const HEADER_LEN: usize = 6;

/// The longest frame of the protocol, header included (section "Max Frame Size").
pub const MAX_FRAME_LEN: usize = 0x00FF_FFFF;

/// Bytes of a metadata length field.
pub(crate) const METADATA_LENGTH_LEN: usize = 3;

/// The type stands above this many bits of flags.
pub(super) const FLAG_BITS: u32 = 10;

pub(super) const SETUP: u16 = 0x01;
pub(super) const LEASE: u16 = 0x02;
pub(super) const KEEPALIVE: u16 = 0x03;
pub(super) const REQUEST_RESPONSE: u16 = 0x04;
pub(super) const REQUEST_FNF: u16 = 0x05;
pub(super) const REQUEST_STREAM: u16 = 0x06;
pub(super) const REQUEST_CHANNEL: u16 = 0x07;
pub(super) const REQUEST_N: u16 = 0x08;
pub(super) const CANCEL: u16 = 0x09;
pub(super) const PAYLOAD: u16 = 0x0A;
pub(super) const ERROR: u16 = 0x0B;
pub(super) const METADATA_PUSH: u16 = 0x0C;
pub(super) const RESUME: u16 = 0x0D;
pub(super) const RESUME_OK: u16 = 0x0E;

pub(super) const FLAG_IGNORE: u16 = 0x200;
pub(super) const FLAG_METADATA: u16 = 0x100;
pub(crate) const FLAG_FOLLOWS: u16 = 0x080;
pub(crate) const FLAG_COMPLETE: u16 = 0x040;
pub(crate) const FLAG_NEXT: u16 = 0x020;
/// Of a KEEPALIVE.
pub(super) const FLAG_RESPOND: u16 = 0x080;
/// Of a SETUP.
pub(super) const FLAG_RESUME: u16 = 0x080;
/// Of a SETUP.
pub(super) const FLAG_LEASE: u16 = 0x040;
