//! placeholder
/// x
pub struct Owner;
/// x
pub struct StoreHandle;
