//! Histories that once were hard, and random ones. Each exchange compares orders with their weights, records and views.

use std::cell::Cell;

use autobee_sim::disk::{Choose as _, Seeded};

use crate::world::{Db, run};

/// 21.133: grants, claims, removals and strangers that cross each other. `a` alone is a member at first.
const MINED: &[&str] = &[
    // Two grant one writer different weights at a time.
    "a a>b2 a>c2 * a>d1 b>d2 * d *",
    "a a>b2 a>c2 * a>d2 b>d1 c>d3 b-d d a-d d *",
    // A writer is granted while it makes itself one.
    "a * b~ a>b2 * b *",
    "a * b~ a>b2 c~ a>c1 a-b b b-c c *",
    // A writer grants itself more than it has, and others grant it too.
    "a a>b1 a>c2 * b>b2 c>b3 b * b c *",
    "a a>b1 * b>b2 b>c2 a>c1 b-c c * a c *",
    // Weights are equal: keys decide.
    "a a>b1 a>c1 a>d1 * a b c d b-c c-d a b * d c b a *",
    "a a>b2 a>c2 * a2 b+3 c2 a-b b c-a c b-c *",
    // Removal against a claim, a grant, and a write.
    "a a>b2 a>c2 * b>c3 a!c c * b *",
    "a a>b2 a>c1 * b!c c+2 a>c2 c a-c c * b *",
    "a a>b2 a>c2 * a!b b!a c * c *",
    // Removed, added with less, added with more.
    "a a>b2 a>c2 * b * a!b a>b1 c>b3 b * b>b2 b * b *",
    "a a>b3 * b * a!b * a>b1 * b a * b *",
    // Strangers between members.
    "a a>b2 a-b c~ d~ a b c-a d-b c~ a-b d~ * a *",
    "a * b~ c~ d~ b-c b~ c-d c~ a d-a * a *",
];

#[test]
fn mined_histories() {
    for script in MINED {
        run(async |world| {
            let all = world.peers(4).await;
            world.play(&all, script).await;
            world.play(&all, "*").await;
            assert!(all[0].order().unwrap().len() > 2, "{script}");
        });
    }
}

/// 21.134
#[test]
fn random_histories() {
    let (mut entries, mut removals, mut strangers) = (0, 0, 0);
    for seed in 0..12 {
        let found = Cell::new(0);
        run(async |world| {
            let all = world.peers(5).await;
            let mut choice = Seeded::new(seed);
            world.play(&all, "a a>b2 *").await;
            for step in 1..=60 {
                let step = if step % 20 == 0 {
                    "*".to_owned()
                } else {
                    draw(&all, &mut choice)
                };
                removals += usize::from(step.contains('!'));
                strangers += usize::from(step.contains('~'));
                world.play(&all, &step).await;
            }
            world.play(&all, "*").await;
            found.set(all[0].order().unwrap().len());
        });
        entries += found.get();
    }
    assert!(
        entries > 400 && removals > 10 && strangers > 10,
        "{entries} entries, {removals} removals, {strangers} of strangers"
    );
}

/// A step. Only a writer that everybody has all of is removed, and no grant lowers a ceiling.
fn draw(all: &[Db], choice: &mut Seeded) -> String {
    let mut any = |of: usize| choice.below(of as u32) as usize;
    let letter = |at: usize| char::from(b'a' + at as u8);
    let writers: Vec<usize> = (0..all.len()).filter(|at| all[*at].writable()).collect();
    let others: Vec<usize> = (0..all.len()).filter(|at| !all[*at].writable()).collect();
    let other = any(all.len());
    let most = ceiling(all, &all[other]) + any(2) as u64;
    let meet = format!(
        "{}-{}",
        letter(other),
        letter((other + 1 + any(all.len() - 1)) % all.len())
    );
    let other = letter(other);
    if writers.is_empty() {
        return meet;
    }
    let writer = letter(writers[any(writers.len())]);
    let second = letter(writers[any(writers.len())]);
    match any(12) {
        0..3 => writer.to_string(),
        3..5 => format!("{writer}+{}", 2 + any(3)),
        5 => format!("{writer}>{other}{most}"),
        // Two grants at a time, of different weights.
        6 if second != writer => format!("{writer}>{other}{most} {second}>{other}{}", most + 1),
        7 if second != writer => format!("* {writer}!{second} *"),
        8..10 if !others.is_empty() => format!("{}~", letter(others[any(others.len())])),
        _ => meet,
    }
}

/// The highest ceiling that anybody knows of a writer.
fn ceiling(all: &[Db], of: &Db) -> u64 {
    let ceilings = all.iter().filter_map(|db| db.writer(&of.local()));
    let most = ceilings.map(|record| record.max_weight.0).max();
    most.unwrap_or_default().clamp(1, 4)
}
