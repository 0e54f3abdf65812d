//! What every WebSocket needs: [`inbound`] puts messages together behind the [`guard`], [`frame`](mod@frame) frames what
//! is sent, [`close`] lists why a connection ends.
//!
//! Pure: knows no actor, no store and no HTTP.

pub mod close;
pub mod cursor;
pub mod frame;
pub mod guard;
pub mod inbound;

pub use close::CloseReason;
pub use cursor::{Cursor, CursorError};
pub use inbound::{Assembler, InboundError, Incoming};
