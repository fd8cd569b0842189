//! The engine: from blocks of many writers to one order, one membership and one view.

pub mod dag;
pub mod linearizer;
pub mod system;
pub mod witness;
