//! Golden cases made by running the JavaScript packages: one test a file, named after it.
//!
//! `AUTOBEE_VECTORS` names another directory with the same files and schema; `AUTOBEE_VECTORS_STRICT=1` turns every
//! case that is not covered into a failure.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read is a failure")]

mod golden;

#[test]
fn autobee_encryption() {
    golden::run("autobee_encryption", golden::autobee_encryption::check);
}

#[test]
fn bee_changes() {
    golden::run("bee_changes", golden::bee_changes::check);
}

#[test]
fn bee_cross_core() {
    golden::run("bee_cross_core", golden::bee_cross_core::check);
}

#[test]
fn bee_diff() {
    golden::run("bee_diff", golden::bee_diff::check);
}

#[test]
fn bee_encoding() {
    golden::run("bee_encoding", golden::bee_encoding::check);
}

#[test]
fn bee_ops() {
    golden::run("bee_ops", golden::bee_ops::check);
}

#[test]
fn bee_ranges() {
    golden::run("bee_ranges", golden::bee_ranges::check);
}

#[test]
fn block_encryption() {
    golden::run("block_encryption", golden::block_encryption::check);
}

#[test]
fn corestore_keys() {
    golden::run("corestore_keys", golden::corestore_keys::check);
}

#[test]
fn crypto() {
    golden::run("crypto", golden::crypto::check);
}

#[test]
fn divergences() {
    golden::run("divergences", |case| {
        golden::divergences::check(case)?;
        match case.get("recommended") {
            Some(wanted) => golden::engine::check(case, &golden::engine::divergence_deliveries(case), wanted),
            None => Ok(()),
        }
    });
}

#[test]
fn encoding() {
    golden::run("encoding", golden::encoding::check);
}

#[test]
fn hypercore_messages() {
    golden::run("hypercore_messages", golden::hypercore_messages::check);
}

#[test]
fn id_encoding() {
    golden::run("id_encoding", golden::id_encoding::check);
}

#[test]
fn manifest() {
    golden::run("manifest", golden::manifest::check);
}

#[test]
fn merkle() {
    golden::run("merkle", golden::merkle::check);
}

#[test]
fn noise() {
    golden::run("noise", golden::noise::check);
}

#[test]
fn oplog() {
    golden::run("oplog", golden::oplog::check);
}

#[test]
fn order() {
    golden::run("order", golden::order::check);
}

#[test]
fn proofs() {
    golden::proofs::run();
}

#[test]
fn protomux() {
    golden::run("protomux", golden::protomux::check);
}

#[test]
fn scenarios() {
    golden::run("scenarios", |case| {
        golden::scenarios::check(case)?;
        golden::append::check(case)?;
        golden::engine::check(case, &golden::engine::scenario_deliveries(case), &case["final"])
    });
}

#[test]
fn secret_stream_transcripts() {
    golden::run(
        "secret_stream_transcripts",
        golden::secret_stream_transcripts::check,
    );
}

#[test]
fn secretstream() {
    golden::run("secretstream", golden::secretstream::check);
}

#[test]
fn system_records() {
    golden::run("system_records", golden::system_records::check);
}

#[test]
fn wakeup_messages() {
    golden::run("wakeup_messages", golden::wakeup_messages::check);
}

#[test]
fn replication_requests() {
    golden::run("replication_requests", golden::replication_requests::check);
}

#[test]
fn replication_transcripts() {
    golden::run("replication_transcripts", golden::replication_transcripts::check);
}

#[test]
fn witness() {
    golden::run("witness", golden::witness::check);
}
