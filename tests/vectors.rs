//! Golden cases made by running the JavaScript packages: one test a file, named after it.
//!
//! `AUTOBEE_VECTORS` names another directory with the same files and schema; `AUTOBEE_VECTORS_STRICT=1` turns every
//! case that is not covered into a failure.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read is a failure")]

mod golden;

#[test]
fn crypto() {
    golden::run("crypto", golden::crypto::check);
}

#[test]
fn id_encoding() {
    golden::run("id_encoding", golden::id_encoding::check);
}

#[test]
fn noise() {
    golden::run("noise", golden::noise::check);
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
fn manifest() {
    golden::run("manifest", golden::manifest::check);
}

#[test]
fn protomux() {
    golden::run("protomux", golden::protomux::check);
}

#[test]
fn merkle() {
    golden::run("merkle", golden::merkle::check);
}

#[test]
fn proofs() {
    golden::proofs::run();
}

#[test]
fn hypercore_messages() {
    golden::run("hypercore_messages", golden::hypercore_messages::check);
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
