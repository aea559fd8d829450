//! Words that somebody looks for in rows.

/// Words to look for, whatever their case.
pub(super) struct Words {
    words: Vec<String>,
    row: String,
}

impl Words {
    pub(super) fn new(filter: &str) -> Self {
        let words = filter.split_whitespace().map(str::to_lowercase);
        Self {
            words: words.collect(),
            row: String::new(),
        }
    }

    /// Whether what `describe` writes has all of them.
    pub(super) fn are_in(
        &mut self,
        describe: impl FnOnce(&mut String) -> std::fmt::Result,
    ) -> bool {
        if self.words.is_empty() {
            return true;
        }
        self.row.clear();
        let written = describe(&mut self.row).is_ok();
        let row = self.row.to_lowercase();
        written && self.words.iter().all(|word| row.contains(word))
    }
}
