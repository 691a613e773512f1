//! Per-sequence memory: keys and values in pages, and fixed-size state with snapshots.
//!
//! Each body of a spec declares what it keeps ([`Layout`]); the store follows from that. A page
//! holds [`quant::PAGE`] positions of one layer, page tables are per sequence, pages are counted so
//! that sequences can share a prefix. Layers with the same sliding window share one table and give
//! back the pages that no later position can see.

mod fixed;
mod pages;

use crate::device::Buffer;
use crate::error::Error;
pub use fixed::Fixed;
use fixed::FixedStore;
use pages::PageTables;
use quant::{KvType, PAGE, Vector};

/// Keys and values of one attention body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Key/value heads.
    pub n_head_kv: usize,
    /// Width of a key row.
    pub head_dim_k: usize,
    /// Width of a value row.
    pub head_dim_v: usize,
    /// Positions that are ever looked at again, the present one included; `None` = all.
    pub window: Option<usize>,
    /// A value row is the first part of its key row, and not stored again.
    pub v_in_k: bool,
}

impl KvShape {
    /// Bytes of a key row and of a value row that is stored.
    pub(crate) fn row_bytes(&self, o: &StateOptions) -> [usize; 2] {
        let v = if self.v_in_k { 0 } else { o.type_v.row_bytes(self.head_dim_v) };
        [o.type_k.row_bytes(self.head_dim_k), v]
    }
}

/// What the bodies of a model keep, in the order in which `plan` met them.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// One entry per attention body.
    pub kv: Vec<KvShape>,
    /// Floats per sequence, one entry per body with fixed-size state.
    pub fixed: Vec<usize>,
}

/// Sizes and types of a store.
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// Positions a sequence may hold.
    pub n_ctx: usize,
    /// Sequences.
    pub n_seq: usize,
    /// Positions that all sequences may hold together; `None` = as many as each alone may.
    pub n_total: Option<usize>,
    /// Most rows of one micro-batch.
    pub n_ubatch: usize,
    /// Type of keys.
    pub type_k: KvType,
    /// Type of values.
    pub type_v: KvType,
}

impl Layout {
    /// Windows that occur, each a group with page tables of its own.
    fn groups(&self) -> Vec<Option<usize>> {
        let mut groups = Vec::new();
        for shape in &self.kv {
            if !groups.contains(&shape.window) {
                groups.push(shape.window);
            }
        }
        groups
    }

    /// Pages of a group for all sequences.
    fn n_pages(window: Option<usize>, o: &StateOptions) -> usize {
        // A window may start and end inside a page, and is read while a micro-batch is written.
        let held = window.map_or(o.n_ctx, |w| o.n_ctx.min(w + o.n_ubatch + PAGE));
        let most = held.div_ceil(PAGE) * o.n_seq;
        // Every sequence may leave a part of its last page empty.
        o.n_total.map_or(most, |n| most.min(n.div_ceil(PAGE) + o.n_seq))
    }

    /// Bytes that a store of these options takes when it is full.
    pub fn bytes(&self, o: &StateOptions) -> u64 {
        let kv = self.kv.iter().map(|s| {
            let rows = Self::n_pages(s.window, o) * PAGE * s.n_head_kv;
            rows as u64 * s.row_bytes(o).iter().sum::<usize>() as u64
        });
        let fixed = self.fixed.iter().map(|n| (n * 4 * o.n_seq * fixed::ENTRIES) as u64);
        kv.chain(fixed).sum()
    }
}

/// Keys and values of one attention body for all sequences.
pub struct KvLayer {
    /// Its sizes.
    pub shape: KvShape,
    /// Index of its page tables.
    group: usize,
    /// [page, n_head_kv, row, PAGE], see [`quant::store_key`]; where values lie in keys,
    /// [page, n_head_kv, PAGE, row].
    pub k: Buffer<u8>,
    /// [page, n_head_kv, PAGE, row], see [`quant::store_value`].
    pub v: Buffer<u8>,
    /// Bytes of a key row.
    pub row_k: usize,
    /// Bytes of a value row; 0 = it is part of the key row.
    pub row_v: usize,
}

