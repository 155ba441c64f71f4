//! Random numbers: the 32-bit Mersenne twister with `PyTorch`'s rules for turning its words into numbers.
//!
//! Source: Matsumoto and Nishimura, "Mersenne Twister", 1998, with the seeding of 2002.

const N: usize = 624;
const M: usize = 397;

/// A generator.
#[derive(Clone, Debug)]
pub struct Generator {
    words: Box<[u32; N]>,
    next: usize,
    /// The second number of the last Box-Muller pair.
    cached_normal: Option<f64>,
}

impl Default for Generator {
    /// `PyTorch`'s seed when none was set.
    fn default() -> Self {
        Self::new(67_280_421_310_721)
    }
}

impl Generator {
    /// A generator seeded with the low 32 bits.
    pub fn new(seed: u64) -> Self {
        let mut words = Box::new([0_u32; N]);
        words[0] = seed as u32;
        for i in 1..N {
            let last = words[i - 1];
            words[i] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { words, next: N, cached_normal: None }
    }

    /// The next word.
    pub fn u32(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % N] & 0x7fff_ffff);
                let mixed = (y >> 1) ^ if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[i] = self.words[(i + M) % N] ^ mixed;
            }
            self.next = 0;
        }
        let mut y = self.words[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Two words, the first one high.
    pub fn u64(&mut self) -> u64 {
        let high = u64::from(self.u32());
        high << 32 | u64::from(self.u32())
    }

    /// Uniform in `[0, 1)` with 24 bits.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// Uniform in `[0, 1)` with 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.u64() & ((1 << 53) - 1)) as f64 / 9_007_199_254_740_992.0
    }

    /// Standard normal, one at a time; every second call takes the other half of a pair.
    pub fn normal(&mut self) -> f64 {
        if let Some(cached) = self.cached_normal.take() {
            return cached;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let r = (-2.0 * (-u2).ln_1p()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * u1;
        self.cached_normal = Some(r * angle.sin());
        r * angle.cos()
    }

    /// Standard normals in `float32` for a row-major tensor.
    pub fn fill_normal_f32(&mut self, out: &mut [f32], mean: f32, std: f32) {
        if out.len() < 16 {
            // The scalar path computes in double and rounds.
            for x in out {
                *x = (self.normal() * f64::from(std) + f64::from(mean)) as f32;
            }
            return;
        }
        for x in &mut *out {
            *x = self.uniform_f32();
        }
        let n = out.len();
        for start in (0..n - 15).step_by(16) {
            normal_block_f32(&mut out[start..start + 16], mean, std);
        }
        if !n.is_multiple_of(16) {
            let tail = &mut out[n - 16..];
            for x in &mut *tail {
                *x = self.uniform_f32();
            }
            normal_block_f32(tail, mean, std);
        }
    }

    /// Standard normals in `float64` for a row-major tensor.
    pub fn fill_normal_f64(&mut self, out: &mut [f64], mean: f64, std: f64) {
        if out.len() < 16 {
            for x in out {
                *x = self.normal() * std + mean;
            }
            return;
        }
        for x in &mut *out {
            *x = self.uniform_f64();
        }
        let n = out.len();
        for start in (0..n - 15).step_by(16) {
            normal_block_f64(&mut out[start..start + 16], mean, std);
        }
        if !n.is_multiple_of(16) {
            let tail = &mut out[n - 16..];
            for x in &mut *tail {
                *x = self.uniform_f64();
            }
            normal_block_f64(tail, mean, std);
        }
    }

    /// An integer in `low..high`, which must not be empty.
    pub fn randint(&mut self, low: i64, high: i64) -> i64 {
        let range = high.wrapping_sub(low) as u64;
        let word = if range < 1 << 32 { u64::from(self.u32()) } else { self.u64() };
        low.wrapping_add((word % range.max(1)) as i64)
    }

    /// Shuffles `0..out.len()` into `out`.
    pub fn randperm(&mut self, out: &mut [i64]) {
        for (i, x) in out.iter_mut().enumerate() {
            *x = i as i64;
        }
        let n = out.len();
        for i in 0..n.saturating_sub(1) {
            let left = (n - i) as u64;
            let word = if (n as u64) < (1 << 32) / 20 { u64::from(self.u32()) } else { self.u64() };
            out.swap(i, i + (word % left) as usize);
        }
    }
}

fn normal_block_f32(block: &mut [f32], mean: f32, std: f32) {
    for j in 0..8 {
        let u1 = 1.0 - block[j];
        let angle = 2.0 * std::f32::consts::PI * block[j + 8];
        let r = (-2.0 * u1.ln()).sqrt();
        block[j] = r * angle.cos() * std + mean;
        block[j + 8] = r * angle.sin() * std + mean;
    }
}

fn normal_block_f64(block: &mut [f64], mean: f64, std: f64) {
    for j in 0..8 {
        let u1 = 1.0 - block[j];
        let angle = 2.0 * std::f64::consts::PI * block[j + 8];
        let r = (-2.0 * u1.ln()).sqrt();
        block[j] = r * angle.cos() * std + mean;
        block[j + 8] = r * angle.sin() * std + mean;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_reference_generator() {
        // The standard's check value: the 10000th word for the seed 5489.
        let mut generator = Generator::new(5489);
        assert_eq!(generator.u32(), 3_499_211_612);
        let last = (1..10_000).map(|_| generator.u32()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn only_the_low_word_of_the_seed_counts() {
        assert_eq!(Generator::new((1 << 32) + 5).u64(), Generator::new(5).u64());
    }

    #[test]
    fn permutations_hold_every_number() {
        let mut out = [0; 100];
        Generator::new(0).randperm(&mut out);
        let mut sorted = out;
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &x)| i as i64 == x) && sorted != out);
    }
}
