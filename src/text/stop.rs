//! Stop texts in a stream of pieces.

/// Finds the first of some texts in a stream and holds back what may be the beginning of one.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text that is not out yet.
    held: String,
    /// What the last call let through.
    out: String,
    met: bool,
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones never match.
    pub fn new(stops: &[String]) -> StopMatcher {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        StopMatcher { stops, held: String::new(), out: String::new(), met: false }
    }

    /// Whether a stop text has appeared.
    pub fn is_met(&self) -> bool {
        self.met
    }

    /// Takes a piece; returns the text that is certain not to belong to a stop text. Nothing comes
    /// out once one has appeared.
    pub fn push(&mut self, piece: &str) -> &str {
        self.out.clear();
        if self.met {
            return &self.out;
        }
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|s| self.held.find(s.as_str())).min();
        self.met = found.is_some();
        let certain = found.unwrap_or_else(|| self.held.len() - self.undecided());
        self.out.push_str(&self.held[..certain]);
        self.held.drain(..certain);
        &self.out
    }

    /// Ends the stream: what was held back and turned out to be no stop text.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        if !self.met {
            std::mem::swap(&mut self.out, &mut self.held);
        }
        &self.out
    }

    /// Length of the longest end of the held text that begins a stop text.
    fn undecided(&self) -> usize {
        let starts = |s: &String| {
            let longest = s.len().saturating_sub(1).min(self.held.len());
            (1..=longest)
                .rev()
                .find(|&n| s.is_char_boundary(n) && self.held.ends_with(&s[..n]))
                .unwrap_or(0)
        };
        self.stops.iter().map(starts).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], text: &str, size: usize) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut m = StopMatcher::new(&stops);
        let chars: Vec<char> = text.chars().collect();
        let mut out = String::new();
        for piece in chars.chunks(size) {
            out += m.push(&piece.iter().collect::<String>());
        }
        out += m.finish();
        (out, m.is_met())
    }

    #[test]
    fn a_stop_text_is_found_however_it_is_cut() {
        for size in 1..8 {
            assert_eq!(run(&["END", "\n\n"], "one EN two END three", size), ("one EN two ".into(), true));
            assert_eq!(run(&["ENDE", "ND"], "xEND", size), ("xE".into(), true));
            assert_eq!(run(&["END"], "all of it EN", size), ("all of it EN".into(), false));
            assert_eq!(run(&["日本"], "日日本", size), ("日".into(), true));
            assert_eq!(run(&[""], "abc", size), ("abc".into(), false));
        }
    }
}
