//! Runs programs of tile instructions from their text, as the processor's manual says they work.

use super::{Block, Config, ONE, TWO, Tiles};

/// Tiles in memory.
pub(crate) struct Interpreter {
    config: Option<Config>,
    tiles: [[[u8; 64]; 16]; 8],
}

/// Values of the operands by name, in the order of `asm!`.
type Registers = Vec<(&'static str, usize)>;

/// The operand called `{name}`.
fn register<'r>(registers: &'r mut Registers, name: &str) -> &'r mut usize {
    let name = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')).expect("{name}");
    let found = registers.iter_mut().find(|r| r.0 == name);
    &mut found.unwrap_or_else(|| panic!("no operand is called {name}")).1
}

/// The number in `tmm3`.
fn tile(text: &str) -> usize {
    text.strip_prefix("tmm").expect("a tile").parse().expect("a number")
}

/// Base and stride of `[{base} + {stride}*1 + 64]`.
fn address(registers: &mut Registers, text: &str) -> (usize, usize) {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).expect("[address]");
    let parts: Vec<&str> = inner.split(" + ").collect();
    let base = *register(registers, parts[0]);
    let stride = *register(registers, parts[1].strip_suffix("*1").expect("an index"));
    let more = parts.get(2).map_or(0, |n| n.parse().expect("a number"));
    (base + more, stride)
}

/// As the products take it in and give it out: what is not normal is zero.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0 } else { x }
}

impl Interpreter {
    fn size(&self, tile: usize) -> (usize, usize) {
        let config = self.config.as_ref().expect("tiles are configured");
        let (rows, bytes) = (config.rows[tile].into(), config.row_bytes[tile].into());
        assert!(rows > 0 && bytes > 0, "tile {tile} is not there");
        (rows, bytes)
    }

    /// The bfloat16 numbers of a dword of a tile.
    fn pair(&self, tile: usize, row: usize, dword: usize) -> [f32; 2] {
        let at = |i: usize| self.tiles[tile][row][4 * dword + i];
        [[at(0), at(1)], [at(2), at(3)]].map(|b| flushed(half::bf16::from_le_bytes(b).to_f32()))
    }

    /// `tdpbf16ps`: the even and the odd products of a row are summed apart, one after the other.
    fn dot(&mut self, sum: usize, a: usize, b: usize) {
        let (rows, bytes) = self.size(sum);
        assert_eq!((rows, self.size(b).0), (self.size(a).0, self.size(a).1 / 4), "rows");
        assert_eq!(bytes, self.size(b).1, "bytes of a row");
        for m in 0..rows {
            for n in 0..bytes / 4 {
                let mut parts = [0f32; 2];
                for k in 0..self.size(a).1 / 4 {
                    let (x, w) = (self.pair(a, m, k), self.pair(b, k, n));
                    for i in 0..2 {
                        parts[i] = flushed(x[i].mul_add(w[i], parts[i]));
                    }
                }
                let at = &mut self.tiles[sum][m][4 * n..4 * n + 4];
                let old = flushed(f32::from_le_bytes(at.try_into().unwrap()));
                let new = flushed(old + flushed(parts[0] + parts[1]));
                at.copy_from_slice(&new.to_le_bytes());
            }
        }
    }

    /// Runs a program.
    ///
    /// # Safety
    /// The addresses that it comes to are valid.
    unsafe fn run(&mut self, text: &[&str], registers: &mut Registers) {
        let (mut line, mut zero) = (0, false);
        while line < text.len() {
            let (name, operands) = text[line].split_once(' ').unwrap_or((text[line], ""));
            let operands: Vec<&str> = operands.split(", ").collect();
            line += 1;
            match name {
                "2:" => {}
                "tileloadd" => {
                    let (tile, (base, stride)) =
                        (tile(operands[0]), address(registers, operands[1]));
                    let (rows, bytes) = self.size(tile);
                    self.tiles[tile] = [[0; 64]; 16];
                    for r in 0..rows {
                        let from = (base + r * stride) as *const u8;
                        // SAFETY: the caller's.
                        let from = unsafe { std::slice::from_raw_parts(from, bytes) };
                        self.tiles[tile][r][..bytes].copy_from_slice(from);
                    }
                }
                "tilestored" => {
                    let (tile, (base, stride)) =
                        (tile(operands[1]), address(registers, operands[0]));
                    let (rows, bytes) = self.size(tile);
                    for r in 0..rows {
                        let to = (base + r * stride) as *mut u8;
                        let from = self.tiles[tile][r].as_ptr();
                        // SAFETY: the caller's.
                        unsafe { to.copy_from_nonoverlapping(from, bytes) };
                    }
                }
                "tdpbf16ps" => self.dot(tile(operands[0]), tile(operands[1]), tile(operands[2])),
                "add" => {
                    let more: usize = operands[1].parse().expect("a number");
                    *register(registers, operands[0]) += more;
                }
                "dec" => {
                    let value = register(registers, operands[0]);
                    *value -= 1;
                    zero = *value == 0;
                }
                "jnz" if zero => {}
                "jnz" => line = text.iter().position(|&l| l == "2:").expect("the label"),
                other => panic!("{other} is no instruction of the programs"),
            }
        }
    }
}

impl Tiles for Interpreter {
    unsafe fn new() -> Self {
        Self { config: None, tiles: [[[0; 64]; 16]; 8] }
    }

    unsafe fn configure(&mut self, config: &Config) {
        // SAFETY: 64 bytes of plain numbers.
        let bytes = unsafe { std::mem::transmute::<Config, [u8; 64]>(*config) };
        assert_eq!(
            bytes[..16],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "palette, reserved"
        );
        assert!(bytes[48..].iter().all(|&rows| rows <= 16), "rows");
        assert!(
            (0..16).all(|t| bytes[16 + 2 * t] <= 64 && bytes[17 + 2 * t] == 0),
            "bytes of a row"
        );
        assert!((0..16).all(|t| (bytes[16 + 2 * t] == 0) == (bytes[48 + t] == 0)), "both or none");
        assert!(
            bytes[32..48].iter().chain(&bytes[56..]).all(|&b| b == 0),
            "tiles after the eighth"
        );
        *self = Self { config: Some(*config), tiles: [[[0; 64]; 16]; 8] };
    }

    unsafe fn add(&mut self, block: &Block) {
        let (sum, x) = (block.sum as usize, block.x as usize);
        let mut registers = vec![
            ("sum", sum),
            ("sum2", sum + 16 * block.row),
            ("row", block.row),
            ("x", x),
            ("x2", x + 16 * block.column),
            ("column", block.column),
            ("w", block.w as usize),
            ("line", 64),
            ("steps", block.steps),
        ];
        // SAFETY: the caller's.
        unsafe { self.run(if block.columns > 16 { TWO } else { ONE }, &mut registers) }
    }

    unsafe fn release(self) {
        assert!(self.config.is_some(), "tiles are released that never were configured");
    }
}
