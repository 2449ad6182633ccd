use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use amop_protocol::{ClientIdentity, Fingerprint, NodeId, wire::files::CHUNK};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::files::tree::{Hashing, Tree};

const SIZE: u64 = 5 * CHUNK + 77;

fn content(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    blake3::Hasher::new().update(&size.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A record of this content.
pub(in crate::files::receive) fn about(name: &str, content: &[u8]) -> About {
    let client = ClientIdentity { fingerprint: Fingerprint::new([3; 32]), name: "desk".into() };
    let sender =
        Sender { institution: "bank-0".into(), node: NodeId::new([2; 32]), client: Arc::new(client) };
    let offer = Offer {
        name: name.to_owned(),
        size: content.len() as u64,
        media_type: String::new(),
        root: *blake3::hash(content).as_bytes(),
        key: None,
    };
    About::new(Id([1; 16]), "files", &sender, &offer)
}

/// A directory, and a file that comes into it.
struct Coming {
    dir: TempDir,
    content: Vec<u8>,
    tree: Tree,
    about: About,
}

impl Coming {
    fn new(size: u64) -> Self {
        let content = content(size);
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::write(&source, &content).unwrap();
        let into = tempfile::tempfile().unwrap();
        let tree = Tree::build(&File::open(&source).unwrap(), size, into, &Hashing::default()).unwrap();
        Self { about: about("a.bin", &content), dir, content, tree }
    }

    fn home(&self) -> std::path::PathBuf {
        self.dir.path().join("into")
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::new(Directory::open(&self.home(), Duration::from_secs(60)).unwrap())
    }

    fn open(&self) -> Landing {
        self.open_in(self.directory()).unwrap()
    }

    fn open_in(&self, directory: Arc<Directory>) -> Result<Landing, FileError> {
        let claim = directory.claim(&self.about.key(), &CancellationToken::new()).expect("nobody else");
        Landing::open(directory, self.about.clone(), claim, |_| Ok(()))
    }

    fn chunk(&self, index: u64) -> &[u8] {
        let (at, len) = extent(self.content.len() as u64, index).unwrap();
        &self.content[at as usize..][..len]
    }

    fn store(&self, landing: &Landing, index: u64) -> Result<bool, Refused> {
        landing.store(index, self.chunk(index), &self.tree.proof(index).unwrap())
    }

    fn store_all(&self, landing: &Landing) {
        for index in 0..chunks(landing.size) {
            assert!(self.store(landing, index).unwrap());
        }
    }

    fn file(&self, kind: &str) -> std::path::PathBuf {
        self.home().join(".amop").join(format!("{}.{kind}", self.about.key()))
    }
}

fn missing_of(landing: &Landing) -> BTreeSet<u64> {
    let missing = landing.missing();
    (0..chunks(landing.size)).filter(|index| missing.contains(*index)).collect()
}

#[test]
fn bytes_are_counted_whatever_the_size() {
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17] {
        let coming = Coming::new(size);
        let landing = coming.open();
        assert_eq!((landing.verified(), landing.is_complete()), (0, size == 0), "{size}");
        let mut bytes = 0;
        for index in (0..chunks(size)).rev() {
            assert!(coming.store(&landing, index).unwrap());
            assert!(!coming.store(&landing, index).unwrap(), "again");
            bytes += coming.chunk(index).len() as u64;
            assert_eq!(landing.verified(), bytes, "{size} {index}");
        }
        assert!(landing.is_complete());
        let path = landing.finish().unwrap();
        assert!(fs::read(&path).unwrap() == coming.content, "{size}");
        assert_eq!(path, coming.home().join("a.bin"));
        for kind in ["part", "journal", "json"] {
            assert!(!coming.file(kind).exists(), "{size} {kind}");
        }
    }
}

/// As when the receiver is interrupted.
#[test]
fn checking_ends_when_it_is_to_and_nothing_is_lost() {
    let coming = Coming::new(SIZE);
    coming.store_all(&coming.open());
    let directory = coming.directory();
    let claim = directory.claim(&coming.about.key(), &CancellationToken::new()).expect("nobody else");
    let mut seen = 0;
    let ended = Landing::open(directory.clone(), coming.about.clone(), claim, |_| {
        seen += 1;
        if seen == 2 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    });
    assert!(matches!(ended, Err(FileError::Directory { .. })), "{ended:?}");
    assert_eq!(seen, 2);
    assert!(coming.open_in(directory).unwrap().is_complete());
}

#[test]
fn what_is_no_part_of_the_file_leaves_no_trace() {
    let coming = Coming::new(SIZE);
    let landing = coming.open();
    let (data, proof) = (coming.chunk(1), coming.tree.proof(1).unwrap());
    let mut bent = data.to_vec();
    bent[5] ^= 1;
    let long = [data, b"x"].concat();
    let tries: [(u64, &[u8], &[u8]); 9] = [
        (1, &bent, &proof),
        (1, &long, &proof),
        (1, &data[1..], &proof),
        (1, b"", &proof),
        (1, data, b""),
        (2, data, &proof),
        (5, data, &proof),
        (6, data, &proof),
        (u64::MAX, data, &proof),
    ];
    for (index, data, proof) in tries {
        assert!(matches!(landing.store(index, data, proof), Err(Refused::Bad)), "{index}");
    }
    assert_eq!((landing.verified(), landing.missing()), (0, Ranges::all(6)));
    assert_eq!(fs::metadata(coming.file("part")).unwrap().len(), 0);
    assert_eq!(fs::metadata(coming.file("journal")).unwrap().len(), 0);
}

/// What is found after a change of what is on disk.
fn after(change: impl Fn(&Path, &Path)) -> BTreeSet<u64> {
    let coming = Coming::new(SIZE);
    let landing = coming.open();
    for index in [0, 2, 3, 5] {
        coming.store(&landing, index).unwrap();
    }
    drop(landing);
    change(&coming.file("part"), &coming.file("journal"));
    let landing = coming.open();
    let missing = missing_of(&landing);
    for index in &missing {
        assert!(coming.store(&landing, *index).unwrap());
    }
    assert!(fs::read(landing.finish().unwrap()).unwrap() == coming.content);
    missing
}

fn with(path: &Path, at: u64, bytes: &[u8]) {
    write_all_at(&OpenOptions::new().write(true).open(path).unwrap(), bytes, at).unwrap();
}

fn cut(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_restart_believes_what_matches_and_nothing_else() {
    let all = BTreeSet::from_iter(0..6);
    assert_eq!(after(|_, _| {}), BTreeSet::from([1, 4]));
    assert_eq!(after(|part, _| with(part, 2 * CHUNK, b"bent")), BTreeSet::from([1, 2, 4]));
    assert_eq!(after(|part, _| cut(part, 3 * CHUNK + 1)), BTreeSet::from([1, 3, 4, 5]));
    assert_eq!(after(|part, _| cut(part, 9 * CHUNK)), BTreeSet::from([1, 4]), "cut to its size at the end");
    assert_eq!(after(|part, _| fs::remove_file(part).unwrap()), all);
    assert_eq!(after(|_, journal| fs::remove_file(journal).unwrap()), all);
    assert_eq!(after(|_, journal| cut(journal, 32 * 3 + 7)), BTreeSet::from([1, 3, 4, 5]));
    assert_eq!(after(|_, journal| cut(journal, 32 * 1_000)), BTreeSet::from([1, 4]), "longer");
    assert_eq!(after(|_, journal| with(journal, 0, &[7; 32 * 9])), all, "garbage");
    let swapped = after(|part, journal| {
        fs::rename(part, part.with_extension("x")).unwrap();
        fs::rename(journal, part).unwrap();
        fs::rename(part.with_extension("x"), journal).unwrap();
    });
    assert_eq!(swapped, all);
}

/// Both files bent so that they match each other: the root does not.
#[test]
fn a_journal_that_is_not_that_of_the_file_is_noticed_at_the_end() {
    let coming = Coming::new(SIZE);
    let landing = coming.open();
    coming.store_all(&landing);
    drop(landing);
    let other = vec![9; CHUNK as usize];
    with(&coming.file("part"), CHUNK, &other);
    with(&coming.file("journal"), HASH as u64, &leaf(SIZE, 1, &other));
    let landing = coming.open();
    assert!(landing.is_complete());
    assert!(matches!(landing.finish(), Err(FileError::WrongContent)));
    assert!(!coming.home().join("a.bin").exists());
    landing.discard();
    for kind in ["part", "journal", "json"] {
        assert!(!coming.file(kind).exists(), "{kind}");
    }
}

#[test]
fn a_name_that_could_not_be_noted_as_done_is_known_at_the_next_start() {
    let coming = Coming::new(SIZE);
    let directory = coming.directory();
    let landing = coming.open_in(directory.clone()).unwrap();
    coming.store_all(&landing);
    // What a crash between the rename and the note leaves: the record with the name, and no part.
    let placed = About { placed: Some("a.bin".into()), ..coming.about.clone() };
    assert!(!was_placed(&directory, &placed).unwrap(), "nothing is there under the name");
    fs::write(coming.home().join("a.bin"), "of somebody else").unwrap();
    assert!(!was_placed(&directory, &placed).unwrap(), "the part is not renamed yet");
    assert!(!was_placed(&directory, &coming.about).unwrap());
    assert_eq!(landing.finish().unwrap(), coming.home().join("a (1).bin"));
    let placed = About { placed: Some("a (1).bin".into()), ..coming.about.clone() };
    directory.write_record(&placed.key(), &placed).unwrap();
    drop((landing, directory));
    let directory = coming.directory();
    let unfinished = directory.unfinished().unwrap();
    assert_eq!(unfinished.len(), 1);
    assert!(was_placed(&directory, &unfinished[0]).unwrap());
    assert!(directory.done(Fingerprint::new([3; 32]), Id([1; 16])).is_some());
    assert!(directory.unfinished().unwrap().is_empty() && !coming.file("journal").exists());
}

#[test]
fn a_directory_that_is_gone_at_the_end_is_not_made_again() {
    let coming = Coming::new(CHUNK + 1);
    let landing = coming.open();
    coming.store_all(&landing);
    fs::remove_dir_all(coming.home()).unwrap();
    let error = landing.finish().unwrap_err();
    assert!(matches!(error, FileError::Directory { .. }), "{error}");
    assert!(!coming.home().exists());
}

#[test]
fn records_that_make_no_sense_are_not_gone_on_with() {
    let good = about("a", b"content");
    assert!(good.parts().is_some());
    let size = About { size: u64::MAX, ..good.clone() };
    assert!(size.parts().is_none());
    assert!(About { version: 2, ..good.clone() }.parts().is_none());
    assert!(About { root: "00".into(), ..good.clone() }.parts().is_none());
    assert!(About { key: Some("zz".into()), ..good.clone() }.parts().is_none());
    assert!(About { transfer: "x".repeat(32), ..good }.parts().is_none());
    let coming = Coming { about: size, ..Coming::new(5) };
    assert!(matches!(coming.open_in(coming.directory()), Err(FileError::Directory { .. })));
}
