//! Matrix products: preparing the rows that a kernel reads, and sharing out the rows of weights.

use super::norm::Norm;
use super::{Cx, Private, Rows, SELF_SERVICE_ROWS, SMALL_STEP, Widths};
use crate::bind::Matrix;
use crate::device::Buffer;
use crate::profile::Phase;
use crate::team::{Stop, Worker};
use quant::{ActKind, Isa, Kernels, Out, PACK_ROWS, Regime, Vector};
use std::ops::Range;

/// Most weight rows that a worker takes at a time.
pub(crate) const MAX_CHUNK: usize = 256;
/// Chunks of weight rows start at multiples of this; of those for panels, which are higher, at
/// multiples of two.
const GRAIN: usize = PACK_ROWS;
/// Fewest columns that weights are unpacked for once more: fewer would take as long as unpacking.
const LEAST_BLOCK: usize = 96;
/// Columns up to which packed weights are unpacked in registers; the bits are the same.
const FEW: usize = 6;

/// A matrix of the file with the kernels that multiply it.
pub(crate) struct Linear {
    pub(crate) m: Matrix,
    kernels: &'static Kernels,
    row_bytes: usize,
    /// Columns that a row is prepared as: two hold what the rounding of one leaves out.
    planes: usize,
}

/// Kinds of prepared rows.
pub(crate) const N_KINDS: usize = 3;

/// Index of a kind of prepared row among the buffers.
fn slot(kind: ActKind) -> usize {
    match kind {
        ActKind::F32 => 0,
        ActKind::Q8 | ActKind::Q8Bf16 => 1,
        ActKind::Wide => 2,
    }
}

impl Linear {
    /// Chooses kernels and makes room for the rows they read and write.
    pub(crate) fn new(
        m: Matrix,
        kernels: &'static Kernels,
        precise: bool,
        n_ubatch: usize,
        w: &mut Widths,
    ) -> Self {
        let planes = if precise && kernels.act() != ActKind::F32 { 2 } else { 1 };
        let row_bytes = m.row_bytes();
        let acts = &mut w.acts[slot(kernels.act())];
        let linear = Linear { m, kernels, row_bytes, planes };
        *acts = (*acts).max(linear.act_bytes());
        w.cols = w.cols.max(linear.m.cols);
        w.panel = w.panel.max(kernels.panel_scratch(planes * n_ubatch));
        w.precise |= planes > 1;
        linear
    }

    /// Bytes of one prepared row.
    fn act_bytes(&self) -> usize {
        self.planes * self.kernels.act().bytes(self.m.cols)
    }

    /// Prepares one row for the kernels.
    ///
    /// # Safety
    /// The scratch belongs to the caller.
    unsafe fn prepare(&self, x: &[f32], dst: &mut [u8], regime: Regime, private: &Private) {
        if self.planes == 1 {
            return self.kernels.prepare(x, dst, regime);
        }
        // SAFETY: the caller's.
        let rest = unsafe { private.rest.part_mut(0..x.len()) };
        self.kernels.prepare_pair(x, dst, regime, rest);
    }

    /// Makes room for all rows of a micro-batch in every worker's own scratch.
    pub(crate) fn reserve_alone(&self, w: &mut Widths) {
        let acts = &mut w.head_acts[slot(self.kernels.act())];
        *acts = (*acts).max(self.act_bytes());
    }

    /// Makes room for the rows of several matrices at once; see [`apply_each`].
    pub(crate) fn reserve_each<'l>(all: impl IntoIterator<Item = &'l Linear>, w: &mut Widths) {
        let mut sum = [0; N_KINDS];
        for linear in all {
            let act = linear.kernels.act();
            sum[slot(act)] += linear.act_bytes();
        }
        for (have, sum) in w.acts.iter_mut().zip(sum) {
            *have = sum.max(*have);
        }
    }

    /// Name of the kernel family, for people.
    pub(crate) fn kernel_id(&self) -> &'static str {
        self.kernels.id()
    }

    /// Whether the kernels of `isa` failed their check, so that others are used.
    pub(crate) fn is_replaced(&self, isa: Isa) -> bool {
        self.kernels.isa() != isa
    }

    fn rows(&self, expert: usize, rows: &Range<usize>) -> &[u8] {
        self.m.bytes(expert, rows, self.row_bytes)
    }
}

