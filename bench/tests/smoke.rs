//! The benchmarks still run: a tiny one goes through real processes, finds its lines in the database and prints its table.

use std::process::Command;

#[test]
fn a_quick_benchmark_prints_product_and_floor_side_by_side() {
    let output = Command::new(env!("CARGO_BIN_EXE_flotilla-bench"))
        .args(["ingest", "--quick", "--rounds", "1"])
        .output()
        .unwrap();
    let (table, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{notes}");
    assert!(table.contains("machine: "), "{table}");
    assert!(table.contains("| benchmark | product | floor of the same run | ratio | goal | met? |"), "{table}");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ingest, 64 agents")).collect();
    assert_eq!(rows.len(), 4, "{table}");
    for row in rows {
        assert_eq!(row.matches('|').count(), 7, "{row}");
        assert!(!row.contains("NaN"), "{row}");
    }
}

#[test]
fn a_fleet_comes_back_without_a_timeout_and_the_others_are_heard_beside_a_flood() {
    for (scene, rows, needed) in [("storm", 8, "timed out | 0.000"), ("fairness", 7, "cancel to the agent")] {
        let output = Command::new(env!("CARGO_BIN_EXE_flotilla-bench"))
            .args([scene, "--quick", "--rounds", "1"])
            .output()
            .unwrap();
        let (table, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{notes}");
        assert_eq!(table.lines().filter(|line| line.starts_with(&format!("| {scene}, "))).count(), rows, "{table}");
        assert!(table.contains(needed), "{table}");
    }
}
