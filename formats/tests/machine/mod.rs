//! What the machine that runs the tests is like.

/// Whether a sanitizer or an emulator (`ASAN_OPTIONS` or `PUMICE_TEST_SLOW` is set) multiplies time
/// and memory, so that there is no sense in measuring them; says so.
pub(crate) fn is_slow() -> bool {
    let set = |variable: &&str| std::env::var_os(variable).is_some();
    let Some(variable) = ["ASAN_OPTIONS", "PUMICE_TEST_SLOW"].into_iter().find(set) else {
        return false;
    };
    println!("time and memory are not measured: {variable} is set");
    true
}
