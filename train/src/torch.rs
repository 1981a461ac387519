//! What `torch.save` writes: a zip archive with a pickle, `data.pkl`, whose tensors point into raw storages beside it.
//!
//! candle reads the pickle. The rest stands here, because a checkpoint from elsewhere may hold what candle leaves out:
//! views (a transpose, a slice, many tensors in one storage) are read through their strides, and what cannot be read is
//! refused by name instead of skipped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use artifact::checkpoint::Array;
use candle_core::pickle::{Object, Stack, TensorInfo};
use candle_core::{DType, Device, Tensor};
use stage::Refusal;
use zip::ZipArchive;

/// The key under which the authors' code keeps the state dict, beside the optimizer's and the epoch.
const STATE_DICT: &str = "model_state_dict";

/// A state dict in a `.pth` file. Shapes are known once it is open; numbers are read one tensor at a time.
pub struct StateDict {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl StateDict {
    /// Opens the file at `path` and reads the names and shapes of its tensors, those of the pickled dict itself or
    /// those of the dict in it under `model_state_dict`.
    ///
    /// # Errors
    /// A refusal that says what the file is instead: no archive, an older kind of file, truncated, no state dict.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let refuse = |message: &str| Refusal::new(format!("{}: {message}", path.display()));
        let unreadable = |error| Refusal::because(format!("cannot read {}", path.display()), error);
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).map_err(unreadable)?;
        if start.first() == Some(&0x80) {
            return Err(refuse(
                "is a bare pickle, which torch.save wrote before PyTorch 1.6; load it there and save it again with \
                 today's torch.save",
            ));
        }
        if start != b"PK\x03\x04" {
            return Err(refuse("expected a checkpoint that torch.save wrote, which is a zip archive"));
        }
        let file = File::open(path).map_err(unreadable)?;
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            let message = format!("{}: its zip archive is not whole; copy the file again", path.display());
            Refusal::because(message, error)
        })?;
        let pickle = archive
            .file_names()
            .filter_map(Result::ok)
            .find(|name| Path::new(&**name).file_name().is_some_and(|name| name == "data.pkl"))
            .map(std::borrow::Cow::into_owned)
            .ok_or_else(|| refuse("is a zip archive without data.pkl, so torch.save did not write it"))?;
        let object = unpickle(&entry(&mut archive, path, &pickle)?).map_err(|error| {
            Refusal::because(format!("{}: {pickle} is no pickled state dict", path.display()), error)
        })?;
        let storages = Path::new(&pickle).with_extension("");
        let tensors = tensors(object, &storages).map_err(|message| refuse(&message))?;
        Ok(Self { path: path.to_owned(), archive, tensors })
    }

    /// Names and shapes, in name order.
    pub fn shapes(&self) -> BTreeMap<&str, &[usize]> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info.layout.dims())).collect()
    }

    /// The tensor `name` in float32, dense, whatever its type and strides in the file.
    ///
    /// # Errors
    /// A refusal for a name that is not there, a storage that is damaged, and values that are not finite in float32.
    pub fn read(&mut self, name: &str) -> Result<Array, Refusal> {
        let place = format!("{}: tensor `{name}`", self.path.display());
        let Some(TensorInfo { dtype, layout, path: storage, .. }) = self.tensors.get(name) else {
            return Err(Refusal::new(format!("{place} is missing")));
        };
        let bytes = entry(&mut self.archive, &self.path, storage)?;
        let numbers = float32(&bytes, *dtype).map_err(|error| {
            Refusal::because(format!("{place} cannot be read from the storage {storage}"), error)
        })?;
        // candle counts the offset in bytes here.
        let first = layout.start_offset() / dtype.size_in_bytes();
        let values = gather(&numbers, first, layout.dims(), layout.stride()).ok_or_else(|| {
            Refusal::new(format!("{place} reaches beyond its storage {storage} of {} numbers", numbers.len()))
        })?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let value = values[index];
            return Err(Refusal::new(format!(
                "{place} holds {value} at index {index}, expected finite numbers"
            )));
        }
        Ok(Array { shape: layout.dims().to_vec(), values })
    }
}

/// The bytes of one file of the archive, whose checksum is compared on the way.
fn entry(archive: &mut ZipArchive<BufReader<File>>, path: &Path, name: &str) -> Result<Vec<u8>, Refusal> {
    let damaged = |error: std::io::Error| {
        Refusal::because(format!("{}: {name} is damaged; copy the file again", path.display()), error)
    };
    let mut bytes = Vec::new();
    let mut file = archive.by_name(name).map_err(|error| damaged(error.into()))?;
    file.read_to_end(&mut bytes).map_err(damaged)?;
    Ok(bytes)
}

fn unpickle(mut bytes: &[u8]) -> candle_core::Result<Object> {
    let mut stack = Stack::empty();
    stack.read_loop(&mut bytes)?;
    stack.finalize()
}

/// The tensors of a state dict by name; their storages lie in the folder `storages` of the archive.
fn tensors(object: Object, storages: &Path) -> Result<BTreeMap<String, TensorInfo>, String> {
    let Object::Dict(mut pairs) = object else {
        return Err("holds an object that is no dict; save the model's state_dict()".to_owned());
    };
    if let Some(place) =
        pairs.iter().position(|(key, _)| matches!(key, Object::Unicode(key) if key == STATE_DICT))
        && let (_, Object::Dict(inner)) = pairs.swap_remove(place)
    {
        pairs = inner;
    }
    let mut tensors = BTreeMap::new();
    for (key, value) in pairs {
        let Object::Unicode(name) = key else { continue };
        // What is no tensor, such as the version numbers that PyTorch keeps beside them, gives nothing.
        let info = value
            .into_tensor_info(Object::Unicode(name.clone()), storages)
            .map_err(|error| format!("tensor `{name}` cannot be read, save it as float32: {error}"))?;
        tensors.extend(info.map(|info| (name, info)));
    }
    if tensors.is_empty() {
        return Err(format!("holds no tensors, bare or under `{STATE_DICT}`"));
    }
    Ok(tensors)
}

/// A whole storage as float32.
fn float32(bytes: &[u8], dtype: DType) -> candle_core::Result<Vec<f32>> {
    let count = bytes.len() / dtype.size_in_bytes();
    let whole = &bytes[..count * dtype.size_in_bytes()];
    Tensor::from_raw_buffer(whole, dtype, &[count], &Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()
}

/// The numbers of a view in order, last axis fastest; `None` where it reaches beyond the storage.
fn gather(storage: &[f32], first: usize, shape: &[usize], strides: &[usize]) -> Option<Vec<f32>> {
    let mut places = vec![first];
    for (&length, &stride) in shape.iter().zip(strides) {
        let along = |place: &usize| {
            let place = *place;
            (0..length).map(move |step| place.saturating_add(step.saturating_mul(stride)))
        };
        places = places.iter().flat_map(along).collect();
    }
    places.into_iter().map(|place| storage.get(place).copied()).collect()
}
