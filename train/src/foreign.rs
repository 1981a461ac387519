//! A file of weights from elsewhere, whatever wrote it: `torch.save`, or a library that writes safetensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use artifact::checkpoint::Array;
use candle_core::DType;
use models::Shapes;
use safetensors::{Dtype, SafeTensors};
use stage::Refusal;

use crate::torch::{self, StateDict};

/// Bytes of the length with which a safetensors file begins.
const LENGTH: usize = 8;

/// Weights by name. Shapes are known once the file is open.
pub struct Foreign {
    path: PathBuf,
    source: Source,
    /// What every name in the file begins with and none here does.
    prefix: String,
}

enum Source {
    Torch(StateDict),
    Safetensors { bytes: Vec<u8>, shapes: BTreeMap<String, Vec<usize>> },
}

impl Foreign {
    /// Opens the file at `path`, which tells by its first bytes what it is.
    ///
    /// # Errors
    /// A refusal that says what the file is instead, or where it is damaged.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let unreadable = |error| Refusal::because(format!("cannot read {}", path.display()), error);
        let mut start = Vec::new();
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        File::open(path)
            .and_then(|file| file.take(LENGTH as u64 + 1).read_to_end(&mut start))
            .map_err(unreadable)?;
        let source = if is_safetensors(&start, size) {
            let bytes = std::fs::read(path).map_err(unreadable)?;
            let shapes = shapes_of(&bytes, path)?;
            Source::Safetensors { bytes, shapes }
        } else {
            Source::Torch(StateDict::open(path)?)
        };
        Ok(Self { path: path.to_owned(), source, prefix: String::new() })
    }

    /// Names and shapes, in name order.
    pub fn shapes(&self) -> Shapes<'_> {
        let all: Shapes<'_> = match &self.source {
            Source::Torch(dict) => dict.shapes(),
            Source::Safetensors { shapes, .. } => {
                shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect()
            }
        };
        all.into_iter()
            .map(|(name, shape)| (name.strip_prefix(&self.prefix).unwrap_or(name), shape))
            .collect()
    }

    /// Leaves out the part before the first dot with which every name begins, such as `module.`, which data parallelism puts
    /// there. Returns that part; none where the names have nothing in common.
    pub fn shorten(&mut self) -> Option<String> {
        let shapes = self.shapes();
        let (first, _) = shapes.keys().next()?.split_once('.')?;
        let prefix = format!("{first}.");
        let shared = shapes.keys().all(|name| name.len() > prefix.len() && name.starts_with(&prefix));
        if !shared {
            return None;
        }
        self.prefix.push_str(&prefix);
        Some(prefix)
    }

    /// The tensor that is `name` here, in float32, dense, whatever its type in the file.
    ///
    /// # Errors
    /// A refusal for a name that is not there, numbers that are damaged or of a type that is none of numbers, and values that are
    /// not finite in float32.
    pub fn read(&mut self, name: &str) -> Result<Array, Refusal> {
        let name = format!("{}{name}", self.prefix);
        let bytes = match &mut self.source {
            Source::Torch(dict) => return dict.read(&name),
            Source::Safetensors { bytes, .. } => &*bytes,
        };
        let place = format!("{}: tensor `{name}`", self.path.display());
        let file = parsed(bytes, &self.path)?;
        let tensor =
            file.tensor(&name).map_err(|error| Refusal::because(format!("{place} cannot be read"), error))?;
        let dtype = dtype_of(tensor.dtype())
            .ok_or_else(|| Refusal::new(format!("{place} is {:?}, expected float32", tensor.dtype())))?;
        let values = torch::float32(tensor.data(), dtype)
            .map_err(|error| Refusal::because(format!("{place} cannot be read"), error))?;
        torch::check_finite(&place, &values)?;
        Ok(Array { shape: tensor.shape().to_vec(), values })
    }
}

/// The length of a header that fits into the file, and the header's first character.
fn is_safetensors(start: &[u8], size: u64) -> bool {
    let Some((length, rest)) = start.split_first_chunk::<LENGTH>() else { return false };
    let fits = u64::from_le_bytes(*length).checked_add(LENGTH as u64).is_some_and(|end| end <= size);
    // A file that was cut off inside its header is told apart by the same character.
    rest.first() == Some(&b'{') && (fits || u64::from_le_bytes(*length) < 100_000_000)
}

fn parsed<'a>(bytes: &'a [u8], path: &Path) -> Result<SafeTensors<'a>, Refusal> {
    SafeTensors::deserialize(bytes).map_err(|error| {
        let message = format!("{} is no whole safetensors file; copy it again", path.display());
        Refusal::because(message, error)
    })
}

fn shapes_of(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Vec<usize>>, Refusal> {
    let file = parsed(bytes, path)?;
    let shapes: BTreeMap<_, _> =
        file.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect();
    if shapes.is_empty() {
        return Err(Refusal::new(format!("{} holds no tensors", path.display())));
    }
    Ok(shapes)
}

/// The types of which numbers can be made.
fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::U8 => DType::U8,
        _ => return None,
    })
}
