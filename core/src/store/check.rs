//! What `Store::check` tells.

/// Longest text of all findings together, in bytes.
const MOST_TEXT: usize = 8_000;

/// What a store's own consistency check found. Nothing of it is harmful by itself: it is what died
/// with its owner and waits for the next user to clear it away, or damage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Check {
    /// How many findings there are.
    pub findings: u64,
    /// The first of them in words; each begins with its kind: `slot`, `holder`, `waiter`, `seal`,
    /// `record`, `word`, `name` or `overlap`.
    pub texts: Vec<String>,
}

impl Check {
    /// Whether nothing was found.
    pub fn is_sound(&self) -> bool {
        self.findings == 0
    }

    /// All texts, a line each; at most 8 KiB.
    pub fn to_text(&self) -> String {
        self.texts.join("\n")
    }

    #[cfg_attr(not(feature = "shm"), expect(dead_code, reason = "only shm can check"))]
    pub(crate) fn add(&mut self, text: String) {
        self.findings += 1;
        let length: usize = self.texts.iter().map(|text| text.len() + 1).sum();
        if length + text.len() < MOST_TEXT {
            self.texts.push(text);
        }
    }
}