/// Rows prepared for kernels, one buffer per kind; a row of kind i has `stride[i]` bytes.
#[derive(Clone, Copy)]
pub(crate) struct Acts<'a> {
    bytes: [&'a [u8]; N_KINDS],
    stride: [usize; N_KINDS],
    regime: Regime,
}

impl<'a> Acts<'a> {
    /// Prepared rows `range` alone.
    pub(crate) fn part(&self, range: Range<usize>) -> Acts<'a> {
        let cut = |i: usize| {
            let s = self.stride[i];
            if s == 0 { self.bytes[i] } else { &self.bytes[i][range.start * s..range.end * s] }
        };
        Acts { bytes: std::array::from_fn(cut), ..*self }
    }

    /// Copies prepared row `from` of these to row `to` of `dst`.
    ///
    /// # Safety
    /// Nobody else touches that row of `dst`.
    pub(crate) unsafe fn copy_row(&self, from: usize, dst: &[Buffer<u8>; N_KINDS], to: usize) {
        for i in 0..N_KINDS {
            let s = self.stride[i];
            if s > 0 {
                // SAFETY: the caller owns the row.
                let row = unsafe { dst[i].part_mut(to * s..(to + 1) * s) };
                row.copy_from_slice(&self.bytes[i][from * s..(from + 1) * s]);
            }
        }
    }

    /// The first `n` rows of `buffers`, laid out as these are.
    ///
    /// # Safety
    /// Nobody writes the buffers while the result lives.
    pub(crate) unsafe fn new(
        regime: Regime,
        stride: [usize; N_KINDS],
        buffers: &'a [Buffer<u8>; N_KINDS],
        n: usize,
    ) -> Self {
        // SAFETY: the caller keeps writers away.
        let bytes = std::array::from_fn(|i| unsafe { buffers[i].part(0..n * stride[i]) });
        Acts { bytes, stride, regime }
    }

    pub(crate) fn strides(&self) -> [usize; N_KINDS] {
        self.stride
    }

    pub(crate) fn regime(&self) -> Regime {
        self.regime
    }
}

/// Bytes of a prepared row of each kind that `users` read; 0 = nobody reads that kind.
pub(crate) fn strides(users: &[&Linear]) -> [usize; N_KINDS] {
    let mut stride = [0; N_KINDS];
    for u in users {
        stride[slot(u.kernels.act())] = u.act_bytes();
    }
    stride
}

/// The driver that multiplies `n` rows of a step.
fn regime(cx: &Cx<'_>, n: usize) -> Regime {
    if n <= SMALL_STEP || cx.deterministic { Regime::Rows } else { Regime::Panel }
}

/// Writes row `row` prepared for all `users` to row `at` of `dst`.
///
/// # Safety
/// Nobody else touches row `at` of `dst`; the scratch belongs to the caller.
pub(crate) unsafe fn prepare_row(
    private: &Private,
    row: &[f32],
    users: &[&Linear],
    (regime, stride): (Regime, [usize; N_KINDS]),
    dst: &[Buffer<u8>; N_KINDS],
    at: usize,
) {
    let mut done = [false; N_KINDS];
    for u in users {
        let i = slot(u.kernels.act());
        if !std::mem::replace(&mut done[i], true) {
            // SAFETY: the caller owns row `at` and the scratch.
            unsafe {
                let bytes = dst[i].part_mut(at * stride[i]..(at + 1) * stride[i]);
                u.prepare(row, bytes, regime, private);
            }
        }
    }
}

/// Where rows come from.
pub(crate) struct Source<'a> {
    /// [rows, stride].
    pub(crate) buffer: &'a Buffer<f32>,
    pub(crate) stride: usize,
    /// First of the columns that are taken.
    pub(crate) first: usize,
    pub(crate) cols: usize,
    /// Applied before preparing.
    pub(crate) norm: Option<&'a Norm>,
    /// A function of each value, applied before preparing; not together with a norm.
    pub(crate) map: Option<fn(Vector, &mut [f32])>,
    /// Rows to take, in this order; `None` = all rows of the micro-batch.
    pub(crate) pick: Option<&'a [u32]>,
    /// The layer that reads, for naming the first layer with values that are not finite.
    pub(crate) layer: Option<usize>,
}

