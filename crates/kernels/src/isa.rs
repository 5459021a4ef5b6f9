//! Which vector instructions are used.

/// A set of vector instructions that this CPU has: holding one is the proof.
///
/// Every operation of this crate takes one and gives the same bits for each of them, so the choice is one of speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// The plain code, which compilers turn into NEON where every CPU has it.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// The variable that forces an instruction set, for tests and measurements.
const FORCE: &str = "MEUSE_ISA";

/// `MEUSE_ISA` does not name an instruction set of this CPU.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("MEUSE_ISA={name} is not an instruction set of this CPU; it has {available}")]
pub struct UnknownIsa {
    /// What was asked for.
    pub name: String,
    /// What there is, separated by commas.
    pub available: String,
}

impl Isa {
    /// Plain code, on every CPU: the definition of every operation.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// What this CPU has, the plain one first, the fastest last.
    #[must_use]
    pub fn available() -> Vec<Isa> {
        let mut found = vec![Isa::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            if avx2 {
                found.push(Isa(Kind::Avx2));
            }
            if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
                found.push(Isa(Kind::Avx512Vnni));
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa(Kind::Neon));
        found
    }

    /// The fastest that this CPU has, or the one that `MEUSE_ISA` names when this CPU has it.
    #[must_use]
    pub fn best() -> Isa {
        Isa::forced().ok().flatten().unwrap_or_else(|| Isa::available().pop().unwrap_or(Isa::SCALAR))
    }

    /// The one that `MEUSE_ISA` names (`scalar`, `avx2`, `avx512`, `neon`), if it is set.
    ///
    /// # Errors
    /// When this CPU has no instruction set of that name.
    pub fn forced() -> Result<Option<Isa>, UnknownIsa> {
        match std::env::var(FORCE) {
            Ok(name) if !name.is_empty() => Isa::named(&name).map(Some),
            _ => Ok(None),
        }
    }

    /// The one of this name: `scalar`, `avx2`, `avx512`, `neon`.
    ///
    /// # Errors
    /// When this CPU has no instruction set of that name.
    pub fn named(name: &str) -> Result<Isa, UnknownIsa> {
        let available = Isa::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| UnknownIsa {
            name: name.to_owned(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The name by which `MEUSE_ISA` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        self.0
    }

    /// Rows of a packed panel: as many as a vector holds 32-bit sums.
    pub(crate) const fn panel_rows(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => 16,
            _ => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_lead_back() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()).unwrap(), isa);
        }
        assert!(Isa::named("mmx").unwrap_err().to_string().contains("scalar"));
    }
}
