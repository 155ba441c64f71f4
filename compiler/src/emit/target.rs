//! Machines to compile for: names, features, vector width.

use crate::diag::{Diagnostic, Result};

/// A machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// LLVM's triple, e.g. `x86_64-unknown-linux-gnu`.
    pub triple: String,
    /// LLVM's name of the processor.
    pub cpu: String,
    /// LLVM's features, `+avx2,+fma`; may be empty.
    pub features: String,
    /// Bytes of a vector register that schedules use.
    pub vector_bytes: usize,
    /// Number of vector registers.
    pub n_vector_registers: usize,
    /// Whether a fused multiply-add is one instruction.
    pub has_fma: bool,
    /// Whether loads and stores with masks are single instructions for elements of any size.
    pub has_masks: bool,
}

impl Target {
    /// The machine with this name: `native`, `x86-64`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`, `aarch64`.
    ///
    /// # Errors
    /// A user error for any other name.
    pub fn named(name: &str) -> Result<Self> {
        let make = |arch: &str, cpu: &str, vector_bytes, n_vector_registers, has_fma, has_masks| Self {
            triple: format!("{arch}-unknown-linux-gnu"),
            cpu: cpu.to_owned(),
            features: String::new(),
            vector_bytes,
            n_vector_registers,
            has_fma,
            has_masks,
        };
        match name {
            "native" => Ok(Self::host()),
            "x86-64" | "x86-64-v2" => Ok(make("x86_64", name, 16, 16, false, false)),
            "x86-64-v3" => Ok(make("x86_64", name, 32, 16, true, false)),
            // The plain level prefers 256-bit vectors to spare old chips their clock; nests ask for what they want.
            "x86-64-v4" => {
                Ok(Self { features: "-prefer-256-bit".to_owned(), ..make("x86_64", name, 64, 32, true, true) })
            }
            "aarch64" => Ok(make("aarch64", "generic", 16, 32, true, false)),
            _ => Err(Diagnostic::user(format!("unknown cpu '{name}'"))
                .help("known: native, x86-64, x86-64-v2, x86-64-v3, x86-64-v4, aarch64")),
        }
    }

    /// The machine this process runs on.
    #[cfg(target_arch = "x86_64")]
    pub fn host() -> Self {
        let has_v3 = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("f16c");
        let has_v4 = has_v3
            && std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl");
        let level = if has_v4 {
            "x86-64-v4"
        } else if has_v3 {
            "x86-64-v3"
        } else if std::arch::is_x86_feature_detected!("sse4.2") {
            "x86-64-v2"
        } else {
            "x86-64"
        };
        let level = Self::named(level).expect("the level is one of the named ones");
        Self { ..level }.tuned_for_host()
    }

    /// The machine this process runs on.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn host() -> Self {
        Self::named("aarch64").expect("aarch64 is one of the named machines").tuned_for_host()
    }

    /// This machine as Cranelift sees it: vectors of 16 bytes.
    #[must_use]
    pub fn for_cranelift(self) -> Self {
        Self { vector_bytes: 16, n_vector_registers: 16, has_masks: false, ..self }
    }

    /// The lanes of one vector register for elements of this size.
    pub fn lanes(&self, size_bytes: usize) -> u16 {
        u16::try_from(self.vector_bytes / size_bytes.max(1)).unwrap_or(1).max(1)
    }

    #[cfg(feature = "llvm")]
    fn tuned_for_host(self) -> Self {
        let (cpu, features) = super::llvm::host_cpu();
        // The level's own wishes come last, so that they win.
        let features = [features, self.features.clone()].join(",").trim_matches(',').to_owned();
        Self { cpu, features, ..self }
    }

    #[cfg(not(feature = "llvm"))]
    fn tuned_for_host(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_widths() {
        assert_eq!(Target::named("x86-64-v3").unwrap().lanes(4), 8);
        assert_eq!(Target::named("aarch64").unwrap().lanes(8), 2);
        assert!(Target::named("z80").is_err());
        assert!(Target::host().vector_bytes >= 16);
    }
}
