//! Where the arithmetic runs: the CPU, or an NVIDIA GPU in a build with the `cuda` feature.

use artifact::device::Device as Choice;
use candle_core::{Device, DeviceLocation};

use crate::{Error, Result};

/// The device that was chosen: for [`Choice::Auto`] the first GPU where this build can use one and one answers, else the CPU.
///
/// # Errors
/// [`Error::Request`] where a GPU is asked for by number and there is none, or this build cannot use one: a run
/// is never moved to the CPU silently.
pub fn device(choice: Choice) -> Result<Device> {
    let device = match choice {
        Choice::Auto if candle_core::utils::cuda_is_available() => {
            open(0).unwrap_or_else(|error| {
                // A driver without a device fails here rather than above.
                tracing::warn!(
                    "this build can use a GPU, but none answers ({}); using the CPU",
                    reason(&error)
                );
                Device::Cpu
            })
        }
        Choice::Auto | Choice::Cpu => Device::Cpu,
        Choice::Cuda(_) if !candle_core::utils::cuda_is_available() => {
            return Err(Error::Request(format!(
                "device `{choice}`: this binary was built without CUDA; build it with `make cuda` (`--features cuda`), \
                 or use --device cpu"
            )));
        }
        Choice::Cuda(number) => open(number).map_err(|error| {
            Error::Request(format!(
                "device `{choice}` does not answer ({}); use --device cpu",
                reason(&error)
            ))
        })?,
    };
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => tracing::info!("running on GPU {gpu_id} (cuda:{gpu_id})"),
        _ if candle_core::utils::cuda_is_available() => tracing::info!("running on the CPU"),
        // Where there is no choice there is nothing to say.
        _ => tracing::debug!("running on the CPU"),
    }
    Ok(device)
}

#[cfg(feature = "cuda")]
use kernels::cuda_device as open;

/// A build without CUDA has no GPU; candle says so.
#[cfg(not(feature = "cuda"))]
fn open(number: usize) -> candle_core::Result<Device> {
    Device::new_cuda(number)
}

/// What `--device` would call it: `cpu` or `cuda:N`.
pub fn name_of(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => Choice::Cuda(gpu_id).to_string(),
        _ => Choice::Cpu.to_string(),
    }
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
        assert!(matches!(device(Choice::Cpu), Ok(Device::Cpu)));
        assert!(device(Choice::Auto).is_ok());
        if !candle_core::utils::cuda_is_available() {
            assert!(device(Choice::Cuda(0)).unwrap_err().to_string().contains("--features cuda"));
        }
        assert_eq!(name_of(&Device::Cpu), "cpu");
    }
}
