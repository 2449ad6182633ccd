//! The targets without a fuzzer: over what fuzzing has kept, and over mutations of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use amop_fuzz::{TARGETS, Target};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};

/// Mutated inputs for each target.
const CASES: u32 = 1_000;
/// Longest input.
const LONGEST: usize = 4096;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Names of what is in a folder of `fuzz/`, without extensions.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).expect("a folder");
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    entries.map(|entry| stem(entry.expect("an entry").path())).collect()
}

/// What fuzzing has kept, in an order that does not vary.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = fuzz().join("corpus").join(target.name);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

#[test]
fn every_target_has_a_binary_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets, names("targets"));
    assert_eq!(targets, names("corpus"));
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Cut(Index),
    /// Goes on as another input does from there.
    Splice(Index, Index, Index),
}

impl Edit {
    fn apply(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        if input.is_empty() {
            input.push(0);
        }
        match self {
            Self::Set(at, byte) => *at.get_mut(input) = *byte,
            Self::Flip(at, bit) => *at.get_mut(input) ^= 1 << (bit % 8),
            Self::Insert(at, bytes) => {
                let at = at.index(input.len());
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Remove(at, len) => {
                let at = at.index(input.len());
                input.drain(at..input.len().min(at + len));
            }
            Self::Cut(at) => input.truncate(at.index(input.len())),
            Self::Splice(at, other, from) => {
                let other = other.get(corpus);
                input.truncate(at.index(input.len()));
                input.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
        input.truncate(LONGEST);
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (index(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (index(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (index(), 1..20_usize).prop_map(|(at, len)| Edit::Remove(at, len)),
        index().prop_map(Edit::Cut),
        (index(), index(), index()).prop_map(|(at, other, from)| Edit::Splice(at, other, from)),
    ]
}

/// An input of the corpus with a few changes, or bytes of no meaning.
fn input(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutated = (any::<Index>(), vec(edit(), 0..6)).prop_map(move |(which, edits)| {
        let mut input = which.get(&corpus).clone();
        edits.iter().for_each(|edit| edit.apply(&mut input, &corpus));
        input
    });
    prop_oneof![7 => mutated, 1 => vec(any::<u8>(), 0..300)]
}

fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let corpus = corpus(target);
    corpus.iter().for_each(|input| (target.run)(input));
    let mut runner = TestRunner::new(ProptestConfig { cases: CASES, ..ProptestConfig::default() });
    let tried = runner.run(&input(corpus), |input| {
        (target.run)(&input);
        Ok(())
    });
    if let Err(error) = tried {
        panic!("{name}: {error}");
    }
}

macro_rules! replayed {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })+

        #[test]
        fn every_target_is_replayed() {
            let replayed = BTreeSet::from([$(stringify!($name)),+]);
            assert_eq!(replayed, TARGETS.iter().map(|target| target.name).collect());
        }
    };
}

replayed! {
    channel_frame link_frame extension peer_data assembler interleaver json session_server
    session_client certificate keys private_topic file_frame control_message control delivery
}
