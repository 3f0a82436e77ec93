//! `Lists`: all allow and deny lists of a configuration, with the files that they are made of.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{AccessList, FileError, ListFile, Look, Sources};

/// All lists of a configuration. Cloning it gives the same lists.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    lists: HashMap<Sources, Arc<AccessList>>,
    files: HashMap<PathBuf, Arc<ListFile>>,
}

/// What has become of a file that has changed.
#[derive(Debug)]
pub enum Refreshed {
    /// It is in force.
    Reloaded(Arc<ListFile>),
    /// It cannot be used; what was in force stays.
    Failed(FileError),
}

impl Lists {
    /// Reads the files of `wanted`, those that `former` does not have, or that have changed, and makes what is not there
    /// yet.
    ///
    /// # Errors
    /// All that is wrong with the files. Those that are not are in force all the same where they were before.
    pub fn load<'a>(
        wanted: impl Iterator<Item = &'a Sources>,
        former: &Self,
    ) -> Result<Self, Vec<FileError>> {
        let mut lists = Self::default();
        let mut errors = Vec::new();
        let wanted: Vec<_> = wanted.filter(|sources| !sources.is_empty()).collect();
        for path in wanted.iter().flat_map(|sources| sources.files()) {
            if lists.files.contains_key(path) {
                continue;
            }
            let known = former.files.get(path).map(Arc::clone);
            let file = match known {
                Some(file) => match file.look_at_once() {
                    Look::Failed(error) => Err(error),
                    Look::Reloaded | Look::Unchanged => Ok(file),
                },
                None => ListFile::load(path).map(Arc::new),
            };
            match file {
                Ok(file) => _ = lists.files.insert(path.clone(), file),
                Err(error) if !errors.iter().any(|it| is_same(it, &error)) => errors.push(error),
                Err(_) => {}
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for sources in wanted {
            let new = || {
                let files = sources.files();
                let files = files.map(|path| (path.clone(), Arc::clone(&lists.files[path])));
                AccessList::new(sources.clone(), files.collect())
            };
            if !lists.lists.contains_key(sources) {
                let list = former.get(sources).unwrap_or_else(new);
                lists.lists.insert(sources.clone(), list);
            }
        }
        Ok(lists)
    }

    /// The list of these sources; none if they are empty, or not of this configuration.
    pub fn get(&self, sources: &Sources) -> Option<Arc<AccessList>> {
        self.lists.get(sources).map(Arc::clone)
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> Vec<Arc<ListFile>> {
        let mut files: Vec<_> = self.files.values().map(Arc::clone).collect();
        files.sort_by(|a, b| a.path().cmp(b.path()));
        files
    }

    /// Looks at all files, and puts those that have changed into force. Blocks, as files do.
    pub fn refresh(&self) -> Vec<Refreshed> {
        let files = self.files.values();
        let refreshed = files.filter_map(|file| match file.look() {
            Look::Unchanged => None,
            Look::Reloaded => Some(Refreshed::Reloaded(Arc::clone(file))),
            Look::Failed(error) => Some(Refreshed::Failed(error)),
        });
        refreshed.collect()
    }
}

fn is_same(one: &FileError, other: &FileError) -> bool {
    one.lines() == other.lines()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::access::Source;

    /// A directory with one list in it, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("lb-access-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("list.txt")
        }

        /// Puts a file of this content in the place of the list.
        fn write(&self, content: &str) {
            let new = self.0.join("new");
            fs::write(&new, content).unwrap();
            fs::rename(new, self.file()).unwrap();
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn denying(path: &Path) -> Sources {
        Sources {
            allow: Vec::new(),
            deny: vec![Source::File(path.to_owned())],
        }
    }

    fn allows(list: &AccessList, address: &str) -> bool {
        list.allows(address.parse().unwrap())
    }

    #[test]
    fn a_file_is_read_again_once_it_changes_no_more_and_bad_ones_change_nothing() {
        let directory = Directory::new("again");
        directory.write("10.0.0.0/8\n");
        let sources = denying(&directory.file());
        let lists = Lists::load([&sources, &sources].into_iter(), &Lists::default()).unwrap();
        let list = lists.get(&sources).unwrap();
        assert!(!allows(&list, "10.1.1.1") && allows(&list, "192.0.2.1"));
        assert!(lists.refresh().is_empty());

        directory.write("192.0.2.0/24\n10.1.1.0/24\n");
        assert!(lists.refresh().is_empty(), "it may still be written");
        assert!(matches!(lists.refresh()[..], [Refreshed::Reloaded(_)]));
        assert!(allows(&list, "10.0.0.1") && !allows(&list, "192.0.2.1"));
        assert_eq!(list.entries(), (0, 2));

        directory.write("192.0.2.0/24\nnobody\n");
        lists.refresh();
        let refreshed = lists.refresh();
        let [Refreshed::Failed(error)] = &refreshed[..] else {
            panic!("{refreshed:?}");
        };
        assert!(error.to_string().contains("list.txt:2: \"nobody\""));
        assert!(lists.refresh().is_empty(), "it is told once");
        assert!(lists.files()[0].error().is_some());
        assert!(!allows(&list, "10.1.1.1"), "what was in force stays");

        fs::remove_file(directory.file()).unwrap();
        lists.refresh();
        assert!(matches!(lists.refresh()[..], [Refreshed::Failed(_)]));
        assert!(!allows(&list, "10.1.1.1"));
        directory.write("192.0.2.0/24\n10.1.1.0/24\n");
        lists.refresh();
        assert!(lists.refresh().is_empty(), "it holds what is in force");
        assert!(lists.files()[0].error().is_none());
    }

    #[test]
    fn a_new_configuration_keeps_lists_and_tells_of_bad_files_again() {
        let directory = Directory::new("new");
        directory.write("10.0.0.0/8\n");
        let sources = denying(&directory.file());
        let load = |former: &Lists| Lists::load([&sources].into_iter(), former);
        let lists = load(&Lists::default()).unwrap();
        let again = load(&lists).unwrap();
        let [one, other] = [&lists, &again].map(|it| it.get(&sources).unwrap());
        assert!(Arc::ptr_eq(&one, &other));

        directory.write("10.0.0.0/8\n192.0.2.1\n");
        let changed = load(&lists).unwrap();
        let list = changed.get(&sources).unwrap();
        assert!(!allows(&list, "192.0.2.1"), "at once");

        directory.write("10.0.0.0/8\nnobody\n");
        for _ in 0..2 {
            assert_eq!(load(&lists).unwrap_err().len(), 1);
        }
        assert!(!allows(&list, "192.0.2.1"));
    }

    #[test]
    fn nobody_is_allowed_by_an_empty_file() {
        let directory = Directory::new("empty");
        directory.write("# nobody yet\n");
        let sources = Sources {
            allow: vec![Source::File(directory.file())],
            deny: Vec::new(),
        };
        let lists = Lists::load([&sources].into_iter(), &Lists::default()).unwrap();
        assert!(!allows(&lists.get(&sources).unwrap(), "192.0.2.1"));
        assert!(lists.get(&Sources::default()).is_none());
    }
}