/// Everything that sequences remember.
pub struct State {
    options: StateOptions,
    layers: Vec<KvLayer>,
    groups: Vec<PageTables>,
    fixed: FixedStore,
    /// Positions per sequence.
    lens: Vec<usize>,
}

impl State {
    /// An empty store.
    pub fn new(layout: &Layout, options: StateOptions) -> State {
        let windows = layout.groups();
        let groups = windows
            .iter()
            .map(|&w| PageTables::new(w, Layout::n_pages(w, &options), options.n_seq))
            .collect();
        let layers = layout.kv.iter().map(|shape| {
            let [row_k, row_v] = shape.row_bytes(&options);
            let rows = Layout::n_pages(shape.window, &options) * PAGE * shape.n_head_kv;
            KvLayer {
                shape: *shape,
                group: windows.iter().position(|w| *w == shape.window).unwrap_or(0),
                k: Buffer::new(rows * row_k),
                v: Buffer::new(rows * row_v),
                row_k,
                row_v,
            }
        });
        State {
            layers: layers.collect(),
            groups,
            fixed: FixedStore::new(&layout.fixed, options.n_seq),
            lens: vec![0; options.n_seq],
            options,
        }
    }

    /// Its sizes and types.
    pub fn options(&self) -> &StateOptions {
        &self.options
    }

    /// Positions that sequence `seq` holds.
    pub fn len(&self, seq: usize) -> usize {
        self.lens[seq]
    }

    /// Whether no sequence holds anything.
    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|&n| n == 0)
    }

    /// The keys and values of attention body `slot`.
    pub fn layer(&self, slot: usize) -> &KvLayer {
        &self.layers[slot]
    }

    /// Physical page that holds positions `index * PAGE ..` of `seq` for attention body `slot`.
    pub fn page(&self, slot: usize, seq: usize, index: usize) -> usize {
        self.groups[self.layers[slot].group].page(seq, index)
    }

    /// Fixed state `slot` of sequence `seq`, which must be reserved.
    pub fn fixed(&self, slot: usize, seq: usize) -> Fixed<'_> {
        self.fixed.get(slot, seq)
    }

    /// Checks that all sequences together have room for `n` more positions.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`] with the counts of all, in the name of sequence `seq`.
    pub fn check_total(&self, seq: usize, n: usize) -> Result<(), Error> {
        let used: usize = self.lens.iter().sum();
        match self.options.n_total.filter(|&most| used.saturating_add(n) > most) {
            Some(n_ctx) => Err(Error::ContextOverflow { seq, used, asked: n, n_ctx }),
            None => Ok(()),
        }
    }

    /// Makes room for `n` more positions of `seq` and chooses where the fixed state after them goes.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`].
    pub fn reserve(&mut self, seq: usize, n: usize) -> Result<(), Error> {
        let used = self.lens[seq];
        if used + n > self.options.n_ctx {
            let n_ctx = self.options.n_ctx;
            return Err(Error::ContextOverflow { seq, used, asked: n, n_ctx });
        }
        self.check_total(seq, n)?;
        for (g, group) in self.groups.iter_mut().enumerate() {
            let layers = &mut self.layers;
            group.reserve(seq, used, n, |from, to| {
                for layer in layers.iter_mut().filter(|l| l.group == g) {
                    layer.copy_page(from, to);
                }
            });
        }
        self.fixed.begin(seq);
        Ok(())
    }

    /// Takes the last [`State::reserve`] back after a step that failed.
    pub fn abandon(&mut self, seq: usize) {
        let len = self.lens[seq];
        self.fixed.recall(seq, len);
        self.groups.iter_mut().for_each(|group| group.truncate(seq, len));
    }

    /// Counts `n` positions as written and gives back pages that no window reaches any more.
    pub fn commit(&mut self, seq: usize, n: usize) {
        self.lens[seq] += n;
        let len = self.lens[seq];
        self.fixed.commit(seq, len);
        for group in &mut self.groups {
            group.release_behind(seq, len);
        }
    }

    /// Cuts `seq` back to `len` positions or, where a window or fixed state no longer reaches that
    /// far, to the nearest earlier point that can be resumed from. Returns the new length: the
    /// caller feeds the tokens from there again.
    pub fn truncate(&mut self, seq: usize, len: usize) -> usize {
        if len >= self.lens[seq] {
            return self.lens[seq];
        }
        let mut reached = len;
        if self.groups.iter().any(|g| !g.can_resume_at(seq, len)) {
            reached = 0;
        }
        reached = self.fixed.recall(seq, reached);
        if self.groups.iter().any(|g| !g.can_resume_at(seq, reached)) {
            reached = self.fixed.recall(seq, 0);
        }
        for group in &mut self.groups {
            group.truncate(seq, reached);
        }
        self.lens[seq] = reached;
        reached
    }

    /// Makes `to` continue from what `from` holds; full pages are shared.
    pub fn fork(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        self.truncate(to, 0);
        for group in &mut self.groups {
            group.fork(from, to);
        }
        self.fixed.fork(from, to);
        self.lens[to] = self.lens[from];
    }
}