impl<'a> Source<'a> {
    /// All rows of a buffer as they are.
    pub(crate) fn plain(buffer: &'a Buffer<f32>, cols: usize) -> Self {
        let first = 0;
        Source { buffer, stride: cols, first, cols, norm: None, map: None, pick: None, layer: None }
    }

    /// Some columns of all rows of a buffer `[rows, stride]`.
    pub(crate) fn columns(buffer: &'a Buffer<f32>, stride: usize, columns: Range<usize>) -> Self {
        Source { stride, first: columns.start, ..Source::plain(buffer, columns.len()) }
    }

    /// Row `c` as kernels are to see it.
    ///
    /// # Safety
    /// The source is not written in this phase; the scratch belongs to the caller, who holds no
    /// earlier row of it.
    unsafe fn row<'r>(&self, cx: &Cx<'_>, private: &'r Private, c: usize) -> &'r [f32]
    where
        'a: 'r,
    {
        let r = self.pick.map_or(c, |p| p[c] as usize);
        let at = r * self.stride + self.first;
        // SAFETY: the caller keeps writers away.
        let x = unsafe { self.buffer.part(at..at + self.cols) };
        if let Some(layer) = self.layer {
            cx.watch(layer, x);
        }
        if self.norm.is_none() && self.map.is_none() {
            return x;
        }
        // SAFETY: the scratch is the caller's.
        let row = unsafe { private.row.part_mut(0..self.cols) };
        match (self.norm, self.map) {
            (Some(norm), _) => norm.apply(cx.vec, x, row),
            (None, map) => {
                row.copy_from_slice(x);
                map.into_iter().for_each(|f| f(cx.vec, row));
            }
        }
        row
    }
}

/// Normalises and prepares the source's rows for `users`. Ends in a barrier unless the step is so
/// small that every worker prepares all rows for itself.
pub(crate) fn prepare<'a>(
    w: &Worker<'_>,
    cx: &Cx<'a>,
    src: &Source<'_>,
    users: &[&Linear],
) -> Result<Acts<'a>, Stop> {
    let next = w.enter(Phase::Prepare);
    let n = src.pick.map_or(cx.n_rows(), <[u32]>::len);
    let (stride, regime) = (strides(users), regime(cx, n));
    let private = &cx.bufs.private[w.index()];
    let one = |c: usize, dst: &[Buffer<u8>; N_KINDS]| {
        // SAFETY: the source is not written in this phase; row `c` of `dst` was claimed by this
        // worker or is private, as its scratch is.
        unsafe { prepare_row(private, src.row(cx, private, c), users, (regime, stride), dst, c) };
    };
    if n <= SELF_SERVICE_ROWS {
        (0..n).for_each(|c| one(c, &private.acts));
        w.enter(next);
        // SAFETY: the buffer belongs to this worker, which prepares nothing else before it is done.
        return Ok(unsafe { Acts::new(regime, stride, &private.acts, n) });
    }
    while let Some(range) = w.claim(n, 8) {
        range.for_each(|c| one(c, &cx.bufs.acts));
    }
    w.barrier()?;
    w.enter(next);
    // SAFETY: the next writer of the buffer is a later `prepare`, behind a barrier.
    Ok(unsafe { Acts::new(regime, stride, &cx.bufs.acts, n) })
}

/// What becomes of products.
#[derive(Clone, Copy)]
pub(crate) enum Dest<'a> {
    /// Stored: [columns, stride].
    Set(&'a Buffer<f32>, usize),
    /// Added, multiplied by a factor.
    Add(&'a Buffer<f32>, usize, f32),
}

impl Dest<'_> {
    /// What becomes of a whole row `y` of products that another op finished.
    ///
    /// # Safety
    /// The caller owns row `row` of the destination.
    pub(crate) unsafe fn put(&self, vec: Vector, row: usize, y: &[f32]) {
        match *self {
            // SAFETY: the caller owns the row.
            Dest::Set(buffer, stride) => unsafe {
                buffer.part_mut(row * stride..row * stride + y.len()).copy_from_slice(y);
            },
            // SAFETY: as above.
            Dest::Add(buffer, stride, factor) => unsafe {
                vec.add_scaled(buffer.part_mut(row * stride..row * stride + y.len()), factor, y);
            },
        }
    }
}

