//! A model of what a disk may hold after the power failed: files and folders with what is durable and what is on its way.
//!
//! What a successful fsync covered survives. Of everything else a random part survives, in any order: of writes each sector of
//! 512 bytes by itself, of changes to names each by itself (a rename is one change). Where a file grew and its bytes did not
//! arrive, there are zeros or garbage. What a failed fsync should have covered is never made durable by a later one, because
//! the system drops such pages and still calls them clean; it may or may not have arrived.
//!
//! Left out: misdirected writes, bits that rot, a disk that forgets what it said was synced (except as the control of
//! `powercut`), and owners and modes of files. Invariant: an fsync covers only what had ended before it began, and counts only once
//! it has ended well.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::figures::dice::Dice;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// The files of an image: path below the root, and content.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;
/// A folder or a file.
type Node = usize;
/// A change that was begun: not yet ended, or ended and perhaps not durable.
pub(crate) type Change = u64;

#[derive(Debug, Clone)]
enum What {
    Write { at: usize, bytes: Rc<[u8]> },
    Length(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has not ended.
    Begun,
    /// It has ended; the next fsync covers it.
    Done,
    /// An fsync that should have covered it failed.
    Dropped,
    /// It is on the disk.
    Durable,
}

#[derive(Debug, Clone)]
struct Pending {
    change: Change,
    what: What,
    fate: Fate,
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What programs see.
    live: Vec<u8>,
    /// What is on the disk, up to the first pending change.
    base: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone, Default)]
struct Folder {
    live: BTreeMap<String, Node>,
    base: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
enum Content {
    File(File),
    Folder(Folder),
}

/// Names that change together.
#[derive(Debug, Clone)]
struct Naming {
    change: Change,
    /// Folder, name, and what it means from now on.
    names: Vec<(Node, String, Option<Node>)>,
}

/// An fsync under way: what it covers.
#[derive(Debug, Clone)]
pub(crate) struct Sync {
    node: Node,
    covered: Vec<Change>,
}

/// How much of what is not durable survives.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// The probability of a change to names, or of a whole write.
    whole: f64,
    /// The probability of each sector of a write that survives.
    sector: f64,
    /// Whether bytes that never arrived are garbage instead of zeros.
    garbage: bool,
}

impl Weather {
    fn throw(dice: &mut Dice) -> Self {
        let garbage = dice.chance(0.5);
        let (whole, sector) = match dice.count(6) {
            1 => (0.0, 0.0),
            2 => (1.0, 1.0),
            3 => (0.5, 1.0),
            4 => (dice.unit(), 1.0),
            5 => (1.0, dice.unit()),
            _ => (dice.unit(), dice.unit()),
        };
        Self { whole, sector, garbage }
    }
}

/// The disk below one folder.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    nodes: Vec<Content>,
    namings: Vec<Naming>,
    next: Change,
}

const ROOT: Node = 0;