impl KvLayer {
    /// Bytes of one page of keys or values.
    fn page_bytes(&self, row: usize) -> usize {
        self.shape.n_head_kv * PAGE * row
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        for (row, buffer) in [(self.row_k, 0), (self.row_v, 1)] {
            let n = self.page_bytes(row);
            let all = if buffer == 0 { self.k.all_mut() } else { self.v.all_mut() };
            all.copy_within(from * n..(from + 1) * n, to * n);
        }
    }

    /// Stores the key of `head` at position `slot` of physical page `page`.
    ///
    /// # Safety
    /// Nobody else reads or writes that position's key meanwhile.
    pub unsafe fn store_key(
        &self,
        (ty, vec): (KvType, Vector),
        (page, head, slot): (usize, usize, usize),
        key: &[f32],
    ) {
        let page = self.keys(page, head);
        // SAFETY: the page lies in the buffer; the position is the caller's. Neighbours lie side by
        // side in it and may be written at the same time, so no reference to the page is made.
        unsafe {
            if self.shape.v_in_k {
                let start = page.start + slot * self.row_k;
                ty.encode(vec, key, self.k.part_mut(start..start + self.row_k));
            } else {
                quant::store_key(ty, vec, key, self.k.as_mut_ptr().add(page.start), slot);
            }
        }
    }

    /// Stores the value of `head` at position `slot` of physical page `page`; not for values that lie
    /// in keys.
    ///
    /// # Safety
    /// Nobody else reads or writes that position's value meanwhile.
    pub unsafe fn store_value(
        &self,
        (ty, vec): (KvType, Vector),
        (page, head, slot): (usize, usize, usize),
        value: &[f32],
    ) {
        let page = self.values(page, head);
        // SAFETY: as in `store_key`.
        unsafe { quant::store_value(ty, vec, value, self.v.as_mut_ptr().add(page.start), slot) }
    }

    /// Byte range of the keys of `head` in physical page `page`.
    pub fn keys(&self, page: usize, head: usize) -> std::ops::Range<usize> {
        let start = (page * self.shape.n_head_kv + head) * PAGE * self.row_k;
        start..start + PAGE * self.row_k
    }

