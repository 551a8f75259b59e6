//! Error codes.
/// x
pub struct ErrorBody;
/// x
pub struct ErrorCode;
/// x
pub struct Fault;
/// x
pub struct Retry;