impl Disk {
    /// With an empty folder, which is durable.
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Content::Folder(Folder::default())], namings: Vec::new(), next: 0 }
    }

    fn change(&mut self) -> Change {
        self.next += 1;
        self.next
    }

    fn folder(&self, node: Node) -> Option<&Folder> {
        match self.nodes.get(node) {
            Some(Content::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    fn file(&mut self, node: Node) -> Option<&mut File> {
        match self.nodes.get_mut(node) {
            Some(Content::File(file)) => Some(file),
            _ => None,
        }
    }

    /// What a path below the root means to programs now; the empty path is the root.
    pub(crate) fn find(&self, path: &str) -> Option<Node> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(ROOT, |node, name| self.folder(node)?.live.get(name).copied())
    }

    /// The folder that holds a path, and the path's last name.
    fn place(&self, path: &str) -> Option<(Node, String)> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.find(folder)?, name.to_owned()))
    }

    fn rename_all(&mut self, names: Vec<(Node, String, Option<Node>)>) {
        for (folder, name, node) in &names {
            let Some(Content::Folder(folder)) = self.nodes.get_mut(*folder) else { continue };
            match node {
                Some(node) => drop(folder.live.insert(name.clone(), *node)),
                None => drop(folder.live.remove(name)),
            }
        }
        let change = self.change();
        self.namings.push(Naming { change, names });
    }

    fn make(&mut self, path: &str, content: Content) -> Option<Node> {
        if let Some(node) = self.find(path) {
            return Some(node);
        }
        let (folder, name) = self.place(path)?;
        let node = self.nodes.len();
        self.nodes.push(content);
        self.rename_all(vec![(folder, name, Some(node))]);
        Some(node)
    }

    /// A file was made, unless it was there. `None`: its folder is not ours.
    pub(crate) fn create(&mut self, path: &str) -> Option<Node> {
        self.make(path, Content::File(File::default()))
    }

    /// A folder was made.
    pub(crate) fn make_folder(&mut self, path: &str) -> Option<Node> {
        self.make(path, Content::Folder(Folder::default()))
    }

    /// A file got another name beside its own.
    pub(crate) fn link(&mut self, from: &str, to: &str) {
        if let (Some(node), Some((folder, name))) = (self.find(from), self.place(to)) {
            self.rename_all(vec![(folder, name, Some(node))]);
        }
    }

    /// A file or folder was renamed; what had the name before is gone.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let (Some(node), Some((left, old)), Some((entered, new))) =
            (self.find(from), self.place(from), self.place(to))
        {
            self.rename_all(vec![(left, old, None), (entered, new, Some(node))]);
        }
    }

    /// A name was taken away.
    pub(crate) fn remove(&mut self, path: &str) {
        if let Some((folder, name)) = self.place(path).filter(|_| self.find(path).is_some()) {
            self.rename_all(vec![(folder, name, None)]);
        }
    }

    /// How long the file is to programs.
    pub(crate) fn length(&mut self, node: Node) -> usize {
        self.file(node).map_or(0, |file| file.live.len())
    }

    fn begin(&mut self, node: Node, what: What) -> Option<Change> {
        let change = self.change();
        let file = self.file(node)?;
        apply(&mut file.live, &what, &mut |_| true, &mut |_, _| {});
        file.pending.push(Pending { change, what, fate: Fate::Begun });
        Some(change)
    }

    /// A write begins. `None`: it is no file.
    pub(crate) fn write(&mut self, node: Node, at: usize, bytes: &[u8]) -> Option<Change> {
        self.begin(node, What::Write { at, bytes: bytes.into() })
    }

    /// A change of length begins.
    pub(crate) fn set_length(&mut self, node: Node, length: usize) -> Option<Change> {
        self.begin(node, What::Length(length))
    }

    /// A change of this file has ended well.
    pub(crate) fn done(&mut self, node: Node, change: Change) {
        let Some(file) = self.file(node) else { return };
        let own = file.pending.iter_mut().find(|pending| pending.change == change);
        if let Some(pending) = own.filter(|pending| pending.fate == Fate::Begun) {
            pending.fate = Fate::Done;
        }
    }

    /// A change of this file has not happened, or a write only with its first bytes.
    pub(crate) fn failed(&mut self, node: Node, change: Change, written: usize) {
        let Some(file) = self.file(node) else { return };
        let Some(index) = file.pending.iter().position(|pending| pending.change == change) else { return };
        match &mut file.pending[index] {
            Pending { what: What::Write { bytes, .. }, fate, .. } if written > 0 => {
                *bytes = bytes.iter().take(written).copied().collect();
                *fate = Fate::Done;
            }
            _ => drop(file.pending.remove(index)),
        }
        file.live = file.base.clone();
        for pending in &file.pending {
            apply(&mut file.live, &pending.what, &mut |_| true, &mut |_, _| {});
        }
    }

    /// An fsync of a file or folder begins.
    pub(crate) fn sync(&mut self, node: Node) -> Sync {
        let covered = if let Some(Content::File(file)) = self.nodes.get(node) {
            let done = file.pending.iter().filter(|pending| pending.fate == Fate::Done);
            done.map(|pending| pending.change).collect()
        } else {
            let touches = |naming: &&Naming| naming.names.iter().any(|(folder, _, _)| *folder == node);
            self.namings.iter().filter(touches).map(|naming| naming.change).collect()
        };
        Sync { node, covered }
    }

    /// An fsync has ended, well or not.
    pub(crate) fn synced(&mut self, sync: &Sync, well: bool) {
        if let Some(Content::File(file)) = self.nodes.get_mut(sync.node) {
            file.synced(&sync.covered, well);
        } else if well {
            self.fold_names(&sync.covered);
        }
    }

    fn fold_names(&mut self, covered: &[Change]) {
        let (durable, mut rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.namings).into_iter().partition(|n| covered.contains(&n.change));
        for naming in durable {
            for (folder, name, node) in naming.names {
                // What is older and not durable can't undo it any more.
                for older in rest.iter_mut().filter(|older| older.change < naming.change) {
                    older.names.retain(|(other, known, _)| (*other, known) != (folder, &name));
                }
                let Some(Content::Folder(folder)) = self.nodes.get_mut(folder) else { continue };
                match node {
                    Some(node) => drop(folder.base.insert(name, node)),
                    None => drop(folder.base.remove(&name)),
                }
            }
        }
        self.namings = rest;
    }

    /// What programs see in a file.
    pub(crate) fn content(&self, path: &str) -> Option<Vec<u8>> {
        match self.nodes.get(self.find(path)?) {
            Some(Content::File(file)) => Some(file.live.clone()),
            _ => None,
        }
    }

    /// What programs see: nothing is lost.
    pub(crate) fn live(&self) -> Image {
        let mut image = Image::new();
        self.walk(ROOT, "", &|_, folder| folder.live.clone(), &mut |path, file| {
            image.insert(path, file.live.clone());
        });
        image
    }

    /// What the disk may hold if the power fails now.
    pub(crate) fn image(&self, dice: &mut Dice) -> Image {
        let weather = Weather::throw(dice);
        let mut names: BTreeMap<Node, BTreeMap<String, Node>> = BTreeMap::new();
        for naming in self.namings.iter().filter(|_| dice.chance(weather.whole)) {
            for (folder, name, node) in &naming.names {
                let base = || self.folder(*folder).map(|folder| folder.base.clone()).unwrap_or_default();
                let entries = names.entry(*folder).or_insert_with(base);
                match node {
                    Some(node) => drop(entries.insert(name.clone(), *node)),
                    None => drop(entries.remove(name)),
                }
            }
        }
        let mut image = Image::new();
        let entries = |node: Node, folder: &Folder| names.get(&node).unwrap_or(&folder.base).clone();
        self.walk(ROOT, "", &entries, &mut |path, file| {
            image.insert(path, file.survivor(weather, dice));
        });
        image
    }

    fn walk(
        &self,
        node: Node,
        path: &str,
        entries: &dyn Fn(Node, &Folder) -> BTreeMap<String, Node>,
        visit: &mut dyn FnMut(String, &File),
    ) {
        match self.nodes.get(node) {
            Some(Content::File(file)) => visit(path.to_owned(), file),
            Some(Content::Folder(folder)) => {
                for (name, node) in entries(node, folder) {
                    let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                    self.walk(node, &below, entries, visit);
                }
            }
            None => {}
        }
    }
}

