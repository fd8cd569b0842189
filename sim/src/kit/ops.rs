//! Operations of an app, drawn by a strategy of proptest from the seed of a run, and made simpler by it.

use std::fmt::Debug;
use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::words::{bytes_text, shorten};
use crate::seed::Seeds;
use crate::workload::AppOp;

/// Makes the bytes of an operation.
pub(super) type Encode<T> = Arc<Encoding<T>>;

type Encoding<T> = dyn Fn(&T) -> Vec<u8> + Send + Sync;

/// The source of operations. Strategies need not be `Send`: all drawing is done by the thread of the test.
pub(super) trait Ops {
    /// The operation of this number in a seed, to be made simpler.
    fn tree(&self, seed: u64, number: u32) -> Result<Box<dyn OpTree>, String>;
}

/// An operation with all that is simpler than it.
pub(super) trait OpTree {
    /// As it is now.
    fn current(&self) -> AppOp;
    /// Makes it simpler; false when it cannot be.
    fn simplify(&mut self) -> bool;
    /// Takes half of the last simplification back; false when there is nothing between.
    fn complicate(&mut self) -> bool;
}

/// Operations of a type that is printed by `Debug`.
pub(super) struct Typed<S: Strategy> {
    pub(super) strategy: S,
    pub(super) encode: Encode<S::Value>,
}

/// Operations that are bytes.
pub(super) struct Untyped<S>(pub(super) S);

impl<S: Strategy> Ops for Typed<S>
where
    S::Tree: 'static,
    S::Value: 'static,
{
    fn tree(&self, seed: u64, number: u32) -> Result<Box<dyn OpTree>, String> {
        let tree = tree(&self.strategy, seed, number)?;
        let encode = Arc::clone(&self.encode);
        let to_op =
            move |value: &S::Value| AppOp::new(number, shorten(&format!("{value:?}")), &encode(value));
        Ok(Box::new(ProptestTree { tree, to_op }))
    }
}

impl<S: Strategy<Value = Vec<u8>>> Ops for Untyped<S>
where
    S::Tree: 'static,
{
    fn tree(&self, seed: u64, number: u32) -> Result<Box<dyn OpTree>, String> {
        let tree = tree(&self.0, seed, number)?;
        let to_op = move |bytes: &Vec<u8>| AppOp::new(number, bytes_text(bytes), bytes);
        Ok(Box::new(ProptestTree { tree, to_op }))
    }
}

fn tree<S: Strategy>(strategy: &S, seed: u64, number: u32) -> Result<S::Tree, String> {
    let mut random = [0; 32];
    let mut stream = Seeds::new(seed).stream("kit", &["op", &number.to_string()]);
    stream.fill(&mut random);
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &random);
    let tree = strategy.new_tree(&mut TestRunner::new_with_rng(config, rng));
    tree.map_err(|reason| format!("the strategy gives no operation: {reason}"))
}

struct ProptestTree<T, F> {
    tree: T,
    to_op: F,
}

impl<T: ValueTree, F: Fn(&T::Value) -> AppOp> OpTree for ProptestTree<T, F>
where
    T::Value: Debug,
{
    fn current(&self) -> AppOp {
        (self.to_op)(&self.tree.current())
    }

    fn simplify(&mut self) -> bool {
        self.tree.simplify()
    }

    fn complicate(&mut self) -> bool {
        self.tree.complicate()
    }
}

/// Operations without a type: bytes, as [`super::Check::ops`] takes them.
#[derive(Debug, Clone, Copy)]
pub struct Raw;

/// Marks an operation that is bytes already.
#[derive(Debug, Clone, Copy)]
pub struct AsBytes;

/// Marks an operation of the type of [`super::Check::typed_ops`].
#[derive(Debug, Clone, Copy)]
pub struct AsValue;

/// What [`super::Check::members_by`] may answer: bytes, or an operation of the type that the check has.
pub trait IntoOp<T, M> {
    #[doc(hidden)]
    fn into_op(self, encode: Option<&Encoding<T>>) -> (Vec<u8>, String);
}

impl<T> IntoOp<T, AsBytes> for Vec<u8> {
    fn into_op(self, _: Option<&Encoding<T>>) -> (Vec<u8>, String) {
        let shown = bytes_text(&self);
        (self, shown)
    }
}

impl<T: Debug> IntoOp<T, AsValue> for T {
    fn into_op(self, encode: Option<&Encoding<T>>) -> (Vec<u8>, String) {
        // A check of values has an encoding: who asks for one without gets nothing appended.
        let bytes = encode.map(|encode| encode(&self)).unwrap_or_default();
        (bytes, shorten(&format!("{self:?}")))
    }
}
