//! Compiles the CUDA kernels, for builds with the `cuda` feature.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cuda/kernels.cu");
    #[cfg(feature = "cuda")]
    if let Err(error) =
        cudaforge::KernelBuilder::new().source_files(["src/cuda/kernels.cu"]).arg("-O3").build_ptx()
    {
        println!("cargo::error=src/cuda/kernels.cu: {error}");
    }
}
