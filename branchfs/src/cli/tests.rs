//! The grammar of the command line.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("branchfs").chain(line.split_whitespace()))
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_parses() {
    let lines = [
        "init",
        "init --store /x",
        "create a b -p main --independent",
        "create a --frozen",
        "create a --max-size 10M",
        "quota a",
        "quota a 1.5GiB --json",
        "quota a none",
        "list",
        "ls --json",
        "path a",
        "diff a",
        "apply a",
        "apply a -",
        "apply a x.patch",
        "diff a --stat",
        "diff a b --name-status --color never --no-pager",
        "diff @0 main --color=always",
        "commit a",
        "checkpoint a",
        "checkpoint a one",
        "checkpoint a --list",
        "checkpoint a --delete one",
        "restore a one",
        "diff a@one a",
        "abort a --cascade",
        "run -- true",
        "run -b a --keep --timeout 5m -- sh -c x",
        "run --max-size 2GiB -- true",
        "explore -n 4 --check x --timeout 90s -- sh -c y",
        "explore --cmd a --cmd b",
        "explore --max-size none --cmd a",
        "ps",
        "ps a --json",
        "top a -n 2 --delay 100ms",
        "kill a",
        "freeze a",
        "thaw a --json",
        "run --memory 2GiB --pids 100 --cpu 1.5 -- make",
        "run --require inescapable-kill --ladder pid-namespace -- make",
        "run --policy build --net allow=crates.io,*.github.com:443 --no-watch -- make",
        "run --learn mine.toml --private-tmp -- make",
        "explore -n 2 --policy edit --memory 1G -- make",
        "why write /etc/hosts --policy build",
        "why connect crates.io:443 --policy mine.toml --json",
        "log -n 3",
        "gc --dry-run --keep-commits 2",
        "prune --keep-age 30d --keep-size 5G --save",
        "show 3",
        "show 3 --stat --json",
        "show 3 --name-status --no-pager",
        "show 3 --patch --color always",
        "commit a -m why",
        "status",
        "mount",
        "mount /mnt",
        "umount",
        "stop",
        "doctor",
        "demo",
        "daemon --base /b --store /s --mountpoint /m --launched",
    ];
    for line in lines {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn nonsense_is_refused_with_the_code_for_wrong_usage() {
    let lines = [
        "",
        "creat a",
        "create",
        "create a --independent --frozen",
        "diff",
        "apply",
        "diff a --stat --name-status",
        "diff a --color sometimes",
        "run",
        "run --timeout soon -- true",
        "explore",
        "explore -n 0 -- true",
        "explore -n 65 -- true",
        "explore -n 2 --cmd a",
        "explore --cmd a -- b",
    ];
    for line in lines {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(Code::USAGE.0), "{line}: {error}");
    }
    assert_eq!(parse("--help").map(|_| ()).unwrap_err().kind(), ErrorKind::DisplayHelp);
}

#[test]
fn what_follows_the_dashes_belongs_to_the_command() {
    let cli = parse("run -- cmd --json -C x --keep").unwrap();
    assert!(!cli.json && cli.directory.is_none());
    assert!(parse("list --json -C x").unwrap().json);
}

#[test]
fn the_documentation_names_every_verb() {
    let docs = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md"));
    for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let heading = format!("### branchfs {}", verb.get_name());
        assert!(docs.contains(&heading), "docs/cli.md lacks: {heading}");
        for option in verb.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(docs.contains(&format!("--{option}")), "docs/cli.md lacks --{option} of {heading}");
        }
    }
}
