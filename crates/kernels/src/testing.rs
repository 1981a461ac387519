//! What the tests of this crate share: inputs from pseudorandom numbers, and the comparison of the two versions of an operation.

use candle_core::{Device, Result, Shape, Tensor, Var};

use crate::Catalogue;

/// `count` numbers in (-1, 1), the same for the same `seed`.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

/// A variable of such numbers.
pub(crate) fn variable(seed: u64, shape: &[usize]) -> Var {
    let values = numbers(seed, shape.iter().product());
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// `count` ids below `bound`.
pub(crate) fn ids(seed: u64, count: usize, bound: u32) -> Vec<u32> {
    numbers(seed, count).iter().map(|x| (((x + 1.0) * 0.5 * bound as f32) as u32).min(bound - 1)).collect()
}

/// A tensor of such ids.
pub(crate) fn id_tensor(seed: u64, shape: impl Into<Shape>, bound: usize) -> Tensor {
    let shape = shape.into();
    Tensor::from_vec(ids(seed, shape.elem_count(), bound as u32), shape, &Device::Cpu).unwrap()
}

/// The same on the device of the variables.
pub(crate) fn beside(tensor: &Tensor, variables: &[Var]) -> Tensor {
    tensor.to_device(variables[0].device()).unwrap()
}

/// A catalogue whose weight is the second of the variables, and its bias the third, where there is one.
pub(crate) fn catalogue_of(v: &[Var], items: usize) -> Catalogue {
    Catalogue { weight: v[1].as_tensor().clone(), bias: v.get(2).map(|bias| bias.as_tensor().clone()), items }
}

/// The values of a tensor.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Value of `f`, and the gradients of its inner product with fixed numbers.
fn run(inputs: &[Var], f: &dyn Fn(&[Var]) -> Result<Tensor>) -> (Vec<f32>, Vec<Vec<f32>>) {
    let y = f(inputs).expect("forward");
    let weights = Tensor::from_vec(numbers(99, y.elem_count()), y.shape(), y.device()).unwrap();
    let grads = (&y * weights).unwrap().sum_all().unwrap().backward().expect("backward");
    let gradients = inputs.iter().map(|x| values(grads.get(x).expect("a gradient"))).collect();
    (values(&y), gradients)
}

/// Asserts that two lists are equal to `tolerance`, relative to the largest of them.
pub(crate) fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}: lengths");
    let scale = b.iter().fold(1e-2f32, |most, x| most.max(x.abs()));
    for (place, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}: element {place} is {a}, expected {b}");
    }
}

/// Runs `f` on a pool of `threads` threads.
pub(crate) fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// Asserts that the fused and the plain version agree in value and in every gradient, and that the fused version gives the
/// same bytes on one and on three threads.
pub(crate) fn assert_twins(
    name: &str,
    inputs: &[Var],
    tolerance: f32,
    fused: impl Fn(&[Var]) -> Result<Tensor> + Sync,
    plain: impl Fn(&[Var]) -> Result<Tensor>,
) {
    let (expected, expected_gradients) = run(inputs, &plain);
    let (value, gradients) = on_threads(1, || run(inputs, &fused));
    assert_close(&format!("{name}: value"), &value, &expected, tolerance);
    for (place, (gradient, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        assert_close(&format!("{name}: gradient of input {place}"), gradient, expected, tolerance);
    }
    let again = on_threads(3, || run(inputs, &fused));
    assert_eq!((value, gradients), again, "{name}: one and three threads differ");
    #[cfg(feature = "cuda")]
    if let Some(device) = gpu() {
        let (value, gradients) = run(&moved(inputs, device), &plain);
        let tolerance = tolerance.max(2e-4);
        assert_close(&format!("{name} on the GPU: value"), &value, &expected, tolerance);
        for (place, (gradient, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
            assert_close(
                &format!("{name} on the GPU: gradient of input {place}"),
                gradient,
                expected,
                tolerance,
            );
        }
    }
}

/// The GPU, where the tests are to run there too: `GRO_DEVICE=cuda:N`, or `cuda` for the first.
#[cfg(feature = "cuda")]
pub(crate) fn gpu() -> Option<&'static Device> {
    use std::sync::OnceLock;
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    GPU.get_or_init(|| {
        let wanted = std::env::var("GRO_DEVICE").ok()?;
        let number = wanted.strip_prefix("cuda")?.strip_prefix(':').unwrap_or("0").parse();
        Some(crate::cuda_device(number.unwrap()).unwrap())
    })
    .as_ref()
}

/// The same variables on another device; one that stands in two places is one there too.
#[cfg(feature = "cuda")]
fn moved(inputs: &[Var], device: &Device) -> Vec<Var> {
    let mut moved: Vec<Var> = Vec::new();
    for (place, input) in inputs.iter().enumerate() {
        let before = inputs[..place].iter().position(|other| other.id() == input.id());
        let copy = before.map(|place| moved[place].clone());
        moved.push(copy.unwrap_or_else(|| Var::from_tensor(&input.to_device(device).unwrap()).unwrap()));
    }
    moved
}

/// Asserts that the gradients of `f` are those of central differences, at up to twelve elements of each input.
pub(crate) fn assert_gradients(
    name: &str,
    inputs: &[Var],
    step: f32,
    tolerance: f32,
    f: impl Fn(&[Var]) -> Result<Tensor>,
) {
    let loss = |y: &[f32]| -> f64 {
        y.iter().zip(numbers(99, y.len())).map(|(y, w)| f64::from(*y) * f64::from(w)).sum()
    };
    let (_, gradients) = run(inputs, &f);
    for (place, input) in inputs.iter().enumerate() {
        let original = values(input);
        let scale = gradients[place].iter().fold(1e-2f32, |most, x| most.max(x.abs()));
        for element in (0..original.len()).step_by(original.len().div_ceil(12)) {
            let at = |offset: f32| {
                let mut moved = original.clone();
                moved[element] += offset;
                input.set(&Tensor::from_vec(moved, input.shape(), &Device::Cpu).unwrap()).unwrap();
                loss(&values(&f(inputs).unwrap()))
            };
            let difference = ((at(step) - at(-step)) / f64::from(2.0 * step)) as f32;
            let gradient = gradients[place][element];
            assert!(
                (difference - gradient).abs() <= tolerance * scale,
                "{name}: gradient of input {place} at {element} is {gradient}, differences give {difference}"
            );
        }
        input.set(&Tensor::from_vec(original, input.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}
