//! Parquet tables, row group by row group. Only the columns that the settings name are read, and their types are checked
//! before the first row is. A column of lists, one a user, is taken apart into rows.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow_cast::cast;
use arrow_schema::{DataType, Field};
use arrow_select::take::take;
use artifact::table::guarded;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use stage::Refusal;
use stage::settings::{Column, Columns, Incomplete, Preprocess, Values};

use crate::read::fault::{Fault, shorten};
use crate::read::interactions::{Block, Unfit, trimmed};
use crate::read::layouts::partitioned;
use crate::read::reader::Part;
use crate::read::timestamps::{TimeReader, Timestamp};

/// Beyond this a float does not tell neighbouring integers apart, so two ids could become one.
const LARGEST_WHOLE_FLOAT: f64 = 9_007_199_254_740_992.0;

/// A Parquet file whose columns were checked.
#[derive(Debug)]
pub struct Table<'a> {
    part: Part,
    metadata: ArrowReaderMetadata,
    settings: &'a Preprocess,
    times: TimeReader,
    /// The places of the columns that are read: user, item, rating, timestamp, tiebreak.
    columns: [Option<usize>; 5],
    /// The places of the columns that rows are kept by, and the values that keep one.
    conditions: Vec<(usize, &'a [String])>,
}

/// What each of the five columns is for.
const ROLES: [&str; 5] = ["user", "item", "rating", "timestamp", "tiebreak"];

impl<'a> Table<'a> {
    /// Opens a file of which `preprocess.columns` are read.
    ///
    /// # Errors
    /// A refusal: no Parquet file, no such column, or one of a type that cannot hold what it should.
    pub fn open(part: &Part, settings: &'a Preprocess) -> anyhow::Result<Self> {
        let path = part.name.as_path();
        let unreadable = |error: parquet::errors::ParquetError| {
            let message = format!("cannot read {}, expected a whole Parquet file", path.display());
            anyhow::Error::from(Refusal::because(message, error))
        };
        let file = File::open(&part.path).map_err(|error| unreadable(error.into()))?;
        // Parquet's own types, not those of an Arrow schema beside them: then all text is Utf8, whatever wrote the file.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = guarded(path, || ArrowReaderMetadata::load(&file, options).map_err(unreadable))?;
        let place = |column: &Column, role: &str| -> anyhow::Result<usize> {
            let place = place_of(path, &metadata, column)?;
            let field = metadata.schema().field(place);
            check_type(role, field.data_type()).map_err(|expected| {
                Refusal::new(format!(
                    "{}: column `{column}` has the type {}, expected {expected}",
                    path.display(),
                    field.data_type()
                ))
            })?;
            Ok(place)
        };
        let mut columns = [None; 5];
        for ((found, role), column) in columns.iter_mut().zip(ROLES).zip(settings.columns.all()) {
            *found = column.map(|column| place(column, role)).transpose()?;
        }
        let condition =
            |(column, Values(values)): (&Column, &'a Values)| Ok((place(column, "keep")?, values.as_slice()));
        let conditions = settings.keep.iter().map(condition).collect::<anyhow::Result<_>>()?;
        let times = TimeReader::new(settings.time_format.as_deref());
        Ok(Self { part: part.clone(), metadata, settings, times, columns, conditions })
    }

    /// How many row groups there are.
    pub fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The bytes of a row group in the file.
    pub fn group_bytes(&self, group: usize) -> u64 {
        self.metadata.metadata().row_group(group).compressed_size().max(0) as u64
    }

    /// What share of all rows a row group has.
    pub fn share(&self, group: usize) -> f64 {
        let all = self.metadata.metadata().file_metadata().num_rows();
        self.metadata.metadata().row_group(group).num_rows() as f64 / all as f64
    }

    /// The rows of a row group.
    ///
    /// # Errors
    /// The first row that lacks a value or has one that cannot be used, counted from 1 over the whole file.
    pub fn parse(&self, group: usize) -> Result<Block, Fault> {
        guarded(&self.part.name, || Ok::<_, artifact::Error>(self.parse_unguarded(group)))
            .unwrap_or_else(|error| Err(Fault::File(format!("row group {group} cannot be read: {error}"))))
    }

    fn parse_unguarded(&self, group: usize) -> Result<Block, Fault> {
        let broken =
            |message: String| Fault::File(format!("row group {group} cannot be read: {}", advised(message)));
        let file = File::open(&self.part.path).map_err(|error| broken(error.to_string()))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let projection = ProjectionMask::roots(builder.parquet_schema(), self.places());
        let batches = builder.with_projection(projection).with_row_groups(vec![group]).build();
        let groups = self.metadata.metadata().row_groups();
        let rows_before = |group: &parquet::file::metadata::RowGroupMetaData| group.num_rows().max(0) as u64;
        let mut row = groups[..group].iter().map(rows_before).sum::<u64>() + 1;
        let mut block = Block::new(0, true);
        for batch in batches.map_err(|error| broken(error.to_string()))? {
            let batch = batch.map_err(|error| broken(error.to_string()))?;
            Batch::of(self, &batch, row)?.push(&mut block)?;
            row += batch.num_rows() as u64;
        }
        Ok(block)
    }

    /// The places of all columns that are read.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().flatten().copied().chain(self.conditions.iter().map(|(place, _)| *place))
    }
}