/// How a phase of products is cut into items: blocks of columns by chunks of weight rows.
///
/// Few columns are one block, for which each weight is read once. Of many, each worker has a block of
/// its own, the columns that it also normalises and prepares: what one phase wrote is in the cache of
/// who reads it in the next, and weights are unpacked once for each block.
pub(crate) struct Cut {
    n_cols: usize,
    blocks: usize,
    /// Weight rows of a chunk.
    size: usize,
}

impl Cut {
    /// For `n_cols` columns and `n_rows` weight rows in all.
    pub(crate) fn new(w: &Worker<'_>, n_cols: usize, n_rows: usize) -> Cut {
        let blocks = w.n_threads().min(n_cols / LEAST_BLOCK).max(1);
        Cut { n_cols, blocks, size: chunk(w, n_cols, n_rows * blocks) }
    }

    /// Items of a matrix of `n_rows` rows.
    pub(crate) fn items(&self, n_rows: usize) -> usize {
        self.blocks * self.chunks(n_rows)
    }

    fn chunks(&self, n_rows: usize) -> usize {
        n_rows.div_ceil(self.size)
    }

    /// Columns of block `block`.
    fn columns(&self, block: usize) -> Range<usize> {
        self.n_cols * block / self.blocks..self.n_cols * (block + 1) / self.blocks
    }

    /// Rows of chunk `chunk` of `n_rows`.
    fn rows(&self, chunk: usize, n_rows: usize) -> Range<usize> {
        chunk * self.size..n_rows.min((chunk + 1) * self.size)
    }

    /// Columns and rows of item `item` of a matrix of `n_rows` rows.
    pub(crate) fn item(&self, item: usize, n_rows: usize) -> (Range<usize>, Range<usize>) {
        let chunks = self.chunks(n_rows);
        (self.columns(item / chunks), self.rows(item % chunks, n_rows))
    }
}

/// Weight rows that a worker takes at a time, of `n` in all: several chunks a worker, so that a slow one
/// does not hold up the phase, and so many that all get the same.
pub(crate) fn chunk(w: &Worker<'_>, n_cols: usize, n: usize) -> usize {
    let grain = if n_cols > SMALL_STEP { 2 * GRAIN } else { GRAIN };
    let size = |parts: usize| {
        n.div_ceil(parts * w.n_threads()).next_multiple_of(grain).clamp(grain, MAX_CHUNK)
    };
    // Rows of whoever has most.
    let most = |size: usize| n.div_ceil(size).div_ceil(w.n_threads()) * size;
    (3..=8).map(size).min_by_key(|&size| most(size)).unwrap_or(grain)
}

