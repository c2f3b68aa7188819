//! A folder of a test's own for its files; goes with it.

use std::path::{Path, PathBuf};

use super::Backend;

pub(crate) struct Folder(PathBuf);

impl Folder {
    /// An empty one; `name` tells it from those of other tests.
    pub(crate) fn new(name: &str, backend: Backend) -> Self {
        let name = format!("{name}-{}-{}", std::process::id(), backend.word());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Of a run that was killed and had the same number.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The path of a file in it, which need not be there.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file at once: a server may read it at any time. Its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let (path, new) = (self.file(name), self.file("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
