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
use artifact::table::guarded;
use candle_core::pickle::{Object, Stack, TensorInfo};
use candle_core::{DType, Device, Tensor};
use stage::Refusal;
use zip::ZipArchive;

/// The keys under which a checkpoint keeps the state dict, beside the optimizer's and the epoch: the authors' code, PyTorch
/// Lightning, and others.
const STATE_DICTS: [&str; 4] = ["model_state_dict", "state_dict", "model", "module"];
/// Numbers that a view may have beyond those of its storage, which it repeats.
const REPEATED: usize = 1 << 24;

/// A state dict in a `.pth` file. Shapes are known once it is open; numbers are read one tensor at a time.
pub struct StateDict {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl StateDict {
    /// Opens the file at `path` and reads the names and shapes of its tensors, those of the pickled dict itself or
    /// those of the dict in it under `model_state_dict`, `state_dict` or `model`.
    ///
    /// # Errors
    /// A refusal that says what the file is instead: no archive, an older kind of file, truncated, no state dict.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let refuse = |message: &str| Refusal::new(format!("{}: {message}", path.display()));
        let unreadable = |error| Refusal::because(format!("cannot read {}", path.display()), error);
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).map_err(unreadable)?;
        if let Some(kind) = kind_of(&start) {
            return Err(refuse(&format!(
                "is {kind}, expected a checkpoint that torch.save wrote, or safetensors"
            )));
        }
        if start.first() == Some(&0x80) {
            return Err(refuse(
                "is a bare pickle, which torch.save wrote before PyTorch 1.6; load it there and save it again with \
                 today's torch.save",
            ));
        }
        if start != b"PK\x03\x04" {
            return Err(refuse(
                "expected a checkpoint that torch.save wrote, which is a zip archive, or safetensors",
            ));
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
        let bytes = entry(&mut archive, path, &pickle)?;
        // The library that reads pickles need not be able to stand every damage.
        let tensors = guarded(path, || -> Result<_, Unreadable> {
            let object = unpickle(&bytes).map_err(|error| {
                Refusal::because(format!("{}: {pickle} is no pickled state dict", path.display()), error)
            })?;
            let storages = Path::new(&pickle).with_extension("");
            Ok(tensors(object, &storages).map_err(|message| refuse(&message))?)
        })
        .map_err(|Unreadable(refusal)| refusal)?;
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
        check_finite(&place, &values)?;
        Ok(Array { shape: layout.dims().to_vec(), values })
    }
}

/// What a file is that begins so and is nothing to import, where that can be told.
fn kind_of(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [0x1f, 0x8b, ..] => "packed with gzip",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file, as Keras writes",
        [b'{' | b'[', ..] => "JSON",
        _ => return None,
    })
}

/// A refusal, also of what could not be read because its reader stopped at it.
struct Unreadable(Refusal);

impl From<Refusal> for Unreadable {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<artifact::Error> for Unreadable {
    fn from(error: artifact::Error) -> Self {
        Self(Refusal::because("not a checkpoint as it should be", error))
    }
}

/// Refuses values of which no model is made.
pub(crate) fn check_finite(place: &str, values: &[f32]) -> Result<(), Refusal> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => {
            let value = values[index];
            Err(Refusal::new(format!("{place} holds {value} at index {index}, expected finite numbers")))
        }
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
    // One may lie within another.
    while let Some((key, place)) = inner_dict(&pairs) {
        let (_, inner) = pairs.swap_remove(place);
        let Object::Dict(inner) = inner else {
            return Err(format!("holds a whole model under `{key}`; save the model's state_dict()"));
        };
        pairs = inner;
    }
    let mut tensors = BTreeMap::new();
    let mut others = Vec::new();
    for (key, value) in pairs {
        let Object::Unicode(name) = key else { continue };
        others.push(name.clone());
        // What is no tensor, such as the version numbers that PyTorch keeps beside them, gives nothing.
        let info = value
            .into_tensor_info(Object::Unicode(name.clone()), storages)
            .map_err(|error| format!("tensor `{name}` cannot be read, save it as float32: {error}"))?;
        tensors.extend(info.map(|info| (name, info)));
    }
    if tensors.is_empty() {
        others.sort();
        let keys = if others.is_empty() { "none".to_owned() } else { shortened(&others, 8) };
        let [first, second, third, _] = STATE_DICTS;
        return Err(format!(
            "holds no tensors, bare or under `{first}`, `{second}` or `{third}`; the keys there are {keys}"
        ));
    }
    Ok(tensors)
}

/// Where a dict keeps a state dict, and under which key; none where it has tensors of its own.
fn inner_dict(pairs: &[(Object, Object)]) -> Option<(&'static str, usize)> {
    STATE_DICTS.iter().find_map(|&wanted| {
        let found = |(key, value): &(Object, Object)| {
            matches!(key, Object::Unicode(key) if key == wanted)
                && matches!(value, Object::Dict(_) | Object::Build { .. })
        };
        pairs.iter().position(found).map(|place| (wanted, place))
    })
}

/// The first of some names, and how many more there are.
pub(crate) fn shortened<S: AsRef<str>>(names: &[S], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(most);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

/// Numbers of some type, little endian, as float32.
pub(crate) fn float32(bytes: &[u8], dtype: DType) -> candle_core::Result<Vec<f32>> {
    let count = bytes.len() / dtype.size_in_bytes();
    let whole = &bytes[..count * dtype.size_in_bytes()];
    Tensor::from_raw_buffer(whole, dtype, &[count], &Device::Cpu)?.to_dtype(DType::F32)?.to_vec1()
}

/// The numbers of a view in order, last axis fastest; `None` where it reaches beyond the storage.
fn gather(storage: &[f32], first: usize, shape: &[usize], strides: &[usize]) -> Option<Vec<f32>> {
    let count = shape.iter().try_fold(1_usize, |count, &length| count.checked_mul(length))?;
    if count > storage.len().saturating_add(REPEATED) {
        return None;
    }
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