/// y[c][r] = bias[r] + acts[c] . weights[r] for `rows` of one expert's matrix and all columns.
///
/// # Safety
/// The caller owns rows 0..n_cols, columns 0..rows.len() of the matrix of `stride` at `y`.
pub(crate) unsafe fn multiply(
    cx: &Cx<'_>,
    private: &Private,
    linear: &Linear,
    (expert, rows): (usize, &Range<usize>),
    (acts, n_cols): (&Acts<'_>, usize),
    y: *mut f32,
    stride: usize,
) {
    if linear.planes == 1 {
        // SAFETY: the caller's.
        unsafe { product(private, linear, (expert, rows), (acts, n_cols), y, stride) };
    } else {
        for first in (rows.start..rows.end).step_by(MAX_CHUNK) {
            let part = first..rows.end.min(first + MAX_CHUNK);
            // SAFETY: the scratch belongs to this worker; the rest is the caller's.
            unsafe {
                let pairs = private.pairs.part_mut(0..2 * n_cols * part.len());
                let to = pairs.as_mut_ptr();
                product(private, linear, (expert, &part), (acts, 2 * n_cols), to, part.len());
                for (c, pair) in pairs.chunks_exact(2 * part.len()).enumerate() {
                    let y = y.add(c * stride + first - rows.start);
                    let y = std::slice::from_raw_parts_mut(y, part.len());
                    let (coarse, fine) = pair.split_at(part.len());
                    y.copy_from_slice(coarse);
                    cx.vec.add(y, fine);
                }
            }
        }
    }
    let (scale, bias) = (linear.m.scale(expert), linear.m.bias(expert, rows));
    if scale.is_some() || bias.is_some() {
        for c in 0..n_cols {
            // SAFETY: inside the area that the caller owns.
            let y = unsafe { std::slice::from_raw_parts_mut(y.add(c * stride), rows.len()) };
            scale.into_iter().for_each(|s| cx.vec.scale(y, s));
            bias.into_iter().for_each(|b| cx.vec.add(y, b));
        }
    }
}

/// The products alone, for every prepared column: two for a row of a matrix that takes pairs.
///
/// # Safety
/// As [`multiply`].
unsafe fn product(
    private: &Private,
    linear: &Linear,
    (expert, rows): (usize, &Range<usize>),
    (acts, n_cols): (&Acts<'_>, usize),
    y: *mut f32,
    stride: usize,
) {
    let kernels = linear.kernels;
    let data = linear.rows(expert, rows);
    let cols = linear.m.cols;
    let regime = acts.regime;
    let acts = acts.bytes[slot(kernels.act())];
    let one = kernels.act().bytes(cols);
    let few = if kernels.is_packed() { n_cols <= FEW } else { regime == Regime::Rows };
    if few {
        for first in (0..n_cols).step_by(SMALL_STEP) {
            let n = SMALL_STEP.min(n_cols - first);
            // SAFETY: inside the area that the caller owns.
            let mut out = unsafe { Out::from_raw(y.add(first * stride), n, rows.len(), stride) };
            let part = &acts[first * one..(first + n) * one];
            kernels.rows(data, cols, rows.len(), part, n, &mut out);
        }
    } else {
        // SAFETY: the area that the caller owns; the scratch belongs to this worker.
        let mut out = unsafe { Out::from_raw(y, n_cols, rows.len(), stride) };
        // SAFETY: as above.
        let scratch = unsafe { private.panel.part_mut(0..private.panel.len()) };
        kernels.panel(data, cols, rows.len(), &acts[..n_cols * one], n_cols, &mut out, scratch);
    }
}

/// The source's rows through several matrices, up to the barrier.
pub(crate) fn apply<const N: usize>(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    src: &Source<'_>,
    jobs: [(&Linear, Dest<'_>); N],
) -> Result<(), Stop> {
    let acts = prepare(w, cx, src, &jobs.map(|(l, _)| l))?;
    project(w, cx, &acts, cx.n_rows(), &jobs);
    w.barrier()
}

/// Rows of a source, the matrix they go through, and where the products go.
pub(crate) type Job<'a> = (Source<'a>, &'a Linear, Dest<'a>);

/// All rows of one buffer through a matrix to another, both as wide as the matrix says.
pub(crate) fn job<'a>(from: &'a Buffer<f32>, linear: &'a Linear, to: &'a Buffer<f32>) -> Job<'a> {
    (Source::plain(from, linear.m.cols), linear, Dest::Set(to, linear.m.rows))
}

/// The same job on `f` of each value.
pub(crate) fn mapped<'a>(f: fn(Vector, &mut [f32]), (src, linear, dest): Job<'a>) -> Job<'a> {
    (Source { map: Some(f), ..src }, linear, dest)
}

