//! Columns for people. What other programs read is JSON, never this.

use super::text::{visible, width};

/// Rows below a head, all with as many cells as the head.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns a table without rows.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Table { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    /// Returns a table of lines whose cells stand between tabs; the first line is the head.
    pub fn of_lines(lines: impl IntoIterator<Item = String>) -> Self {
        let mut rows: Vec<Vec<String>> =
            lines.into_iter().map(|line| line.split('\t').map(visible).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        rows.iter_mut().for_each(|row| row.resize(columns, String::new()));
        if rows.is_empty() {
            rows.push(Vec::new());
        }
        Table { rows }
    }

    /// Adds a row. Cells are escaped, so names from images may go in as they are. Missing ones are empty, and those
    /// beyond the head are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        let columns = self.rows[0].len();
        let mut row: Vec<String> = cells.into_iter().take(columns).map(|cell| visible(cell.as_ref())).collect();
        row.resize(columns, String::new());
        self.rows.push(row);
    }

    /// Returns the table without its head: nothing can be added to it then.
    pub fn without_head(mut self) -> Self {
        self.rows.remove(0);
        self
    }

    /// Returns the table as lines, each with a line feed, columns three spaces apart, no space at the end of a line.
    pub fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let wide = |column: usize| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(wide).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, wide) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', wide - width(cell) + 3));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_tabs_are_columns() {
        let table = Table::of_lines(["A\tB", "long\tx\ty", "c"].map(str::to_owned));
        assert_eq!(table.render(), "A      B\nlong   x   y\nc\n");
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(["NAME", "ID", "SIZE"]);
        table.row(["web:1", "sha256:0123", "116.4 MiB"]);
        table.row(["日本", "", "1.0 KiB"]);
        table.row(["a\nb", "x"]);
        let want = "\
NAME    ID            SIZE
web:1   sha256:0123   116.4 MiB
日本                  1.0 KiB
a\\nb    x
";
        assert_eq!(table.render(), want);
    }
}
