//! Parquet as this crate uses it: one set of writer properties, so that equal rows give equal bytes however many threads
//! encode them, and a reader that checks every column by name and type before the first row is touched.
//!
//! The library that decodes Parquet trusts the numbers in a file's metadata in places, and panics where they lie.
//! [`guarded`] is the border at which such a panic becomes an error that names the file.

use std::any::Any;
use std::cell::Cell;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use arrow_array::RecordBatch;
use arrow_array::{Array, ArrayRef, ListArray, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::Error;

/// Rows the reader hands over at once.
const BATCH_ROWS: usize = 8192;

thread_local! {
    /// Whether this thread is reading a file whose panics are caught, so that they need not be printed.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Calls `read`, which decodes the file at `path` on this thread, and turns a panic of the decoder into an input error of
/// that file. Nothing is printed of the panic. Work that `read` hands to other threads needs a call of its own there.
///
/// # Errors
/// That of `read`; where it panics, an input error ([`Error::Read`]) with the panic's message as its source.
pub fn guarded<T, E: From<Error>>(path: &Path, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                print(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    // What a panic leaves half done belongs to the reader, and is dropped with it: nobody goes on reading.
    let outcome = panic::catch_unwind(AssertUnwindSafe(read));
    CAUGHT.set(outer);
    outcome.unwrap_or_else(|panic| {
        let expected = "its contents are damaged in a way that its reader does not expect; copy it again, or make it anew";
        Err(Error::read(path, expected, message_of(&*panic)).into())
    })
}

/// What a panic says of itself.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown").to_owned()
}

/// The element of every list column; `element` is the name the Parquet format itself prescribes.
pub(crate) fn element(of: DataType) -> FieldRef {
    Arc::new(Field::new("element", of, false))
}

/// `list<uint32>`.
pub(crate) fn list_of_u32() -> DataType {
    DataType::List(element(DataType::UInt32))
}

/// A `list<uint32>` column from flat values and row offsets (`rows + 1` of them, starting at 0).
pub(crate) fn list_column(values: Vec<u32>, lengths: impl IntoIterator<Item = usize>) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(element(DataType::UInt32), offsets, Arc::new(UInt32Array::from(values)), None))
}

/// A Parquet file being written, group of rows by group of rows. As many groups as there are threads are encoded side by
/// side, and reach the file in their order.
pub(crate) struct TableWriter {
    path: PathBuf,
    schema: SchemaRef,
    writer: SerializedFileWriter<File>,
    encoders: ArrowRowGroupWriterFactory,
    /// Groups not yet encoded.
    waiting: Vec<RecordBatch>,
}

impl TableWriter {
    pub(crate) fn create(path: &Path, columns: Vec<Field>) -> Result<Self, Error> {
        let schema = Arc::new(Schema::new(columns));
        let open = || -> Result<_, ParquetError> {
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
                .build();
            ArrowWriter::try_new(File::create(path)?, Arc::clone(&schema), Some(properties))?
                .into_serialized_writer()
        };
        let (writer, encoders) = open().map_err(|source| Error::write(path, source))?;
        Ok(Self { path: path.to_owned(), schema, writer, encoders, waiting: Vec::new() })
    }

    /// Write one row group from whole columns.
    pub(crate) fn group(&mut self, columns: Vec<ArrayRef>) -> Result<(), Error> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|source| Error::write(&self.path, source))?;
        if batch.num_rows() > 0 {
            self.waiting.push(batch);
        }
        if self.waiting.len() < rayon::current_num_threads() {
            return Ok(());
        }
        self.write_waiting().map_err(|source| Error::write(&self.path, source))
    }

    fn write_waiting(&mut self) -> Result<(), ParquetError> {
        let Self { writer, encoders, waiting, .. } = self;
        let first = writer.flushed_row_groups().len();
        let encode = |(place, batch)| encode(encoders, first + place, batch);
        let groups: Vec<_> = waiting.par_iter().enumerate().map(encode).collect();
        waiting.clear();
        for columns in groups {
            let mut group = writer.next_row_group()?;
            for column in columns? {
                column.append_to_row_group(&mut group)?;
            }
            group.close()?;
        }
        Ok(())
    }

    /// Add a key of file-level metadata and end the file.
    pub(crate) fn finish(mut self, metadata: Option<(&str, String)>) -> Result<(), Error> {
        let end = || -> Result<(), ParquetError> {
            self.write_waiting()?;
            if let Some((key, value)) = metadata {
                self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
            }
            self.writer.finish().map(drop)
        };
        end().map_err(|source| Error::write(&self.path, source))
    }
}

