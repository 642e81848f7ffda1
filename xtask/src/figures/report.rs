//! Figures with their bounds, as a table for people and as JSON lines for programs.

use std::fmt::Write as _;

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    /// What it must not be above.
    at_most: Option<f64>,
}

impl Figure {
    /// Without a bound.
    pub(crate) fn new(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, at_most: None }
    }

    /// It must not be above.
    pub(crate) fn at_most(self, bound: f64) -> Self {
        Self { at_most: Some(bound), ..self }
    }

    /// A figure that is not a number never holds.
    fn holds(&self) -> bool {
        self.at_most.is_none_or(|bound| self.value <= bound)
    }

    fn target(&self) -> String {
        self.at_most.map_or_else(String::new, |bound| format!("<= {bound}"))
    }
}

/// Figures and remarks.
#[derive(Debug, Default, Clone)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    remarks: Vec<String>,
}

impl Report {
    /// Of these figures.
    pub(crate) fn new(figures: Vec<Figure>) -> Self {
        Self { figures, remarks: Vec::new() }
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Takes a figure's bound away, where what was measured says nothing of it.
    pub(crate) fn unbounded(&mut self, name: &str) {
        self.figures.iter_mut().filter(|figure| figure.name == name).for_each(|figure| figure.at_most = None);
    }

    /// The figure of that name; 0 when there is none.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.figures.iter().find(|figure| figure.name == name).map_or(0.0, |figure| figure.value)
    }

    /// Adds a remark for people.
    pub(crate) fn remark(&mut self, words: String) {
        self.remarks.push(words);
    }

    /// Whether every bound holds.
    pub(crate) fn holds(&self) -> bool {
        self.figures.iter().all(Figure::holds)
    }

    /// The bounds that don't hold, in one line.
    pub(crate) fn broken(&self) -> String {
        let broken = self.figures.iter().filter(|figure| !figure.holds());
        let words =
            broken.map(|figure| format!("{} is {:.3}, not {}", figure.name, figure.value, figure.target()));
        words.collect::<Vec<_>>().join("; ")
    }

    /// The table and the remarks on standard error, a JSON line for each figure on standard output.
    pub(crate) fn print(&self) {
        eprint!("{}", self.table());
        for figure in &self.figures {
            let target = figure.target();
            let line = serde_json::json!({
                "figure": figure.name, "value": figure.value, "unit": figure.unit,
                "target": (!target.is_empty()).then_some(target), "holds": figure.holds(),
            });
            println!("{line}");
        }
    }

    fn table(&self) -> String {
        let mut table = String::from("\nfigure                             value  target       unit\n");
        for figure in &self.figures {
            let mark = if figure.holds() { "" } else { "  BROKEN" };
            let value = if figure.value.fract() == 0.0 {
                format!("{}", figure.value)
            } else {
                format!("{:.3}", figure.value)
            };
            let (name, target, unit) = (figure.name, figure.target(), figure.unit);
            let _ = writeln!(table, "{name:<30} {value:>9}  {target:<12} {unit}{mark}");
        }
        self.remarks.iter().for_each(|words| {
            let _ = writeln!(table, "  {words}");
        });
        table
    }
}

/// The value below which this share of the values lies (nearest rank); not a number without values.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_passed_is_named() {
        let report = Report::new(vec![
            Figure::new("a", 1.0, "s").at_most(1.0),
            Figure::new("b", 2.5, "s").at_most(2.0),
            Figure::new("c", f64::NAN, "s").at_most(0.0),
        ]);
        assert!(!report.holds());
        assert_eq!(report.broken(), "b is 2.500, not <= 2; c is NaN, not <= 0");
        assert_eq!(report.table().matches("BROKEN").count(), 2);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99)), (10.0, 20.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
