//! TensorBoard event files, so that a run can be watched while it trains.
//!
//! The format is small: a file is a chain of records (length, masked CRC-32C of the length, payload, masked CRC-32C of
//! the payload), and a payload is a protobuf `Event` with one scalar in it. Writing those few fields by hand is forty
//! lines; the crates that offer it bring a protobuf runtime and an image library of years ago.
//!
//! Events carry the time of writing, as TensorBoard wants it, so the files are no declared outputs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Error;

/// Writes scalars to one event file.
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Begin an event file in `directory`. TensorBoard recognises it by its name, `events.out.tfevents.` and the time in
    /// seconds; the process id keeps runs apart that begin in the same second.
    pub fn create(directory: &Path) -> Result<Self, Error> {
        let now = seconds();
        let path =
            directory.join(format!("events.out.tfevents.{:010}.gro.{}", now as u64, std::process::id()));
        let file = File::create(&path).map_err(|source| Error::write(&path, source))?;
        let mut writer = Self { path, file };
        // The first event of a file states the format's version: field 3, a string.
        let mut event = wall_time(now);
        bytes_field(&mut event, 3, b"brain.Event:2");
        writer.record(&event)?;
        Ok(writer)
    }

    /// Add the value of `tag` at `step`. Slashes in a tag group the charts: `valid/ndcg@10`.
    pub fn scalar(&mut self, step: usize, tag: &str, value: f64) -> Result<(), Error> {
        let event = scalar_event(seconds(), step, tag, value);
        self.record(&event)
    }

    /// The file being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn record(&mut self, payload: &[u8]) -> Result<(), Error> {
        let length = (payload.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(payload.len() + 16);
        record.extend_from_slice(&length);
        record.extend_from_slice(&masked_checksum(&length).to_le_bytes());
        record.extend_from_slice(payload);
        record.extend_from_slice(&masked_checksum(payload).to_le_bytes());
        self.file.write_all(&record).map_err(|source| Error::write(&self.path, source))
    }
}

/// The time in seconds since 1970; 0 on a clock set before that.
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// CRC-32C, rotated and shifted as the record format asks, so that a checksum of data that hold checksums stays sound.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The beginning of an `Event`: field 1, the wall time as a double.
fn wall_time(now: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend_from_slice(&now.to_le_bytes());
    event
}

/// `Event { wall_time: 1, step: 2, summary: 5 { value: 1 { tag: 1, simple_value: 2 } } }`.
fn scalar_event(now: f64, step: usize, tag: &str, value: f64) -> Vec<u8> {
    let mut scalar = Vec::new();
    bytes_field(&mut scalar, 1, tag.as_bytes());
    scalar.push(2 << 3 | 5);
    scalar.extend_from_slice(&(value as f32).to_le_bytes());
    let mut summary = Vec::new();
    bytes_field(&mut summary, 1, &scalar);
    let mut event = wall_time(now);
    event.push(2 << 3);
    variable_length(&mut event, step as u64);
    bytes_field(&mut event, 5, &summary);
    event
}

/// A field of type bytes, string or message.
fn bytes_field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    variable_length(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Seven bits a byte, lowest first, the top bit set on all but the last.
fn variable_length(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_protobuf_that_tensorboard_reads() {
        // Checked against `tensorboard.compat.proto.event_pb2`:
        // Event(wall_time=1.5, step=300, summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.5)]))
        let expected = b"\x09\0\0\0\0\0\0\xf8\x3f\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\0\0\0\x3f";
        assert_eq!(scalar_event(1.5, 300, "loss", 0.5), expected);
    }

    #[test]
    fn records_carry_masked_checksums() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut writer = EventWriter::create(directory.path()).unwrap();
        writer.scalar(7, "valid/ndcg@10", 0.25).unwrap();
        let name = writer.path().file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with("events.out.tfevents."));
        let bytes = std::fs::read(writer.path()).unwrap();
        let mut rest = bytes.as_slice();
        let mut payloads = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let (payload, after) = rest[12..].split_at(length);
            for (data, checksum) in [(&rest[..8], &rest[8..12]), (payload, &after[..4])] {
                let masked = u32::from_le_bytes(checksum.try_into().unwrap());
                // The mask undone, as a reader does it.
                assert_eq!(masked.wrapping_sub(0xa282_ead8).rotate_left(15), crc32c::crc32c(data));
            }
            payloads.push(payload.to_vec());
            rest = &after[4..];
        }
        assert_eq!(payloads.len(), 2);
        assert!(payloads[0].ends_with(b"brain.Event:2"));
        assert!(payloads[1].windows(13).any(|window| window == b"valid/ndcg@10"));
    }
}
