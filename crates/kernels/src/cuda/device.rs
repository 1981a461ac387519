//! A GPU as the project uses it: one stream for all threads, and memory that is kept until the process ends.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{Device, Result};

/// GPU number `number`, the same one to whoever asks.
///
/// candle's own `new_cuda` gives every thread a stream of its own, and nothing orders what one thread computes with what another
/// reads or frees; a service answers on several threads. Here all work of a process is in one stream, in the order it was asked
/// for: a second device of the same number would have a second stream.
///
/// The driver's pool, unless told otherwise, gives memory that is not in use back at every wait for the device, and a step of
/// training waits for its loss: each step would map its memory anew.
///
/// # Errors
/// Where there is no such GPU, or it does not answer.
pub fn cuda_device(number: usize) -> Result<Device> {
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let device = with_one_stream(number)?;
    open.insert(number, device.clone());
    Ok(device)
}

fn with_one_stream(number: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(number)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: there is one stream, so no use of a tensor has to wait for one in another.
    unsafe { cuda.disable_event_tracking() };
    let context = cuda.cuda_stream().context().clone();
    if context.has_async_alloc() {
        let mut most = u64::MAX;
        // SAFETY: the device is that of a live context; the attribute is a 64-bit number, which the call copies.
        unsafe {
            let pool = result::device::get_mem_pool(context.cu_device()).w()?;
            result::mem_pool::set_attribute(
                pool,
                sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                (&raw mut most).cast::<c_void>(),
            )
            .w()?;
        }
    }
    Ok(device)
}
