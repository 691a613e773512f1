//! What several tests need.

use formats::{Array, GgufWriter, TensorType, Value};

/// A file of every value type, nested arrays and three tensors.
pub(crate) fn sample() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer
        .set("general.architecture", "test")
        .set("general.alignment", 32u32);
    writer
        .set("u8", 1u8)
        .set("i8", -1i8)
        .set("u16", 2u16)
        .set("i16", -2i16);
    writer
        .set("u32", 3u32)
        .set("i32", -3i32)
        .set("u64", 4u64)
        .set("i64", -4i64);
    writer
        .set("f32", 0.5f32)
        .set("f64", 0.25f64)
        .set("bool", true)
        .set("text", "häß");
    writer
        .set("u8s", vec![1u8, 2])
        .set("i8s", vec![-1i8])
        .set("u16s", vec![3u16]);
    writer
        .set("i16s", vec![-3i16])
        .set("u32s", vec![4u32, 5])
        .set("i32s", vec![-4i32, 4]);
    writer
        .set("u64s", vec![6u64])
        .set("i64s", vec![-6i64])
        .set("f32s", vec![0.5f32, 1.5]);
    writer
        .set("f64s", vec![0.25f64])
        .set("bools", vec![true, false]);
    writer.set(
        "tokens",
        ["a", "", "héé"].into_iter().collect::<formats::Strings>(),
    );
    let inner = vec![
        Array::U8(vec![1]),
        Array::from(vec![Array::Bool(vec![true])]),
    ];
    writer.set("nested", Value::Array(Array::Array(inner)));
    writer.tensor("norm", TensorType::F32, &[8], (0..32).collect());
    writer.tensor("w", TensorType::Q8_0, &[32, 2], vec![7; 68]);
    writer.tensor("scalar", TensorType::F16, &[], vec![1, 2]);
    writer
}
