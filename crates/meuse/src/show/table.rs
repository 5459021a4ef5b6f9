//! [`Table`]: columns that line up.

/// Rows under a heading, padded so that columns line up.
#[derive(Debug, Clone)]
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; one that begins with `>` sets its column flush right.
    pub fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|h| h.starts_with('>')).collect();
        let head = headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        Table { right, rows: vec![head] }
    }

    /// Adds a row; cells beyond the headings are dropped.
    pub fn row<I: IntoIterator<Item = S>, S: Into<String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().map(Into::into).take(self.right.len()).collect());
    }

    /// Whether there is nothing under the heading.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The heading and the rows, one line each.
    pub fn lines(&self) -> Vec<String> {
        let width = |c: usize| {
            self.rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(&self.right) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let blanks = " ".repeat(width - cell.chars().count());
            if *right {
                line.push_str(&blanks);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&blanks);
            }
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">ROWS"]);
        table.row(["é", "1"]);
        table.row(["longer", "1,000"]);
        assert_eq!(table.lines(), ["NAME     ROWS", "é           1", "longer  1,000"]);
    }
}
