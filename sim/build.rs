//! Tells the library how it is compiled: the kit says so when it is slow.

fn main() {
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=AUTOBEE_SIM_OPT_LEVEL={level}");
    println!("cargo::rerun-if-changed=build.rs");
}
