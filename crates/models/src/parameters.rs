//! The weights of a model, by name. Names and shapes are those of the authors' PyTorch state dicts, so that a
//! checkpoint of that code loads by name and ours loads there. Everything is kept in name order: no sum, draw
//! or file ever depends on the order of a hash map.

use std::collections::BTreeMap;

use artifact::checkpoint::Array;
use candle_core::{DType, Device, Tensor, Var};
use rand::Rng;
use streams::{Purpose, Streams, unit};

use crate::{Error, Result};

/// Tensors by name, as an architecture reads them: variables while training, detached tensors otherwise.
pub type Weights = BTreeMap<String, Tensor>;

/// How a tensor begins (docs/mathematics.md, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Normal with the deviation of `optimizer.embedding_deviation`: token and position embeddings.
    Embedding,
    /// As [`Initial::Embedding`], with row 0, the padding, all zero.
    EmbeddingButPadding,
    /// Normal with standard deviation 0.02, cut off at two deviations: everything else, biases too.
    Truncated,
    /// Uniform between plus and minus the root of 6 over rows and columns together (Glorot and Bengio, AISTATS 2010), in each of the matrices of
    /// equal height that stand below one another in the tensor.
    Glorot {
        /// How many stand in it.
        matrices: usize,
    },
    /// All ones: the scale of a norm.
    Ones,
    /// All zeros: the shift of a norm.
    Zeros,
}

/// One tensor of an architecture: what it is called, how large it is, how it begins.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Name in the state dict.
    pub name: String,
    /// Shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Initial values.
    pub initial: Initial,
}

impl Declared {
    /// A declaration.
    pub fn new(name: impl Into<String>, shape: &[usize], initial: Initial) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), initial }
    }

    fn draw(&self, embedding_deviation: f64, stream: &mut impl Rng) -> Vec<f32> {
        let count = self.shape.iter().product();
        match self.initial {
            Initial::Ones => vec![1.0; count],
            Initial::Zeros => vec![0.0; count],
            Initial::Embedding | Initial::EmbeddingButPadding => {
                let padded = self.initial == Initial::EmbeddingButPadding;
                let padding = if padded { count / self.shape[0] } else { 0 };
                let mut values = vec![0.0; padding];
                values.extend((padding..count).map(|_| (embedding_deviation * normal(stream)) as f32));
                values
            }
            Initial::Glorot { matrices } => {
                let sides = self.shape[0] / matrices + self.shape[1..].iter().product::<usize>();
                let bound = (6.0 / sides as f64).sqrt();
                (0..count).map(|_| (bound * (2.0 * unit(stream) - 1.0)) as f32).collect()
            }
            Initial::Truncated => (0..count)
                .map(|_| {
                    loop {
                        let deviations = normal(stream);
                        if deviations.abs() <= 2.0 {
                            break (0.02 * deviations) as f32;
                        }
                    }
                })
                .collect(),
        }
    }
}

/// A standard normal draw, by Box and Muller's transform.
fn normal(stream: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(stream)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(stream)).cos()
}

/// The trainable tensors of a model, in name order.
#[derive(Clone, Debug)]
pub struct Parameters {
    variables: BTreeMap<String, Var>,
}

impl Parameters {
    /// Fresh weights, embeddings with this standard deviation. Each tensor has a stream of its own, by its place
    /// in name order.
    pub fn initial(
        declared: &[Declared],
        embedding_deviation: f64,
        streams: &Streams,
        purpose: Purpose,
        device: &Device,
    ) -> Result<Self> {
        let sorted: BTreeMap<&str, &Declared> = declared.iter().map(|d| (d.name.as_str(), d)).collect();
        let mut variables = BTreeMap::new();
        for (layer, (name, tensor)) in sorted.into_iter().enumerate() {
            let values = tensor.draw(embedding_deviation, &mut streams.open(purpose, 0, 0, layer as u64));
            let var = Var::from_vec(values, tensor.shape.as_slice(), device)?;
            variables.insert(name.to_owned(), var);
        }
        Ok(Self { variables })
    }

