//! Arrays of vectors, made element by element: macros, so that nothing is ever a call between vector code.

/// The array of what the expression is for each of 0..8.
macro_rules! eight {
    (|$k:ident| $make:expr) => {
        [
            eight!(@ 0, $k, $make),
            eight!(@ 1, $k, $make),
            eight!(@ 2, $k, $make),
            eight!(@ 3, $k, $make),
            eight!(@ 4, $k, $make),
            eight!(@ 5, $k, $make),
            eight!(@ 6, $k, $make),
            eight!(@ 7, $k, $make),
        ]
    };
    (@ $value:literal, $k:ident, $make:expr) => {{
        let $k: usize = $value;
        $make
    }};
}

/// The array of what the expression is for each of `0..P`.
macro_rules! for_panels {
    (|$p:ident| $make:expr) => {{
        let mut all = {
            let $p = 0;
            [$make; P]
        };
        for $p in 1..P {
            all[$p] = $make;
        }
        all
    }};
}

pub(super) use {eight, for_panels};
