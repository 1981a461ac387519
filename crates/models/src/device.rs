//! Where the arithmetic runs: the CPU, or an NVIDIA GPU in a build with the `cuda` feature.

use candle_core::{Device, DeviceLocation};

use crate::{Error, Result};

/// The device called `name`: `cpu`, `cuda:N`, or `auto` for the first GPU where this build can use one and one
/// answers, else the CPU. With `plain_kernels` the whole process computes with the plain twins of [`kernels`] on the CPU too.
///
/// # Errors
/// [`Error::Request`] where a GPU is asked for by name and there is none, or this build cannot use one: a run
/// is never moved to the CPU silently.
pub fn device(name: &str, plain_kernels: bool) -> Result<Device> {
    kernels::set_plain(plain_kernels);
    let device = match name {
        "auto" if candle_core::utils::cuda_is_available() => Device::new_cuda(0).unwrap_or_else(|error| {
            // A driver without a device fails here rather than above.
            tracing::warn!("this build can use a GPU, but none answers ({}); using the CPU", reason(&error));
            Device::Cpu
        }),
        "auto" | "cpu" => Device::Cpu,
        _ => {
            let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
            let number = number
                .ok_or_else(|| Error::Request(format!("device `{name}`: expected auto, cpu or cuda:N")))?;
            if !candle_core::utils::cuda_is_available() {
                return Err(Error::Request(format!(
                    "device `{name}`: this binary was built without CUDA; build it with `make cuda` (`--features cuda`), \
                     or use --device cpu"
                )));
            }
            Device::new_cuda(number).map_err(|error| {
                Error::Request(format!(
                    "device `{name}` does not answer ({}); use --device cpu",
                    reason(&error)
                ))
            })?
        }
    };
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => tracing::info!("running on GPU {gpu_id} (cuda:{gpu_id})"),
        _ if candle_core::utils::cuda_is_available() => tracing::info!("running on the CPU"),
        // Where there is no choice there is nothing to say.
        _ => tracing::debug!("running on the CPU"),
    }
    Ok(device)
}

/// What went wrong, without the stack that candle adds to it.
fn reason(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_asked_for_by_name_is_never_replaced_silently() {
        assert!(matches!(device("cpu", false), Ok(Device::Cpu)));
        assert!(device("auto", false).is_ok());
        assert!(device("tpu", false).unwrap_err().to_string().contains("expected auto, cpu or cuda:N"));
        if !candle_core::utils::cuda_is_available() {
            assert!(device("cuda:0", false).unwrap_err().to_string().contains("--features cuda"));
        }
    }
}
