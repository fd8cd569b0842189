//! Help, completions and manual pages.

use crate::run::Place;

const COMMANDS: [&str; 25] = [
    "create", "join", "id", "ticket", "put", "get", "del", "ls", "watch", "import", "export", "add",
    "remove", "writers", "status", "serve", "sync", "log", "diff", "verify", "salvage", "compact", "backup",
    "restore", "doctor",
];

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    let help = place.good("--help");
    assert!(help.contains("Exit codes: 0 done"), "{help}");
    for command in COMMANDS.iter().chain(&["completions", "man"]) {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let help = place.good(&format!("{command} --help"));
        assert!(help.contains("Example"), "{help}");
        assert!(
            help.contains(&format!("autobee {command}")) || help.contains(&format!(" {command} ")),
            "{help}"
        );
    }
    assert!(place.good("--version").starts_with("autobee "));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.good(&format!("completions {shell}"));
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
    }
    place.bad("completions tcsh", 2, &["invalid value"]);
    let page = place.good("man");
    assert!(page.contains(".TH autobee") && COMMANDS.iter().all(|command| page.contains(command)));
    let page = place.good("man sync");
    assert!(
        page.contains("autobee\\-sync") && page.contains("connect"),
        "{page}"
    );
    place.bad("man fly", 2, &["there is no command \"fly\""]);
}