/// What the decoder says, with what to do about a compression that this program does without.
fn advised(message: String) -> String {
    match message.rsplit_once("Disabled feature at compile time: ") {
        Some((_, compression)) => {
            format!("its columns are packed by {compression}; write it with snappy, gzip, lz4 or zstd")
        }
        None => message,
    }
}

/// The place of a column in the file.
fn place_of(path: &Path, metadata: &ArrowReaderMetadata, column: &Column) -> anyhow::Result<usize> {
    let fields: &[Arc<Field>] = metadata.schema().fields();
    let found: Vec<usize> = match column {
        Column::Place(place) => (0..fields.len()).filter(|found| found + 1 == *place).collect(),
        Column::Name(name) => (0..fields.len()).filter(|&found| fields[found].name() == name).collect(),
    };
    let fault = match found.as_slice() {
        [only] => return Ok(*only),
        [] => "no",
        _ => "more than one",
    };
    let names: Vec<String> = fields.iter().map(|field| format!("{:?}", field.name())).collect();
    let message = format!(
        "{}: {fault} column `{column}`; its columns are {}{}",
        path.display(),
        names.join(", "),
        partitioned(path, &column.to_string())
    );
    Err(Refusal::new(message).into())
}

/// Checks the type of the column for `role`; the error says which types it may have.
fn check_type(role: &str, found: &DataType) -> Result<(), &'static str> {
    let found = match found {
        DataType::List(element) => element.data_type(),
        whole => whole,
    };
    let text = matches!(found, DataType::Utf8 | DataType::Binary);
    let decimal = matches!(found, DataType::Decimal128(..) | DataType::Decimal256(..));
    let whole_decimal = matches!(found, DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0));
    let number = found.is_integer() || found.is_floating() || decimal;
    let time = matches!(found, DataType::Timestamp(..) | DataType::Date32);
    let (fits, expected) = match role {
        "user" | "item" => (
            found.is_integer() || found.is_floating() || whole_decimal || text,
            "text or whole numbers, or lists of them",
        ),
        "rating" => (number, "numbers"),
        "keep" => (number || text || *found == DataType::Boolean, "text, numbers, or true and false"),
        _ => (number || time || text, "numbers, dates, times, or text with those"),
    };
    if fits { Ok(()) } else { Err(expected) }
}

/// The columns of some rows, lists taken apart.
struct Batch<'a> {
    table: &'a Table<'a>,
    users: StringArray,
    items: StringArray,
    ratings: Option<Float64Array>,
    times: [Option<Times>; 2],
    conditions: Vec<StringArray>,
    /// The number of the row in the file that each came from.
    numbers: Vec<u64>,
}

impl<'a> Batch<'a> {
    /// The rows of `batch`, of which the first is row `first` of the file.
    fn of(table: &'a Table<'a>, batch: &RecordBatch, first: u64) -> Result<Self, Fault> {
        let schema = table.metadata.schema();
        let column = |place: usize| -> Result<ArrayRef, Fault> {
            let name = schema.field(place).name();
            // The columns that are read stand in the order of the file.
            let before =
                table.places().filter(|other| *other < place).collect::<std::collections::BTreeSet<_>>();
            let found = batch.columns().get(before.len()).cloned();
            found.ok_or_else(|| Fault::File(format!("no column `{name}` in a row group")))
        };
        let places: Vec<usize> = table.places().collect();
        let mut columns = places.iter().map(|&place| column(place)).collect::<Result<Vec<_>, _>>()?;
        let numbers = take_apart(&mut columns, first)?;
        let named = |place: usize| (schema.field(place).name().as_str(), place);
        let mut columns = columns.into_iter();
        let mut next = |place: Option<usize>| {
            place.and_then(|place| columns.next().map(|column| (named(place).0, column)))
        };
        let [user, item, rating, timestamp, tiebreak] = table.columns;
        let absent = || Fault::File("a row group without users or items".to_owned());
        let (user, item) = (next(user).ok_or_else(absent)?, next(item).ok_or_else(absent)?);
        let (rating, timestamp, tiebreak) = (next(rating), next(timestamp), next(tiebreak));
        let rest: Vec<ArrayRef> = columns.collect();
        let conditions = table.conditions.iter().zip(rest);
        Ok(Self {
            table,
            users: texts(user.0, &user.1)?,
            items: texts(item.0, &item.1)?,
            ratings: rating.map(|(name, column)| floats(name, &column)).transpose()?,
            times: [
                timestamp.map(|(name, column)| Times::of(name, &column)).transpose()?,
                tiebreak.map(|(name, column)| Times::of(name, &column)).transpose()?,
            ],
            conditions: conditions
                .map(|((place, _), column)| texts(named(*place).0, &column))
                .collect::<Result<_, _>>()?,
            numbers,
        })
    }

