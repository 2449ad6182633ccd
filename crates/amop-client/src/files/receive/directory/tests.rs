use std::{fs, io::Write};

use super::*;

const KEEP: Duration = Duration::from_secs(3600);

fn opened(into: &Path) -> Arc<Directory> {
    Arc::new(Directory::open(into, KEEP).expect("a directory"))
}

fn named(n: u64) -> Named {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    (Fingerprint::new([1; 32]), Id(id))
}

#[test]
fn a_directory_has_one_receiver_which_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("a/b");
    let first = opened(&into);
    let receiver = first.receiver();
    let second = Directory::open(&into, KEEP);
    assert!(matches!(&second, Err(FileError::InUse(path)) if *path == into), "{second:?}");
    drop(first);
    assert_eq!(opened(&into).receiver(), receiver);
    // Blank space at its end may come from an editor.
    fs::write(into.join(".amop/receiver"), format!("{receiver}\n")).unwrap();
    assert_eq!(opened(&into).receiver(), receiver);
    let lies: [&[u8]; 5] = [b"", b"xyz", &[0xff; 32], b"0123", &[b'a'; 1_000]];
    for garbage in lies {
        fs::write(into.join(".amop/receiver"), garbage).unwrap();
        let anew = opened(&into).receiver();
        assert_eq!(opened(&into).receiver(), anew, "a new one, that stays");
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".amop"), "a file").unwrap();
    let error = Directory::open(dir.path(), KEEP).unwrap_err();
    assert!(
        matches!(&error, FileError::Directory { path, .. } if *path == dir.path().join(".amop")),
        "{error}"
    );
    fs::remove_file(dir.path().join(".amop")).unwrap();
    fs::create_dir_all(dir.path().join(".amop/receiver")).unwrap();
    assert!(matches!(Directory::open(dir.path(), KEEP), Err(FileError::Directory { .. })));
}

#[test]
fn what_is_done_is_known_again_whatever_else_is_in_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".amop/done");
    let directory = opened(dir.path());
    directory.note_done(named(1).0, named(1).1, None).unwrap();
    directory.note_done(named(2).0, named(2).1, Some([5; 32])).unwrap();
    drop(directory);
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    log.write_all(b"\xff\xfe garbage\n{}\n{\"sender\":\"00\",\"transfer\":\"11\"}\n{\"sender\":\"aaaa")
        .unwrap();
    let directory = opened(dir.path());
    assert_eq!(directory.done(named(1).0, named(1).1), Some(None));
    assert_eq!(directory.done(named(2).0, named(2).1), Some(Some([5; 32])));
    // What a crash cut off does not swallow what comes after it.
    directory.note_done(named(3).0, named(3).1, None).unwrap();
    drop(directory);
    let directory = opened(dir.path());
    for n in 1..=3 {
        assert!(directory.done(named(n).0, named(n).1).is_some(), "{n}");
    }
    assert_eq!(directory.done(named(4).0, named(4).1), None);
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 3);
}

#[test]
fn the_list_of_what_is_done_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let directory = opened(dir.path());
    let most = MAX_DONE as u64;
    for n in 0..=most + 10 {
        directory.note_done(named(n).0, named(n).1, None).unwrap();
    }
    let check = |directory: &Directory| {
        let known = directory.done.lock().transfers.len();
        assert!((MAX_DONE / 2..=MAX_DONE).contains(&known), "{known}");
        assert!(directory.done(named(most + 10).0, named(most + 10).1).is_some(), "the newest");
        assert!(directory.done(named(0).0, named(0).1).is_none(), "the oldest");
    };
    check(&directory);
    drop(directory);
    let mut log = OpenOptions::new().append(true).open(dir.path().join(".amop/done")).unwrap();
    log.set_len(MAX_DONE_LOG * 2).unwrap();
    log.write_all(b"zeros").unwrap();
    check(&opened(dir.path()));
    assert!(fs::metadata(dir.path().join(".amop/done")).unwrap().len() < MAX_DONE_LOG);
}

#[test]
fn what_a_crash_left_goes_and_what_is_unfinished_stays_as_long_as_it_is_to() {
    let dir = tempfile::tempdir().unwrap();
    drop(opened(dir.path()));
    let own = dir.path().join(".amop");
    let names = || {
        let names =
            fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "receiver" && name != "done").collect();
        names.sort();
        names
    };
    let kept = ["a.journal", "a.json", "a.part", "b.json"];
    for name in kept.iter().chain(&[".tmpab12", "c.part", "d.journal", "e.whole"]) {
        fs::write(own.join(name), "x").unwrap();
    }
    fs::create_dir(own.join("odd")).unwrap();
    drop(opened(dir.path()));
    fs::remove_dir(own.join("odd")).unwrap();
    assert_eq!(names(), kept);
    let old = SystemTime::now() - 2 * KEEP;
    let touch = |name: &str, when| {
        File::options().write(true).open(own.join(name)).unwrap().set_modified(when).unwrap()
    };
    touch("a.json", old);
    drop(opened(dir.path()));
    assert_eq!(names(), kept, "something came since");
    touch("a.journal", old);
    touch("b.json", old);
    drop(opened(dir.path()));
    assert!(names().is_empty(), "{:?}", names());
}