impl File {
    fn synced(&mut self, covered: &[Change], well: bool) {
        let fate = if well { Fate::Durable } else { Fate::Dropped };
        for pending in &mut self.pending {
            if pending.fate == Fate::Done && covered.contains(&pending.change) {
                pending.fate = fate;
            }
        }
        let durable = self.pending.iter().take_while(|pending| pending.fate == Fate::Durable).count();
        for pending in self.pending.drain(..durable) {
            apply(&mut self.base, &pending.what, &mut |_| true, &mut |_, _| {});
        }
    }

    fn survivor(&self, weather: Weather, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.base.clone();
        for pending in &self.pending {
            if pending.fate == Fate::Durable {
                apply(&mut content, &pending.what, &mut |_| true, &mut |_, _| {});
                continue;
            }
            if !dice.chance(weather.whole) {
                continue;
            }
            // Two dice, because both closures throw.
            let mut other = dice.clone();
            let mut survives = |_| dice.chance(weather.sector);
            apply(&mut content, &pending.what, &mut survives, &mut |content, from| {
                if weather.garbage {
                    content[from..].iter_mut().for_each(|byte| *byte = (other.unit() * 256.0) as u8);
                }
            });
        }
        content
    }
}

/// Applies a change to those sectors that survive. `fill` gets the content and where bytes begin that nobody wrote.
fn apply(
    content: &mut Vec<u8>,
    what: &What,
    survives: &mut dyn FnMut(usize) -> bool,
    fill: &mut dyn FnMut(&mut [u8], usize),
) {
    let (start, bytes) = match what {
        What::Length(length) => return content.resize(*length, 0),
        What::Write { at, bytes } => (*at, bytes),
    };
    let mut from = 0;
    while from < bytes.len() {
        let at = start + from;
        let to = bytes.len().min(from + SECTOR - at % SECTOR);
        if survives(at / SECTOR) {
            let end = start + to;
            if content.len() < end {
                let length = content.len();
                content.resize(end, 0);
                fill(content, length);
            }
            content[at..end].copy_from_slice(&bytes[from..to]);
        }
        from = to;
    }
}

#[cfg(test)]
mod tests;