/// The encoded columns of the row group that has this place in the file.
fn encode(
    encoders: &ArrowRowGroupWriterFactory,
    place: usize,
    rows: &RecordBatch,
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let mut writers = encoders.create_column_writers(place)?.into_iter();
    let mut encoded = Vec::new();
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        // No column here has more than one leaf, but Parquet counts by leaves.
        for (leaf, mut writer) in compute_leaves(field, column)?.iter().zip(&mut writers) {
            writer.write(leaf)?;
            encoded.push(writer.close()?);
        }
    }
    Ok(encoded)
}

/// An opened Parquet file whose columns were checked.
#[derive(Debug)]
pub(crate) struct TableReader {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl TableReader {
    /// Open `path`. `keep_arrow_types` trusts the Arrow schema kept in the file, which alone can say that a list has a
    /// fixed size; without it, a file written by pandas (whose strings may be `large_utf8`) reads as well.
    pub(crate) fn open(path: &Path, keep_arrow_types: bool) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::read(path, "expected a Parquet file", source))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(!keep_arrow_types);
        let metadata = guarded(path, || {
            ArrowReaderMetadata::load(&file, options).map_err(|source| {
                Error::read(
                    path,
                    "expected a whole Parquet file; it may be truncated, so copy it again or rerun the stage that makes it",
                    source,
                )
            })
        })?;
        Ok(Self { path: path.to_owned(), metadata })
    }

    /// The type of a column, for a check that [`Self::require`] cannot express.
    pub(crate) fn column_type(&self, name: &str) -> Result<&DataType, Error> {
        self.metadata.schema().field_with_name(name).map(Field::data_type).map_err(|_| {
            let names: Vec<_> =
                self.metadata.schema().fields().iter().map(|field| field.name().as_str()).collect();
            Error::content(
                &self.path,
                format!("has no column `{name}`; its columns are {}", names.join(", ")),
            )
        })
    }

    /// Refuse the file unless every named column is there with the named type.
    pub(crate) fn require(&self, columns: &[(&str, DataType)]) -> Result<(), Error> {
        for (name, expected) in columns {
            let found = self.column_type(name)?;
            if !same_type(found, expected) {
                return Err(Error::content(
                    &self.path,
                    format!("column `{name}` is {}, expected {}", type_name(found), type_name(expected)),
                ));
            }
        }
        Ok(())
    }

    /// Names and types of all columns, in the order of the file.
    pub(crate) fn columns(&self) -> Vec<(String, DataType)> {
        let fields = self.metadata.schema().fields();
        fields.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    }

    /// A value of the file-level metadata.
    pub(crate) fn value_of(&self, key: &str) -> Option<&str> {
        let pairs = self.metadata.metadata().file_metadata().key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
    }

    /// Number of rows by the file's own account.
    pub(crate) fn rows(&self) -> usize {
        usize::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// How many values the lists of a column hold together, by the file's own account.
    pub(crate) fn values_of(&self, name: &str) -> u64 {
        let groups = self.metadata.metadata().row_groups().iter();
        let columns = groups.flat_map(parquet::file::metadata::RowGroupMetaData::columns);
        let named =
            columns.filter(|column| column.column_path().parts().first().is_some_and(|part| part == name));
        named.map(|column| u64::try_from(column.num_values()).unwrap_or(0)).fold(0, u64::saturating_add)
    }

    /// Number of row groups.
    pub(crate) fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// All rows, or those of one group, in batches. A handle of its own for every call: readers on several threads do
    /// not move each other's position.
    pub(crate) fn batches(&self, group: Option<usize>) -> Result<Batches<'_>, Error> {
        let file = File::open(&self.path)
            .map_err(|source| Error::read(&self.path, "expected a Parquet file", source))?;
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_batch_size(BATCH_ROWS);
        if let Some(group) = group {
            builder = builder.with_row_groups(vec![group]);
        }
        let reader = guarded(&self.path, || builder.build().map_err(|source| self.damaged(source)))?;
        Ok(Batches { table: self, reader })
    }

    fn damaged(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let expected = "its data are damaged; copy it again or rerun the stage that makes it";
        Error::read(&self.path, expected, source)
    }
}

/// The rows of a [`TableReader`].
pub(crate) struct Batches<'a> {
    table: &'a TableReader,
    reader: ParquetRecordBatchReader,
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { table, reader } = self;
        guarded(&table.path, || reader.next().transpose().map_err(|source| table.damaged(source))).transpose()
    }
}

