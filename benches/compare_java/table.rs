//! A table that sets figures of ours beside those of others, in Markdown.

use std::fmt::Write as _;

/// One figure of each proxy, ours first.
pub(crate) struct Row {
    name: &'static str,
    values: Vec<f64>,
    unit: Unit,
    goal: Option<f64>,
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    Megabytes,
}

impl Row {
    /// `values` are in seconds or bytes.
    pub(crate) fn new(name: &'static str, unit: Unit, values: impl Iterator<Item = f64>) -> Self {
        Self {
            name,
            values: values.collect(),
            unit,
            goal: None,
        }
    }

    /// Ours shall be at least `times` less than the second figure.
    pub(crate) fn goal(self, times: f64) -> Self {
        Self {
            goal: Some(times),
            ..self
        }
    }

    fn cells(&self) -> Vec<String> {
        let ours = self.values.first().copied().unwrap_or_default();
        let mut cells = vec![self.name.to_owned(), self.unit.show(ours)];
        for (index, value) in self.values.iter().enumerate().skip(1) {
            let ratio = value / ours;
            cells.extend([self.unit.show(*value), format!("{}×", significant(ratio))]);
            if index == 1 {
                cells.push(self.verdict(ratio));
            }
        }
        cells
    }

    fn verdict(&self, ratio: f64) -> String {
        let Some(goal) = self.goal else {
            return String::new();
        };
        let verdict = if ratio >= goal { "met" } else { "not met" };
        format!("{goal}×: {verdict}")
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{} s", significant(value)),
            Self::Megabytes => format!("{} MB", significant(value / 1e6)),
        }
    }
}

/// Three digits, or those before the point.
fn significant(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// `names` are those of the proxies, ours first.
pub(crate) fn markdown(names: &[String], rows: &[Row]) -> String {
    let ours = names.first().map_or("", String::as_str);
    let mut heading = vec![String::new(), ours.to_owned()];
    for (index, name) in names.iter().enumerate().skip(1) {
        heading.extend([name.clone(), format!("{name} ÷ {ours}")]);
        if index == 1 {
            heading.push("goal".to_owned());
        }
    }
    let mut table = line(&heading);
    let _ = writeln!(table, "|---{}|", "|---:".repeat(heading.len() - 1));
    for row in rows {
        table.push_str(&line(&row.cells()));
    }
    table
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
