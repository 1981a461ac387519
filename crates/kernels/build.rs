//! Compiles the CUDA kernels, for builds with the `cuda` feature.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cuda/kernels.cu");
    #[cfg(feature = "cuda")]
    if let Err(error) =
        // Products and sums are rounded each by itself, as on the CPU.
        cudaforge::KernelBuilder::new()
            .source_files(["src/cuda/kernels.cu"])
            .args(["-O3", "-fmad=false"])
            .build_ptx()
    {
        println!("cargo::error=src/cuda/kernels.cu: {error}");
    }
}