/// A column of a batch as the array type its Arrow type implies, with no null in it.
pub(crate) fn column<'a, T: Array + 'static>(
    path: &Path,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a T, Error> {
    let array: &T = nullable_column(path, batch, name)?;
    if array.null_count() > 0 {
        return Err(Error::content(
            path,
            format!("column `{name}` holds an empty value, which is not allowed there"),
        ));
    }
    Ok(array)
}

/// A column of a batch by name and type, which may have nulls in it.
pub(crate) fn nullable_column<'a, T: Array + 'static>(
    path: &Path,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a T, Error> {
    let array = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<T>());
    array.ok_or_else(|| Error::content(path, format!("column `{name}` has an unexpected type")))
}

/// The numbers inside a list column, with no null in them.
pub(crate) fn numbers<'a>(path: &Path, values: &'a ArrayRef, name: &str) -> Result<&'a UInt32Array, Error> {
    let array = values.as_any().downcast_ref::<UInt32Array>();
    let array =
        array.ok_or_else(|| Error::content(path, format!("column `{name}` has an unexpected type")))?;
    if array.null_count() > 0 {
        return Err(Error::content(path, format!("column `{name}` holds a list with an empty value in it")));
    }
    Ok(array)
}

/// Equal up to the names of list elements and to whether nulls are allowed, which writers choose differently.
fn same_type(left: &DataType, right: &DataType) -> bool {
    match (left, right) {
        (DataType::List(left), DataType::List(right)) => same_type(left.data_type(), right.data_type()),
        (DataType::FixedSizeList(left, a), DataType::FixedSizeList(right, b)) => {
            a == b && same_type(left.data_type(), right.data_type())
        }
        _ => left == right,
    }
}

/// A type as pandas and Arrow print it.
pub(crate) fn type_name(of: &DataType) -> String {
    match of {
        DataType::List(inner) | DataType::LargeList(inner) => {
            format!("list<{}>", type_name(inner.data_type()))
        }
        DataType::FixedSizeList(inner, size) => {
            format!("fixed_size_list<{}, {size}>", type_name(inner.data_type()))
        }
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_a_file_is_read_is_an_error_of_that_file() {
        let path = Path::new("damaged.parquet");
        let read = |outcome: fn() -> Result<u8, Error>| guarded(path, outcome);
        assert!(matches!(read(|| Ok(7)), Ok(7)));
        let refused = read(|| panic!("index {} out of range", 9)).unwrap_err();
        assert!(refused.is_input());
        assert_eq!(refused.path(), path);
        let source = std::error::Error::source(&refused).unwrap().to_string();
        assert_eq!(source, "index 9 out of range");
        let own = read(|| Err(Error::content(Path::new("damaged.parquet"), "has no rows"))).unwrap_err();
        assert_eq!(own.to_string(), "damaged.parquet: has no rows");
    }

    /// A file of `groups` row groups, the third without rows, written by `threads`.
    fn written(groups: u32, threads: usize) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.parquet");
        let columns =
            vec![Field::new("number", DataType::UInt32, false), Field::new("list", list_of_u32(), false)];
        let write = || -> Result<(), Error> {
            let mut table = TableWriter::create(&path, columns)?;
            for group in 0..groups {
                let rows = if group == 2 { 0 } else { 100 + group };
                let numbers = UInt32Array::from_iter_values((0..rows).map(|row| row * group));
                let lengths: Vec<usize> = (0..rows as usize).map(|row| row % 3).collect();
                let values = (0..lengths.iter().sum::<usize>() as u32).map(|value| value % 7).collect();
                table.group(vec![Arc::new(numbers), list_column(values, lengths)])?;
            }
            table.finish(Some(("key", "value".to_owned())))
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(write).unwrap();
        let table = TableReader::open(&path, false).unwrap();
        let full = (0..groups).filter(|&group| group != 2);
        assert_eq!(table.groups(), full.clone().count());
        for (place, group) in full.enumerate() {
            let batches: Vec<RecordBatch> =
                table.batches(Some(place)).unwrap().collect::<Result<_, _>>().unwrap();
            let numbers: &UInt32Array = column(&path, &batches[0], "number").unwrap();
            assert_eq!((numbers.len() as u32, numbers.value(1)), (100 + group, group));
        }
        assert_eq!(table.value_of("key"), Some("value"));
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn any_number_of_threads_writes_the_same_groups_in_order() {
        for groups in [0, 1, 2, 5, 7] {
            let alone = written(groups, 1);
            for threads in [2, 3, 16] {
                assert!(written(groups, threads) == alone, "{groups} groups, {threads} threads");
            }
        }
    }
}
