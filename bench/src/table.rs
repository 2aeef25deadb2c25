//! The one table: product beside floor of the same run, their ratio, the goal, and whether it is met.

use std::fmt;

/// A row's goal: a bound of its ratio, or of the product's own value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// The ratio to the floor is at most this.
    RatioAtMost(f64),
    /// The ratio to the floor is at least this.
    RatioAtLeast(f64),
    /// The value itself is at most this.
    AtMost(f64),
    /// For information.
    None,
}

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// The product's value.
    pub(crate) product: f64,
    /// The floor's, where there is one.
    pub(crate) floor: Option<f64>,
    /// Unit of both.
    pub(crate) unit: &'static str,
    /// What it should be.
    pub(crate) goal: Goal,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.product / floor)
    }

    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::RatioAtMost(bar) => self.ratio().map(|ratio| ratio <= bar),
            Goal::RatioAtLeast(bar) => self.ratio().map(|ratio| ratio >= bar),
            Goal::AtMost(bar) => Some(self.product <= bar),
            Goal::None => None,
        }
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Goal::RatioAtMost(bar) => format!("<= {bar}x"),
            Goal::RatioAtLeast(bar) => format!(">= {bar}x"),
            Goal::AtMost(bar) => format!("<= {bar} {}", self.unit),
            Goal::None => "-".to_owned(),
        }
    }
}

/// All rows, in the order of their making.
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn add(&mut self, row: Row) {
        crate::scenes::note(&format!("{}: {} {}", row.name, number(row.product), row.unit));
        self.rows.push(row);
    }
}

/// Three digits or all before the point, whichever is more.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| benchmark | product | floor of the same run | ratio | goal | met? |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let floor = row.floor.map_or("-".to_owned(), |floor| format!("{} {}", number(floor), row.unit));
            let ratio = row.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let met = row.met().map_or("-", |met| if met { "yes" } else { "**no**" });
            let (name, product, goal) = (&row.name, number(row.product), row.goal_text());
            writeln!(f, "| {name} | {product} {} | {floor} | {ratio} | {goal} | {met} |", row.unit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_its_ratio_and_whether_the_goal_is_met() {
        let row = |goal| Row { name: "x".to_owned(), product: 3.0, floor: Some(2.0), unit: "us", goal };
        assert_eq!(row(Goal::RatioAtMost(1.5)).met(), Some(true));
        assert_eq!(row(Goal::RatioAtMost(1.4)).met(), Some(false));
        assert_eq!(row(Goal::RatioAtLeast(1.6)).met(), Some(false));
        assert_eq!(row(Goal::AtMost(3.0)).met(), Some(true));
        let table = Table { rows: vec![row(Goal::RatioAtMost(1.4))] };
        assert!(table.to_string().contains("| x | 3.00 us | 2.00 us | 1.50 | <= 1.4x | **no** |"), "{table}");
    }
}
