//! Finds speech in a 16 kHz mono WAV file with the Silero VAD model, compiled in process.

use aot::{Backend, Exact, Module};
use ndarray::ArrayView2;
use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

const RATE: i64 = 16000;
const CHUNK: usize = 512;
/// Pauses under 0.2 s do not end a segment.
const QUIET_CHUNKS: usize = 7;

/// Reads 16-bit mono samples; only plain PCM files are understood.
fn read_wav(path: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let data = bytes.windows(4).skip(12).position(|w| w == b"data").ok_or("not a WAV file")? + 12;
    let samples = bytes.get(data + 8..).unwrap_or_default().chunks_exact(2);
    Ok(samples.map(|s| f32::from(i16::from_le_bytes([s[0], s[1]])) / 32768.0).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let backend = if std::env::args().any(|a| a == "--cranelift") { Backend::Cranelift } else { Backend::Llvm };
    let [model, wav] = args.as_slice() else { return Err("usage: rust-jit MODEL.pt FILE.wav [--cranelift]".into()) };
    find_speech(model, wav, backend, &mut std::io::stdout())
}

#[allow(clippy::cast_precision_loss, reason = "times are printed with a few digits")]
pub(crate) fn find_speech(model: &str, wav: &str, backend: Backend, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let samples = read_wav(wav)?;
    let start = Instant::now();
    let module = Module::load_with(model, backend)?;
    let (mut ready, mut busy) = (Duration::ZERO, Duration::ZERO);
    let (mut first, mut quiet) = (None, 0);
    let seconds = |chunk: usize| (chunk * CHUNK) as f64 / RATE as f64;
    let n_chunks = samples.len() / CHUNK;
    for (i, chunk) in samples.chunks_exact(CHUNK).enumerate() {
        let audio = ArrayView2::from_shape((1, CHUNK), chunk)?;
        let before = Instant::now();
        let result = module.forward(&[&audio, &Exact(RATE)])?;
        if i == 0 {
            ready = start.elapsed();
        } else {
            busy += before.elapsed();
        }
        let probability = aot::to_array::<f32>(&result)?[[0, 0]];
        quiet = if probability >= 0.5 { 0 } else { quiet + 1 };
        if quiet == 0 && first.is_none() {
            first = Some(i);
        }
        if quiet == QUIET_CHUNKS
            && let Some(first) = first.take()
        {
            writeln!(out, "speech {:6.2} s to {:6.2} s", seconds(first), seconds(i + 1 - QUIET_CHUNKS))?;
        }
    }
    if let Some(first) = first {
        writeln!(out, "speech {:6.2} s to {:6.2} s", seconds(first), seconds(n_chunks))?;
    }
    let each = busy.as_secs_f64() * 1e6 / (n_chunks.max(2) - 1) as f64;
    writeln!(out, "ready after {:.0} ms; {n_chunks} chunks of 32 ms, {each:.1} us each", ready.as_secs_f64() * 1e3)?;
    Ok(())
}