    /// Adds the rows.
    fn push(&self, block: &mut Block) -> Result<(), Fault> {
        let table = self.table;
        let Columns { user, item, rating, timestamp, tiebreak } = &table.settings.columns;
        let skip = table.settings.incomplete == Some(Incomplete::Skip);
        let missing =
            |text: &str| text.is_empty() || table.settings.missing.iter().any(|missing| missing == text);
        for row in 0..self.users.len() {
            let fault = |column: &Option<Column>, found: &str, expected: &str| {
                let name = column.as_ref().map(ToString::to_string).unwrap_or_default();
                Fault::File(format!(
                    "row {}: column `{name}` is {found}, expected {expected}",
                    self.numbers[row]
                ))
            };
            let unfit = |error: Unfit| match error {
                Unfit::TooMany(error) => error.into(),
                Unfit::Id(found) => {
                    Fault::File(format!("row {}: an id is {found}, expected a raw id", self.numbers[row]))
                }
            };
            let id = |column: &StringArray| match column.is_valid(row) {
                true if trimmed(column.value(row)).is_empty() => Err("empty".to_owned()),
                true if missing(trimmed(column.value(row))) => Err(shorten(column.value(row))),
                true => Ok(()),
                false => Err("null".to_owned()),
            };
            let ids = [(id(&self.users), user), (id(&self.items), item)];
            let whole = ids.iter().all(|(id, _)| id.is_ok());
            let value = |column: &StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
            let wanted = self
                .conditions
                .iter()
                .zip(&table.conditions)
                .all(|(column, (_, values))| value(column).is_some_and(|value| values.contains(&value)));
            if !wanted {
                if whole {
                    let [user, item] = [&self.users, &self.items].map(|column| trimmed(column.value(row)));
                    block.note(user, item).map_err(unfit)?;
                }
                block.counts().unwanted += 1;
                continue;
            }
            // What is missing, and in which column, if anything is.
            let mut absent = ids.into_iter().find_map(|(id, column)| Some((column, id.err()?, "a raw id")));
            if let Some(ratings) = &self.ratings
                && (ratings.is_null(row) || !ratings.value(row).is_finite())
            {
                absent = absent.or(Some((rating, "null or not finite".to_owned(), "a number")));
            }
            for (times, column) in self.times.iter().zip([timestamp, tiebreak]) {
                if let Some(times) = times
                    && let Some(found) = times.missing(row, missing)
                {
                    absent = absent.or(Some((column, found, "a time")));
                }
            }
            if let Some((column, found, expected)) = absent {
                if skip {
                    block.counts().incomplete += 1;
                    continue;
                }
                let advice = "; preprocess.incomplete=skip passes over rows that lack one, and counts them";
                return Err(fault(column, &found, &format!("{expected}{advice}")));
            }
            let time = |times: &Option<Times>, column: &Option<Column>| match times {
                None => Ok(None),
                Some(times) => match times.at(row, &table.times) {
                    Ok(time) => Ok(Some(time)),
                    Err(found) => Err(fault(column, &found, &table.times.expected())),
                },
            };
            let [first, second] = &self.times;
            let times = (time(first, timestamp)?, time(second, tiebreak)?);
            let [user, item] = [&self.users, &self.items].map(|column| {
                let (whole, cut) = (column.value(row), trimmed(column.value(row)));
                block.counts().trimmed += u64::from(cut.len() < whole.len());
                cut
            });
            let low = |ratings: &Float64Array| {
                table.settings.min_rating.is_some_and(|least| ratings.value(row) < least)
            };
            if self.ratings.as_ref().is_some_and(low) {
                block.counts().low_rated += 1;
                block.note(user, item).map_err(unfit)?;
                continue;
            }
            block.push(user, item, times).map_err(unfit)?;
        }
        Ok(())
    }
}

