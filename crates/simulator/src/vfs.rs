//! SQLite's door to simulated disks: a file `/SEED/PROCESS/NAME` is `NAME` on that simulation's disk, used by that process.
//!
//! One thread runs a whole simulation, so a lock that is taken is answered "busy" and never waited for. Invariant: what SQLite
//! does here depends on the disk alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use sqlite_vfs::wip::{WalIndex, WalIndexLock};
use sqlite_vfs::{DatabaseHandle, LockKind, OpenAccess, OpenOptions, Vfs};

use crate::disk::Disk;

/// The name under which SQLite knows the door.
pub(crate) const NAME: &str = "simulated";

thread_local! {
    /// By seed. A simulation is one thread, and a thread runs one simulation at a time.
    static DISKS: RefCell<HashMap<u64, Arc<Mutex<Disk>>>> = RefCell::default();
}
static NEXT: AtomicU64 = AtomicU64::new(1);
static REGISTERED: Once = Once::new();

/// A disk that SQLite can reach. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    seed: u64,
    disk: Arc<Mutex<Disk>>,
}

impl Mounted {
    /// Makes the disk of the simulation of this seed reachable, on this thread.
    pub(crate) fn new(seed: u64, disk: Disk) -> Self {
        REGISTERED.call_once(|| {
            let registered = sqlite_vfs::register(NAME, Door, false);
            assert!(registered.is_ok(), "SQLite takes a file system");
        });
        let disk = Arc::new(Mutex::new(disk));
        DISKS.with_borrow_mut(|disks| disks.insert(seed, Arc::clone(&disk)));
        Self { seed, disk }
    }

