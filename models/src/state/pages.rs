//! Page tables of one window group: which physical page holds which positions of a sequence.

use quant::PAGE;

/// A page that was given back, or was never taken.
const NONE: u32 = u32::MAX;

/// The tables of all sequences and the pool they draw from.
pub(super) struct PageTables {
    window: Option<usize>,
    /// Per sequence, per page index.
    tables: Vec<Vec<u32>>,
    /// Users of each physical page.
    count: Vec<u32>,
    free: Vec<u32>,
}

impl PageTables {
    pub(super) fn new(window: Option<usize>, n_pages: usize, n_seq: usize) -> Self {
        PageTables {
            window,
            tables: vec![Vec::new(); n_seq],
            count: vec![0; n_pages],
            free: (0..n_pages as u32).rev().collect(),
        }
    }

    /// Physical page of `seq`'s page `index`, which must be held.
    pub(super) fn page(&self, seq: usize, index: usize) -> usize {
        let page = self.tables[seq][index];
        debug_assert_ne!(page, NONE, "page {index} of sequence {seq} was given back");
        page as usize
    }

    fn take(&mut self) -> u32 {
        // The pool has room for every sequence's whole context or window.
        let page = self.free.pop().expect("the page pool covers every sequence");
        self.count[page as usize] = 1;
        page
    }

    fn drop_page(&mut self, page: u32) {
        if page != NONE {
            self.count[page as usize] -= 1;
            if self.count[page as usize] == 0 {
                self.free.push(page);
            }
        }
    }

    /// Makes positions `used..used + n` writable. A page shared with another sequence is copied
    /// first, through `copy(from, to)`.
    pub(super) fn reserve(
        &mut self,
        seq: usize,
        used: usize,
        n: usize,
        mut copy: impl FnMut(usize, usize),
    ) {
        if used % PAGE != 0 {
            let open = self.tables[seq][used / PAGE];
            if open != NONE && self.count[open as usize] > 1 {
                let own = self.take();
                copy(open as usize, own as usize);
                self.drop_page(open);
                self.tables[seq][used / PAGE] = own;
            }
        }
        while self.tables[seq].len() * PAGE < used + n {
            let page = self.take();
            self.tables[seq].push(page);
        }
    }

    /// Gives back the pages that no position from `len` on can see.
    pub(super) fn release_behind(&mut self, seq: usize, len: usize) {
        let Some(window) = self.window else { return };
        // Position `len` sees `len - window + 1` and later.
        let gone = (len + 1).saturating_sub(window) / PAGE;
        for index in (0..gone.min(self.tables[seq].len())).rev() {
            let page = std::mem::replace(&mut self.tables[seq][index], NONE);
            if page == NONE {
                break;
            }
            self.drop_page(page);
        }
    }

    /// Whether everything that position `len` would see is still held.
    pub(super) fn can_resume_at(&self, seq: usize, len: usize) -> bool {
        let first = self.window.map_or(0, |w| (len + 1).saturating_sub(w) / PAGE);
        let last = len.div_ceil(PAGE);
        (first..last).all(|i| self.tables[seq].get(i).is_some_and(|&p| p != NONE))
    }

    /// Gives back the pages behind `len` positions.
    pub(super) fn truncate(&mut self, seq: usize, len: usize) {
        while self.tables[seq].len() > len.div_ceil(PAGE) {
            let page = self.tables[seq].pop().unwrap_or(NONE);
            self.drop_page(page);
        }
    }

    /// Lets `to`, which must be empty, share all pages of `from`.
    pub(super) fn fork(&mut self, from: usize, to: usize) {
        self.tables[to] = self.tables[from].clone();
        for &page in self.tables[to].iter().filter(|&&p| p != NONE) {
            self.count[page as usize] += 1;
        }
    }
}
