//! A disk in a file: an ext4 file system on a loop device, unmounted and deleted when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Above the free space below which the server refuses to write, its ballast, and what a run writes; sparse.
const IMAGE_BYTES: u64 = 3 << 30;

/// A mounted disk. Dropping it unmounts it and deletes its image, also when a test panics.
pub struct Disk {
    image: Image,
    mounted: PathBuf,
}

/// The backing file of a disk. Deleted when dropped.
pub struct Image(PathBuf);

impl Disk {
    /// An error where disks in files cannot be made here.
    pub fn try_out(home: &Path) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root".to_owned());
        }
        Self::create(&home.join("try-out")).map(drop)
    }

    /// An empty disk whose image is at `path`, mounted beside it.
    pub fn create(path: &Path) -> Result<Self, String> {
        let image = Image(path.with_extension("img"));
        let made = File::create(&image.0).and_then(|file| file.set_len(IMAGE_BYTES));
        made.map_err(|e| format!("{}: {e}", image.0.display()))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image.0))?;
        Self::mount(image)
    }

    /// Mounts `image`, which replays its journal as after any power cut.
    pub fn mount(image: Image) -> Result<Self, String> {
        let mounted = image.0.with_extension("");
        fs::create_dir_all(&mounted).map_err(|e| format!("{}: {e}", mounted.display()))?;
        // ext4 commits its journal only when somebody syncs: by default it does every 5 s (ext4(5), "commit"), and
        // what nobody synced would sometimes be on the disk all the same.
        run(Command::new("mount").args(["-o", "loop,commit=300"]).arg(&image.0).arg(&mounted))?;
        Ok(Self { image, mounted })
    }

    pub fn mounted(&self) -> &Path {
        &self.mounted
    }

    /// What the disk has at this moment. Whoever writes to it has been stopped, or the copy is of no moment at all.
    pub fn copy_image(&self, path: &Path) -> Result<Image, String> {
        let copy = Image(path.with_extension("img"));
        run(Command::new("cp").args(["--sparse=always", "--reflink=never"]).arg(&self.image.0).arg(&copy.0))?;
        Ok(copy)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg(&self.mounted))
            // Somebody still has a file open there: it goes when they do.
            .or_else(|_| run(Command::new("umount").arg("--lazy").arg(&self.mounted)));
        if let Err(why) = unmounted {
            println!("NOTICE: {} is left mounted: {why}", self.mounted.display());
            return;
        }
        let _ = fs::remove_dir(&self.mounted);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", command.get_program().display(), String::from_utf8_lossy(&done.stderr).trim()))
}
