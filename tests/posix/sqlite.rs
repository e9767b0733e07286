//! SQLite: locks, fsync, shared memory and recovery, judged by its own integrity check and by the rows.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use crate::ground::{Ground, Place};
use crate::tools::{long, version};

/// Journal mode and bytes that are mapped.
const MODES: [(&str, u64); 4] = [("delete", 0), ("delete", 64 << 20), ("wal", 0), ("wal", 64 << 20)];
const WRITERS: usize = 4;

/// A database with 1,000 rows, in the base.
fn old_database(base: &Path) {
    let script = "CREATE TABLE old(n INTEGER PRIMARY KEY, text TEXT);
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000)
         INSERT INTO old SELECT n, printf('row %d', n) FROM c;";
    let place = Place::new("the base", base);
    place.ok(&format!("sqlite3 old.db \"{script}\""));
}

#[test]
fn concurrent_writers_of_a_database_leave_in_a_branch_what_they_leave_on_the_plain_filesystem() {
    let Some(ground) = Ground::new(&["sqlite3"], old_database) else { return };
    let transactions = if long() { 500 } else { 25 };
    for (journal, mapped) in MODES {
        let dumps = ground.places().map(|place| write_concurrently(place, journal, mapped, transactions));
        let dumps: Vec<String> = dumps.collect();
        assert!(dumps.iter().all(|dump| *dump == dumps[0]), "{journal}, {mapped} mapped: {dumps:?}");
        let (version, all) = (sqlite(), WRITERS * transactions);
        println!(
            "posix: sqlite {version}: {journal}, {mapped} bytes mapped: {all} transactions, equal everywhere"
        );
    }
}

/// Every writer adds rows to a table of the base's database and counts in one row they share. Gives back all
/// rows.
fn write_concurrently(place: &Place, journal: &str, mapped: u64, transactions: usize) -> String {
    let database = format!("{journal}-{mapped}.db");
    let mode = place.ok(&format!("cp old.db {database}; sqlite3 {database} 'PRAGMA journal_mode={journal}'"));
    assert_eq!(mode, format!("{journal}\n"), "on {}", place.name);
    place.ok(&format!("sqlite3 {database} 'CREATE TABLE counter(n); INSERT INTO counter VALUES (0)'"));
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut command = place.command("sqlite3");
            let mut child = command.arg("-bail").arg(&database).stdin(Stdio::piped()).spawn().unwrap();
            let script = writes(writer, mapped, transactions);
            child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            child
        })
        .collect();
    for writer in &mut writers {
        assert!(writer.wait().unwrap().success(), "a writer on {}", place.name);
    }
    let check = "PRAGMA integrity_check; SELECT n FROM counter; SELECT count(*) FROM old";
    let (counted, rows) = (WRITERS * transactions, 1000 + 10 * WRITERS * transactions);
    assert_eq!(place.ok(&format!("sqlite3 {database} '{check}'")), format!("ok\n{counted}\n{rows}\n"));
    place.ok(&format!("sqlite3 {database} 'SELECT * FROM old ORDER BY n'"))
}

fn writes(writer: usize, mapped: u64, transactions: usize) -> String {
    let mut script = format!(".timeout 120000\n.output /dev/null\nPRAGMA mmap_size={mapped};\n.output\n");
    for transaction in 0..transactions {
        script.push_str("BEGIN IMMEDIATE; UPDATE counter SET n = n + 1;\n");
        for row in 0..10 {
            let n = 10_000 + (writer * transactions + transaction) * 10 + row;
            script.push_str(&format!("INSERT INTO old VALUES ({n}, 'writer {writer}, {transaction}');\n"));
        }
        script.push_str("COMMIT;\n");
    }
    script
}

#[test]
fn a_database_whose_writer_was_killed_in_a_transaction_recovers_in_a_branch() {
    let Some(ground) = Ground::new(&["sqlite3"], old_database) else { return };
    for (journal, mapped) in MODES {
        for place in ground.places() {
            killed_in_a_transaction(place, journal, mapped);
        }
        println!("posix: sqlite {}: {journal}, {mapped} bytes mapped: recovers from kill -9", sqlite());
    }
}

fn killed_in_a_transaction(place: &Place, journal: &str, mapped: u64) {
    let database = format!("killed-{journal}-{mapped}.db");
    place.ok(&format!("cp old.db {database}; sqlite3 {database} 'PRAGMA journal_mode={journal}'"));
    let before = place.ok(&format!("sqlite3 {database} 'SELECT * FROM old'"));
    let mut writer = place.command("sqlite3");
    let mut writer = writer.arg(&database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // With room for few pages changes reach the disk before the commit.
    let script = format!(
        ".output /dev/null\nPRAGMA mmap_size={mapped};\nPRAGMA cache_size=5;\n.output\n
         BEGIN IMMEDIATE; UPDATE old SET text = text || ' changed' || hex(zeroblob(200));
         DELETE FROM old WHERE n % 7 = 0; SELECT 'in the transaction';\n"
    );
    let mut input = writer.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(writer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in the transaction\n", "on {}", place.name);
    writer.kill().unwrap();
    writer.wait().unwrap();
    let left = place.dir.join(format!("{database}{}", if journal == "wal" { "-wal" } else { "-journal" }));
    assert!(
        left.metadata().unwrap().len() > 0,
        "nothing to recover from on {}: {}",
        place.name,
        left.display()
    );
    let after = place.ok(&format!("sqlite3 {database} 'SELECT * FROM old'"));
    assert!(after == before, "{journal} on {}: the transaction shows", place.name);
    let check = format!(
        "sqlite3 {database} 'PRAGMA integrity_check; UPDATE old SET text = 1; SELECT sum(text) FROM old'"
    );
    assert_eq!(place.ok(&check), "ok\n1000\n", "{journal} on {}", place.name);
}

fn sqlite() -> String {
    version("sqlite3").split(' ').next().unwrap().to_owned()
}