    /// Weights from arrays, which must be exactly the declared ones. `origin` names the file in messages.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the first tensor that is missing, surplus, or of another shape.
    pub fn from_arrays(
        arrays: &BTreeMap<String, Array>,
        declared: &[Declared],
        origin: &str,
        device: &Device,
    ) -> Result<Self> {
        let mut variables = BTreeMap::new();
        for Declared { name, shape, .. } in declared {
            let array = arrays.get(name).ok_or_else(|| {
                Error::Weights(format!("{origin}: tensor `{name}` is missing, expected shape {shape:?}"))
            })?;
            if &array.shape != shape {
                let found = &array.shape;
                return Err(Error::Weights(format!(
                    "{origin}: tensor `{name}` has shape {found:?}, expected {shape:?}"
                )));
            }
            variables.insert(name.clone(), Var::from_slice(&array.values, shape.as_slice(), device)?);
        }
        if let Some(surplus) = arrays.keys().find(|name| !variables.contains_key(*name)) {
            return Err(Error::Weights(format!(
                "{origin}: tensor `{surplus}` does not belong to this architecture and its sizes"
            )));
        }
        Ok(Self { variables })
    }

    /// The values, on the host.
    pub fn to_arrays(&self) -> Result<BTreeMap<String, Array>> {
        self.variables.iter().map(|(name, var)| Ok((name.clone(), to_array(var)?))).collect()
    }

    /// Variables in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.variables.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// The tensors to build a model that trains: gradients reach the variables.
    pub fn trainable(&self) -> Weights {
        self.variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect()
    }

    /// The same storage without gradients: a model over it follows the training, and keeps no graph.
    pub fn detached(&self) -> Weights {
        self.variables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    }

    /// The device of all of them; the CPU where there are none.
    pub fn device(&self) -> Device {
        self.variables.values().next().map_or(Device::Cpu, |variable| variable.device().clone())
    }

    /// A copy of the values as they are now.
    pub fn snapshot(&self) -> Result<Weights> {
        self.variables
            .iter()
            .map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?)))
            .collect()
    }

    /// Sets every variable to the value of the same name.
    pub fn restore(&self, values: &Weights) -> Result<()> {
        for (name, var) in &self.variables {
            let value = values
                .get(name)
                .ok_or_else(|| Error::Weights(format!("the saved state lacks tensor `{name}`")))?;
            var.set(value)?;
        }
        Ok(())
    }
}

/// A tensor's values on the host.
pub fn to_array(tensor: &Tensor) -> Result<Array> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok(Array { shape: tensor.dims().to_vec(), values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_have_the_stated_distribution() -> Result<()> {
        let declared = [
            Declared::new("token", &[500, 64], Initial::EmbeddingButPadding),
            Declared::new("weight", &[256, 64], Initial::Truncated),
            Declared::new("gates", &[3 * 64, 32], Initial::Glorot { matrices: 3 }),
        ];
        let parameters =
            Parameters::initial(&declared, 0.5, &Streams::new(3), Purpose::TargetWeights, &Device::Cpu)?;
        let arrays = parameters.to_arrays()?;
        let deviation = |values: &[f32]| {
            (values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64).sqrt()
        };
        let token = &arrays["token"].values;
        assert!(token[..64].iter().all(|&v| v == 0.0));
        assert!((deviation(&token[64..]) - 0.5).abs() < 0.02);
        let weight = &arrays["weight"].values;
        assert!(weight.iter().all(|v| v.abs() <= 0.04));
        // A normal cut at two deviations keeps 0.8796 of its deviation.
        assert!((deviation(weight) / 0.02 - 0.8796).abs() < 0.02);
        // Three matrices of 64 rows and 32 columns each: uniform up to .25, whose deviation is that over the root of 3.
        let gates = &arrays["gates"].values;
        assert!(gates.iter().all(|v| v.abs() <= 0.25) && gates.iter().any(|v| v.abs() > 0.245));
        assert!((deviation(gates) * 3f64.sqrt() / 0.25 - 1.0).abs() < 0.03);
        Ok(())
    }

    #[test]
    fn foreign_weights_are_refused_by_name() {
        let declared = [Declared::new("a", &[2], Initial::Ones)];
        let message = |arrays: BTreeMap<String, Array>| {
            Parameters::from_arrays(&arrays, &declared, "m.safetensors", &Device::Cpu)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        let array = |n: usize| Array { shape: vec![n], values: vec![0.0; n] };
        assert!(message(BTreeMap::new()).contains("`a` is missing"));
        assert!(message([("a".to_owned(), array(3))].into()).contains("shape [3], expected [2]"));
        let both = [("a".to_owned(), array(2)), ("b".to_owned(), array(2))].into();
        assert!(message(both).contains("`b` does not belong"));
    }
}
