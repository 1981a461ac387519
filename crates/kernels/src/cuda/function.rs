//! Operations on a GPU with a backward pass of their own: a launch forward, and a closure of tensor operations back.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail,
};

/// What a kernel is given of a tensor.
pub(crate) type Of<'a> = (&'a CudaStorage, &'a Layout);

/// An operation of `N` tensors on a GPU.
///
/// Of the backward pass: the arguments, the result and its gradient, all without a history; it returns the gradient of each
/// argument.
pub(crate) struct Function<F, B> {
    name: &'static str,
    forward: F,
    backward: B,
}

/// `forward` of up to three tensors, with `backward`.
pub(crate) fn apply<const N: usize>(
    name: &'static str,
    tensors: [&Tensor; N],
    forward: impl Fn([Of<'_>; N]) -> Result<(CudaStorage, Shape)> + Send + Sync + 'static,
    backward: impl Fn([Tensor; N], &Tensor, &Tensor) -> Result<[Tensor; N]> + Send + Sync + 'static,
) -> Result<Tensor>
where
    Arguments<N>: Apply<N>,
{
    let contiguous = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    Arguments::<N>::apply(&contiguous, Function { name, forward, backward })
}

/// The number of an operation's arguments.
pub(crate) struct Arguments<const N: usize>;

/// The operations of candle with so many arguments.
pub(crate) trait Apply<const N: usize> {
    /// Applies the function, and records it.
    fn apply<F, B>(tensors: &[Tensor], function: Function<F, B>) -> Result<Tensor>
    where
        F: Fn([Of<'_>; N]) -> Result<(CudaStorage, Shape)> + Send + Sync + 'static,
        B: Fn([Tensor; N], &Tensor, &Tensor) -> Result<[Tensor; N]> + Send + Sync + 'static;
}

impl<F, B> Function<F, B> {
    fn elsewhere<T>(&self) -> Result<T> {
        bail!("{}: this is for a GPU", self.name)
    }
}

/// The trait of candle's for so many arguments, and the operation that takes them.
macro_rules! arguments {
    ($count:literal, $operation:ident, $gradients:ty, $apply:expr, $($storage:ident $layout:ident $tensor:ident),+) => {
        impl<F, B> $operation for Function<F, B>
        where
            F: Fn([Of<'_>; $count]) -> Result<(CudaStorage, Shape)>,
            B: Fn([Tensor; $count], &Tensor, &Tensor) -> Result<[Tensor; $count]>,
        {
            fn name(&self) -> &'static str {
                self.name
            }

            fn cpu_fwd(&self, $($storage: &CpuStorage, $layout: &Layout),+) -> Result<(CpuStorage, Shape)> {
                let _ = ($($storage, $layout),+);
                self.elsewhere()
            }

            fn cuda_fwd(&self, $($storage: &CudaStorage, $layout: &Layout),+) -> Result<(CudaStorage, Shape)> {
                (self.forward)([$(($storage, $layout)),+])
            }

            fn bwd(&self, $($tensor: &Tensor,)+ result: &Tensor, g: &Tensor) -> Result<$gradients> {
                let g = g.detach().contiguous()?;
                let gradients = (self.backward)([$($tensor.detach()),+], &result.detach(), &g)?;
                Ok(gradients.map(Some).into())
            }
        }

        impl Apply<$count> for Arguments<$count> {
            fn apply<F, B>(tensors: &[Tensor], function: Function<F, B>) -> Result<Tensor>
            where
                F: Fn([Of<'_>; $count]) -> Result<(CudaStorage, Shape)> + Send + Sync + 'static,
                B: Fn([Tensor; $count], &Tensor, &Tensor) -> Result<[Tensor; $count]> + Send + Sync + 'static,
            {
                let [$($tensor),+] = tensors else { return function.elsewhere() };
                $apply(function, $($tensor),+)
            }
        }
    };
}

type Two = (Option<Tensor>, Option<Tensor>);
type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

arguments!(2, CustomOp2, Two, |function, a: &Tensor, b: &Tensor| a.apply_op2(b, function), s1 l1 t1, s2 l2 t2);
arguments!(
    3,
    CustomOp3,
    Three,
    |function, a: &Tensor, b: &Tensor, c: &Tensor| a.apply_op3(b, c, function),
    s1 l1 t1,
    s2 l2 t2,
    s3 l3 t3
);

impl<F, B> CustomOp1 for Function<F, B>
where
    F: Fn([Of<'_>; 1]) -> Result<(CudaStorage, Shape)>,
    B: Fn([Tensor; 1], &Tensor, &Tensor) -> Result<[Tensor; 1]>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.elsewhere()
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        (self.forward)([(storage, layout)])
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let [gradient] = (self.backward)([x.detach()], &result.detach(), &g.detach().contiguous()?)?;
        Ok(Some(gradient))
    }
}

impl Apply<1> for Arguments<1> {
    fn apply<F, B>(tensors: &[Tensor], function: Function<F, B>) -> Result<Tensor>
    where
        F: Fn([Of<'_>; 1]) -> Result<(CudaStorage, Shape)> + Send + Sync + 'static,
        B: Fn([Tensor; 1], &Tensor, &Tensor) -> Result<[Tensor; 1]> + Send + Sync + 'static,
    {
        let [x] = tensors else { return function.elsewhere() };
        x.apply_op1(function)
    }
}
