//! Names of devices, as they come in archives and arguments. Models run on the CPU, whichever they name.

/// The types of devices, as messages list them.
pub const DEVICE_TYPES: [&str; 20] = [
    "cpu",
    "cuda",
    "ipu",
    "xpu",
    "mkldnn",
    "opengl",
    "opencl",
    "ideep",
    "hip",
    "ve",
    "fpga",
    "maia",
    "xla",
    "lazy",
    "vulkan",
    "mps",
    "meta",
    "hpu",
    "mtia",
    "privateuseone",
];

/// Whether a text names a device: a type, or a type with a number (`cuda:1`).
pub fn is_device(text: &str) -> bool {
    let (kind, index) = text.split_once(':').map_or((text, None), |(kind, index)| (kind, Some(index)));
    DEVICE_TYPES.contains(&kind) && index.is_none_or(|i| i.parse::<u8>().is_ok())
}