/// Rows of several sources, each through a matrix of its own, up to the barrier: what does not depend
/// on each other shares its phases. The matrices went through [`Linear::reserve_each`] together.
pub(crate) fn apply_each<const N: usize>(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    jobs: [Job<'_>; N],
) -> Result<(), Stop> {
    let n = cx.n_rows();
    let regime = regime(cx, n);
    let private = &cx.bufs.private[w.index()];
    let alone = n <= SELF_SERVICE_ROWS;
    let dst = if alone { &private.acts } else { &cx.bufs.acts };
    // Each job's rows follow those of the jobs before it.
    let mut ends = [0; N_KINDS];
    let places = jobs.each_ref().map(|(_, linear, _)| {
        let (kind, bytes) = (slot(linear.kernels.act()), linear.act_bytes());
        let start = ends[kind];
        ends[kind] += n * bytes;
        (kind, start, bytes)
    });
    let one = |item: usize| {
        let (job, c) = (item / n, item % n);
        let (kind, start, bytes) = places[job];
        let (src, linear, _) = &jobs[job];
        // SAFETY: the source is not written in this phase; the row was claimed by this worker or
        // is private, as its scratch is.
        unsafe {
            let at = start + c * bytes;
            let row = dst[kind].part_mut(at..at + bytes);
            linear.prepare(src.row(cx, private, c), row, regime, private);
        }
    };
    if alone {
        (0..N * n).for_each(one);
    } else {
        while let Some(items) = w.claim(N * n, 8) {
            items.for_each(one);
        }
        w.barrier()?;
    }
    let acts = places.map(|(kind, start, bytes)| {
        let (mut all, mut stride): ([&[u8]; N_KINDS], _) = ([&[]; N_KINDS], [0; N_KINDS]);
        // SAFETY: the next writer of the buffer is a later phase.
        all[kind] = unsafe { dst[kind].part(start..start + n * bytes) };
        stride[kind] = bytes;
        Acts { bytes: all, stride, regime }
    });
    share(w, cx, n, N, |i| (&acts[i], jobs[i].1, jobs[i].2));
    w.barrier()
}

/// Some columns of all rows through one of several matrices, by this worker alone: to the columns
/// from `first` on of `to`.
///
/// # Safety
/// Nobody writes the columns of `from` or touches those of `to` in this phase. The matrix went
/// through `Lower::linear_alone`.
pub(crate) unsafe fn multiply_alone(
    cx: &Cx<'_>,
    private: &Private,
    (linear, expert): (&Linear, usize),
    (from, columns): (Rows<'_>, Range<usize>),
    to: Rows<'_>,
    first: usize,
) {
    let n = cx.n_rows();
    let (regime, stride) = (regime(cx, n), strides(&[linear]));
    // SAFETY: the scratch belongs to this worker; the caller owns the columns of `to`.
    unsafe {
        for row in 0..n {
            let x = from.get(row as u32, columns.clone());
            prepare_row(private, x, &[linear], (regime, stride), &private.head_acts, row);
        }
        let acts = Acts::new(regime, stride, &private.head_acts, n);
        let y = to.buffer.as_mut_ptr().add(first);
        let all = (expert, &(0..linear.m.rows));
        multiply(cx, private, linear, all, (&acts, n), y, to.stride);
    }
}

/// Multiplies `n_cols` prepared rows with several matrices, as one phase without a barrier.
pub(crate) fn project(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    acts: &Acts<'_>,
    n_cols: usize,
    jobs: &[(&Linear, Dest<'_>)],
) {
    share(w, cx, n_cols, jobs.len(), |i| (acts, jobs[i].0, jobs[i].1));
}

/// Shares out the rows of `n_jobs` matrices among the workers; `job` gives each with what it
/// multiplies and where the products go.
fn share<'j>(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    n_cols: usize,
    n_jobs: usize,
    job: impl Fn(usize) -> (&'j Acts<'j>, &'j Linear, Dest<'j>),
) {
    let private = &cx.bufs.private[w.index()];
    let rows = |i: usize| job(i).1.m.rows;
    let cut = Cut::new(w, n_cols, (0..n_jobs).map(rows).sum());
    let per_block: usize = (0..n_jobs).map(|i| cut.chunks(rows(i))).sum();
    while let Some(claim) = w.claim(cut.blocks * per_block, 1) {
        let (columns, mut at) = (cut.columns(claim.start / per_block), claim.start % per_block);
        let mut i = 0;
        while at >= cut.chunks(rows(i)) {
            at -= cut.chunks(rows(i));
            i += 1;
        }
        let (acts, linear, dest) = job(i);
        let (acts, n_cols) = (&acts.part(columns.clone()), columns.len());
        let rows = cut.rows(at, linear.m.rows);
        // SAFETY: each claim is a set of rows and columns of the result of its own; the tile is
        // private.
        unsafe {
            match dest {
                Dest::Set(buffer, stride) => {
                    let y = buffer.as_mut_ptr().add(columns.start * stride + rows.start);
                    multiply(cx, private, linear, (0, &rows), (acts, n_cols), y, stride);
                }
                Dest::Add(buffer, stride, factor) => {
                    let tile = private.tile.part_mut(0..n_cols * rows.len());
                    let y = tile.as_mut_ptr();
                    multiply(cx, private, linear, (0, &rows), (acts, n_cols), y, rows.len());
                    for (c, y) in columns.zip(tile.chunks_exact(rows.len())) {
                        let x = c * stride;
                        let x = buffer.part_mut(x + rows.start..x + rows.end);
                        if factor == 1.0 {
                            cx.vec.add(x, y);
                        } else {
                            cx.vec.add_scaled(x, factor, y);
                        }
                    }
                }
            }
        }
    }
}
