//! The table of (tensor type, instruction set) to kernels: the only dispatch of this crate.
//!
//! A new tensor type is one line in [`types!`](self) here, plus its decoder and unpacker: under
//! `quantized` if it is worth a driver for few columns of its own, else under `expanded`.

#[macro_use]
mod rows;

use formats::TensorType;

use crate::act::{self, ActKind, Regime};
use crate::block::{self, Block};
use crate::error::Error;
use crate::float::Weight;
use crate::isa::Isa;
#[cfg(test)]
use crate::isa::StandIn;
use crate::out::Out;
use crate::packed::driver::Fill;
use crate::packed::{Layout, PACK_ROWS, Packer, pack_group};
use crate::panel::{self, Slab};
use crate::span::{Bytes, Codes, Span};
use crate::tile::{Head, Job, MAX_COLS, Unpack};
use crate::types::{fp, grid, iq, k, q4, q8, small};

/// The stamped entry points of one row, see `isa::entries!`.
///
/// # Safety
/// All functions: the machine runs the row; the job's invariants hold; `scratch` is valid for
/// what [`panel::scratch_bytes`] says.
pub(crate) trait Entries {
    /// Rows of a panel.
    const PANEL_ROWS: usize;
    /// [`crate::isa::Simd::NARROW`].
    const NARROW: bool;
    /// What kernels of quantized weights read.
    const ACT: ActKind = ActKind::Q8;
    /// [`crate::tile::rows`].
    unsafe fn rows<U: Unpack>(job: &Job<'_>);
    /// [`crate::span::expand`].
    unsafe fn expand<T: Span>(p: *const u8, n: usize, codes: *mut Bytes, head: *mut Head);
    /// [`crate::span::rows`].
    unsafe fn expanded<const GROUP: usize>(job: &Job<'_>, codes: &Codes);
    /// [`panel::panel`].
    unsafe fn panel(job: &Job<'_>, codes: &Codes, scratch: *mut u8);
    /// [`panel::multiply`].
    unsafe fn multiply<const GROUP: usize, const MINS: bool, const MAX: u8>(
        job: &Job<'_>,
        codes: &Codes,
        s: usize,
        values: usize,
        slab: Slab,
    );
    /// [`crate::float::rows`].
    unsafe fn floats<W: Weight>(job: &Job<'_>);
    /// [`act::quantize`].
    unsafe fn prepare(x: &[f32], dst: &mut [u8], regime: Regime);
}

/// The stamped entry points of one row for packed weights, see `isa::packed_entries!`.
///
/// # Safety
/// As [`Entries`].
pub(crate) trait PackedEntries: Entries {
    /// [`crate::packed::driver::rows`].
    unsafe fn packed_rows<T: Layout>(job: &Job<'_>);
    /// [`crate::packed::driver::fill`].
    unsafe fn packed_fill<T: Layout>(
        job: &Job<'_>,
        r: usize,
        valid: usize,
        s: usize,
        values: usize,
        slab: Slab,
    );
    /// [`crate::packed::driver::panel`].
    unsafe fn packed_panel(job: &Job<'_>, codes: &Codes, fill: Fill, scratch: *mut u8);
}

/// The kernels of one tensor type on one instruction set row.
///
/// Shapes, row-major: weights `w` `[n_rows, k]` in file blocks, activations `[n_cols, k]`, results
/// `[n_cols, n_rows]`. A result is the exact integer product of the weights' codes and the rounded
/// activations, scaled and summed in float32; against the same sum in exact arithmetic it is off by
/// at most [`Kernels::ERROR_BOUND`] times `sum |w * x|`.
pub struct Kernels {
    ty: TensorType,
    isa: Isa,
    id: &'static str,
    act: ActKind,
    panel_rows: usize,
    prepare: unsafe fn(&[f32], &mut [u8], Regime),
    drivers: Drivers,
}

/// How a type is multiplied on a row of the table.
enum Drivers {
    /// Weights are unpacked in registers for few columns, expanded for panels.
    Registers {
        rows: unsafe fn(&Job<'_>),
        codes: Codes,
        panel: unsafe fn(&Job<'_>, &Codes, *mut u8),
    },
    /// Weights are expanded for both.
    Expanded {
        rows: unsafe fn(&Job<'_>, &Codes),
        codes: Codes,
        panel: unsafe fn(&Job<'_>, &Codes, *mut u8),
    },
    /// Rows of weights lie side by side, see [`crate::packed`].
    Packed {
        rows: unsafe fn(&Job<'_>),
        codes: Codes,
        fill: Fill,
        panel: unsafe fn(&Job<'_>, &Codes, Fill, *mut u8),
    },
    /// Weights are floats: one driver takes any number of columns.
    Floats { rows: unsafe fn(&Job<'_>) },
}

impl Kernels {
    /// Largest error relative to the sum of magnitudes, see the type's description; with codes and
    /// offsets of opposite sign (types with mins) the magnitudes are those of the two parts.
    pub const ERROR_BOUND: f32 = 2e-6;

    /// [`Kernels::ERROR_BOUND`], or where weights are rounded to bfloat16, 2^-9 beside it.
    pub fn error_bound(&self, regime: Regime) -> f32 {
        match (self.act, regime) {
            (ActKind::Q8Bf16, Regime::Panel) => 1.0 / 512.0 + 8.0 * Self::ERROR_BOUND,
            _ => Self::ERROR_BOUND,
        }
    }

    /// Name of the row, as in `q4_1-q8-avx512`.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// The weights' type.
    pub fn tensor_type(&self) -> TensorType {
        self.ty
    }

    /// The instruction set row.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What [`Kernels::prepare`] makes; columns may be shared by all kernels of one kind.
    pub fn act(&self) -> ActKind {
        self.act
    }

    /// Whether the weights are rows side by side, as [`pack`](crate::pack) lays them: then both
    /// drivers give the same bits.
    pub fn is_packed(&self) -> bool {
        matches!(self.drivers, Drivers::Packed { .. })
    }

    /// Most columns that [`Kernels::rows`] takes.
    pub fn max_cols(&self) -> usize {
        MAX_COLS
    }

    /// Rows of a panel: ranges given to [`Kernels::panel`] are best multiples of it.
    pub fn panel_rows(&self) -> usize {
        self.panel_rows
    }

    /// Bytes of scratch that [`Kernels::panel`] needs.
    pub fn panel_scratch(&self, n_cols: usize) -> usize {
        match self.drivers {
            Drivers::Floats { .. } => 0,
            _ => panel::scratch_bytes(self.panel_rows, n_cols),
        }
    }

    /// Prepares one column of `x.len()` values for the driver that `regime` names; the bytes are
    /// the same on every row of the table with kernels of the same [`Kernels::act`].
    ///
    /// `dst` is best aligned to 64 bytes (cache lines); no alignment is required.
    ///
    /// # Panics
    /// When `dst` is not [`ActKind::bytes`] long.
    pub fn prepare(&self, x: &[f32], dst: &mut [u8], regime: Regime) {
        assert_eq!(dst.len(), self.act.bytes(x.len()), "{}: bytes of a prepared column", self.id);
        // SAFETY: `kernels` hands out rows of this machine only.
        unsafe { (self.prepare)(x, dst, regime) }
    }

    /// Prepares two columns whose results add up to those of `x` with some 15 bits instead of 7: `x`
    /// itself, and what its rounding leaves out. `rest` is scratch of the length of `x`.
    ///
    /// # Panics
    /// When `dst` is not twice [`ActKind::bytes`] long, or `rest` not as long as `x`.
    pub fn prepare_pair(&self, x: &[f32], dst: &mut [u8], regime: Regime, rest: &mut [f32]) {
        let (first, second) = dst.split_at_mut(dst.len() / 2);
        self.prepare(x, first, regime);
        match self.act {
            ActKind::F32 => rest.fill(0.0),
            kind => act::residual(x, first, act::tag(kind, regime), rest),
        }
        self.prepare(rest, second, regime);
    }

    /// Multiplies for a step of at most [`Kernels::max_cols`] columns: `y[c][r] = w[r] . x[c]`.
    ///
    /// `acts` holds `n_cols` consecutive columns prepared for [`Regime::Rows`]. A result depends on
    /// its row and its column alone: it is bit-identical for every range of rows and any neighbours.
    ///
    /// # Panics
    /// When lengths disagree, `k` is no multiple of the block, or a column was prepared otherwise.
    pub fn rows(
        &self,
        w: &[u8],
        k: usize,
        n_rows: usize,
        acts: &[u8],
        n_cols: usize,
        y: &mut Out<'_>,
    ) {
        assert!(n_cols <= MAX_COLS, "{}: {n_cols} columns, at most {MAX_COLS}", self.id);
        let job = self.job(w, k, n_rows, acts, n_cols, y, Regime::Rows);
        match &self.drivers {
            // SAFETY: `job` checked the lengths; `kernels` hands out rows of this machine only.
            Drivers::Registers { rows, .. }
            // SAFETY: as above; `job` saw to whole groups of rows.
            | Drivers::Packed { rows, .. }
            // SAFETY: as above.
            | Drivers::Floats { rows } => unsafe { rows(&job) },
            // SAFETY: as above; `codes` stands beside the driver of its own row and groups.
            Drivers::Expanded { rows, codes, .. } => unsafe { rows(&job, codes) },
        }
    }

    /// Multiplies for a long step, any number of columns, with columns prepared for
    /// [`Regime::Panel`]; `scratch` is at least [`Kernels::panel_scratch`] bytes.
    ///
    /// A result depends on its row and its column alone, but differs in rounding from
    /// [`Kernels::rows`] where activations are quantized.
    ///
    /// # Panics
    /// As [`Kernels::rows`], and when `scratch` is too short.
    pub fn panel(
        &self,
        w: &[u8],
        k: usize,
        n_rows: usize,
        acts: &[u8],
        n_cols: usize,
        y: &mut Out<'_>,
        scratch: &mut [u8],
    ) {
        let job = self.job(w, k, n_rows, acts, n_cols, y, Regime::Panel);
        let need = self.panel_scratch(n_cols);
        assert!(scratch.len() >= need, "{}: scratch {} of {need} bytes", self.id, scratch.len());
        match &self.drivers {
            Drivers::Registers { panel, codes, .. } | Drivers::Expanded { panel, codes, .. } => {
                // SAFETY: as in `rows`; the scratch has been measured just above.
                unsafe { panel(&job, codes, scratch.as_mut_ptr()) }
            }
            Drivers::Packed { codes, fill, panel, .. } => {
                // SAFETY: as above; `codes` and `fill` stand beside the driver of their row.
                unsafe { panel(&job, codes, *fill, scratch.as_mut_ptr()) }
            }
            // SAFETY: as in `rows`; this driver takes any number of columns.
            Drivers::Floats { rows } => unsafe { rows(&job) },
        }
    }

    /// Checks everything that [`Job`] promises.
    fn job<'a>(
        &self,
        w: &'a [u8],
        k: usize,
        n_rows: usize,
        acts: &'a [u8],
        n_cols: usize,
        y: &mut Out<'_>,
        regime: Regime,
    ) -> Job<'a> {
        let Some(row_bytes) = self.ty.row_bytes(k) else {
            panic!("{}: k {k} is no multiple of {}", self.id, self.ty.block_len());
        };
        if self.is_packed() {
            assert!(n_rows.is_multiple_of(PACK_ROWS), "{}: {n_rows} packed rows", self.id);
        }
        let w_bytes = row_bytes.checked_mul(n_rows);
        assert_eq!(Some(w.len()), w_bytes, "{}: bytes of {n_rows} rows of {k}", self.id);
        let act_bytes = self.act.bytes(k);
        let acts_bytes = act_bytes.checked_mul(n_cols);
        assert_eq!(Some(acts.len()), acts_bytes, "{}: bytes of {n_cols} columns", self.id);
        assert_eq!((y.n_cols(), y.n_rows()), (n_cols, n_rows), "{}: shape of y", self.id);
        for column in acts.chunks_exact(act_bytes) {
            let found = act::header(column);
            let expected = (act::tag(self.act, regime), k);
            assert_eq!(found, expected, "{}: (tag, k) of a prepared column", self.id);
        }
        let (y, stride) = y.parts();
        Job { w, row_bytes, k, n_rows, acts, act_bytes, n_cols, y, stride }
    }
}

fn prepare_floats(x: &[f32], dst: &mut [u8], _: Regime) {
    act::copy(x, dst);
}

const fn kernels_of<R: Entries>(
    ty: TensorType,
    isa: Isa,
    id: &'static str,
    drivers: Drivers,
) -> Kernels {
    Kernels { ty, isa, id, act: R::ACT, panel_rows: R::PANEL_ROWS, prepare: R::prepare, drivers }
}

const fn quantized<R: Entries, U: Unpack>(ty: TensorType, isa: Isa, id: &'static str) -> Kernels {
    let codes = Codes::new::<R, U>();
    let drivers = Drivers::Registers { rows: R::rows::<U>, codes, panel: R::panel };
    kernels_of::<R>(ty, isa, id, drivers)
}

const fn expanded<R: Entries, T: Span>(ty: TensorType, isa: Isa, id: &'static str) -> Kernels {
    // what the driver for few columns takes for granted
    assert!(!T::MINS && T::MAX < 128);
    let codes = Codes::new::<R, T>();
    let rows = if T::GROUP == 32 { R::expanded::<32> } else { R::expanded::<16> };
    kernels_of::<R>(ty, isa, id, Drivers::Expanded { rows, codes, panel: R::panel })
}

const fn packed<R: PackedEntries, T: Layout>(
    ty: TensorType,
    isa: Isa,
    id: &'static str,
) -> Kernels {
    let drivers = Drivers::Packed {
        rows: R::packed_rows::<T>,
        codes: Codes::new::<R, T>(),
        fill: R::packed_fill::<T>,
        panel: R::packed_panel,
    };
    Kernels {
        act: ActKind::Wide,
        panel_rows: if R::PANEL_ROWS < PACK_ROWS { PACK_ROWS } else { R::PANEL_ROWS },
        prepare: prepare_wide::<R>,
        ..kernels_of::<R>(ty, isa, id, drivers)
    }
}

/// Columns for packed weights are the same for both drivers.
///
/// # Safety
/// As [`Entries::prepare`].
unsafe fn prepare_wide<R: Entries>(x: &[f32], dst: &mut [u8], _: Regime) {
    // SAFETY: the caller's.
    unsafe { R::prepare(x, dst, Regime::Panel) }
}

const fn floats<R: Entries, W: Weight>(ty: TensorType, isa: Isa, id: &'static str) -> Kernels {
    Kernels {
        ty,
        isa,
        id,
        act: ActKind::F32,
        panel_rows: 32,
        prepare: prepare_floats,
        drivers: Drivers::Floats { rows: R::floats::<W> },
    }
}

/// The decoder of whole blocks, through the checked cast.
fn blocks<B: Block>(
    src: &[u8],
    dst: &mut [f32],
    decode: impl Fn(&B, &mut [f32]),
) -> Result<(), Error> {
    let blocks = block::cast_exact::<B>(src, dst.len())?;
    for (b, y) in blocks.iter().zip(dst.chunks_exact_mut(B::LEN)) {
        decode(b, y);
    }
    Ok(())
}

/// The decoder of plain numbers of N bytes.
fn numbers<const N: usize>(
    ty: TensorType,
    src: &[u8],
    dst: &mut [f32],
    decode: impl Fn(&[u8; N]) -> f32,
) -> Result<(), Error> {
    let (numbers, rest) = src.as_chunks::<N>();
    if numbers.len() != dst.len() || !rest.is_empty() {
        let (n, found) = (dst.len(), src.len());
        return Err(Error::BlockBytes { ty, n, expected: n * N, found });
    }
    for (b, y) in numbers.iter().zip(dst) {
        *y = decode(b);
    }
    Ok(())
}

macro_rules! packed_types {
    ($($ty:ident $name:literal $code:ty;)*) => {
        /// What lays 16 rows of a type side by side, where there is such a layout.
        pub(crate) fn packer(ty: TensorType) -> Option<Packer> {
            match ty {
                $(TensorType::$ty => Some(pack_group::<$code>),)*
                _ => None,
            }
        }

        /// The kernels for packed rows of a type on a row that stands in for another.
        #[cfg(test)]
        pub(crate) fn stand_in_packed(ty: TensorType, row: StandIn) -> Option<&'static Kernels> {
            match (ty, row) {
                $(
                    #[cfg(target_arch = "x86_64")]
                    (TensorType::$ty, StandIn::AvxVnni) => {
                        static K: Kernels = packed::<crate::isa::avxvnni::stand_in::Row, $code>(
                            TensorType::$ty,
                            Isa::AvxVnni,
                            concat!($name, "-packed-avxvnni (stand-in)"),
                        );
                        Some(&K)
                    }
                )*
                _ => None,
            }
        }

        fn find_packed(ty: TensorType, isa: Isa) -> Option<&'static Kernels> {
            match ty {
                $(TensorType::$ty => packed_isas!($code, $ty, $name, isa),)*
                _ => None,
            }
        }
    };
}

packed_types! {
    Q4_0 "q4_0" q4::Q4_0;
    Q4_1 "q4_1" q4::Q4_1;
    Q5_0 "q5_0" q4::Q5_0;
    Q5_1 "q5_1" q4::Q5_1;
    Q8_0 "q8_0" q8::Q8_0;
    Q2K "q2_k" k::Q2K;
    Q3K "q3_k" k::Q3K;
    Q4K "q4_k" k::Q4K;
    Q5K "q5_k" k::Q5K;
    Q6K "q6_k" k::Q6K;
    IQ4NL "iq4_nl" iq::Iq4Nl;
    IQ4XS "iq4_xs" iq::Iq4Xs;
    MXFP4 "mxfp4" iq::Mxfp4;
}

macro_rules! types {
    (
        quantized { $($qty:ident $qname:literal $code:ty, $decode_block:path;)* }
        expanded { $($ety:ident $ename:literal $span:ty, $decode_span:path;)* }
        floats { $($fty:ident $fname:literal $weight:ty, $decode_number:path;)* }
    ) => {
        /// The tensor types with a decoder and kernels.
        pub const SUPPORTED: &[TensorType] =
            &[$(TensorType::$fty,)* $(TensorType::$qty,)* $(TensorType::$ety,)*];

        fn find(ty: TensorType, isa: Isa) -> Option<&'static Kernels> {
            match ty {
                $(TensorType::$qty => isas!(quantized, $code, $qty, $qname, "q8", isa),)*
                $(TensorType::$ety => isas!(expanded, $span, $ety, $ename, "q8", isa),)*
                $(TensorType::$fty => isas!(floats, $weight, $fty, $fname, "f32", isa),)*
                _ => None,
            }
        }

        /// The kernels of a type on a row that stands in for another.
        #[cfg(test)]
        pub(crate) fn stand_in(ty: TensorType, row: StandIn) -> Option<&'static Kernels> {
            match ty {
                $(TensorType::$qty => stand_ins!(quantized, $code, $qty, $qname, "q8", row),)*
                $(TensorType::$ety => stand_ins!(expanded, $span, $ety, $ename, "q8", row),)*
                $(TensorType::$fty => stand_ins!(floats, $weight, $fty, $fname, "f32", row),)*
                _ => None,
            }
        }

        /// Decodes whole blocks to floats, bit for bit as the format defines them: the oracle.
        ///
        /// # Errors
        /// [`Error::UnsupportedType`], or [`Error::BlockMultiple`] and [`Error::BlockBytes`] when
        /// `src` does not hold exactly the blocks of `dst.len()` values.
        pub fn decode(ty: TensorType, src: &[u8], dst: &mut [f32]) -> Result<(), Error> {
            match ty {
                $(TensorType::$qty => blocks(src, dst, $decode_block),)*
                $(TensorType::$ety => blocks(src, dst, $decode_span),)*
                $(TensorType::$fty => numbers(ty, src, dst, $decode_number),)*
                _ => Err(unsupported(ty)),
            }
        }
    };
}

types! {
    quantized {
        Q4_0 "q4_0" q4::Q4_0, q4::decode_q4_0;
        Q4_1 "q4_1" q4::Q4_1, q4::decode_q4_1;
        Q5_0 "q5_0" q4::Q5_0, q4::decode_q5_0;
        Q5_1 "q5_1" q4::Q5_1, q4::decode_q5_1;
        Q8_0 "q8_0" q8::Q8_0, q8::decode_q8_0;
        Q2K "q2_k" k::Q2K, k::decode_q2_k;
        Q3K "q3_k" k::Q3K, k::decode_q3_k;
        Q4K "q4_k" k::Q4K, k::decode_q4_k;
        Q5K "q5_k" k::Q5K, k::decode_q5_k;
        Q6K "q6_k" k::Q6K, k::decode_q6_k;
        IQ4NL "iq4_nl" iq::Iq4Nl, iq::decode_iq4_nl;
        IQ4XS "iq4_xs" iq::Iq4Xs, iq::decode_iq4_xs;
        MXFP4 "mxfp4" iq::Mxfp4, iq::decode_mxfp4;
        NVFP4 "nvfp4" iq::Nvfp4, iq::decode_nvfp4;
        Q1_0 "q1_0" small::Q1_0, small::decode_q1_0;
        Q2_0 "q2_0" small::Q2_0, small::decode_q2_0;
        TQ1_0 "tq1_0" small::Tq1_0, small::decode_tq1_0;
        TQ2_0 "tq2_0" small::Tq2_0, small::decode_tq2_0;
    }
    expanded {
        IQ1S "iq1_s" grid::Iq1S, grid::decode_iq1_s;
        IQ1M "iq1_m" grid::Iq1M, grid::decode_iq1_m;
        IQ2XXS "iq2_xxs" grid::Iq2Xxs, grid::decode_iq2_xxs;
        IQ2XS "iq2_xs" grid::Iq2Xs, grid::decode_iq2_xs;
        IQ2S "iq2_s" grid::Iq2S, grid::decode_iq2_s;
        IQ3XXS "iq3_xxs" grid::Iq3Xxs, grid::decode_iq3_xxs;
        IQ3S "iq3_s" grid::Iq3S, grid::decode_iq3_s;
    }
    floats {
        F32 "f32" fp::F32, fp::decode_f32;
        F16 "f16" fp::F16, fp::decode_f16;
        BF16 "bf16" fp::Bf16, fp::decode_bf16;
    }
}

pub(crate) fn unsupported(ty: TensorType) -> Error {
    let supported = SUPPORTED.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(" ");
    Error::UnsupportedType { ty, supported }
}

/// Decodes row `row` of a matrix of rows of `dst.len()` values: the look-up of an embedding.
///
/// # Errors
/// As [`decode`]; a row past the end of `src` is [`Error::BlockBytes`].
pub fn decode_row(ty: TensorType, src: &[u8], row: usize, dst: &mut [f32]) -> Result<(), Error> {
    let n = dst.len();
    let row_bytes = ty.row_bytes(n).ok_or(Error::BlockMultiple { ty, n, block: ty.block_len() })?;
    let end = row.checked_add(1).and_then(|next| next.checked_mul(row_bytes));
    match end.and_then(|end| src.get(end - row_bytes..end)) {
        Some(bytes) => decode(ty, bytes, dst),
        None => {
            Err(Error::BlockBytes { ty, n, expected: end.unwrap_or(usize::MAX), found: src.len() })
        }
    }
}

/// The kernels of a tensor type on a row of the instruction set table.
///
/// # Errors
/// [`Error::UnavailableIsa`] when this machine cannot run the row, [`Error::UnsupportedType`] when
/// there are no kernels for the type.
pub fn kernels(ty: TensorType, isa: Isa) -> Result<&'static Kernels, Error> {
    let isa = isa.check()?;
    find(ty, isa).ok_or_else(|| unsupported(ty))
}

/// The kernels for packed rows of a type on a row of the instruction set table; `None` when there
/// are none, because the type has no such layout or the row gains nothing by it.
///
/// # Errors
/// [`Error::UnavailableIsa`] when this machine cannot run the row.
pub fn packed_kernels(ty: TensorType, isa: Isa) -> Result<Option<&'static Kernels>, Error> {
    Ok(find_packed(ty, isa.check()?))
}
