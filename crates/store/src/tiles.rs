//! A log as files: the layout of c2sp.org/tlog-tiles, which any web server can serve and other people's tools can read.
//!
//! `tile/<L>/<N>` holds 256 hashes of level L, `tile/entries/<N>` the 256 records below a tile of level 0, each after its
//! length in two bytes; what is not full yet has `.p/<width>` at its end. Pure: names and bytes go to the caller's sink.
//!
//! Invariant: memory is bounded by one tile a level and one bundle of records, whatever the log's size.

use std::fmt::Write as _;

use crate::merkle::{Frontier, Hash, leaf_hash, root};

/// Hashes in a full tile.
const WIDTH: usize = 256;

/// A path below the log's prefix: `tile/0/x001/234.p/17`. `kind` is a level or `entries`.
fn path(kind: &str, index: u64, width: usize) -> String {
    let digits = format!("{index:03}");
    let whole = format!("{digits:0>width$}", width = digits.len().div_ceil(3) * 3);
    let mut path = format!("tile/{kind}");
    let groups = whole.len() / 3;
    for group in 0..groups {
        let mark = if group + 1 < groups { "x" } else { "" };
        let _ = write!(path, "/{mark}{}", &whole[group * 3..group * 3 + 3]);
    }
    if width < WIDTH {
        let _ = write!(path, ".p/{width}");
    }
    path
}

/// Takes records in order and gives files.
pub struct Tiles<F> {
    sink: F,
    /// The tile of each level that is being filled, and its index.
    levels: Vec<(u64, Vec<Hash>)>,
    /// The bundle of records that is being filled.
    entries: Vec<u8>,
    frontier: Frontier,
}

impl<F, E> Tiles<F>
where
    F: FnMut(&str, &[u8]) -> Result<(), E>,
{
    /// An empty log. The sink gets each file's path below the prefix, and its bytes.
    pub fn new(sink: F) -> Self {
        Self { sink, levels: vec![(0, Vec::new())], entries: Vec::new(), frontier: Frontier::default() }
    }

    /// Adds a record, of at most 65,535 bytes, as the ledger's records are.
    pub fn push(&mut self, record: &[u8]) -> Result<(), E> {
        let leaf = leaf_hash(record);
        self.frontier.push(leaf);
        self.entries.extend_from_slice(&(record.len() as u16).to_be_bytes());
        self.entries.extend_from_slice(record);
        self.levels[0].1.push(leaf);
        if self.levels[0].1.len() == WIDTH {
            (self.sink)(&path("entries", self.levels[0].0, WIDTH), &self.entries)?;
            self.entries.clear();
        }
        let mut level = 0;
        while self.levels[level].1.len() == WIDTH {
            let (index, tile) = &mut self.levels[level];
            (self.sink)(&path(&level.to_string(), *index, WIDTH), tile.as_flattened())?;
            let above = root(tile);
            *index += 1;
            tile.clear();
            level += 1;
            if self.levels.len() == level {
                self.levels.push((0, Vec::new()));
            }
            self.levels[level].1.push(above);
        }
        Ok(())
    }

    /// Gives what is not full, and the tree that it all is.
    pub fn finish(mut self) -> Result<Frontier, E> {
        for (level, (index, tile)) in self.levels.iter().enumerate().filter(|(_, (_, tile))| !tile.is_empty())
        {
            if level == 0 {
                (self.sink)(&path("entries", *index, tile.len()), &self.entries)?;
            }
            (self.sink)(&path(&level.to_string(), *index, tile.len()), tile.as_flattened())?;
        }
        Ok(self.frontier)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    fn log(size: u64) -> (BTreeMap<String, Vec<u8>>, Frontier) {
        let mut files = BTreeMap::new();
        let mut tiles = Tiles::new(|path: &str, bytes: &[u8]| {
            assert_eq!(files.insert(path.to_owned(), bytes.to_vec()), None, "{path} twice");
            Ok::<_, Infallible>(())
        });
        for number in 0..size {
            tiles.push(&number.to_be_bytes()).unwrap();
        }
        let frontier = tiles.finish().unwrap();
        (files, frontier)
    }

    #[test]
    fn paths_are_the_specifications() {
        assert_eq!(path("0", 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path("entries", 0, 256), "tile/entries/000");
        assert_eq!(path("2", 999, 1), "tile/2/999.p/1");
        assert_eq!(path("0", 1_000, 255), "tile/0/x001/000.p/255");
    }

    #[test]
    fn a_log_of_seventy_thousand_has_the_tiles_that_the_specification_counts() {
        let (files, frontier) = log(70_000);
        let of = |level: &str, partial: bool| {
            files.keys().filter(|path| path.starts_with(level) && path.contains(".p/") == partial).count()
        };
        assert_eq!((of("tile/0/", false), of("tile/0/", true)), (273, 1));
        assert_eq!((of("tile/1/", false), of("tile/1/", true)), (1, 1));
        assert_eq!((of("tile/2/", false), of("tile/2/", true)), (0, 1));
        assert_eq!((of("tile/entries/", false), of("tile/entries/", true)), (273, 1));
        assert_eq!(files["tile/0/273.p/112"].len(), 112 * 32);
        assert_eq!(files["tile/1/001.p/17"].len(), 17 * 32);
        assert_eq!(files["tile/2/000.p/1"].len(), 32);
        // Level 1 of the whole log, and what is left at level 0, are the tree.
        let level = |path: &str| files[path].as_chunks::<32>().0.to_vec();
        let tops = [level("tile/1/000"), level("tile/1/001.p/17")].concat();
        assert_eq!(files["tile/2/000.p/1"], root(&tops[..256]));
        let leaves: Vec<Hash> = (0..70_000_u64).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        assert_eq!(frontier.root(), root(&leaves));
        assert_eq!(tops[272], root(&leaves[272 * 256..273 * 256]));
    }

    #[test]
    fn a_full_tile_begins_a_level_and_nothing_is_empty() {
        let (files, _) = log(256);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]);
        assert_eq!(files["tile/entries/000"][..10], [0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(log(0).0.len(), 0);
    }
}