#[test]
fn records_that_say_nothing_go_with_what_is_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let directory = opened(dir.path());
    let own = dir.path().join(".amop");
    let about = crate::files::receive::landing::tests::about("a", b"content");
    let key = about.key();
    directory.write_record(&key, &about).unwrap();
    let good = fs::read_to_string(own.join(format!("{key}.json"))).unwrap();
    directory.discard(&key);
    let half = good[..good.len() / 2].to_owned();
    let huge = format!("{good}{}", " ".repeat(2 * MAX_RECORD as usize));
    let other_size = good.replace("\"size\":7", "\"size\":8");
    assert_ne!(other_size, good);
    for (n, bad) in ["", "{}", "null", &half, &huge, &other_size, "\u{0}\u{0}"].iter().enumerate() {
        let stem = if n == 5 { key.clone() } else { format!("bad{n}") };
        for kind in ["json", "part", "journal"] {
            fs::write(own.join(format!("{stem}.{kind}")), bad).unwrap();
        }
        assert!(directory.unfinished().unwrap().is_empty(), "{n}");
        assert!(!own.join(format!("{stem}.part")).exists(), "{n}");
    }
    // Not of this file.
    directory.write_record("other", &about).unwrap();
    assert!(directory.unfinished().unwrap().is_empty());
    // It cannot be read now, which says nothing of what it is.
    fs::create_dir(own.join("x.json")).unwrap();
    fs::write(own.join("x.part"), "much").unwrap();
    directory.write_record(&key, &about).unwrap();
    assert_eq!(directory.unfinished().unwrap().len(), 1);
    assert!(own.join("x.part").exists());
}

fn place(directory: &Directory, name: &str, content: &str) -> io::Result<PathBuf> {
    let part = directory.file("k", "part");
    fs::write(&part, content).unwrap();
    directory.place(&part, name, |_| Ok(()))
}

#[test]
fn nothing_is_ever_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let directory = opened(dir.path());
    assert_eq!(place(&directory, "a.txt", "1").unwrap(), dir.path().join("a.txt"));
    assert_eq!(place(&directory, "a.txt", "2").unwrap(), dir.path().join("a (1).txt"));
    fs::create_dir(dir.path().join("a (2).txt")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("a (3).txt")).unwrap();
    #[cfg(not(unix))]
    fs::write(dir.path().join("a (3).txt"), "").unwrap();
    assert_eq!(place(&directory, "a.txt", "3").unwrap(), dir.path().join("a (4).txt"));
    assert!(!dir.path().join("nowhere").exists());
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!([read("a.txt"), read("a (1).txt"), read("a (4).txt")], ["1", "2", "3"]);
    // Taken by somebody between the look and the rename.
    let part = directory.file("k", "part");
    fs::write(&part, "4").unwrap();
    let placed = directory.place(&part, "b", |name| {
        if name == "b" { fs::write(dir.path().join(name), "theirs") } else { Ok(()) }
    });
    assert_eq!(placed.unwrap(), dir.path().join("b (1)"));
    assert_eq!([read("b"), read("b (1)")], ["theirs", "4"]);
}

#[test]
fn what_cannot_be_placed_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let directory = opened(dir.path());
    let part = directory.file("k", "part");
    fs::write(&part, "1").unwrap();
    directory.place(&part, "a", |_| Err(io::Error::other("no"))).unwrap_err();
    assert_eq!(fs::read_to_string(&part).unwrap(), "1");
    directory.place(&part, "no such directory/a", |_| Ok(())).unwrap_err();
    assert_eq!(fs::read_to_string(&part).unwrap(), "1");
    // What came in one frame is refused, and comes again.
    directory.put("no such directory/a", b"2").unwrap_err();
    assert_eq!(directory.put("a", b"3").unwrap(), dir.path().join("a"));
    let left = fs::read_dir(dir.path().join(".amop")).unwrap().count();
    assert_eq!(left, 3, "the name of the receiver, the list, and k.part");
}

#[test]
fn an_unfinished_file_is_claimed_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let directory = opened(dir.path());
    let make_way = CancellationToken::new();
    let claim = directory.claim("k", &make_way).unwrap();
    let other = directory.claim("other", &make_way).unwrap();
    let holder = directory.claim("k", &CancellationToken::new()).unwrap_err();
    assert!(!holder.gone.is_cancelled() && !make_way.is_cancelled());
    holder.make_way.cancel();
    assert!(make_way.is_cancelled());
    drop((claim, other));
    assert!(holder.gone.is_cancelled());
    assert!(directory.claim("k", &make_way).is_ok());
}
