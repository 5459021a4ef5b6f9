//! Telling the processor what memory comes next. Hints: they read and write nothing, and no address makes them fault.

/// Bytes that memory is read in.
const LINE: usize = 64;

/// Asks for `bytes` bytes from `at` on, which will be read soon. The processor's own foresight ends with each page of
/// memory: with few vectors to a matrix, the wait for the next took a third of the time.
#[inline(always)]
pub(crate) fn expect_read(at: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        for line in (0..bytes).step_by(LINE) {
            // SAFETY: a hint, that no address makes fault; every x86-64 has the instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(line).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes, LINE);
}

/// Asks for the line of memory at `at`, which will be written soon.
#[inline(always)]
pub(crate) fn expect_write(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: a hint, that no address makes fault; where a processor does not know it, it does nothing.
        unsafe { std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
