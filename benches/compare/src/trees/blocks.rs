//! One file without holes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Result, While};

pub(super) fn make(top: &Path, bytes: usize) -> Result<()> {
    let path = top.join("file");
    let mut file = File::create(&path).on("making", &path)?;
    let chunk: Vec<u8> = (0..1 << 20_u32).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..bytes.div_ceil(chunk.len()) {
        file.write_all(&chunk).on("writing", &path)?;
    }
    Ok(())
}