    /// Byte range of the values of `head` in physical page `page`.
    pub fn values(&self, page: usize, head: usize) -> std::ops::Range<usize> {
        let start = (page * self.shape.n_head_kv + head) * PAGE * self.row_v;
        start..start + PAGE * self.row_v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(window: Option<usize>, fixed: Vec<usize>) -> State {
        store_of(window, fixed, None)
    }

    fn store_of(window: Option<usize>, fixed: Vec<usize>, n_total: Option<usize>) -> State {
        let kv =
            vec![KvShape { n_head_kv: 1, head_dim_k: 4, head_dim_v: 4, window, v_in_k: false }];
        let options = StateOptions {
            n_ctx: 5 * PAGE,
            n_seq: 2,
            n_total,
            n_ubatch: 8,
            type_k: KvType::F32,
            type_v: KvType::F32,
        };
        State::new(&Layout { kv, fixed }, options)
    }

    fn extend(s: &mut State, seq: usize, n: usize) {
        for _ in 0..n {
            s.reserve(seq, 1).unwrap();
            s.commit(seq, 1);
        }
    }

    #[test]
    fn a_full_context_is_an_error_with_the_counts() {
        let mut s = store(None, vec![]);
        extend(&mut s, 0, 5 * PAGE);
        let e = s.reserve(0, 1).unwrap_err().to_string();
        assert!(e.contains("320 positions and 1 more") && e.contains("has 320"), "{e}");
    }

    #[test]
    fn sequences_share_what_they_may_hold_together() {
        let mut s = store_of(None, vec![], Some(3 * PAGE));
        for split in [PAGE + 1, 1, 3 * PAGE, 2 * PAGE - 1] {
            for (seq, n) in [(0, split), (1, 3 * PAGE - split)] {
                s.reserve(seq, n).unwrap();
                s.abandon(seq);
                s.reserve(seq, n).unwrap();
                s.commit(seq, n);
            }
            let e = s.reserve(1, 1).unwrap_err().to_string();
            assert!(e.contains("192 positions and 1 more") && e.contains("has 192"), "{e}");
            s.truncate(0, 0);
            s.truncate(1, 0);
        }
    }

    #[test]
    fn windows_give_pages_back_and_every_sequence_can_fill_up() {
        let mut s = store(Some(10), vec![]);
        for seq in 0..2 {
            extend(&mut s, seq, 5 * PAGE);
        }
        // 10 positions back lie in the last page; earlier ones are gone, so resuming needs a rerun.
        assert_eq!(s.truncate(0, 5 * PAGE - 3), 5 * PAGE - 3);
        assert_eq!(s.truncate(0, PAGE), 0);
        assert_eq!(s.len(1), 5 * PAGE);
    }

    #[test]
    fn a_fork_shares_full_pages_and_copies_the_open_one() {
        let mut s = store(None, vec![]);
        extend(&mut s, 0, PAGE + 3);
        s.fork(0, 1);
        assert_eq!(s.len(1), PAGE + 3);
        assert_eq!(s.page(0, 0, 0), s.page(0, 1, 0));
        let shared = s.page(0, 0, 1);
        s.layers[0].k.all_mut()[shared * PAGE * 16] = 7;
        extend(&mut s, 1, 1);
        let own = s.page(0, 1, 1);
        assert_ne!(own, s.page(0, 0, 1));
        assert_eq!(s.layers[0].k.all_mut()[own * PAGE * 16], 7);
        s.truncate(0, 0);
        assert_eq!(s.page(0, 1, 1), own);
    }

    #[test]
    fn estimates_count_fixed_state_and_latent_rows_once() {
        let options = StateOptions {
            n_ctx: PAGE,
            n_seq: 2,
            n_total: None,
            n_ubatch: 8,
            type_k: KvType::F32,
            type_v: KvType::F32,
        };
        let two = Layout { kv: vec![], fixed: vec![3, 5] };
        assert_eq!(two.bytes(&options), (2 * 8 * 4 * fixed::ENTRIES) as u64);
        let latent =
            KvShape { n_head_kv: 1, head_dim_k: 6, head_dim_v: 4, window: None, v_in_k: true };
        let bytes = |shape| Layout { kv: vec![shape], fixed: vec![] }.bytes(&options);
        assert_eq!(bytes(latent), (2 * PAGE * 6 * 4) as u64);
        assert_eq!(bytes(KvShape { v_in_k: false, ..latent }), (2 * PAGE * 10 * 4) as u64);
    }

    #[test]
    fn fixed_state_rolls_back_to_its_nearest_snapshot() {
        let mut s = store(None, vec![1]);
        for pos in 0..20 {
            s.reserve(0, 1).unwrap();
            // SAFETY: the only thread.
            unsafe { s.fixed(0, 0).after(0..1)[0] = pos as f32 + 1.0 };
            s.commit(0, 1);
        }
        let reached = s.truncate(0, 18);
        assert!(reached > 10 && reached <= 18, "{reached}");
        assert_eq!(s.fixed(0, 0).before(0..1), Some(&[reached as f32][..]));
        assert_eq!(s.len(0), reached);
        assert_eq!(s.truncate(0, 0), 0);
        assert_eq!(s.fixed(0, 0).before(0..1), None);
    }
}