/// Takes lists apart: where columns are lists, each of their elements becomes a row, and what is no list is repeated. Of a list without
/// elements, or none at all, becomes a row that lacks one, for whoever counts these. Returns the number in the file of the row that each row came from.
fn take_apart(columns: &mut [ArrayRef], first: u64) -> Result<Vec<u64>, Fault> {
    let rows = columns.first().map_or(0, Array::len);
    let is_list = |column: &ArrayRef| matches!(column.data_type(), DataType::List(_));
    let Some(list) = columns.iter().find(|column| is_list(column)) else {
        return Ok((first..first + rows as u64).collect());
    };
    let lengths: Vec<usize> = (0..rows).map(|row| length_of(list, row)).collect();
    if let Some((row, column)) = (0..rows)
        .flat_map(|row| columns.iter().map(move |column| (row, column)))
        .find(|(row, column)| is_list(column) && length_of(column, *row) != lengths[*row])
    {
        return Err(Fault::File(format!(
            "row {}: a list of {} beside one of {}, expected as many elements",
            first + row as u64,
            length_of(column, row),
            lengths[row]
        )));
    }
    let parents: Vec<u64> = lengths
        .iter()
        .enumerate()
        .flat_map(|(row, &length)| std::iter::repeat_n(row as u64, length.max(1)))
        .collect();
    let broken = |error: arrow_schema::ArrowError| Fault::File(error.to_string());
    let repeat = UInt64Array::from(parents.clone());
    for column in columns {
        *column = if is_list(column) {
            let lists = column.as_list::<i32>();
            let offsets = lists.value_offsets();
            let elements = (0..rows).flat_map(|row| {
                let begin = offsets[row] as u64;
                let lacks = (lengths[row] == 0).then_some(None);
                lacks.into_iter().chain((begin..begin + lengths[row] as u64).map(Some))
            });
            take(lists.values(), &elements.collect::<UInt64Array>(), None).map_err(broken)?
        } else {
            take(column, &repeat, None).map_err(broken)?
        };
    }
    Ok(parents.into_iter().map(|row| first + row).collect())
}

/// How many elements the list in a row has.
fn length_of(column: &ArrayRef, row: usize) -> usize {
    let lists = column.as_list::<i32>();
    if lists.is_valid(row) { lists.value_length(row).max(0) as usize } else { 0 }
}

/// A column as another type; what does not fit it becomes null.
fn converted(name: &str, column: &ArrayRef, to: &DataType) -> Result<ArrayRef, Fault> {
    cast(column, to).map_err(|error| Fault::File(format!("column `{name}`: {error}")))
}

/// A column as text. Floats have to be whole numbers, as those of a column of integers with gaps are.
fn texts(name: &str, column: &ArrayRef) -> Result<StringArray, Fault> {
    if column.data_type().is_floating() {
        let floats = floats(name, column)?;
        let whole = |value: f64| value.fract() == 0.0 && value.abs() < LARGEST_WHOLE_FLOAT;
        if let Some(value) = floats.iter().flatten().find(|&value| !value.is_nan() && !whole(value)) {
            return Err(Fault::File(format!(
                "column `{name}` holds {value}, expected whole numbers or text"
            )));
        }
        let text = |value: Option<f64>| {
            value.filter(|value| !value.is_nan()).map(|value| (value as i64).to_string())
        };
        return Ok(floats.iter().map(text).collect());
    }
    Ok(converted(name, column, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn floats(name: &str, column: &ArrayRef) -> Result<Float64Array, Fault> {
    Ok(converted(name, column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// A column of times.
enum Times {
    /// Integers, and dates and times in the unit of their column.
    Whole(Int64Array),
    Float(Float64Array),
    Text(StringArray),
}

impl Times {
    fn of(name: &str, column: &ArrayRef) -> Result<Self, Fault> {
        let kind = column.data_type();
        Ok(match kind {
            DataType::Utf8 | DataType::Binary => Self::Text(texts(name, column)?),
            DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) if *scale > 0 => {
                Self::Float(floats(name, column)?)
            }
            _ if kind.is_floating() => Self::Float(floats(name, column)?),
            _ => Self::Whole(converted(name, column, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        })
    }

    /// What stands in a row without a time.
    fn missing(&self, row: usize, is_missing: impl Fn(&str) -> bool) -> Option<String> {
        let null = || "null or out of range".to_owned();
        match self {
            Self::Whole(column) => column.is_null(row).then(null),
            Self::Float(column) if column.is_null(row) => Some(null()),
            Self::Float(column) => column.value(row).is_nan().then(|| "NaN".to_owned()),
            Self::Text(column) if column.is_null(row) => Some(null()),
            Self::Text(column) => is_missing(column.value(row)).then(|| shorten(column.value(row))),
        }
    }

    /// The time in a row that is not missing; the error is what stands there instead.
    fn at(&self, row: usize, times: &TimeReader) -> Result<Timestamp, String> {
        match self {
            Self::Whole(column) => Ok(Timestamp::Whole(column.value(row))),
            Self::Float(column) if column.value(row).is_finite() => Ok(Timestamp::Float(column.value(row))),
            Self::Float(column) => Err(column.value(row).to_string()),
            Self::Text(column) => times.parse(column.value(row)).ok_or_else(|| shorten(column.value(row))),
        }
    }
}