    /// The disk.
    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        locked(&self.disk)
    }

    /// The path by which a process reaches a file.
    pub(crate) fn path(&self, process: &str, name: &str) -> camino::Utf8PathBuf {
        format!("/{}/{process}/{name}", self.seed).into()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        DISKS.with_borrow_mut(|disks| disks.remove(&self.seed));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Door;

/// The disk, the process and the file's name.
fn resolve(path: &str) -> Result<(Arc<Mutex<Disk>>, String, String), Error> {
    let mut parts = path.trim_start_matches('/').splitn(3, '/');
    let (Some(number), Some(process), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(ErrorKind::NotFound.into());
    };
    let number: u64 = number.parse().map_err(|_| ErrorKind::NotFound)?;
    let disk = DISKS.with_borrow(|disks| disks.get(&number).cloned()).ok_or(ErrorKind::NotFound)?;
    Ok((disk, process.to_owned(), name.to_owned()))
}

impl Vfs for Door {
    type Handle = Handle;

    fn open(&self, path: &str, options: OpenOptions) -> Result<Handle, Error> {
        let (disk, process, name) = resolve(path)?;
        {
            let mut disk = locked(&disk);
            let exists = disk.exists(&name);
            match options.access {
                OpenAccess::CreateNew if exists => return Err(ErrorKind::AlreadyExists.into()),
                OpenAccess::Create | OpenAccess::CreateNew => disk.create(&process, &name)?,
                OpenAccess::Read | OpenAccess::Write if !exists => return Err(ErrorKind::NotFound.into()),
                OpenAccess::Read | OpenAccess::Write => {}
            }
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Handle { disk, process, name, number })
    }

    fn delete(&self, path: &str) -> Result<(), Error> {
        let (disk, process, name) = resolve(path)?;
        locked(&disk).delete(&process, &name)
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        let (disk, _, name) = resolve(path)?;
        let exists = locked(&disk).exists(&name);
        Ok(exists)
    }

    fn temporary_name(&self) -> String {
        // Queries here are small: nothing is ever spilled to a file.
        "/0/none/temporary".to_owned()
    }

    fn random(&self, buffer: &mut [i8]) {
        buffer.fill(7);
    }

    fn sleep(&self, duration: Duration) -> Duration {
        duration
    }
}

/// An open file.
pub(crate) struct Handle {
    disk: Arc<Mutex<Disk>>,
    process: String,
    name: String,
    number: u64,
}

impl DatabaseHandle for Handle {
    type WalIndex = SharedMemory;

    fn size(&self) -> Result<u64, Error> {
        Ok(locked(&self.disk).length(&self.name))
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        locked(&self.disk).read(&self.process, &self.name, offset, buffer)
    }

    fn write_all_at(&mut self, buffer: &[u8], offset: u64) -> Result<(), Error> {
        locked(&self.disk).write(&self.process, &self.name, offset, buffer)
    }

    fn sync(&mut self, _data_only: bool) -> Result<(), Error> {
        locked(&self.disk).sync(&self.process, &self.name)
    }

    fn set_len(&mut self, size: u64) -> Result<(), Error> {
        locked(&self.disk).set_length(&self.process, &self.name, size)
    }

    fn lock(&mut self, lock: LockKind) -> Result<bool, Error> {
        let mut disk = locked(&self.disk);
        if disk.gone(&self.process) {
            // Its locks were freed at its death.
            return if lock == LockKind::None { Ok(true) } else { Err(ErrorKind::Other.into()) };
        }
        let others = |at_least: fn(LockKind) -> bool| {
            disk.locks.iter().any(|(handle, (_, kind))| *handle != self.number && at_least(*kind))
        };
        let refused = match lock {
            LockKind::None => false,
            LockKind::Shared => others(|kind| matches!(kind, LockKind::Pending | LockKind::Exclusive)),
            LockKind::Reserved | LockKind::Pending => {
                others(|kind| matches!(kind, LockKind::Reserved | LockKind::Pending | LockKind::Exclusive))
            }
            LockKind::Exclusive => others(|kind| kind != LockKind::None),
        };
        if refused {
            return Ok(false);
        }
        disk.locks.insert(self.number, (self.process.clone(), lock));
        Ok(true)
    }

    fn reserved(&mut self) -> Result<bool, Error> {
        let held = |kind| matches!(kind, LockKind::Reserved | LockKind::Pending | LockKind::Exclusive);
        Ok(locked(&self.disk).locks.values().any(|(_, kind)| held(*kind)))
    }

    fn current_lock(&self) -> Result<LockKind, Error> {
        Ok(locked(&self.disk).locks.get(&self.number).map_or(LockKind::None, |(_, kind)| *kind))
    }

    fn wal_index(&self, _readonly: bool) -> Result<SharedMemory, Error> {
        Ok(SharedMemory { disk: Arc::clone(&self.disk), process: self.process.clone(), handle: self.number })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut disk = locked(&self.disk);
        disk.locks.remove(&self.number);
        unlock_slots(&mut disk, self.number, 0..u8::MAX);
    }
}

fn unlock_slots(disk: &mut Disk, handle: u64, range: Range<u8>) {
    for slot in range {
        if let Some((holders, _)) = disk.slots.get_mut(&slot) {
            holders.remove(&handle);
        }
    }
    disk.slots.retain(|_, (holders, _)| !holders.is_empty());
}

/// The write-ahead log's index, as one connection maps it.
pub(crate) struct SharedMemory {
    disk: Arc<Mutex<Disk>>,
    process: String,
    handle: u64,
}

impl WalIndex for SharedMemory {
    #[expect(clippy::large_stack_arrays, reason = "the library's regions are arrays")]
    fn map(&mut self, region: u32) -> Result<[u8; 32_768], Error> {
        let mut disk = locked(&self.disk);
        Ok(**disk.shared.entry(region).or_insert_with(|| Box::new([0; 32_768])))
    }

    fn lock(&mut self, slots: Range<u8>, lock: WalIndexLock) -> Result<bool, Error> {
        let mut disk = locked(&self.disk);
        if lock == WalIndexLock::None {
            unlock_slots(&mut disk, self.handle, slots);
            return Ok(true);
        }
        disk.count_lock(&self.process, tokio::time::Instant::now());
        if disk.gone(&self.process) {
            return Err(ErrorKind::Other.into());
        }
        let exclusive = lock == WalIndexLock::Exclusive;
        let taken = |slot: u8| {
            disk.slots.get(&slot).is_some_and(|(holders, held_exclusively)| {
                (exclusive || *held_exclusively) && holders.iter().any(|holder| *holder != self.handle)
            })
        };
        if slots.clone().any(taken) {
            return Ok(false);
        }
        for slot in slots {
            let entry = disk.slots.entry(slot).or_default();
            entry.0.insert(self.handle);
            entry.1 = exclusive;
        }
        Ok(true)
    }

    fn delete(self) -> Result<(), Error> {
        locked(&self.disk).shared.clear();
        Ok(())
    }

    fn pull(&mut self, region: u32, data: &mut [u8; 32_768]) -> Result<(), Error> {
        if let Some(shared) = locked(&self.disk).shared.get(&region) {
            data.copy_from_slice(&shared[..]);
        } else {
            data.fill(0);
        }
        Ok(())
    }

    fn push(&mut self, region: u32, data: &[u8; 32_768]) -> Result<(), Error> {
        let mut disk = locked(&self.disk);
        // What a process that is gone had in mind is not seen by others.
        if disk.locks.contains_key(&self.handle) {
            disk.shared.insert(region, Box::new(*data));
        }
        Ok(())
    }
}
